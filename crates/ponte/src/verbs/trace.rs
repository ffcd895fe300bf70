//! `ponte trace`: what happened to one delivery or observation, try by try, straight from the database.

use super::status::length;
use crate::clock::SystemClock;
use crate::exit::{Exit, Failure};
use crate::settings::DatabaseFlags;
use crate::{open, talk};
use clap::Args;
use model::{Attempt, Clock, Delivery, DeliveryId, ObservationId, ResourceKey, State, TenantId, Timestamp};
use serde_json::{Value, json};
use store::{DeliveryFilter, PageRequest, Tenant};
use uuid::Uuid;

/// Most deliveries of one observation that are shown.
const MOST: u32 = 50;

/// What happened to one delivery or observation.
#[derive(Debug, Args)]
pub struct Trace {
    /// Id of a delivery or of an observation
    id: Uuid,
    /// Look in this tenant only
    #[arg(long, value_parser = super::tenant)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    database: DatabaseFlags,
}

impl Trace {
    /// Finds it and tells its story, oldest delivery first.
    pub(super) async fn run(self, json: bool) -> Result<Exit, Failure> {
        let settings = super::settings(self.database.given()?)?;
        let store = open::database(&settings).await?;
        let now = SystemClock::new().now();
        for id in open::tenants(&store, self.tenant.as_ref()).await? {
            let found = find(&store.tenant(&id), now, self.id).await?;
            for delivery in &found {
                talk::data(if json { as_json(&id, delivery).to_string() } else { story(&id, delivery, now) });
            }
            if !found.is_empty() {
                return Ok(Exit::Ok);
            }
        }
        Err(Failure::not_found(format!("There is no delivery or observation {} here.", self.id)))
    }
}

async fn find(tenant: &Tenant, now: Timestamp, id: Uuid) -> Result<Vec<Delivery>, Failure> {
    if let Some(delivery) = tenant.delivery(now, DeliveryId(id)).await? {
        return Ok(vec![delivery]);
    }
    let filter = DeliveryFilter { observation_id: Some(ObservationId(id)), ..DeliveryFilter::default() };
    let page = tenant.deliveries(now, &filter, &PageRequest { limit: MOST, before: None }).await?;
    let mut found = Vec::new();
    for brief in page.items.iter().rev() {
        found.extend(tenant.delivery(now, brief.id).await?);
    }
    Ok(found)
}

fn story(tenant: &TenantId, delivery: &Delivery, now: Timestamp) -> String {
    let reason = match delivery.state {
        State::Held(reason) => format!(" ({reason})"),
        _ => String::new(),
    };
    let mut lines = vec![format!(
        "{} {} version {} · tenant {tenant} · delivery {} · {}{reason}",
        delivery.resource.resource_type(),
        delivery.resource.uuid(),
        delivery.version,
        delivery.id,
        delivery.state
    )];
    lines.push(format!("{}  accepted by the platform's API", delivery.created_at));
    let mut before = delivery.created_at;
    for (number, attempt) in delivery.attempts.iter().enumerate() {
        let waited = attempt.at.ms_since(before);
        if waited >= 1_000 {
            lines.push(format!("{:24}  waited {}", "", length(waited)));
        }
        lines.push(try_line(number + 1, attempt));
        if let Some(message) = &attempt.message {
            lines.push(format!("{:24}  {message}", ""));
        }
        if let Some(until) = attempt.settle_until.filter(|until| *until > now) {
            lines.push(format!("{:24}  stays open until {until}: it may still be carried out there", ""));
        }
        if let Some(late) = &attempt.late {
            lines.push(format!("{}  a late answer to try {}: {}", late.at, number + 1, late.status));
        }
        before = attempt.at.plus_ms(attempt.duration_ms.unwrap_or(0));
    }
    if let Some(at) = delivery.delivered_at {
        let (id, version) = (delivery.ehr_id.as_ref().map_or("?", |id| id.as_str()), delivery.ehr_version.as_deref().unwrap_or("?"));
        let took = length(at.ms_since(delivery.created_at));
        lines.push(format!(
            "{at}  the EHR holds it as {}/{id}, version {version}, {took} after it was accepted",
            delivery.resource.resource_type()
        ));
    } else if !delivery.state.is_final() {
        let next = delivery.next_attempt_at.map_or("no step of ours has a time".to_owned(), |at| format!("next step at {at}"));
        lines.push(format!("{:24}  {next}; the move is: {}", "now", delivery.whose_move()));
    }
    if let Some(message) = &delivery.message {
        lines.push(format!("{:24}  {message}", ""));
    }
    lines.join("\n")
}

fn try_line(number: usize, attempt: &Attempt) -> String {
    let status = attempt.status.map_or("no answer".to_owned(), |status| status.to_string());
    let class = attempt.class.map_or("nobody knows yet", |class| class.word());
    let means = attempt.means.map_or(String::new(), |means| format!(" by {}", means.word()));
    let took = attempt.duration_ms.map_or(String::new(), |ms| format!("  {}", length(ms)));
    format!("{}  try {number}: {}{means} → {status} {class}{took}", attempt.at, attempt.request)
}

fn as_json(tenant: &TenantId, delivery: &Delivery) -> Value {
    let at = |at: Option<Timestamp>| at.map(Timestamp::rfc3339);
    let (observation, patient) = match delivery.resource {
        ResourceKey::Observation(id) => (Some(id.to_string()), None),
        ResourceKey::Patient(id) => (None, Some(id.to_string())),
    };
    let reason = match delivery.state {
        State::Held(reason) => Some(reason.word()),
        _ => None,
    };
    let attempts: Vec<Value> = delivery
        .attempts
        .iter()
        .map(|attempt| {
            json!({
                "at": attempt.at.rfc3339(),
                "durationMs": attempt.duration_ms,
                "request": attempt.request,
                "means": attempt.means.map(|means| means.word()),
                "status": attempt.status,
                "class": attempt.class.map(|class| class.word()),
                "settleUntil": at(attempt.settle_until),
                "message": attempt.message,
                "late": attempt.late.as_ref().map(|late| json!({"at": late.at.rfc3339(), "status": late.status})),
            })
        })
        .collect();
    json!({
        "tenantId": tenant.as_str(),
        "id": delivery.id.to_string(),
        "observationId": observation,
        "patientId": patient,
        "version": delivery.version,
        "state": delivery.state.word(),
        "reason": reason,
        "message": delivery.message,
        "whoseMove": delivery.whose_move().word(),
        "nextAttemptAt": at(delivery.next_attempt_at),
        "ehrId": delivery.ehr_id.as_ref().map(|id| id.as_str()),
        "ehrVersion": delivery.ehr_version,
        "createdAt": delivery.created_at.rfc3339(),
        "deliveredAt": at(delivery.delivered_at),
        "attempts": attempts,
    })
}
