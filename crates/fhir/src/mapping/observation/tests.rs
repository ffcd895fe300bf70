//! Both ways: what is sent, what is read, and every fault of the replaced project's mapper.

use super::*;
use crate::resource::{NotInterpreted, Resource};
use crate::validate::validate;
use model::{Decimal, PatientId};
use proptest::prelude::*;

const LOINC: &str = "http://loinc.org";
const BASE: &str = "https://ehr.example/fhir";

fn draft(code: &str, value: Option<OwnValue>) -> ObservationDraft {
    ObservationDraft {
        patient_id: PatientId(uuid::Uuid::nil()),
        code: Some(code.into()),
        code_system: Some(LOINC.into()),
        display: Some("Dor (0 a 10)".into()),
        effective: Some("2026-11-25T10:00:00-03:00".into()),
        value,
        status: "final".into(),
        message_id: None,
        external_id: None,
    }
}

fn number(value: &str, unit: &str) -> Option<OwnValue> {
    let unit = (!unit.is_empty()).then(|| unit.to_owned());
    Some(OwnValue::Quantity { value: Decimal::parse(value).unwrap(), unit })
}

fn send(draft: &ObservationDraft) -> Value {
    let patient = EhrId::new("p1").unwrap();
    let with = ToFhir {
        observation: ObservationId(uuid::Uuid::from_u128(7)),
        version: 3,
        identifier_system: "urn:ponte:observation",
        patient: &patient,
        score_category: "survey",
        id: None,
        issued: Timestamp(1_795_579_200_123),
    };
    let sent = to_fhir(draft, &with);
    assert_eq!(validate("Observation", &sent), Ok(()), "{sent}");
    sent
}

fn read(text: &str) -> EhrObservation {
    EhrObservation::from_fhir(&Resource::parse(text).unwrap()).unwrap()
}

fn read_with(rest: &str) -> EhrObservation {
    read(&format!(r#"{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},{rest}}}"#))
}

#[test]
fn a_score_leaves_whole() {
    let sent = send(&draft("72514-3", number("7", "{score}")));
    let expected = r#"{"resourceType":"Observation","meta":{"source":"urn:ponte:version:3"},"identifier":[{"extension":[{"url":"urn:ponte:version","valueString":"3"}],"system":"urn:ponte:observation","value":"00000000-0000-0000-0000-000000000007"}],"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"survey","display":"Survey"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"72514-3"}],"text":"Dor (0 a 10)"},"subject":{"reference":"Patient/p1"},"effectiveDateTime":"2026-11-25T10:00:00-03:00","issued":"2026-11-25T04:00:00.123Z","performer":[{"reference":"Patient/p1"}],"valueQuantity":{"value":7,"unit":"{score}","system":"http://unitsofmeasure.org","code":"{score}"}}"#;
    assert_eq!(sent.to_string(), expected);
}

#[test]
fn an_update_carries_the_id_of_its_url_and_the_mark_of_its_version() {
    let (patient, id) = (EhrId::new("p1").unwrap(), EhrId::new("obs-9").unwrap());
    let with = ToFhir {
        observation: ObservationId(uuid::Uuid::from_u128(7)),
        version: 12,
        identifier_system: "urn:tenant",
        patient: &patient,
        score_category: "exam",
        id: Some(&id),
        issued: Timestamp(0),
    };
    let mut withdrawn = draft("72514-3", number("7", "{score}"));
    withdrawn.status = "entered-in-error".into();
    let sent = to_fhir(&withdrawn, &with);
    assert_eq!((sent["id"].as_str(), sent["status"].as_str()), (Some("obs-9"), Some("entered-in-error")));
    assert_eq!(sent["category"][0]["coding"][0]["code"], "exam");
    assert_eq!(sent.get("performer"), None);
    let stored = Resource::parse(&sent.to_string()).unwrap();
    assert_eq!(crate::identifier::version_mark(&stored, "urn:tenant", &with.observation.to_string()), Some(12));
}

#[test]
fn digits_and_offsets_leave_as_they_came() {
    for digits in ["1.10", "0.010", "-0.0", "36.50", "0.1234567890123456789012345678901234"] {
        let sent = send(&draft("718-7", number(digits, "g/dL")));
        assert_eq!(sent["valueQuantity"]["value"].to_string(), digits);
    }
    for time in ["2026", "2026-11", "2026-11-25", "2026-11-25T10:00:00-03:00", "2026-11-25T10:00:00.1200000+05:30"] {
        let mut timed = draft("72514-3", number("7", "{score}"));
        timed.effective = Some(time.into());
        assert_eq!(send(&timed)["effectiveDateTime"], time);
    }
}

#[test]
fn vital_signs_carry_their_category_and_the_code_that_r4_wants_beside() {
    let codes = |sent: &Value| -> Vec<String> {
        sent["code"]["coding"].as_array().unwrap().iter().map(|c| c["code"].as_str().unwrap().to_owned()).collect()
    };
    let oral = send(&draft("8331-1", number("36.5", "Cel")));
    assert_eq!(codes(&oral), ["8331-1", "8310-5"]);
    assert_eq!(oral["category"][0]["coding"][0]["code"], "vital-signs");
    assert_eq!(oral.get("performer"), None);
    assert_eq!(codes(&send(&draft("59408-5", number("97", "%")))), ["59408-5", "2708-6"]);
    assert_eq!(codes(&send(&draft("2708-6", number("97", "%")))), ["2708-6"], "the general code does not tell the special one");
    assert_eq!(oral["code"]["coding"][0]["display"], "Oral temperature");
}

#[test]
fn a_laboratory_is_never_guessed_and_an_answer_is_a_survey() {
    let mut hemoglobin = draft("718-7", number("10.1", "g/dL"));
    assert_eq!(send(&hemoglobin).get("category"), None);
    hemoglobin.message_id = Some("wamid.1".into());
    assert_eq!(send(&hemoglobin).get("category"), None);
    let mut symptom = draft("nausea", Some(OwnValue::Text("enjoo desde ontem".into())));
    symptom.code_system = Some("urn:clinic:sintoma".into());
    assert_eq!(send(&symptom).get("category"), None);
    symptom.message_id = Some("wamid.1".into());
    let sent = send(&symptom);
    assert_eq!(sent["category"][0]["coding"][0]["code"], "survey");
    assert_eq!(sent["performer"][0]["reference"], "Patient/p1");
    assert_eq!(sent["valueString"], "enjoo desde ontem");
    assert_eq!(sent["code"]["coding"][0]["display"], "Dor (0 a 10)");
}

#[test]
fn a_unit_is_a_code_only_if_it_is_one() {
    let mmhg = send(&draft("8480-6", number("120", "mmHg")));
    assert_eq!(mmhg["valueQuantity"].to_string(), r#"{"value":120,"unit":"mmHg"}"#);
    let good = send(&draft("8480-6", number("120", "mm[Hg]")));
    assert_eq!(good["valueQuantity"]["code"], "mm[Hg]");
    assert_eq!(send(&draft("8480-6", number("120", "")))["valueQuantity"].to_string(), r#"{"value":120}"#);
}

#[test]
fn text_only_codes_and_absent_times_leave_too() {
    let mut bare = draft("x", Some(OwnValue::Text("sim".into())));
    (bare.code, bare.code_system, bare.effective) = (None, None, None);
    assert_eq!(send(&bare)["code"].to_string(), r#"{"text":"Dor (0 a 10)"}"#);
}

// Faults of the mapper that Ponte replaces (facts CODES-AND-BRAZIL §2, end), one test each.

#[test]
fn a_units_system_never_goes_without_its_code() {
    for unit in ["mg", "mmHg", "pontos", "", "{score}", "K/uL"] {
        let quantity = &send(&draft("718-7", number("1", unit)))["valueQuantity"];
        assert_eq!(quantity.get("system").is_some(), quantity.get("code").is_some(), "{unit}");
    }
}

#[test]
fn the_subject_is_the_ehrs_patient_and_never_our_own_id() {
    let mut own = draft("72514-3", number("7", "{score}"));
    own.patient_id = PatientId(uuid::Uuid::from_u128(99));
    let sent = send(&own);
    assert_eq!(sent["subject"]["reference"], "Patient/p1");
    assert!(!sent.to_string().contains("000000000063"));
}

#[test]
fn components_codes_and_integers_are_kept_on_pull() {
    let text = r#"{"resourceType":"Observation","status":"final","code":{"text":"PA"},"component":[{"code":{"text":"s"},"valueInteger":120},
        {"code":{"text":"d"},"valueCodeableConcept":{"text":"alta"}}]}"#;
    let pulled = read(text);
    assert_eq!((pulled.components, pulled.resource.as_str()), (2, text));
    for (kind, name) in ValueKind::ALL {
        let pulled = read(&format!(r#"{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},"{name}":{{}}}}"#));
        assert_eq!(pulled.value_kind, Some(*kind));
        assert!(pulled.resource.contains(name));
    }
}

#[test]
fn times_are_not_rewritten_to_utc_on_pull() {
    assert_eq!(read_with(r#""effectiveDateTime":"2020-03-01T10:00:00-02:00""#).effective_text(), Some("2020-03-01T10:00:00-02:00"));
    assert_eq!(
        read_with(r#""effectiveInstant":"2020-03-01T10:00:00.1234567+14:00""#).effective_text(),
        Some("2020-03-01T10:00:00.1234567+14:00")
    );
    assert_eq!(read_with(r#""effectiveDateTime":"2018-11-04""#).effective_text(), Some("2018-11-04"));
}

#[test]
fn a_category_is_sent() {
    assert!(send(&draft("72514-3", number("7", "{score}"))).get("category").is_some());
}

#[test]
fn only_a_certain_value_fills_our_own_fields() {
    assert_eq!(
        read_with(r#""valueQuantity":{"value":1.10,"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}"#).value,
        number("1.10", "mg")
    );
    assert_eq!(
        read_with(r#""valueQuantity":{"value":120,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}"#).value,
        number("120", "mm[Hg]")
    );
    assert_eq!(read_with(r#""valueQuantity":{"value":120,"unit":"mmHg"}"#).value, number("120", "mmHg"));
    assert_eq!(read_with(r#""valueQuantity":{"value":3}"#).value, number("3", ""));
    assert_eq!(read_with(r#""valueString":"7/10""#).value, Some(OwnValue::Text("7/10".into())));
    for uncertain in [
        r#""valueQuantity":{"value":0.5,"comparator":"<","unit":"mg"}"#,
        r#""valueQuantity":{"unit":"mg"}"#,
        r#""valueQuantity":{"value":"1"}"#,
        r#""valueQuantity":{"value":1,"system":"http://snomed.info/sct","code":"258684004"}"#,
        r#""valueQuantity":{"value":1},"dataAbsentReason":{"text":"x"}"#,
        r#""valueQuantity":{"value":1},"valueString":"2""#,
        r#""valueInteger":7"#,
        r#""valueRatio":{"numerator":{"value":1},"denominator":{"value":2}}"#,
        r#""valueCodeableConcept":{"text":"7"}"#,
        r#""dataAbsentReason":{"text":"x"}"#,
    ] {
        assert_eq!(read_with(uncertain).value, None, "{uncertain}");
    }
}

#[test]
fn what_we_may_not_judge_has_no_value() {
    let not = read_with(r#""valueString":"nega dor","modifierExtension":[{"url":"urn:negated","valueBoolean":true}]"#);
    assert_eq!(not.not_interpreted, Some(NotInterpreted::ModifierExtension("Observation.modifierExtension".into())));
    assert!(!not.interpreted() && not.value.is_none());
    assert!(!read_with(r#""implicitRules":"urn:x","valueString":"a""#).interpreted());
}

#[test]
fn the_first_loinc_coding_is_chosen_and_text_alone_has_no_code() {
    let coded = |codings: &str| read(&format!(r#"{{"resourceType":"Observation","code":{{"coding":[{codings}],"text":"Texto"}}}}"#));
    let local_first = coded(r#"{"system":"urn:l","code":"a"},{"system":"http://loinc.org","code":"718-7","display":"Hb"}"#);
    assert_eq!((local_first.code.as_deref(), local_first.display.as_deref()), (Some("718-7"), Some("Texto")));
    let oid = coded(r#"{"system":"urn:l","code":"a"},{"system":"urn:oid:2.16.840.1.113883.6.1","code":"718-7"}"#);
    assert_eq!(oid.code.as_deref(), Some("718-7"));
    let cdc = coded(r#"{"system":"urn:oid:2.16.840.1.113883.6.238","code":"2039-6"},{"code":"x"}"#);
    assert_eq!((cdc.code.as_deref(), cdc.code_system.as_deref()), (Some("2039-6"), Some("urn:oid:2.16.840.1.113883.6.238")));
    let none = coded(r#"{"display":"só palavras"}"#);
    assert_eq!((none.code, none.code_system, none.display.as_deref()), (None, None, Some("Texto")));
}

#[test]
fn an_unknown_status_is_kept_and_a_missing_one_is_unknown() {
    let odd = read(r#"{"resourceType":"Observation","status":"this_is_invalid","code":{}}"#);
    assert_eq!(odd.draft(PatientId(uuid::Uuid::nil())).status, "this_is_invalid");
    let none = read(r#"{"resourceType":"Observation","code":{}}"#);
    assert_eq!((none.status.as_deref(), none.draft(PatientId(uuid::Uuid::nil())).status.as_str()), (None, "unknown"));
}

#[test]
fn a_row_is_about_our_patient_or_it_is_not() {
    let p1 = EhrId::new("p1").unwrap();
    assert!(read_with(r#""subject":{"reference":"Patient/p1"}"#).subject_is(&p1, BASE));
    assert!(read_with(r#""subject":{"reference":"https://ehr.example/fhir/Patient/p1"}"#).subject_is(&p1, BASE));
    for not in [
        r#""subject":{"reference":"Patient/p2"}"#,
        r#""subject":{"reference":"Group/p1"}"#,
        r#""subject":{"reference":"https://elsewhere.example/fhir/Patient/p1"}"#,
        r##""subject":{"reference":"#p1"},"contained":[{"resourceType":"Patient","id":"p1"}]"##,
        r#""subject":{"identifier":{"value":"p1"}}"#,
        r#""subject":"Patient/p1""#,
        r#""performer":[{"reference":"Patient/p1"}]"#,
    ] {
        assert!(!read_with(not).subject_is(&p1, BASE), "{not}");
    }
}

#[test]
fn our_own_push_is_known_by_its_identifier() {
    let back = read(&send(&draft("72514-3", number("7", "{score}"))).to_string());
    assert_eq!(back.identifier_in("urn:ponte:observation"), Some("00000000-0000-0000-0000-000000000007"));
    assert!(back.carries("urn:ponte:observation", "00000000-0000-0000-0000-000000000007") && !back.carries("urn:x", "7"));
}

#[test]
fn a_period_and_a_timing_are_not_one_time() {
    let period = read_with(r#""effectivePeriod":{"start":"2026-01-01"}"#);
    assert_eq!(period.effective, Some(Effective::Period { start: Some("2026-01-01".into()), end: None }));
    assert_eq!(period.effective_text(), None);
    assert_eq!(read_with(r#""effectiveTiming":{"event":["2026-01-01"]}"#).effective, Some(Effective::Timing));
    assert_eq!(read_with(r#""effectiveDateTime":"2026-02-30""#).effective, None);
}

#[test]
fn another_type_is_refused() {
    let patient = Resource::parse(r#"{"resourceType":"Patient"}"#).unwrap();
    assert!(EhrObservation::from_fhir(&patient).is_err());
}

prop_compose! {
    fn any_draft()(
        code in prop::option::of("[A-Za-z0-9-]{1,12}"),
        known in prop::option::of(prop::sample::select(codes::VITAL_SIGNS.iter().map(|v| v.code).collect::<Vec<_>>())),
        system in prop::option::of(prop::sample::select(vec![LOINC, "urn:clinic:x"])),
        display in "[A-Za-zÀ-ú0-9][A-Za-zÀ-ú0-9 ()]{0,20}",
        number in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?",
        unit in prop::option::of("[a-zA-Z%/{}\\[\\]0-9]{1,8}"),
        words in prop::option::of("[^\\x00-\\x1f ][^\\x00-\\x1f]{0,30}"),
        status in prop::sample::select(vec!["final", "corrected", "entered-in-error", "preliminary"]),
        message in prop::option::of("[a-z0-9]{1,8}"),
    ) -> ObservationDraft {
        let value = match words {
            Some(words) if !words.trim().is_empty() => OwnValue::Text(words),
            _ => OwnValue::Quantity { value: Decimal::parse(&number).unwrap(), unit },
        };
        ObservationDraft {
            patient_id: PatientId(uuid::Uuid::nil()), code: known.map(str::to_owned).or(code), code_system: system.map(str::to_owned),
            display: Some(display), effective: Some("2026-11-25T10:00:00-03:00".into()), value: Some(value), status: status.into(),
            message_id: message, external_id: None,
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_platform_says_is_valid_r4_and_comes_back_the_same(draft in any_draft()) {
        let sent = send(&draft);
        let back = read(&sent.to_string());
        prop_assert_eq!(&back.resource, &sent.to_string());
        let again = back.draft(draft.patient_id);
        prop_assert_eq!(again.value, draft.value);
        prop_assert_eq!(again.effective, draft.effective);
        prop_assert_eq!(again.code.as_ref(), draft.code.as_ref());
        prop_assert_eq!(again.status, draft.status);
        prop_assert!(crate::compare::differences(&sent, sent.as_object().unwrap()).is_empty());
    }
}
