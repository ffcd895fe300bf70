//! PROTOCOL §4: the counterexample traces of creates without our own id: conditional (3b) and plain (4).

use crate::gate::{Stop, Which};
use crate::world::{LEASE, MINUTE, SECOND, SETTLE, bare, conditional, on_each, on_each_with};
use model::State;
use sandbox::{Fault, Options};
use serde_json::json;

fn creates() -> [Options; 2] {
    [conditional(), bare()]
}

/// 4: S counts from the takeover, not from the recorded start.
#[tokio::test]
async fn trace_04_the_settle_time_counts_from_the_takeover() {
    for options in creates() {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            w.late_commit_after(55 * SECOND);
            w.next(1, Fault::LateCommit, "POST", pain);
            let mut frozen = w.node.gate.freeze(Which::new("POST", pain), Stop::LastBreath);
            let first = w.node.step_aside();
            frozen.stands().await;
            // Recorded long ago, sent just inside the lease, and the node dies.
            w.clock.forward(50 * SECOND);
            frozen.wake();
            w.until(|| w.ehr().shown(Fault::LateCommit) == 1).await;
            first.abort();
            let _ = first.await;
            w.clock.forward(11 * SECOND);
            let second = w.second_node().await;
            w.go_on(&[&second], 5 * MINUTE).await;
            assert_eq!(w.effects(pain).len(), 1, "it was sent again before the first had settled");
            w.holds(pain, "3");
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// 5: S is longer than T.
#[tokio::test]
async fn trace_05_a_create_that_commits_late_is_found_and_not_made_again() {
    for options in creates() {
        for commit_after in [0, SECOND, 30 * SECOND, 59 * SECOND] {
            on_each(options.clone(), async |w| {
                let patient = w.known_patient().await;
                w.late_commit_after(commit_after);
                let pain = w.observe(patient, "3").await;
                w.next(1, Fault::LateCommit, "POST", pain);
                w.settle_down().await;
                assert_eq!(w.effects(pain).len(), 1);
                w.holds(pain, "3");
                w.is_delivered(pain).await;
            })
            .await;
        }
    }
}

/// 6: and longer than T and the lag of the search together.
#[tokio::test]
async fn trace_06_a_search_that_lags_behind_doubles_nothing() {
    for options in creates() {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            w.late_commit_after(SECOND / 2);
            w.ward.sandbox.change_settings(|s| s.search_lag_ms = 50_000);
            let pain = w.observe(patient, "3").await;
            w.faults(sandbox::FaultPlan::none().always(Fault::SearchLag).script(crate::world::script(1, Fault::LateCommit, "POST", pain)));
            w.settle_down().await;
            assert!(w.ehr().shown(Fault::SearchLag) > 0);
            assert_eq!(w.effects(pain).len(), 1);
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// 7: only a search that was *sent* after the settle time counts.
#[tokio::test]
async fn trace_07_an_empty_answer_to_an_early_search_says_nothing_when_it_comes_late() {
    for options in creates() {
        on_each_with(options, json!({"settleTime": 20_000}), async |w| {
            let patient = w.known_patient().await;
            w.late_commit_after(10 * SECOND);
            let pain = w.observe(patient, "3").await;
            w.next(1, Fault::LateCommit, "POST", pain);
            w.work().await;
            assert_eq!(w.delivery(pain).await.state, State::Uncertain);
            let mut frozen = w.node.gate.freeze(Which::new("GET", pain), Stop::AfterTheAnswer);
            w.clock.forward(2 * SECOND);
            let asking = w.node.step_aside();
            frozen.stands().await;
            // The EHR has looked and found nothing; then it commits; then the settle time is over; then the answer arrives.
            w.clock.forward(22 * SECOND);
            frozen.wake();
            asking.await.unwrap();
            w.settle_down().await;
            assert_eq!(w.effects(pain).len(), 1);
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// 8: a takeover makes what was in flight uncertain, with a settle time of its own.
#[tokio::test]
async fn trace_08_the_next_owner_does_not_create_what_the_dead_one_sent() {
    for options in creates() {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            // It commits after the lease is over and the next owner has asked.
            w.late_commit_after(80 * SECOND);
            let pain = w.observe(patient, "3").await;
            w.next(1, Fault::LateCommit, "POST", pain);
            let mut frozen = w.node.gate.freeze(Which::new("POST", pain), Stop::AfterTheAnswer);
            let first = w.node.step_aside();
            frozen.stands().await;
            first.abort();
            let _ = first.await;
            w.clock.forward(LEASE + SECOND);
            let second = w.second_node().await;
            w.work_on(&second).await;
            assert_eq!(w.delivery(pain).await.state, State::Uncertain);
            w.go_on(&[&second], 5 * MINUTE).await;
            assert_eq!(w.effects(pain).len(), 1);
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// 11: every result is fenced, empty searches too.
#[tokio::test]
async fn trace_11_a_worker_that_lost_its_lease_cannot_say_that_nothing_was_applied() {
    for options in creates() {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            w.next(1, Fault::CutBeforeCommit, "POST", pain);
            w.work().await;
            assert_eq!(w.delivery(pain).await.state, State::Uncertain);
            w.go_on_for(SETTLE - 5 * SECOND).await;
            // The search after the settle time: its owner freezes with the empty answer in hand.
            let mut frozen = w.node.gate.freeze(Which::new("GET", pain), Stop::AfterTheAnswer);
            w.clock.forward(10 * SECOND);
            let first = w.node.step_aside();
            frozen.stands().await;
            w.clock.forward(LEASE + SECOND);
            let second = w.second_node().await;
            w.late_commit_after(30 * SECOND);
            w.next(1, Fault::LateCommit, "POST", pain);
            w.go_on(&[&second], 5 * SECOND).await;
            assert_eq!(w.ehr().shown(Fault::LateCommit), 1, "the next owner did not create");
            assert_eq!(w.delivery(pain).await.state, State::Uncertain);
            frozen.wake();
            first.await.unwrap();
            assert_eq!(w.delivery(pain).await.state, State::Uncertain, "the fenced worker wrote its empty search");
            w.go_on(&[&second, &w.node], 5 * MINUTE).await;
            assert_eq!(w.effects(pain).len(), 1);
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// 18: the body of a 200 is compared.
#[tokio::test]
async fn trace_18_a_200_that_shows_the_first_version_does_not_deliver_the_second() {
    on_each(conditional(), async |w| {
        let patient = w.known_patient().await;
        // Longer than the settle time: the one case that no rule excludes (PROTOCOL §6, 2).
        w.late_commit_after(SETTLE + 20 * SECOND);
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::LateCommit, "POST", pain);
        w.work().await;
        w.correct(pain, "8").await;
        let mut frozen = w.node.gate.freeze(Which::new("POST", "urn:ponte:version:2"), Stop::BeforeTheCheck);
        w.go_on_for(SETTLE - 2 * SECOND).await;
        w.clock.forward(3 * SECOND);
        let creating = w.node.step_aside();
        frozen.stands().await;
        w.clock.forward(25 * SECOND);
        assert_eq!(w.versions(pain), [1], "the first version has come after all");
        frozen.wake();
        creating.await.unwrap();
        w.settle_down().await;
        assert_eq!(w.versions(pain), [1, 2]);
        w.holds(pain, "8");
        w.is_delivered(pain).await;
    })
    .await;
}

/// PROTOCOL §6, 1: a sender that sleeps for longer than its lease between its check and its send cannot be fenced where the
/// EHR has no precondition. It doubles, and the audits find it: a person decides, nothing is deleted.
#[tokio::test]
async fn a_frozen_senders_own_create_is_found_by_the_audits() {
    for db in testing::databases().await {
        let w = crate::world::World::begin(db, bare(), json!({})).await;
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        let mut frozen = w.node.gate.freeze(Which::new("POST", pain), Stop::AfterTheCheck);
        let first = w.node.step_aside();
        frozen.stands().await;
        w.clock.forward(LEASE + SECOND);
        let second = w.second_node().await;
        w.go_on(&[&second], 5 * MINUTE).await;
        assert_eq!(w.at_ehr(pain).len(), 1);
        frozen.wake();
        first.await.unwrap();
        assert_eq!(w.at_ehr(pain).len(), 2, "nothing can hold back a sender that woke up after its check");
        w.go_on(&[&second], 25 * 60 * MINUTE).await;
        let delivery = w.delivery(pain).await;
        assert_eq!(delivery.state, State::Held(model::HeldReason::MultipleMatches), "{delivery:?}");
        assert_eq!(w.at_ehr(pain).len(), 2, "nothing is deleted by us");
        w.nothing_is_silent().await;
    }
}
