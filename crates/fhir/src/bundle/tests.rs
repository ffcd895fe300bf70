//! A batch out, a batch-response and a page in.

use super::*;
use proptest::prelude::*;

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

#[test]
fn a_batch_keeps_every_digit_and_says_what_is_asked() {
    let put =
        BatchEntry::put("urn:uuid:1".into(), "Observation", "a-1", raw(r#"{"valueQuantity":{"value":1.10}}"#), Some("W/\"3\"".into()));
    let post = BatchEntry::post("urn:uuid:2".into(), "Observation", raw("{}"), Some("identifier=s|v".into()));
    let text = batch(&[put, post, BatchEntry::get("Patient/1".into())]).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"resourceType":"Bundle","type":"batch","entry":["#,
            r#"{"fullUrl":"urn:uuid:1","resource":{"valueQuantity":{"value":1.10}},"request":{"method":"PUT","url":"Observation/a-1","ifMatch":"W/\"3\""}},"#,
            r#"{"fullUrl":"urn:uuid:2","resource":{},"request":{"method":"POST","url":"Observation","ifNoneExist":"identifier=s|v"}},"#,
            r#"{"request":{"method":"GET","url":"Patient/1"}}]}"#
        )
    );
}

#[test]
fn one_resource_never_travels_twice() {
    let put = |n: &str| BatchEntry::put(format!("urn:uuid:{n}"), "Observation", "a", raw("{}"), None);
    let post = |n: &str| BatchEntry::post(format!("urn:uuid:{n}"), "Observation", raw("{}"), Some("identifier=s|v".into()));
    assert_eq!(batch(&[put("1"), put("2")]), Err(BundleError::SameResourceTwice));
    assert_eq!(batch(&[post("1"), post("2")]), Err(BundleError::SameResourceTwice));
    assert_eq!(batch(&[]), Err(BundleError::NoEntry));
}

#[test]
fn statuses_are_three_digits_or_unknown() {
    let body = br#"{"resourceType":"Bundle","type":"batch-response","entry":[
        {"response":{"status":"201 Created","location":"Observation/1/_history/2","etag":"W/\"2\"","lastModified":"2026-01-01T00:00:00Z"}},
        {"response":{"status":"200"},"resource":{"resourceType":"Observation","id":"x","valueQuantity":{"value":1.10}}},
        {"response":{"status":"DELETE"}},
        {"response":{"status":201}},
        {"response":{"status":"20"}},
        {"response":{"status":"4221"}},
        {"response":"oops"}, 7, {}]}"#;
    let entries = batch_response(body, 9).unwrap();
    let statuses: Vec<Option<u16>> = entries.iter().map(|e| e.status).collect();
    assert_eq!(statuses, [Some(201), Some(200), None, Some(201), None, Some(422), None, None, None]);
    assert_eq!(entries[0].etag.as_deref(), Some("2"));
    assert_eq!(entries[0].location.as_ref().map(|l| l.id.as_str()), Some("1"));
    assert!(entries[1].resource.as_ref().unwrap().get().contains("1.10"));
}

#[test]
fn an_entrys_error_is_found_in_both_places() {
    let body = br#"{"resourceType":"Bundle","type":"batch-response","entry":[
        {"response":{"status":"422","outcome":{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"required"}]}}},
        {"response":{"status":"400"},"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"value"}]}}]}"#;
    let entries = batch_response(body, 2).unwrap();
    assert!(entries[0].outcome.as_ref().unwrap().has_code("required"));
    assert!(entries[1].outcome.as_ref().unwrap().has_code("value") && entries[1].resource.is_none());
}

#[test]
fn another_count_or_type_pairs_nothing() {
    let one = br#"{"resourceType":"Bundle","type":"batch-response","entry":[{"response":{"status":"201"}}]}"#;
    assert_eq!(batch_response(one, 2).unwrap_err(), BundleError::OtherCount { asked: 2, got: 1 });
    assert_eq!(batch_response(&one[..40], 1).unwrap_err(), BundleError::NotJson);
    assert_eq!(batch_response(b"<html>", 1).unwrap_err(), BundleError::NotJson);
    assert_eq!(batch_response(br#"{"resourceType":"OperationOutcome"}"#, 1).unwrap_err(), BundleError::NotABundle);
    assert_eq!(batch_response(b"[]", 1).unwrap_err(), BundleError::NotABundle);
    assert_eq!(batch_response(br#"{"resourceType":"Bundle","type":"collection"}"#, 0).unwrap_err(), BundleError::OtherType);
}

#[test]
fn a_page_gives_rows_verbatim_with_links_and_warnings() {
    let body = "\u{feff}{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"total\":5,\"link\":[{\"relation\":\"self\",\"url\":\"s\"},\
        {\"relation\":\"next\",\"url\":\"Observation?sessionID=1\"},{\"relation\":\"next\",\"url\":\"other\"}],\"entry\":[\
        {\"fullUrl\":\"http://h/Observation/1\",\"search\":{\"mode\":\"match\"},\"resource\":{ \"resourceType\":\"Observation\",\"id\":\"1\",\
        \"meta\":{\"versionId\":\"v\",\"lastUpdated\":\"2026-01-01T00:00:00Z\"},\"valueQuantity\":{\"value\": 1.10}}},\
        {\"search\":{\"mode\":\"outcome\"},\"resource\":{\"resourceType\":\"OperationOutcome\",\"issue\":[{\"severity\":\"warning\",\"code\":\"suppressed\"}]}},\
        3]}";
    let page = page(body.as_bytes()).unwrap();
    assert_eq!((page.total, page.next_link.as_deref(), page.self_link.as_deref()), (Some(5), Some("Observation?sessionID=1"), Some("s")));
    assert_eq!((page.entries.len(), page.outcomes.len(), page.unreadable), (1, 1, 1));
    let row = &page.entries[0];
    assert_eq!((row.id.as_deref(), row.version.as_deref(), row.mode.as_deref()), (Some("1"), Some("v"), Some("match")));
    assert!(
        row.resource.as_ref().unwrap().get().starts_with("{ \"resourceType\"") && row.resource.as_ref().unwrap().get().contains("1.10")
    );
}

#[test]
fn a_page_of_too_many_entries_is_an_error_and_what_is_too_large_is_counted_unreadable() {
    let page_of = |entry: &str, count: usize| {
        page(format!(r#"{{"resourceType":"Bundle","type":"searchset","entry":[{}]}}"#, vec![entry; count].join(",")).as_bytes())
    };
    assert_eq!(page_of("{}", ENTRIES_MAX).unwrap().entries.len(), ENTRIES_MAX);
    assert_eq!(page_of("{}", ENTRIES_MAX + 1).unwrap_err(), BundleError::TooManyEntries);
    let large = |head: &str| format!(r#"{{"resource":{{{head}"x":[{}]}}}}"#, vec!["1"; crate::json::VALUES_MAX].join(","));
    let read = page_of(&large(""), 1).unwrap();
    assert_eq!((read.entries.len(), read.unreadable), (0, 1));
    // A warning that cannot be read may be the one that says that rows were left out.
    let read = page_of(&large(r#""resourceType":"OperationOutcome","#), 1).unwrap();
    assert_eq!((read.outcomes.len(), read.unreadable), (0, 1));
    let read = page_of(r#"{"resource":{"resourceType":"OperationOutcome","issue":[]}}"#, 150).unwrap();
    assert_eq!((read.outcomes.len(), read.unreadable), (100, 50));
}

#[test]
fn a_batch_entry_that_is_too_large_is_uncertain() {
    let large = format!(r#"{{"resource":[{}],"response":{{"status":"201"}}}}"#, vec!["1"; crate::json::VALUES_MAX].join(","));
    let answer = format!(r#"{{"resourceType":"Bundle","type":"batch-response","entry":[{large},{{"response":{{"status":"201"}}}}]}}"#);
    let read = batch_response(answer.as_bytes(), 2).unwrap();
    assert_eq!((read[0].status, read[1].status), (None, Some(201)));
}

#[test]
fn a_delete_in_a_history_has_no_resource() {
    let body = br#"{"resourceType":"Bundle","type":"history","entry":[{"request":{"method":"DELETE","url":"Observation/9"},
        "response":{"status":"204","lastModified":"2026-01-01T00:00:00Z"}}]}"#;
    let page = page(body).unwrap();
    assert_eq!(page.entries[0].method.as_deref(), Some("DELETE"));
    assert_eq!(page.entries[0].request_url.as_deref(), Some("Observation/9"));
    assert!(page.entries[0].resource.is_none());
}

#[test]
fn no_page_is_an_error_and_never_an_empty_list() {
    for bad in [&b""[..], b"{}", b"<html/>", br#"{"resourceType":"Bundle"}"#, br#"{"resourceType":"Bundle","type":"searchset","entry":["#] {
        assert!(page(bad).is_err());
    }
}

#[test]
fn the_head_of_a_resource() {
    let head = resource_head(br#"{"id":"1","meta":{"versionId":"2"},"resourceType":"Patient","x":[1]}"#);
    assert_eq!(head, Some(("Patient".into(), Some("1".into()), Some("2".into()))));
    assert_eq!(resource_head(b"[1]"), None);
    assert_eq!(resource_head(br#"{"resourceType":"../x"}"#), None);
}

#[test]
fn debug_shows_no_resource() {
    let body = br#"{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Patient","id":"1","name":[{"text":"Maria"}]}}]}"#;
    let page = page(body).unwrap();
    assert!(!format!("{page:?} {:?}", page.entries[0]).contains("Maria"));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = (page(&bytes).is_ok(), batch_response(&bytes, 1).is_ok(), resource_head(&bytes).is_some());
    }

    #[test]
    fn a_bundle_cut_anywhere_is_never_read_as_whole(cut in 0usize..125) {
        let whole = br#"{"resourceType":"Bundle","type":"batch-response","entry":[{"response":{"status":"201 Created","location":"Observation/1"}}]} "#;
        prop_assert!(batch_response(&whole[..cut.min(whole.len() - 2)], 1).is_err());
    }
}
