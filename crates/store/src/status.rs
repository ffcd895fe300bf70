//! Is anything waiting, lost or stuck? From kept counters, not from scans.

use crate::{Result, Tenant};
use model::{HeldReason, Timestamp};

/// The tenant's state of affairs.
#[derive(Debug, Clone)]
pub struct Status {
    /// Rows by state word, all nine; rows that wait for their connection or their patient count as `held`.
    pub counts: Vec<(&'static str, i64)>,
    /// When the longest waiting open row was accepted.
    pub oldest_waiting: Option<Timestamp>,
    /// Last successful push.
    pub last_push_at: Option<Timestamp>,
    /// Last complete pull.
    pub last_pull_at: Option<Timestamp>,
    /// The last failure of the connection.
    pub last_error: Option<String>,
    /// Why the whole connection waits, if it does.
    pub held: Option<HeldReason>,
    /// Whether the circuit is open, since when, and the next probe.
    pub circuit_open: bool,
    /// See `circuit_open`.
    pub down_since: Option<Timestamp>,
    /// See `circuit_open`.
    pub next_probe_at: Option<Timestamp>,
    /// Patients whose link needs a person.
    pub patients_held: i64,
}

impl Tenant {
    /// The tenant's state of affairs.
    pub async fn status(&self, now: Timestamp) -> Result<Status> {
        let _ = now;
        todo!()
    }
}
