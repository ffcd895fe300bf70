//! One bounded round: push, correct, withdraw, pull, and then an honest comparison.

use super::compare::{Comparison, compare};
use super::people::{corrected, hospital_observation, observation};
use super::world::World;
use crate::exit::{Exit, Failure};
use crate::talk;
use crate::verbs::status::length;
use model::State;
use sandbox::FaultPlan;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use store::{DeliveryFilter, PageRequest};

/// The hospital's faults end after this; what is open then settles without new ones.
const FAULTS_END: Duration = Duration::from_secs(20);
/// The round ends after this, whatever is open; no step before the last may take all of it.
const ROUND: Duration = Duration::from_secs(55);
const PUSHED_BY: Duration = Duration::from_secs(35);
/// Observations of each patient, by the platform and by the hospital.
const EACH: u64 = 3;
const LOOK: Duration = Duration::from_millis(200);

/// Runs the round; 0 only if both sides agree.
pub async fn run(world: &World, json: bool) -> Result<Exit, Failure> {
    let round = Round { world, started: Instant::now() };
    talk::say("One round: a dozen synthetic patients, observations both ways, an EHR with faults. It takes less than a minute.");
    let theirs = round.hospital_writes()?;
    let ids = round.platform_writes().await?;
    round.settle(PUSHED_BY).await?;
    round.change(&ids).await?;
    round.settle(PUSHED_BY).await?;
    round.pull_everybody().await?;
    round.hospital_corrects(&theirs)?;
    round.pull_everybody().await?;
    world.sandbox.set_faults(FaultPlan::none());
    round.late_commits().await;
    round.settle(ROUND).await?;
    let comparison = compare(world).await?;
    report(world, &comparison, round.started.elapsed(), json);
    if !comparison.agree() {
        round.say_what_is_open().await?;
    }
    Ok(if comparison.agree() { Exit::Ok } else { Exit::Failed })
}

struct Round<'a> {
    world: &'a World,
    started: Instant,
}

impl Round<'_> {
    fn over(&self) -> bool {
        self.started.elapsed() > ROUND
    }

    fn hospital_writes(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut written = Vec::new();
        for (person, number) in self.world.people.iter().zip(1u64..).filter(|(person, _)| person.at_hospital) {
            for nth in 0..EACH {
                written.push((person.ehr_id.clone(), self.hospital_writes_one(&person.ehr_id, None, number * 7 + nth)?));
            }
        }
        Ok(written)
    }

    fn hospital_writes_one(&self, patient: &str, id: Option<&str>, number: u64) -> Result<String, Failure> {
        let mut resource = hospital_observation(patient, number, &self.world.written_now());
        if let Some(id) = id {
            resource["id"] = json!(id);
        }
        let written = self.world.sandbox.put_resource(&resource.to_string());
        written.map(|(_, id)| id).map_err(|why| Failure::failed(why.to_string()))
    }

    /// The hospital's people think again about two of their rows.
    fn hospital_corrects(&self, written: &[(String, String)]) -> Result<(), Failure> {
        for ((patient, id), number) in written.iter().zip(100u64..).take(2) {
            self.hospital_writes_one(patient, Some(id), number)?;
        }
        Ok(())
    }

    async fn platform_writes(&self) -> Result<Vec<(String, u64)>, Failure> {
        let mut ids = Vec::new();
        for nth in 0..EACH {
            for (patient, number) in self.world.patients.iter().zip(1u64..) {
                let number = number * 11 + nth;
                let body = observation(patient, number, &self.world.written_now());
                let made = self.world.api.post("/observations", &body, None).await?.expect_status(&[201])?;
                ids.extend(made.get("id").and_then(Value::as_str).map(|id| (id.to_owned(), number)));
            }
        }
        Ok(ids)
    }

    /// The platform corrects some and withdraws one.
    async fn change(&self, ids: &[(String, u64)]) -> Result<(), Failure> {
        for (id, number) in ids.iter().take(4) {
            let change = json!({"valueQuantity": corrected(*number)});
            self.world.api.patch(&format!("/observations/{id}"), &change).await?.expect_status(&[200])?;
        }
        if let Some((id, _)) = ids.last() {
            self.world.api.delete(&format!("/observations/{id}")).await?.expect_status(&[204])?;
        }
        Ok(())
    }

    /// Until nothing waits any more, or this time of the round has come.
    async fn settle(&self, by: Duration) -> Result<(), Failure> {
        loop {
            if self.started.elapsed() > FAULTS_END {
                self.world.sandbox.set_faults(FaultPlan::none());
            }
            let status = self.world.tenant.status(self.world.clock.now()).await?;
            let open: i64 = status
                .counts
                .iter()
                .filter(|(word, _)| ["pending", "in_flight", "retry_scheduled", "uncertain"].contains(word))
                .map(|(_, count)| count)
                .sum();
            let waits = status.counts.iter().any(|(word, count)| *word == "held" && *count > 0);
            if (open == 0 && !waits) || self.started.elapsed() > by {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Every patient, until the pull of each is complete or the round is over.
    async fn pull_everybody(&self) -> Result<(), Failure> {
        for patient in &self.world.patients {
            while !self.over() {
                let answer = self.world.api.post(&format!("/fhir/patients/{patient}/pull"), &json!({}), Some(15)).await?;
                if answer.status == 200 {
                    break;
                }
                if self.started.elapsed() > FAULTS_END {
                    self.world.sandbox.set_faults(FaultPlan::none());
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// For whoever wants to know why the two sides do not agree.
    async fn say_what_is_open(&self) -> Result<(), Failure> {
        let now = self.world.clock.now();
        let status = self.world.tenant.status(now).await?;
        if let Some(held) = status.held {
            talk::say(format!("Everything waits: {held}. {}", status.last_error.unwrap_or_default()));
        }
        let page = PageRequest { limit: 200, before: None };
        for delivery in self.world.tenant.deliveries(now, &DeliveryFilter::default(), &page).await?.items {
            if !delivery.state.is_final() {
                let (what, version) = (delivery.resource.resource_type(), delivery.version);
                let reason = if let State::Held(reason) = delivery.state { format!(" ({reason})") } else { String::new() };
                let next = delivery.next_attempt_at.map_or(String::new(), |at| format!(", next step in {}", length(at.ms_since(now))));
                talk::say(format!("open: {what} {} version {version}: {}{reason}{next}", delivery.resource.uuid(), delivery.state));
            }
        }
        for patient in &self.world.patients {
            let id = patient.parse().map_err(|_| Failure::failed("Ponte's own API gave a patient an id that is none."))?;
            if let Some(pull) = self.world.tenant.pull_state(id).await?.filter(|pull| pull.outcome.as_deref() != Some("complete")) {
                talk::say(format!("pull of {patient}: {} {}", pull.outcome.unwrap_or_default(), pull.message.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// What the hospital still has to commit of requests whose line it cut.
    async fn late_commits(&self) {
        while self.world.sandbox.late_pending() > 0 && !self.over() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn report(world: &World, comparison: &Comparison, took: Duration, json: bool) {
    let ledger = world.sandbox.ledger_since(u64::MAX);
    let faults: u64 = ledger.faults.values().sum();
    if json {
        let mut shown = comparison.as_json();
        shown["faults"] = json!(ledger.faults);
        shown["tookMs"] = json!(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        talk::data(shown.to_string());
        return;
    }
    talk::data(comparison.table());
    talk::data(format!(
        "\n{} observations, {} patients; the EHR showed {faults} faults ({}); {} s.",
        comparison.rows.len(),
        comparison.patients,
        ledger.faults.iter().map(|(name, many)| format!("{name} {many}")).collect::<Vec<_>>().join(", "),
        took.as_secs()
    ));
    let wrong = comparison.wrong();
    talk::data(if wrong == 0 {
        "The platform and the EHR agree.".to_owned()
    } else {
        format!("The platform and the EHR do NOT agree: {wrong} differences, marked above.")
    });
}
