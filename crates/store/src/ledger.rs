//! The ledger as people see it: lists, the trace of one delivery, dead letters, replay, discard, "deliver now".

mod person;
pub(crate) mod raw;
mod read;

use crate::{Page, PageRequest, Result, Run, Tenant, audit};
use model::{Delivery, DeliveryId, ObservationDraft, ObservationId, PatientDraft, PatientId, ResourceKey, Timestamp};

pub(crate) use person::{Due, deliver_now, replay_one};

/// What a delivery brings.
#[derive(Debug, Clone)]
pub enum Content {
    /// A Patient.
    Patient(PatientDraft),
    /// An Observation.
    Observation(ObservationDraft),
}

/// Which deliveries.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// In this (derived) state: one of `State::WORDS`.
    pub state: Option<String>,
    /// Of this observation.
    pub observation_id: Option<ObservationId>,
    /// Of this patient.
    pub patient_id: Option<PatientId>,
}

/// What became of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// It is on its way again (or is asked for first, where it may have been applied).
    Again,
    /// A newer version of the resource exists: that one goes instead, this one is superseded.
    Superseded,
    /// It is not dead, held or waiting: nothing was done.
    NotDead,
    /// No such delivery.
    Unknown,
}

/// What became of a discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// It is canceled; its content and attempts stay on record.
    Canceled,
    /// It is not dead or held.
    NotDead,
    /// No such delivery.
    Unknown,
}

impl Tenant {
    /// Deliveries, newest first, without their attempts.
    pub async fn deliveries(&self, now: Timestamp, filter: &DeliveryFilter, page: &PageRequest) -> Result<Page<Delivery>> {
        let Some(key) = self.key_if_any().await? else { return Ok(Page { items: Vec::new(), next: None }) };
        let (tenant, filter, page) = (self.id.clone(), filter.clone(), page.clone());
        self.inner.db.read(move |tx| Box::pin(async move { read::list(tx, &tenant, &key, now, &filter, &page).await })).await
    }

    /// One delivery with its attempts.
    pub async fn delivery(&self, now: Timestamp, id: DeliveryId) -> Result<Option<Delivery>> {
        let Some(key) = self.key_if_any().await? else { return Ok(None) };
        let tenant = self.id.clone();
        self.inner.db.read(move |tx| Box::pin(async move { read::one(tx, &tenant, &key, now, id).await })).await
    }

    /// Dead ones, newest first, with their attempts.
    pub async fn dead_letters(&self, now: Timestamp, page: &PageRequest) -> Result<Page<Delivery>> {
        let Some(key) = self.key_if_any().await? else { return Ok(Page { items: Vec::new(), next: None }) };
        let (tenant, page) = (self.id.clone(), page.clone());
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let dead = DeliveryFilter { state: Some("dead".to_owned()), ..DeliveryFilter::default() };
                    let mut letters = read::list(tx, &tenant, &key, now, &dead, &page).await?;
                    for letter in &mut letters.items {
                        letter.attempts = read::attempts(tx, &tenant, &key, letter.id).await?;
                    }
                    Ok(letters)
                })
            })
            .await
    }

    /// A person sends one again (`delivery::next` with `Replayed`); audited.
    pub async fn replay(&self, now: Timestamp, id: DeliveryId, actor: &str) -> Result<Replayed> {
        let (tenant, actor) = (self.clone(), actor.to_owned());
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let (what, _) = replay_one(tx, &tenant, now, id).await?;
                    if matches!(what, Replayed::Again | Replayed::Superseded) {
                        audit::record(tx, &*tenant.inner.rng, &tenant.id, now, &actor, "replayed", &format!("delivery/{id}")).await?;
                    }
                    Ok(what)
                })
            })
            .await
    }

    /// All dead ones (or those of one patient), as a run with progress. `dry_run`: only counts, and no run is kept.
    pub async fn replay_dead(&self, now: Timestamp, patient: Option<PatientId>, actor: &str, dry_run: bool) -> Result<Run> {
        crate::runs::replay_dead(self, now, patient, actor, dry_run).await
    }

    /// A person gives one up; audited.
    pub async fn discard(&self, now: Timestamp, id: DeliveryId, actor: &str) -> Result<Discarded> {
        let (tenant, actor) = (self.clone(), actor.to_owned());
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let what = person::discard(tx, &tenant.id, now, id).await?;
                    if what == Discarded::Canceled {
                        audit::record(tx, &*tenant.inner.rng, &tenant.id, now, &actor, "discarded", &format!("delivery/{id}")).await?;
                    }
                    Ok(what)
                })
            })
            .await
    }

    /// Makes the newest delivery of this resource due now, ahead of the backlog, in a new round (an earlier one of the same
    /// patient goes first all the same, and is made due too). A patient without one gets one. `None`: unknown here, or an
    /// observation that the EHR made.
    /// A resource whose delivery belongs to an older generation of the connection gets a new one: this is the explicit run.
    /// What is dead, held or discarded stays so, and is answered: a person replays it.
    pub async fn deliver_now(&self, now: Timestamp, resource: ResourceKey) -> Result<Option<DeliveryId>> {
        let tenant = self.clone();
        self.inner.db.write(move |tx| Box::pin(async move { deliver_now(tx, &tenant, now, resource, Due::Ahead).await })).await
    }
}
