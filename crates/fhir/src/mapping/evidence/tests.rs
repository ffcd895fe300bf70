//! The table of facts CODES-AND-BRAZIL §9, row by row.

use super::*;
use crate::national::{CNS, CPF};
use crate::resource::Resource;
use model::{Cns, Cpf};
use serde_json::{Value, json};

const A_CPF: &str = "52998224725";
const OTHER_CPF: &str = "11144477735";
const A_CNS: &str = "700500572752652";

fn ours() -> PatientDraft {
    PatientDraft {
        name: "João da Silva".into(),
        birth_date: "1958-03-09".into(),
        gender: None,
        phone: None,
        email: None,
        cpf: Cpf::parse(A_CPF).ok(),
        cns: Cns::parse(A_CNS).ok(),
        external_id: None,
    }
}

fn theirs(name: &str, birth_date: Value, identifiers: Value) -> EhrPatient {
    let mut patient = json!({"resourceType": "Patient", "id": "p", "name": [{"text": name}], "identifier": identifiers});
    if !birth_date.is_null() {
        patient["birthDate"] = birth_date;
    }
    EhrPatient::from_fhir(&Resource::parse(&patient.to_string()).unwrap()).unwrap()
}

fn cpf(value: &str) -> Value {
    json!({"system": CPF.official_alias, "value": value})
}

fn cns(value: &str) -> Value {
    json!({"system": CNS.preferred, "value": value})
}

fn doubt(by: NumberKind, because: Doubt) -> Evidence {
    Evidence::PersonDecides { by, because }
}

#[test]
fn the_same_cpf_and_birth_date_link() {
    let there = theirs("QUALQUER NOME", json!("1958-03-09"), json!([cpf("529.982.247-25"), cns("123456789010000")]));
    assert_eq!(evidence(&ours(), &there), Evidence::Exact(NumberKind::Cpf), "another CNS of the same person is fine");
}

#[test]
fn the_same_cns_and_birth_date_link_unless_a_cpf_contradicts() {
    assert_eq!(evidence(&ours(), &theirs("x", json!("1958-03-09"), json!([cns(A_CNS)]))), Evidence::Exact(NumberKind::Cns));
    assert_eq!(evidence(&ours(), &theirs("x", json!("1958-03-09"), json!([cns(A_CNS), cpf(OTHER_CPF)]))), Evidence::CpfDiffers);
    let bad_cpf = theirs("x", json!("1958-03-09"), json!([cns(A_CNS), cpf("34567890123")]));
    assert_eq!(evidence(&ours(), &bad_cpf), Evidence::Exact(NumberKind::Cns), "a number with wrong check digits contradicts nothing");
}

#[test]
fn another_or_no_birth_date_leaves_it_to_a_person() {
    let with = |birth_date| evidence(&ours(), &theirs("João da Silva", birth_date, json!([cpf(A_CPF)])));
    assert_eq!(with(json!("1958-03-10")), doubt(NumberKind::Cpf, Doubt::BirthDateDiffers));
    assert_eq!(with(json!("1959")), doubt(NumberKind::Cpf, Doubt::BirthDateDiffers));
    for unknown in [Value::Null, json!("1958"), json!("1958-03"), json!("1900-01-01"), json!("1958-02-30")] {
        assert_eq!(with(unknown.clone()), doubt(NumberKind::Cpf, Doubt::BirthDateUnknown), "{unknown}");
    }
    let by_cns = theirs("x", json!("1990-01-02"), json!([cns(A_CNS)]));
    assert_eq!(evidence(&ours(), &by_cns), doubt(NumberKind::Cns, Doubt::BirthDateDiffers));
}

#[test]
fn two_different_cpfs_are_never_one_person() {
    let homonym = theirs("João da Silva", json!("1958-03-09"), json!([cpf(OTHER_CPF)]));
    assert_eq!(evidence(&ours(), &homonym), Evidence::CpfDiffers);
}

#[test]
fn name_and_birth_date_make_a_candidate_only() {
    let there = theirs("JOAO SILVA", json!("1958-03-09"), json!([]));
    assert_eq!(evidence(&ours(), &there), Evidence::NameAndBirthDate);
    assert_eq!(evidence(&ours(), &theirs("JOAO SILVA", json!("1958-03"), json!([]))), Evidence::None);
    assert_eq!(evidence(&ours(), &theirs("JOAO SOUZA", json!("1958-03-09"), json!([]))), Evidence::None);
    let placeholder = PatientDraft { name: "NÃO IDENTIFICADO".into(), cpf: None, cns: None, ..ours() };
    assert_eq!(evidence(&placeholder, &theirs("NAO IDENTIFICADO", json!("1958-03-09"), json!([]))), Evidence::None);
    let nobodys_day = PatientDraft { birth_date: "1900-01-01".into(), ..ours() };
    assert_eq!(evidence(&nobodys_day, &theirs("João da Silva", json!("1900-01-01"), json!([]))), Evidence::None);
}

#[test]
fn a_number_told_by_its_shape_or_out_of_use_leaves_it_to_a_person() {
    for there in [json!([{"value": A_CPF}]), json!([{"system": CPF.preferred, "use": "old", "value": A_CPF}])] {
        assert_eq!(evidence(&ours(), &theirs("x", json!("1958-03-09"), there)), doubt(NumberKind::Cpf, Doubt::NotCertain));
    }
    let shape = theirs("x", json!("1958-03-09"), json!([{"value": A_CNS}]));
    assert_eq!(evidence(&ours(), &shape), doubt(NumberKind::Cns, Doubt::NotCertain));
    let nobody = PatientDraft { cpf: None, cns: None, ..ours() };
    assert_eq!(evidence(&nobody, &theirs("x", json!("1958-03-09"), json!([{"value": "34567890123"}, cpf("34567890123")]))), Evidence::None);
}

#[test]
fn a_record_with_two_cpfs_a_newborn_and_a_phone_leave_it_to_a_person() {
    let two = theirs("x", json!("1958-03-09"), json!([cpf(A_CPF), cpf(OTHER_CPF)]));
    assert_eq!(evidence(&ours(), &two), doubt(NumberKind::Cpf, Doubt::SeveralNumbers));
    let newborn = theirs("RN DE MARIA", json!("1958-03-09"), json!([cpf(A_CPF)]));
    assert_eq!(evidence(&ours(), &newborn), doubt(NumberKind::Cpf, Doubt::Placeholder));
    let phone = PatientDraft { phone: Some("+55 (52) 99822-4725".into()), ..ours() };
    let same = theirs("x", json!("1958-03-09"), json!([cpf(A_CPF)]));
    assert_eq!(evidence(&phone, &same), doubt(NumberKind::Cpf, Doubt::PhoneDigits));
}

#[test]
fn nothing_is_nothing() {
    assert_eq!(evidence(&ours(), &theirs("Ana", json!("1990-01-02"), json!([]))), Evidence::None);
}
