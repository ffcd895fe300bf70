//! What may not leave the house, and what each refusal says.

use super::*;
use serde_json::json;

fn observation(change: impl FnOnce(&mut Value)) -> Value {
    let mut value = json!({
        "resourceType": "Observation", "status": "final", "code": {"text": "Dor"},
        "effectiveDateTime": "2026-11-25T10:00:00-03:00", "valueString": "Maria"
    });
    change(&mut value);
    value
}

fn wrong(resource: &Value) -> Vec<String> {
    let resource_type = resource["resourceType"].as_str().unwrap();
    let issues = validate(resource_type, resource).err().unwrap_or_default();
    for issue in &issues {
        assert!(issue.detail.ends_with('.') && !issue.detail.contains("Maria"), "{issue}");
    }
    issues.into_iter().map(|issue| issue.expression).collect()
}

#[test]
fn a_good_observation_passes() {
    assert_eq!(wrong(&observation(|_| {})), Vec::<String>::new());
}

#[test]
fn what_is_missing_unknown_or_of_another_type_is_named() {
    assert_eq!(wrong(&json!({"resourceType": "Observation", "code": {"text": "x"}})), ["Observation.status"]);
    assert_eq!(wrong(&observation(|o| o["name1"] = json!("Maria"))), ["Observation.name1"]);
    assert_eq!(wrong(&observation(|o| o["code"] = json!([]))), ["Observation.code"]);
    assert_eq!(wrong(&observation(|o| o["valueBoolean"] = json!(true))).first().map(String::as_str), Some("Observation.value[x]"));
    assert_eq!(wrong(&observation(|o| o["id"] = json!("a_b"))), ["Observation.id"]);
    assert_eq!(wrong(&observation(|o| o["id"] = json!("a".repeat(65)))), ["Observation.id"]);
    assert_eq!(wrong(&observation(|o| o["status"] = json!("fin al  "))), ["Observation.status"]);
    assert_eq!(validate("Patient", &observation(|_| {})).unwrap_err()[0].expression, "Patient.resourceType");
}

#[test]
fn required_bindings_hold() {
    assert_eq!(wrong(&observation(|o| o["status"] = json!("Maria"))), ["Observation.status"]);
    assert_eq!(wrong(&json!({"resourceType": "Patient", "gender": "M"})), ["Patient.gender"]);
    assert_eq!(wrong(&json!({"resourceType": "Patient", "name": [{"use": "civil", "text": "x"}]})), ["Patient.name[0].use"]);
    assert_eq!(wrong(&json!({"resourceType": "Patient", "telecom": [{"value": "1"}]})), ["Patient.telecom[0]"]);
    let compared = observation(|o| {
        o.as_object_mut().unwrap().remove("valueString");
        o["valueQuantity"] = json!({"value": 1, "comparator": "=", "code": "mg"});
    });
    assert_eq!(wrong(&compared), ["Observation.valueQuantity", "Observation.valueQuantity.comparator"]);
}

#[test]
fn days_that_do_not_exist_do_not_pass() {
    for bad in ["2026-02-30T10:00:00Z", "2026-02-29", "0000", "2026-11-25T10:00:00", "2026-11-25T10:00:00+14:30"] {
        assert_eq!(wrong(&observation(|o| o["effectiveDateTime"] = json!(bad))), ["Observation.effectiveDateTime"], "{bad}");
    }
    assert_eq!(wrong(&json!({"resourceType": "Patient", "birthDate": "2023-02-29"})), ["Patient.birthDate"]);
}

#[test]
fn blank_texts_and_empty_family_names_do_not_pass() {
    assert_eq!(wrong(&observation(|o| o["valueString"] = json!("  "))), ["Observation.valueString"]);
    assert_eq!(wrong(&json!({"resourceType": "Patient", "name": [{"family": "", "given": ["Maria"]}]})), ["Patient.name[0].family"]);
}

#[test]
fn a_value_and_a_reason_for_its_absence_exclude_each_other() {
    let absent = json!({"text": "unknown"});
    assert_eq!(wrong(&observation(|o| o["dataAbsentReason"] = absent.clone())), ["Observation.dataAbsentReason"]);
    let component = observation(|o| {
        o["component"] = json!([{"code": {"text": "y"}, "valueString": "z", "dataAbsentReason": absent}]);
    });
    assert_eq!(wrong(&component), ["Observation.component[0].dataAbsentReason"]);
}

#[test]
fn a_component_with_the_same_code_leaves_no_room_for_a_value() {
    let same = observation(|o| {
        o["code"] = json!({"coding": [{"system": "http://loinc.org", "code": "85354-9"}]});
        o["component"] = json!([{"code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}, "valueString": "z"}]);
    });
    assert_eq!(wrong(&same), ["Observation.component[0].code"]);
}

#[test]
fn invariants_of_data_types_hold() {
    let with = |key: &str, value: Value| {
        observation(|o| {
            o.as_object_mut().unwrap().remove("valueString");
            o[key] = value;
        })
    };
    assert_eq!(wrong(&with("valueRatio", json!({"numerator": {"value": 1}}))), ["Observation.valueRatio"]);
    assert_eq!(wrong(&with("valueRange", json!({"low": {"value": 2}, "high": {"value": 1}}))), ["Observation.valueRange"]);
    let backwards = json!({"start": "2026-11-25T10:00:00Z", "end": "2026-11-25T06:00:00-03:00"});
    assert_eq!(wrong(&with("valuePeriod", backwards)), ["Observation.valuePeriod"]);
    assert_eq!(wrong(&with("referenceRange", json!([{"type": {"text": "x"}}]))), ["Observation.referenceRange[0]"]);
    assert_eq!(wrong(&with("extension", json!([{"url": "urn:x"}]))), ["Observation.extension[0]"]);
}
