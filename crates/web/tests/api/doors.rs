//! Who is let in: every route, with no token, a forged one, an expired one, the wrong role, another tenant's id.

use crate::house::{House, SECRET, houses, original_config, pain, token};
use crate::worker::{Ehr, work};
use axum::body::Body;
use http::Method;
use model::TenantId;
use ponte_web::{Role, openapi, sign_token};
use serde_json::json;
use std::time::Duration;

const ADMIN_ALONE: &[(&str, &str)] = &[
    ("GET", "/api/v1/fhir/config"),
    ("POST", "/api/v1/fhir/config"),
    ("PUT", "/api/v1/fhir/config"),
    ("DELETE", "/api/v1/fhir/config"),
    ("POST", "/api/v1/fhir/config/test"),
    ("DELETE", "/api/v1/fhir/dead-letters/{id}"),
];

/// All routes behind the door, from the document that the router is made with.
fn routes() -> Vec<(Method, String)> {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| ["get", "post", "put", "patch", "delete"].contains(&key.as_str())) {
            if path.starts_with("/api/v1/") {
                routes.push((method.to_uppercase().parse().unwrap(), path.clone()));
            }
        }
    }
    assert_eq!(routes.len(), 29, "{routes:?}");
    routes
}

async fn knock(house: &House, method: &Method, path: &str, authorization: Option<&str>) -> crate::house::Answer {
    let mut headers = vec![("content-type", "application/json"), ("prefer", "respond-async")];
    headers.extend(authorization.map(|value| ("authorization", value)));
    house.send(method.clone(), path, &headers, Body::from("{}")).await
}

fn jwt(secret: &str, exp: i64) -> String {
    let claims = json!({"sub": "u", "tenantId": "a", "role": "ADMIN", "exp": exp});
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_that_is_trusted() {
    for house in houses().await {
        let expired = format!("Bearer {}", jwt(SECRET, 1_700_000_000));
        let forged = format!("Bearer {}", jwt("another secret of thirty-two bytes!!", 9_999_999_999));
        let good = token("a", Role::Admin);
        let basic = format!("Basic {good}");
        let unsigned =
            "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1IiwidGVuYW50SWQiOiJhIiwicm9sZSI6IkFETUlOIiwiZXhwIjo5OTk5OTk5OTk5fQ.".to_owned();
        for (method, path) in routes() {
            let path = path.replace("{id}", "019ab000-0000-7000-8000-000000000001");
            let answer = knock(&house, &method, &path, None).await;
            assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="ponte""#);
            answer.problem(401, "unauthorized");
            for bad in [&expired, &forged, &basic, &unsigned, &good, &"Bearer ".to_owned()] {
                let answer = knock(&house, &method, &path, Some(bad)).await;
                assert!(answer.header("www-authenticate").contains("invalid_token"));
                answer.problem(401, "unauthorized");
            }
        }
        let two = [("authorization", format!("Bearer {good}")), ("authorization", format!("Bearer {good}"))];
        let two: Vec<(&str, &str)> = two.iter().map(|(name, value)| (*name, value.as_str())).collect();
        house.send(Method::GET, "/api/v1/patients", &two, Body::empty()).await.problem(401, "unauthorized");
        // The scheme's case does not matter (RFC 9110 §11.1).
        knock(&house, &Method::GET, "/api/v1/patients", Some(&format!("bEARER {good}"))).await.is(200);
    }
}

#[tokio::test]
async fn a_role_may_do_what_the_contract_says_and_no_more() {
    for house in houses().await {
        let stranger = {
            let claims = json!({"sub": "u", "tenantId": "a", "role": "PATIENT", "exp": 9_999_999_999_i64});
            let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
            format!("Bearer {}", jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap())
        };
        for (method, path) in routes() {
            let admin_alone = ADMIN_ALONE.contains(&(method.as_str(), path.as_str()));
            let path = path.replace("{id}", "019ab000-0000-7000-8000-000000000001");
            knock(&house, &method, &path, Some(&stranger)).await.problem(403, "forbidden");
            for role in Role::ALL {
                let answer = knock(&house, &method, &path, Some(&format!("Bearer {}", token("a", role)))).await;
                if admin_alone && role != Role::Admin {
                    let problem = answer.problem(403, "forbidden");
                    assert!(problem["detail"].as_str().unwrap().contains("ADMIN"));
                } else {
                    assert!(![401, 403].contains(&answer.status.as_u16()), "{role:?} {method} {path}: {}", answer.text);
                }
            }
        }
    }
}

#[tokio::test]
async fn another_tenants_ids_are_not_found_by_any_route() {
    for house in houses().await {
        let (a, b) = (house.admin("a"), house.admin("b"));
        a.connect().await;
        b.connect().await;
        let patient = a.linked_patient("p-a").await;
        let observation = a.observation(&patient).await;
        work(&house, Ehr::Refuses("no")).await;
        let delivery = a.get(&format!("/observations/{observation}")).await.json()["delivery"]["id"].as_str().unwrap().to_owned();
        let run = a.ask("/fhir/observations/sync-all").await.is(202).json()["runId"].as_str().unwrap().to_owned();
        let before = a.get(&format!("/observations/{observation}")).await.text;
        for (method, path) in routes().into_iter().filter(|(_, path)| path.contains("{id}")) {
            let id = match path.as_str() {
                path if path.contains("/patients/") => &patient,
                path if path.contains("/observations/") => &observation,
                path if path.contains("/runs/") => &run,
                _ => &delivery,
            };
            // Bodies that cannot be read, and values that will not do: the id is looked at first all the same.
            for body in ["{}", "not json", r#"{"nothing":1}"#] {
                let path = path.replace("{id}", id);
                b.call(method.clone(), &path, Some(body)).await.problem(404, "not_found");
            }
            b.call(method.clone(), &path.replace("{id}", "no-id"), Some("{}")).await.problem(404, "not_found");
        }
        for path in [
            format!("/observations?patientId={patient}"),
            format!("/fhir/deliveries?patientId={patient}"),
            format!("/fhir/deliveries?observationId={observation}"),
        ] {
            b.get(&path).await.problem(404, "not_found");
        }
        b.post("/observations", pain(&patient)).await.problem(404, "not_found");
        b.post("/observations", json!({"patientId": patient, "code": 7})).await.problem(404, "not_found");
        b.post("/fhir/dead-letters/replay", json!({"patientId": patient})).await.problem(404, "not_found");
        let items = b.post("/observations/batch", json!({"observations": [pain(&patient), {"patientId": patient}]})).await.is(207).json();
        assert_eq!((&items["items"][0]["status"], &items["items"][1]["status"]), (&json!(404), &json!(404)));
        for list in ["/patients", "/observations", "/observations/unsynced", "/fhir/deliveries", "/fhir/dead-letters"] {
            assert_eq!(b.get(list).await.is(200).json()["items"], json!([]), "{list}");
        }
        assert_eq!(b.post("/patients/search", json!({"ehrPatientId": "p-a"})).await.is(200).json()["items"], json!([]));
        assert_eq!(a.get(&format!("/observations/{observation}")).await.text, before);
    }
}

#[tokio::test]
async fn the_tenant_comes_from_the_token_alone() {
    for house in houses().await {
        let a = house.admin("a");
        let patient = a.patient().await;
        let token = sign_token(&SECRET.into(), &TenantId::new("b").unwrap(), Role::Admin, "u", Duration::from_secs(60)).unwrap();
        let bearer = format!("Bearer {token}");
        for (name, value) in [("x-tenant-id", "a"), ("tenantid", "a"), ("x-forwarded-tenant", "a")] {
            let headers = [("authorization", bearer.as_str()), (name, value)];
            house.send(Method::GET, &format!("/api/v1/patients/{patient}"), &headers, Body::empty()).await.problem(404, "not_found");
        }
        house
            .admin("b")
            .post("/patients", json!({"name": "A", "birthDate": "1961-04-02", "tenantId": "a"}))
            .await
            .problem(422, "unknown_field");
        // One tenant's configuration is never the other's.
        a.post("/fhir/config", original_config()).await.is(201);
        house.admin("b").get("/fhir/config").await.problem(404, "not_found");
    }
}
