//! The ledger as people see it: lists, the trace of one delivery, dead letters, replay, discard, "deliver now".

use crate::{Page, PageRequest, Result, Tenant};
use model::{Delivery, DeliveryId, ObservationDraft, ObservationId, PatientDraft, PatientId, ResourceKey, Timestamp};

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
        let _ = (now, filter, page);
        todo!()
    }

    /// One delivery with its attempts.
    pub async fn delivery(&self, now: Timestamp, id: DeliveryId) -> Result<Option<Delivery>> {
        let _ = (now, id);
        todo!()
    }

    /// Dead ones, newest first, with their attempts.
    pub async fn dead_letters(&self, now: Timestamp, page: &PageRequest) -> Result<Page<Delivery>> {
        let _ = (now, page);
        todo!()
    }

    /// A person sends one again (`delivery::next` with `Replayed`); audited.
    pub async fn replay(&self, now: Timestamp, id: DeliveryId, actor: &str) -> Result<Replayed> {
        let _ = (now, id, actor);
        todo!()
    }

    /// All dead ones (or those of one patient), as a run with progress. `dry_run`: only counts.
    pub async fn replay_dead(&self, now: Timestamp, patient: Option<PatientId>, actor: &str, dry_run: bool) -> Result<crate::Run> {
        let _ = (now, patient, actor, dry_run);
        todo!()
    }

    /// A person gives one up; audited.
    pub async fn discard(&self, now: Timestamp, id: DeliveryId, actor: &str) -> Result<Discarded> {
        let _ = (now, id, actor);
        todo!()
    }

    /// Makes the newest delivery of this resource due now, ahead of the backlog, in a new round (an earlier one of the same
    /// patient goes first all the same, and is made due too). A patient without one gets one. `None`: unknown here.
    /// A resource whose delivery belongs to an older generation of the connection gets a new one: this is the explicit run.
    pub async fn deliver_now(&self, now: Timestamp, resource: ResourceKey) -> Result<Option<DeliveryId>> {
        let _ = (now, resource);
        todo!()
    }
}
