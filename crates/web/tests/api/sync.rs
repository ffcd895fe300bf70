//! "Deliver now", pull and runs: the outcome, or why there is none yet.

use crate::house::{House, WallClock, houses};
use crate::worker::{Ehr, work, work_until};
use model::{Class, Clock, EhrId, HeldReason, ObservationDraft, PatientId, Value as ObservationValue};
use serde_json::{Value, json};
use std::time::Duration;
use store::config::ConnectionFailed;
use store::lane::Fenced;
use store::{PullClaim, PulledObservation};

#[tokio::test]
async fn a_sync_waits_for_its_outcome() {
    for house in houses().await {
        let nurse = house.nurse("a");
        nurse.connect().await;
        let patient = nurse.linked_patient("p-1").await;
        let path = |id: &str| format!("/fhir/observations/{id}/sync");

        let id = nurse.observation(&patient).await;
        let delivered = path(&id);
        let (answer, ()) = tokio::join!(nurse.ask(&delivered), work_until(&house, Ehr::Takes, 1));
        assert_eq!(answer.is(200).json()["syncedToEHR"], true);
        // What the EHR holds already is not sent again.
        nurse.ask(&delivered).await.is(200);
        assert_eq!(work(&house, Ehr::Takes).await, 0);

        let id = nurse.observation(&patient).await;
        let refused = path(&id);
        let (answer, ()) = tokio::join!(nurse.ask(&refused), work_until(&house, Ehr::Refuses("Observation.code: unknown code"), 1));
        let problem = answer.problem(422, "ehr_refused");
        assert_eq!((&problem["detail"], &problem["class"]), (&json!("Observation.code: unknown code"), &json!("validation")));

        let id = nurse.observation(&patient).await;
        let held = path(&id);
        let (answer, ()) = tokio::join!(nurse.ask(&held), work_until(&house, Ehr::Held(HeldReason::Conflict), 1));
        assert_eq!(answer.problem(409, "conflict")["whoseMove"], "you");

        let id = nurse.observation(&patient).await;
        let undecided = nurse.clone().with("prefer", "wait=1").ask(&path(&id)).await.is(202);
        assert_eq!(undecided.header("preference-applied"), "wait=1");
        assert_eq!(undecided.json()["syncedToEHR"], false);
        let delivery = nurse.get(undecided.header("location")).await.is(200).json();
        assert_eq!(delivery["observationId"], id);

        nurse.delete(&format!("/observations/{id}")).await.is(204);
        nurse.ask(&path(&id)).await.problem(409, "canceled");
    }
}

#[tokio::test]
async fn a_sync_says_why_it_does_not_go() {
    for house in houses().await {
        let (admin, nurse) = (house.admin("a"), house.nurse("a"));
        let patient = nurse.linked_patient("p-1").await;
        let id = nurse.observation(&patient).await;
        let path = format!("/fhir/observations/{id}/sync");
        nurse.ask(&path).await.problem(409, "not_configured");
        nurse.ask("/fhir/observations/sync-all").await.problem(409, "not_configured");
        nurse.ask(&format!("/fhir/patients/{patient}/pull")).await.problem(409, "not_configured");
        nurse.connect().await;
        admin.put("/fhir/config", json!({"enabled": false})).await.is(200);
        nurse.ask(&path).await.problem(409, "disabled");
        nurse.ask("/fhir/observations/sync-all").await.problem(409, "disabled");
        admin.put("/fhir/config", json!({"enabled": true, "syncDirection": "pull"})).await.is(200);
        nurse.ask(&path).await.problem(409, "push_off");
        nurse.ask("/fhir/observations/sync-all").await.problem(409, "push_off");
        admin.put("/fhir/config", json!({"syncDirection": "push"})).await.is(200);
        nurse.ask(&format!("/fhir/patients/{patient}/pull")).await.problem(409, "pull_off");
        let failed = |auth_refused: bool| ConnectionFailed {
            class: if auth_refused { Class::AuthToken } else { Class::Unreachable },
            failures: 4,
            not_before: WallClock.now().plus_ms(600_000),
            circuit_open: !auth_refused,
            auth_refused,
            down: true,
            sentence: "It does not answer.".to_owned(),
        };
        let a = house.tenant("a");
        let stored = a.connection().await.unwrap().unwrap();
        assert!(a.connection_failed(WallClock.now(), &stored, &failed(false)).await.unwrap());
        let answer = nurse.ask(&path).await;
        let problem = answer.problem(502, "ehr_unavailable");
        assert_eq!(problem["whoseMove"], "hospital");
        assert_eq!(nurse.get("/fhir/status").await.json()["circuit"]["state"], "open");
        assert!(a.connection_failed(WallClock.now(), &stored, &failed(true)).await.unwrap());
        nurse.ask(&path).await.problem(409, "credentials_refused");
        // A change of the configuration clears both.
        admin.put("/fhir/config", json!({"maxRetries": 2})).await.is(200);
        let (answer, ()) = tokio::join!(nurse.ask(&path), work_until(&house, Ehr::Takes, 1));
        answer.is(200);
    }
}

#[tokio::test]
async fn a_patient_is_brought_to_the_ehr_before_what_needs_it() {
    for house in houses().await {
        let nurse = house.nurse("a");
        nurse.connect().await;
        let patient = nurse.patient().await;
        nurse.ask(&format!("/fhir/patients/{patient}/pull")).await.problem(409, "patient_unlinked");
        let observation = nurse.observation(&patient).await;
        let path = format!("/fhir/patients/{patient}/sync");
        let (answer, ()) = tokio::join!(nurse.ask(&path), work_until(&house, Ehr::Takes, 1));
        let linked = answer.is(200).json();
        assert_eq!((&linked["link"]["state"], &linked["ehrPatientId"]), (&json!("linked"), &json!(format!("ehr-{patient}"))));
        let path = format!("/fhir/observations/{observation}/sync");
        let (answer, _) = tokio::join!(nurse.ask(&path), work(&house, Ehr::Takes));
        answer.is(200);
    }
}

#[tokio::test]
async fn a_run_over_all_that_is_unsynced_shows_its_progress() {
    for house in houses().await {
        let nurse = house.nurse("a");
        nurse.connect().await;
        house.admin("a").put("/fhir/config", json!({"syncFrequency": "hourly"})).await.is(200);
        let patient = nurse.linked_patient("p-1").await;
        for _ in 0..3 {
            nurse.observation(&patient).await;
        }
        assert_eq!(work(&house, Ehr::Takes).await, 0);
        let run = nurse.ask("/fhir/observations/sync-all").await.is(202);
        let path = run.header("location").to_owned();
        let run = run.json();
        assert_eq!((&run["total"], &run["waiting"], &run["synced"], &run["state"]), (&json!(3), &json!(3), &json!(0), &json!("running")));
        assert!(path.ends_with(run["runId"].as_str().unwrap()));
        assert_eq!(work(&house, Ehr::Takes).await, 3);
        let run = nurse.get(&path).await.is(200).json();
        assert_eq!((&run["synced"], &run["waiting"], &run["state"]), (&json!(3), &json!(0), &json!("finished")));

        nurse.observation(&patient).await;
        let waiting = nurse.clone().with("prefer", "wait=20");
        let (answer, ()) = tokio::join!(waiting.ask("/fhir/observations/sync-all"), work_until(&house, Ehr::Takes, 1));
        let run = answer.is(200).json();
        assert_eq!((&run["state"], &run["waiting"], &run["failed"]), (&json!("finished"), &json!(0), &json!(0)));
        assert_eq!(nurse.get("/observations/unsynced").await.json()["items"], json!([]));
        nurse.clone().with("prefer", "wait=1").ask("/fhir/observations/sync-all").await.is(200);
    }
}

#[tokio::test]
async fn a_pull_is_complete_or_a_problem() {
    for house in houses().await {
        let nurse = house.nurse("a");
        nurse.connect().await;
        let patient = nurse.linked_patient("p-1").await;
        let path = format!("/fhir/patients/{patient}/pull");
        let resource = r#"{"resourceType":"Observation","id":"o-1","status":"final","valueQuantity":{"value":1.10}}"#;
        let (answer, ()) = tokio::join!(nurse.ask(&path), pull(&house, &patient, Some(resource)));
        let pulled = answer.is(200).json();
        assert_eq!(
            (&pulled["observationsCreated"], &pulled["observationsUpdated"], &pulled["observationsUnchanged"]),
            (&json!(1), &json!(0), &json!(0))
        );
        let list = nurse.get("/observations").await.is(200);
        assert!(list.text.contains(&format!(r#""resource":{resource}"#)), "{}", list.text);
        let from_ehr = list.json()["items"][0].clone();
        assert_eq!(
            (&from_ehr["source"], &from_ehr["syncedToEHR"], &from_ehr["fhirResourceId"]),
            (&json!("ehr"), &json!(true), &json!("o-1"))
        );
        let path_of = format!("/observations/{}", from_ehr["id"].as_str().unwrap());
        nurse.patch(&path_of, json!({"status": "amended"})).await.problem(409, "from_ehr");
        nurse.delete(&path_of).await.problem(409, "from_ehr");
        nurse.ask(&format!("/fhir{path_of}/sync")).await.is(200);

        let (answer, ()) = tokio::join!(nurse.ask(&path), pull(&house, &patient, None));
        let problem = answer.problem(502, "pull_incomplete");
        assert_eq!(problem["reason"], "bad_response");
        assert!(problem["detail"].as_str().unwrap().contains("page 2"), "{problem}");
        let asked = nurse.clone().with("prefer", "respond-async").ask(&path).await.is(202);
        assert_eq!((asked.header("location"), &asked.json()["state"]), (format!("/api/v1/patients/{patient}").as_str(), &json!("running")));
    }
}

/// Claims the pull that was asked for: stores one page with this resource and finishes, or fails.
async fn pull(house: &House, patient: &str, resource: Option<&str>) {
    let claim: PullClaim = loop {
        if let Some(claim) = house.store.fleet().claim_pull(WallClock.now(), "test", 60_000).await.unwrap() {
            break claim;
        }
        let _ = tokio::time::timeout(Duration::from_millis(200), house.store.bell()).await;
    };
    let Some(resource) = resource else {
        let again = Some(WallClock.now().plus_ms(600_000));
        assert_eq!(claim.fail(WallClock.now(), "bad_response", "page 2 was no FHIR.", again).await.unwrap(), Fenced::Mine);
        return;
    };
    let parsed: Value = serde_json::from_str(resource).unwrap();
    let row = PulledObservation {
        ehr_id: EhrId::new(parsed["id"].as_str().unwrap()).unwrap(),
        ehr_version: "1".to_owned(),
        ours: None,
        mark: None,
        draft: ObservationDraft {
            patient_id: PatientId(patient.parse().unwrap()),
            code: None,
            code_system: None,
            display: None,
            effective: None,
            value: Some(ObservationValue::Quantity { value: model::Decimal::parse("1.10").unwrap(), unit: None }),
            status: "final".to_owned(),
            message_id: None,
            external_id: None,
        },
        more: false,
        resource: resource.to_owned(),
        interpreted: true,
    };
    let (fenced, _) = claim.store_page(WallClock.now(), vec![row], "{}", 60_000).await.unwrap();
    assert_eq!(fenced, Fenced::Mine);
    assert_eq!(claim.finish(WallClock.now(), None, true).await.unwrap(), Fenced::Mine);
}
