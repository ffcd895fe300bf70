//! The connection test against small EHRs that are good, open, closed or odd.

use super::*;
use crate::testing::{Counting, HandClock, basic, connection, oauth2, serve, transport};
use axum::Router;
use axum::extract::Request as Got;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::StatusCode;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// How a small EHR is odd.
#[derive(Clone, Copy, Default)]
struct Odd {
    open: bool,
    no_own_id: bool,
    ignores_condition: bool,
    ignores_if_match: bool,
    ignores_identifier: bool,
    html: bool,
}

/// A small EHR: Observations in memory, Basic or Bearer, identifier search, If-Match, If-None-Exist.
#[derive(Default)]
struct Store {
    rows: BTreeMap<String, (u32, Value)>,
    next: u32,
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn json(status: u16, body: &Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/fhir+json")], body.to_string()).into_response()
}

fn stored(id: &str, row: &(u32, Value)) -> Value {
    let mut body = row.1.clone();
    body["id"] = id.into();
    body["meta"]["versionId"] = row.0.to_string().into();
    body
}

fn answer(odd: Odd, store: &mut Store, method: &str, path: &str, query: &str, headers: &http::HeaderMap, body: &str) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if path == "/token" {
        return json(200, &serde_json::json!({"access_token": "t", "expires_in": 300, "scope": ""}));
    }
    if odd.html {
        return (StatusCode::OK, "<html>portal</html>").into_response();
    }
    if path == "/fhir/metadata" {
        let resource = |kind: &str| {
            serde_json::json!({"type": kind, "interaction": [{"code": "read"}, {"code": "search-type"}, {"code": "create"}, {"code": "update"}],
            "searchParam": [{"name": "identifier"}, {"name": "_lastUpdated"}]})
        };
        return json(
            200,
            &serde_json::json!({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "software": {"name": "small"},
            "rest": [{"mode": "server", "resource": [resource("Patient"), resource("Observation")]}]}),
        );
    }
    if !odd.open && header("authorization").is_none_or(|value| value != "Bearer t" && !value.starts_with("Basic ")) {
        return json(401, &serde_json::json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "login"}]}));
    }
    let wanted =
        |text: &str| text.split('&').find_map(|pair| pair.strip_prefix("identifier=").map(|v| v.replace("%7C", "|").replace("%3A", ":")));
    let matching = |store: &Store, token: &str| -> Vec<Value> {
        let carries = |row: &Value| {
            format!("{}|{}", row["identifier"][0]["system"].as_str().unwrap_or(""), row["identifier"][0]["value"].as_str().unwrap_or(""))
                == token
        };
        store.rows.iter().filter(|(_, row)| carries(&row.1)).map(|(id, row)| stored(id, row)).collect()
    };
    let parts: Vec<&str> = path.trim_start_matches("/fhir/").split('/').collect();
    match (method, parts.as_slice()) {
        ("GET", ["Patient", id]) => json(200, &serde_json::json!({"resourceType": "Patient", "id": id})),
        ("GET", ["Patient"]) => json(200, &serde_json::json!({"resourceType": "Bundle", "type": "searchset"})),
        ("GET", ["Observation"]) | ("POST", ["Observation", "_search"]) => {
            let asked = wanted(if method == "GET" { query } else { body });
            let rows: Vec<Value> = match asked {
                Some(token) if !odd.ignores_identifier => matching(store, &token),
                None if query.contains("2199") => Vec::new(),
                _ => store.rows.iter().map(|(id, row)| stored(id, row)).collect(),
            };
            let entries: Vec<Value> =
                rows.into_iter().map(|row| serde_json::json!({"resource": row, "search": {"mode": "match"}})).collect();
            json(200, &serde_json::json!({"resourceType": "Bundle", "type": "searchset", "entry": entries}))
        }
        ("GET", ["Observation", id]) => match store.rows.get(*id) {
            Some(row) => json(200, &stored(id, row)),
            None => json(404, &Value::Null),
        },
        ("PUT", ["Observation", id]) => {
            let known = store.rows.get(*id).map(|row| row.0);
            if known.is_none() && odd.no_own_id {
                return json(405, &Value::Null);
            }
            let matched = header("if-match").is_none_or(|tag| known.is_some_and(|version| tag == format!("W/\"{version}\"")));
            if !matched && !odd.ignores_if_match {
                return json(412, &Value::Null);
            }
            let row = (known.unwrap_or(0) + 1, serde_json::from_str(body).unwrap());
            store.rows.insert((*id).to_owned(), row.clone());
            json(if known.is_some() { 200 } else { 201 }, &stored(id, &row))
        }
        ("POST", ["Observation"]) => {
            let condition = header("if-none-exist").and_then(|query| wanted(&query)).filter(|_| !odd.ignores_condition);
            if let Some(found) = condition.and_then(|token| matching(store, &token).into_iter().next()) {
                return json(200, &found);
            }
            store.next += 1;
            let (id, row) = (format!("s{}", store.next), (1, serde_json::from_str(body).unwrap()));
            store.rows.insert(id.clone(), row.clone());
            json(201, &stored(&id, &row))
        }
        _ => json(404, &Value::Null),
    }
}

async fn run(odd: Odd, with_oauth: bool, write_probe: bool) -> (Report, Arc<Mutex<Store>>) {
    run_over(odd, with_oauth, write_probe, |_| {}).await
}

async fn run_over(odd: Odd, with_oauth: bool, write_probe: bool, fill: fn(&mut Store)) -> (Report, Arc<Mutex<Store>>) {
    let store = Arc::new(Mutex::new(Store::default()));
    fill(&mut store.lock().unwrap());
    let kept = Arc::clone(&store);
    let address = serve(Router::new().fallback(any(move |request: Got| {
        let kept = Arc::clone(&kept);
        async move {
            let (head, body) = request.into_parts();
            let body = String::from_utf8(axum::body::to_bytes(body, 100_000).await.unwrap().to_vec()).unwrap();
            let mut store = kept.lock().unwrap();
            answer(odd, &mut store, head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or(""), &head.headers, &body)
        }
    })))
    .await;
    let auth = if with_oauth { oauth2(&format!("http://{address}/token")) } else { basic() };
    let input = CheckInput {
        test_patient_id: Some(EhrId::new("marker-patient").unwrap()),
        write_probe,
        ..CheckInput::reading(connection(&format!("http://{address}/fhir"), auth), MeansPlan::default())
    };
    let mut streamed = Vec::new();
    let report = check(transport(|_| {}), HandClock::at(now()), &Counting::default(), input, &mut |step| streamed.push(step.step)).await;
    assert_eq!(streamed, report.steps.iter().map(|step| step.step).collect::<Vec<_>>(), "each step is handed out once, in order");
    let all = [report.to_json().to_string(), report.to_markdown(Language::PtBr), report.to_markdown(Language::En), format!("{report:?}")];
    assert!(all.iter().all(|text| !text.contains("marker")), "no patient, no secret");
    (report, store)
}

fn verdict(report: &Report, name: StepName) -> Verdict {
    report.steps.iter().find(|step| step.step == name).unwrap().verdict
}

#[tokio::test]
async fn a_good_ehr_passes_every_step_and_its_means_are_proven() {
    let (report, store) = run(Odd::default(), true, true).await;
    assert_eq!(report.steps.len(), 9);
    for step in &report.steps {
        let want = match step.step {
            // Plain http on loopback, and a scope that was not granted.
            StepName::Url | StepName::Token => Verdict::Warn,
            _ => Verdict::Ok,
        };
        assert_eq!(step.verdict, want, "{step:?}");
        assert!(!step.sentence.pt_br.is_empty() && !step.sentence.en.is_empty());
    }
    assert_eq!(report.overall, Verdict::Warn);
    let plan = &report.plan;
    for proof in [plan.observation_update_create, plan.conditional_create, plan.identifier_search, plan.if_match, plan.post_search] {
        assert_eq!(proof, model::Proof::Proven, "{plan:?}");
    }
    let store = store.lock().unwrap();
    assert!(store.rows.values().all(|(_, row)| row["status"] == "entered-in-error"), "nothing is left as a finding");
    let probe = report.steps.iter().find(|step| step.step == StepName::WriteProbe).unwrap();
    assert_eq!(probe.details["leftBehind"].as_array().unwrap().len(), store.rows.len(), "all that stays is named");
    assert_eq!(report.guarantee.grade, model::Grade::OwnId, "this EHR ignores If-None-Match");
    for (language, word) in [(Language::PtBr, "Não garantido:"), (Language::En, "Not guaranteed:")] {
        assert!(report.to_markdown(language).contains(word));
    }
}

#[tokio::test]
async fn nothing_is_written_unasked() {
    let (report, store) = run(Odd::default(), false, false).await;
    assert_eq!((verdict(&report, StepName::WriteProbe), verdict(&report, StepName::Token)), (Verdict::Skipped, Verdict::Skipped));
    assert!(store.lock().unwrap().rows.is_empty());
}

#[tokio::test]
async fn an_open_api_is_never_green() {
    let (report, _) = run(Odd { open: true, ..Odd::default() }, false, false).await;
    let step = report.steps.iter().find(|step| step.step == StepName::AuthenticatedSearch).unwrap();
    assert_eq!(step.verdict, Verdict::Warn);
    assert!(step.sentence.pt_br.contains("API aberta"));
}

#[tokio::test]
async fn an_ehr_without_safe_creates_is_said_to_be_one() {
    let odd = Odd { no_own_id: true, ignores_condition: true, ignores_if_match: true, ..Odd::default() };
    let (report, store) = run(odd, false, true).await;
    assert_eq!(verdict(&report, StepName::WriteProbe), Verdict::Warn);
    let plan = &report.plan;
    assert_eq!(
        (plan.observation_update_create, plan.conditional_create, plan.if_match),
        (model::Proof::Refused, model::Proof::Refused, model::Proof::Refused)
    );
    assert!(store.lock().unwrap().rows.values().all(|(_, row)| row["status"] == "entered-in-error"), "both copies are withdrawn");
}

#[tokio::test]
async fn a_search_that_ignores_identifier_is_found_out() {
    let odd = Odd { ignores_identifier: true, ..Odd::default() };
    let (report, _) = run_over(odd, false, false, |store| {
        store.rows.insert("old".into(), (1, serde_json::json!({"resourceType": "Observation"})));
    })
    .await;
    assert_eq!(report.plan.identifier_search, model::Proof::Refused);
    assert_eq!(verdict(&report, StepName::ObservationSearchPaging), Verdict::Warn);
}

#[tokio::test]
async fn a_page_instead_of_fhir_fails_and_skips_only_what_depends_on_it() {
    let (report, _) = run(Odd { html: true, ..Odd::default() }, false, true).await;
    assert_eq!(report.overall, Verdict::Failed);
    assert_eq!(verdict(&report, StepName::CapabilityStatement), Verdict::Failed);
    assert_eq!(verdict(&report, StepName::AuthenticatedSearch), Verdict::Failed);
    for name in [StepName::ObservationSearchPaging, StepName::WriteProbe, StepName::Latency] {
        assert_eq!(verdict(&report, name), Verdict::Skipped);
    }
}

#[tokio::test]
async fn a_refused_or_dead_address_skips_all_the_rest() {
    for (url, broken) in [("https://169.254.169.254/fhir", StepName::Url), ("http://127.0.0.1:1/fhir", StepName::TcpTls)] {
        let input = CheckInput::reading(connection(url, basic()), MeansPlan::default());
        let report = check(transport(|_| {}), HandClock::at(now()), &Counting::default(), input, &mut |_| {}).await;
        assert_eq!((report.overall, verdict(&report, broken)), (Verdict::Failed, Verdict::Failed));
        assert_eq!(report.steps.len(), 9);
        assert_eq!(verdict(&report, StepName::Latency), Verdict::Skipped);
    }
}

#[tokio::test]
async fn open_metadata_with_refused_credentials_is_not_green() {
    let address = serve(Router::new().fallback(any(|request: Got| async move {
        if request.uri().path().ends_with("/metadata") {
            json(200, &serde_json::json!({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}))
        } else {
            json(403, &Value::Null)
        }
    })))
    .await;
    let input = CheckInput::reading(connection(&format!("http://{address}/fhir"), basic()), MeansPlan::default());
    let report = check(transport(|_| {}), HandClock::at(now()), &Counting::default(), input, &mut |_| {}).await;
    let step = report.steps.iter().find(|step| step.step == StepName::AuthenticatedSearch).unwrap();
    assert_eq!((report.overall, step.verdict, step.whose_move), (Verdict::Failed, Verdict::Failed, Some(WhoseMove::Hospital)));
}
