//! `ponte status`: is anything waiting, lost or stuck? From kept counters, straight from the database.

use crate::clock::SystemClock;
use crate::exit::{Exit, Failure};
use crate::settings::DatabaseFlags;
use crate::{open, talk};
use clap::Args;
use model::{Clock, TenantId, Timestamp};
use serde_json::{Map, Value, json};
use store::Status;

/// Is anything waiting, lost or stuck?
#[derive(Debug, Args)]
pub struct StatusVerb {
    /// Only this tenant
    #[arg(long, value_parser = super::tenant)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    database: DatabaseFlags,
}

impl StatusVerb {
    /// Prints a line per tenant.
    pub(super) async fn run(self, json: bool) -> Result<Exit, Failure> {
        let settings = super::settings(self.database.given()?)?;
        let store = open::database(&settings).await?;
        let now = SystemClock::new().now();
        let may_send = store.may_send().await?;
        let mut rows = Vec::new();
        for id in open::tenants(&store, self.tenant.as_ref()).await? {
            let status = store.tenant(&id).status(now).await?;
            if json {
                talk::data(as_json(&id, &status, now, may_send).to_string());
            } else {
                rows.push(as_row(&id, &status, now));
            }
        }
        if !json {
            if !may_send {
                talk::say(
                    "This database was found in another place than the one it remembers, or is a copy: nothing is sent. See `ponte adopt --help`.",
                );
            }
            if rows.is_empty() {
                talk::say("No tenant has written anything yet.");
            } else {
                talk::data(talk::table(
                    &["tenant", "waiting", "oldest", "held", "uncertain", "dead", "delivered", "last push", "last pull", "now"],
                    &rows,
                ));
            }
        }
        Ok(Exit::Ok)
    }
}

fn count(status: &Status, words: &[&str]) -> i64 {
    status.counts.iter().filter(|(word, _)| words.contains(word)).map(|(_, count)| count).sum()
}

fn as_row(id: &TenantId, status: &Status, now: Timestamp) -> Vec<String> {
    let ago = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| length(now.ms_since(at)));
    vec![
        id.to_string(),
        count(status, &["pending", "in_flight", "retry_scheduled"]).to_string(),
        ago(status.oldest_waiting),
        count(status, &["held"]).to_string(),
        count(status, &["uncertain"]).to_string(),
        count(status, &["dead"]).to_string(),
        count(status, &["delivered"]).to_string(),
        ago(status.last_push_at),
        ago(status.last_pull_at),
        sentence(status, now),
    ]
}

/// What one would say of it, whose move it is first.
fn sentence(status: &Status, now: Timestamp) -> String {
    let since = |at: Option<Timestamp>| at.map_or(String::new(), |at| format!(" for {}", length(now.ms_since(at))));
    if status.circuit_open {
        let probe = status.next_probe_at.map_or(String::new(), |at| format!(", asked again in {}", length(at.ms_since(now).max(0))));
        return format!("the EHR is down{}{probe}; nothing is lost", since(status.down_since));
    }
    if let Some(held) = status.held {
        return format!("everything waits: {held} ({})", held.whose_move());
    }
    let mut parts = Vec::new();
    if status.patients_held > 0 {
        parts.push(format!("{} patients need a person", status.patients_held));
    }
    if count(status, &["dead"]) > 0 {
        parts.push("dead letters: see `ponte trace`, `ponte replay`".to_owned());
    }
    if status.plan.as_ref().is_some_and(|plan| model::grade::guarantee(plan, now).out_of_date.is_some()) {
        parts.push("the proof of safe creates is out of date: see `ponte check --write-probe`".to_owned());
    }
    if parts.is_empty() { "in order".to_owned() } else { parts.join("; ") }
}

fn as_json(id: &TenantId, status: &Status, now: Timestamp, may_send: bool) -> Value {
    let at = |at: Option<Timestamp>| at.map(Timestamp::rfc3339);
    let counts: Map<String, Value> = status.counts.iter().map(|(word, count)| ((*word).to_owned(), json!(count))).collect();
    json!({
        "tenantId": id.as_str(),
        "counts": counts,
        "oldestWaiting": at(status.oldest_waiting),
        "lastPushAt": at(status.last_push_at),
        "lastPullAt": at(status.last_pull_at),
        "lastError": status.last_error,
        "held": status.held.map(|held| held.word()),
        "circuitOpen": status.circuit_open,
        "downSince": at(status.down_since),
        "nextProbeAt": at(status.next_probe_at),
        "patientsHeld": status.patients_held,
        "guarantee": status.plan.as_ref().map(|plan| model::grade::guarantee(plan, now)),
        "maySend": may_send,
    })
}

/// `850 ms`, `12 s`, `5 min`, `3 h`, `2 d`.
pub(super) fn length(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}
