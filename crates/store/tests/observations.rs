//! Observations: accepted with their effect, kept to the digit, superseded, withdrawn.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

mod house;

use ponte_store as store;

use futures::future::join_all;
use house::{NOW, observation, patient, person, reading, realtime, stores, tenant};
use model::{EhrId, HeldReason, ObservationId, PatientId, State, Value};
use store::idempotency::{Key, Once, Stored};
use store::patients::NewPatient;
use store::{Accepted, ObservationFilter, PageRequest, Tenant};

const PAIN: &str = "72514-3";

fn state(observation: &model::Observation) -> Option<State> {
    observation.delivery.as_ref().map(|d| d.state)
}

async fn linked(tenant: &Tenant) -> PatientId {
    let new = NewPatient { draft: person("Maria"), link: Some((EhrId::new("e-1").unwrap(), "ana".to_owned())) };
    match tenant.create_patient(NOW, new, None).await.unwrap().unwrap() {
        Once::Done(patient) => patient.id,
        other => panic!("not made: {other:?}"),
    }
}

fn first(limit: u32) -> PageRequest {
    PageRequest { limit, before: None }
}

#[tokio::test]
async fn a_decimal_keeps_its_digits_and_a_time_its_offset() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let id = patient(&tenant, person("Maria")).await;
        let made = observation(&tenant, reading(id, PAIN, "1.10")).await;
        let read = tenant.observation(NOW, made.id).await.unwrap().unwrap();
        assert_eq!(read, made);
        let Some(Value::Quantity { value, .. }) = &read.draft.value else { panic!("no quantity") };
        assert_eq!(value.to_string(), "1.10");
        assert_eq!(read.draft.effective.as_deref(), Some("2026-11-25T00:55:59-03:00"));
    }
}

#[tokio::test]
async fn what_is_accepted_waits_for_its_connection_and_goes_as_the_connection_says() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let id = linked(&tenant).await;
        let made = observation(&tenant, reading(id, PAIN, "1")).await;
        assert_eq!(state(&made), Some(State::Held(HeldReason::NotConfigured)));
        let mut hourly = realtime("https://ehr.example/fhir");
        hourly.connection.frequency = model::Frequency::Hourly;
        let stored = tenant.put_connection(NOW, &hourly, None, "ana").await.unwrap().unwrap();
        let read = tenant.observation(NOW, made.id).await.unwrap().unwrap();
        assert_eq!(state(&read), Some(State::Held(HeldReason::NextSweep)));
        let stored =
            tenant.put_connection(NOW, &realtime("https://ehr.example/fhir"), Some(stored.revision), "ana").await.unwrap().unwrap();
        let read = tenant.observation(NOW, made.id).await.unwrap().unwrap();
        assert_eq!(state(&read), Some(State::Pending), "a newly realtime connection makes due what waits");
        let held = tenant.create_observations(NOW, vec![(reading(id, PAIN, "2"), Some(HeldReason::CodeMisused))], None).await.unwrap();
        let Once::Done(held) = held else { panic!("not done") };
        let Accepted::Stored(held) = &held[0] else { panic!("not stored") };
        assert_eq!(state(held), Some(State::Held(HeldReason::CodeMisused)));
        let mut off = realtime("https://ehr.example/fhir");
        off.connection.enabled = false;
        tenant.put_connection(NOW, &off, Some(stored.revision), "ana").await.unwrap().unwrap();
        let read = tenant.observation(NOW, made.id).await.unwrap().unwrap();
        assert_eq!(state(&read), Some(State::Held(HeldReason::Disabled)));
        assert!(tenant.delete_connection(NOW, "ana").await.unwrap());
        assert!(!tenant.delete_connection(NOW, "ana").await.unwrap());
        let read = tenant.observation(NOW, made.id).await.unwrap().unwrap();
        assert_eq!(state(&read), Some(State::Held(HeldReason::NotConfigured)));
    }
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_its_good_ones_beside_the_bad() {
    for (_database, store) in stores().await {
        let (tenant, other) = (tenant(&store, "a"), tenant(&store, "b"));
        let (one, two, foreign) =
            (patient(&tenant, person("A")).await, patient(&tenant, person("B")).await, patient(&other, person("C")).await);
        let drafts: Vec<_> = [one, foreign, two, one, PatientId(uuid::Uuid::nil()), two]
            .into_iter()
            .enumerate()
            .map(|(n, patient)| (reading(patient, PAIN, &n.to_string()), None))
            .collect();
        let Once::Done(accepted) = tenant.create_observations(NOW, drafts, None).await.unwrap() else { panic!("not done") };
        let made: Vec<_> = accepted
            .iter()
            .map(|a| match a {
                Accepted::Stored(observation) => Some(observation.id),
                Accepted::PatientUnknown => None,
            })
            .collect();
        assert_eq!(made.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true, false, true]);
        let listed = tenant.observations(NOW, &ObservationFilter::default(), &first(10)).await.unwrap().items;
        let mut ids: Vec<_> = listed.iter().map(|o| o.id).collect();
        ids.reverse();
        assert_eq!(ids, made.into_iter().flatten().collect::<Vec<ObservationId>>());
        assert!(other.observations(NOW, &ObservationFilter::default(), &first(10)).await.unwrap().items.is_empty());
        assert_eq!(other.observation(NOW, listed[0].id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_correction_supersedes_what_was_never_sent_and_a_stale_one_changes_nothing() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        tenant.put_connection(NOW, &realtime("https://ehr.example/fhir"), None, "ana").await.unwrap().unwrap();
        let id = linked(&tenant).await;
        let made = observation(&tenant, reading(id, PAIN, "3")).await;
        let corrected = tenant.update_observation(NOW, made.id, 1, reading(id, PAIN, "4"), None).await.unwrap().unwrap();
        assert_eq!((corrected.version, state(&corrected)), (2, Some(State::Pending)), "the first version does not stand in its way");
        assert_ne!(corrected.delivery.as_ref().map(|d| d.id), made.delivery.as_ref().map(|d| d.id));
        assert_eq!(tenant.update_observation(NOW, made.id, 1, reading(id, PAIN, "5"), None).await.unwrap(), None);
        assert_eq!(tenant.observation(NOW, made.id).await.unwrap().unwrap(), corrected);
        assert_eq!(tenant.update_observation(NOW, ObservationId(uuid::Uuid::nil()), 1, reading(id, PAIN, "5"), None).await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_was_never_sent_is_withdrawn_without_a_byte_and_its_history_stays() {
    for (_database, store) in stores().await {
        let (tenant, other) = (tenant(&store, "a"), tenant(&store, "b"));
        let id = linked(&tenant).await;
        let made = observation(&tenant, reading(id, PAIN, "3")).await;
        patient(&other, person("Zoe")).await;
        assert!(!other.withdraw_observation(NOW, made.id).await.unwrap());
        assert!(tenant.withdraw_observation(NOW, made.id).await.unwrap());
        let withdrawn = tenant.observation(NOW, made.id).await.unwrap().unwrap();
        assert!(withdrawn.deleted && withdrawn.draft.entered_in_error());
        assert_eq!((withdrawn.version, state(&withdrawn)), (2, Some(State::Canceled)));
        assert!(tenant.withdraw_observation(NOW.plus_ms(9), made.id).await.unwrap());
        assert_eq!(tenant.observation(NOW, made.id).await.unwrap().unwrap(), withdrawn);
        assert!(tenant.unsynced(NOW, &first(10)).await.unwrap().items.is_empty());
        let shown = |deleted| ObservationFilter { deleted, ..ObservationFilter::default() };
        assert!(tenant.observations(NOW, &shown(false), &first(10)).await.unwrap().items.is_empty());
        assert_eq!(tenant.observations(NOW, &shown(true), &first(10)).await.unwrap().items.len(), 1);
        assert_eq!(tenant.update_observation(NOW, made.id, 2, reading(id, PAIN, "5"), None).await.unwrap(), None);
    }
}

#[tokio::test]
async fn lists_are_filtered_by_patient_code_and_whether_they_are_there() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let (one, two) = (patient(&tenant, person("A")).await, patient(&tenant, person("B")).await);
        for (patient, code) in [(one, PAIN), (one, "8310-5"), (two, PAIN)] {
            observation(&tenant, reading(patient, code, "1")).await;
        }
        let count = async |patient_id, code: Option<&str>, synced| {
            let filter = ObservationFilter { patient_id, code: code.map(str::to_owned), synced, deleted: false };
            tenant.observations(NOW, &filter, &first(10)).await.unwrap().items.len()
        };
        assert_eq!(count(None, None, None).await, 3);
        assert_eq!(count(Some(one), None, None).await, 2);
        assert_eq!(count(None, Some(PAIN), None).await, 2);
        assert_eq!(count(Some(one), Some(PAIN), None).await, 1);
        assert_eq!(count(Some(one), None, Some(false)).await, 2);
        assert_eq!(count(None, Some(PAIN), Some(true)).await, 0);
        assert_eq!(count(None, None, Some(false)).await, 3);
        let page = tenant.unsynced(NOW, &first(2)).await.unwrap();
        assert_eq!((page.items.len(), page.next.is_some()), (2, true));
        let rest = tenant.unsynced(NOW, &PageRequest { limit: 2, before: page.next }).await.unwrap();
        assert_eq!((rest.items.len(), rest.next), (1, None));
    }
}

#[tokio::test]
async fn one_key_makes_its_rows_once_however_many_ask_at_once() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let (id, stranger) = (patient(&tenant, person("A")).await, PatientId(uuid::Uuid::nil()));
        let key = Key { key: "batch-1".to_owned(), fingerprint: "f".to_owned() };
        let drafts = vec![(reading(id, PAIN, "1"), None), (reading(stranger, PAIN, "2"), None)];
        let answers = join_all((0..20).map(|_| tenant.create_observations(NOW, drafts.clone(), Some(&key)))).await;
        let mut done = 0;
        for answer in answers {
            let accepted = match answer.unwrap() {
                Once::Done(accepted) => {
                    done += 1;
                    accepted
                }
                Once::Before(accepted) => accepted,
                Once::OtherRequest => panic!("the same request"),
            };
            assert!(matches!(&accepted[..], [Accepted::Stored(_), Accepted::PatientUnknown]));
        }
        assert_eq!(done, 1);
        assert_eq!(tenant.observations(NOW, &ObservationFilter::default(), &first(10)).await.unwrap().items.len(), 1);
    }
}

#[tokio::test]
async fn a_request_without_rows_is_answered_once_and_its_answer_is_kept() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let key = Key { key: "sync-1".to_owned(), fingerprint: "f".to_owned() };
        assert_eq!(tenant.idempotency_begin(NOW, &key).await.unwrap(), Stored::New);
        assert_eq!(tenant.idempotency_begin(NOW.plus_ms(59_999), &key).await.unwrap(), Stored::Running);
        assert_eq!(tenant.idempotency_begin(NOW.plus_ms(60_000), &key).await.unwrap(), Stored::New, "whoever began it is gone");
        let other = Key { fingerprint: "g".to_owned(), ..key.clone() };
        assert_eq!(tenant.idempotency_begin(NOW, &other).await.unwrap(), Stored::OtherRequest);
        tenant.idempotency_finish(NOW, &key, 202, "{\"ok\":true}").await.unwrap();
        let answer = Stored::Answer { status: 202, body: "{\"ok\":true}".to_owned() };
        assert_eq!(tenant.idempotency_begin(NOW.plus_ms(120_000), &key).await.unwrap(), answer);
        assert_eq!(self::tenant(&store, "b").idempotency_begin(NOW, &key).await.unwrap(), Stored::New);
    }
}

fn tenant_named(store: &store::Store, name: &str) -> Tenant {
    tenant(store, name)
}

#[tokio::test]
async fn the_bell_rings_when_something_has_become_due() {
    for (_database, store) in stores().await {
        let tenant = tenant_named(&store, "a");
        tenant.put_connection(NOW, &realtime("https://ehr.example/fhir"), None, "ana").await.unwrap().unwrap();
        let id = linked(&tenant).await;
        // What the connection's own change rang.
        tokio::time::timeout(std::time::Duration::from_secs(5), store.bell()).await.unwrap();
        let waits = tokio::spawn({
            let store = store.clone();
            async move { store.bell().await }
        });
        observation(&tenant, reading(id, PAIN, "1")).await;
        tokio::time::timeout(std::time::Duration::from_secs(5), waits).await.unwrap().unwrap();
    }
}
