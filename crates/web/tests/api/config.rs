//! The configuration as an administrator sees it, and its test.

use crate::house::{House, WallClock, houses, houses_with, original_config};
use ehr::guard::AllowLocal;
use model::Clock;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn the_originals_body_is_taken_word_for_word_and_its_secret_never_comes_back() {
    for house in houses().await {
        let admin = house.admin("a");
        admin.get("/fhir/config").await.problem(404, "not_found");
        admin.put("/fhir/config", json!({"enabled": true})).await.problem(404, "not_found");
        let created = admin.post("/fhir/config", original_config()).await.is(201);
        assert_eq!(created.header("location"), "/api/v1/fhir/config");
        assert!(!created.text.contains("your-client-secret"));
        let shown = created.json();
        for (field, value) in original_config().as_object().unwrap().iter().filter(|(field, _)| *field != "authConfig") {
            assert_eq!(&shown[field], value, "{field}");
        }
        assert_eq!(shown["authConfig"]["clientSecret"]["set"], true);
        assert_eq!(
            (&shown["authConfig"]["clientId"], &shown["batchSize"], &shown["misusedCodes"]),
            (&json!("your-client-id"), &json!(100), &json!("hold"))
        );
        let got = admin.get("/fhir/config").await.is(200);
        assert_eq!(got.json(), shown);
        // What was read may be sent back, by both methods; the secret stays.
        let back = admin.put("/fhir/config", shown.clone()).await.is(200).json();
        assert_eq!(back["authConfig"], shown["authConfig"]);
        admin.post("/fhir/config", shown.clone()).await.is(200);
        assert_eq!(secret(&house).await, "your-client-secret");
    }
}

#[tokio::test]
async fn a_put_changes_what_it_names_and_a_post_replaces() {
    for house in houses().await {
        let admin = house.admin("a");
        let mut first = original_config();
        first["metadata"] = json!({"ward": "3B", "n": 7});
        first["patience"] = json!(1000);
        admin.post("/fhir/config", first).await.is(201);
        let changed = admin.put("/fhir/config", json!({"maxRetries": 5, "authConfig": {"clientId": "other"}})).await.is(200).json();
        assert_eq!((&changed["maxRetries"], &changed["patience"], &changed["metadata"]["n"]), (&json!(5), &json!(1000), &json!(7)));
        assert_eq!((&changed["authConfig"]["clientId"], secret(&house).await.as_str()), (&json!("other"), "your-client-secret"));
        admin.put("/fhir/config", json!({"authConfig": {"clientSecret": "new secret"}})).await.is(200);
        assert_eq!(secret(&house).await, "new secret");
        let problem =
            admin.put("/fhir/config", json!({"authType": "basic", "authConfig": {"username": "u"}})).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "/authConfig/password");
        let problem = admin.put("/fhir/config", json!({"maxRetries": 21, "batchSize": 0, "surprise": 1})).await.problem(422, "invalid");
        assert_eq!(problem["errors"].as_array().unwrap().len(), 3);

        // A whole body: what is left out takes its default.
        let replaced = admin.post("/fhir/config", original_config()).await.is(200).json();
        assert_eq!((&replaced["maxRetries"], &replaced["patience"], &replaced["metadata"]), (&json!(3), &json!(604_800_000), &Value::Null));
        admin.post("/fhir/config", json!({"maxRetries": 1})).await.problem(422, "invalid");
        let basic =
            json!({"baseUrl": "https://fhir.example.com/fhir", "authType": "basic", "authConfig": {"username": "u", "password": "p-w"}});
        let basic = admin.post("/fhir/config", basic).await.is(200);
        assert!(!basic.text.contains("p-w") && !basic.text.contains("clientId"));
        assert_eq!(basic.json()["enabled"], false);
    }
}

#[tokio::test]
async fn a_stale_etag_changes_nothing() {
    for house in houses().await {
        let admin = house.admin("a");
        let first = admin.post("/fhir/config", original_config()).await.is(201).header("etag").to_owned();
        let second =
            admin.clone().with("if-match", &first).put("/fhir/config", json!({"maxRetries": 4})).await.is(200).header("etag").to_owned();
        assert_ne!(first, second);
        let stale = admin.clone().with("if-match", &first);
        stale.put("/fhir/config", json!({"maxRetries": 9})).await.problem(412, "precondition_failed");
        stale.post("/fhir/config", original_config()).await.problem(412, "precondition_failed");
        stale.delete("/fhir/config").await.problem(412, "precondition_failed");
        assert_eq!(admin.get("/fhir/config").await.json()["maxRetries"], 4);
        admin.clone().with("if-match", "*").delete("/fhir/config").await.is(204);
        admin.delete("/fhir/config").await.problem(404, "not_found");
        admin.clone().with("if-match", "*").post("/fhir/config", original_config()).await.problem(412, "precondition_failed");
    }
}

#[tokio::test]
async fn addresses_that_the_operator_does_not_allow_are_refused_by_field() {
    let with = |base: &str, token: &str| {
        let mut body = original_config();
        body["baseUrl"] = json!(base);
        body["authConfig"]["tokenUrl"] = json!(token);
        body
    };
    let good = "https://fhir.example.com/fhir";
    for house in houses().await {
        let admin = house.admin("a");
        for (base, token, pointer) in [
            ("http://fhir.example.com/fhir", good, "/baseUrl"),
            ("https://127.0.0.1/fhir", good, "/baseUrl"),
            ("https://10.1.2.3/fhir", good, "/baseUrl"),
            ("https://169.254.169.254/fhir", good, "/baseUrl"),
            ("https://[::1]/fhir", good, "/baseUrl"),
            (good, "http://127.0.0.1:9/token", "/authConfig/tokenUrl"),
            (good, "https://192.168.0.1/token", "/authConfig/tokenUrl"),
        ] {
            let problem = admin.post("/fhir/config", with(base, token)).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{base} {token}");
        }
        admin.get("/fhir/config").await.is(404);
    }
    for house in houses_with(|api| api.guard = AllowLocal::All).await {
        let admin = house.admin("a");
        admin.post("/fhir/config", with("http://127.0.0.1:9/fhir", "http://127.0.0.1:9/token")).await.is(201);
        admin.put("/fhir/config", json!({"baseUrl": "http://169.254.169.254/fhir"})).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn the_test_is_made_by_a_worker_and_its_report_comes_back() {
    for house in houses().await {
        let admin = house.admin("a");
        admin.post("/fhir/config/test", json!({})).await.problem(409, "not_configured");
        admin.connect().await;
        admin.post("/fhir/config/test", json!({"writeProbe": true})).await.problem(422, "invalid");
        admin.post("/fhir/config/test", json!({"probe": true})).await.problem(422, "unknown_field");
        let pending = admin.clone().with("prefer", "respond-async").ask("/fhir/config/test").await.is(202);
        let path = pending.header("location").to_owned();
        assert_eq!(pending.json()["state"], "running");
        house.nurse("a").get(&path).await.problem(403, "forbidden");
        work_check(&house, r#"{"overall":"ok","steps":[{"step":"url","verdict":"ok","n":1.10}]}"#).await;
        let run = admin.get(&path).await.is(200);
        assert!(run.text.contains(r#""n":1.10"#));
        assert_eq!(run.json()["report"]["overall"], "ok");
        let probe = admin.post("/fhir/config/test", json!({"writeProbe": true, "testPatientId": "p-t"}));
        let (answer, ()) = tokio::join!(probe, work_check(&house, r#"{"overall":"failed","steps":[]}"#));
        assert_eq!((&answer.is(200).json()["overall"]), &json!("failed"));
    }
}

async fn work_check(house: &House, report: &str) {
    loop {
        if let Some((tenant, run)) = house.store.fleet().claim_check(WallClock.now(), "test", 60_000).await.unwrap() {
            return house.store.tenant(&tenant).finish_check(WallClock.now(), run.id, report).await.unwrap();
        }
        let _ = tokio::time::timeout(Duration::from_millis(200), house.store.bell()).await;
    }
}

async fn secret(house: &House) -> String {
    use secrecy::ExposeSecret;
    match &house.tenant("a").connection().await.unwrap().unwrap().connection.auth {
        model::AuthConfig::OAuth2 { client_secret, .. } => client_secret.expose_secret().to_owned(),
        other => panic!("{other:?}"),
    }
}
