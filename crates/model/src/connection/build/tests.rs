//! A config body, read.

use super::*;

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

const ORIGINAL: &str = r#"{"enabled":true,"baseUrl":"https://fhir.example.com/fhir","authType":"oauth2","authConfig":{"clientId":"your-client-id",
"clientSecret":"your-client-secret","tokenUrl":"https://fhir.example.com/oauth/token","scope":"system/*.read system/*.write"},
"syncDirection":"bidirectional","syncFrequency":"realtime","maxRetries":3,"initialDelay":1000,"maxDelay":30000,"backoffMultiplier":2.0}"#;

#[test]
fn the_originals_body_is_taken_word_for_word() {
    let built = Connection::build(&object(ORIGINAL), None).unwrap();
    assert!(built.connection.enabled && built.secret_changed && !built.moved);
    assert_eq!(built.connection.frequency, Frequency::Realtime);
    assert_eq!(built.connection.identifier_system, "urn:ponte:observation");
}

#[test]
fn a_shown_secret_sent_back_keeps_it_and_other_keys_change() {
    let first = Connection::build(&object(ORIGINAL), None).unwrap().connection;
    let body = r#"{"authConfig":{"clientSecret":{"set":true,"updatedAt":"2026-11-25T00:00:00Z"},"clientId":"other"},"maxRetries":4}"#;
    let built = Connection::build(&object(body), Some(&first)).unwrap();
    assert!(!built.secret_changed);
    match built.connection.auth {
        AuthConfig::OAuth2 { client_id, client_secret, .. } => {
            assert_eq!((client_id.as_str(), client_secret.expose_secret()), ("other", "your-client-secret"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(built.connection.retry.max_retries, 4);
}

#[test]
fn another_auth_type_needs_its_whole_auth_config() {
    let first = Connection::build(&object(ORIGINAL), None).unwrap().connection;
    let errors = Connection::build(&object(r#"{"authType":"basic"}"#), Some(&first)).unwrap_err();
    assert_eq!(errors[0].pointer, "/authConfig");
    let errors = Connection::build(&object(r#"{"authType":"basic","authConfig":{"username":"a"}}"#), Some(&first)).unwrap_err();
    assert_eq!((errors[0].pointer.as_str(), errors[0].code), ("/authConfig/password", "required"));
}

#[test]
fn every_bad_field_is_named_and_no_value_repeated() {
    let body = r#"{"baseUrl":"ftp://s3cr3t@x","authType":"basic","authConfig":{"username":"u","password":""},"maxRetries":21,
    "initialDelay":0,"backoffMultiplier":0.5,"syncDirection":"sideways","enabled":"yes","surprise":1}"#;
    let errors = Connection::build(&object(body), None).unwrap_err();
    let pointers: Vec<&str> = errors.iter().map(|e| e.pointer.as_str()).collect();
    for want in [
        "/baseUrl",
        "/authConfig/password",
        "/maxRetries",
        "/initialDelay",
        "/backoffMultiplier",
        "/syncDirection",
        "/enabled",
        "/surprise",
    ] {
        assert!(pointers.contains(&want), "{want} not in {pointers:?}");
    }
    assert!(!format!("{errors:?}").contains("s3cr3t"));
}

#[test]
fn another_base_url_is_another_generation() {
    let first = Connection::build(&object(ORIGINAL), None).unwrap().connection;
    assert!(!Connection::build(&object(r#"{"baseUrl":"https://fhir.example.com/fhir/"}"#), Some(&first)).unwrap().moved);
    assert!(Connection::build(&object(r#"{"baseUrl":"https://other.example.com/fhir"}"#), Some(&first)).unwrap().moved);
}
