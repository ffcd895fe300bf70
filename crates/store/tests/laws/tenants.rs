//! One tenant's ids are nothing to another.

use crate::house::{self, NOW, reading};
use crate::ward::{Ward, all, applied, on_each};
use model::{DeliveryId, LateAnswer, ObservationId, PatientId, State};
use ponte_store::patients::PatientRefused;
use ponte_store::{DeliveryFilter, Discarded, Error, ObservationFilter, Replayed, Tenant};

/// Another tenant, at work beside the first: without rows of its own most questions would not even reach the ledger.
async fn neighbour(ward: &Ward) -> (Tenant, PatientId, DeliveryId) {
    let other = house::tenant(&ward.store, "b");
    ward.configure(&other, serde_json::json!({})).await;
    let patient = ward.linked(&other).await;
    let (_, delivery) = ward.observe(&other, NOW, patient).await;
    (other, patient, delivery)
}

async fn nothing_is_shown(other: &Tenant, patient: PatientId, id: ObservationId, delivery: DeliveryId) {
    assert_eq!(other.delivery(NOW, delivery).await.unwrap(), None);
    assert_eq!(other.observation(NOW, id).await.unwrap(), None);
    assert_eq!(other.observation_version(id, 1).await.unwrap(), None);
    assert_eq!(other.patient(patient).await.unwrap(), None);
    assert!(other.pull_state(patient).await.unwrap().is_none());
    let of_patient = DeliveryFilter { patient_id: Some(patient), ..DeliveryFilter::default() };
    let of_observation = DeliveryFilter { observation_id: Some(id), ..DeliveryFilter::default() };
    for filter in [of_patient, of_observation] {
        assert_eq!(other.deliveries(NOW, &filter, &all()).await.unwrap().items, []);
    }
    let filter = ObservationFilter { patient_id: Some(patient), deleted: true, ..ObservationFilter::default() };
    assert_eq!(other.observations(NOW, &filter, &all()).await.unwrap().items, []);
}

#[tokio::test]
async fn what_another_tenant_asks_or_writes_by_ones_ids_finds_nothing_and_changes_nothing() {
    on_each(async |ward| {
        let (id, delivery) = ward.ready().await;
        let patient = ward.delivery(NOW, delivery).await.patient_id;
        ward.tenant.request_pull(NOW, patient).await.unwrap().unwrap();
        let (other, ..) = neighbour(&ward).await;
        let run = ward.tenant.sync_all(NOW, "ana").await.unwrap();
        let before = (ward.delivery(NOW, delivery).await, ward.tenant.observation(NOW, id).await.unwrap());
        nothing_is_shown(&other, patient, id, delivery).await;
        assert!(other.run(NOW, run.id).await.unwrap().is_none());

        assert_eq!(other.replay(NOW, delivery, "bob").await.unwrap(), Replayed::Unknown);
        assert_eq!(other.discard(NOW, delivery, "bob").await.unwrap(), Discarded::Unknown);
        for resource in [crate::ward::observation(id), model::ResourceKey::Patient(patient)] {
            assert_eq!(other.deliver_now(NOW, resource).await.unwrap(), None);
        }
        assert!(!other.withdraw_observation(NOW, id).await.unwrap());
        assert_eq!(other.update_observation(NOW, id, 1, reading(patient, "72514-3", "9"), None).await.unwrap(), None);
        assert_eq!(other.update_patient(NOW, patient, 1, house::person("Zoe")).await.unwrap(), Err(PatientRefused::Unknown));
        assert_eq!(other.link_by_person(NOW, patient, None, "bob").await.unwrap(), Err(PatientRefused::Unknown));
        assert_eq!(other.request_pull(NOW, patient).await.unwrap(), None);
        assert_eq!(other.replay_dead(NOW, Some(patient), "bob", false).await.unwrap().progress.total, 0);
        assert_eq!((ward.delivery(NOW, delivery).await, ward.tenant.observation(NOW, id).await.unwrap()), before);
        assert_eq!(other.status(NOW).await.unwrap().counts.iter().map(|(_, n)| n).sum::<i64>(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_lane_of_one_tenant_writes_nothing_of_another() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        let mine = ward.claim(NOW).await.lane;
        let attempt = ward.send(&mine, NOW, delivery).await;
        let before = ward.delivery(NOW, delivery).await;
        let (other, ..) = neighbour(&ward).await;
        let theirs = ward.claim(NOW).await.lane;
        assert_eq!(theirs.tenant().id(), other.id());
        let begin = ward.attempt(NOW, delivery, Some(model::Means::OwnId));
        assert!(matches!(theirs.begin(NOW, vec![begin]).await, Err(Error::Corrupt("deliveries"))));
        assert!(matches!(theirs.settle(NOW, vec![applied(delivery, attempt)]).await, Err(Error::Corrupt("deliveries"))));
        theirs.record_late(attempt, LateAnswer { at: NOW, status: 200, ehr_id: None, ehr_version: None }).await.unwrap();
        assert_eq!(ward.delivery(NOW, delivery).await, before);
        assert_eq!(before.state, State::InFlight);
    })
    .await;
}
