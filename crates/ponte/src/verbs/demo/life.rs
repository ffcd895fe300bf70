//! What goes on in the demo: the platform observes, corrects and withdraws; the hospital writes too; Ponte pulls.

use super::people::{corrected, hospital_observation, observation};
use super::watch::Event;
use super::world::World;
use crate::clock::OsRng;
use crate::exit::Failure;
use model::Rng;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

const PLATFORM: Duration = Duration::from_millis(900);
const HOSPITAL: Duration = Duration::from_secs(3);
const PULL: Duration = Duration::from_secs(7);
/// How many of the last observations may be corrected or withdrawn.
const RECENT: usize = 40;

/// Lives until it is dropped.
pub async fn run(world: &World, events: Sender<Event>) -> Result<(), Failure> {
    let hospital = async {
        let mut every = tokio::time::interval(HOSPITAL);
        loop {
            every.tick().await;
            hospital_writes(world)?;
        }
    };
    let pulls = async {
        let mut every = tokio::time::interval(PULL);
        loop {
            every.tick().await;
            pull(world, chosen(world.patients.len()), &events).await?;
        }
    };
    let platform = platform(world);
    let ended: (Result<(), Failure>, Result<(), Failure>, Result<(), Failure>) = tokio::join!(platform, hospital, pulls);
    ended.0.and(ended.1).and(ended.2)
}

async fn platform(world: &World) -> Result<(), Failure> {
    let mut every = tokio::time::interval(PLATFORM);
    let mut recent: VecDeque<(String, u64)> = VecDeque::new();
    loop {
        every.tick().await;
        let dice = OsRng.next_u64() % 100;
        let old = (recent.len() > 10).then(|| recent.remove(chosen(10))).flatten();
        match old {
            Some((id, _)) if dice < 4 => drop(world.api.delete(&format!("/observations/{id}")).await?.expect_status(&[204])?),
            Some((id, number)) if dice < 14 => {
                let change = json!({"valueQuantity": corrected(number)});
                world.api.patch(&format!("/observations/{id}"), &change).await?.expect_status(&[200, 409, 412])?;
            }
            _ => {
                let Some(patient) = world.patients.get(chosen(world.patients.len())) else { continue };
                let number = OsRng.next_u64() % 1_000;
                let body = observation(patient, number, &world.written_now());
                let made = world.api.post("/observations", &body, None).await?.expect_status(&[201])?;
                recent.extend(made.get("id").and_then(Value::as_str).map(|id| (id.to_owned(), number)));
            }
        }
        while recent.len() > RECENT {
            recent.pop_front();
        }
    }
}

fn hospital_writes(world: &World) -> Result<(), Failure> {
    let known: Vec<&str> = world.people.iter().filter(|person| person.at_hospital).map(|person| person.ehr_id.as_str()).collect();
    let Some(id) = known.get(chosen(known.len())) else { return Ok(()) };
    let resource = hospital_observation(id, OsRng.next_u64() % 1_000, &world.written_now());
    world.sandbox.put_resource(&resource.to_string()).map(drop).map_err(|why| Failure::failed(why.to_string()))
}

async fn pull(world: &World, which: usize, events: &Sender<Event>) -> Result<(), Failure> {
    let Some(patient) = world.patients.get(which) else { return Ok(()) };
    let answer = world.api.post(&format!("/fhir/patients/{patient}/pull"), &json!({}), Some(10)).await?;
    let count = |name: &str| answer.body.get(name).and_then(Value::as_u64).unwrap_or(0);
    if answer.status == 200 {
        let event = Event::Pulled {
            created: count("observationsCreated"),
            updated: count("observationsUpdated"),
            unchanged: count("observationsUnchanged"),
        };
        // Nobody may be looking any more.
        let _ = events.send(event).await;
    }
    Ok(())
}

/// A number below `count`.
fn chosen(count: usize) -> usize {
    usize::try_from(OsRng.next_u64() % (count.max(1) as u64)).unwrap_or(0)
}
