//! PROTOCOL §4: the counterexample traces, played against the EHR. Here those of updates and of our own id (means 2b).

use crate::gate::{Stop, Which};
use crate::world::{LEASE, MINUTE, SECOND, SETTLE, every_means, lacking, on_each, on_each_with, own_id};
use model::State;
use sandbox::Fault;
use serde_json::json;

/// 1: "found" is not "applied".
#[tokio::test]
async fn trace_01_finding_our_identifier_is_not_taken_for_the_new_version() {
    for (means, options) in every_means() {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            w.settle_down().await;
            w.holds(pain, "3");
            w.correct(pain, "8").await;
            w.next(1, Fault::CutBeforeCommit, "PUT", pain);
            w.settle_down().await;
            assert_eq!(w.ehr().shown(Fault::CutBeforeCommit), 1, "{means}");
            w.holds(pain, "8");
            w.is_delivered(pain).await;
            assert_eq!(w.versions(pain), [1, 2], "{means}");
            // Cut for longer than an attempt is open: then the resource is read first, and what is found is still version 2.
            w.correct(pain, "9").await;
            w.next(100, Fault::CutBeforeCommit, "PUT", pain);
            let read = w.node.gate.count("GET", "Observation");
            w.go_on_for(3 * SETTLE).await;
            assert_ne!(w.delivery(pain).await.state, State::Delivered, "{means}: it found an older version and took it for this one");
            assert!(w.node.gate.count("GET", "Observation") > read, "{means}: it never read");
            w.well();
            w.settle_down().await;
            w.holds(pain, "9");
            w.is_delivered(pain).await;
            assert_eq!(w.versions(pain), [1, 2, 3], "{means}");
        })
        .await;
    }
}

/// 2: settling belongs to the attempt, not to the delivery.
#[tokio::test]
async fn trace_02_a_delivered_first_version_does_not_let_the_second_go_while_an_attempt_is_open() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        w.late_commit_after(20 * SECOND);
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::LateCommit, "PUT", pain);
        let lost_at = w.clock.now();
        w.go_on_for(5 * SECOND).await;
        assert_eq!(w.delivery(pain).await.state, State::Delivered, "the same PUT may go again at once");
        assert_eq!(w.ehr().late_pending, 1);
        w.correct(pain, "8").await;
        w.settle_down().await;
        assert_eq!(w.versions(pain), [1, 1, 2]);
        assert!(w.gate_time_of_version(pain, 2) > lost_at.plus_ms(SETTLE), "version 2 went before the lost attempt had settled");
        w.holds(pain, "8");
        w.is_delivered(pain).await;
    })
    .await;
}

/// 2 and 14, as the exhaustive model found them: the repeat is answered, the first request commits, and the answer is written
/// down only when both have settled. The row is read again all the same, or the ledger would keep the ETag of the repeat.
#[tokio::test]
async fn an_answer_written_down_after_the_settle_time_has_the_row_read_again() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        w.late_commit_after(20 * SECOND);
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::LateCommit, "PUT", pain);
        w.work().await;
        assert_eq!(w.delivery(pain).await.state, State::Uncertain);
        let mut answered = w.node.gate.freeze(Which::new("PUT", pain), Stop::AfterTheAnswer);
        w.clock.forward(2 * SECOND);
        let step = w.node.step_aside();
        answered.stands().await;
        w.clock.forward(2 * SETTLE);
        w.ward.sandbox.settle_due();
        answered.wake();
        step.await.unwrap();
        w.settle_down().await;
        assert_eq!(w.versions(pain), [1, 1]);
        let held = w.at_ehr(pain);
        assert_eq!(w.observation(pain).await.ehr_version.as_deref(), Some(held[0].version_id.as_str()));
    })
    .await;
}

/// 3: a takeover looks at attempts, not at rows in flight.
#[tokio::test]
async fn trace_03_a_takeover_opens_every_attempt_without_an_outcome() {
    let hasty = json!({"requestTimeout": 400});
    on_each_with(own_id(), hasty, async |w| {
        let patient = w.known_patient().await;
        w.ward.sandbox.change_settings(|s| s.slow_body_ms = 900);
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::SlowBody, "PUT", pain);
        w.work().await;
        assert_eq!(w.delivery(pain).await.state, State::Uncertain);
        w.late_answer_of(pain).await;
        // The repeat is recorded, and its node freezes between the check and the sending.
        let mut frozen = w.node.gate.freeze(Which::new("PUT", pain), Stop::AfterTheCheck);
        w.clock.forward(2 * SECOND);
        let first = w.node.step_aside();
        frozen.stands().await;
        w.clock.forward(LEASE + SECOND);
        let second = w.second_node().await;
        let taken_over = w.clock.now();
        w.work_on(&second).await;
        w.correct(pain, "8").await;
        w.go_on(&[&second], 10 * SECOND).await;
        // It wakes up within the settle time, and an old version is there for a while.
        frozen.wake();
        first.await.unwrap();
        w.go_on(&[&second, &w.node], 9 * MINUTE).await;
        let sent = second
            .gate
            .passed()
            .iter()
            .filter(|p| p.is("PUT", &pain.to_string()) && p.is("PUT", "urn:ponte:version:2"))
            .map(|p| p.at)
            .min();
        assert!(sent.unwrap() > taken_over.plus_ms(SETTLE), "version 2 did not wait for what the frozen node may still send");
        w.holds(pain, "8");
        w.is_delivered(pain).await;
    })
    .await;
}

/// 5 and 9: S is longer than T, and the next different write waits for it (rule W).
#[tokio::test]
async fn trace_05_and_09_a_late_first_version_never_ends_over_the_second() {
    for commit_after in [SECOND, 30 * SECOND, 59 * SECOND] {
        on_each(own_id(), async |w| {
            let patient = w.known_patient().await;
            w.late_commit_after(commit_after);
            let pain = w.observe(patient, "3").await;
            w.next(1, Fault::LateCommit, "PUT", pain);
            w.work().await;
            w.correct(pain, "8").await;
            w.settle_down().await;
            assert_eq!(w.ehr().shown(Fault::LateCommit), 1);
            w.holds(pain, "8");
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// 9, where `If-Match` is not honoured: the same with versions 2 and 3, by every means.
#[tokio::test]
async fn trace_09_an_ehr_that_ignores_if_match_ends_with_the_third_version() {
    for always in [vec![Fault::IfMatchIgnored], vec![Fault::IfMatchIgnored, Fault::NoUpdateCreate]] {
        on_each(lacking(&always), async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "1").await;
            w.settle_down().await;
            w.late_commit_after(25 * SECOND);
            w.next(1, Fault::LateCommit, "PUT", pain);
            w.correct(pain, "2").await;
            let lost_at = w.clock.now();
            w.work().await;
            w.go_on_for(5 * SECOND).await;
            w.correct(pain, "3").await;
            w.settle_down().await;
            assert!(w.gate_time_of_version(pain, 3) > lost_at.plus_ms(SETTLE));
            w.holds(pain, "3");
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// 10: the second version may not overtake an uncertain first one.
#[tokio::test]
async fn trace_10_the_second_version_does_not_overtake_an_uncertain_first_one() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        w.late_commit_after(10 * SECOND);
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::LateCommit, "PUT", pain);
        w.work().await;
        assert_eq!(w.delivery(pain).await.state, State::Uncertain);
        w.correct(pain, "8").await;
        w.work().await;
        assert_eq!(w.node.gate.passed().iter().filter(|p| p.is("PUT", "urn:ponte:version:2") && p.is("PUT", &pain.to_string())).count(), 0);
        w.settle_down().await;
        w.holds(pain, "8");
    })
    .await;
}

/// 12, means 2b: the lease is checked last.
#[tokio::test]
async fn trace_12_a_node_whose_lease_is_over_sends_nothing() {
    for (means, options) in every_means() {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            let method = if means == "own id" { "PUT" } else { "POST" };
            let mut frozen = w.node.gate.freeze(Which::new(method, pain), Stop::BeforeTheCheck);
            let first = w.node.step_aside();
            frozen.stands().await;
            w.clock.forward(LEASE + SECOND);
            let second = w.second_node().await;
            w.go_on(&[&second], 3 * MINUTE).await;
            w.holds(pain, "3");
            frozen.wake();
            first.await.unwrap();
            assert_eq!(w.effects(pain).len(), 1, "{means}: the node sent although its lease was over");
            w.go_on(&[&second], MINUTE).await;
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// 13: a late answer does not set back the version that is known since.
#[tokio::test]
async fn trace_13_a_late_answer_does_not_set_back_the_known_version() {
    on_each_with(own_id(), json!({"requestTimeout": 400}), async |w| {
        let patient = w.known_patient().await;
        w.ward.sandbox.change_settings(|s| s.slow_body_ms = 900);
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::SlowBody, "PUT", pain);
        w.work().await;
        w.go_on_for(5 * SECOND).await;
        w.late_answer_of(pain).await;
        w.settle_down().await;
        let known = w.observation(pain).await.ehr_version.unwrap();
        assert_eq!(known, w.at_ehr(pain)[0].version_id, "the version that we know is not the EHR's");
        w.correct(pain, "8").await;
        w.settle_down().await;
        w.holds(pain, "8");
        assert_eq!(w.ehr().requests.get("PUT Observation 412"), None, "the next update went with an old ETag");
    })
    .await;
}

/// 14: the read after the settle time.
#[tokio::test]
async fn trace_14_the_version_that_our_own_late_attempt_made_is_known_before_the_next_update() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        w.late_commit_after(10 * SECOND);
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::LateCommit, "PUT", pain);
        w.go_on_for(5 * SECOND).await;
        assert_eq!(w.at_ehr(pain)[0].version_id, "1");
        w.settle_down().await;
        assert_eq!(w.at_ehr(pain)[0].version_id, "2");
        assert_eq!(w.observation(pain).await.ehr_version.as_deref(), Some("2"), "our own late attempt would look like somebody's change");
        w.correct(pain, "8").await;
        w.settle_down().await;
        assert_eq!(w.ehr().requests.get("PUT Observation 412"), None);
        w.holds(pain, "8");
    })
    .await;
}

/// 15: a 412 after our own repeat is a read.
#[tokio::test]
async fn trace_15_a_412_after_our_own_repeat_is_read_and_found_delivered() {
    for (means, options) in every_means() {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            w.settle_down().await;
            w.correct(pain, "8").await;
            w.next(1, Fault::CutAfterCommit, "PUT", pain);
            w.settle_down().await;
            assert_eq!(w.ehr().shown(Fault::CutAfterCommit), 1);
            assert_eq!(w.ehr().requests.get("PUT Observation 412"), Some(&1), "{means}: the repeat went without its precondition");
            assert_eq!(w.versions(pain), [1, 2], "{means}");
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// 16: what an old create can still reach is never deleted; it is marked as entered in error.
#[tokio::test]
async fn trace_16_a_withdrawn_observation_does_not_live_again() {
    for (means, options) in every_means() {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            w.late_commit_after(20 * SECOND);
            let pain = w.observe(patient, "3").await;
            let method = if means == "own id" { "PUT" } else { "POST" };
            w.next(1, Fault::LateCommit, method, pain);
            w.work().await;
            w.withdraw(pain).await;
            w.settle_down().await;
            let stored = w.stored(pain).expect("it is held once");
            assert_eq!(stored["status"], "entered-in-error", "{means}");
            assert!(w.ehr().requests.keys().all(|request| !request.starts_with("DELETE")), "{means}");
        })
        .await;
    }
}

/// 17: rows that wait for each other still ask.
#[tokio::test]
async fn trace_17_a_lost_batch_does_not_wait_for_itself() {
    for (means, options) in every_means() {
        on_each(options, async |w| {
            let patients = w.known_patients(16).await;
            let mut pains = Vec::new();
            for patient in &patients {
                pains.push(w.observe(*patient, "3").await);
                pains.push(w.observe(*patient, "4").await);
            }
            // The first batch is recorded, and its node dies before a byte leaves.
            let mut frozen = w.node.gate.freeze(Which::new("POST", "\"batch\""), Stop::AfterTheCheck);
            let mut dead = w.node.step_aside();
            loop {
                tokio::select! {
                    () = frozen.stands() => break,
                    _ = &mut dead => dead = w.node.step_aside(),
                }
            }
            dead.abort();
            w.clock.forward(LEASE + SECOND);
            w.settle_down().await;
            for pain in &pains {
                assert_eq!(w.at_ehr(*pain).len(), 1, "{means}");
                w.is_delivered(*pain).await;
            }
            w.order_is_kept();
        })
        .await;
    }
}
