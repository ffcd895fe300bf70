//! Rows: whose they are, what is kept of them, and what of them is not judged.

use super::*;
use serde_json::json;

fn reader() -> Reader {
    Reader {
        patient: PatientId("01890000-0000-7000-8000-000000000001".parse().unwrap()),
        ehr_id: EhrId::new("p1").unwrap(),
        base_url: "https://ehr.example/fhir".to_owned(),
        identifier_system: "urn:ponte:observation".to_owned(),
    }
}

fn read(resource: &Value) -> Row {
    reader().read_raw(&resource.to_string(), None)
}

fn own(row: Row) -> (PulledObservation, Option<Timestamp>) {
    match row {
        Row::Own { row, last_updated } => (*row, last_updated),
        _ => panic!("not this patient's row"),
    }
}

fn observation(subject: &Value) -> Value {
    json!({"resourceType": "Observation", "id": "o1", "meta": {"versionId": "7", "lastUpdated": "2026-11-25T04:00:00.120Z"},
        "status": "final", "code": {"text": "x"}, "subject": subject})
}

#[test]
fn only_a_subject_that_is_this_very_patient_makes_a_row_this_patients() {
    for reference in ["Patient/p1", "https://ehr.example/fhir/Patient/p1", "Patient/p1/_history/3"] {
        assert!(matches!(read(&observation(&json!({"reference": reference}))), Row::Own { .. }), "{reference}");
    }
    for subject in [
        json!({"reference": "Patient/p2"}),
        json!({"reference": "https://other.example/fhir/Patient/p1"}),
        json!({"reference": "Group/p1"}),
        json!({"reference": "#p1"}),
        json!({"display": "Somebody"}),
        json!({"identifier": {"system": "urn:x", "value": "p1"}}),
        Value::Null,
    ] {
        assert!(matches!(read(&observation(&subject)), Row::Foreign { ours: false }), "{subject}");
    }
    let mut nobody = observation(&Value::Null);
    nobody.as_object_mut().unwrap().remove("subject");
    assert!(matches!(read(&nobody), Row::Foreign { .. }));
}

#[test]
fn the_text_is_kept_to_the_digit_with_id_version_and_stamp() {
    let raw = r#"{"resourceType":"Observation","id":"o1","meta":{"versionId":"7","lastUpdated":"2026-11-25T01:00:00.120456-03:00"},"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p1"},"valueQuantity":{"value":1.10,"unit":"mg"}}"#;
    let (row, last_updated) = own(reader().read_raw(raw, None));
    assert_eq!(row.resource, raw);
    assert_eq!((row.ehr_id.as_str(), row.ehr_version.as_str()), ("o1", "7"));
    assert_eq!(last_updated, Timestamp::from_rfc3339("2026-11-25T04:00:00.120Z"));
    assert!(row.interpreted);
    let Some(model::Value::Quantity { value, .. }) = row.draft.value else { panic!("no quantity") };
    assert_eq!(value.to_string(), "1.10");
}

#[test]
fn our_own_push_is_known_by_its_identifier_and_its_mark() {
    let id = "01890000-0000-7000-8000-0000000000aa";
    let mut ours = observation(&json!({"reference": "Patient/p1"}));
    ours["identifier"] = json!([{"system": "urn:x", "value": "1"}, fhir::identifier::ours("urn:ponte:observation", id, 3)]);
    let (row, _) = own(read(&ours));
    assert_eq!(row.ours.map(|id| id.to_string()).as_deref(), Some(id));
    assert_eq!(row.mark, Some(3));
    ours["subject"] = json!({"reference": "Patient/p2"});
    assert!(matches!(read(&ours), Row::Foreign { ours: true }));
    let (theirs, _) = own(read(&observation(&json!({"reference": "Patient/p1"}))));
    assert_eq!((theirs.ours, theirs.mark), (None, None));
}

#[test]
fn a_row_whose_meaning_may_not_be_judged_is_kept_and_shows_no_value() {
    let mut modified = observation(&json!({"reference": "Patient/p1"}));
    modified["valueString"] = json!("7");
    modified["modifierExtension"] = json!([{"url": "urn:not", "valueBoolean": true}]);
    let (row, _) = own(read(&modified));
    assert!(!row.interpreted && row.draft.value.is_none());
    assert_eq!(row.resource, modified.to_string());
}

#[test]
fn a_row_with_a_name_twice_is_kept_as_it_came_and_not_interpreted() {
    let raw =
        r#"{"resourceType":"Observation","id":"o1","status":"final","status":"entered-in-error","subject":{"reference":"Patient/p1"}}"#;
    let (row, _) = own(reader().read_raw(raw, None));
    assert!(!row.interpreted);
    assert_eq!(row.resource, raw);
    let theirs = raw.replace("Patient/p1", "Patient/p2");
    assert!(matches!(reader().read_raw(&theirs, None), Row::Foreign { .. }));
}

#[test]
fn without_a_version_the_content_is_the_version() {
    let mut unversioned = observation(&json!({"reference": "Patient/p1"}));
    unversioned.as_object_mut().unwrap().remove("meta");
    let (first, stamp) = own(read(&unversioned));
    assert_eq!(stamp, None);
    assert_eq!(first.ehr_version, own(read(&unversioned)).0.ehr_version);
    unversioned["status"] = json!("amended");
    assert_ne!(first.ehr_version, own(read(&unversioned)).0.ehr_version);
}

#[test]
fn a_subset_or_an_entry_without_content_is_to_be_read_by_id() {
    let mut subset = observation(&json!({"reference": "Patient/p1"}));
    subset["meta"]["tag"] = json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}]);
    assert!(matches!(read(&subset), Row::Empty(_)));
    let bare = PageEntry { full_url: Some("https://ehr.example/fhir/Observation/o9".to_owned()), ..PageEntry::default() };
    assert!(matches!(reader().read(&bare), Row::Empty(id) if id.as_str() == "o9"));
    assert!(matches!(reader().read(&PageEntry::default()), Row::Unreadable));
    assert!(matches!(reader().read_raw("{", None), Row::Unreadable));
    let other = EhrId::new("o2").unwrap();
    assert!(matches!(reader().read_raw(&observation(&json!({"reference": "Patient/p1"})).to_string(), Some(&other)), Row::Unreadable));
}
