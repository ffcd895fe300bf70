//! A tenant's connection: the original's `fhir_integration_configs`, secrets sealed, and what is known of the EHR.
//!
//! Cached per tenant by revision: right on every node within a second of a change, and always at a claim.

use crate::{Result, Tenant};
use model::{Class, Connection, MeansPlan, Timestamp};
use std::sync::Arc;

/// A connection as stored.
#[derive(Debug, Clone)]
pub struct StoredConnection {
    /// Row id.
    pub id: uuid::Uuid,
    /// The settings.
    pub connection: Arc<Connection>,
    /// Grows with each change.
    pub revision: i64,
    /// Grows with each other base URL.
    pub generation: i64,
    /// When a secret was last set.
    pub secret_updated_at: Timestamp,
    /// When a push or pull last succeeded.
    pub last_sync_at: Option<Timestamp>,
    /// The last failure of the connection, a sentence without anybody's data.
    pub last_error: Option<String>,
    /// Created.
    pub created_at: Timestamp,
    /// Changed.
    pub updated_at: Timestamp,
}

/// What is known of a tenant's EHR right now.
#[derive(Debug, Clone, Default)]
pub struct Runtime {
    /// The means there.
    pub plan: MeansPlan,
    /// Failed attempts of the connection's present round.
    pub failures: u32,
    /// Not before then.
    pub not_before: Option<Timestamp>,
    /// The round is used up: one probe at a time.
    pub circuit_open: bool,
    /// Credentials were refused: held until the config changes or a probe succeeds.
    pub auth_refused: bool,
    /// The class of the last failure.
    pub last_class: Option<Class>,
    /// Since when it is down.
    pub down_since: Option<Timestamp>,
    /// How long it was down altogether, ms, the present time not counted.
    pub down_total_ms: i64,
    /// Last success of a push.
    pub last_push_at: Option<Timestamp>,
    /// Last complete pull.
    pub last_pull_at: Option<Timestamp>,
}

impl Tenant {
    /// The tenant's connection.
    pub async fn connection(&self) -> Result<Option<StoredConnection>> {
        todo!()
    }

    /// What is known of its EHR.
    pub async fn runtime(&self) -> Result<Runtime> {
        todo!()
    }

    /// Stores a connection; audited. `expected` = the revision that it was built over (`None`: there was none); `None`
    /// is answered when that is not the current one any more. Another base URL begins another generation: links by rule,
    /// EHR ids, watermarks and the plan of the old one no longer count, open rows that were sent before are
    /// `held: connection_moved`. A first or newly enabled realtime connection makes what waits due (as backlog).
    /// Clears the circuit, the failure round and `auth_refused`, and wakes the lanes.
    pub async fn put_connection(&self, now: Timestamp, built: &model::connection::Built, expected: Option<i64>, actor: &str) -> Result<Option<StoredConnection>> {
        let _ = (now, built, expected, actor);
        todo!()
    }

    /// Deletes it; what waits stays. `false` when there was none.
    pub async fn delete_connection(&self, now: Timestamp, actor: &str) -> Result<bool> {
        let _ = (now, actor);
        todo!()
    }

    /// Changes the plan in one transaction (read, change, write).
    pub async fn change_plan(&self, generation: i64, change: Box<dyn FnOnce(&mut MeansPlan) + Send>) -> Result<()> {
        let _ = (generation, change);
        todo!()
    }

    /// A failure of the connection: `failures + 1`, `not_before`, circuit, `last_error`. Written by whoever saw it; the
    /// numbers are decided by the engine.
    pub async fn connection_failed(&self, now: Timestamp, failed: &ConnectionFailed) -> Result<()> {
        let _ = (now, failed);
        todo!()
    }

    /// A success: clears the round, closes the circuit, adds up the down time, wakes the lanes if it was down.
    pub async fn connection_works(&self, now: Timestamp, pushed: bool, pulled: bool) -> Result<()> {
        let _ = (now, pushed, pulled);
        todo!()
    }

    /// Takes the one probe of a connection that is not to be used before its time or whose circuit is open: true for one
    /// caller until `until`, over all nodes.
    pub async fn take_probe(&self, now: Timestamp, until: Timestamp) -> Result<bool> {
        let _ = (now, until);
        todo!()
    }
}

/// What the engine decided about a failing connection.
#[derive(Debug, Clone)]
pub struct ConnectionFailed {
    /// Class of the failure.
    pub class: Class,
    /// Failures of this round, this one included; unchanged by a 429.
    pub failures: u32,
    /// Not before then.
    pub not_before: Timestamp,
    /// The round is used up.
    pub circuit_open: bool,
    /// Credentials refused.
    pub auth_refused: bool,
    /// Whether the EHR counts as down (a 429 does not).
    pub down: bool,
    /// A sentence without anybody's data.
    pub sentence: String,
}
