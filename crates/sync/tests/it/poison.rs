//! Law 6: a bad record costs its neighbours nothing. Batches, whole and in parts.

use crate::gate::Which;
use crate::world::{HOUR, MINUTE, World, bare, draft, every_means, lacking, on_each, own_id};
use model::{HeldReason, ObservationDraft, ObservationId, State};
use sandbox::{Fault, FaultPlan, Options};
use std::collections::BTreeSet;

/// Each patient observes; one of them what the EHR refuses.
async fn with_a_culprit(w: &World, patients: usize) -> (ObservationId, Vec<ObservationId>) {
    let patients = w.known_patients(patients).await;
    let mut good = Vec::new();
    for patient in &patients[1..] {
        good.push(w.observe(*patient, "3").await);
    }
    // No such status: refused by any strict server, and by nobody of us.
    let culprit = w.observe(patients[0], "4").await;
    let behind = w.observe(patients[0], "5").await;
    good.push(behind);
    (culprit, good)
}

async fn all_arrived(w: &World, ids: &[ObservationId], said: &str) {
    for id in ids {
        assert_eq!(w.effects(*id).len(), 1, "{said}");
        w.is_delivered(*id).await;
    }
}

/// Answers the culprit's entry or its own request with 422.
fn refuses(w: &World, culprit: ObservationId) {
    let refused =
        r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid","details":{"text":"Not this one."}}]}"#;
    for method in ["PUT", "POST"] {
        w.node.gate.answer(Which::new(method, culprit), 100, 422, &[("content-type", "application/fhir+json")], refused);
    }
}

/// Whatever carries the culprit is refused whole: the batch is halved until it stands alone.
#[tokio::test]
async fn a_batch_that_is_refused_whole_is_halved_until_the_culprit_stands_alone() {
    for (means, options) in every_means() {
        on_each(options, async |w| {
            let (culprit, good) = with_a_culprit(w, 30).await;
            refuses(w, culprit);
            w.settle_down().await;
            assert!(w.node.gate.count("POST", "\"batch\"") > 1, "{means}: nothing went in a batch");
            let delivery = w.delivery(culprit).await;
            assert_eq!(delivery.state, State::Dead, "{means}: {delivery:?}");
            assert!(delivery.message.unwrap().contains("Not this one."));
            all_arrived(w, &good, means).await;
            w.holds_nothing(culprit);
            w.order_is_kept();
        })
        .await;
    }
}

/// One entry of a batch fails: each is judged on its own.
#[tokio::test]
async fn one_failing_entry_of_a_batch_concerns_that_entry_alone() {
    for (means, options) in every_means() {
        on_each(options, async |w| {
            let patients = w.known_patients(30).await;
            w.faults(FaultPlan::none().next(Fault::BatchEntryFails, 3));
            for patient in &patients {
                w.observe(*patient, "3").await;
            }
            w.settle_down().await;
            assert_eq!(w.ehr().shown(Fault::BatchEntryFails), 3, "{means}");
            let mut dead = 0;
            for (id, _) in w.all_observed() {
                let delivery = w.delivery(id).await;
                if delivery.state == State::Dead {
                    dead += 1;
                    assert!(delivery.attempts.iter().any(|a| a.status == Some(422)), "{delivery:?}");
                } else {
                    assert_eq!(w.effects(id).len(), 1, "{means}: {delivery:?}");
                }
            }
            assert_eq!(dead, 1, "{means}: of 500, 409 and 422 only the last is refused for good");
        })
        .await;
    }
}

/// An unequal number of entries, or a status without digits, is uncertain; and one search decides.
#[tokio::test]
async fn a_batch_answer_that_cannot_be_matched_is_asked_about_and_doubles_nothing() {
    for fault in
        [Fault::BatchWrongCount, Fault::BatchStatusWithoutDigits, Fault::CutAfterCommit, Fault::LateCommit, Fault::EntriesWithoutResource]
    {
        // What a lost batch leaves behind differs by means; what an unreadable answer says does not.
        let lost = matches!(fault, Fault::CutAfterCommit | Fault::LateCommit);
        for (means, options) in every_means().into_iter().take(if lost { 3 } else { 1 }) {
            on_each(options, async |w| {
                let patients = w.known_patients(20).await;
                w.late_commit_after(20_000);
                let batches = w.node.gate.count("POST", "\"batch\"");
                w.faults(FaultPlan::none().script(crate::world::script(2, fault, "POST", "\"batch\"")));
                for patient in &patients {
                    w.observe(*patient, "3").await;
                }
                w.settle_down().await;
                assert!(w.node.gate.count("POST", "\"batch\"") > batches, "{means}: nothing went in a batch");
                assert_eq!(w.ehr().shown(fault), 2, "{means}, {fault}");
                for (id, _) in w.all_observed() {
                    assert_eq!(w.at_ehr(id).len(), 1, "{means}, {fault}");
                    w.is_delivered(id).await;
                }
            })
            .await;
        }
    }
}

/// Rule 11: after a batch whose answer was lost the next one is half as large at most.
#[tokio::test]
async fn after_an_uncertain_batch_the_next_ones_are_smaller() {
    for fault in [Fault::CutAfterCommit, Fault::BatchWrongCount] {
        on_each(own_id(), async |w| {
            let patients = w.known_patients(100).await;
            let before = w.node.gate.passed().len();
            w.next(1, fault, "POST", "\"batch\"");
            for patient in &patients {
                w.observe(*patient, "3").await;
            }
            w.settle_down().await;
            assert_eq!(w.ehr().shown(fault), 1);
            let sizes: Vec<usize> = w.node.gate.passed()[before..]
                .iter()
                .filter(|passed| passed.is("POST", "\"batch\""))
                .map(|passed| serde_json::from_slice::<serde_json::Value>(&passed.body).unwrap()["entry"].as_array().unwrap().len())
                .collect();
            let [lost, next, ..] = sizes[..] else { panic!("{sizes:?}") };
            assert!(lost >= 4 && next <= lost / 2, "{fault}: {sizes:?}");
            for (id, _) in w.all_observed() {
                w.is_delivered(id).await;
            }
        })
        .await;
    }
}

/// 413: the batch is halved; no batches at all: single requests.
#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_and_no_batch_at_all_means_single_requests() {
    on_each(lacking(&[Fault::TooManyEntries413]), async |w| {
        w.ward.sandbox.change_settings(|s| s.max_entries = 2);
        let patients = w.known_patients(24).await;
        for patient in &patients {
            w.observe(*patient, "3").await;
        }
        w.settle_down().await;
        assert!(w.ehr().shown(Fault::TooManyEntries413) > 0);
        for (id, _) in w.all_observed() {
            assert_eq!(w.effects(id).len(), 1);
            w.is_delivered(id).await;
        }
    })
    .await;
    on_each(lacking(&[Fault::NoBatch]), async |w| {
        let patients = w.known_patients(24).await;
        for patient in &patients {
            w.observe(*patient, "3").await;
        }
        w.settle_down().await;
        let tried = w.ehr().shown(Fault::NoBatch);
        assert!((1..=8).contains(&tried), "an EHR without batches was offered {tried} of them");
        for (id, _) in w.all_observed() {
            assert_eq!(w.effects(id).len(), 1);
            w.is_delivered(id).await;
        }
    })
    .await;
}

/// A batch never holds two rows of one patient, nor one identifier twice, nor a Patient with what needs it.
#[tokio::test]
async fn a_batch_never_holds_one_identifier_twice_nor_a_patient_with_what_needs_it() {
    on_each(own_id(), async |w| {
        let patients = w.known_patients(12).await;
        for _ in 0..3 {
            for patient in &patients {
                let pain = w.observe(*patient, "3").await;
                w.correct(pain, "4").await;
            }
            w.patient().await;
        }
        w.settle_down().await;
        let mut batches = 0;
        for passed in w.node.gate.passed().iter().filter(|p| p.is("POST", "\"batch\"")) {
            batches += 1;
            let bundle: serde_json::Value = serde_json::from_slice(&passed.body).unwrap();
            let entries = bundle["entry"].as_array().unwrap();
            let mut identifiers: Vec<String> = entries.iter().map(|e| e["resource"]["identifier"][0]["value"].to_string()).collect();
            assert!(entries.iter().all(|e| e["resource"]["resourceType"] == "Observation"));
            let all = identifiers.len();
            identifiers.sort();
            identifiers.dedup();
            assert_eq!(identifiers.len(), all, "one identifier twice in a Bundle");
            let subjects: BTreeSet<String> = entries.iter().map(|e| e["resource"]["subject"]["reference"].to_string()).collect();
            assert_eq!(subjects.len(), all, "two rows of one patient in a Bundle");
        }
        assert!(batches > 0);
    })
    .await;
}

/// What we ourselves refuse to send: no valid resource, or a code that means something else.
#[tokio::test]
async fn a_code_that_means_something_else_is_not_sent_and_stops_nobody() {
    on_each(bare(), async |w| {
        let patient = w.known_patient().await;
        let wrong = ObservationDraft { code: Some("8331-1".to_owned()), display: Some("Náusea".to_owned()), ..draft(patient, "4") };
        let once = w.tenant.create_observations(w.clock.now(), vec![(wrong, Some(HeldReason::CodeMisused))], None).await.unwrap();
        let store::idempotency::Once::Done(accepted) = once else { panic!() };
        let store::Accepted::Stored(nausea) = &accepted[0] else { panic!() };
        let next = w.observe(patient, "5").await;
        w.settle_down().await;
        w.holds_nothing(nausea.id);
        let delivery = w.delivery(nausea.id).await;
        assert_eq!(delivery.state, State::Held(HeldReason::CodeMisused));
        w.holds(next, "5");
    })
    .await;
}

#[tokio::test]
async fn what_is_no_valid_resource_is_dead_before_a_byte_leaves() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let wrong = ObservationDraft { status: "quite-final".to_owned(), ..draft(patient, "4") };
        let invalid = w.accept_observation(&w.tenant, wrong).await;
        let next = w.observe(patient, "5").await;
        w.settle_down().await;
        w.holds_nothing(invalid);
        assert_eq!(w.node.gate.count("PUT", &invalid.to_string()), 0);
        let delivery = w.delivery(invalid).await;
        assert_eq!(delivery.state, State::Dead, "{delivery:?}");
        assert!(delivery.message.unwrap().contains("Observation.status"));
        w.holds(next, "5");
    })
    .await;
}

/// A row that takes its process down with it: counted at claim, alone after two, dead after five.
#[tokio::test]
async fn a_row_that_kills_its_process_goes_alone_and_is_dead_after_five() {
    for db in testing::databases().await {
        let w = World::begin(db, Options::default(), serde_json::json!({})).await;
        let patients = w.known_patients(8).await;
        let killer = w.observe(patients[0], "3").await;
        let mut good = Vec::new();
        for patient in &patients[1..] {
            good.push(w.observe(*patient, "4").await);
        }
        for _ in 0..12 {
            // Whoever is about to send the killer dies.
            let mut puts = w.node.gate.freeze(Which::new("PUT", killer), crate::gate::Stop::AfterTheCheck);
            let mut batches = w.node.gate.freeze(Which::new("POST", killer), crate::gate::Stop::AfterTheCheck);
            for _ in 0..40 {
                let step = w.node.step_aside();
                tokio::select! {
                    () = puts.stands() => { step.abort(); break }
                    () = batches.stands() => { step.abort(); break }
                    () = w.until(|| step.is_finished()) => {}
                }
                w.clock.forward(5_000);
            }
            w.node.gate.open();
            w.clock.forward(2 * MINUTE);
        }
        w.go_on_for(HOUR).await;
        let delivery = w.delivery(killer).await;
        assert_eq!(delivery.state, State::Dead, "{delivery:?}");
        let kills = delivery.attempts.iter().filter(|a| a.means.is_some()).count();
        assert!(kills <= 6, "it killed {kills} processes");
        for id in good {
            w.is_delivered(id).await;
            assert_eq!(w.at_ehr(id).len(), 1);
        }
    }
}
