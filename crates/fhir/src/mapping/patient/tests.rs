//! Both ways: who is sent, who is read.

use super::*;
use crate::resource::Resource;
use crate::validate::validate;
use model::patient::Gender;
use model::{Cns, Cpf};
use proptest::prelude::*;

fn draft() -> PatientDraft {
    PatientDraft {
        name: "José Pereira da Silva Neto".into(),
        birth_date: "1958-03-09".into(),
        gender: Some(Gender::Male),
        phone: Some("(11) 98765-4321".into()),
        email: Some("jose@example.com".into()),
        cpf: Cpf::parse("529.982.247-25").ok(),
        cns: Cns::parse("700500572752652").ok(),
        external_id: Some("p-1".into()),
    }
}

fn send(draft: &PatientDraft) -> Value {
    let sent = to_fhir(draft, &ToFhir { patient: PatientId(uuid::Uuid::from_u128(5)), version: 2, id: None });
    assert_eq!(validate("Patient", &sent), Ok(()), "{sent}");
    sent
}

fn read(value: &Value) -> EhrPatient {
    EhrPatient::from_fhir(&Resource::parse(&value.to_string()).unwrap()).unwrap()
}

#[test]
fn a_patient_leaves_whole() {
    let sent = send(&draft());
    let identifiers = sent["identifier"].as_array().unwrap();
    assert_eq!(identifiers[0]["system"], "https://saude.gov.br/fhir/sid/cpf");
    assert_eq!((identifiers[0]["value"].as_str(), identifiers[0]["use"].as_str()), (Some("52998224725"), Some("official")));
    assert_eq!(identifiers[0]["type"]["coding"][0]["code"], "TAX");
    assert_eq!(
        (identifiers[1]["system"].as_str(), identifiers[1]["type"]["coding"][0]["code"].as_str()),
        (Some(CNS.preferred), Some("HC"))
    );
    assert_eq!(identifiers[2]["system"], "urn:ponte:patient");
    assert_eq!(identifiers[2]["extension"][0]["valueString"], "2");
    assert_eq!(sent["meta"]["source"], "urn:ponte:version:2");
    let name = r#"{"text":"José Pereira da Silva Neto","family":"da Silva","given":["José","Pereira"],"suffix":["Neto"]}"#;
    assert_eq!(sent["name"][0].to_string(), name);
    assert_eq!(
        sent["telecom"].to_string(),
        r#"[{"system":"phone","value":"+5511987654321","use":"mobile"},{"system":"email","value":"jose@example.com"}]"#
    );
    assert_eq!(
        (sent["gender"].as_str(), sent["birthDate"].as_str(), sent["active"].as_bool()),
        (Some("male"), Some("1958-03-09"), Some(true))
    );
}

#[test]
fn a_name_of_one_word_makes_no_empty_family() {
    let sent = send(&PatientDraft { name: "Maria".into(), ..draft() });
    assert_eq!(sent["name"][0].to_string(), r#"{"text":"Maria","given":["Maria"]}"#);
    let unknown = send(&PatientDraft { name: "RN DE MARIA SOUZA".into(), ..draft() });
    assert_eq!(unknown["name"][0].to_string(), r#"{"text":"RN DE MARIA SOUZA"}"#);
}

#[test]
fn a_birth_date_is_never_made_through_a_timestamp() {
    for day in ["2018-11-04", "1900-01-01", "2024-02-29"] {
        assert_eq!(send(&PatientDraft { birth_date: day.into(), ..draft() })["birthDate"], day);
        assert_eq!(read(&json!({"resourceType": "Patient", "birthDate": day})).birth_date.as_deref(), Some(day));
    }
}

#[test]
fn an_uncertain_phone_goes_as_it_was_given_and_nothing_goes_empty() {
    let sent = send(&PatientDraft {
        phone: Some(" (64) 8412-3456 ".into()),
        email: Some(" ".into()),
        cpf: None,
        cns: None,
        gender: None,
        ..draft()
    });
    assert_eq!(sent["telecom"].to_string(), r#"[{"system":"phone","value":"(64) 8412-3456"}]"#);
    assert_eq!(sent["identifier"].as_array().map(Vec::len), Some(1));
    let bare = send(&PatientDraft { phone: None, email: None, ..draft() });
    assert_eq!(bare.get("telecom"), None);
}

#[test]
fn a_cpf_is_read_under_whatever_system_it_stands() {
    for system in ["https://saude.gov.br/fhir/sid/cpf", "http://rnds.saude.gov.br/fhir/r4/NamingSystem/cpf", "http://www.brazil.gov.br/cpf"]
    {
        let there = read(&json!({"resourceType": "Patient", "identifier": [{"system": system, "value": "529.982.247-25"}]}));
        assert_eq!(there.numbers.cpfs().count(), 1, "{system}");
    }
}

#[test]
fn partial_and_impossible_birth_dates_are_told_apart() {
    let of = |date: &str| read(&json!({"resourceType": "Patient", "birthDate": date})).birth_date;
    assert_eq!(of("1958").as_deref(), Some("1958"));
    assert_eq!(of("1958-03").as_deref(), Some("1958-03"));
    assert_eq!(of("1958-02-30"), None);
    assert_eq!(of("09/03/1958"), None);
}

#[test]
fn what_forbids_to_use_a_record_is_read() {
    let merged = read(&json!({"resourceType": "Patient", "id": "old", "active": false, "deceasedDateTime": "2025",
        "link": [{"other": {"reference": "Patient/new"}, "type": "replaced-by"}, {"other": {"reference": "Patient/seen"}, "type": "seealso"},
                 {"other": {"reference": "RelatedPerson/r"}, "type": "replaces"}, {"other": {"reference": "Patient/older/_history/2"}, "type": "replaces"}]}));
    assert_eq!((merged.active, merged.deceased, merged.is_current()), (Some(false), Some(true), false));
    assert_eq!(merged.replaced_by_ids(), [EhrId::new("new").unwrap()]);
    assert_eq!(merged.replaces_ids(), [EhrId::new("older").unwrap()]);
    let unreadable = read(&json!({"resourceType": "Patient", "link": [{"other": {"display": "?"}, "type": "replaced-by"}]}));
    assert!(!unreadable.is_current() && unreadable.replaced_by_ids().is_empty());
    let plain = read(&json!({"resourceType": "Patient", "deceasedBoolean": false}));
    assert_eq!((plain.active, plain.deceased, plain.is_current()), (None, Some(false), true));
}

#[test]
fn the_social_name_is_shown_and_all_names_are_kept() {
    let there = read(&json!({"resourceType": "Patient", "name": [
        {"use": "old", "text": "Nome Antigo"}, {"use": "official", "family": "Lima", "given": ["João", null], "_given": [null, {"extension": []}]},
        {"use": "usual", "text": "Joana Lima"}]}));
    assert_eq!(there.shown_name().as_deref(), Some("Joana Lima"));
    assert_eq!(there.names.iter().filter_map(Name::whole).collect::<Vec<_>>(), ["Nome Antigo", "João Lima", "Joana Lima"]);
    assert!(!format!("{there:?}{:?}", there.names).contains("Lima"));
}

#[test]
fn odd_shapes_do_not_make_it_fall() {
    let odd = read(
        &json!({"resourceType": "Patient", "id": "a b", "name": "Maria", "telecom": [1, null], "link": {}, "active": "yes", "identifier": {"value": "1"}}),
    );
    assert_eq!((odd.id, odd.names.len(), odd.telecom.len(), odd.active), (None, 0, 0, None));
}

proptest! {
    #[test]
    fn whoever_the_platform_names_is_a_valid_patient(name in "[^\\x00-\\x1f]{1,40}", phone in prop::option::of("[0-9()+ -]{1,16}"), day in 1u8..=28) {
        prop_assume!(!name.trim().is_empty());
        let who = PatientDraft { name: name.clone(), phone, birth_date: format!("1980-02-{day:02}"), ..draft() };
        let back = read(&send(&who));
        prop_assert_eq!(back.names[0].text.as_deref(), Some(name.trim()));
        prop_assert_eq!(back.birth_date, Some(who.birth_date));
        prop_assert_eq!(back.numbers.cpfs().next(), who.cpf.as_ref());
        prop_assert_eq!(back.numbers.cnss().next(), who.cns.as_ref());
    }
}
