//! Shows what happens: a live view beneath what was printed where stdout is a terminal, else a line per event.

mod view;

use super::watch::{Event, Row};
use super::world::World;
use crate::exit::Failure;
use crate::talk;
use crate::verbs::status::length;
use model::State;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use view::View;

const FRAME: Duration = Duration::from_millis(250);
/// Events that the view shows.
const SHOWN: usize = 10;

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Totals {
    pub created: u64,
    pub sent: u64,
    pub retried: u64,
    pub uncertain: u64,
    pub delivered: u64,
    pub dead: u64,
    pub pulled_created: u64,
    pub pulled_updated: u64,
    pub pulls: u64,
    /// Delivered in each of the last seconds, for the curve.
    pub per_second: VecDeque<u64>,
    /// The last events, newest last.
    pub last: VecDeque<String>,
    /// The longest way so far, ms.
    pub slowest_ms: i64,
}

/// Shows until it is dropped.
pub async fn run(world: &World, mut events: Receiver<Event>, json: bool, seen: bool) -> Result<(), Failure> {
    let mut totals = Totals::default();
    let mut view = if seen { View::open() } else { None };
    let mut frame = tokio::time::interval(FRAME);
    let mut frames = 0u32;
    loop {
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return Ok(()) };
                totals.count(&event);
                if json {
                    talk::data(as_json(&event).to_string());
                } else if view.is_none() {
                    talk::data(line(&event));
                }
            }
            _ = frame.tick(), if view.is_some() => {
                if frames.is_multiple_of(4) {
                    totals.next_second();
                }
                frames = frames.wrapping_add(1);
                if let Some(open) = view.as_mut()
                    && open.draw(&totals, &world.sandbox.ledger_since(u64::MAX)).is_err()
                {
                    // The terminal does not do it after all.
                    view = None;
                }
            }
        }
    }
}

impl Totals {
    fn count(&mut self, event: &Event) {
        match event {
            Event::Created(_) => self.created += 1,
            Event::Sent { again, .. } => {
                self.sent += 1;
                self.retried += u64::from(*again);
            }
            Event::Now(row) => match row.state {
                State::Delivered => {
                    self.delivered += 1;
                    self.slowest_ms = self.slowest_ms.max(row.took_ms.unwrap_or(0));
                    if let Some(second) = self.per_second.back_mut() {
                        *second += 1;
                    }
                }
                State::Uncertain => self.uncertain += 1,
                State::Dead => self.dead += 1,
                _ => {}
            },
            Event::Pulled { created, updated, .. } => {
                self.pulls += 1;
                self.pulled_created += created;
                self.pulled_updated += updated;
            }
        }
        self.last.push_back(line(event));
        while self.last.len() > SHOWN {
            self.last.pop_front();
        }
    }

    fn next_second(&mut self) {
        self.per_second.push_back(0);
        while self.per_second.len() > 120 {
            self.per_second.pop_front();
        }
    }
}

fn line(event: &Event) -> String {
    let what = |row: &Row| format!("{} …{} v{}", row.kind, row.id, row.version);
    match event {
        Event::Created(row) => format!("created    {}", what(row)),
        Event::Sent { row, outcome, again: false } => format!("sent       {} → {outcome}", what(row)),
        Event::Sent { row, outcome, again: true } => format!("sent again {} → {outcome}", what(row)),
        Event::Now(row) => {
            let at = row.ehr_id.as_ref().map_or(String::new(), |id| format!(" as {}/{id}", row.kind));
            let took = row.took_ms.map_or(String::new(), |ms| format!(" in {}", length(ms)));
            match row.state {
                State::Delivered => format!("delivered  {}{at}{took}", what(row)),
                State::Uncertain => format!("uncertain  {}: no answer came; the EHR is asked before anything is sent again", what(row)),
                State::RetryScheduled => format!("will retry {}", what(row)),
                State::Held(reason) => format!("held       {}: {reason}", what(row)),
                state => format!("{} {}", talk::pad(state.word(), 10), what(row)),
            }
        }
        Event::Pulled { created, updated, unchanged } => format!("pulled     {created} new, {updated} changed, {unchanged} known already"),
    }
}

fn as_json(event: &Event) -> Value {
    let row = |word: &str, row: &Row| json!({"event": word, "resourceType": row.kind, "id": row.id, "version": row.version, "state": row.state.word(), "ehrId": row.ehr_id, "tookMs": row.took_ms});
    match event {
        Event::Created(one) => row("created", one),
        Event::Sent { row: one, outcome, again } => {
            let mut shown = row(if *again { "retried" } else { "sent" }, one);
            shown["outcome"] = json!(outcome);
            shown
        }
        Event::Now(one) => row("state", one),
        Event::Pulled { created, updated, unchanged } => {
            json!({"event": "pulled", "created": created, "updated": updated, "unchanged": unchanged})
        }
    }
}
