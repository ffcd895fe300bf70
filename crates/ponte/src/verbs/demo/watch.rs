//! Watches the ledger and says what changed: created, sent, retried, uncertain, delivered, dead.

use super::world::World;
use crate::exit::Failure;
use model::{Attempt, Class, Delivery, DeliveryId, State};
use std::collections::BTreeMap;
use std::time::Duration;
use store::{DeliveryFilter, PageRequest};
use tokio::sync::mpsc::Sender;

const LOOK: Duration = Duration::from_millis(300);
/// Rows looked at for something new.
const NEWEST: u32 = 100;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A change was accepted, and its intended effect with it.
    Created(Row),
    /// A try was made; `again`: not the first.
    Sent {
        /// Of what.
        row: Row,
        /// How it ended, as far as one knows.
        outcome: String,
        /// Not the first.
        again: bool,
    },
    /// It stands otherwise than before.
    Now(Row),
    /// A pull was complete.
    Pulled {
        /// New here.
        created: u64,
        /// Changed at the EHR.
        updated: u64,
        /// Known, or our own.
        unchanged: u64,
    },
}

/// A delivery in a few words, without anybody's data.
#[derive(Debug, Clone)]
pub struct Row {
    /// `Observation` or `Patient`.
    pub kind: &'static str,
    /// The first characters of its id.
    pub id: String,
    /// Which version.
    pub version: i64,
    /// Where it stands.
    pub state: State,
    /// The EHR's id, once known.
    pub ehr_id: Option<String>,
    /// From accepted to held by the EHR, ms.
    pub took_ms: Option<i64>,
}

/// Watches until it is dropped.
pub async fn run(world: &World, events: Sender<Event>) -> Result<(), Failure> {
    let mut known: BTreeMap<DeliveryId, (State, usize)> = BTreeMap::new();
    let mut every = tokio::time::interval(LOOK);
    loop {
        every.tick().await;
        let now = world.clock.now();
        let page = world.tenant.deliveries(now, &DeliveryFilter::default(), &PageRequest { limit: NEWEST, before: None }).await?;
        let mut look: Vec<DeliveryId> =
            page.items.iter().filter(|row| known.get(&row.id).is_none_or(|(state, _)| *state != row.state)).map(|row| row.id).collect();
        look.extend(known.iter().filter(|(_, (state, _))| !state.is_final()).map(|(id, _)| *id));
        look.sort();
        look.dedup();
        for id in look {
            if let Some(delivery) = world.tenant.delivery(now, id).await? {
                for event in changes(known.get(&id).copied(), &delivery) {
                    // Nobody may be looking any more.
                    let _ = events.send(event).await;
                }
                known.insert(id, (delivery.state, ended_writes(&delivery).count()));
            }
        }
        // What is final stays final; only the newest can come back from the list.
        let oldest = page.items.last().map(|row| row.id);
        known.retain(|id, (state, _)| !state.is_final() || oldest.is_none_or(|oldest| *id >= oldest));
    }
}

fn changes(before: Option<(State, usize)>, delivery: &Delivery) -> Vec<Event> {
    let row = row(delivery);
    let mut events = Vec::new();
    let (state, seen) = before.unwrap_or((State::Pending, 0));
    if before.is_none() {
        events.push(Event::Created(Row { state: State::Pending, ..row.clone() }));
    }
    for (number, (class, attempt)) in ended_writes(delivery).enumerate().skip(seen) {
        let status = attempt.status.map_or(String::new(), |status| format!("{status} "));
        events.push(Event::Sent { row: row.clone(), outcome: format!("{status}{class}"), again: number > 0 });
    }
    if delivery.state != state && !matches!(delivery.state, State::Pending | State::InFlight) {
        events.push(Event::Now(row));
    }
    events
}

/// Tries that wrote and whose outcome is known, if only as uncertain.
fn ended_writes(delivery: &Delivery) -> impl Iterator<Item = (Class, &Attempt)> {
    delivery.attempts.iter().filter(|attempt| attempt.means.is_some()).filter_map(|attempt| Some((attempt.class?, attempt)))
}

fn row(delivery: &Delivery) -> Row {
    let id = delivery.resource.uuid().to_string();
    Row {
        kind: delivery.resource.resource_type(),
        // The end of a UUIDv7 tells rows apart; its beginning is the time.
        id: id.get(24..).unwrap_or(&id).to_owned(),
        version: delivery.version,
        state: delivery.state,
        ehr_id: delivery.ehr_id.as_ref().map(|id| id.as_str().to_owned()),
        took_ms: delivery.delivered_at.map(|at| at.ms_since(delivery.created_at)),
    }
}
