//! What a resource keeps, what it refuses, and what it may not judge.

use super::*;
use proptest::prelude::*;

#[test]
fn a_byte_order_mark_is_skipped_and_the_rest_kept_byte_for_byte() {
    let text = "{ \"resourceType\" : \"Patient\",\r\n\t\"id\":\"a\" }\n";
    let resource = Resource::parse(&format!("\u{feff}{text}")).unwrap();
    assert_eq!(resource.raw(), text);
    assert_eq!(resource.id().map(|id| id.to_string()).as_deref(), Some("a"));
}

#[test]
fn every_refusal_is_a_sentence_that_repeats_nothing() {
    let cases: Vec<(&[u8], ParseError)> = vec![
        (b"", ParseError::Empty),
        (b"\xef\xbb\xbf \n", ParseError::Empty),
        (b"{\"resourceType\":\"Patient\",\"name\":\"Mar\xed", ParseError::NotUtf8 { at: 37 }),
        (b"{\"resourceType\":\"Patient\",\n\"id\":\"x", ParseError::CutOff { line: 2 }),
        (b"<html>Maria</html>", ParseError::NotJson { line: 1, column: 1 }),
        (b"[]", ParseError::NotAnObject { found: "an array" }),
        (b"\"Maria\"", ParseError::NotAnObject { found: "a text" }),
        (b"{}", ParseError::NoResourceType),
        (b"{\"resourceType\":1}", ParseError::NoResourceType),
        (b"{\"resourceType\":\"no type\"}", ParseError::NoResourceType),
        (b"{\"resourceType\":\"Patient\",\"a\":[{\"id\":\"1\",\"id\":\"2\"}]}", ParseError::DuplicateName { path: "a[0].id".into() }),
    ];
    for (bytes, expected) in cases {
        let error = Resource::parse_bytes(bytes).unwrap_err();
        assert_eq!(error, expected);
        assert!(!error.to_string().contains("Maria"), "{error}");
    }
}

#[test]
fn a_document_of_a_thousand_levels_is_refused_and_nobody_falls() {
    let deep = |levels: usize| format!("{{\"resourceType\":\"Patient\",\"x\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(matches!(Resource::parse(&deep(90_000)), Err(ParseError::NotJson { .. })));
    assert!(matches!(Resource::parse(&deep(100_000)), Err(ParseError::TooManyValues { .. })));
}

#[test]
fn a_subset_says_that_it_is_one() {
    let tagged = |tag: &str| Resource::parse(&format!(r#"{{"resourceType":"Patient","meta":{{"tag":[{tag}]}}}}"#)).unwrap().is_subsetted();
    assert!(tagged(r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}"#));
    assert!(tagged(r#"{"code":"SUBSETTED"}"#));
    assert!(!tagged(r#"{"system":"urn:other","code":"SUBSETTED"}"#) && !tagged(r#"{"code":"x"}"#));
}

#[test]
fn what_we_may_not_judge_is_named() {
    let why = |rest: &str| Resource::parse(&format!(r#"{{"resourceType":"Observation"{rest}}}"#)).unwrap().not_interpreted();
    let modifier = |path: &str| Some(NotInterpreted::ModifierExtension(path.to_owned()));
    assert_eq!(why(""), None);
    assert_eq!(why(r#","implicitRules":"urn:x""#), Some(NotInterpreted::ImplicitRules));
    assert_eq!(why(r#","modifierExtension":[{"url":"urn:x"}]"#), modifier("Observation.modifierExtension"));
    assert_eq!(why(r#","component":[{},{"modifierExtension":[{"url":"urn:x"}]}]"#), modifier("Observation.component[1].modifierExtension"));
    assert_eq!(why(r#","effectiveTiming":{"modifierExtension":[{"url":"u"}]}"#), modifier("Observation.effectiveTiming.modifierExtension"));
    assert_eq!(why(r#","contained":[{"resourceType":"Device","modifierExtension":[{"url":"urn:x"}]}]"#), None);
    assert_eq!(why(r#","extension":[{"url":"urn:x","valueString":"modifierExtension"}]"#), None);
}

#[test]
fn a_resource_is_not_printed_by_accident() {
    let resource = Resource::parse(r#"{"resourceType":"Patient","name":[{"text":"Maria"}]}"#).unwrap();
    assert_eq!(format!("{resource:?}"), "Resource(Patient, 52 bytes)");
}

/// JSON of any shape, as text, with numbers that no float can hold and odd spaces.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?",
        "[^\\x00-\\x1f\"\\\\]{0,12}".prop_map(|text| format!("\"{text}\"")),
        Just("\"\\u00e1\\n\\/\\\"\"".to_owned()),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|all| format!("[ {} ]", all.join(" ,\n"))),
            prop::collection::vec(inner, 0..5).prop_map(|all| {
                let members: Vec<String> = all.into_iter().enumerate().map(|(n, value)| format!("\"k{n}\" :{value}")).collect();
                format!("{{\t{}}}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_read_is_kept_byte_for_byte(value in json(), space in "[ \t\r\n]{0,3}") {
        let text = format!("{space}{{\"value\":{value},{space}\"resourceType\":\"Observation\"}}{space}");
        let resource = Resource::parse(&text).unwrap();
        prop_assert_eq!(resource.raw(), text.as_str());
        prop_assert_eq!(resource.into_raw(), text);
    }

    #[test]
    fn a_decimal_keeps_its_digits(number in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?") {
        let text = format!("{{\"resourceType\":\"Observation\",\"valueQuantity\":{{\"value\":{number}}}}}");
        let resource = Resource::parse(&text).unwrap();
        prop_assert_eq!(serde_json::to_string(resource.fields()).unwrap(), text);
    }

    #[test]
    fn no_bytes_make_it_fall(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Resource::parse_bytes(&bytes);
    }
}
