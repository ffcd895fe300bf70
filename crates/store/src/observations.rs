//! Observations, both the platform's and the EHR's.

use crate::{Page, PageRequest, Result, Tenant};
use model::{EhrId, HeldReason, Observation, ObservationDraft, ObservationId, PatientId, Timestamp};

/// What became of one observation of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    /// Stored, with its delivery.
    Stored(Box<Observation>),
    /// The patient is not one of this tenant.
    PatientUnknown,
}

/// Which observations.
#[derive(Debug, Clone, Default)]
pub struct ObservationFilter {
    /// Of this patient.
    pub patient_id: Option<PatientId>,
    /// With this code.
    pub code: Option<String>,
    /// Whether the EHR holds the newest version.
    pub synced: Option<bool>,
    /// Withdrawn ones too.
    pub deleted: bool,
}

/// An observation that a pull found.
#[derive(Debug, Clone)]
pub struct PulledObservation {
    /// The EHR's id.
    pub ehr_id: EhrId,
    /// Its `meta.versionId`, or a digest of the resource where there is none.
    pub ehr_version: String,
    /// Our identifier's value on it, if it carries one: it is ours, or it was.
    pub ours: Option<ObservationId>,
    /// The mark of our version on it.
    pub mark: Option<i64>,
    /// What our fields hold of it.
    pub draft: ObservationDraft,
    /// The resource, verbatim.
    pub resource: String,
    /// See [`Observation::interpreted`].
    pub interpreted: bool,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PulledResult {
    /// New here.
    Created,
    /// A newer version of what was here.
    Updated,
    /// Known by (id, version), or our own push.
    Unchanged,
}

impl Tenant {
    /// Accepts observations in one transaction, each with its intended effect; order kept. `hold`: why a delivery is held
    /// from the start. The delivery is due at once in realtime, else at the next sweep; without a config it waits.
    pub async fn create_observations(
        &self, now: Timestamp, drafts: Vec<(ObservationDraft, Option<HeldReason>)>, idempotency: Option<&crate::idempotency::Key>,
    ) -> Result<crate::idempotency::Once<Vec<Accepted>>> {
        let _ = (now, drafts, idempotency);
        todo!()
    }

    /// One observation, withdrawn or not, with its derived delivery state.
    pub async fn observation(&self, now: Timestamp, id: ObservationId) -> Result<Option<Observation>> {
        let _ = (now, id);
        todo!()
    }

    /// Observations, newest first.
    pub async fn observations(&self, now: Timestamp, filter: &ObservationFilter, page: &PageRequest) -> Result<Page<Observation>> {
        let _ = (now, filter, page);
        todo!()
    }

    /// Platform observations whose newest version the EHR does not hold, newest first.
    pub async fn unsynced(&self, now: Timestamp, page: &PageRequest) -> Result<Page<Observation>> {
        let _ = (now, page);
        todo!()
    }

    /// A new version, if `version` is still the current one (else `None`: read again). Supersedes what was never sent
    /// (`delivery::next` with `NewerAccepted`) and enqueues the new version.
    pub async fn update_observation(
        &self, now: Timestamp, id: ObservationId, version: i64, draft: ObservationDraft, hold: Option<HeldReason>,
    ) -> Result<Option<Observation>> {
        let _ = (now, id, version, draft, hold);
        todo!()
    }

    /// Withdraws it: status `entered-in-error`, `deleted`, a delivery of that version, or `canceled` where no byte of any
    /// version was ever sent. `false` when there is none. Repeating it changes nothing.
    pub async fn withdraw_observation(&self, now: Timestamp, id: ObservationId) -> Result<bool> {
        let _ = (now, id);
        todo!()
    }
}
