//! PRODUCT, law 3 and "Patients": a link is exact or a person's decision.

use crate::gate::{FHIR, Stop, Which, outcome};
use crate::judge::SYSTEM;
use crate::world::{DAY, HOUR, MINUTE, World, cpf, every_means, on_each, own_id};
use model::patient::LinkProblem;
use model::{Cns, EhrId, HeldReason, LinkState, PatientDraft, PatientId, ResourceKey, State};
use sandbox::{Author, Fault, FaultPlan};
use serde_json::{Value, json};
use store::DeliveryFilter;

/// The systems under which EHRs know a CPF: the preferred one, the official alias, and wild ones (CODES-AND-BRAZIL §6).
const CPF_SYSTEMS: [&str; 7] = [
    "https://saude.gov.br/fhir/sid/cpf",
    "http://rnds.saude.gov.br/fhir/r4/NamingSystem/cpf",
    "https://rnds.saude.gov.br/fhir/r4/NamingSystem/cpf",
    "http://www.saude.gov.br/fhir/r4/NamingSystem/cpf",
    "https://rnds-fhir.saude.gov.br/NamingSystem/cpf",
    "urn:oid:2.16.840.1.113883.13.237",
    "http://www.brazil.gov.br/cpf",
];
const CNS: &str = "700001000000006";
const CNS_SYSTEM: &str = "https://saude.gov.br/fhir/sid/cns";

/// The hospital has this person on file.
fn on_file(w: &World, id: &str, draft: &PatientDraft, identifiers: Value) -> Value {
    let resource = json!({
        "resourceType": "Patient", "id": id, "active": true, "identifier": identifiers,
        "name": [{"text": draft.name}], "birthDate": draft.birth_date, "gender": "female",
    });
    w.ward.sandbox.put_resource(&resource.to_string()).unwrap();
    resource
}

fn by_cpf(draft: &PatientDraft) -> Value {
    json!([{"system": CPF_SYSTEMS[0], "value": draft.cpf.as_ref().unwrap().digits()}])
}

/// Somebody whom the hospital knows by CPF, linked.
async fn linked(w: &World, id: &str) -> PatientId {
    let draft = w.somebody();
    on_file(w, id, &draft, by_cpf(&draft));
    let patient = w.accept(draft).await;
    w.observe(patient, "1").await;
    w.settle_down().await;
    assert_eq!(w.ehr_id(patient).await, id);
    patient
}

async fn is_held(w: &World, patient: PatientId, problem: LinkProblem) {
    let link = w.as_we_know(patient).await.link;
    assert_eq!((link.state, link.problem), (LinkState::Held, Some(problem)), "{link:?}");
}

fn patients_that_we_created(w: &World) -> usize {
    w.ehr().effects.iter().filter(|e| e.resource_type == "Patient" && e.by == Author::Client && e.method != "DELETE").count()
}

#[tokio::test]
async fn a_patient_is_found_by_cpf_under_every_system_and_never_created_twice() {
    on_each(own_id(), async |w| {
        for (n, system) in CPF_SYSTEMS.iter().enumerate() {
            let draft = w.somebody();
            let id = format!("hospital-{n}");
            on_file(
                w,
                &id,
                &draft,
                json!([{"system": "urn:mrn", "value": format!("{n}")}, {"system": system, "value": draft.cpf.as_ref().unwrap().digits()}]),
            );
            let patient = w.accept(draft).await;
            let pain = w.observe(patient, "3").await;
            w.settle_down().await;
            assert_eq!(w.ehr_id(patient).await, id, "{system}");
            assert_eq!(w.as_we_know(patient).await.link.by.as_deref(), Some("cpf"));
            assert_eq!(w.stored(pain).unwrap()["subject"]["reference"], format!("Patient/{id}"));
        }
        assert_eq!(patients_that_we_created(w), 0);
    })
    .await;
}

#[tokio::test]
async fn a_patient_without_a_cpf_is_found_by_cns() {
    on_each(own_id(), async |w| {
        let draft = PatientDraft { cpf: None, cns: Some(Cns::parse(CNS).unwrap()), ..w.somebody() };
        on_file(w, "hospital-1", &draft, json!([{"system": CNS_SYSTEM, "value": CNS}]));
        let patient = w.accept(draft).await;
        let pain = w.observe(patient, "3").await;
        w.settle_down().await;
        assert_eq!(w.as_we_know(patient).await.link.by.as_deref(), Some("cns"));
        w.holds(pain, "3");
        assert_eq!(patients_that_we_created(w), 0);
    })
    .await;
}

#[tokio::test]
async fn the_same_cpf_with_another_birth_date_is_a_persons_case() {
    on_each(own_id(), async |w| {
        let draft = w.somebody();
        let child = PatientDraft { birth_date: "2019-05-05".to_owned(), ..draft.clone() };
        on_file(w, "hospital-1", &child, by_cpf(&draft));
        let patient = w.accept(draft).await;
        let pain = w.observe(patient, "3").await;
        w.settle_down().await;
        is_held(w, patient, LinkProblem::BirthDateDiffers).await;
        w.holds_nothing(pain);
        assert_eq!(patients_that_we_created(w), 0);
        assert_eq!(w.delivery(pain).await.state, State::Held(HeldReason::PatientUnlinked));
    })
    .await;
}

/// The EHR refuses the Patient: what is observed of it has nobody to speak of until a person moves, and says so.
#[tokio::test]
async fn the_observations_of_a_patient_whom_the_ehr_refuses_wait_for_a_person_and_nobody_works_on_them() {
    for given_up in [false, true] {
        on_each(own_id(), async |w| {
            let draft = w.somebody();
            let patient = w.accept(draft.clone()).await;
            let words = outcome("invalid", "A Patient needs a name of this ward's.");
            w.node.gate.answer(Which::new("PUT", "/Patient/"), 1, 422, FHIR, &words);
            let pain = w.observe(patient, "3").await;
            w.settle_down().await;
            let own =
                w.listed(DeliveryFilter::default()).await.into_iter().find(|delivery| delivery.resource == ResourceKey::Patient(patient));
            let own = own.unwrap();
            assert_eq!(own.state, State::Dead, "{own:?}");
            let rests = async |w: &World| {
                assert_eq!(w.store.fleet().next_due().await.unwrap(), None, "a lane is due in which nothing can move");
                assert_eq!(w.delivery(pain).await.state, State::Held(HeldReason::PatientUnlinked));
                assert_eq!(
                    w.tenant.status(w.clock.now()).await.unwrap().counts.iter().find(|(word, _)| *word == "held"),
                    Some(&("held", 1))
                );
                w.nothing_is_silent().await;
            };
            rests(w).await;
            if given_up {
                w.tenant.discard(w.clock.now(), own.id, "admin").await.unwrap();
                w.settle_down().await;
                rests(w).await;
                w.tenant
                    .update_patient(w.clock.now(), patient, 1, PatientDraft { name: "Another Name".to_owned(), ..draft })
                    .await
                    .unwrap()
                    .unwrap();
            } else {
                w.tenant.replay(w.clock.now(), own.id, "admin").await.unwrap();
            }
            w.settle_down().await;
            w.holds(pain, "3");
        })
        .await;
    }
}

#[tokio::test]
async fn two_records_with_the_cpf_are_a_persons_case_and_the_observations_go_on_after_the_link() {
    on_each(own_id(), async |w| {
        let draft = w.somebody();
        for id in ["hospital-1", "hospital-2"] {
            on_file(w, id, &draft, by_cpf(&draft));
        }
        let patient = w.accept(draft).await;
        let (one, two) = (w.observe(patient, "3").await, w.observe(patient, "4").await);
        w.settle_down().await;
        is_held(w, patient, LinkProblem::MultipleMatches).await;
        let candidates = w.as_we_know(patient).await.link.candidates;
        assert_eq!(candidates.iter().map(|c| c.ehr_id.as_str()).collect::<Vec<_>>(), ["hospital-1", "hospital-2"]);
        w.holds_nothing(one);
        w.go_on_for(DAY).await;
        w.holds_nothing(one);
        w.nothing_is_silent().await;
        w.tenant.link_by_person(w.clock.now(), patient, Some(EhrId::new("hospital-2").unwrap()), "ana").await.unwrap().unwrap();
        w.settle_down().await;
        w.holds(one, "3");
        w.holds(two, "4");
        assert_eq!(w.stored(one).unwrap()["subject"]["reference"], "Patient/hospital-2");
        assert_eq!(patients_that_we_created(w), 0);
        w.order_is_kept();
    })
    .await;
}

#[tokio::test]
async fn name_and_birth_date_alone_make_candidates_and_never_a_link() {
    on_each(own_id(), async |w| {
        let draft = PatientDraft { cpf: None, ..w.somebody() };
        on_file(w, "hospital-1", &draft, json!([{"system": "urn:mrn", "value": "1"}]));
        let patient = w.accept(draft).await;
        let pain = w.observe(patient, "3").await;
        w.settle_down().await;
        is_held(w, patient, LinkProblem::Candidates).await;
        assert_eq!(w.as_we_know(patient).await.link.candidates[0].ehr_id.as_str(), "hospital-1");
        w.holds_nothing(pain);
        assert_eq!(patients_that_we_created(w), 0);
    })
    .await;
}

#[tokio::test]
async fn a_patient_without_national_identifiers_whom_nobody_resembles_is_created() {
    on_each(own_id(), async |w| {
        let stranger = w.somebody();
        on_file(w, "hospital-1", &stranger, by_cpf(&stranger));
        let patient =
            w.accept(PatientDraft { cpf: None, name: "Joana Prado".to_owned(), birth_date: "1951-02-03".to_owned(), ..w.somebody() }).await;
        let pain = w.observe(patient, "3").await;
        w.settle_down().await;
        w.holds(pain, "3");
        assert_eq!(w.as_we_know(patient).await.link.by.as_deref(), Some("created"));
        assert_eq!(patients_that_we_created(w), 1);
    })
    .await;
}

#[tokio::test]
async fn another_cpf_on_the_same_name_and_birth_date_is_another_person() {
    on_each(own_id(), async |w| {
        let draft = w.somebody();
        let twin = PatientDraft { cpf: Some(cpf(9_000)), ..draft.clone() };
        on_file(w, "hospital-1", &twin, by_cpf(&twin));
        let patient = w.accept(draft).await;
        let pain = w.observe(patient, "3").await;
        w.settle_down().await;
        w.holds(pain, "3");
        assert_ne!(w.ehr_id(patient).await, "hospital-1");
    })
    .await;
}

#[tokio::test]
async fn with_patient_create_off_nobody_is_created_and_a_persons_link_lets_it_go_on() {
    on_each(own_id(), async |w| {
        w.configure(&w.tenant, &w.ward.base, json!({"patientCreate": false})).await;
        let draft = w.somebody();
        let patient = w.accept(draft.clone()).await;
        let pain = w.observe(patient, "3").await;
        w.settle_down().await;
        is_held(w, patient, LinkProblem::NotFound).await;
        assert_eq!(w.ehr().effects.len(), 0);
        on_file(w, "hospital-1", &draft, json!([{"system": "urn:mrn", "value": "1"}]));
        w.tenant.link_by_person(w.clock.now(), patient, Some(EhrId::new("hospital-1").unwrap()), "ana").await.unwrap().unwrap();
        w.settle_down().await;
        w.holds(pain, "3");
        assert_eq!(w.as_we_know(patient).await.link.by.as_deref(), Some("person:ana"));
        assert_eq!(patients_that_we_created(w), 0);
    })
    .await;
}

/// A Patient's create is a delivery like any other: lost answers, late commits, by every means.
#[tokio::test]
async fn a_patient_whose_create_lost_its_answer_is_created_once() {
    for (means, options) in every_means() {
        for fault in [Fault::CutBeforeCommit, Fault::CutAfterCommit, Fault::LateCommit] {
            on_each(options.clone(), async |w| {
                w.known_patient().await;
                w.late_commit_after(20_000);
                let patient = w.patient().await;
                let (one, two) = (w.observe(patient, "3").await, w.observe(patient, "4").await);
                w.next(1, fault, if means == "own id" { "PUT" } else { "POST" }, format!("\"{patient}\""));
                w.settle_down().await;
                assert_eq!(w.ehr().shown(fault), 1, "{means}, {fault}");
                let there = w.ehr().by_identifier("urn:ponte:patient", &patient.to_string()).len();
                assert_eq!(there, 1, "{means}, {fault}");
                w.holds(one, "3");
                w.holds(two, "4");
            })
            .await;
        }
    }
}

/// Replaced between two pushes: held, the survivor proposed, a person confirms.
#[tokio::test]
async fn a_patient_that_we_created_is_no_conflict_after_a_person_has_linked_another_record() {
    on_each(own_id(), async |w| {
        let patient = w.patient().await;
        w.next(1, Fault::CutAfterCommit, "PUT", patient);
        w.observe(patient, "3").await;
        w.settle_down().await;
        // Its audits are still to come.
        w.ward.sandbox.put_resource(r#"{"resourceType":"Patient","id":"hospital-1","active":true}"#).unwrap();
        w.tenant.link_by_person(w.clock.now(), patient, Some(EhrId::new("hospital-1").unwrap()), "ana").await.unwrap().unwrap();
        w.go_on_for(2 * DAY).await;
        for delivery in w.listed(store::DeliveryFilter { patient_id: Some(patient), ..store::DeliveryFilter::default() }).await {
            assert_eq!(delivery.state, model::State::Delivered, "{delivery:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_merged_patient_is_held_until_a_person_confirms_the_survivor() {
    on_each(own_id(), async |w| {
        let patient = linked(w, "hospital-1").await;
        let draft = w.as_we_know(patient).await.draft;
        let mut merged = on_file(w, "hospital-1", &draft, by_cpf(&draft));
        on_file(w, "hospital-2", &draft, by_cpf(&draft));
        merged["active"] = json!(false);
        merged["link"] = json!([{"other": {"reference": "Patient/hospital-2"}, "type": "replaced-by"}]);
        w.ward.sandbox.put_resource(&merged.to_string()).unwrap();
        w.clock.forward(11 * MINUTE);
        let pain = w.observe(patient, "5").await;
        w.settle_down().await;
        is_held(w, patient, LinkProblem::ReplacedBy).await;
        assert_eq!(w.as_we_know(patient).await.link.candidates[0].ehr_id.as_str(), "hospital-2");
        w.holds_nothing(pain);
        w.tenant.link_by_person(w.clock.now(), patient, Some(EhrId::new("hospital-2").unwrap()), "ana").await.unwrap().unwrap();
        w.settle_down().await;
        w.holds(pain, "5");
        assert_eq!(w.stored(pain).unwrap()["subject"]["reference"], "Patient/hospital-2");
    })
    .await;
}

#[tokio::test]
async fn an_inactive_patient_is_held_and_goes_on_when_active_again() {
    on_each(own_id(), async |w| {
        let patient = linked(w, "hospital-1").await;
        let draft = w.as_we_know(patient).await.draft;
        let mut record = on_file(w, "hospital-1", &draft, by_cpf(&draft));
        record["active"] = json!(false);
        w.ward.sandbox.put_resource(&record.to_string()).unwrap();
        w.clock.forward(11 * MINUTE);
        let pain = w.observe(patient, "5").await;
        w.settle_down().await;
        is_held(w, patient, LinkProblem::Inactive).await;
        w.holds_nothing(pain);
        w.nothing_is_silent().await;
        record["active"] = json!(true);
        w.ward.sandbox.put_resource(&record.to_string()).unwrap();
        w.tenant.link_by_person(w.clock.now(), patient, Some(EhrId::new("hospital-1").unwrap()), "ana").await.unwrap().unwrap();
        w.settle_down().await;
        w.holds(pain, "5");
    })
    .await;
}

/// The EHR answers with another record than asked for, as after a silent merge.
#[tokio::test]
async fn another_id_in_the_body_holds_the_patient() {
    on_each(own_id(), async |w| {
        let patient = linked(w, "hospital-1").await;
        w.clock.forward(11 * MINUTE);
        let pain = w.observe(patient, "5").await;
        w.node.gate.alter(crate::gate::Which::new("GET", "/Patient/hospital-1"), 9, |body| body.replace("hospital-1", "hospital-2"));
        w.settle_down().await;
        is_held(w, patient, LinkProblem::IdDiffers).await;
        w.holds_nothing(pain);
    })
    .await;
}

#[tokio::test]
async fn a_national_identifier_that_no_longer_agrees_holds_the_patient() {
    on_each(own_id(), async |w| {
        let patient = linked(w, "hospital-1").await;
        let draft = w.as_we_know(patient).await.draft;
        on_file(w, "hospital-1", &draft, json!([{"system": CPF_SYSTEMS[0], "value": cpf(9_001).digits()}]));
        w.clock.forward(11 * MINUTE);
        let pain = w.observe(patient, "5").await;
        w.settle_down().await;
        is_held(w, patient, LinkProblem::IdentifierDiffers).await;
        w.holds_nothing(pain);
    })
    .await;
}

/// A person's decision wins over every rule, before and after.
#[tokio::test]
async fn a_persons_link_is_not_reopened_by_rules() {
    on_each(own_id(), async |w| {
        let draft = w.somebody();
        on_file(w, "hospital-1", &draft, by_cpf(&draft));
        on_file(w, "hospital-2", &w.somebody(), json!([{"system": "urn:mrn", "value": "2"}]));
        let patient = w.accept(draft).await;
        w.tenant.link_by_person(w.clock.now(), patient, Some(EhrId::new("hospital-2").unwrap()), "ana").await.unwrap().unwrap();
        let pain = w.observe(patient, "3").await;
        w.settle_down().await;
        assert_eq!(w.stored(pain).unwrap()["subject"]["reference"], "Patient/hospital-2");
        for _ in 0..3 {
            w.store.fleet().sweep(w.clock.now(), false).await.unwrap();
            w.go_on_for(6 * HOUR).await;
        }
        assert_eq!(w.ehr_id(patient).await, "hospital-2");
        assert_eq!(patients_that_we_created(w), 0);
    })
    .await;
}

/// … nor by a rule that had asked the EHR before the person decided, and decides after.
#[tokio::test]
async fn a_persons_link_made_while_the_ehr_was_asked_is_not_overruled_by_the_answer() {
    on_each(own_id(), async |w| {
        let draft = w.somebody();
        let digits = draft.cpf.as_ref().unwrap().digits().to_owned();
        on_file(w, "hospital-1", &draft, by_cpf(&draft));
        on_file(w, "hospital-2", &w.somebody(), json!([{"system": "urn:mrn", "value": "2"}]));
        let patient = w.accept(draft).await;
        let pain = w.observe(patient, "3").await;
        let mut asking = w.node.gate.freeze(Which::new("POST", digits), Stop::AfterTheAnswer);
        let step = w.node.step_aside();
        asking.stands().await;
        w.tenant.link_by_person(w.clock.now(), patient, Some(EhrId::new("hospital-2").unwrap()), "ana").await.unwrap().unwrap();
        asking.wake();
        step.await.unwrap();
        w.settle_down().await;
        assert_eq!(w.as_we_know(patient).await.link.by.as_deref(), Some("person:ana"));
        assert_eq!(w.stored(pain).unwrap()["subject"]["reference"], "Patient/hospital-2");
        assert_eq!(w.at_ehr(pain).len(), 1);
    })
    .await;
}

/// Ponte never updates a Patient that it did not create.
#[tokio::test]
async fn only_a_patient_that_we_created_is_updated() {
    on_each(own_id(), async |w| {
        let theirs = linked(w, "hospital-1").await;
        let ours = w.known_patient().await;
        for patient in [theirs, ours] {
            let now = w.as_we_know(patient).await;
            let draft = PatientDraft { name: "Maria Nova Silva".to_owned(), ..now.draft };
            w.tenant.update_patient(w.clock.now(), patient, now.version, draft).await.unwrap().unwrap();
        }
        w.settle_down().await;
        let id = w.ehr_id(ours).await;
        assert!(w.ward.sandbox.resource("Patient", &id).unwrap().contains("Maria Nova Silva"));
        assert!(!w.ward.sandbox.resource("Patient", "hospital-1").unwrap().contains("Maria Nova Silva"));
    })
    .await;
}

/// A server that ignores the identifier sends everybody: nobody is linked by it.
#[tokio::test]
async fn a_search_that_returns_everybody_links_nobody_by_guess() {
    on_each(own_id(), async |w| {
        for n in 0..30 {
            let other = w.somebody();
            on_file(w, &format!("hospital-{n}"), &other, by_cpf(&other));
        }
        w.faults(FaultPlan::none().always(Fault::IgnoreIdentifier));
        let patient = w.patient().await;
        let pain = w.observe(patient, "3").await;
        w.settle_down().await;
        let held = w.at_ehr(pain);
        assert_eq!(held.len(), 1);
        assert!(!w.ehr_id(patient).await.starts_with("hospital-"));
        assert!(held[0].sent_identifiers.iter().any(|i| i.system.as_deref() == Some(SYSTEM)));
    })
    .await;
}
