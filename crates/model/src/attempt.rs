//! One try to bring about an effect: when, by which means, what came back, until when it has to settle.

use crate::clock::Timestamp;
use crate::failure::Class;
use crate::id::AttemptId;
use crate::means::Means;

/// A try of one delivery. Appended, never rewritten but for its outcome and for a late answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// When it was recorded, before any byte left.
    pub at: Timestamp,
    /// From then to its outcome.
    pub duration_ms: Option<i64>,
    /// Method and path template, never an identifier: `PUT Observation/{id}`, `POST (batch of 12)`, `GET Observation?identifier`.
    pub request: String,
    /// The means, for a write.
    pub means: Option<Means>,
    /// HTTP status, if one came.
    pub status: Option<u16>,
    /// What it meant; `None` while nobody knows.
    pub class: Option<Class>,
    /// Until when it stays open although nobody waits for it any more (PRODUCT, effect ledger, rule 1).
    pub settle_until: Option<Timestamp>,
    /// The EHR's own words or ours, for the tenant alone. Sealed at rest.
    pub message: Option<String>,
    /// An answer that came after its deadline or after its lease.
    pub late: Option<LateAnswer>,
}

/// An answer that came too late to be judged by the one who asked: evidence, never a state (PRODUCT, effect ledger, rule 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateAnswer {
    /// When it came.
    pub at: Timestamp,
    /// Its HTTP status.
    pub status: u16,
    /// The id that it names, if any.
    pub ehr_id: Option<String>,
    /// The version that it names, if any.
    pub ehr_version: Option<String>,
}
