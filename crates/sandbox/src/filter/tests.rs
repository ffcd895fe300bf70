//! What a parameter finds and what it does not.

use std::sync::Arc;

use super::*;
use crate::twin::Version;

const READING: Reading = Reading { escapes: true, whole_seconds: false, last_updated: true };

fn finds(kind: &str, parameter: &str, value: &str, json: &str) -> bool {
    let body = Json::parse(json).unwrap();
    let row = Row {
        id: "1".to_owned(),
        versions: vec![Version {
            id: "1".to_owned(),
            at: 1_700_000_000_123,
            method: "POST",
            body: Some(Arc::new(body.clone())),
            sent: Vec::new(),
        }],
    };
    let filter = Filter::parse(kind, parameter, value, READING).unwrap().unwrap();
    filter.matches(&row, &body, 1_700_000_000_200)
}

#[test]
fn a_token_has_four_forms() {
    let json = r#"{"identifier":[{"system":"s","value":"v"},{"value":"bare"}]}"#;
    assert!(finds("Patient", "identifier", "s|v", json));
    assert!(finds("Patient", "identifier", "v", json));
    assert!(finds("Patient", "identifier", "s|", json));
    assert!(finds("Patient", "identifier", "|bare", json));
    assert!(finds("Patient", "identifier", "x|y,s|v", json));
    assert!(!finds("Patient", "identifier", "|v", json));
    assert!(!finds("Patient", "identifier", "t|v", json));
    assert!(!finds("Patient", "identifier", "s|V", json));
}

#[test]
fn escaped_separators_belong_to_the_value() {
    let json = r#"{"identifier":[{"system":"s","value":"a,b|c"}]}"#;
    assert!(finds("Patient", "identifier", r"s|a\,b\|c", json));
    assert!(!finds("Patient", "identifier", r"s|a,b", json));
}

#[test]
fn every_date_prefix_compares_intervals() {
    let json = r#"{"effectiveDateTime":"2024-01-14"}"#;
    for (value, found) in [
        ("2024-01-14", true),
        ("2024-01", true),
        ("eq2024-01-14T10:00:00Z", false),
        ("ne2024-01-15", true),
        ("gt2024-01-13", true),
        ("gt2024-01-14", false),
        ("lt2024-01-14T10:00:00Z", true),
        ("lt2024-01-14", false),
        ("ge2024-01-14", true),
        ("le2024-01-14", true),
        ("le2024-01-13", false),
        ("sa2024-01-13", true),
        ("sa2024-01-14", false),
        ("eb2024-01-15", true),
        ("eb2024-01-14", false),
        ("ap2024-01-20", true),
    ] {
        assert_eq!(finds("Observation", "date", value, json), found, "{value}");
    }
}

#[test]
fn last_updated_compares_to_the_millisecond() {
    let stamp = "2023-11-14T22:13:20.123Z";
    assert!(finds("Observation", "_lastUpdated", &format!("ge{stamp}"), "{}"));
    assert!(!finds("Observation", "_lastUpdated", &format!("gt{stamp}"), "{}"));
    assert!(finds("Observation", "_lastUpdated", "gt2023-11-14T22:13:20.122Z", "{}"));
}

#[test]
fn a_period_without_end_goes_on() {
    let json = r#"{"effectivePeriod":{"start":"2024-01-01"}}"#;
    assert!(finds("Observation", "date", "gt2030", json));
    assert!(!finds("Observation", "date", "lt2023", json));
}

#[test]
fn a_subject_is_found_in_each_of_its_forms() {
    let json = r#"{"subject":{"reference":"http://x/fhir/Patient/7"}}"#;
    for value in ["7", "Patient/7", "http://x/fhir/Patient/7"] {
        assert!(finds("Observation", "patient", value, json), "{value}");
        assert!(finds("Observation", "subject", value, json), "{value}");
    }
    assert!(!finds("Observation", "patient", "8", json));
    let group = r#"{"subject":{"reference":"Group/7"}}"#;
    assert!(!finds("Observation", "patient", "7", group));
    assert!(finds("Observation", "subject", "Group/7", group));
}

#[test]
fn codes_match_in_codings_and_plain_codes() {
    let json = r#"{"status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]}}"#;
    assert!(finds("Observation", "code", "http://loinc.org|8867-4", json));
    assert!(finds("Observation", "code", "8867-4", json));
    assert!(finds("Observation", "status", "final", json));
    assert!(finds("Observation", "status:not", "amended", json));
    assert!(!finds("Observation", "code", "http://loinc.org|8310-5", json));
}

#[test]
fn a_name_is_found_by_its_beginning_whatever_the_case() {
    let json = r#"{"name":[{"family":"Souza","given":["Ana","Maria"],"text":"Ana Maria de Souza"}],"telecom":[{"system":"phone","value":"+5511"}]}"#;
    assert!(finds("Patient", "family", "sou", json));
    assert!(finds("Patient", "given", "maria", json));
    assert!(finds("Patient", "name", "de", json));
    assert!(finds("Patient", "name:contains", "ouz", json));
    assert!(!finds("Patient", "family:exact", "souza", json));
    assert!(finds("Patient", "telecom", "+5511", json));
    assert!(!finds("Patient", "email", "+5511", json));
}

#[test]
fn an_unknown_parameter_is_none_and_an_unknown_modifier_is_refused() {
    assert!(Filter::parse("Patient", "shoe-size", "44", READING).unwrap().is_none());
    assert_eq!(Filter::parse("Patient", "identifier:fuzzy", "1", READING).unwrap_err().status, 400);
    assert_eq!(Filter::parse("Observation", "date", "soon", READING).unwrap_err().status, 400);
}
