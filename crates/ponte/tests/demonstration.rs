//! The demo, the sandbox and the connection check, as a stranger meets them.

mod running;

use running::{Running, ponte, said};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::tempdir;

#[test]
fn one_round_of_the_demo_ends_in_agreement_though_the_ehr_showed_faults() {
    let folder = tempdir().unwrap();
    let round = said(&mut ponte(folder.path(), &["demo", "--once", "--json"]));
    let shown: Value = serde_json::from_str(round.out.trim()).unwrap_or_else(|_| panic!("{} {}", round.out, round.err));
    assert_eq!((round.code, shown["agree"].as_bool()), (0, Some(true)), "{shown:#}");
    assert_eq!(shown["patients"], 12);
    let rows = shown["observations"].as_array().unwrap();
    let of = |side: &str| rows.iter().filter(|row| row["from"] == side).count();
    assert_eq!((of("platform"), of("ehr")), (36, 24));
    assert!(shown["faults"].as_object().is_some_and(|faults| !faults.is_empty()), "{shown:#}");
    // Nothing is left behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_live_demo_shows_deliveries_and_pulls_and_ends_on_ctrl_c() {
    let folder = tempdir().unwrap();
    let mut demo = Running::start(&mut ponte(folder.path(), &["demo", "--json", "--listen", "127.0.0.1:0"]));
    let ready: Value = serde_json::from_str(&demo.line("\"ready\"")).unwrap();
    assert!(ready["token"].as_str().is_some_and(|token| token.split('.').count() == 3));
    demo.line("\"state\":\"delivered\"");
    demo.line("\"pulled\"");
    demo.signal("INT");
    assert_eq!(demo.end().0, 0);
}

fn sandbox(folder: &Path) -> (Running, String) {
    let mut sandbox = Running::start(&mut ponte(folder, &["sandbox", "--auth", "oauth2:ponte:toy-secret"]));
    let base = sandbox.url("/fhir");
    (sandbox, if base.ends_with("/fhir") { base } else { panic!("{base}") })
}

#[tokio::test]
async fn the_sandbox_prints_its_base_url_and_is_a_fhir_server() {
    let folder = tempdir().unwrap();
    let mut sandbox = Running::start(&mut ponte(folder.path(), &["sandbox", "--like", "hapi", "--json"]));
    let shown: Value = serde_json::from_str(&sandbox.line("baseUrl")).unwrap();
    let base = shown["baseUrl"].as_str().unwrap();
    let metadata: Value = reqwest::get(format!("{base}/metadata")).await.unwrap().json().await.unwrap();
    assert_eq!(metadata["resourceType"], "CapabilityStatement");
    sandbox.signal("TERM");
    assert_eq!(sandbox.end().0, 0);
}

#[test]
fn a_check_without_a_service_passes_with_right_credentials_and_exits_6_with_wrong_ones() {
    let folder = tempdir().unwrap();
    let (_sandbox, base) = sandbox(folder.path());
    let config = |secret: &str| {
        json!({
            "enabled": true, "baseUrl": base, "authType": "oauth2",
            "authConfig": {"clientId": "ponte", "clientSecret": secret, "tokenUrl": base.replace("/fhir", "/oauth/token"), "scope": "system/*.read system/*.write"},
        })
    };
    let check = |secret: &str, more: &[&str]| {
        std::fs::write(folder.path().join("config.json"), config(secret).to_string()).unwrap();
        let mut arguments = vec!["check", "--config-file", "config.json", "--ehr-allow-local", "127.0.0.0/8"];
        arguments.extend(more);
        said(&mut ponte(folder.path(), &arguments))
    };
    let good = check("toy-secret", &[]);
    assert_eq!(good.code, 0, "{}{}", good.out, good.err);
    assert!(good.out.contains("authenticated_search"), "{}", good.out);

    let bad = check("marker-secret", &["--lang", "pt-BR"]);
    assert_eq!(bad.code, 6, "{}{}", bad.out, bad.err);
    assert!(bad.out.contains("falhou") && !format!("{}{}", bad.out, bad.err).contains("marker-secret"), "{}", bad.out);

    let json = check("marker-secret", &["--json"]);
    let report: Value = serde_json::from_str(json.out.trim()).unwrap();
    assert_eq!((json.code, report["overall"].as_str()), (6, Some("failed")));
}

#[test]
fn a_check_refuses_a_local_address_that_nobody_allowed() {
    let folder = tempdir().unwrap();
    let body = json!({"baseUrl": "http://127.0.0.1:9/fhir", "authType": "basic", "authConfig": {"username": "u", "password": "p"}});
    std::fs::write(folder.path().join("config.json"), body.to_string()).unwrap();
    let refused = said(&mut ponte(folder.path(), &["check", "--config-file", "config.json"]));
    assert_eq!(refused.code, 6, "{}{}", refused.out, refused.err);
}
