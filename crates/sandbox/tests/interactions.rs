//! Each FHIR interaction of the well-behaved server, over real HTTP.
#![allow(clippy::unwrap_used)] // the functions around the tests are tests too

mod ward;

use reqwest::Method;
use sandbox::{Options, Settings};
use serde_json::{Value, json};
use ward::*;

#[tokio::test]
async fn a_created_resource_comes_back_digit_for_digit() {
    let ward = plain().await;
    let text = r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.10},"component":[{"code":{"text":"y"},"valueQuantity":{"value":1e3}},{"code":{"text":"z"},"valueQuantity":{"value":0.1000000000000000000000000001}}]}"#;
    let created =
        ward.request(Method::POST, "Observation").header("content-type", "application/fhir+json").body(text).send().await.unwrap();
    assert_eq!(status(&created), 201);
    assert_eq!(header(&created, "etag"), "W/\"1\"");
    assert!(!header(&created, "last-modified").is_empty());
    let location = header(&created, "location");
    assert!(location.starts_with(&ward.url("Observation/")) && location.ends_with("/_history/1"));
    let read = ward.client.get(location).send().await.unwrap();
    assert_eq!(header(&read, "content-type"), "application/fhir+json; charset=utf-8");
    let read = read.text().await.unwrap();
    for digits in ["1.10}", "1e3}", "0.1000000000000000000000000001}"] {
        assert!(read.contains(digits), "{read}");
    }
}

#[tokio::test]
async fn update_keeps_versions_and_if_match_protects_them() {
    let ward = plain().await;
    let first = ward.put("Observation/a-1", &with_id(observation("1"), "a-1")).await;
    assert_eq!(status(&first), 201);
    let stale =
        ward.send(Method::PUT, "Observation/a-1", &with_id(observation("1"), "a-1")).header("if-match", "W/\"7\"").send().await.unwrap();
    assert_eq!(status(&stale), 412);
    for (tag, version) in [("W/\"1\"", "W/\"2\""), ("\"2\"", "W/\"3\"")] {
        let fresh =
            ward.send(Method::PUT, "Observation/a-1", &with_id(observation("1"), "a-1")).header("if-match", tag).send().await.unwrap();
        assert_eq!((status(&fresh), header(&fresh, "etag")), (200, version.to_owned()));
    }
    assert_eq!(body(ward.get("Observation/a-1/_history/2").await).await["meta"]["versionId"], "2");
    assert_eq!(status(&ward.get("Observation/a-1/_history/9").await), 404);
    let there =
        ward.send(Method::PUT, "Observation/a-1", &with_id(observation("1"), "a-1")).header("if-none-match", "*").send().await.unwrap();
    assert_eq!(status(&there), 412);
    assert_eq!(status(&ward.put("Observation/a-1", &with_id(observation("1"), "a-2")).await), 400);
    assert_eq!(status(&ward.put("Observation/a-1", &observation("1")).await), 400);
    let unchanged = ward.request(Method::GET, "Observation/a-1").header("if-none-match", "W/\"3\"").send().await.unwrap();
    assert_eq!(status(&unchanged), 304);
}

#[tokio::test]
async fn a_deleted_resource_is_gone_until_it_is_put_again() {
    let ward = plain().await;
    ward.put("Observation/a-1", &with_id(observation("1"), "a-1")).await;
    let delete = || ward.request(Method::DELETE, "Observation/a-1").send();
    assert_eq!(status(&delete().await.unwrap()), 204);
    assert_eq!(status(&delete().await.unwrap()), 204);
    assert_eq!(status(&ward.get("Observation/a-1").await), 410);
    assert_eq!(status(&ward.get("Observation/never").await), 404);
    assert!(ids(&ward.search("Observation?identifier=urn:t|1").await).is_empty());
    assert_eq!(status(&ward.put("Observation/a-1", &with_id(observation("1"), "a-1")).await), 201);
    assert_eq!(status(&ward.get("Observation/a-1").await), 200);
}

#[tokio::test]
async fn a_patient_that_others_refer_to_cannot_be_deleted() {
    let ward = plain().await;
    ward.patient("p1");
    ward.post("Observation", &observation_of("1", "p1")).await;
    assert_eq!(status(&ward.request(Method::DELETE, "Patient/p1").send().await.unwrap()), 409);
    assert!(ward.sandbox.delete("Patient", "p1"));
    assert_eq!(status(&ward.get("Patient/p1").await), 410);
}

#[tokio::test]
async fn a_conditional_create_creates_once_in_every_form_of_its_condition() {
    let ward = plain().await;
    let created = ward.create_once("1").send().await.unwrap();
    assert_eq!(status(&created), 201);
    for form in ["identifier=urn:t|1", "?identifier=urn:t|1", "Observation?identifier=urn%3At%7C1"] {
        let again = ward.send(Method::POST, "Observation", &observation("1")).header("if-none-exist", form).send().await.unwrap();
        assert_eq!(status(&again), 200, "{form}");
        assert!(header(&again, "location").contains("/Observation/"));
        assert_eq!(body(again).await["identifier"][0]["value"], "1");
    }
    assert_eq!(ward.held("1"), 1);
    ward.post("Observation", &observation("1")).await;
    assert_eq!(status(&ward.create_once("1").send().await.unwrap()), 412);
    let unknown = ward.send(Method::POST, "Observation", &observation("1")).header("if-none-exist", "shoe=44").send().await.unwrap();
    assert_eq!(status(&unknown), 400);
}

#[tokio::test]
async fn a_conditional_update_creates_updates_or_refuses() {
    let ward = plain().await;
    let path = "Observation?identifier=urn:t|1";
    assert_eq!(status(&ward.put(path, &observation("1")).await), 201);
    assert_eq!(status(&ward.put(path, &observation("1")).await), 200);
    assert_eq!(status(&ward.put(path, &with_id(observation("1"), "other")).await), 400);
    ward.post("Observation", &observation("1")).await;
    assert_eq!(status(&ward.put(path, &observation("1")).await), 412);
}

#[tokio::test]
async fn prefer_decides_what_a_write_answers() {
    let ward = plain().await;
    let post = |prefer: &'static str| ward.send(Method::POST, "Observation", &observation("1")).header("prefer", prefer).send();
    let minimal = post("return=minimal").await.unwrap();
    assert!(!header(&minimal, "location").is_empty());
    assert_eq!(minimal.text().await.unwrap(), "");
    assert_eq!(body(post("return=representation").await.unwrap()).await["resourceType"], "Observation");
    assert_eq!(body(post("return=OperationOutcome").await.unwrap()).await["resourceType"], "OperationOutcome");
}

#[tokio::test]
async fn an_invalid_observation_is_refused_with_the_name_of_the_element() {
    let ward = plain().await;
    let mut bad = observation("1");
    bad.as_object_mut().unwrap().remove("status");
    let refused = ward.post("Observation", &bad).await;
    assert_eq!(status(&refused), 422);
    let outcome = body(refused).await;
    assert_eq!(outcome["resourceType"], "OperationOutcome");
    assert_eq!(outcome["issue"][0]["expression"][0], "Observation.status");
    let nobody = ward.post("Observation", &observation_of("1", "nobody")).await;
    assert_eq!(body(nobody).await["issue"][0]["expression"][0], "Observation.subject");
    let validated = body(ward.post("Observation/$validate", &bad).await).await;
    assert_eq!(validated["issue"][0]["severity"], "error");
    assert_eq!(body(ward.post("Observation/$validate", &observation("1")).await).await["issue"][0]["severity"], "information");
    assert!(ward.sandbox.ledger().effects.is_empty());
}

#[tokio::test]
async fn what_cannot_be_read_has_its_own_status() {
    let ward = plain().await;
    let raw =
        |kind: &'static str, text: &'static str| ward.request(Method::POST, "Observation").header("content-type", kind).body(text).send();
    assert_eq!(status(&raw("application/fhir+json", "{").await.unwrap()), 400);
    assert_eq!(status(&raw("application/fhir+json", r#"{"resourceType":"Patient","resourceType":"Patient"}"#).await.unwrap()), 400);
    assert_eq!(status(&raw("application/fhir+json", r#"{"resourceType":"Patient"}"#).await.unwrap()), 400);
    assert_eq!(status(&raw("text/plain", "{}").await.unwrap()), 415);
    assert_eq!(status(&ward.get("Shoe/1").await), 404);
    assert_eq!(status(&ward.request(Method::PATCH, "Observation/1").send().await.unwrap()), 405);
    assert_eq!(status(&ward.request(Method::GET, "Observation").header("accept", "application/fhir+xml").send().await.unwrap()), 406);
    let wrong = body(ward.get("Observation?date=soon").await).await;
    assert_eq!(wrong["resourceType"], "OperationOutcome");
    let with_mark = format!("\u{feff}{}", observation("1"));
    let marked =
        ward.request(Method::POST, "Observation").header("content-type", "application/fhir+json").body(with_mark).send().await.unwrap();
    assert_eq!(status(&marked), 201);
}

#[tokio::test]
async fn search_filters_sorts_and_says_what_it_used() {
    let ward = plain().await;
    ward.patient("p1");
    ward.patient("p2");
    for (value, patient) in [("1", "p1"), ("2", "p1"), ("3", "p2")] {
        ward.post("Observation", &observation_of(value, patient)).await;
    }
    let found = ward.search("Observation?patient=p1&shoe=44").await;
    assert_eq!((ids(&found).len(), found["total"].as_u64()), (2, Some(2)));
    assert_eq!(found["link"][0]["url"], ward.url("Observation?patient=p1"));
    assert_eq!(ids(&ward.search("Observation?subject=Patient/p2").await).len(), 1);
    assert_eq!(ids(&ward.search("Observation?code=http://loinc.org|8867-4&date=2024-01-01&status=final").await).len(), 3);
    assert_eq!(ids(&ward.search("Patient/p1/Observation").await).len(), 2);
    assert_eq!(ids(&ward.search("Patient?family=tes").await).len(), 2);
    let up = ids(&ward.search("Observation?_sort=_lastUpdated,_id").await);
    let mut down = ids(&ward.search("Observation?_sort=-_lastUpdated,-_id").await);
    down.reverse();
    assert_eq!(up, down);
    let form = ward.client.post(ward.url("Observation/_search")).form(&[("identifier", "urn:t|3")]).send().await.unwrap();
    assert_eq!(ids(&body(form).await).len(), 1);
    let strict = ward.request(Method::GET, "Observation?shoe=44").header("prefer", "handling=strict").send().await.unwrap();
    assert_eq!(status(&strict), 400);
    assert_eq!(ward.search("Observation?_count=0").await["total"].as_u64(), Some(3));
}

#[tokio::test]
async fn pages_are_linked_and_complete_and_their_links_expire() {
    let hand = Hand::new();
    let settings = Settings { link_expires_ms: 1000, ..Settings::default() };
    let ward = ward(Options { clock: hand.clock(), settings, ..Options::default() }).await;
    for value in 0..5 {
        ward.post("Observation", &observation(&value.to_string())).await;
    }
    let mut page = ward.search("Observation?_count=2").await;
    let first_next = next(&page).unwrap();
    let mut seen = ids(&page);
    while let Some(link) = next(&page) {
        page = body(ward.client.get(link).send().await.unwrap()).await;
        assert_eq!(page["total"].as_u64(), Some(5));
        seen.extend(ids(&page));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
    hand.forward(2000);
    assert_eq!(status(&ward.client.get(first_next).send().await.unwrap()), 410);
}

#[tokio::test]
async fn last_updated_is_walked_by_value() {
    let hand = Hand::new();
    let ward = ward(Options { clock: hand.clock(), ..Options::default() }).await;
    let mut stamps = Vec::new();
    for value in 0..3 {
        let created = body(ward.post("Observation", &observation(&value.to_string())).await).await;
        stamps.push(created["meta"]["lastUpdated"].as_str().unwrap().to_owned());
        hand.forward(10);
    }
    let since = |prefix: &str| format!("Observation?_lastUpdated={prefix}{}&_sort=_lastUpdated", stamps[1]);
    assert_eq!(ids(&ward.search(&since("ge")).await).len(), 2);
    assert_eq!(ids(&ward.search(&since("gt")).await).len(), 1);
    assert_eq!(ids(&ward.search(&since("lt")).await).len(), 1);
}

#[tokio::test]
async fn history_shows_deletes_and_can_begin_at_a_moment() {
    let hand = Hand::new();
    let ward = ward(Options { clock: hand.clock(), ..Options::default() }).await;
    ward.put("Observation/a-1", &with_id(observation("1"), "a-1")).await;
    hand.forward(1000);
    ward.put("Observation/a-1", &with_id(observation("1"), "a-1")).await;
    hand.forward(1000);
    ward.request(Method::DELETE, "Observation/a-1").send().await.unwrap();
    let all = ward.search("Observation/a-1/_history").await;
    let methods: Vec<&str> = all["entry"].as_array().unwrap().iter().map(|entry| entry["request"]["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["DELETE", "PUT", "PUT"]);
    assert!(all["entry"][0].get("resource").is_none());
    let late = ward.search("Observation/_history?_since=2023-11-14T22:13:21.500Z").await;
    assert_eq!(late["total"].as_u64(), Some(1));
    let page = ward.search("_history?_count=2").await;
    let rest = body(ward.client.get(next(&page).unwrap()).send().await.unwrap()).await;
    assert_eq!(rest["entry"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn each_entry_of_a_batch_stands_alone() {
    let ward = plain().await;
    let mut bad = observation("3");
    bad["status"] = json!("done");
    let mut once = post_entry(observation("1"));
    once["request"]["ifNoneExist"] = json!("identifier=urn:t|1");
    let stale =
        json!({"resource": with_id(observation("9"), "a-9"), "request": {"method": "PUT", "url": "Observation/a-9", "ifMatch": "W/\"4\""}});
    let read = json!({"request": {"method": "GET", "url": "Observation?identifier=urn:t|1"}});
    let sent = batch("batch", vec![post_entry(observation("1")), once, post_entry(bad), stale, read]);
    let answer = ward.post("", &sent).await;
    assert_eq!(status(&answer), 200);
    let answer = body(answer).await;
    assert_eq!(answer["type"], "batch-response");
    assert_eq!(statuses(&answer), ["201", "200", "422", "412", "200"]);
    assert!(answer["entry"][0]["response"]["location"].as_str().unwrap().starts_with("Observation/"));
    assert_eq!(answer["entry"][0]["response"]["etag"], "W/\"1\"");
    assert_eq!(answer["entry"][2]["response"]["outcome"]["issue"][0]["expression"][0], "Observation.status");
    assert_eq!(ids(&answer["entry"][4]["resource"]).len(), 1);
    assert_eq!(ward.sandbox.ledger().effects.len(), 1);
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing_and_resolves_its_own_names() {
    let ward = plain().await;
    let name = "urn:uuid:0190a0a0-0000-4000-8000-000000000001";
    let patient = json!({"fullUrl": name, "resource": {"resourceType": "Patient", "identifier": [{"system": "urn:p", "value": "1"}]},
        "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:p|1"}});
    let mut own = observation("1");
    own["subject"] = json!({"reference": name});
    let good = batch("transaction", vec![post_entry(own.clone()), patient.clone()]);
    let answer = body(ward.post("", &good).await).await;
    assert_eq!(answer["type"], "transaction-response");
    assert_eq!(statuses(&answer), ["201", "201"]);
    let subject = answer["entry"][0]["resource"]["subject"]["reference"].as_str().unwrap().to_owned();
    assert_eq!(status(&ward.get(&subject).await), 200);
    // The Patient is found the second time, and the new Observation hangs on it.
    own["identifier"][0]["value"] = json!("2");
    let again = body(ward.post("", &batch("transaction", vec![post_entry(own.clone()), patient.clone()])).await).await;
    assert_eq!(statuses(&again), ["201", "200"]);
    assert_eq!(again["entry"][0]["resource"]["subject"]["reference"], subject.as_str());
    let before = ward.sandbox.ledger().effects.len();
    own["status"] = json!("done");
    let refused = ward.post("", &batch("transaction", vec![post_entry(observation("3")), post_entry(own)])).await;
    assert_eq!(status(&refused), 422);
    assert_eq!(body(refused).await["resourceType"], "OperationOutcome");
    assert_eq!((ward.sandbox.ledger().effects.len(), ward.held("3")), (before, 0));
    let by_query: Value = {
        let mut one = observation("4");
        one["subject"] = json!({"reference": "Patient?identifier=urn:p|1"});
        body(ward.post("", &batch("transaction", vec![post_entry(one)])).await).await
    };
    assert_eq!(by_query["entry"][0]["resource"]["subject"]["reference"], subject.as_str());
}

#[tokio::test]
async fn the_capability_statement_and_head_are_there() {
    let ward = plain().await;
    let statement = ward.search("metadata").await;
    assert_eq!((statement["resourceType"].as_str(), statement["fhirVersion"].as_str()), (Some("CapabilityStatement"), Some("4.0.1")));
    assert_eq!(statement["implementation"]["url"], format!("{}/fhir", ward.origin));
    assert_eq!(statement["rest"][0]["resource"][1]["conditionalCreate"], true);
    assert_eq!(status(&ward.request(Method::HEAD, "metadata").send().await.unwrap()), 200);
    let traced = ward.request(Method::GET, "metadata").header("x-request-id", "r-1").send().await.unwrap();
    assert_eq!(header(&traced, "x-request-id"), "r-1");
}

#[tokio::test]
async fn any_other_resource_type_is_stored_as_it_is() {
    let ward = plain().await;
    let body_sent = json!({"resourceType": "Basic", "id": "b-1", "anything": {"goes": true}});
    assert_eq!(status(&ward.put("Basic/b-1", &body_sent).await), 201);
    assert_eq!(ward.search("Basic/b-1").await["anything"]["goes"], true);
}
