//! The service as it is run: a token's way, an orderly end, what a worker shows, what stands in its log.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

mod running;

use running::{Running, keyed, said};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::tempdir;

fn serve(folder: &Path, more: &[&str]) -> Running {
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0"];
    arguments.extend(more);
    Running::start(&mut keyed(folder, &arguments))
}

fn token(folder: &Path, role: &str) -> String {
    said(&mut keyed(folder, &["token", "--tenant", "hospital-1", "--role", role])).out.trim().to_owned()
}

async fn status(client: &reqwest::Client, url: &str, token: &str) -> u16 {
    client.get(url).bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_signed_token_opens_the_api_for_its_tenant_and_role_only() {
    let folder = tempdir().unwrap();
    let mut service = serve(folder.path(), &[]);
    let base = service.url("listening on");
    let client = reqwest::Client::new();
    let (nurse, admin) = (token(folder.path(), "NURSE"), token(folder.path(), "ADMIN"));

    assert_eq!(status(&client, &format!("{base}/health/ready"), "").await, 200);
    assert_eq!(status(&client, &format!("{base}/api/v1/patients"), &nurse).await, 200);
    assert_eq!(status(&client, &format!("{base}/api/v1/patients"), "forged").await, 401);
    assert_eq!(status(&client, &format!("{base}/api/v1/fhir/config"), &nurse).await, 403);
    assert_eq!(status(&client, &format!("{base}/api/v1/fhir/config"), &admin).await, 404);
    let metrics = client.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
    assert_eq!(metrics.lines().filter(|line| line.starts_with("ponte_build_info")).count(), 1, "{metrics}");
}

#[tokio::test]
async fn what_the_api_took_is_seen_by_status_and_trace_of_the_command_line() {
    let folder = tempdir().unwrap();
    let mut service = serve(folder.path(), &[]);
    let (base, nurse) = (service.url("listening on"), token(folder.path(), "NURSE"));
    let client = reqwest::Client::new();
    let post = async |path: &str, body: Value| -> Value {
        let answer = client.post(format!("{base}/api/v1{path}")).bearer_auth(&nurse).json(&body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
        answer.json().await.unwrap()
    };
    let patient = post("/patients", json!({"name": "Ana Teste Marker", "birthDate": "1980-01-01"})).await;
    let body = json!({"patientId": patient["id"], "code": "8310-5", "display": "Body temperature", "valueQuantity": 36.5, "unit": "Cel", "effectiveDateTime": "2026-01-01T10:00:00-03:00"});
    let observation = post("/observations", body).await;

    let shown = said(&mut keyed(folder.path(), &["status", "--json"]));
    let line: Value = serde_json::from_str(shown.out.trim()).unwrap();
    assert_eq!((shown.code, line["tenantId"].as_str(), line["counts"]["held"].as_i64()), (0, Some("hospital-1"), Some(2)), "{line}");
    let id = observation["id"].as_str().unwrap();
    let trace = said(&mut keyed(folder.path(), &["trace", id, "--json"]));
    let line: Value = serde_json::from_str(trace.out.trim()).unwrap();
    assert_eq!((trace.code, line["state"].as_str(), line["reason"].as_str()), (0, Some("held"), Some("not_configured")), "{line}");
    assert!(said(&mut keyed(folder.path(), &["trace", id])).out.contains("the move is: you"));

    service.signal("TERM");
    let (code, lines) = service.end();
    assert_eq!(code, 0);
    assert!(!lines.iter().any(|line| line.contains("Marker")), "{lines:#?}");
}

#[tokio::test]
async fn told_to_end_it_drains_and_ends_in_order_with_a_log_of_json_lines() {
    for signal in ["TERM", "INT"] {
        let folder = tempdir().unwrap();
        let mut service = serve(folder.path(), &[]);
        service.line("Ponte is up");
        service.signal(signal);
        let (code, lines) = service.end();
        assert_eq!(code, 0, "{lines:#?}");
        let told: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect();
        assert!(told.iter().all(|line| line["ts"].is_string() && line["level"].is_string() && line["msg"].is_string()));
        let events: Vec<&str> = told.iter().filter_map(|line| line["event"].as_str()).collect();
        assert_eq!(events, ["listening", "draining", "down"]);
    }
}

#[tokio::test]
async fn a_worker_shows_its_health_and_answers_no_caller() {
    let folder = tempdir().unwrap();
    let mut worker = serve(folder.path(), &["--role", "worker"]);
    let base = worker.url("health and metrics on");
    let client = reqwest::Client::new();
    assert_eq!(status(&client, &format!("{base}/health/ready"), "").await, 200);
    assert_eq!(status(&client, &format!("{base}/metrics"), "").await, 200);
    assert_eq!(status(&client, &format!("{base}/api/v1/patients"), &token(folder.path(), "ADMIN")).await, 404);
}

#[test]
fn without_migrating_it_refuses_an_empty_database() {
    let folder = tempdir().unwrap();
    let refused = said(&mut keyed(folder.path(), &["serve", "--no-migrate", "--listen", "127.0.0.1:0"]));
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("ponte migrate"), "{}", refused.err);
}

#[test]
fn a_database_in_another_place_sends_nothing_until_a_person_says_what_it_is() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let mut service = serve(first.path(), &[]);
    service.line("Ponte is up");
    service.signal("TERM");
    assert_eq!(service.end().0, 0);
    // A copy of the database alone, as a backup has it.
    for entry in std::fs::read_dir(first.path()).unwrap().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().ends_with(".db") {
            std::fs::copy(entry.path(), second.path().join(name)).unwrap();
        }
    }
    let mut service = serve(second.path(), &[]);
    service.line("ponte adopt moved");
    service.signal("TERM");
    assert_eq!(service.end().0, 0);
    assert_eq!(said(&mut keyed(second.path(), &["adopt", "moved", "--yes"])).code, 0);
    let mut service = serve(second.path(), &[]);
    service.line("Ponte is up");
    assert!(!service.seen.iter().any(|line| line.contains("ponte adopt")), "{:#?}", service.seen);
}
