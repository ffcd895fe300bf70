//! Readings: what holds a patient, what a person's link survives, and what says nothing at all.

use super::*;
use model::patient::{Gender, PatientDraft};
use model::{Cns, Cpf, PatientId};
use serde_json::{Value, json};

const CPF: &str = "52998224725";
const OTHER_CPF: &str = "11144477735";
const CNS: &str = "700501972390255";

fn patient(by: &str) -> Patient {
    Patient {
        id: PatientId("01890000-0000-7000-8000-000000000001".parse().unwrap()),
        version: 2,
        draft: PatientDraft {
            name: "Maria Silva".to_owned(),
            birth_date: "1958-03-01".to_owned(),
            gender: Some(Gender::Female),
            phone: None,
            email: None,
            cpf: Cpf::parse(CPF).ok(),
            cns: Cns::parse(CNS).ok(),
            external_id: None,
        },
        link: Link {
            state: LinkState::Linked,
            ehr_id: EhrId::new("p1").ok(),
            by: Some(by.to_owned()),
            at: Some(Timestamp(1)),
            ..Link::default()
        },
        last_sync_at: None,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}

fn there() -> Value {
    json!({"resourceType": "Patient", "id": "p1", "meta": {"versionId": "4"}, "birthDate": "1958-03-01",
        "identifier": [{"system": "https://saude.gov.br/fhir/sid/cpf", "value": CPF}]})
}

fn judge(by: &str, there: &Value) -> Reading {
    let outcome = Outcome { resource: Some(there.to_string()), ..Outcome::ours(Class::Applied, "") };
    judge_patient(&patient(by), &EhrId::new("p1").unwrap(), &outcome)
}

fn problem(reading: &Reading) -> Option<LinkProblem> {
    match reading {
        Reading::Problem { problem, .. } => Some(*problem),
        Reading::Good { .. } | Reading::NotRead { .. } => None,
    }
}

#[test]
fn a_record_that_agrees_is_good_and_its_version_is_kept() {
    assert_eq!(judge("cpf", &there()), Reading::Good { etag: Some("4".to_owned()) });
}

#[test]
fn another_id_a_merge_and_an_inactive_record_hold_whoever_linked_it() {
    for by in ["cpf", "created", "person:ana"] {
        let mut other = there();
        other["id"] = json!("p9");
        assert_eq!(problem(&judge(by, &other)), Some(LinkProblem::IdDiffers), "{by}");
        let mut merged = there();
        merged["link"] = json!([{"other": {"reference": "Patient/p9"}, "type": "replaced-by"}]);
        let reading = judge(by, &merged);
        assert_eq!(problem(&reading), Some(LinkProblem::ReplacedBy), "{by}");
        let Reading::Problem { candidates, .. } = reading else { panic!() };
        assert_eq!(candidates[0].ehr_id.as_str(), "p9");
        let mut inactive = there();
        inactive["active"] = json!(false);
        assert_eq!(problem(&judge(by, &inactive)), Some(LinkProblem::Inactive), "{by}");
    }
}

#[test]
fn numbers_or_a_birth_date_that_no_longer_agree_hold_a_link_by_rule_and_not_a_persons() {
    let mut number = there();
    number["identifier"] = json!([{"system": "https://saude.gov.br/fhir/sid/cpf", "value": OTHER_CPF}]);
    let mut birth = there();
    birth["birthDate"] = json!("1958-01-03");
    let mut modified = there();
    modified["implicitRules"] = json!("urn:x");
    for (there, want) in
        [(&number, LinkProblem::IdentifierDiffers), (&birth, LinkProblem::BirthDateDiffers), (&modified, LinkProblem::NotInterpreted)]
    {
        assert_eq!(problem(&judge("cpf", there)), Some(want));
        assert!(matches!(judge("person:ana", there), Reading::Good { .. }));
    }
}

#[test]
fn what_stands_on_one_side_only_or_is_partial_is_no_contradiction() {
    let mut bare = there();
    bare["identifier"] = json!([]);
    bare["birthDate"] = json!("1958");
    assert!(matches!(judge("cpf", &bare), Reading::Good { .. }));
    // Several CNS per person are the rule: with the CPF agreed on, another CNS says nothing.
    let mut cns = there();
    cns["identifier"] = json!([{"system": "https://saude.gov.br/fhir/sid/cpf", "value": CPF},
        {"system": "https://saude.gov.br/fhir/sid/cns", "value": "898001160660761"}]);
    assert!(matches!(judge("cpf", &cns), Reading::Good { .. }));
}

#[test]
fn a_patient_that_we_created_is_compared_only_with_our_newest_version() {
    let ours = |version: i64| {
        let mut there = there();
        there["birthDate"] = json!("1958-03-02");
        there["identifier"] = json!([fhir::identifier::ours(PATIENT_SYSTEM, "01890000-0000-7000-8000-000000000001", version)]);
        there
    };
    // Our own correction is still on its way.
    assert!(matches!(judge("created", &ours(1)), Reading::Good { .. }));
    assert_eq!(problem(&judge("created", &ours(2))), Some(LinkProblem::BirthDateDiffers));
}

#[test]
fn gone_and_denied_hold_and_a_sick_ehr_says_nothing() {
    let read = |class| judge_patient(&patient("cpf"), &EhrId::new("p1").unwrap(), &Outcome::ours(class, ""));
    assert_eq!(problem(&read(Class::Gone)), Some(LinkProblem::Gone));
    assert_eq!(problem(&read(Class::AuthDenied)), Some(LinkProblem::AccessDenied));
    for class in [Class::Unreachable, Class::Unavailable, Class::RateLimited, Class::AuthToken, Class::BadResponse, Class::Redirect] {
        assert_eq!(read(class), Reading::NotRead { class });
    }
    assert_eq!(judge("cpf", &json!({"resourceType": "Patient"})), Reading::NotRead { class: Class::BadResponse });
}

#[test]
fn a_good_reading_ends_a_hold_and_a_problem_keeps_who_linked_it() {
    let now = Timestamp(9);
    let mut held = patient("person:ana");
    held.link.state = LinkState::Held;
    held.link.problem = Some(LinkProblem::Inactive);
    let good = Reading::Good { etag: Some("5".to_owned()) }.link(&held, now).unwrap();
    assert!(!good.blocked && good.link.state == LinkState::Linked && good.link.problem.is_none() && good.link.verified_at == Some(now));
    let bad = Reading::Problem { problem: LinkProblem::Gone, candidates: Vec::new() }.link(&held, now).unwrap();
    assert!(bad.blocked && bad.link.state == LinkState::Held);
    assert_eq!((bad.link.by, bad.link.ehr_id), (held.link.by, held.link.ehr_id));
    assert!(Reading::NotRead { class: Class::Unreachable }.link(&patient("cpf"), now).is_none());
}
