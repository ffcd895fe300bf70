//! Versions of one observation: a newer one passes no older one that may still land, and what is known is never set back.

use crate::house::{NOW, reading};
use crate::ward::{SETTLE, Ward, applied, not_applied, observation, on_each, unanswered};
use model::{DeliveryId, HeldReason, ObservationId, State};
use ponte_store::lane::Fenced;
use ponte_store::{DeliveryFilter, Settlement};

/// A second version of it; the delivery of that version.
async fn correct(ward: &Ward, id: ObservationId, delivery: DeliveryId) -> DeliveryId {
    let patient = ward.delivery(NOW, delivery).await.patient_id;
    let corrected = ward.tenant.update_observation(NOW, id, 1, reading(patient, "72514-3", "4"), None).await.unwrap().unwrap();
    corrected.delivery.unwrap().id
}

#[tokio::test]
async fn a_newer_version_waits_until_every_try_of_the_older_one_has_settled() {
    on_each(async |ward| {
        let (id, older) = ward.ready().await;
        let lane = ward.claim(NOW).await.lane;
        let first = ward.send(&lane, NOW, older).await;
        let newer = correct(&ward, id, older).await;
        let shown = async |now| (ward.delivery(now, older).await.state, ward.delivery(now, newer).await.state);
        assert_eq!(shown(NOW).await, (State::InFlight, State::Held(HeldReason::EarlierFirst)), "what was sent is not superseded");

        let open = NOW.plus_ms(SETTLE);
        assert_eq!(lane.settle(NOW, vec![unanswered(older, first, NOW, open)]).await.unwrap(), Fenced::Mine);
        let second = ward.send(&lane, NOW, older).await;
        assert_eq!(lane.settle(NOW, vec![applied(older, second)]).await.unwrap(), Fenced::Mine);
        // Delivered, and yet the first try of it may still land over a newer version.
        assert_eq!(shown(NOW).await, (State::Delivered, State::Held(HeldReason::Settling)));
        assert!(lane.work(open, 8).await.unwrap().is_empty());
        assert_eq!(lane.clone().release(NOW, None).await.unwrap(), Fenced::Mine);
        assert_eq!(ward.store.fleet().next_due().await.unwrap(), Some(open.plus_ms(1)));
        let settled = open.plus_ms(1);
        let lane = ward.claim(settled).await.lane;
        let row = ward.only_row(&lane, settled).await;
        assert_eq!((row.id, row.version, row.synced_version, row.resource_settle_until), (newer, 2, Some(1), None));
    })
    .await;
}

#[tokio::test]
async fn an_older_version_that_came_to_nothing_goes_no_more_once_a_newer_one_is_there() {
    on_each(async |ward| {
        let (id, older) = ward.ready().await;
        let lane = ward.claim(NOW).await.lane;
        let attempt = ward.send(&lane, NOW, older).await;
        let newer = correct(&ward, id, older).await;
        assert_eq!(lane.settle(NOW, vec![not_applied(older, attempt, NOW)]).await.unwrap(), Fenced::Mine);
        assert_eq!(ward.delivery(NOW, older).await.state, State::Superseded);
        assert_eq!(ward.only_row(&lane, NOW).await.id, newer);
        let of_observation = DeliveryFilter { observation_id: Some(id), ..DeliveryFilter::default() };
        let listed = ward.tenant.deliveries(NOW, &of_observation, &crate::ward::all()).await.unwrap().items;
        assert!(listed.iter().all(|delivery| delivery.resource == observation(id)));
        assert_eq!(listed.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_answer_about_an_older_version_never_sets_a_known_newer_one_back() {
    on_each(async |ward| {
        let (id, older) = ward.ready().await;
        let lane = ward.claim(NOW).await.lane;
        let first = ward.send(&lane, NOW, older).await;
        assert_eq!(lane.settle(NOW, vec![applied(older, first)]).await.unwrap(), Fenced::Mine);
        let newer = correct(&ward, id, older).await;
        let second = ward.send(&lane, NOW, newer).await;
        let later = NOW.plus_ms(5);
        let v2 = Settlement { ehr_version: Some("v2".to_owned()), ..applied(newer, second) };
        assert_eq!(lane.settle(later, vec![v2]).await.unwrap(), Fenced::Mine);
        let known = ward.tenant.observation(later, id).await.unwrap().unwrap();
        assert_eq!((known.synced_version, known.ehr_version.as_deref(), known.synced_at), (Some(2), Some("v2"), Some(later)));

        let question = ward.attempt(later, older, None);
        let asked = question.attempt;
        assert_eq!(lane.begin(later, vec![question]).await.unwrap(), Fenced::Mine);
        assert_eq!(lane.settle(later.plus_ms(5), vec![applied(older, asked)]).await.unwrap(), Fenced::Mine);
        assert_eq!(ward.tenant.observation(later, id).await.unwrap().unwrap(), known);
    })
    .await;
}
