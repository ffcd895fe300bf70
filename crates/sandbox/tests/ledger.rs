//! The judge's evidence, and the sandbox without HTTP.
#![allow(clippy::unwrap_used)] // the functions around the tests are tests too

mod ward;

use axum::body::Body;
use http::{Method, Request};
use sandbox::{Author, Fault, FaultPlan, Hang, Ledger, Options, Sandbox, Severed};
use serde_json::json;
use tower::ServiceExt;
use ward::*;

async fn call(sandbox: &Sandbox, method: Method, path: &str, body: String) -> axum::response::Response {
    let request =
        Request::builder().method(method).uri(path).header("content-type", "application/fhir+json").body(Body::from(body)).unwrap();
    sandbox.router().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn the_ledger_tells_every_effect_in_order_and_reads_back_from_json() {
    let ward = plain().await;
    ward.patient("p1");
    let mut first = observation_of("1", "p1");
    first["meta"] = json!({"source": "urn:ponte:v1"});
    let text = first.to_string().replace("72", "1e3");
    let created = ward
        .request(Method::POST, "Observation")
        .header("content-type", "application/fhir+json")
        .header("x-request-id", "r-1")
        .body(text)
        .send()
        .await
        .unwrap();
    let id = body(created).await["id"].as_str().unwrap().to_owned();
    ward.put(&format!("Observation/{id}"), &with_id(first, &id)).await;
    ward.request(Method::DELETE, &format!("Observation/{id}")).send().await.unwrap();
    let answer = ward.control(Method::GET, "ledger", json!({})).await;
    let ledger = Ledger::from_json(&answer.text().await.unwrap()).unwrap();
    let methods: Vec<&str> = ledger.effects.iter().map(|effect| effect.method.as_str()).collect();
    assert_eq!(methods, ["POST", "POST", "PUT", "DELETE"]);
    let effect = &ledger.effects[1];
    assert_eq!((effect.seq, effect.resource_type.as_str(), effect.version_id.as_str(), effect.by), (2, "Observation", "1", Author::Client));
    assert_eq!(
        (effect.subject.as_deref(), effect.source.as_deref(), effect.request_id.as_deref()),
        (Some("Patient/p1"), Some("urn:ponte:v1"), Some("r-1"))
    );
    assert!(effect.content.as_ref().unwrap().get().contains("\"value\":1e3"));
    assert_eq!(effect.identifiers[0].value, "1");
    assert_eq!(ledger.effects[0].by, Author::Hospital);
    assert!(ledger.effects[3].content.is_none());
    assert_eq!(ledger.effects_for_patient("p1").len(), 3);
    assert_eq!(ledger.effects_by_identifier("urn:t", "1").len(), 2);
    assert!(ledger.by_identifier("urn:t", "1").is_empty());
    assert_eq!(ledger.requests["POST Observation 201"], 1);
    let later = Ledger::from_json(&ward.control(Method::GET, "ledger?since=3", json!({})).await.text().await.unwrap()).unwrap();
    assert_eq!((later.effects.len(), later.seq), (1, 4));
    let summary = body(ward.control(Method::GET, "ledger?summary=true", json!({})).await).await;
    assert_eq!((summary["living"]["Patient"].as_u64(), summary["doubled"].as_u64()), (Some(1), Some(0)));
}

#[tokio::test]
async fn doubled_names_the_identifier_and_its_carriers() {
    let ward = plain().await;
    for value in ["1", "1", "2"] {
        ward.post("Observation", &observation(value)).await;
    }
    let ledger = ward.sandbox.ledger();
    let doubled = ledger.doubled();
    assert_eq!((doubled.len(), doubled[0].0.value.as_str(), doubled[0].1.len()), (1, "1", 2));
}

#[tokio::test]
async fn without_http_a_lost_reply_is_an_extension() {
    let faults = FaultPlan::none().next(Fault::CutAfterCommit, 1).next(Fault::CutBeforeCommit, 1).next(Fault::HangAfterCommit, 1);
    let sandbox = Sandbox::new(Options { faults, ..Options::default() });
    let post = || call(&sandbox, Method::POST, "/fhir/Observation", observation("1").to_string());
    assert_eq!(post().await.extensions().get::<Severed>(), Some(&Severed { committed: true }));
    assert_eq!(post().await.extensions().get::<Severed>(), Some(&Severed { committed: false }));
    assert!(post().await.extensions().get::<Hang>().is_some_and(|hang| hang.committed));
    assert_eq!(sandbox.ledger().effects.len(), 2);
    let read = call(&sandbox, Method::GET, "/fhir/Observation", String::new()).await;
    assert_eq!(read.status().as_u16(), 200);
    sandbox.reset();
    assert!(sandbox.ledger().effects.is_empty());
}

#[tokio::test]
async fn the_hospital_writes_merges_and_deletes_unchecked() {
    let sandbox = Sandbox::new(Options::default());
    let survivor = json!({"resourceType": "Patient", "id": "new"}).to_string();
    sandbox.put_resource(&survivor).unwrap();
    let merged = json!({"resourceType": "Patient", "id": "old", "active": false, "link": [{"other": {"reference": "Patient/new"}, "type": "replaced-by"}]});
    sandbox.put_resource(&merged.to_string()).unwrap();
    assert!(sandbox.resource("Patient", "old").unwrap().contains("replaced-by"));
    assert!(sandbox.delete("Patient", "new") && !sandbox.delete("Patient", "new"));
    assert!(sandbox.put_resource("{").is_err());
    assert!(sandbox.put_resource(r#"{"resourceType":"Shoe"}"#).is_err());
    let given = sandbox.put_resource(r#"{"resourceType":"Observation"}"#).unwrap();
    assert_eq!(given.0, "Observation");
    assert_eq!(sandbox.ledger().effects.len(), 4);
}

#[tokio::test]
async fn thousands_of_rows_are_found_by_identifier_and_subject() {
    let sandbox = Sandbox::new(Options::default());
    for value in 0..5_000 {
        sandbox.put_resource(&observation_of(&value.to_string(), &format!("p{}", value % 100)).to_string()).unwrap();
    }
    let begun = std::time::Instant::now();
    for value in 0..200 {
        let found = call(&sandbox, Method::GET, &format!("/fhir/Observation?identifier=urn:t%7C{value}&_count=1"), String::new()).await;
        assert_eq!(found.status().as_u16(), 200);
    }
    // A scan of all rows per search takes many times this in a debug build.
    assert!(begun.elapsed() < std::time::Duration::from_secs(3));
    assert_eq!(sandbox.ledger().effects_for_patient("p7").len(), 50);
}

#[tokio::test]
async fn a_batch_of_a_hundred_is_quick() {
    let ward = plain().await;
    ward.patient("p1");
    let entries = (0..100).map(|value| post_entry(observation_of(&value.to_string(), "p1"))).collect();
    let sent = batch("batch", entries);
    let begun = std::time::Instant::now();
    let answer = body(ward.post("", &sent).await).await;
    // A debug build takes well under a tenth of a second; a scan per entry would not.
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(statuses(&answer).iter().all(|status| status == "201"));
}
