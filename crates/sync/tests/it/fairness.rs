//! Fresh before backlog, one tenant's trouble not another's, one patient's not another's.

use crate::gate::{Stop, Which};
use crate::world::{MINUTE, SECOND, Ward, World, bare, on_each, on_each_with, own_id};
use model::{PatientId, TenantId};
use ponte_sync::Worked;
use sandbox::{Fault, FaultPlan, Options};
use serde_json::json;
use store::Tenant;
use store::idempotency::Once;

/// A fresh observation overtakes its own tenant's backlog.
#[tokio::test]
async fn a_fresh_observation_overtakes_a_backlog_of_300() {
    on_each(own_id(), async |w| {
        let patients = w.known_patients(12).await;
        w.configure(&w.tenant, &w.ward.base, json!({"enabled": false})).await;
        for n in 0..300_usize {
            w.observe(patients[n % 10], "2").await;
        }
        // Enabled again, all of it is due at once, as backlog.
        w.configure(&w.tenant, &w.ward.base, json!({"enabled": true})).await;
        let fresh = w.observe(patients[11], "9").await;
        let mut claims = 0;
        while w.effects(fresh).is_empty() {
            assert_eq!(w.node.step().await, Worked::Something);
            claims += 1;
            assert!(claims <= 8, "the fresh observation waited for {claims} claims");
        }
        w.settle_down().await;
        for (id, _) in w.all_observed() {
            assert_eq!(w.effects(id).len(), 1);
        }
        w.order_is_kept();
    })
    .await;
}

/// … within its own lane too: the same patient's neighbours.
#[tokio::test]
async fn fresh_goes_before_backlog_in_one_lane_but_never_before_its_own_patients_earlier_ones() {
    on_each(own_id(), async |w| {
        let patients = w.known_patients(40).await;
        w.configure(&w.tenant, &w.ward.base, json!({"enabled": false})).await;
        for patient in &patients {
            w.observe(*patient, "2").await;
            w.observe(*patient, "3").await;
        }
        w.configure(&w.tenant, &w.ward.base, json!({"enabled": true})).await;
        let fresh = w.observe(patients[0], "9").await;
        w.settle_down().await;
        w.order_is_kept();
        let mut all: Vec<u64> = w.first_written().into_values().collect();
        all.sort_unstable();
        let seq = w.effects(fresh)[0].seq;
        let place = all.iter().filter(|other| **other > all[40 - 1]).position(|other| *other == seq).unwrap();
        assert!(place < 60, "it came as number {place} of 81");
    })
    .await;
}

/// … and within one lane that holds more patients than one claim takes.
#[tokio::test]
async fn fresh_goes_with_the_first_claim_of_a_lane_that_has_more_backlog_than_one_claim_takes() {
    on_each_with(own_id(), json!({"batchSize": 1}), async |w| {
        let patients = w.known_patients(128).await;
        w.configure(&w.tenant, &w.ward.base, json!({"enabled": false, "batchSize": 1})).await;
        let (fresh, others) = patients.split_first().unwrap();
        for patient in others {
            w.observe(*patient, "2").await;
        }
        w.configure(&w.tenant, &w.ward.base, json!({"enabled": true, "batchSize": 1})).await;
        w.clock.forward(SECOND);
        let fresh = w.observe(*fresh, "9").await;
        // Eight lanes: each is claimed once before one is claimed again.
        let mut claims = 0;
        while w.effects(fresh).is_empty() {
            assert_eq!(w.node.step().await, Worked::Something);
            claims += 1;
            assert!(claims <= 8, "its lane was claimed, and others went first");
        }
        assert!(w.all_observed().iter().any(|(id, _)| w.effects(*id).is_empty()), "the backlog was gone before");
        w.settle_down().await;
        for (id, _) in w.all_observed() {
            w.is_delivered(id).await;
        }
    })
    .await;
}

async fn tenant_with(w: &World, name: &str, ward: &Ward) -> (Tenant, PatientId) {
    let tenant = w.store.tenant(&TenantId::new(name).unwrap());
    w.configure(&tenant, &ward.base, json!({"requestTimeout": 500})).await;
    let new = store::NewPatient { draft: w.somebody(), link: None };
    let Once::Done(patient) = tenant.create_patient(w.clock.now(), new, None).await.unwrap().unwrap() else { panic!() };
    (tenant, patient.id)
}

/// A hanging EHR of one tenant does not delay another.
#[tokio::test]
async fn a_hanging_ehr_does_not_delay_another_tenant() {
    on_each_with(own_id(), json!({"requestTimeout": 500}), async |w| {
        let other = Ward::open(Options::default(), &w.clock).await;
        let (clinic, patient) = tenant_with(w, "clinica", &other).await;
        let first = w.observe_for(&clinic, patient, "1").await;
        let stuck = w.known_patients(3).await;
        assert_eq!(other.sandbox.ledger().by_identifier(crate::judge::SYSTEM, &first.to_string()).len(), 1);
        w.ward.sandbox.change_settings(|s| s.hang_ms = 1500);
        w.faults(FaultPlan::none().always(Fault::Hang));
        for patient in &stuck {
            for _ in 0..10 {
                w.observe(*patient, "3").await;
            }
        }
        let asked = w.clock.now();
        let pain = w.observe_for(&clinic, patient, "7").await;
        // The other tenant's lane is claimed before the stuck tenant has had its lanes a second time.
        let mut claims = 0;
        while other.sandbox.ledger().by_identifier(crate::judge::SYSTEM, &pain.to_string()).is_empty() {
            assert_eq!(w.node.step().await, Worked::Something);
            claims += 1;
            assert!(claims <= 4, "the neighbour waited for {claims} claims");
        }
        assert_eq!(w.clock.now(), asked);
        // And with slots, while a claim of the stuck tenant is still under way.
        let mut frozen = w.node.gate.freeze(Which::new("GET", &w.ward.base), Stop::BeforeTheCheck);
        w.clock.forward(10 * SECOND);
        let stuck_step = w.node.step_aside();
        tokio::select! { () = frozen.stands() => {} () = w.until(|| stuck_step.is_finished()) => {} }
        let again = w.observe_for(&clinic, patient, "8").await;
        w.work().await;
        assert_eq!(other.sandbox.ledger().by_identifier(crate::judge::SYSTEM, &again.to_string()).len(), 1);
        frozen.wake();
        stuck_step.await.unwrap();
        w.well();
        w.go_on_for(20 * MINUTE).await;
        for (id, _) in w.all_observed() {
            assert_eq!(w.at_ehr(id).len(), 1);
        }
    })
    .await;
}

/// While one patient's answer is uncertain, the others of its lane go on.
#[tokio::test]
async fn an_uncertain_row_stops_its_patient_and_nobody_else() {
    on_each(bare(), async |w| {
        let patients = w.known_patients(20).await;
        let lost = w.observe(patients[0], "3").await;
        w.next(1, Fault::CutBeforeCommit, "POST", lost);
        w.work().await;
        let behind = w.observe(patients[0], "4").await;
        let mut others = Vec::new();
        for patient in &patients[1..] {
            others.push(w.observe(*patient, "5").await);
        }
        w.go_on_for(5 * SECOND).await;
        w.holds_nothing(behind);
        for id in others {
            w.holds(id, "5");
        }
        w.settle_down().await;
        w.holds(lost, "3");
        w.holds(behind, "4");
        w.order_is_kept();
    })
    .await;
}

/// Two sweeps and two sync-alls at once double nothing.
#[tokio::test]
async fn overlapping_sweeps_and_runs_double_nothing() {
    on_each(bare(), async |w| {
        let patients = w.known_patients(6).await;
        w.configure(&w.tenant, &w.ward.base, json!({"syncFrequency": "hourly"})).await;
        for patient in &patients {
            w.observe(*patient, "3").await;
        }
        w.work().await;
        let waiting = w.observed.lock().unwrap().last().copied().unwrap().0;
        w.holds_nothing(waiting);
        let now = w.clock.now();
        let fleet = w.store.fleet();
        let second = w.second_node().await;
        let (a, b, c, d) =
            tokio::join!(fleet.sweep(now, false), fleet.sweep(now, false), w.tenant.sync_all(now, "a"), w.tenant.sync_all(now, "b"));
        a.unwrap();
        b.unwrap();
        let (c, d) = (c.unwrap(), d.unwrap());
        let (one, two) = (w.node.step_aside(), second.step_aside());
        one.await.unwrap();
        two.await.unwrap();
        w.go_on(&[&w.node, &second], 2 * MINUTE).await;
        for (id, _) in w.all_observed() {
            assert_eq!(w.effects(id).len(), 1);
            w.is_delivered(id).await;
        }
        for run in [c, d] {
            let run = w.tenant.run(w.clock.now(), run.id).await.unwrap().unwrap();
            assert_eq!((run.state, run.progress.waiting), (store::RunState::Finished, 0));
        }
    })
    .await;
}
