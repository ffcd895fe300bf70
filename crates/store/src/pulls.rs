//! Pulls: one row per patient, leased while it runs, with a checkpoint per page.

use crate::lane::Fenced;
use crate::{Inner, PulledObservation, PulledResult, Result, Runtime, StoredConnection, Tenant};
use model::{EhrId, ObservationId, Patient, PatientId, Timestamp};
use std::sync::Arc;

/// A leased pull.
#[derive(Clone)]
pub struct PullClaim {
    pub(crate) inner: Arc<Inner>,
    pub(crate) tenant: model::TenantId,
    pub(crate) patient: PatientId,
    pub(crate) epoch: i64,
    pub(crate) lease_until: Timestamp,
}

/// Where a patient's pull stands.
#[derive(Debug, Clone)]
pub struct PullState {
    /// Asked for, or running, or due.
    pub waiting: bool,
    /// Largest `_lastUpdated` seen, or start of the last complete pull by the server's clock: the lesser.
    pub watermark: Option<Timestamp>,
    /// What the engine noted after the last page, if the pull is under way.
    pub checkpoint: Option<String>,
    /// When the last pull began.
    pub started_at: Option<Timestamp>,
    /// When the last complete one ended.
    pub finished_at: Option<Timestamp>,
    /// When the patient's list was last read whole.
    pub last_full_at: Option<Timestamp>,
    /// `complete`, or a snake_case reason why not (`pull_incomplete` …).
    pub outcome: Option<String>,
    /// A sentence for the tenant.
    pub message: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Of the last pull.
    pub created: u64,
    /// Of the last pull.
    pub updated: u64,
    /// Of the last pull.
    pub unchanged: u64,
}

impl Tenant {
    /// Asks for a pull of this patient now. `None`: no such patient.
    pub async fn request_pull(&self, now: Timestamp, patient: PatientId) -> Result<Option<()>> {
        let _ = (now, patient);
        todo!()
    }

    /// Where it stands.
    pub async fn pull_state(&self, patient: PatientId) -> Result<Option<PullState>> {
        let _ = patient;
        todo!()
    }
}

impl PullClaim {
    /// Whose.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        Tenant { inner: self.inner.clone(), id: self.tenant.clone() }
    }

    /// Until when it is mine.
    #[must_use]
    pub fn lease_until(&self) -> Timestamp {
        self.lease_until
    }

    /// The patient, its link of this generation, where the pull stands, the connection.
    pub async fn load(&self) -> Result<(Patient, PullState, Option<StoredConnection>, Runtime)> {
        todo!()
    }

    /// Stores one page and the checkpoint behind it in one transaction, fenced; lengthens the lease. A row is known by
    /// (EHR id, version); ours by its identifier: where its mark is our newest version it is `Unchanged` and its version is
    /// kept as ours, where the content was changed at the EHR it is `Updated` (resource kept, shown as the EHR's).
    pub async fn store_page(
        &self, now: Timestamp, rows: Vec<PulledObservation>, checkpoint: &str, lease_ms: i64,
    ) -> Result<(Fenced, Vec<PulledResult>)> {
        let _ = (now, rows, checkpoint, lease_ms);
        todo!()
    }

    /// After a whole read: EHR observations of this patient that it did not show, to be read one by one.
    pub async fn not_seen(&self, since: Timestamp) -> Result<Vec<(ObservationId, EhrId)>> {
        let _ = since;
        todo!()
    }

    /// The EHR deleted it.
    pub async fn mark_gone(&self, now: Timestamp, observation: ObservationId) -> Result<Fenced> {
        let _ = (now, observation);
        todo!()
    }

    /// A link that a reading of the Patient puts in doubt (or confirms: `verified_at`), by rule, never over a person's.
    pub async fn settle_link(&self, now: Timestamp, change: crate::LinkChange) -> Result<Fenced> {
        let _ = (now, change);
        todo!()
    }

    /// The pull is complete: the watermark moves, the checkpoint goes, `last_sync_at` of patient and connection is set.
    pub async fn finish(self, now: Timestamp, watermark: Option<Timestamp>, full: bool) -> Result<Fenced> {
        let _ = (now, watermark, full);
        todo!()
    }

    /// It cannot be finished now: what was read is kept, the watermark stays, the checkpoint too. `again_at`: when to go on by itself.
    pub async fn fail(self, now: Timestamp, outcome: &str, message: &str, again_at: Option<Timestamp>) -> Result<Fenced> {
        let _ = (now, outcome, message, again_at);
        todo!()
    }
}
