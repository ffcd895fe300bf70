//! After the storm: lets everything come to rest, as Ponte and, where it must be, a person would.

use crate::judge::SYSTEM;
use crate::stage::Platform;
use sandbox::Sandbox;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Lets everything come to rest: used-up rounds begin anew, dead letters are replayed as a person would (who was replayed
/// may have been overtaken). Not `whole`: some stay with a person.
///
/// # Errors
/// What is still open after `limit`.
///
/// # Panics
/// When the API answers what it never should.
pub async fn settle(tenants: &[Platform], sandbox: &Sandbox, whole: bool, limit: Duration) -> Result<BTreeSet<String>, String> {
    let mut replayed = BTreeSet::new();
    let started = Instant::now();
    loop {
        let mut open = Vec::new();
        for (n, tenant) in tenants.iter().enumerate() {
            let status = tenant.get("/fhir/status").await;
            let closed = if whole {
                let status = &status;
                ["pending", "in_flight", "retry_scheduled", "held", "uncertain", "dead"].iter().all(|word| count(status, word) == 0)
            } else {
                only_people_move(tenant).await
            };
            if !closed {
                open.push((n, status));
            }
        }
        if open.is_empty() {
            return Ok(replayed);
        }
        if started.elapsed() > limit {
            let (n, status) = &open[0];
            let first = first_open(&tenants[*n]).await;
            let there = sandbox
                .ledger()
                .effects_by_identifier(SYSTEM, first["observationId"].as_str().unwrap_or_default())
                .into_iter()
                .cloned()
                .collect::<Vec<_>>();
            let patient = tenants[*n].get(&format!("/patients/{}", first["patientId"].as_str().unwrap_or_default())).await;
            return Err(format!(
                "{} tenants have something open: {status} {first}\nIts patient: {patient}\nThe EHR has of it: {there:#?}",
                open.len()
            ));
        }
        for (n, _) in open {
            let tenant = &tenants[n];
            if whole {
                replayed.extend(replay(tenant).await);
            }
            tenant.sync_all().await;
        }
        // The engine's own pace; there is no event for "at rest".
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn count(status: &Value, word: &str) -> usize {
    let count = status["counts"][word].as_u64().unwrap_or_else(|| panic!("no {word}: {status}"));
    usize::try_from(count).unwrap()
}

/// Nothing moves any more unless a person moves it: what is held is theirs, or stands behind what is.
/// The counts are read after the lists: what was neither theirs nor behind them is still counted as under way, or is settled.
async fn only_people_move(tenant: &Platform) -> bool {
    let held = tenant.get("/fhir/deliveries?state=held&limit=200").await;
    let pending = tenant.get("/fhir/deliveries?state=pending&limit=200").await;
    let open: Vec<&Value> = [&held, &pending].into_iter().flat_map(|list| list["items"].as_array().unwrap()).collect();
    let (theirs, others): (Vec<&Value>, Vec<&Value>) = open.iter().partition(|one| one["whoseMove"] != "ponte" && !passes(one));
    let behind = |one: &&Value| {
        theirs.iter().any(|held| match held["observationId"].as_str() {
            Some(id) => one["observationId"] == id,
            None => one["patientId"] == held["patientId"],
        })
    };
    let status = tenant.get("/fhir/status").await;
    others.iter().all(behind)
        && ["in_flight", "retry_scheduled", "uncertain"].iter().all(|word| count(&status, word) == 0)
        && count(&status, "held") + count(&status, "pending") == open.len()
}

/// What holds a whole connection for a while: it is the hospital's move, and yet the next probe may end it.
fn passes(delivery: &Value) -> bool {
    matches!(delivery["reason"].as_str(), Some("circuit_open" | "credentials_refused"))
}

/// What waits for a person is sent again, as a person would once the EHR is well.
async fn replay(tenant: &Platform) -> Vec<String> {
    let mut replayed = Vec::new();
    for state in ["dead", "held"] {
        let list = tenant.get(&format!("/fhir/deliveries?state={state}&limit=200")).await;
        for delivery in list["items"].as_array().unwrap().iter().filter(|delivery| delivery["whoseMove"] == "you") {
            replayed.push(delivery["observationId"].as_str().unwrap_or_default().to_owned());
            let path = format!("/fhir/dead-letters/{}/replay", delivery["id"].as_str().unwrap());
            tenant.call(reqwest::Method::POST, &path, Some(&json!({})), None).await;
        }
    }
    replayed
}

/// The open delivery that stands in front, with all its attempts.
async fn first_open(tenant: &Platform) -> Value {
    for state in ["uncertain", "in_flight", "retry_scheduled", "pending", "held", "dead"] {
        let list = tenant.get(&format!("/fhir/deliveries?state={state}&limit=1")).await;
        if let Some(id) = list["items"][0]["id"].as_str() {
            return tenant.get(&format!("/fhir/deliveries/{id}")).await;
        }
    }
    Value::Null
}
