//! An old epoch writes nothing; what it was answered stays as evidence of its attempt.

use crate::house::NOW;
use crate::ward::{LEASE, SETTLE, Ward, applied, on_each, settlement, unanswered};
use model::{Class, HeldReason, LateAnswer, Link, LinkState, State};
use ponte_store::lane::Fenced;
use ponte_store::{Lane, LinkChange};

/// Everything that its owner may write in a lane, but answers.
async fn writes(ward: &Ward, lane: &Lane, delivery: model::DeliveryId, patient: model::PatientId) -> Vec<Fenced> {
    let now = NOW.plus_ms(LEASE + 5);
    let link = Link { state: LinkState::Held, problem: Some(model::patient::LinkProblem::NotFound), ..Link::default() };
    vec![
        lane.take_over(now, SETTLE).await.unwrap(),
        lane.begin(now, vec![ward.attempt(now, delivery, Some(model::Means::OwnId))]).await.unwrap(),
        lane.begin(now, vec![ward.attempt(now, delivery, None)]).await.unwrap(),
        lane.settle(now, vec![settlement(delivery, None, State::Dead)]).await.unwrap(),
        lane.settle_link(now, patient, LinkChange { link, blocked: true, judged_from: None }, None).await.unwrap(),
        lane.clone().renew(now, 10 * LEASE).await.unwrap(),
        lane.clone().release(now, None).await.unwrap(),
    ]
}

#[tokio::test]
async fn an_old_epoch_writes_nothing_and_its_answer_is_kept_with_its_attempt() {
    on_each(async |ward| {
        let (id, delivery) = ward.ready().await;
        let old = ward.claim(NOW).await.lane;
        let attempt = ward.send(&old, NOW, delivery).await;
        let patient = ward.delivery(NOW, delivery).await.patient_id;
        let later = NOW.plus_ms(LEASE);
        let young = ward.claim(later).await;
        assert!(young.taken_over);
        assert_eq!((young.lane.shard(), young.lane.epoch()), (old.shard(), old.epoch() + 1));
        assert_eq!(young.lane.take_over(later, SETTLE).await.unwrap(), Fenced::Mine);
        let before = ward.delivery(later, delivery).await;
        let of_patient = ward.tenant.patient(patient).await.unwrap();
        let work = format!("{:?}", young.lane.work(later, 8).await.unwrap());

        assert_eq!(writes(&ward, &old, delivery, patient).await, [Fenced::Lost; 7]);
        assert_eq!(ward.delivery(later, delivery).await, before);
        assert_eq!(ward.tenant.patient(patient).await.unwrap(), of_patient);
        assert_eq!(format!("{:?}", young.lane.work(later, 8).await.unwrap()), work);

        let told = later.plus_ms(7);
        assert_eq!(old.settle(told, vec![applied(delivery, attempt)]).await.unwrap(), Fenced::Lost);
        let after = ward.delivery(told, delivery).await;
        let late = LateAnswer { at: told, status: 200, ehr_id: Some("o-1".to_owned()), ehr_version: Some("v1".to_owned()) };
        assert_eq!((after.state, after.attempts[0].class), (State::Uncertain, Some(Class::Uncertain)));
        assert_eq!(after.attempts[0].late, Some(late.clone()));
        assert_eq!((after.ehr_id, after.delivered_at), (None, None));
        assert_eq!(ward.tenant.observation(told, id).await.unwrap().unwrap().synced_version, None);

        // The first answer stays, and the lane is still the younger one's.
        old.record_late(attempt, LateAnswer { at: told.plus_ms(1), status: 409, ehr_id: None, ehr_version: None }).await.unwrap();
        assert_eq!(ward.delivery(told, delivery).await.attempts[0].late, Some(late));
        assert_eq!(young.lane.settle(told, vec![applied(delivery, attempt)]).await.unwrap(), Fenced::Mine);
        assert_eq!(ward.delivery(told, delivery).await.state, State::Delivered);
    })
    .await;
}

#[tokio::test]
async fn a_lane_that_was_given_back_is_nobodys_even_before_the_next_claim() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        let lane = ward.claim(NOW).await.lane;
        let patient = ward.delivery(NOW, delivery).await.patient_id;
        assert_eq!(lane.clone().release(NOW, None).await.unwrap(), Fenced::Mine);
        let before = ward.delivery(NOW, delivery).await;
        assert_eq!(writes(&ward, &lane, delivery, patient).await, [Fenced::Lost; 7]);
        assert_eq!(ward.delivery(NOW, delivery).await, before);
        // Its lease ran out, but nobody came: it is still its owner's, who may go on.
        let slow = ward.claim(NOW).await.lane;
        let after = NOW.plus_ms(2 * LEASE);
        let attempt = ward.send(&slow, after, delivery).await;
        assert_eq!(slow.settle(after, vec![applied(delivery, attempt)]).await.unwrap(), Fenced::Mine);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_moves_takes_every_lane_from_its_owner() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        let lane = ward.claim(NOW).await.lane;
        let attempt = ward.send(&lane, NOW, delivery).await;
        ward.configure(&ward.tenant, serde_json::json!({"baseUrl": "https://other.example/fhir"})).await;
        let now = NOW.plus_ms(1);
        assert_eq!(lane.settle(now, vec![applied(delivery, attempt)]).await.unwrap(), Fenced::Lost);
        let moved = ward.delivery(now, delivery).await;
        assert_eq!(moved.state, State::Held(HeldReason::ConnectionMoved));
        assert_eq!(moved.attempts[0].late.as_ref().map(|late| late.status), Some(200));
        assert_eq!((moved.ehr_id, moved.delivered_at), (None, None));
        assert!(moved.attempts[0].settle_until.is_some(), "what the old EHR was sent stays open for a settle time");
    })
    .await;
}

#[tokio::test]
async fn a_row_that_was_ended_since_it_was_shown_is_not_sent_and_the_lane_is_read_anew() {
    on_each(async |ward| {
        let (id, delivery) = ward.ready().await;
        let patient = ward.delivery(NOW, delivery).await.patient_id;
        let (_, other) = ward.observe(&ward.tenant, NOW, patient).await;
        let lane = ward.claim(NOW).await.lane;
        assert!(ward.tenant.withdraw_observation(NOW, id).await.unwrap());
        let both = [delivery, other].map(|id| ward.attempt(NOW, id, Some(model::Means::OwnId)));
        assert_eq!(lane.begin(NOW, both.to_vec()).await.unwrap(), Fenced::Lost);
        for id in [delivery, other] {
            assert_eq!(ward.delivery(NOW, id).await.attempts, [], "all of a beginning or nothing");
        }
        let next = ward.claim(NOW).await.lane;
        assert_eq!((next.shard(), ward.only_row(&next, NOW).await.id), (lane.shard(), other));
    })
    .await;
}

#[tokio::test]
async fn a_late_answer_about_what_is_delivered_has_it_read_once_its_attempts_have_settled() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        let lane = ward.claim(NOW).await.lane;
        let first = ward.send(&lane, NOW, delivery).await;
        let open = NOW.plus_ms(SETTLE);
        assert_eq!(lane.settle(NOW, vec![unanswered(delivery, first, NOW, open)]).await.unwrap(), Fenced::Mine);
        let second = ward.send(&lane, NOW, delivery).await;
        assert_eq!(lane.settle(NOW, vec![applied(delivery, second)]).await.unwrap(), Fenced::Mine);
        assert!(lane.work(open.plus_ms(1), 8).await.unwrap().is_empty());
        let late = LateAnswer { at: NOW.plus_ms(5), status: 201, ehr_id: None, ehr_version: None };
        lane.record_late(first, late).await.unwrap();
        assert!(lane.work(open, 8).await.unwrap().is_empty(), "not before it has settled");
        let row = ward.only_row(&lane, open.plus_ms(1)).await;
        assert_eq!((row.state, row.audit_at, row.audit_stage), (State::Delivered, Some(open.plus_ms(1)), 0));
    })
    .await;
}
