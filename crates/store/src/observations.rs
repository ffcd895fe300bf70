//! Observations, both the platform's and the EHR's.

mod read;
mod write;

pub(crate) use read::{open_resource, open_version, seal_draft, seal_resource, seal_version};

use crate::engine::args;
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
    /// It holds something that neither Ponte sends nor a server adds by itself.
    pub more: bool,
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
    ///
    /// # Errors
    /// When the database fails; then nothing was accepted.
    pub async fn create_observations(
        &self,
        now: Timestamp,
        drafts: Vec<(ObservationDraft, Option<HeldReason>)>,
        idempotency: Option<&crate::idempotency::Key>,
    ) -> Result<crate::idempotency::Once<Vec<Accepted>>> {
        let (ward, idempotency) = (self.ward(now).await?, idempotency.cloned());
        self.inner.db.write(move |tx| Box::pin(async move { write::create(tx, &ward, now, &drafts, idempotency.as_ref()).await })).await
    }

    /// One observation, withdrawn or not, with its derived delivery state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn observation(&self, now: Timestamp, id: ObservationId) -> Result<Option<Observation>> {
        let Some(key) = self.key_if_any().await? else { return Ok(None) };
        let tenant = self.id.clone();
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let view = read::View::load(tx, &tenant, &key, now).await?;
                    view.one(tx, id).await
                })
            })
            .await
    }

    /// What one version of an observation said. `None`: there is no such version.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn observation_version(&self, id: ObservationId, version: i64) -> Result<Option<ObservationDraft>> {
        let Some(key) = self.key_if_any().await? else { return Ok(None) };
        let tenant = self.id.clone();
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let sql = "SELECT sealed_draft FROM observation_versions WHERE tenant_id = $1 AND observation_id = $2 AND version = $3";
                    let row = tx.row(sql, args![&tenant, id, version]).await?;
                    row.map(|row| read::open_version(&key, id, version, &row.bytes("sealed_draft")?)).transpose()
                })
            })
            .await
    }

    /// Observations, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn observations(&self, now: Timestamp, filter: &ObservationFilter, page: &PageRequest) -> Result<Page<Observation>> {
        let Some(key) = self.key_if_any().await? else { return Ok(Page { items: Vec::new(), next: None }) };
        let (tenant, filter, page) = (self.id.clone(), filter.clone(), page.clone());
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let view = read::View::load(tx, &tenant, &key, now).await?;
                    view.list(tx, &filter, &page).await
                })
            })
            .await
    }

    /// Platform observations whose newest version the EHR does not hold, newest first. What was withdrawn before any byte of
    /// it was sent is not among them: nothing of it is to be brought anywhere.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unsynced(&self, now: Timestamp, page: &PageRequest) -> Result<Page<Observation>> {
        let Some(key) = self.key_if_any().await? else { return Ok(Page { items: Vec::new(), next: None }) };
        let (tenant, page) = (self.id.clone(), page.clone());
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let view = read::View::load(tx, &tenant, &key, now).await?;
                    view.unsynced(tx, &page).await
                })
            })
            .await
    }

    /// A new version, if `version` is still the current one (else `None`: read again). Supersedes what was never sent
    /// (`delivery::next` with `NewerAccepted`) and enqueues the new version. `None` too for what the EHR made or what is
    /// withdrawn: neither can be changed here.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn update_observation(
        &self,
        now: Timestamp,
        id: ObservationId,
        version: i64,
        draft: ObservationDraft,
        hold: Option<HeldReason>,
    ) -> Result<Option<Observation>> {
        if self.key_if_any().await?.is_none() {
            return Ok(None);
        }
        let ward = self.ward(now).await?;
        self.inner.db.write(move |tx| Box::pin(async move { write::update(tx, &ward, now, id, version, draft, hold).await })).await
    }

    /// Withdraws it: status `entered-in-error`, `deleted`, a delivery of that version, or `canceled` where no byte of any
    /// version was ever sent. `false` when there is none. Repeating it changes nothing.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn withdraw_observation(&self, now: Timestamp, id: ObservationId) -> Result<bool> {
        if self.key_if_any().await?.is_none() {
            return Ok(false);
        }
        let ward = self.ward(now).await?;
        self.inner.db.write(move |tx| Box::pin(async move { write::withdraw(tx, &ward, now, id).await })).await
    }
}
