//! Long jobs with progress: sync-all, bulk replay, and connection checks (an api node never calls an EHR, so a worker does).

use crate::{Result, Tenant};
use model::{RunId, Timestamp};

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// All that is unsynced.
    SyncAll,
    /// Dead letters.
    Replay,
    /// A connection check.
    Check,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Under way.
    Running,
    /// Nothing of it waits any more.
    Finished,
    /// It broke off.
    Failed,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What it does.
    pub kind: RunKind,
    /// Where it stands.
    pub state: RunState,
    /// What of it is done.
    pub progress: Progress,
    /// Input of a check, JSON.
    pub input: Option<String>,
    /// Result of a check, JSON.
    pub result: Option<String>,
    /// Asked for.
    pub created_at: Timestamp,
    /// Ended.
    pub finished_at: Option<Timestamp>,
}

/// Rows of a run. `failed`: dead, or its round used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// All.
    pub total: u64,
    /// At the EHR (or superseded by what is).
    pub synced: u64,
    /// Dead, or its round used up, or held for a person.
    pub failed: u64,
    /// On its way.
    pub waiting: u64,
}

impl Tenant {
    /// A run over all that is unsynced: due now as backlog, rounds begin anew. The explicit run that a moved connection needs:
    /// what an older generation holds gets a delivery to the present one.
    pub async fn sync_all(&self, now: Timestamp, actor: &str) -> Result<Run> {
        let _ = (now, actor);
        todo!()
    }

    /// A connection check for a worker to make.
    pub async fn request_check(&self, now: Timestamp, input: &str, actor: &str) -> Result<Run> {
        let _ = (now, input, actor);
        todo!()
    }

    /// The worker's result of a check.
    pub async fn finish_check(&self, now: Timestamp, id: RunId, result: &str) -> Result<()> {
        let _ = (now, id, result);
        todo!()
    }

    /// A run and its progress.
    pub async fn run(&self, now: Timestamp, id: RunId) -> Result<Option<Run>> {
        let _ = (now, id);
        todo!()
    }
}
