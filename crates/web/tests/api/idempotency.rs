//! One key, one effect: however often it is sent, at once or later.

use crate::house::{houses, original_config, pain};
use crate::worker::{Ehr, work_until};
use futures::future::{join_all, select};
use serde_json::json;
use std::collections::HashSet;

#[tokio::test]
async fn twenty_equal_posts_at_once_make_one_row() {
    for house in houses().await {
        let nurse = house.nurse("a").with("idempotency-key", "k-1");
        let person = json!({"name": "Ana", "birthDate": "1961-04-02"});
        let answers = join_all((0..20).map(|_| nurse.post("/patients", person.clone()))).await;
        let ids: HashSet<String> = answers.iter().map(|answer| answer.id()).collect();
        assert_eq!(ids.len(), 1);
        let replayed = answers.iter().filter(|answer| answer.headers.contains_key("idempotent-replayed")).count();
        assert_eq!((replayed, answers.iter().filter(|answer| answer.status == 201).count()), (19, 20));
        let patient = answers[0].id();
        assert_eq!(nurse.get("/patients").await.json()["items"].as_array().unwrap().len(), 1);

        let nurse = house.nurse("a").with("idempotency-key", "k-2");
        let answers = join_all((0..20).map(|_| nurse.post("/observations", pain(&patient)))).await;
        assert_eq!(answers.iter().map(|answer| answer.id()).collect::<HashSet<_>>().len(), 1);
        let nurse = house.nurse("a").with("idempotency-key", "k-3");
        let batch = json!({"observations": [pain(&patient), {"patientId": patient}, pain(&patient)]});
        let answers = join_all((0..20).map(|_| nurse.post("/observations/batch", batch.clone()))).await;
        let bodies: HashSet<String> = answers.iter().map(|answer| ids_of(&answer.text)).collect();
        assert_eq!(bodies.len(), 1);
        assert_eq!(nurse.get("/observations").await.json()["items"].as_array().unwrap().len(), 3);
    }
}

/// The answer without what is each request's own.
fn ids_of(text: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(text).unwrap();
    body["items"].as_array().unwrap().iter().map(|item| format!("{} {};", item["status"], item["observation"]["id"])).collect()
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_tenant() {
    for house in houses().await {
        let (a, b) = (house.nurse("a").with("idempotency-key", "k"), house.nurse("b").with("idempotency-key", "k"));
        let person = json!({"name": "Ana", "birthDate": "1961-04-02"});
        let first = a.post("/patients", person.clone()).await.is(201).id();
        assert_ne!(b.post("/patients", person.clone()).await.is(201).id(), first);
        a.post("/patients", json!({"name": "Eva", "birthDate": "1961-04-02"})).await.problem(422, "idempotency_key_reused");
        a.post("/observations", pain(&first)).await.problem(422, "idempotency_key_reused");
        assert_eq!(a.post("/patients", person.clone()).await.is(201).header("idempotent-replayed"), "true");
        // What was refused may be corrected under the same key: nothing was made of it.
        let c = house.nurse("a").with("idempotency-key", "k-c");
        c.post("/patients", json!({"name": "Ana"})).await.problem(422, "invalid");
        c.post("/patients", person.clone()).await.is(201);
        for bad in ["", " ", &"x".repeat(256)] {
            house.nurse("a").with("idempotency-key", bad).post("/patients", person.clone()).await.problem(400, "invalid_idempotency_key");
        }
        let two = house.nurse("a").with("idempotency-key", "1").with("idempotency-key", "2");
        two.post("/patients", person.clone()).await.problem(400, "invalid_idempotency_key");
    }
}

#[tokio::test]
async fn asked_work_is_answered_again_and_not_done_again() {
    for house in houses().await {
        let admin = house.admin("a").with("idempotency-key", "config");
        let created = admin.post("/fhir/config", original_config()).await.is(201);
        house.admin("a").put("/fhir/config", json!({"maxRetries": 7})).await.is(200);
        let again = admin.post("/fhir/config", original_config()).await.is(201);
        assert_eq!((again.header("idempotent-replayed"), &again.text), ("true", &created.text));
        assert_eq!(house.admin("a").get("/fhir/config").await.json()["maxRetries"], 7);

        let nurse = house.nurse("a");
        let patient = nurse.linked_patient("p-1").await;
        let id = nurse.observation(&patient).await;
        let keyed = nurse.clone().with("idempotency-key", "sync");
        let path = format!("/fhir/observations/{id}/sync");
        let (answer, ()) = tokio::join!(keyed.ask(&path), work_until(&house, Ehr::Refuses("no such code"), 1));
        let first = answer.problem(422, "ehr_refused");
        let again = keyed.ask(&path).await;
        assert_eq!(again.header("idempotent-replayed"), "true");
        let mut again = again.problem(422, "ehr_refused");
        assert_ne!(again["requestId"], first["requestId"]);
        again["requestId"] = first["requestId"].clone();
        assert_eq!(again, first);

        let keyed = nurse.clone().with("idempotency-key", "all");
        let runs: HashSet<String> = join_all((0..5).map(|_| keyed.ask("/fhir/observations/sync-all")))
            .await
            .into_iter()
            .filter(|answer| answer.status == 202)
            .map(|answer| answer.header("location").to_owned())
            .collect();
        assert_eq!(runs.len(), 1);
        let other = nurse.with("idempotency-key", "all");
        other.ask(&path).await.problem(422, "idempotency_key_reused");
    }
}

#[tokio::test]
async fn the_same_request_under_way_is_told_to_wait() {
    for house in houses().await {
        let nurse = house.nurse("a");
        nurse.connect().await;
        let patient = nurse.linked_patient("p-1").await;
        let id = nurse.observation(&patient).await;
        let path = format!("/fhir/observations/{id}/sync");
        let keyed = nurse.with("idempotency-key", "sync").with("prefer", "wait=20");
        // Whichever comes second is told at once; the other one waits for its outcome.
        let (one, other) = (Box::pin(keyed.ask(&path)), Box::pin(keyed.ask(&path)));
        let (answer, waiting) = select(one, other).await.factor_first();
        assert!(answer.headers.contains_key("retry-after"));
        answer.problem(409, "idempotency_in_progress");
        let (answer, ()) = tokio::join!(waiting, work_until(&house, Ehr::Takes, 1));
        answer.is(200);
        assert_eq!(keyed.ask(&path).await.is(200).header("idempotent-replayed"), "true");
    }
}
