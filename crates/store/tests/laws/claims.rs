//! Who gets a lane: everybody in turn, nobody twice, and no tenant more than it may.

use crate::house::{self, KEY, NOW};
use crate::ward::{LEASE, Ward, on_each};
use futures::future::join_all;
use model::{Class, Timestamp};
use ponte_store::config::ConnectionFailed;
use ponte_store::lane::Fenced;
use ponte_store::{Claimed, Tenant};
use serde_json::json;
use std::collections::BTreeSet;

/// Something due in each of a tenant's lanes, as far as chance fills them.
async fn fill(ward: &Ward, tenant: &Tenant) {
    for _ in 0..30 {
        let patient = ward.linked(tenant).await;
        ward.observe(tenant, NOW, patient).await;
    }
}

async fn claim_all(ward: &Ward, now: Timestamp) -> Vec<Claimed> {
    let mut claimed = Vec::new();
    while let Some(lane) = ward.try_claim(now).await {
        claimed.push(lane);
    }
    claimed
}

fn fails(failures: u32, not_before: Timestamp) -> ConnectionFailed {
    ConnectionFailed {
        class: Class::Unreachable,
        failures,
        not_before,
        circuit_open: false,
        auth_refused: false,
        down: true,
        sentence: "It does not answer.".to_owned(),
    }
}

#[tokio::test]
async fn a_tenant_has_as_many_lanes_at_once_as_its_max_concurrency_says() {
    on_each(async |ward| {
        fill(&ward, &ward.tenant).await;
        let each = ward.store.fleet().leases_for_a_place();
        for most in [1, 3, 8] {
            ward.configure(&ward.tenant, json!({"maxConcurrency": most})).await;
            let held = claim_all(&ward, NOW).await;
            assert_eq!(held.len(), (most * each).min(8), "there are eight lanes");
            for claimed in held {
                assert_eq!(claimed.lane.release(NOW, None).await.unwrap(), Fenced::Mine);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_connection_fails_there_is_one_lane_and_none_before_its_time() {
    on_each(async |ward| {
        fill(&ward, &ward.tenant).await;
        let later = NOW.plus_ms(5000);
        ward.fails(NOW, &fails(1, later)).await;
        assert!(ward.try_claim(NOW).await.is_none());
        assert_eq!(ward.store.fleet().next_due().await.unwrap(), Some(later));
        let held = claim_all(&ward, later).await;
        assert_eq!(held.len(), 1);
        ward.tenant.connection_works(later, true, false).await.unwrap();
        let each = ward.store.fleet().leases_for_a_place();
        assert_eq!(claim_all(&ward, later).await.len(), 4 * each - 1, "four are the default");
    })
    .await;
}

#[tokio::test]
async fn what_a_dead_worker_held_is_claimed_whatever_the_connection_says() {
    on_each(async |ward| {
        fill(&ward, &ward.tenant).await;
        let dead = claim_all(&ward, NOW).await;
        let now = NOW.plus_ms(LEASE);
        ward.configure(&ward.tenant, json!({"enabled": false, "maxConcurrency": 1})).await;
        ward.fails(now, &fails(3, now.plus_ms(1_000_000))).await;
        let claimed = claim_all(&ward, now).await;
        assert_eq!(claimed.len(), dead.len());
        assert!(claimed.iter().all(|claimed| claimed.taken_over));
        for claimed in claimed {
            assert_eq!(claimed.lane.release(now, None).await.unwrap(), Fenced::Mine);
        }
        assert!(ward.try_claim(now).await.is_none(), "and then it is off");
    })
    .await;
}

#[tokio::test]
async fn many_lanes_are_no_many_fold_share() {
    on_each(async |ward| {
        let small = house::tenant(&ward.store, "b");
        ward.configure(&small, json!({})).await;
        fill(&ward, &ward.tenant).await;
        let patient = ward.linked(&small).await;
        ward.observe(&small, NOW, patient).await;
        let mut served = Vec::new();
        for _ in 0..8 {
            let lane = ward.claim(NOW).await.lane;
            served.push((lane.tenant().id().to_string(), lane.shard()));
            assert_eq!(lane.release(NOW, None).await.unwrap(), Fenced::Mine);
        }
        let by_turns: Vec<&str> = served.iter().map(|(tenant, _)| tenant.as_str()).collect();
        assert_eq!(by_turns, ["a", "b"].repeat(4), "within one millisecond too");
        let of_big: BTreeSet<i64> = served.iter().filter(|(tenant, _)| tenant == "a").map(|(_, shard)| *shard).collect();
        assert_eq!(of_big.len(), 4, "none twice while others wait");
    })
    .await;
}

#[tokio::test]
async fn two_nodes_that_claim_at_once_never_hold_the_same_lane() {
    on_each(async |ward| {
        fill(&ward, &ward.tenant).await;
        ward.configure(&ward.tenant, json!({"maxConcurrency": 3})).await;
        assert_eq!(claimed_at_once(&ward).await, 3 * ward.store.fleet().leases_for_a_place());
    })
    .await;
}

/// Of a lane whose patients all wait with a backlog, who observes something now has the next turn.
#[tokio::test]
async fn what_is_fresh_has_its_turn_before_its_lanes_backlog() {
    on_each(async |ward| {
        ward.configure(&ward.tenant, json!({"enabled": false})).await;
        fill(&ward, &ward.tenant).await;
        ward.configure(&ward.tenant, json!({"maxConcurrency": 8})).await;
        let mut last = None;
        for claimed in claim_all(&ward, NOW).await {
            let turns = claimed.lane.work(NOW, 100).await.unwrap();
            assert!(turns.iter().all(|turn| !turn.fresh));
            if turns.len() > 2 {
                last = turns.last().map(|turn| turn.patient.id);
            }
            assert_eq!(claimed.lane.release(NOW, None).await.unwrap(), Fenced::Mine);
        }
        let last = last.expect("no lane has three patients");
        ward.observe(&ward.tenant, NOW, last).await;
        let mut first = Vec::new();
        for claimed in claim_all(&ward, NOW).await {
            first.extend(claimed.lane.work(NOW, 1).await.unwrap().into_iter().map(|turn| turn.patient.id));
        }
        assert!(first.contains(&last), "who waits longer with a backlog goes first");
    })
    .await;
}

#[tokio::test]
async fn two_nodes_that_claim_at_once_count_what_was_claimed_before() {
    on_each(async |ward| {
        fill(&ward, &ward.tenant).await;
        ward.configure(&ward.tenant, json!({"maxConcurrency": 3})).await;
        // It marks all the others: nobody meets another at the marking.
        let _held = ward.claim(NOW).await;
        assert_eq!(claimed_at_once(&ward).await, 3 * ward.store.fleet().leases_for_a_place() - 1);
    })
    .await;
}

/// How many different lanes two nodes get that claim sixteen times at once; none twice.
async fn claimed_at_once(ward: &Ward) -> usize {
    let other = house::open(ward.database.url(), KEY, 9).await;
    let nodes = [ward.store.fleet(), other.fleet()];
    let claims = (0..16).map(|n| nodes[n % 2].claim_lane(NOW, if n % 2 == 0 { "one" } else { "two" }, LEASE));
    let got = join_all(claims).await;
    let lanes: Vec<(i64, i64)> = got.into_iter().filter_map(|claimed| claimed.unwrap()).map(|c| (c.lane.shard(), c.lane.epoch())).collect();
    let unlike: BTreeSet<_> = lanes.iter().collect();
    assert_eq!(lanes.len(), unlike.len(), "{lanes:?}");
    other.close().await;
    lanes.len()
}
