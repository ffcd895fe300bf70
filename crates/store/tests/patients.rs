//! Patients: accepted once, found by every key, changed by version, linked by a person above all.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

mod house;

use ponte_store as store;

use futures::future::join_all;
use house::{NOW, observation, patient, person, reading, realtime, stores, tenant, unlinked, with_cns, with_cpf};
use model::{Cns, Cpf, EhrId, HeldReason, LinkState, PatientDraft, State};
use store::PageRequest;
use store::idempotency::{Key, Once};
use store::patients::{NewPatient, PatientKey, PatientRefused};

const CPF: &str = "52998224725";
const CNS: &str = "700500572752652";

#[tokio::test]
async fn a_patient_comes_back_as_it_was_accepted_and_is_found_by_every_key() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let draft = PatientDraft {
            gender: model::patient::Gender::parse("female"),
            phone: Some("+55 11 91234-5678".to_owned()),
            email: Some("maria@example.org".to_owned()),
            cns: Some(Cns::parse(CNS).unwrap()),
            external_id: Some("P-17".to_owned()),
            ..with_cpf("Maria da Silva", CPF)
        };
        let new = NewPatient { draft: draft.clone(), link: Some((EhrId::new("ehr-1").unwrap(), "ana".to_owned())) };
        let Once::Done(made) = tenant.create_patient(NOW, new, None).await.unwrap().unwrap() else { panic!("not made") };
        assert_eq!((made.version, &made.draft, made.created_at), (1, &draft, NOW));
        assert_eq!((made.link.state, made.link.by.as_deref()), (LinkState::Linked, Some("person:ana")));
        assert_eq!(tenant.patient(made.id).await.unwrap(), Some(made.clone()));
        for key in [
            PatientKey::Cpf(Cpf::parse(CPF).unwrap()),
            PatientKey::Cns(Cns::parse(CNS).unwrap()),
            PatientKey::ExternalId("P-17".to_owned()),
            PatientKey::EhrId(EhrId::new("ehr-1").unwrap()),
        ] {
            assert_eq!(tenant.find_patient(&key).await.unwrap().map(|p| p.id), Some(made.id), "{key:?}");
        }
        assert_eq!(tenant.find_patient(&PatientKey::ExternalId("P-1".to_owned())).await.unwrap(), None);
    }
}

#[tokio::test]
async fn two_patients_of_one_tenant_never_share_a_key_and_two_tenants_never_meet() {
    for (_database, store) in stores().await {
        let (a, b) = (tenant(&store, "a"), tenant(&store, "b"));
        let drafts = [
            ("/cpf", with_cpf("One", CPF)),
            ("/cns", with_cns("Two", CNS)),
            ("/externalId", PatientDraft { external_id: Some("X".to_owned()), ..person("Three") }),
        ];
        for (pointer, draft) in drafts {
            let first = patient(&a, draft.clone()).await;
            let again = a.create_patient(NOW, unlinked(PatientDraft { name: "Another".to_owned(), ..draft.clone() }), None).await.unwrap();
            assert_eq!(again, Err(PatientRefused::Exists { pointer, id: first }));
            let other = patient(&b, draft).await;
            assert_eq!(a.patient(other).await.unwrap(), None);
            assert_eq!(b.patient(first).await.unwrap(), None);
            assert_eq!(b.update_patient(NOW, first, 1, person("Stolen")).await.unwrap(), Err(PatientRefused::Unknown));
            assert_eq!(b.link_by_person(NOW, first, None, "eve").await.unwrap(), Err(PatientRefused::Unknown));
        }
        let nobody = tenant(&store, "never wrote".replace(' ', "-").as_str());
        assert!(nobody.patients(&PageRequest { limit: 10, before: None }).await.unwrap().items.is_empty());
        assert_eq!(nobody.find_patient(&PatientKey::Cpf(Cpf::parse(CPF).unwrap())).await.unwrap(), None);
    }
}

#[tokio::test]
async fn of_twenty_equal_patients_at_once_one_is_made_and_the_others_are_told_which() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let answers = join_all((0..20).map(|_| tenant.create_patient(NOW, unlinked(with_cpf("Maria", CPF)), None))).await;
        let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().map(Result::unwrap).partition(Result::is_ok);
        assert_eq!(made.len(), 1);
        let Ok(Once::Done(made)) = &made[0] else { panic!("not made") };
        assert!(refused.iter().all(|r| *r == Err(PatientRefused::Exists { pointer: "/cpf", id: made.id })));
    }
}

#[tokio::test]
async fn one_key_makes_one_patient_however_often_it_is_sent() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let key = Key { key: "k-1".to_owned(), fingerprint: "POST /patients abc".to_owned() };
        let answers = join_all((0..10).map(|_| tenant.create_patient(NOW, unlinked(person("Maria")), Some(&key)))).await;
        let ids: Vec<_> = answers
            .into_iter()
            .map(|answer| match answer.unwrap().unwrap() {
                Once::Done(patient) | Once::Before(patient) => patient.id,
                Once::OtherRequest => panic!("the same request"),
            })
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert_eq!(tenant.patients(&PageRequest { limit: 10, before: None }).await.unwrap().items.len(), 1);
        let other = Key { fingerprint: "POST /patients def".to_owned(), ..key.clone() };
        assert_eq!(tenant.create_patient(NOW, unlinked(person("Zoe")), Some(&other)).await.unwrap(), Ok(Once::OtherRequest));
        let elsewhere = tenant_of(&store, "b").create_patient(NOW, unlinked(person("Maria")), Some(&key)).await.unwrap();
        assert!(matches!(elsewhere, Ok(Once::Done(_))));
    }
}

fn tenant_of(store: &store::Store, name: &str) -> store::Tenant {
    tenant(store, name)
}

#[tokio::test]
async fn a_change_needs_the_current_version_and_an_equal_one_changes_nothing() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let (id, other) = (patient(&tenant, with_cpf("Maria", CPF)).await, patient(&tenant, with_cns("Zoe", CNS)).await);
        let later = NOW.plus_ms(5);
        let changed = tenant.update_patient(later, id, 1, with_cpf("Maria S.", CPF)).await.unwrap().unwrap();
        assert_eq!((changed.version, changed.updated_at, changed.draft.name.as_str()), (2, later, "Maria S."));
        assert_eq!(tenant.update_patient(later, id, 1, person("Late")).await.unwrap(), Err(PatientRefused::Changed));
        assert_eq!(tenant.update_patient(later, id, 2, with_cpf("Maria S.", CPF)).await.unwrap().unwrap(), changed);
        let stolen = tenant.update_patient(later, id, 2, with_cns("Maria", CNS)).await.unwrap();
        assert_eq!(stolen, Err(PatientRefused::Exists { pointer: "/cns", id: other }));
        // The old key is free again once it is given up.
        tenant.update_patient(later, id, 2, person("Maria")).await.unwrap().unwrap();
        patient(&tenant, with_cpf("Rita", CPF)).await;
    }
}

#[tokio::test]
async fn lists_are_walked_newest_first_without_gap_or_repetition() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let mut made = Vec::new();
        for n in 0..7 {
            let Once::Done(patient) = tenant.create_patient(NOW.plus_ms(n), unlinked(person("P")), None).await.unwrap().unwrap() else {
                panic!("not made")
            };
            made.push(patient.id);
        }
        made.reverse();
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = tenant.patients(&PageRequest { limit: 3, before }).await.unwrap();
            assert!(page.items.len() <= 3);
            seen.extend(page.items.iter().map(|p| p.id));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen, made);
    }
}

#[tokio::test]
async fn a_persons_word_holds_and_frees_what_waits_for_the_patient() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        tenant.put_connection(NOW, &realtime("https://ehr.example/fhir"), None, "ana").await.unwrap().unwrap();
        let id = patient(&tenant, person("Maria")).await;
        let state = |o: &model::Observation| o.delivery.as_ref().map(|d| d.state);
        let waiting = observation(&tenant, reading(id, "72514-3", "3")).await;
        assert_eq!(state(&waiting), Some(State::Held(HeldReason::EarlierFirst)));
        let unlinked = tenant.link_by_person(NOW, id, None, "ana").await.unwrap().unwrap();
        assert!(unlinked.link.by_person() && unlinked.link.state == LinkState::Unlinked);
        let seen = tenant.observation(NOW, waiting.id).await.unwrap().unwrap();
        assert_eq!(state(&seen), Some(State::Held(HeldReason::PatientUnlinked)));
        let linked = tenant.link_by_person(NOW, id, Some(EhrId::new("e-9").unwrap()), "ana").await.unwrap().unwrap();
        assert_eq!((linked.link.state, linked.link.ehr_id.as_ref().map(EhrId::as_str)), (LinkState::Linked, Some("e-9")));
        let seen = tenant.observation(NOW, waiting.id).await.unwrap().unwrap();
        assert_eq!(state(&seen), Some(State::Pending), "the Patient's own create is not needed any more");
        let actions: Vec<_> =
            tenant.audit(&PageRequest { limit: 10, before: None }).await.unwrap().items.into_iter().map(|e| e.action).collect();
        for action in ["config_changed", "link_set", "link_removed"] {
            assert!(actions.iter().any(|a| a == action), "{actions:?}");
        }
    }
}

#[tokio::test]
async fn a_patient_unlinked_before_any_delivery_is_blocked_from_the_first_one_on() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        tenant.put_connection(NOW, &realtime("https://ehr.example/fhir"), None, "ana").await.unwrap().unwrap();
        let new = NewPatient { draft: person("Maria"), link: Some((EhrId::new("e").unwrap(), "ana".to_owned())) };
        let Once::Done(patient) = tenant.create_patient(NOW, new, None).await.unwrap().unwrap() else { panic!("not made") };
        tenant.link_by_person(NOW, patient.id, None, "ana").await.unwrap().unwrap();
        let waiting = observation(&tenant, reading(patient.id, "72514-3", "3")).await;
        assert_eq!(waiting.delivery.map(|d| d.state), Some(State::Held(HeldReason::PatientUnlinked)));
    }
}
