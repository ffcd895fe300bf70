//! `Idempotency-Key`: one request, one effect, written in the transaction that it protects (kept 7 days).

use crate::{Result, Tenant};
use model::Timestamp;

/// A key as the caller gave it.
#[derive(Debug, Clone)]
pub struct Key {
    /// The header's value; kept as a keyed hash only.
    pub key: String,
    /// Digest of method, route and body: the same key with another one is a mistake (422).
    pub fingerprint: String,
}

/// What a protected call answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Once<T> {
    /// Done now.
    Done(T),
    /// Done before under this key: what was made then, as it is now.
    Before(T),
    /// The key was used for another request.
    OtherRequest,
}

/// A key of a POST without rows of its own (sync, pull, replay …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// New: go on, and store the answer.
    New,
    /// Answered before.
    Answer {
        /// HTTP status then.
        status: u16,
        /// Body then.
        body: String,
    },
    /// Another request has this key.
    OtherRequest,
    /// The same request is being served right now (within the last 60 s).
    Running,
}

impl Tenant {
    /// Begins a POST without rows of its own.
    pub async fn idempotency_begin(&self, now: Timestamp, key: &Key) -> Result<Stored> {
        let _ = (now, key);
        todo!()
    }

    /// Stores its answer.
    pub async fn idempotency_finish(&self, now: Timestamp, key: &Key, status: u16, body: &str) -> Result<()> {
        let _ = (now, key, status, body);
        todo!()
    }
}
