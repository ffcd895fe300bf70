//! Observations as a caller sees them.

use crate::house::{houses, pain};
use crate::worker::{Ehr, work};
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn digits_and_offsets_come_back_as_they_were_sent() {
    for house in houses().await {
        let nurse = house.nurse("a");
        let patient = nurse.patient().await;
        for digits in ["1.10", "0.010", "100", "-0.0", "123456789012345678901234567890.120", "6.022e+23"] {
            let body = format!(
                r#"{{"patientId":"{patient}","code":"2160-0","display":"Creatinine","effectiveDateTime":"2026-11-20T09:30:00.120-03:00","valueQuantity":{digits},"unit":"mg/dL"}}"#
            );
            let created = nurse.post_text("/observations", &body).await.is(201);
            assert!(created.text.contains(&format!(r#""valueQuantity":{digits},"#)), "{}", created.text);
            assert!(created.text.contains(r#""effectiveDateTime":"2026-11-20T09:30:00.120-03:00""#));
            let path = format!("/observations/{}", created.id());
            assert_eq!(created.header("location"), format!("/api/v1{path}"));
            assert!(nurse.get(&path).await.text.contains(&format!(r#""valueQuantity":{digits},"#)));
            assert!(nurse.get("/observations?limit=1").await.text.contains(&format!(r#""valueQuantity":{digits},"#)));
        }
        let partial = json!({"patientId": patient, "code": "x", "codeSystem": "https://example.com/codes", "display": "Náusea", "effectiveDateTime": "2026-11", "valueString": "às vezes"});
        let shown = nurse.post("/observations", partial).await.is(201).json();
        assert_eq!(
            (&shown["effectiveDateTime"], &shown["valueString"], &shown["valueQuantity"]),
            (&json!("2026-11"), &json!("às vezes"), &Value::Null)
        );
        assert_eq!((&shown["source"], &shown["syncedToEHR"], &shown["status"]), (&json!("platform"), &json!(false), &json!("final")));
        assert_eq!((&shown["delivery"]["state"], &shown["delivery"]["reason"]), (&json!("held"), &json!("not_configured")));
    }
}

#[tokio::test]
async fn a_body_that_will_not_do_is_refused_by_name() {
    for house in houses().await {
        let nurse = house.nurse("a");
        let patient = nurse.patient().await;
        let refused = |change: Value| {
            let mut body = pain(&patient);
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let nurse = nurse.clone();
            async move { nurse.post("/observations", body).await.is(422).json() }
        };
        for (change, pointer, code) in [
            (json!({"code": ""}), "/code", "empty"),
            (json!({"code": null}), "/code", "required"),
            (json!({"display": null}), "/display", "required"),
            (json!({"effectiveDateTime": "2026-11-20T09:30:00"}), "/effectiveDateTime", "not_a_date_time"),
            (json!({"effectiveDateTime": "20/11/2026"}), "/effectiveDateTime", "not_a_date_time"),
            (json!({"valueQuantity": "7"}), "/valueQuantity", "wrong_type"),
            (json!({"valueQuantity": null, "unit": null}), "/valueQuantity", "required"),
            (json!({"valueString": "x"}), "/valueString", "one_value"),
            (json!({"status": "done"}), "/status", "not_allowed"),
            (json!({"display": "x".repeat(40_000)}), "/display", "too_long"),
            (json!({"messageId": "a\u{0}b"}), "/messageId", "control_character"),
            (json!({"value": 7}), "/value", "unknown_field"),
        ] {
            let problem = refused(change.clone()).await;
            assert_eq!(
                (&problem["errors"][0]["pointer"], &problem["errors"][0]["code"]),
                (&json!(pointer), &json!(code)),
                "{change}: {problem}"
            );
        }
        nurse.post("/observations", json!({"patientId": "x"})).await.problem(422, "invalid");
        nurse.post("/observations", pain("019ab000-0000-7000-8000-000000000001")).await.problem(404, "not_found");
        assert_eq!(nurse.get("/observations").await.json()["items"], json!([]));
    }
}

#[tokio::test]
async fn a_code_that_means_something_else_is_held_or_refused_as_the_tenant_wants() {
    for house in houses().await {
        let nurse = house.nurse("a");
        nurse.connect().await;
        let patient = nurse.linked_patient("p-1").await;
        let mut nausea = pain(&patient);
        nausea["code"] = json!("8331-1");
        let held = nurse.post("/observations", nausea.clone()).await.is(201).json();
        assert_eq!((&held["delivery"]["state"], &held["delivery"]["reason"]), (&json!("held"), &json!("code_misused")));
        let path = format!("/fhir/observations/{}/sync", held["id"].as_str().unwrap());
        nurse.ask(&path).await.problem(409, "code_misused");
        house.admin("a").put("/fhir/config", json!({"misusedCodes": "refuse"})).await.is(200);
        let problem = nurse.post("/observations", nausea.clone()).await.problem(422, "code_misused");
        assert!(problem["detail"].as_str().unwrap().contains("112497-3"), "{problem}");
        let batch = nurse.post("/observations/batch", json!({"observations": [nausea, pain(&patient)]})).await.is(207).json();
        assert_eq!((&batch["items"][0]["status"], &batch["items"][0]["error"]["code"]), (&json!(422), &json!("code_misused")));
        assert_eq!(batch["items"][1]["status"], 201);
    }
}

#[tokio::test]
async fn a_correction_is_a_new_version_and_a_withdrawal_stays_readable() {
    for house in houses().await {
        let nurse = house.nurse("a");
        nurse.connect().await;
        let patient = nurse.linked_patient("p-1").await;
        let id = nurse.observation(&patient).await;
        let path = format!("/observations/{id}");
        assert_eq!(work(&house, Ehr::Takes).await, 1);
        let delivered = nurse.get(&path).await.json();
        assert_eq!((&delivered["syncedToEHR"], &delivered["fhirResourceId"]), (&json!(true), &json!(format!("ehr-{id}"))));
        assert!(delivered["syncedAt"].is_string());
        // Nothing new: no version.
        assert_eq!(nurse.patch(&path, delivered.clone()).await.is(200).json()["version"], delivered["version"]);
        let corrected = nurse.call(Method::PATCH, &path, Some(r#"{"valueQuantity":8.0}"#)).await.is(200);
        assert!(corrected.text.contains(r#""valueQuantity":8.0,"#));
        let corrected = corrected.json();
        assert_eq!(
            (&corrected["status"], &corrected["syncedToEHR"], &corrected["unit"]),
            (&json!("corrected"), &json!(false), &json!("{score}"))
        );
        assert_eq!(nurse.patch(&path, json!({"display": "Pain", "status": "amended"})).await.is(200).json()["status"], "amended");
        let problem = nurse.patch(&path, json!({"patientId": "019ab000-0000-7000-8000-000000000001"})).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["code"], "immutable");

        nurse.delete(&path).await.is(204);
        nurse.delete(&path).await.is(204);
        let gone = nurse.get(&path).await.is(200).json();
        assert_eq!((&gone["status"], &gone["deleted"]), (&json!("entered-in-error"), &json!(true)));
        assert_eq!(nurse.get("/observations").await.json()["items"], json!([]));
        assert_eq!(nurse.get("/observations?deleted=true").await.json()["items"][0]["id"], id);
        nurse.patch(&path, json!({"valueQuantity": 1})).await.problem(409, "withdrawn");
        nurse.delete("/observations/019ab000-0000-7000-8000-000000000001").await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn lists_are_filtered_and_those_that_wait_say_why() {
    for house in houses().await {
        let nurse = house.nurse("a");
        nurse.connect().await;
        let (one, two) = (nurse.linked_patient("p-1").await, nurse.linked_patient("p-2").await);
        let first = nurse.observation(&one).await;
        work(&house, Ehr::Takes).await;
        let second = nurse.observation(&two).await;
        work(&house, Ehr::Refuses("Observation.code: the EHR wants another")).await;
        let ids = |list: Value| list["items"].as_array().unwrap().iter().map(|o| o["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(nurse.get("/observations").await.json()), [second.clone(), first.clone()]);
        assert_eq!(ids(nurse.get(&format!("/observations?patientId={one}")).await.json()), std::slice::from_ref(&first));
        assert_eq!(ids(nurse.get("/observations?synced=true").await.json()), std::slice::from_ref(&first));
        assert_eq!(ids(nurse.get("/observations?synced=false&code=72514-3").await.json()), std::slice::from_ref(&second));
        assert_eq!(ids(nurse.get("/observations?code=1-8").await.json()), Vec::<String>::new());
        let waiting = nurse.get("/observations/unsynced").await.json();
        assert_eq!(ids(waiting.clone()), std::slice::from_ref(&second));
        assert_eq!(waiting["items"][0]["delivery"]["state"], "dead");
        assert!(waiting["items"][0]["delivery"]["reason"].as_str().unwrap().contains("wants another"));
        nurse.get("/observations?synced=maybe").await.problem(422, "invalid");
        nurse.get("/observations?patient=x").await.problem(422, "unknown_parameter");
        nurse.get("/observations?patientId=x").await.problem(422, "invalid");
        nurse.get("/observations?code=a%00b").await.problem(422, "invalid");
        nurse.get("/observations?code=a&code=b").await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn a_batch_keeps_the_good_ones_beside_the_bad_ones_and_their_order() {
    for house in houses().await {
        let nurse = house.nurse("a");
        let patient = nurse.patient().await;
        let mut late = pain(&patient);
        late["externalId"] = json!("m-3");
        let bad = json!({"patientId": patient, "code": "72514-3"});
        let body = json!({"observations": [pain(&patient), bad, 7, late, pain("019ab000-0000-7000-8000-000000000001")]});
        let items = nurse.post("/observations/batch", body).await.is(207).json()["items"].clone();
        let statuses: Vec<i64> = items.as_array().unwrap().iter().map(|item| item["status"].as_i64().unwrap()).collect();
        assert_eq!(statuses, [201, 422, 422, 201, 404]);
        assert_eq!((&items[3]["index"], &items[3]["observation"]["externalId"]), (&json!(3), &json!("m-3")));
        assert_eq!(items[1]["error"]["errors"][0]["pointer"], "/observations/1/display");
        assert_eq!(items[4]["error"]["code"], "not_found");
        assert!(items[1].get("observation").is_none() && items[0].get("error").is_none());
        assert_eq!(nurse.get("/observations").await.json()["items"].as_array().unwrap().len(), 2);

        nurse.post("/observations/batch", json!({"observations": []})).await.problem(422, "invalid");
        nurse.post("/observations/batch", json!({})).await.problem(422, "invalid");
        nurse.post("/observations/batch", json!({"observations": vec![json!({}); 1001]})).await.problem(422, "invalid");
        nurse.post("/observations/batch", json!({"observations": [1], "x": 1})).await.problem(422, "unknown_field");
        let thousand = json!({"observations": vec![pain(&patient); 1000]});
        let items = nurse.post("/observations/batch", thousand).await.is(207).json()["items"].clone();
        assert!(items.as_array().unwrap().iter().all(|item| item["status"] == 201));
        assert_eq!(items.as_array().unwrap().len(), 1000);
    }
}
