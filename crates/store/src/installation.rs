//! Where this database lives (PRODUCT, "A moved hospital, a restored database"): SQLite by a marker file beside it,
//! PostgreSQL by system identifier and database oid. Elsewhere it starts paused until a person says what it is.

use crate::{Result, Store};
use model::Timestamp;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// First start, or the same place as ever.
    Here,
    /// Another place than the one it remembers, or a copy: nothing is sent.
    Elsewhere,
}

/// What a person says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopt {
    /// Moved: go on here.
    Moved,
    /// A copy: never push.
    Copy,
    /// Restored from a backup: whatever was open then or may have happened since is uncertain and is settled first.
    Restored,
}

impl Store {
    /// Compares the place with the remembered one; remembers it at the first start; pauses elsewhere.
    pub async fn come_home(&self, now: Timestamp) -> Result<Home> {
        let _ = now;
        todo!()
    }

    /// Whether sending is allowed: false while paused and for a copy.
    pub async fn may_send(&self) -> Result<bool> {
        todo!()
    }

    /// A person's word. `Restored`: every delivery that is open or was delivered or changed within `settle_ms` and all
    /// rows that were ever sent and are not final become `uncertain`; delivered platform rows are audited (`audit_at = now`).
    pub async fn adopt(&self, now: Timestamp, what: Adopt, settle_ms: i64) -> Result<()> {
        let _ = (now, what, settle_ms);
        todo!()
    }
}
