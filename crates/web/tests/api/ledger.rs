//! Deliveries, dead letters and status as a caller sees them.

use crate::house::houses;
use crate::worker::{Ehr, work};
use serde_json::{Value, json};

#[tokio::test]
async fn the_ledger_shows_what_happened_and_whose_move_it_is() {
    for house in houses().await {
        let nurse = house.nurse("a");
        let patient = nurse.linked_patient("p-1").await;
        let id = nurse.observation(&patient).await;
        let waiting = nurse.get("/fhir/deliveries").await.is(200).json()["items"][0].clone();
        assert_eq!(
            (&waiting["state"], &waiting["reason"], &waiting["whoseMove"]),
            (&json!("held"), &json!("not_configured"), &json!("you"))
        );
        assert!(waiting.get("attempts").is_none());
        nurse.connect().await;
        work(&house, Ehr::Refuses("Observation.value: too high")).await;
        let path = format!("/fhir/deliveries/{}", waiting["id"].as_str().unwrap());
        let dead = nurse.get(&path).await.is(200).json();
        assert_eq!((&dead["state"], &dead["observationId"], &dead["patientId"]), (&json!("dead"), &json!(id), &json!(patient)));
        assert_eq!((&dead["reason"], &dead["version"]), (&json!("Observation.value: too high"), &json!(1)));
        let attempt = &dead["attempts"][0];
        assert_eq!(
            (&attempt["request"], &attempt["means"], &attempt["status"], &attempt["class"]),
            (&json!("PUT Observation/{id}"), &json!("own_id"), &json!(422), &json!("validation"))
        );
        assert!(attempt["durationMs"].is_i64() && attempt["at"].is_string());
        let states = |query: &'static str| {
            let nurse = nurse.clone();
            async move { nurse.get(query).await.is(200).json()["items"].as_array().unwrap().len() }
        };
        assert_eq!((states("/fhir/deliveries?state=dead").await, states("/fhir/deliveries?state=pending").await), (1, 0));
        assert_eq!(
            nurse.get(&format!("/fhir/deliveries?observationId={id}&patientId={patient}")).await.json()["items"][0]["id"],
            dead["id"]
        );
        nurse.get("/fhir/deliveries?state=lost").await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn a_dead_letter_is_replayed_or_discarded_by_whoever_may() {
    for house in houses().await {
        let nurse = house.nurse("a");
        nurse.connect().await;
        let patient = nurse.linked_patient("p-1").await;
        nurse.observation(&patient).await;
        work(&house, Ehr::Refuses("Observation.code: unknown")).await;
        let letters = nurse.get("/fhir/dead-letters").await.is(200).json();
        assert_eq!(letters["items"][0]["reason"], "Observation.code: unknown");
        assert_eq!(letters["items"][0]["attempts"].as_array().unwrap().len(), 1);
        let path = format!("/fhir/dead-letters/{}", letters["items"][0]["id"].as_str().unwrap());
        let replayed = nurse.ask(&format!("{path}/replay")).await.is(202);
        assert!(replayed.header("location").ends_with(letters["items"][0]["id"].as_str().unwrap()));
        // On its way again: a second click does nothing.
        nurse.ask(&format!("{path}/replay")).await.problem(409, "not_dead");
        assert_eq!(work(&house, Ehr::Takes).await, 1);
        nurse.ask(&format!("{path}/replay")).await.problem(409, "not_dead");
        house.admin("a").delete(&path).await.problem(409, "not_dead");

        nurse.observation(&patient).await;
        work(&house, Ehr::Refuses("no")).await;
        let dry = nurse.post("/fhir/dead-letters/replay", json!({"dryRun": true, "patientId": patient})).await.is(200).json();
        assert_eq!((&dry["total"], &dry["kind"]), (&json!(1), &json!("replay")));
        assert_eq!(nurse.get("/fhir/dead-letters").await.json()["items"].as_array().unwrap().len(), 1);
        let run = nurse.ask("/fhir/dead-letters/replay").await.is(202);
        work(&house, Ehr::Refuses("still no")).await;
        let run = nurse.get(run.header("location")).await.is(200).json();
        assert_eq!((&run["total"], &run["failed"], &run["synced"], &run["waiting"]), (&json!(1), &json!(1), &json!(0), &json!(0)));
        nurse.post("/fhir/dead-letters/replay", json!({"all": true})).await.problem(422, "unknown_field");

        let dead = nurse.get("/fhir/dead-letters").await.json()["items"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/fhir/dead-letters/{dead}");
        nurse.delete(&path).await.problem(403, "forbidden");
        house.admin("a").delete(&path).await.is(204);
        house.admin("a").delete(&path).await.is(204);
        assert_eq!(nurse.get("/fhir/dead-letters").await.json()["items"], json!([]));
        assert_eq!(nurse.get(&format!("/fhir/deliveries/{dead}")).await.json()["state"], "canceled");
    }
}

#[tokio::test]
async fn status_says_in_one_answer_what_waits() {
    for house in houses().await {
        let nurse = house.nurse("a");
        let empty = nurse.get("/fhir/status").await.is(200).json();
        assert_eq!(empty["counts"].as_object().unwrap().len(), 9);
        assert_eq!(
            (&empty["reason"], &empty["oldestWaitingAt"], &empty["circuit"]["state"]),
            (&json!("not_configured"), &Value::Null, &json!("closed"))
        );
        assert_eq!(empty["guarantee"], Value::Null);
        nurse.connect().await;
        let patient = nurse.linked_patient("p-1").await;
        nurse.observation(&patient).await;
        let waiting = nurse.get("/fhir/status").await.json();
        let guarantee = &waiting["guarantee"];
        assert_eq!(
            (&guarantee["grade"], &guarantee["basis"], &guarantee["whoseMove"]),
            (&json!("unproven"), &json!("claim"), &json!("you"))
        );
        assert!(guarantee["sentence"]["ptBR"].as_str().is_some_and(|said| said.starts_with("Declarado, não provado")));
        assert!(guarantee["next"]["en"].as_str().is_some_and(|said| said.contains("--write-probe")));
        assert_eq!((&waiting["counts"]["pending"], &waiting["reason"]), (&json!(1), &Value::Null));
        assert!(waiting["oldestWaitingMs"].as_i64().is_some_and(|ms| ms >= 0));
        work(&house, Ehr::Takes).await;
        let done = nurse.get("/fhir/status").await.json();
        assert_eq!(
            (&done["counts"]["pending"], &done["counts"]["delivered"], &done["oldestWaitingAt"]),
            (&json!(0), &json!(1), &Value::Null)
        );
        assert_eq!(house.nurse("b").get("/fhir/status").await.json()["counts"]["delivered"], 0);
    }
}
