//! Between the reading of a turn and its first byte others may have spoken, however long that took: what is no more as it was read is
//! not begun, and the lane is read anew.

use crate::house::{NOW, person};
use crate::ward::{SETTLE, Ward, on_each, unanswered};
use model::{EhrId, Link, LinkState, Means, Patient, PatientId, Timestamp};
use ponte_store::idempotency::Once;
use ponte_store::installation::Adopt;
use ponte_store::lane::Fenced;
use ponte_store::{Begin, Lane, LinkChange, NewPatient};
use serde_json::json;

/// An observation of a patient who is linked, in a lane that is open; and the write that its turn would make of it.
async fn planned(ward: &Ward) -> (PatientId, Lane, Begin) {
    let (_, delivery) = ward.ready().await;
    let mut lane = ward.claim(NOW).await.lane;
    let work = lane.open(NOW, |_, _| 8).await.unwrap().work;
    let subject = work[0].patient.link.ehr_id.clone();
    assert!(subject.is_some());
    let begin = Begin { subject, ..ward.attempt(NOW, delivery, Some(Means::OwnId)) };
    (work[0].patient.id, lane, begin)
}

/// A patient whom nobody has linked yet.
async fn unlinked(ward: &Ward) -> Patient {
    let new = NewPatient { draft: person("Maria"), link: None };
    match ward.tenant.create_patient(NOW, new, None).await.unwrap().unwrap() {
        Once::Done(patient) => patient,
        other => panic!("not made: {other:?}"),
    }
}

async fn is_not_begun(ward: &Ward, lane: &Lane, begin: Begin) {
    let delivery = begin.delivery;
    assert_eq!(lane.begin(NOW, vec![begin]).await.unwrap(), Fenced::Lost);
    assert_eq!(ward.delivery(NOW, delivery).await.attempts, []);
}

#[tokio::test]
async fn what_nobody_spoke_about_is_begun() {
    on_each(async |ward| {
        let (_, lane, begin) = planned(&ward).await;
        let delivery = begin.delivery;
        assert_eq!(lane.begin(NOW, vec![begin]).await.unwrap(), Fenced::Mine);
        assert_eq!(ward.delivery(NOW, delivery).await.attempts.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_begun_for_the_patient_that_ours_was_linked_to_before() {
    for now_linked_to in [Some("p-2"), None] {
        on_each(async |ward| {
            let (patient, lane, begin) = planned(&ward).await;
            let to = now_linked_to.map(|id| EhrId::new(id).unwrap());
            ward.tenant.link_by_person(NOW, patient, to, "ana").await.unwrap().unwrap();
            is_not_begun(&ward, &lane, begin).await;
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_new_is_begun_for_a_patient_who_was_held_meanwhile() {
    on_each(async |ward| {
        let (patient, lane, begin) = planned(&ward).await;
        let link = ward.tenant.patient(patient).await.unwrap().unwrap().link;
        let link = Link { state: LinkState::Held, problem: Some(model::patient::LinkProblem::Inactive), ..link };
        assert_eq!(
            lane.settle_link(NOW, patient, LinkChange { link, blocked: true, judged_from: None }, None).await.unwrap(),
            Fenced::Mine
        );
        is_not_begun(&ward, &lane, begin).await;
    })
    .await;
}

#[tokio::test]
async fn a_patient_who_was_blocked_meanwhile_is_not_made_at_the_ehr() {
    on_each(async |ward| {
        let patient = unlinked(&ward).await;
        let mut lane = ward.claim(NOW).await.lane;
        let work = lane.open(NOW, |_, _| 8).await.unwrap().work;
        ward.tenant.link_by_person(NOW, patient.id, None, "ana").await.unwrap().unwrap();
        let begin = ward.attempt(NOW, work[0].rows[0].id, Some(Means::OwnId));
        is_not_begun(&ward, &lane, begin).await;
    })
    .await;
}

#[tokio::test]
async fn a_reading_of_who_was_corrected_since_links_nobody() {
    on_each(async |ward| {
        let made = unlinked(&ward).await;
        let lane = ward.claim(NOW).await.lane;
        let read = lane.work(NOW, 8).await.unwrap().remove(0).patient;
        let judged = |from: &Patient| {
            let ehr_id = Some(EhrId::new("p-9").unwrap());
            let link = Link { state: LinkState::Linked, ehr_id, by: Some("cpf".to_owned()), at: Some(NOW), ..Link::default() };
            LinkChange::judged(from, link, false)
        };
        let change = model::PatientDraft { name: "Maria Outra".to_owned(), ..read.draft.clone() };
        ward.tenant.update_patient(NOW, made.id, made.version, change).await.unwrap().unwrap();
        assert_eq!(lane.settle_link(NOW, made.id, judged(&read), None).await.unwrap(), Fenced::Mine);
        let now = ward.tenant.patient(made.id).await.unwrap().unwrap();
        assert_eq!((now.link.state, now.link.ehr_id.clone()), (LinkState::Unlinked, None));
        assert_eq!(lane.settle_link(NOW, made.id, judged(&now), None).await.unwrap(), Fenced::Mine);
        assert_eq!(ward.tenant.patient(made.id).await.unwrap().unwrap().link.state, LinkState::Linked);
    })
    .await;
}

#[tokio::test]
async fn nothing_new_is_begun_under_a_configuration_that_was_changed() {
    on_each(async |ward| {
        let (_, lane, begin) = planned(&ward).await;
        ward.configure(&ward.tenant, json!({"enabled": false})).await;
        is_not_begun(&ward, &lane, begin).await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_begun_by_a_copy() {
    on_each(async |ward| {
        let (_, lane, begin) = planned(&ward).await;
        ward.store.adopt(NOW, Adopt::Copy, SETTLE).await.unwrap();
        is_not_begun(&ward, &lane, begin).await;
    })
    .await;
}

#[tokio::test]
async fn a_put_is_repeated_within_its_settle_time_and_not_a_moment_later() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        let lane = ward.claim(NOW).await.lane;
        let settles = NOW.plus_ms(1000);
        let lost = |attempt, at: Timestamp| unanswered(delivery, attempt, at, settles);
        let first = ward.send(&lane, NOW, delivery).await;
        assert_eq!(lane.settle(NOW, vec![lost(first, NOW)]).await.unwrap(), Fenced::Mine);
        let again = ward.send(&lane, settles, delivery).await;
        assert_eq!(lane.settle(settles, vec![lost(again, settles)]).await.unwrap(), Fenced::Mine);
        // By now the hospital may have corrected what came of it.
        let too_late = settles.plus_ms(1);
        let begin = ward.attempt(too_late, delivery, Some(Means::OwnId));
        assert_eq!(lane.begin(too_late, vec![begin]).await.unwrap(), Fenced::Lost);
        assert_eq!(ward.delivery(too_late, delivery).await.attempts.len(), 2);
    })
    .await;
}
