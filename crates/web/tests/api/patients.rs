//! Patients as a caller sees them.

use crate::house::houses;
use serde_json::json;

#[tokio::test]
async fn a_patient_is_accepted_read_changed_and_found() {
    for house in houses().await {
        let nurse = house.nurse("a");
        let body = json!({"name": "Maria Aparecida", "birthDate": "1961-04-02", "gender": "female", "cpf": "529.982.247-25", "cns": "700500572752652",
            "phone": "+55 11 5555-0000", "email": "m@example.com", "externalId": "P-1"});
        let created = nurse.post("/patients", body).await.is(201);
        let id = created.id();
        assert_eq!(created.header("location"), format!("/api/v1/patients/{id}"));
        let shown = created.json();
        assert_eq!(
            (&shown["cpf"], &shown["link"]["state"], &shown["ehrPatientId"]),
            (&json!("52998224725"), &json!("unlinked"), &json!(null))
        );
        assert_eq!(nurse.get(&format!("/patients/{id}")).await.is(200).json(), shown);
        for key in [
            json!({"cpf": "52998224725"}),
            json!({"cns": "700500572752652"}),
            json!({"externalId": "P-1"}),
            json!({"cpf": "529.982.247-25", "externalId": "P-1"}),
        ] {
            let found = nurse.post("/patients/search", key.clone()).await.is(200).json();
            assert_eq!(found["items"][0]["id"], id, "{key}");
        }
        assert_eq!(
            nurse.post("/patients/search", json!({"cpf": "52998224725", "externalId": "P-2"})).await.is(200).json()["items"],
            json!([])
        );
        // What was read may be sent back: nothing changes, not even for one who may not link.
        let back = nurse.patch(&format!("/patients/{id}"), shown.clone()).await.is(200).json();
        assert_eq!((&back["version"], &back["updatedAt"]), (&shown["version"], &shown["updatedAt"]));
        let changed = nurse.patch(&format!("/patients/{id}"), json!({"name": "Maria A. Souza", "phone": null})).await.is(200).json();
        assert_eq!(
            (&changed["name"], &changed["phone"], &changed["email"]),
            (&json!("Maria A. Souza"), &json!(null), &json!("m@example.com"))
        );
        assert_eq!(nurse.get("/patients").await.is(200).json()["items"][0], changed);
    }
}

#[tokio::test]
async fn an_identifier_belongs_to_one_patient_of_the_tenant() {
    for house in houses().await {
        let nurse = house.nurse("a");
        let body = json!({"name": "A", "birthDate": "1961-04-02", "cpf": "52998224725", "cns": "700500572752652", "externalId": "P-1"});
        let id = nurse.post("/patients", body.clone()).await.is(201).id();
        for (field, value) in [("cpf", "529.982.247-25"), ("cns", "700500572752652"), ("externalId", "P-1")] {
            let problem =
                nurse.post("/patients", json!({"name": "B", "birthDate": "1970-01-01", field: value})).await.problem(409, "patient_exists");
            assert_eq!((&problem["patientId"], &problem["errors"][0]["pointer"]), (&json!(id), &json!(format!("/{field}"))));
            assert!(!problem.to_string().contains("52998224725"));
        }
        let other = nurse.post("/patients", json!({"name": "B", "birthDate": "1970-01-01"})).await.is(201).id();
        nurse.patch(&format!("/patients/{other}"), json!({"cpf": "52998224725"})).await.problem(409, "patient_exists");
        house.nurse("b").post("/patients", body).await.is(201);
    }
}

#[tokio::test]
async fn only_an_administrator_links() {
    for house in houses().await {
        let (admin, nurse) = (house.admin("a"), house.nurse("a"));
        let body = json!({"name": "A", "birthDate": "1961-04-02", "ehrPatientId": "p-1"});
        nurse.post("/patients", body.clone()).await.problem(403, "forbidden");
        let linked = admin.post("/patients", body).await.is(201).json();
        assert_eq!(
            (&linked["ehrPatientId"], &linked["link"]["state"], &linked["link"]["by"]),
            (&json!("p-1"), &json!("linked"), &json!("person:u-1"))
        );
        let path = format!("/patients/{}", linked["id"].as_str().unwrap());
        nurse.patch(&path, json!({"ehrPatientId": "p-1", "name": "B"})).await.is(200);
        nurse.patch(&path, json!({"ehrPatientId": "p-2"})).await.problem(403, "forbidden");
        nurse.patch(&path, json!({"ehrPatientId": null})).await.problem(403, "forbidden");
        assert_eq!(admin.patch(&path, json!({"ehrPatientId": null})).await.is(200).json()["link"]["state"], "unlinked");
        assert_eq!(admin.patch(&path, json!({"ehrPatientId": "Patient/p-3"})).await.is(200).json()["ehrPatientId"], "p-3");
        assert_eq!(admin.post("/patients/search", json!({"ehrPatientId": "p-3"})).await.is(200).json()["items"][0]["name"], "B");
    }
}

#[tokio::test]
async fn what_will_not_do_is_refused_by_name_and_never_repeated() {
    for house in houses().await {
        let nurse = house.nurse("a");
        let problem = nurse
            .post("/patients", json!({"name": "", "birthDate": "1961-02-30", "cpf": "52998224726", "nome": "x"}))
            .await
            .problem(422, "invalid");
        let pointers: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
        for want in ["/name", "/birthDate", "/cpf", "/nome"] {
            assert!(pointers.contains(&want), "{problem}");
        }
        assert!(!problem.to_string().contains("52998224726") && !problem.to_string().contains("1961-02-30"));
        nurse.post("/patients/search", json!({})).await.problem(422, "invalid");
        nurse.post("/patients/search", json!({"cpf": "1"})).await.problem(422, "invalid");
        nurse.post("/patients/search", json!({"name": "Ana"})).await.problem(422, "unknown_field");
        // People are never looked for in a URL.
        let problem = nurse.get("/patients?cpf=52998224725").await.problem(422, "unknown_parameter");
        assert!(problem["detail"].as_str().unwrap().contains("/patients/search"));
        assert!(!problem.to_string().contains("52998224725"));
        assert_eq!(nurse.get("/patients").await.json()["items"], json!([]));
    }
}
