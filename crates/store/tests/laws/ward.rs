//! A realtime tenant of one store, and short words for what a worker does.

use crate::house::{self, NOW, built, person, reading};
use model::{AttemptId, Class, Delivery, DeliveryId, EhrId, Means, ObservationId, PatientId, ResourceKey, Rng, State, Timestamp};
use ponte_store::idempotency::Once;
use ponte_store::lane::Fenced;
use ponte_store::patients::NewPatient;
use ponte_store::{Begin, Claimed, DeliveryFilter, Lane, Outcome, PageRequest, Settlement, Store, Tenant, WorkRow};
use std::sync::Arc;
use testing::{Database, Dice};

/// Ms.
pub const LEASE: i64 = 30_000;
/// Ms.
pub const SETTLE: i64 = 60_000;

pub struct Ward {
    pub database: Database,
    pub store: Store,
    pub tenant: Tenant,
    dice: Arc<Dice>,
}

/// On a fresh database of each engine.
pub async fn on_each(law: impl AsyncFn(Ward)) {
    for (database, store) in house::stores().await {
        let tenant = house::tenant(&store, "a");
        let ward = Ward { database, store, tenant, dice: Dice::new(1) };
        ward.configure(&ward.tenant, serde_json::json!({})).await;
        law(ward).await;
    }
}

pub fn all() -> PageRequest {
    PageRequest { limit: 200, before: None }
}

impl Ward {
    /// A realtime connection with these settings beside the plain ones.
    pub async fn configure(&self, tenant: &Tenant, settings: serde_json::Value) {
        let mut body = serde_json::json!({
            "enabled": true, "baseUrl": "https://ehr.example/fhir", "authType": "basic",
            "authConfig": {"username": "ponte", "password": "geheim"}, "syncFrequency": "realtime", "syncDirection": "bidirectional"
        });
        body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let revision = tenant.connection().await.unwrap().map(|stored| stored.revision);
        tenant.put_connection(NOW, &built(body, None), revision, "ana").await.unwrap().unwrap();
    }

    /// The connection fails.
    pub async fn fails(&self, now: Timestamp, failed: &ponte_store::config::ConnectionFailed) {
        let stored = self.tenant.connection().await.unwrap().unwrap();
        assert!(self.tenant.connection_failed(now, &stored, failed).await.unwrap());
    }

    /// A patient whom a person linked, so that observations may go at once.
    pub async fn linked(&self, tenant: &Tenant) -> PatientId {
        let new = NewPatient { draft: person("Maria"), link: Some((EhrId::new("p-1").unwrap(), "ana".to_owned())) };
        match tenant.create_patient(NOW, new, None).await.unwrap().unwrap() {
            Once::Done(patient) => patient.id,
            other => panic!("not made: {other:?}"),
        }
    }

    pub async fn observe(&self, tenant: &Tenant, now: Timestamp, patient: PatientId) -> (ObservationId, DeliveryId) {
        let drafts = vec![(reading(patient, "72514-3", "3"), None)];
        let Once::Done(made) = tenant.create_observations(now, drafts, None).await.unwrap() else { panic!("made before") };
        match &made[0] {
            ponte_store::Accepted::Stored(observation) => (observation.id, observation.delivery.as_ref().unwrap().id),
            other => panic!("not stored: {other:?}"),
        }
    }

    /// An observation of a patient of its own, ready to go.
    pub async fn ready(&self) -> (ObservationId, DeliveryId) {
        let patient = self.linked(&self.tenant).await;
        self.observe(&self.tenant, NOW, patient).await
    }

    pub async fn try_claim(&self, now: Timestamp) -> Option<Claimed> {
        self.store.fleet().claim_lane(now, "worker", LEASE).await.unwrap()
    }

    pub async fn claim(&self, now: Timestamp) -> Claimed {
        self.try_claim(now).await.unwrap()
    }

    /// The one row that the lane shows.
    pub async fn only_row(&self, lane: &Lane, now: Timestamp) -> WorkRow {
        let rows: Vec<WorkRow> = lane.work(now, 8).await.unwrap().into_iter().flat_map(|work| work.rows).collect();
        match <[WorkRow; 1]>::try_from(rows) {
            Ok([row]) => row,
            Err(rows) => panic!("{} rows: {rows:?}", rows.len()),
        }
    }

    pub fn attempt(&self, now: Timestamp, delivery: DeliveryId, means: Option<Means>) -> Begin {
        let request = if means.is_some() { "PUT Observation/{id}" } else { "GET Observation" }.to_owned();
        Begin { delivery, attempt: AttemptId(self.dice.uuid_v7(now)), request, means, match_etag: None, subject: None }
    }

    /// A write of it is on its way.
    pub async fn send(&self, lane: &Lane, now: Timestamp, delivery: DeliveryId) -> AttemptId {
        let begin = self.attempt(now, delivery, Some(Means::OwnId));
        let attempt = begin.attempt;
        assert_eq!(lane.begin(now, vec![begin]).await.unwrap(), Fenced::Mine);
        attempt
    }

    pub async fn delivery(&self, now: Timestamp, id: DeliveryId) -> Delivery {
        self.tenant.delivery(now, id).await.unwrap().unwrap()
    }

    /// Rows by the state that is shown, counted from the list itself; and what the kept counters say.
    pub async fn counted(&self, now: Timestamp) -> (Vec<(&'static str, i64)>, Vec<(&'static str, i64)>) {
        let mut counted: Vec<(&'static str, i64)> = State::WORDS.iter().map(|word| (*word, 0)).collect();
        let mut page = all();
        loop {
            let listed = self.tenant.deliveries(now, &DeliveryFilter::default(), &page).await.unwrap();
            for delivery in listed.items {
                // Of these the counters know only that they wait.
                let word = match delivery.state {
                    State::Held(model::HeldReason::EarlierFirst | model::HeldReason::Settling | model::HeldReason::NextSweep) => "pending",
                    state => state.word(),
                };
                counted.iter_mut().filter(|(known, _)| *known == word).for_each(|(_, n)| *n += 1);
            }
            match listed.next {
                Some(before) => page.before = Some(before),
                None => return (counted, self.tenant.status(now).await.unwrap().counts),
            }
        }
    }
}

/// What an answer made of a row, and nothing more.
pub fn settlement(delivery: DeliveryId, attempt: Option<(AttemptId, Class)>, state: State) -> Settlement {
    let status = |class| if class == Class::Uncertain { None } else { Some(200) };
    Settlement {
        delivery,
        outcome: attempt.map(|(attempt, class)| Outcome { attempt, status: status(class), class, settle_until: None, message: None }),
        state,
        due_at: None,
        counts_try: false,
        new_round: false,
        proven_not_applied: None,
        ehr_id: None,
        ehr_version: None,
        synced: false,
        audit: None,
        message: None,
        works: false,
    }
}

/// The EHR holds it.
pub fn applied(delivery: DeliveryId, attempt: AttemptId) -> Settlement {
    Settlement {
        ehr_id: Some(EhrId::new("o-1").unwrap()),
        ehr_version: Some("v1".to_owned()),
        synced: true,
        works: true,
        ..settlement(delivery, Some((attempt, Class::Applied)), State::Delivered)
    }
}

/// It is certainly not there, and is tried again.
pub fn not_applied(delivery: DeliveryId, attempt: AttemptId, due_at: Timestamp) -> Settlement {
    Settlement {
        due_at: Some(due_at),
        proven_not_applied: Some(true),
        ..settlement(delivery, Some((attempt, Class::Unavailable)), State::RetryScheduled)
    }
}

/// No answer came.
pub fn unanswered(delivery: DeliveryId, attempt: AttemptId, now: Timestamp, settle_until: Timestamp) -> Settlement {
    let mut lost = settlement(delivery, Some((attempt, Class::Uncertain)), State::Uncertain);
    lost.outcome.as_mut().unwrap().settle_until = Some(settle_until);
    Settlement { due_at: Some(now), ..lost }
}

pub fn observation(id: ObservationId) -> ResourceKey {
    ResourceKey::Observation(id)
}
