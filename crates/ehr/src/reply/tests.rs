//! Every row of PRODUCT's table, as claims.

use super::*;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_795_579_200_000);
const OURS: &str = "0193a1b2-0000-7000-8000-000000000001";
const HTML: &str = "<!DOCTYPE html><html><body>Sign in</body></html>";
const OO: &str = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"processing","diagnostics":"no"}]}"#;
const OO_ELEMENT: &str =
    r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"required","expression":["Observation.status"]}]}"#;

fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Sent {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Sent::Reply(Reply { status, headers: map, body: Bytes::from(body.to_owned()), elapsed_ms: 1 })
}

fn id(text: &str) -> EhrId {
    EhrId::new(text).unwrap()
}

fn own_id(first: bool) -> Interaction {
    Interaction::OwnIdCreate { resource_type: "Observation".into(), id: id(OURS), first }
}

fn conditional(first: bool) -> Interaction {
    Interaction::ConditionalCreate { resource_type: "Observation".into(), first }
}

fn plain() -> Interaction {
    Interaction::PlainCreate { resource_type: "Observation".into() }
}

fn update() -> Interaction {
    Interaction::Update { resource_type: "Observation".into(), id: id("8841") }
}

fn read() -> Interaction {
    Interaction::Read { resource_type: "Observation".into() }
}

fn writes() -> Vec<Interaction> {
    vec![own_id(true), own_id(false), conditional(true), conditional(false), plain(), update(), Interaction::Batch]
}

fn reads() -> Vec<Interaction> {
    vec![read(), Interaction::Search, Interaction::PostSearch, Interaction::Capabilities]
}

fn class(interaction: &Interaction, sent: &Sent) -> Class {
    classify(interaction, sent, NOW).class
}

fn observation(id: &str, version: &str) -> String {
    format!(r#"{{"resourceType":"Observation","id":"{id}","meta":{{"versionId":"{version}"}},"valueQuantity":{{"value":1.10}}}}"#)
}

#[test]
fn a_2xx_with_an_id_is_applied_with_id_version_and_every_digit() {
    let outcome = classify(&plain(), &reply(201, &[("etag", "W/\"9\"")], &observation("8841", "1")), NOW);
    assert_eq!(outcome.class, Class::Applied);
    assert_eq!((outcome.ehr_id, outcome.ehr_version.as_deref()), (Some(id("8841")), Some("1")));
    assert!(outcome.resource.unwrap().contains("1.10"));
    let bom = classify(&plain(), &reply(201, &[], &format!("\u{feff}{}", observation("8841", "1"))), NOW);
    assert_eq!((bom.class, bom.ehr_id), (Class::Applied, Some(id("8841"))));
}

#[test]
fn an_empty_2xx_is_read_from_location_and_etag() {
    let oracle = reply(201, &[("location", "https://h/r4/t/Observation/8841"), ("etag", "W/\"7\""), ("content-type", "text/html")], "");
    let outcome = classify(&plain(), &oracle, NOW);
    assert_eq!((outcome.class, outcome.ehr_id, outcome.ehr_version.as_deref()), (Class::Applied, Some(id("8841")), Some("7")));
    assert_eq!(outcome.resource, None);
    let history = classify(&plain(), &reply(201, &[("location", "Observation/8841/_history/3")], " "), NOW);
    assert_eq!(history.ehr_version.as_deref(), Some("3"));
    assert_eq!(class(&update(), &reply(204, &[("etag", "W/\"2\"")], "")), Class::Applied);
    assert_eq!(class(&own_id(true), &reply(201, &[("location", &format!("Observation/{OURS}/_history/1"))], "")), Class::Applied);
}

#[test]
fn an_empty_2xx_that_names_nothing_proves_nothing() {
    for interaction in writes() {
        for status in [200, 201, 202, 204] {
            assert_eq!(class(&interaction, &reply(status, &[], "")), Class::Uncertain, "{interaction:?} {status}");
        }
    }
    let other = reply(201, &[("location", "https://h/fhir/Patient/1")], "");
    assert_eq!(class(&plain(), &other), Class::Uncertain);
}

#[test]
fn html_broken_json_and_other_resources_after_a_write_are_uncertain() {
    let whole = observation("8841", "1");
    for interaction in writes() {
        for body in [HTML, &whole[..whole.len() - 3], "ok", "[]", r#"{"resourceType":"Patient","id":"1"}"#, "null"] {
            let location = [("location", "Observation/8841")];
            assert_eq!(class(&interaction, &reply(200, &location, body)), Class::Uncertain, "{interaction:?} {body}");
        }
    }
}

#[test]
fn a_success_with_an_error_inside_is_uncertain_and_one_with_a_hint_is_applied() {
    let headers = [("location", "Observation/8841/_history/1")];
    assert_eq!(class(&plain(), &reply(201, &headers, OO)), Class::Uncertain);
    let hint = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational"}]}"#;
    assert_eq!(class(&plain(), &reply(201, &headers, hint)), Class::Applied);
    assert_eq!(class(&Interaction::Batch, &reply(200, &headers, hint)), Class::Uncertain, "no entry of it is judged");
}

/// Nobody has read whether there is an error in it.
#[test]
fn a_success_with_more_issues_than_are_read_is_uncertain() {
    let hint = r#"{"severity":"information","code":"informational"}"#;
    let issues = vec![hint; fhir::json::VALUES_MAX / 2].join(",");
    let body = format!(r#"{{"resourceType":"OperationOutcome","issue":[{issues}]}}"#);
    let headers = [("location", "Observation/8841/_history/1")];
    for interaction in writes() {
        assert_eq!(class(&interaction, &reply(201, &headers, &body)), Class::Uncertain, "{interaction:?}");
    }
    assert_eq!(class(&read(), &reply(200, &[], &body)), Class::BadResponse);
}

#[test]
fn a_200_on_a_conditional_create_exists_and_a_201_is_applied() {
    let found = classify(&conditional(false), &reply(200, &[], &observation("77", "4")), NOW);
    assert_eq!((found.class, found.ehr_id), (Class::Exists, Some(id("77"))));
    assert_eq!(class(&conditional(true), &reply(201, &[], &observation("77", "1"))), Class::Applied);
    let bare = classify(&conditional(false), &reply(200, &[("location", "Observation/77")], ""), NOW);
    assert_eq!((bare.class, bare.ehr_id, bare.resource), (Class::Exists, Some(id("77")), None));
}

#[test]
fn a_303_on_a_create_exists_and_every_other_3xx_holds_the_connection() {
    let there = [("location", "https://h/fhir/Observation/77")];
    for interaction in [own_id(true), conditional(true), plain()] {
        let outcome = classify(&interaction, &reply(303, &there, ""), NOW);
        assert_eq!((outcome.class, outcome.ehr_id), (Class::Exists, Some(id("77"))));
    }
    assert_eq!(class(&update(), &reply(303, &there, "")), Class::Redirect);
    assert_eq!(class(&plain(), &reply(303, &[("location", "https://portal/login")], HTML)), Class::Redirect);
    for status in [300, 301, 302, 304, 307, 308] {
        for interaction in writes().into_iter().chain(reads()) {
            assert_eq!(class(&interaction, &reply(status, &there, "")), Class::Redirect, "{interaction:?} {status}");
        }
    }
}

#[test]
fn a_lost_answer_leaves_a_write_uncertain_and_a_read_unreachable() {
    for cause in [LostCause::Timeout, LostCause::Cut, LostCause::TooLarge] {
        let lost = || Sent::Lost { cause, detail: "x".into(), late: None };
        for interaction in writes() {
            assert_eq!(class(&interaction, &lost()), Class::Uncertain);
        }
        for interaction in reads() {
            let want = if cause == LostCause::TooLarge { Class::BadResponse } else { Class::Unreachable };
            assert_eq!(class(&interaction, &lost()), want);
        }
    }
}

#[test]
fn what_was_not_sent_keeps_its_class() {
    for class_of in [Class::Unreachable, Class::Tls, Class::AddressRefused] {
        let sent = Sent::NotSent { class: class_of, detail: "x".into(), withheld: false };
        assert_eq!(class(&plain(), &sent), class_of);
        assert!(class(&plain(), &sent).certainly_not_applied());
    }
    let withheld = Sent::NotSent { class: Class::Internal, detail: "x".into(), withheld: true };
    assert!(classify(&plain(), &withheld, NOW).withheld);
}

#[test]
fn server_errors_after_bytes_are_uncertain_for_writes_only() {
    for status in [408, 500, 502, 504, 505, 507, 520, 599] {
        for interaction in writes() {
            for body in ["", OO, HTML] {
                assert_eq!(class(&interaction, &reply(status, &[], body)), Class::Uncertain, "{interaction:?} {status}");
            }
        }
        for interaction in reads() {
            assert_eq!(class(&interaction, &reply(status, &[], OO)), Class::Unavailable, "{interaction:?} {status}");
        }
    }
}

#[test]
fn a_503_is_the_ehrs_own_only_with_retry_after_or_an_operation_outcome() {
    for interaction in writes() {
        assert_eq!(class(&interaction, &reply(503, &[], "")), Class::Uncertain);
        assert_eq!(class(&interaction, &reply(503, &[], HTML)), Class::Uncertain);
        assert_eq!(class(&interaction, &reply(503, &[("retry-after", "nonsense")], "")), Class::Uncertain);
        assert_eq!(class(&interaction, &reply(503, &[], OO)), Class::Unavailable);
        let told = classify(&interaction, &reply(503, &[("retry-after", "2")], ""), NOW);
        assert_eq!((told.class, told.retry_after_ms), (Class::Unavailable, Some(2000)));
    }
}

#[test]
fn a_429_is_not_applied_and_says_how_long() {
    for interaction in writes().into_iter().chain(reads()) {
        let headers = [("retry-after", "Wed, 25 Nov 2026 04:00:30 GMT"), ("date", "Wed, 25 Nov 2026 04:00:00 GMT")];
        let outcome = classify(&interaction, &reply(429, &headers, HTML), Timestamp(0));
        assert_eq!((outcome.class, outcome.retry_after_ms), (Class::RateLimited, Some(30_000)), "counted by the EHR's own clock");
        assert_eq!(outcome.server_date, http_date("Wed, 25 Nov 2026 04:00:00 GMT"));
    }
}

#[test]
fn refusals_of_credentials() {
    for interaction in writes().into_iter().chain(reads()) {
        assert_eq!(class(&interaction, &reply(401, &[], OO)), Class::AuthToken);
        assert_eq!(class(&interaction, &reply(403, &[], "")), Class::AuthDenied);
    }
}

#[test]
fn conflicts_are_read_again_and_several_matches_are_a_persons_case() {
    for status in [409, 412] {
        assert_eq!(class(&update(), &reply(status, &[], OO)), Class::Conflict);
        assert_eq!(class(&own_id(true), &reply(status, &[], "")), Class::Conflict);
    }
    assert_eq!(class(&conditional(false), &reply(412, &[], "")), Class::MultipleMatches);
    assert_eq!(class(&conditional(false), &reply(409, &[], "")), Class::Conflict);
    let several = OO.replace("processing", "multiple-matches");
    assert_eq!(class(&conditional(true), &reply(400, &[], &several)), Class::MultipleMatches);
    let duplicate = OO.replace("processing", "duplicate");
    let outcome = classify(&plain(), &reply(422, &[("location", "Observation/77")], &duplicate), NOW);
    assert_eq!((outcome.class, outcome.ehr_id), (Class::Exists, Some(id("77"))));
    assert_eq!(class(&plain(), &reply(422, &[], &duplicate)), Class::Validation);
}

#[test]
fn a_refusal_is_final_and_keeps_the_ehrs_words() {
    for interaction in [own_id(false), conditional(false), plain(), update(), Interaction::Search] {
        for status in [400, 422] {
            let outcome = classify(&interaction, &reply(status, &[], OO_ELEMENT), NOW);
            assert_eq!(outcome.class, Class::Validation, "{interaction:?} {status}");
            assert!(outcome.message.unwrap().contains("Observation.status"));
            assert_eq!(outcome.fingerprint.as_deref(), Some(format!("{status}|required,Observation.status").as_str()));
        }
    }
}

#[test]
fn a_first_own_id_may_be_refused_as_a_means_but_not_when_the_content_is_named() {
    for status in [400, 404, 405] {
        for body in ["", OO, HTML] {
            assert_eq!(class(&own_id(true), &reply(status, &[], body)), Class::MeansRefused, "{status}");
        }
    }
    assert_eq!(class(&own_id(true), &reply(400, &[], OO_ELEMENT)), Class::Validation);
    let about_id = OO_ELEMENT.replace("Observation.status", "Observation.id");
    assert_eq!(class(&own_id(true), &reply(400, &[], &about_id)), Class::MeansRefused);
    assert_eq!(class(&own_id(true), &reply(422, &[], OO)), Class::Validation);
    assert_eq!(class(&own_id(false), &reply(400, &[], OO)), Class::Validation, "proven: no doubt about the means");
    assert_eq!(class(&own_id(false), &reply(404, &[], OO)), Class::Gone);
    assert_eq!(class(&conditional(true), &reply(400, &[], OO)), Class::MeansRefused);
    assert_eq!(class(&conditional(true), &reply(400, &[], OO_ELEMENT)), Class::Validation);
}

#[test]
fn gone_is_gone_and_a_hospitals_deletion_stays_one() {
    for interaction in [update(), plain(), conditional(true), Interaction::Capabilities] {
        assert_eq!(class(&interaction, &reply(404, &[], HTML)), Class::Gone);
    }
    for interaction in [read(), Interaction::Search] {
        assert_eq!(class(&interaction, &reply(404, &[], OO)), Class::Gone);
        assert_eq!(class(&interaction, &reply(404, &[], "")), Class::Gone);
        for status in [400, 404, 405, 409, 412, 422] {
            assert_eq!(class(&interaction, &reply(status, &[], HTML)), Class::BadResponse, "a proxy's page says nothing of the row");
        }
    }
    for interaction in [update(), read(), own_id(true), own_id(false)] {
        assert_eq!(class(&interaction, &reply(410, &[], "")), Class::Gone);
    }
}

#[test]
fn a_batch_or_post_search_that_is_not_offered_is_a_refused_means() {
    for interaction in [Interaction::Batch, Interaction::PostSearch] {
        for status in [404, 405, 501] {
            assert_eq!(class(&interaction, &reply(status, &[], "")), Class::MeansRefused);
        }
        assert_eq!(class(&interaction, &reply(400, &[], &OO.replace("processing", "not-supported"))), Class::MeansRefused);
        assert_eq!(class(&interaction, &reply(400, &[], OO)), Class::Validation, "refused whole: halved by the caller");
    }
}

#[test]
fn a_413_is_too_large_and_a_wrong_way_is_the_connections() {
    for interaction in writes() {
        assert_eq!(class(&interaction, &reply(413, &[], HTML)), Class::TooLarge);
        for status in [407, 415, 421] {
            assert_eq!(class(&interaction, &reply(status, &[], "")), Class::Unavailable, "no row dies of a proxy");
        }
    }
}

#[test]
fn html_or_garbage_on_a_read_is_a_bad_response() {
    for interaction in reads() {
        for body in [HTML, "", "{\"resourceType\":\"Bun", "[]", r#"{"resourceType":"Basic"}"#] {
            assert_eq!(class(&interaction, &reply(200, &[], body)), Class::BadResponse, "{interaction:?} {body}");
        }
    }
    let outcome = classify(&read(), &reply(200, &[], &observation("8841", "1")), NOW);
    assert_eq!((outcome.class, outcome.ehr_id), (Class::Applied, Some(id("8841"))));
}

#[test]
fn an_update_answered_with_another_resource_is_a_conflict() {
    assert_eq!(class(&update(), &reply(200, &[], &observation("9999", "1"))), Class::Conflict);
    let renamed = classify(&own_id(true), &reply(201, &[], &observation("9999", "1")), NOW);
    assert_eq!((renamed.class, renamed.ehr_id), (Class::Applied, Some(id("9999"))), "recorded under the id that it says");
}

#[test]
fn batch_entries_are_judged_each_on_its_own() {
    let entry = |status: Option<u16>| EntryResponse { status, ..EntryResponse::default() };
    assert_eq!(classify_entry(&plain(), &entry(None)).class, Class::Uncertain);
    let created = EntryResponse { location: location("Observation/5/_history/1"), etag: Some("1".into()), ..entry(Some(201)) };
    let outcome = classify_entry(&plain(), &created);
    assert_eq!((outcome.class, outcome.ehr_id, outcome.ehr_version.as_deref()), (Class::Applied, Some(id("5")), Some("1")));
    assert_eq!(classify_entry(&own_id(false), &entry(Some(201))).ehr_id, Some(id(OURS)), "no resource, no etag: WSO2");
    assert_eq!(classify_entry(&plain(), &entry(Some(201))).class, Class::Uncertain, "and no id");
    for (status, want) in [
        (429, Class::RateLimited),
        (401, Class::AuthToken),
        (403, Class::AuthDenied),
        (412, Class::Conflict),
        (422, Class::Validation),
        (500, Class::Uncertain),
        (503, Class::Unavailable),
    ] {
        let outcome = classify_entry(&update(), &entry(Some(status)));
        assert_eq!(outcome.class, want, "{status}");
        assert!(outcome.message.is_some());
    }
    let words = OperationOutcome::parse(OO_ELEMENT.as_bytes());
    let refused = classify_entry(&own_id(true), &EntryResponse { outcome: words, ..entry(Some(400)) });
    assert_eq!((refused.class, refused.fingerprint.as_deref()), (Class::Validation, Some("400|required,Observation.status")));
}

#[test]
fn debug_shows_neither_words_nor_resource() {
    let body = OO.replace("\"no\"", "\"Maria marker\"");
    let outcome = classify(&plain(), &reply(422, &[], &body), NOW);
    assert!(outcome.message.as_deref().unwrap().contains("marker"));
    assert!(!format!("{outcome:?}").contains("marker"));
}

proptest! {
    #[test]
    fn any_answer_has_a_class_and_no_write_is_refused_on_a_5xx(status in 100u16..700, body in "\\PC{0,60}", which in 0usize..7) {
        let interaction = &writes()[which];
        let outcome = classify(interaction, &reply(status, &[], &body), NOW);
        if (500..600).contains(&status) && status != 501 {
            prop_assert!(!outcome.class.certainly_not_applied());
        }
        if outcome.ok() {
            prop_assert!((200..300).contains(&status) && (outcome.ehr_id.is_some() || *interaction == Interaction::Batch));
        }
        prop_assert_eq!(outcome.status, Some(status));
    }
}
