//! Pulls in trouble: sick EHRs, merged and denied patients, killed and frozen nodes, and the schedule that begins them.

use crate::gate::{Frozen, Stop, Which};
use crate::pull::{asks, complete, counts, current, hospital_patient, linked, searches, small_pages, state, there, writes, writes_many};
use crate::world::{DAY, HOUR, LEASE, MINUTE, SECOND, World, lacking, on_each, on_each_with, own_id};
use model::patient::LinkProblem;
use model::{Class, LinkState, PatientId};
use sandbox::{Fault, FaultPlan};
use serde_json::json;
use tokio::task::JoinHandle;

/// A pull of so many rows that stands still with a page in hand, the next after so many.
async fn in_the_middle(w: &World, rows: usize, pages: u32) -> (PatientId, Frozen, JoinHandle<()>) {
    let patient = linked(w, "p1").await;
    writes_many(w, "p1", rows);
    w.tenant.request_pull(w.clock.now(), patient).await.unwrap().unwrap();
    let mut stands = w.node.gate.freeze(Which::new("GET", "/Observation?").skip(pages), Stop::AfterTheAnswer);
    let under_way = w.node.step_aside();
    stands.stands().await;
    (patient, stands, under_way)
}

#[tokio::test]
async fn a_killed_pull_goes_on_from_its_checkpoint() {
    on_each(small_pages(&[]), async |w| {
        let (patient, _stands, killed) = in_the_middle(w, 300, 8).await;
        killed.abort();
        assert!(current(w, patient).await.len() > 100);
        let asked = searches(w).len();
        let second = w.second_node().await;
        w.work_on(&second).await;
        assert_eq!(state(w, patient).await.outcome, None, "its lease has not run out");
        w.clock.forward(LEASE + SECOND);
        w.work_on(&second).await;
        complete(&state(w, patient).await);
        assert_eq!(current(w, patient).await, there(w, "p1"));
        let went_on: Vec<String> =
            second.gate.passed().iter().filter(|p| p.path.contains("/Observation?")).map(|p| p.path.clone()).collect();
        assert!(went_on.len() < 12, "it began anew: {} requests after {asked}", went_on.len());
        assert!(went_on[0].contains("_lastUpdated=ge"));
    })
    .await;
}

#[tokio::test]
async fn a_frozen_pull_that_wakes_behind_its_lease_writes_nothing_any_more() {
    on_each(small_pages(&[]), async |w| {
        let (patient, stands, frozen) = in_the_middle(w, 60, 1).await;
        w.clock.forward(LEASE + SECOND);
        let second = w.second_node().await;
        w.work_on(&second).await;
        let done = state(w, patient).await;
        complete(&done);
        stands.wake();
        frozen.await.unwrap();
        let after = state(w, patient).await;
        assert_eq!((after.finished_at, after.watermark, counts(&after)), (done.finished_at, done.watermark, counts(&done)));
        assert_eq!(current(w, patient).await, there(w, "p1"));
    })
    .await;
}

#[tokio::test]
async fn what_the_ehr_withholds_makes_a_pull_incomplete_and_leaves_the_watermark() {
    on_each(small_pages(&[]), async |w| {
        let patient = linked(w, "p1").await;
        writes_many(w, "p1", 30);
        complete(&asks(w, patient).await);
        let watermark = state(w, patient).await.watermark;
        w.clock.forward(MINUTE);
        writes(w, "p1", "o030", "72");
        w.clock.forward(SECOND);
        w.faults(FaultPlan::none().always(Fault::PartialSearch));
        let short = asks(w, patient).await;
        assert_eq!(short.outcome.as_deref(), Some("pull_incomplete"));
        assert!(short.message.unwrap().contains("withholds"));
        assert_eq!(state(w, patient).await.watermark, watermark);
        w.well();
        complete(&asks(w, patient).await);
        assert_eq!(current(w, patient).await, there(w, "p1"));
    })
    .await;
}

/// A denial may look like "nothing there" (FHIR.md §1).
#[tokio::test]
async fn where_nothing_shows_and_nothing_can_be_read_nothing_is_taken_for_deleted() {
    on_each(small_pages(&[]), async |w| {
        let patient = linked(w, "p1").await;
        writes_many(w, "p1", 5);
        complete(&asks(w, patient).await);
        w.clock.forward(8 * DAY);
        w.faults(FaultPlan::none().always(Fault::EmptySearch));
        w.node.gate.answer(Which::new("GET", "/Observation/"), 99, 404, &[], "");
        let state = asks(w, patient).await;
        assert_eq!(state.outcome.as_deref(), Some("pull_incomplete"));
        assert_eq!(current(w, patient).await.len(), 5);
    })
    .await;
}

#[tokio::test]
async fn a_sick_ehr_costs_a_pull_its_time_and_nothing_else() {
    let sick = [
        Fault::Refuse,
        Fault::Status500,
        Fault::Status502,
        Fault::Status503,
        Fault::Status503RetryAfter,
        Fault::Status503Outcome,
        Fault::Status429,
        Fault::Html200,
        Fault::Html502,
        Fault::Html404,
        Fault::TruncatedJson,
    ];
    for fault in sick {
        on_each(small_pages(&[]), async |w| {
            // In the middle of it the EHR falls ill.
            let (patient, stands, step) = in_the_middle(w, 70, 1).await;
            w.faults(FaultPlan::none().always(fault));
            stands.wake();
            step.await.unwrap();
            let sick = state(w, patient).await;
            assert_eq!(sick.outcome.as_deref(), Some("pull_incomplete"), "{fault}");
            assert!(sick.message.is_some() && sick.watermark.is_none(), "{fault}");
            w.go_on_for(20 * SECOND).await;
            assert!(w.ehr().shown(fault) > 0);
            assert_eq!(w.as_we_know(patient).await.link.state, LinkState::Linked, "{fault}");
            w.well();
            w.go_on_for(HOUR).await;
            complete(&state(w, patient).await);
            assert_eq!(current(w, patient).await, there(w, "p1"), "{fault}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_dead_ehr_is_probed_by_one_pull_at_a_time() {
    on_each(own_id(), async |w| {
        let mut patients = Vec::new();
        for n in 0..5 {
            patients.push(linked(w, &format!("p{n}")).await);
        }
        w.node.gate.nobody_there(Which::new("GET", "/fhir/"), 9999, Class::Unreachable);
        for patient in &patients {
            w.tenant.request_pull(w.clock.now(), *patient).await.unwrap().unwrap();
        }
        w.go_on_for(2 * MINUTE).await;
        let runtime = w.tenant.runtime().await.unwrap();
        assert!(runtime.circuit_open && runtime.failures < 12, "{} failures", runtime.failures);
        w.node.gate.open();
        w.go_on_for(10 * MINUTE).await;
        for patient in patients {
            complete(&state(w, patient).await);
        }
        assert!(!w.tenant.runtime().await.unwrap().circuit_open);
    })
    .await;
}

#[tokio::test]
async fn a_merged_patient_is_held_and_the_survivor_at_the_end_of_the_chain_is_proposed() {
    on_each(own_id(), async |w| {
        let patient = linked(w, "old").await;
        writes(w, "old", "o1", "72");
        w.clock.forward(SECOND);
        complete(&asks(w, patient).await);
        let replaced = |id: &str, by: &str| {
            json!({"resourceType": "Patient", "id": id, "active": false,
            "link": [{"other": {"reference": format!("Patient/{by}")}, "type": "replaced-by"}]})
        };
        hospital_patient(w, &json!({"resourceType": "Patient", "id": "new", "birthDate": "1958-03-01", "name": [{"text": "Maria"}]}));
        hospital_patient(w, &replaced("middle", "new"));
        hospital_patient(w, &replaced("old", "middle"));
        writes(w, "old", "o2", "72");
        let held = asks(w, patient).await;
        assert_eq!(held.outcome.as_deref(), Some("patient_unlinked"));
        let link = w.as_we_know(patient).await.link;
        assert_eq!((link.state, link.problem), (LinkState::Held, Some(LinkProblem::ReplacedBy)));
        assert_eq!(link.candidates.iter().map(|c| c.ehr_id.as_str()).collect::<Vec<_>>(), ["new"]);
        assert_eq!(link.candidates[0].birth_date.as_deref(), Some("1958-03-01"));
        assert!(link.by_person(), "a person's link is held, not undone");
        assert_eq!(current(w, patient).await.len(), 1, "nothing is read into a held patient");
        // A merge that was a mistake and is taken back.
        hospital_patient(w, &json!({"resourceType": "Patient", "id": "old", "active": true}));
        complete(&asks(w, patient).await);
        assert_eq!(w.as_we_know(patient).await.link.state, LinkState::Linked);
        assert_eq!(current(w, patient).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_patient_that_is_gone_is_held_and_a_wrong_address_holds_nobody() {
    on_each(own_id(), async |w| {
        let patient = linked(w, "p1").await;
        w.faults(FaultPlan::none().always(Fault::Html404));
        let lost = asks(w, patient).await;
        assert_eq!(lost.outcome.as_deref(), Some("pull_incomplete"));
        assert_eq!(w.as_we_know(patient).await.link.state, LinkState::Linked);
        w.well();
        w.go_on_for(10 * MINUTE).await;
        complete(&state(w, patient).await);
        w.ward.sandbox.delete("Patient", "p1");
        asks(w, patient).await;
        let link = w.as_we_know(patient).await.link;
        assert_eq!((link.state, link.problem), (LinkState::Held, Some(LinkProblem::Gone)));
    })
    .await;
}

#[tokio::test]
async fn a_403_holds_that_patient_and_three_patients_in_a_row_hold_the_connection() {
    on_each(own_id(), async |w| {
        let mut patients = Vec::new();
        for n in 0..3 {
            patients.push(linked(w, &format!("p{n}")).await);
        }
        w.node.gate.answer(Which::new("GET", "/Patient/"), 9, 403, &[], "");
        assert_eq!(asks(w, patients[0]).await.outcome.as_deref(), Some("access_denied"));
        assert_eq!(w.as_we_know(patients[0]).await.link.problem, Some(LinkProblem::AccessDenied));
        assert!(!w.tenant.runtime().await.unwrap().auth_refused);
        asks(w, patients[1]).await;
        asks(w, patients[2]).await;
        assert!(w.tenant.runtime().await.unwrap().auth_refused);
        w.node.gate.open();
        // Looked at again by itself.
        w.go_on_for(7 * HOUR).await;
        for patient in patients {
            complete(&state(w, patient).await);
            assert_eq!(w.as_we_know(patient).await.link.state, LinkState::Linked);
        }
    })
    .await;
}

#[tokio::test]
async fn a_tenant_that_does_not_pull_is_not_pulled_and_goes_on_when_it_does() {
    for settings in [json!({"syncDirection": "push"}), json!({"enabled": false})] {
        on_each_with(own_id(), settings, async |w| {
            let patient = linked(w, "p1").await;
            let state_now = asks(w, patient).await;
            assert!(state_now.waiting && state_now.outcome.is_none());
            assert!(w.node.gate.passed().is_empty());
            w.configure(&w.tenant, &w.ward.base, json!({"enabled": true, "syncDirection": "pull"})).await;
            w.work().await;
            complete(&state(w, patient).await);
        })
        .await;
    }
}

/// What an admin says holds from the next page on.
#[tokio::test]
async fn a_pull_that_is_turned_off_asks_for_no_further_page_and_goes_on_from_there_when_it_is_turned_on() {
    for (off, word) in [(json!({"enabled": false}), "disabled"), (json!({"syncDirection": "push"}), "pull_off")] {
        on_each(small_pages(&[]), async |w| {
            let (patient, stands, under_way) = in_the_middle(w, 300, 8).await;
            w.configure(&w.tenant, &w.ward.base, off.clone()).await;
            let asked = searches(w).len();
            stands.wake();
            under_way.await.unwrap();
            w.go_on_for(HOUR).await;
            assert_eq!(searches(w).len(), asked, "it was turned off before");
            let off_now = state(w, patient).await;
            assert_eq!((off_now.outcome.as_deref(), off_now.waiting, off_now.failures), (Some(word), true, 0));
            assert_eq!(w.store.fleet().next_due().await.unwrap(), None, "a pull is due that nobody may begin");
            w.configure(&w.tenant, &w.ward.base, json!({"enabled": true, "syncDirection": "bidirectional"})).await;
            w.work().await;
            complete(&state(w, patient).await);
            assert_eq!(current(w, patient).await, there(w, "p1"));
            assert!(searches(w).len() < asked + 12, "it began anew: {} requests after {asked}", searches(w).len() - asked);
        })
        .await;
    }
}

/// A walk is one account's: another may see other rows, and would take what it may not see for deleted.
#[tokio::test]
async fn a_pull_under_way_goes_on_through_a_change_of_settings_and_begins_anew_under_another_account() {
    for (settings, anew) in [(json!({"maxRetries": 5}), false), (json!({"authConfig": {"apiKey": "another"}}), true)] {
        on_each(small_pages(&[]), async |w| {
            let (patient, stands, under_way) = in_the_middle(w, 300, 8).await;
            w.configure(&w.tenant, &w.ward.base, settings.clone()).await;
            let asked = searches(w).len();
            stands.wake();
            under_way.await.unwrap();
            assert_eq!(state(w, patient).await.waiting, anew);
            w.work().await;
            let done = state(w, patient).await;
            complete(&done);
            assert_eq!(done.failures, 0);
            assert_eq!(current(w, patient).await, there(w, "p1"));
            let more = searches(w).len() - asked;
            assert_eq!(more >= 15, anew, "{more} requests after {asked}");
        })
        .await;
    }
}

#[tokio::test]
async fn the_schedule_pulls_everybody_once_over_all_nodes_and_missed_runs_are_one() {
    use ponte_sync::schedule::{Job, Schedules, run_due};
    on_each(own_id(), async |w| {
        let patients = [linked(w, "p1").await, linked(w, "p2").await];
        writes(w, "p1", "o1", "72");
        let second = w.second_node().await;
        let schedules = || Schedules::parse("0 * * * *", "0 */6 * * *", "0 3 * * *", "America/Sao_Paulo").unwrap();
        let (one, two) = (schedules(), schedules());
        assert_eq!(run_due(&w.node.engine, &one, w.clock.now()).await.unwrap(), []);
        assert_eq!(run_due(&second.engine, &two, w.clock.now()).await.unwrap(), []);
        // Nobody was there for three days.
        w.clock.forward(3 * DAY);
        let now = w.clock.now();
        let (a, b) = tokio::join!(run_due(&w.node.engine, &one, now), run_due(&second.engine, &two, now));
        let mut ran: Vec<Job> = [a.unwrap(), b.unwrap()].concat();
        ran.sort();
        assert_eq!(ran, [Job::Sweep, Job::Pull, Job::Daily, Job::Prune]);
        assert_eq!(run_due(&w.node.engine, &schedules(), now).await.unwrap(), [], "a node that starts now finds it done");
        w.work().await;
        for patient in patients {
            complete(&state(w, patient).await);
        }
        let next = one.next_after(Job::Pull, now).unwrap();
        w.clock.to(next);
        assert!(run_due(&second.engine, &two, next).await.unwrap().contains(&Job::Pull));
        assert!(!run_due(&w.node.engine, &one, next).await.unwrap().contains(&Job::Pull));
    })
    .await;
}

#[tokio::test]
async fn rows_changed_for_ever_under_the_list_end_as_incomplete_and_not_as_a_circle() {
    on_each(lacking(&[Fault::NoLastUpdated]), async |w| {
        let patient = linked(w, "p1").await;
        writes_many(w, "p1", 250);
        w.faults(FaultPlan::none().always(Fault::RowsChangeWhilePaged));
        let state = asks(w, patient).await;
        assert_eq!(state.outcome.as_deref(), Some("pull_incomplete"));
        assert_eq!(current(w, patient).await.len(), 250);
        assert!(searches(w).len() < 100);
    })
    .await;
}
