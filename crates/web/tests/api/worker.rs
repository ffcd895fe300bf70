//! A worker of the tests: it takes the real leases and writes the real results; only the EHR is left out.

use crate::house::{House, WallClock};
use model::{AttemptId, Class, Clock, EhrId, HeldReason, Link, LinkState, Means, ResourceKey, State};
use std::time::Duration;
use store::lane::Fenced;
use store::{Begin, LinkChange, Outcome, Settlement};

/// What the EHR is said to have done.
#[derive(Clone, Copy)]
pub enum Ehr {
    Takes,
    Refuses(&'static str),
    Held(HeldReason),
}

/// Works everything that is due once; says how many deliveries were settled.
pub async fn work(house: &House, ehr: Ehr) -> usize {
    let mut settled = 0;
    while let Some(claimed) = house.store.fleet().claim_lane(WallClock.now(), "test", 60_000).await.unwrap() {
        let lane = claimed.lane;
        let work = lane.work(WallClock.now(), 50).await.unwrap();
        for turn in work {
            for row in turn.rows.into_iter().filter(|row| matches!(row.state, State::Pending | State::RetryScheduled)) {
                let now = WallClock.now();
                let attempt = AttemptId(uuid::Uuid::now_v7());
                let begin = Begin {
                    delivery: row.id,
                    attempt,
                    request: format!("PUT {}/{{id}}", row.resource.resource_type()),
                    means: Some(Means::OwnId),
                    match_etag: None,
                    subject: None,
                };
                assert_eq!(lane.begin(now, vec![begin]).await.unwrap(), Fenced::Mine);
                let (state, class, status, message) = match ehr {
                    Ehr::Takes => (State::Delivered, Class::Applied, 201, None),
                    Ehr::Refuses(words) => (State::Dead, Class::Validation, 422, Some(words.to_owned())),
                    Ehr::Held(reason) => (State::Held(reason), Class::Conflict, 409, None),
                };
                let ehr_id = matches!(ehr, Ehr::Takes).then(|| EhrId::new(format!("ehr-{}", row.resource.uuid())).unwrap());
                let settlement = Settlement {
                    delivery: row.id,
                    outcome: Some(Outcome { attempt, status: Some(status), class, settle_until: None, message: message.clone() }),
                    state,
                    due_at: None,
                    counts_try: false,
                    new_round: false,
                    proven_not_applied: Some(state != State::Delivered),
                    ehr_id: ehr_id.clone(),
                    ehr_version: ehr_id.as_ref().map(|_| "1".to_owned()),
                    synced: state == State::Delivered,
                    audit: None,
                    message,
                    works: state == State::Delivered,
                };
                let fenced = match (row.resource, ehr_id) {
                    (ResourceKey::Patient(patient), Some(id)) => {
                        let link = Link {
                            state: LinkState::Linked,
                            ehr_id: Some(id),
                            by: Some("created".to_owned()),
                            at: Some(now),
                            ..Link::default()
                        };
                        lane.settle_link(now, patient, LinkChange { link, blocked: false, judged_from: None }, Some(settlement)).await
                    }
                    _ => lane.settle(now, vec![settlement]).await,
                };
                assert_eq!(fenced.unwrap(), Fenced::Mine);
                settled += 1;
            }
        }
        let _ = lane.release(WallClock.now(), None).await.unwrap();
    }
    settled
}

/// Works until at least so many deliveries are settled.
pub async fn work_until(house: &House, ehr: Ehr, wanted: usize) {
    let mut settled = 0;
    while settled < wanted {
        settled += work(house, ehr).await;
        if settled < wanted {
            let _ = tokio::time::timeout(Duration::from_millis(200), house.store.bell()).await;
        }
    }
}
