//! Nothing that is due sleeps on: the bell keeps its ring, and the sweep of lanes finds what a release did not see.

use crate::house::{self, KEY, NOW};
use crate::ward::{LEASE, applied, on_each};
use ponte_store::lane::Fenced;
use std::time::Duration;
use testing::Engine;
use tokio::time::timeout;

const HOUR: i64 = 3_600_000;

#[tokio::test]
async fn a_ring_that_nobody_heard_is_kept_for_whoever_comes_next() {
    on_each(async |ward| {
        ward.ready().await;
        timeout(Duration::from_secs(30), ward.store.bell()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn on_postgresql_the_bell_is_heard_in_every_process() {
    on_each(async |ward| {
        if ward.database.engine() != Engine::Postgres {
            return;
        }
        let other = house::open(ward.database.url(), KEY, 9).await;
        // What is rung before the other one listens is not heard: its poll's second is what it has for that.
        let mut rings = 0;
        loop {
            ward.ready().await;
            rings += 1;
            if timeout(Duration::from_secs(1), other.bell()).await.is_ok() {
                break;
            }
            assert!(rings < 60, "nothing was heard in another process");
        }
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_lane_that_was_released_until_later_is_found_by_the_sweep_once_something_in_it_is_due() {
    on_each(async |ward| {
        ward.ready().await;
        let fleet = ward.store.fleet();
        let lane = ward.claim(NOW).await.lane;
        assert_eq!(fleet.sweep_lanes(NOW).await.unwrap(), 0, "what is leased is its owner's");
        assert_eq!(lane.release(NOW, Some(NOW.plus_ms(HOUR))).await.unwrap(), Fenced::Mine);
        assert!(ward.try_claim(NOW).await.is_none());
        assert_eq!(fleet.next_due().await.unwrap(), Some(NOW.plus_ms(HOUR)));
        assert_eq!(fleet.sweep_lanes(NOW).await.unwrap(), 1);
        assert_eq!(fleet.sweep_lanes(NOW).await.unwrap(), 0, "it is due now");
        assert!(ward.try_claim(NOW).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn what_is_accepted_while_its_lane_is_being_released_is_claimed_after_the_next_sweep() {
    on_each(async |ward| {
        let patient = ward.linked(&ward.tenant).await;
        let (_, first) = ward.observe(&ward.tenant, NOW, patient).await;
        let mut sent = vec![first];
        for round in 0..40 {
            let now = NOW.plus_ms(round);
            let lane = ward.claim(now).await.lane;
            for delivery in sent.drain(..) {
                let attempt = ward.send(&lane, now, delivery).await;
                assert_eq!(lane.settle(now, vec![applied(delivery, attempt)]).await.unwrap(), Fenced::Mine);
            }
            let (accepted, released) = futures::future::join(ward.observe(&ward.tenant, now, patient), lane.release(now, None)).await;
            assert_eq!(released.unwrap(), Fenced::Mine);
            sent.push(accepted.1);
            ward.store.fleet().sweep_lanes(now).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_lane_is_due_by_what_can_move_and_not_by_what_waits_for_it() {
    on_each(async |ward| {
        let (_, first) = ward.ready().await;
        let patient = ward.delivery(NOW, first).await.patient_id;
        let lane = ward.claim(NOW).await.lane;
        let attempt = ward.send(&lane, NOW, first).await;
        let later = NOW.plus_ms(LEASE);
        let retry = crate::ward::not_applied(first, attempt, later);
        assert_eq!(lane.settle(NOW, vec![retry]).await.unwrap(), Fenced::Mine);
        let (_, second) = ward.observe(&ward.tenant, NOW, patient).await;
        assert_eq!(lane.release(NOW, None).await.unwrap(), Fenced::Mine);
        assert!(ward.try_claim(NOW).await.is_none(), "the second waits for the first, and a claim would only go in a circle");
        assert_eq!(ward.store.fleet().next_due().await.unwrap(), Some(later));
        let lane = ward.claim(later).await.lane;
        let shown: Vec<_> = lane.work(later, 8).await.unwrap().into_iter().flat_map(|work| work.rows).map(|row| row.id).collect();
        assert_eq!(shown, [first], "nothing passes it, {second} least of all");
    })
    .await;
}
