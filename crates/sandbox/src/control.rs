//! The control endpoint under `/_sandbox`, for loopback callers only: faults, ledger, reset, and the hospital's own writes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use axum::Json as JsonBody;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use http::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Sandbox;
use crate::call::read_query;
use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::options::Settings;
use crate::plan::{FaultPlan, Script};

/// What may be sent to `/_sandbox/faults`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    on: BTreeSet<Fault>,
    off: BTreeSet<Fault>,
    rates: BTreeMap<Fault, f64>,
    scripts: Vec<Script>,
    settings: Map<String, Value>,
}

/// Everything below `/_sandbox`.
pub(crate) async fn control(sandbox: Sandbox, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    if peer.is_some_and(|ConnectInfo(peer)| !peer.ip().to_canonical().is_loopback()) {
        return problem(StatusCode::FORBIDDEN, "The control endpoint answers callers on this machine only.");
    }
    let Ok(bytes) = axum::body::to_bytes(body, 64 * 1024 * 1024).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "The body is too long.");
    };
    let path = parts.uri.path().trim_start_matches("/_sandbox/");
    match (&parts.method, path) {
        (&Method::GET, "faults") => show(&sandbox),
        (&Method::POST | &Method::PUT, "faults") => change(&sandbox, &bytes, parts.method == Method::PUT),
        (&Method::DELETE, "faults") => {
            sandbox.set_faults(FaultPlan::none());
            sandbox.lock().settings = sandbox.options().settings.clone();
            show(&sandbox)
        }
        (&Method::GET, "ledger") => ledger(&sandbox, parts.uri.query().unwrap_or_default()),
        (&Method::POST, "reset") => {
            sandbox.reset();
            StatusCode::NO_CONTENT.into_response()
        }
        (&Method::POST, "resources") => match std::str::from_utf8(&bytes)
            .map_err(|_| "The body is not UTF-8.".to_owned())
            .and_then(|text| sandbox.put_resource(text).map_err(|error| error.to_string()))
        {
            Ok((kind, id)) => (StatusCode::CREATED, JsonBody(json!({"resourceType": kind, "id": id}))).into_response(),
            Err(text) => problem(StatusCode::BAD_REQUEST, &text),
        },
        (&Method::DELETE, path) if path.starts_with("resources/") => {
            let mut rest = path.trim_start_matches("resources/").split('/');
            let (kind, id) = (rest.next().unwrap_or_default(), rest.next().unwrap_or_default());
            if sandbox.delete(kind, id) {
                StatusCode::NO_CONTENT.into_response()
            } else {
                problem(StatusCode::NOT_FOUND, "There is no such resource.")
            }
        }
        (_, "faults" | "ledger" | "reset" | "resources") => {
            problem(StatusCode::METHOD_NOT_ALLOWED, "This address does not take that method.")
        }
        _ => problem(StatusCode::NOT_FOUND, "The control endpoint has faults, ledger, reset and resources."),
    }
}

fn show(sandbox: &Sandbox) -> Response {
    let twin = sandbox.lock();
    let known: Vec<Value> = Fault::ALL.iter().map(|fault| json!({"name": fault.name(), "does": fault.describe()})).collect();
    JsonBody(json!({
        "profile": twin.profile.name(),
        "profileFaults": twin.quirks.always,
        "on": twin.plan.on,
        "off": twin.plan.off,
        "rates": twin.plan.rates,
        "scripts": twin.plan.scripts,
        "settings": twin.settings,
        "shown": twin.shown,
        "known": known,
    }))
    .into_response()
}

fn change(sandbox: &Sandbox, bytes: &[u8], replace: bool) -> Response {
    let change: Change = match serde_json::from_slice(bytes) {
        Ok(change) => change,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("The faults cannot be read: {error}.")),
    };
    if change.rates.values().any(|rate| !(0.0..=1.0).contains(rate)) {
        return problem(StatusCode::BAD_REQUEST, "A rate is a number from 0 to 1.");
    }
    let base = if replace { sandbox.options().settings.clone() } else { sandbox.lock().settings.clone() };
    let settings = match merged(&base, change.settings) {
        Ok(settings) => settings,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("The settings cannot be read: {error}.")),
    };
    let plan = FaultPlan { on: change.on, off: change.off, rates: change.rates, scripts: change.scripts };
    {
        let mut twin = sandbox.lock();
        twin.settings = settings;
        if replace {
            twin.plan = plan;
        } else {
            twin.plan.add(plan);
        }
    }
    show(sandbox)
}

fn merged(base: &Settings, change: Map<String, Value>) -> Result<Settings, serde_json::Error> {
    let mut value = serde_json::to_value(base)?;
    if let Value::Object(members) = &mut value {
        members.extend(change);
    }
    serde_json::from_value(value)
}

fn ledger(sandbox: &Sandbox, query: &str) -> Response {
    let query = read_query(query);
    let value = |name: &str| query.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let since = value("since").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut ledger = sandbox.ledger_since(since);
    if value("summary") == Some("true") {
        let mut living: BTreeMap<&str, u64> = BTreeMap::new();
        for held in ledger.resources.iter().filter(|held| !held.deleted) {
            *living.entry(&held.resource_type).or_default() += 1;
        }
        return JsonBody(json!({
            "seq": ledger.seq,
            "living": living,
            "doubled": ledger.doubled().len(),
            "faults": ledger.faults,
            "requests": ledger.requests,
            "tokensIssued": ledger.tokens_issued,
            "latePending": ledger.late_pending,
        }))
        .into_response();
    }
    if value("type").is_some() {
        let Ledger { effects, resources, .. } = &mut ledger;
        effects.retain(|effect| Some(effect.resource_type.as_str()) == value("type"));
        resources.retain(|held| Some(held.resource_type.as_str()) == value("type"));
    }
    JsonBody(ledger).into_response()
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, JsonBody(json!({"error": text}))).into_response()
}
