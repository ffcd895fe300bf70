//! Sentences, codes and fingerprints out of good, bad and foreign answers.

use super::*;
use proptest::prelude::*;

fn outcome(json: &str) -> OperationOutcome {
    OperationOutcome::parse(json.as_bytes()).unwrap()
}

#[test]
fn the_worst_issue_speaks_not_the_first() {
    let read = outcome(
        r#"{"resourceType":"OperationOutcome","issue":[
          {"severity":"information","code":"informational","diagnostics":"unknown parameter ignored"},
          {"severity":"fatal","code":"required","details":{"coding":[{"system":"urn:oid:1.2","code":"59100","display":"required element missing"}],
           "text":"required element missing"},"diagnostics":"needs patient","expression":["Observation.component[2].code"]}]}"#,
    );
    assert_eq!(read.worst().map(|i| i.code.as_str()), Some("required"));
    assert_eq!(read.sentence().as_deref(), Some("required element missing (needs patient) [Observation.component[2].code]"));
    assert_eq!(read.fingerprint(Some(400)), "400|required,urn:oid:1.2#59100,Observation.component.code");
    assert!(read.names_an_element() && !read.is_transient());
}

#[test]
fn the_fingerprint_is_stable_over_values() {
    let of = |n: u32, text: &str| {
        outcome(&format!(
            r#"{{"resourceType":"OperationOutcome","issue":[{{"severity":"error","code":"value","diagnostics":"{text}",
            "expression":["Bundle.entry[{n}].resource.identifier.where(value='{text}').system"]}}]}}"#
        ))
        .fingerprint(Some(422))
    };
    assert_eq!(of(1, "52998224725"), of(17, "Maria"));
    assert_eq!(of(1, "x"), "422|value,Bundle.entry.resource.identifier.where.system");
}

#[test]
fn diagnostics_alone_and_narrative_alone_are_enough() {
    let rnds = outcome(
        r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"processing","diagnostics":"(EHR-ERR866) repeated"}]}"#,
    );
    assert_eq!(rnds.sentence().as_deref(), Some("(EHR-ERR866) repeated"));
    let div = outcome(r#"{"resourceType":"OperationOutcome","text":{"div":"<div><b>No</b> &amp; never</div>"}}"#);
    assert_eq!(div.sentence().as_deref(), Some("No & never"));
}

#[test]
fn transient_codes_are_known_and_a_missing_severity_is_an_error() {
    assert!(outcome(r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"throttled"}]}"#).is_transient());
    assert!(outcome(r#"{"resourceType":"OperationOutcome","issue":[{"code":"processing"}]}"#).has_error());
}

#[test]
fn an_issue_with_the_id_or_a_header_is_not_about_content() {
    for path in ["Observation.id", "http.If-Match", "id", "Patient", "demographics/_id"] {
        let json =
            format!(r#"{{"resourceType":"OperationOutcome","issue":[{{"severity":"error","code":"value","expression":["{path}"]}}]}}"#);
        assert!(!outcome(&json).names_an_element(), "{path}");
    }
}

#[test]
fn pages_and_garbage_are_named_and_not_repeated() {
    let html = b"<!DOCTYPE html><html><title>secret-marker</title></html>";
    assert_eq!(kind_of(html), BodyKind::Html);
    for body in [&html[..], b"", b" \n", b"{\"resourceType\":\"Operat", b"secret-marker", b"{}", b"\xff\xfe", b"\xEF\xBB\xBF{}"] {
        let words = sentence(502, body);
        assert!(words.contains("502") && !words.contains("secret-marker"), "{words}");
    }
    assert_eq!(fingerprint(Some(502), html), "502|html");
}

#[test]
fn debug_shows_no_text() {
    let read = outcome(r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"value","diagnostics":"Maria Silva"}]}"#);
    assert!(!format!("{read:?}").contains("Maria"));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (sentence(500, &bytes), fingerprint(None, &bytes), kind_of(&bytes));
    }

    #[test]
    fn foreign_texts_never_panic(text in "\\PC*", path in "\\PC*") {
        let json = serde_json::json!({"resourceType":"OperationOutcome","issue":[{"code": text, "diagnostics": text, "expression":[path]}],"text":{"div":text}});
        let read = OperationOutcome::from_value(&json).unwrap();
        let _ = (read.sentence(), read.fingerprint(Some(400)), read.names_an_element());
    }
}
