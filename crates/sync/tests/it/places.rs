//! `maxConcurrency` counts lanes that are at the EHR, however many are read and written down meanwhile.

use crate::gate::{Frozen, Stop, Which};
use crate::world::{MINUTE, World, on_each_with, own_id};
use model::ObservationId;
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Each patient observed once more: something is due in every lane.
async fn observe_all(w: &World, patients: &[model::PatientId]) -> Vec<ObservationId> {
    let mut all = Vec::new();
    for patient in patients {
        all.push(w.observe(*patient, "4").await);
    }
    all
}

async fn all_arrive(w: &World, ids: Vec<ObservationId>) {
    w.settle_down().await;
    for id in ids {
        w.is_delivered(id).await;
    }
}

/// On SQLite whoever is leased waits for his place by then; nothing that he does before takes more turns of this one thread.
async fn let_others_come_to_the_door() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

/// One lane at the EHR's door, stopped; and beside it one that is leased and waits (on SQLite; elsewhere there is nothing to lease).
struct TwoLanes {
    first: Frozen,
    leads: JoinHandle<()>,
    waits: JoinHandle<()>,
    passed_before: usize,
}

impl TwoLanes {
    async fn begin(w: &World) -> Self {
        Self::at(w, Which::new("POST", &w.ward.base), Stop::BeforeTheCheck).await
    }

    async fn at(w: &World, which: Which, stop: Stop) -> Self {
        let passed_before = w.node.gate.passed().len();
        let mut first = w.node.gate.freeze(which, stop);
        let leads = w.node.step_aside();
        first.stands().await;
        let waits = w.node.step_aside();
        let_others_come_to_the_door().await;
        Self { first, leads, waits, passed_before }
    }

    /// Both end; how many requests went in all.
    async fn go_on(self, w: &World) -> usize {
        self.first.wake();
        self.leads.await.unwrap();
        self.waits.await.unwrap();
        w.node.gate.passed().len() - self.passed_before
    }
}

/// Those of which no attempt is on record.
async fn not_begun(w: &World, ids: &[ObservationId]) -> Vec<ObservationId> {
    let mut such = Vec::new();
    for id in ids {
        if w.delivery(*id).await.attempts.is_empty() {
            such.push(*id);
        }
    }
    such
}

/// A node with sixteen workers sends no more batches at once than the hospital's admin allows.
#[tokio::test]
async fn no_more_lanes_are_at_an_ehr_at_once_than_max_concurrency_says() {
    for most in [1, 2] {
        on_each_with(own_id(), json!({"maxConcurrency": most}), async |w| {
            let patients = w.known_patients(40).await;
            let _ = w.node.gate.most_at_once();
            let ids = observe_all(w, &patients).await;
            let mut answered: Vec<Frozen> =
                (0..most).map(|_| w.node.gate.freeze(Which::new("POST", &w.ward.base), Stop::AfterTheAnswer)).collect();
            let ended = CancellationToken::new();
            let node = tokio::spawn(w.node.engine.clone().run(16, ended.clone()));
            for one in &mut answered {
                one.stands().await;
            }
            let_others_come_to_the_door().await;
            answered.into_iter().for_each(Frozen::wake);
            w.until(|| ids.iter().all(|id| !w.effects(*id).is_empty())).await;
            ended.cancel();
            node.await.unwrap();
            let there = w.node.gate.most_at_once();
            assert_eq!(there, most, "{there} batches were at the EHR at once");
            all_arrive(w, ids).await;
        })
        .await;
    }
}

/// A lane that waits for its place, having read its rows when all was well, does not knock at an EHR that has failed meanwhile.
#[tokio::test]
async fn who_waited_for_a_place_does_not_try_an_ehr_that_failed_meanwhile() {
    on_each_with(own_id(), json!({"maxConcurrency": 1}), async |w| {
        let patients = w.known_patients(80).await;
        let ids = observe_all(w, &patients).await;
        let two = TwoLanes::begin(w).await;
        w.faults(sandbox::FaultPlan::none().always(sandbox::Fault::Status503RetryAfter));
        let tried = two.go_on(w).await;
        assert_eq!(tried, 1, "the EHR had said that it is not available, and was asked {tried} times");
        w.well();
        all_arrive(w, ids).await;
    })
    .await;
}

/// … nor writes for a patient that a person has linked anew meanwhile, or into an EHR that an admin has turned off.
#[tokio::test]
async fn who_waited_for_a_place_goes_by_what_holds_then() {
    for by_person in [true, false] {
        on_each_with(own_id(), json!({"maxConcurrency": 1}), async |w| {
            let patients = w.known_patients(80).await;
            let mut links = Vec::new();
            for patient in &patients {
                links.push(w.ehr_id(*patient).await);
            }
            let ids = observe_all(w, &patients).await;
            let two = TwoLanes::begin(w).await;
            if by_person {
                for patient in &patients {
                    w.tenant.link_by_person(w.clock.now(), *patient, None, "ana").await.unwrap().unwrap();
                }
            } else {
                w.configure(&w.tenant, &w.ward.base, json!({"enabled": false, "maxConcurrency": 1})).await;
            }
            let tried = two.go_on(w).await;
            assert_eq!(tried, 1, "what was on its way went, and {} more", tried - 1);
            for (patient, link) in patients.iter().zip(links).filter(|_| by_person) {
                let link = model::EhrId::new(link).unwrap();
                w.tenant.link_by_person(w.clock.now(), *patient, Some(link), "ana").await.unwrap().unwrap();
            }
            w.configure(&w.tenant, &w.ward.base, json!({"enabled": true, "maxConcurrency": 1})).await;
            all_arrive(w, ids).await;
        })
        .await;
    }
}

/// … nor so much as reads a Patient in an EHR that an admin has turned off.
#[tokio::test]
async fn who_waited_for_a_place_reads_nothing_where_the_connection_was_turned_off() {
    on_each_with(own_id(), json!({"maxConcurrency": 1}), async |w| {
        let patients = w.known_patients(80).await;
        w.clock.to(w.clock.now().plus_ms(11 * MINUTE));
        let ids = observe_all(w, &patients).await;
        let two = TwoLanes::at(w, Which::new("GET", "/Patient/"), Stop::AfterTheAnswer).await;
        w.configure(&w.tenant, &w.ward.base, json!({"enabled": false, "maxConcurrency": 1})).await;
        let read = w.node.gate.passed().len();
        two.go_on(w).await;
        assert_eq!(w.node.gate.last(w.node.gate.passed().len() - read), Vec::<String>::new(), "it was turned off before");
        w.configure(&w.tenant, &w.ward.base, json!({"enabled": true, "maxConcurrency": 1})).await;
        all_arrive(w, ids).await;
    })
    .await;
}

/// … nor brings what was withdrawn meanwhile, for no byte of it had left, and of what was corrected the newest alone.
#[tokio::test]
async fn who_waited_for_a_place_brings_neither_what_was_withdrawn_nor_what_was_corrected() {
    on_each_with(own_id(), json!({"maxConcurrency": 1}), async |w| {
        let patients = w.known_patients(80).await;
        let ids = observe_all(w, &patients).await;
        let two = TwoLanes::begin(w).await;
        let waiting = not_begun(w, &ids).await;
        let (withdrawn, corrected) = waiting.split_at(waiting.len() / 2);
        assert!(!withdrawn.is_empty() && !corrected.is_empty());
        for id in withdrawn {
            w.withdraw(*id).await;
        }
        for id in corrected {
            w.correct(*id, "9").await;
        }
        two.go_on(w).await;
        w.settle_down().await;
        for id in withdrawn {
            assert_eq!(w.effects(*id).len(), 0, "it was withdrawn before a byte of it had left");
        }
        for id in corrected {
            assert_eq!(w.effects(*id).len(), 1, "it was corrected before a byte of it had left");
        }
    })
    .await;
}

/// A node that is told to end begins nothing more: neither for who waits nor for who has a second round.
#[tokio::test]
async fn a_node_that_ends_lets_nobody_begin_who_waited_for_a_place() {
    on_each_with(own_id(), json!({"maxConcurrency": 1}), async |w| {
        let patients = w.known_patients(80).await;
        let ids = observe_all(w, &patients).await;
        let before = w.node.gate.passed().len();
        let mut first = w.node.gate.freeze(Which::new("POST", &w.ward.base), Stop::AfterTheAnswer);
        let ended = CancellationToken::new();
        let node = tokio::spawn(w.node.engine.clone().run(16, ended.clone()));
        first.stands().await;
        let_others_come_to_the_door().await;
        ended.cancel();
        first.wake();
        node.await.unwrap();
        assert_eq!(w.node.gate.passed().len() - before, 1);
        all_arrive(w, ids).await;
    })
    .await;
}

/// A hospital whose EHR hangs takes no worker from the others but those that wait for its answers.
#[tokio::test]
async fn who_waits_for_a_place_gives_its_worker_to_others() {
    on_each_with(own_id(), json!({"maxConcurrency": 1}), async |w| {
        let patients = w.known_patients(80).await;
        let ids = observe_all(w, &patients).await;
        let other = crate::world::Ward::open(sandbox::Options::default(), &w.clock).await;
        let clinic = w.store.tenant(&model::TenantId::new("clinica").unwrap());
        w.configure(&clinic, &other.base, json!({})).await;
        let mut stuck = w.node.gate.freeze(Which::new("POST", &w.ward.base), Stop::AfterTheAnswer);
        let ended = CancellationToken::new();
        // Two workers: one is with the hospital that hangs, and one is for everybody else.
        let node = tokio::spawn(w.node.engine.clone().run(2, ended.clone()));
        stuck.stands().await;
        let new = store::NewPatient { draft: w.somebody(), link: None };
        let made = clinic.create_patient(w.clock.now(), new, None).await.unwrap().unwrap();
        let store::idempotency::Once::Done(patient) = made else { panic!() };
        let pain = w.observe_for(&clinic, patient.id, "7").await;
        w.until(|| !other.sandbox.ledger().by_identifier(crate::judge::SYSTEM, &pain.to_string()).is_empty()).await;
        stuck.wake();
        w.until(|| ids.iter().all(|id| !w.effects(*id).is_empty())).await;
        ended.cancel();
        node.await.unwrap();
        assert_eq!(Arc::strong_count(&w.node.engine), 1, "nobody works on after the end");
        w.settle_down().await;
    })
    .await;
}
