//! What every answer has, whatever was asked: a problem's shape, a request's id, safe headers; and what needs no token.

use crate::house::{houses, houses_with, pain};
use axum::body::Body;
use http::Method;
use model::{Clock, Timestamp};
use ponte_web::openapi;
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::Arc;

#[tokio::test]
async fn whatever_goes_wrong_is_a_problem() {
    for house in houses().await {
        for path in [
            "/",
            "/nothing",
            "/api/v1",
            "/api/v1/",
            "/api/v1/nothing",
            "/api/v2/patients",
            "/api/v1/patients/",
            "/docs/nothing.js",
            "/fhir/config",
        ] {
            house.send(Method::GET, path, &[], Body::empty()).await.problem(404, "not_found");
        }
        let nurse = house.nurse("a");
        for (method, path) in
            [(Method::DELETE, "/patients"), (Method::PUT, "/observations"), (Method::OPTIONS, "/patients"), (Method::PATCH, "/fhir/config")]
        {
            let answer = nurse.call(method, path, None).await;
            assert!(!answer.header("allow").is_empty());
            answer.problem(405, "method_not_allowed");
        }
        house.send(Method::POST, "/health/live", &[], Body::empty()).await.problem(405, "method_not_allowed");
        let patient = nurse.patient().await;
        for bad in ["", "{", "[]", "null", "{\"a\":1,}", r#"{"name":"a","name":"b"}"#, "\u{0}"] {
            nurse.post_text("/patients", bad).await.problem(400, "invalid_json");
            nurse.call(Method::PATCH, &format!("/patients/{patient}"), Some(bad)).await.problem(400, "invalid_json");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
            nurse.clone().with("content-type", kind).post_text("/patients", "{}").await.problem(415, "unsupported_media_type");
        }
        nurse.clone().with("content-encoding", "gzip").post_text("/patients", "{}").await.problem(415, "unsupported_media_type");
        nurse.clone().with("content-type", "application/json; charset=utf-8").post_text("/patients", "{}").await.problem(422, "invalid");
        let large = json!({"name": "x".repeat(1_100_000)});
        nurse.post("/patients", large.clone()).await.problem(413, "body_too_large");
        nurse.post("/observations/batch", json!({"observations": [large]})).await.is(207);
        nurse.post_text("/observations/batch", &" ".repeat(17 << 20)).await.problem(413, "body_too_large");
    }
}

#[tokio::test]
async fn a_request_has_one_id_everywhere() {
    for house in houses().await {
        let nurse = house.nurse("a");
        let given = nurse.clone().with("x-request-id", "req-1.a:b_c").get("/nothing").await;
        assert_eq!(given.header("x-request-id"), "req-1.a:b_c");
        given.problem(404, "not_found");
        for insane in ["a b", "<script>", &"x".repeat(129)] {
            let made = nurse.clone().with("x-request-id", insane).get("/patients").await.is(200);
            assert!(uuid::Uuid::parse_str(made.header("x-request-id")).is_ok());
        }
    }
}

#[tokio::test]
async fn answers_are_not_kept_and_not_sniffed_and_no_other_origin_is_let_in() {
    for house in houses().await {
        let nurse = house.nurse("a").with("origin", "https://evil.example");
        for answer in
            [nurse.get("/patients").await, nurse.get("/nothing").await, house.send(Method::GET, "/health/live", &[], Body::empty()).await]
        {
            assert_eq!((answer.header("cache-control"), answer.header("x-content-type-options")), ("no-store", "nosniff"));
            assert!(answer.header("content-security-policy").contains("default-src 'none'"));
            assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
        }
    }
}

struct Broken;

impl Clock for Broken {
    fn now(&self) -> Timestamp {
        panic!("a clock that is broken")
    }
}

#[tokio::test]
async fn a_panic_is_a_sentence_and_the_next_request_is_served() {
    for house in houses_with(|api| api.clock = Arc::new(Broken)).await {
        let problem = house.nurse("a").get("/fhir/status").await.problem(500, "internal");
        assert!(!problem.to_string().contains("clock"));
        house.nurse("a").get("/patients").await.is(200);
    }
}

#[tokio::test]
async fn a_tenant_that_asks_too_much_waits_and_the_others_do_not() {
    for house in houses_with(|api| api.requests_per_second = NonZeroU32::MIN).await {
        let a = house.nurse("a");
        for _ in 0..5 {
            a.get("/patients").await.is(200);
        }
        let answer = a.get("/patients").await;
        assert_eq!(answer.header("retry-after"), "1");
        answer.problem(429, "rate_limited");
        house.nurse("b").get("/patients").await.is(200);
    }
}

#[tokio::test]
async fn health_and_metrics_need_no_token_and_name_nobody() {
    for house in houses_with(|api| api.version = "1.2.3").await {
        for path in ["/health/live", "/health/ready"] {
            assert_eq!(house.send(Method::GET, path, &[], Body::empty()).await.is(200).json()["status"], "ok");
        }
        let nurse = house.nurse("tenant-marker");
        let patient = nurse.linked_patient("ehr-marker").await;
        nurse.observation(&patient).await;
        let metrics = house.send(Method::GET, "/metrics", &[], Body::empty()).await.is(200);
        assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
        for line in [r#"ponte_build_info{version="1.2.3"} 1"#, "ponte_dead_letters 0", "# TYPE ponte_backlog gauge"] {
            assert!(metrics.text.contains(line), "{line} in {}", metrics.text);
        }
        assert!(metrics.text.contains(r#"ponte_backlog{direction="push",state="pending"} 1"#), "{}", metrics.text);
        for marker in ["tenant-marker", "ehr-marker", "Ana", &patient] {
            assert!(!metrics.text.contains(marker));
        }
    }
}

#[tokio::test]
async fn a_database_without_its_schema_is_not_ready() {
    let database = testing::sqlite();
    let keys = store::KeyRing::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let store = store::Store::open(database.url(), keys, Arc::new(Chance)).await.unwrap();
    let verifier = ponte_web::TokenVerifier::hs256(&crate::house::SECRET.into()).unwrap();
    let api = ponte_web::Api::new(store, verifier, ehr::guard::AllowLocal::No, Arc::new(crate::house::WallClock), b"x");
    let request = http::Request::get("/health/ready").body(Body::empty()).unwrap();
    let answer = tower::ServiceExt::oneshot(ponte_web::router(api), request).await.unwrap();
    assert_eq!(answer.status(), 503);
}

struct Chance;

impl model::Rng for Chance {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

#[tokio::test]
async fn the_document_and_the_router_are_one_list() {
    for house in houses().await {
        let served = house.send(Method::GET, "/openapi.json", &[], Body::empty()).await.is(200).json();
        assert_eq!(served, serde_json::to_value(openapi()).unwrap());
        assert!(served["openapi"].as_str().unwrap().starts_with("3.1"));
        let nurse = house.nurse("a").with("prefer", "respond-async");
        for (path, item) in served["paths"].as_object().unwrap() {
            for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                let described = item.get(method.as_str().to_lowercase()).is_some();
                let path = path.replace("{id}", "019ab000-0000-7000-8000-000000000001");
                let answer = if path.starts_with("/api/") {
                    nurse.call(method.clone(), &path, Some("{}")).await
                } else {
                    house.send(method.clone(), &path, &[], Body::empty()).await
                };
                assert_eq!(described, answer.status != 405, "{method} {path}: {}", answer.text);
                let status = answer.status.as_u16().to_string();
                if described {
                    let known = &item[method.as_str().to_lowercase()]["responses"];
                    assert!(known.get(&status).is_some(), "{method} {path} answers {status}, which is not described");
                }
            }
        }
        let text = served.to_string();
        for route in [
            "/api/v1/patients/search",
            "/api/v1/observations/batch",
            "/api/v1/fhir/observations/sync-all",
            "/api/v1/fhir/patients/{id}/pull",
            "/metrics",
        ] {
            assert!(served["paths"].get(route).is_some(), "{route}");
        }
        assert!(!text.contains("\"$ref\":\"#/components/schemas/\""));
        // Every reference leads somewhere.
        for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(served["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}

#[tokio::test]
async fn bodies_are_described_as_they_are_read_and_answered() {
    let document = serde_json::to_value(openapi()).unwrap();
    let properties = |schema: &str| -> Vec<String> {
        let schema = &document["components"]["schemas"][schema]["properties"];
        schema.as_object().unwrap_or_else(|| panic!("{schema}")).keys().cloned().collect()
    };
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    for house in houses().await {
        let admin = house.admin("a");
        // Each field that is described is read: none is unknown.
        for (schema, path) in [("PatientBody", "/patients"), ("ObservationBody", "/observations"), ("ConfigBody", "/fhir/config")] {
            let body: Value =
                properties(schema).into_iter().map(|name| (name, Value::Bool(true))).collect::<serde_json::Map<_, _>>().into();
            let problem = admin.post(path, body).await.is(422).json();
            assert!(!problem.to_string().contains("unknown_field"), "{schema}: {problem}");
        }
        // Each field that is answered is described.
        let patient = admin.linked_patient("p-1").await;
        let observation = admin.post("/observations", pain(&patient)).await.is(201).json();
        let patient = admin.get(&format!("/patients/{patient}")).await.json();
        for (shown, schema) in [(&patient, "PatientAnswer"), (&observation, "ObservationAnswer")] {
            for key in keys(shown) {
                assert!(properties(schema).contains(&key), "{schema}.{key}");
            }
        }
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    for house in houses().await {
        let page = house.send(Method::GET, "/docs", &[], Body::empty()).await.is(200);
        assert!(page.header("content-type").starts_with("text/html"));
        assert!(page.header("content-security-policy").contains("script-src 'self';"));
        let links: Vec<&str> = ["src=\"", "href=\""]
            .into_iter()
            .flat_map(|mark| page.text.split(mark).skip(1).map(|rest| rest.split('"').next().unwrap()))
            .collect();
        assert!(links.len() >= 4, "{}", page.text);
        for link in links {
            assert!(link.starts_with("docs/"), "{link}");
            // Images are no text.
            if link.ends_with(".png") {
                continue;
            }
            let file = house.send(Method::GET, &format!("/{link}"), &[], Body::empty()).await.is(200);
            assert!(file.header("content-security-policy").contains("default-src 'none'"));
        }
        let start = house.send(Method::GET, "/docs/swagger-initializer.js", &[], Body::empty()).await.is(200).text;
        assert!(start.contains("openapi.json") && start.contains(r#""validatorUrl": "none""#), "{start}");
        assert!(!start.contains("http"), "{start}");
        assert_eq!(house.send(Method::GET, "/docs/", &[], Body::empty()).await.is(308).header("location"), "../docs");
    }
}
