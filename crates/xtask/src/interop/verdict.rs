//! What the server holds in the end, read back by its own API, against what was taken and what the hospital wrote.

use super::hospital::{Hospital, mark, our_value};
use super::platform::Platform;
use super::scenario::{Done, Taken};
use serde_json::Value;
use std::collections::BTreeMap;

/// The judgement. Each list holds a sentence per finding.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Accepted observations.
    pub pushed: usize,
    /// There exactly once, under the right patient, newest version, right content.
    pub once: usize,
    /// Withdrawn before they were ever sent, and not there.
    pub never_sent: usize,
    /// Not there.
    pub lost: Vec<String>,
    /// There more than once; observations and Patients.
    pub doubled: Vec<String>,
    /// Under another patient.
    pub misfiled: Vec<String>,
    /// An older version is there, or was written over a newer one.
    pub older: Vec<String>,
    /// Other content than was taken.
    pub other: Vec<String>,
    /// Not said to be synced, or waiting for a person.
    pub waiting: Vec<String>,
    /// Rows of the hospital's own.
    pub own: usize,
    /// Those that are not here, or not as they are there.
    pub not_pulled: Vec<String>,
    /// What the hospital wrote on a row of ours is gone.
    pub written_over: Vec<String>,
    /// Values whose digits the server changed (`62.50` to `62.5`): its own doing, and no fault.
    pub digits_lost: usize,
    /// Rows whose version history could be read.
    pub histories: usize,
}

impl Verdict {
    /// Reads everything back.
    ///
    /// # Errors
    /// When either side cannot be asked.
    pub fn of(done: &Done, platform: &Platform, hospital: &Hospital) -> Result<Self, String> {
        let mut verdict = Self { pushed: done.taken.len(), own: done.own.len(), ..Self::default() };
        let mut there: BTreeMap<String, Vec<(usize, Value)>> = BTreeMap::new();
        let mut own = BTreeMap::new();
        for (at, person) in done.people.iter().enumerate() {
            for row in hospital.list(&person.theirs)? {
                match our_value(&row) {
                    Some(value) => there.entry(value.to_owned()).or_default().push((at, row)),
                    None => drop(own.insert(row["id"].as_str().unwrap_or_default().to_owned(), row)),
                }
            }
            let made = hospital.patients_of_ours(&person.ours)?.len();
            if made > 1 {
                verdict.doubled.push(format!("patient {} is there {made} times", person.ours));
            }
        }
        for row in &done.taken {
            verdict.one(row, done, platform, hospital, &there)?;
        }
        for value in there.keys().filter(|value| !done.taken.iter().any(|row| &row.id == *value)) {
            verdict.other.push(format!("{value} was never taken"));
        }
        verdict.pulled(done, platform)?;
        Ok(verdict)
    }

    fn one(
        &mut self,
        row: &Taken,
        done: &Done,
        platform: &Platform,
        hospital: &Hospital,
        there: &BTreeMap<String, Vec<(usize, Value)>>,
    ) -> Result<(), String> {
        let (id, before) = (&row.id, self.findings());
        let here = platform.api.get(&format!("/observations/{id}"))?;
        let copies = there.get(id).map_or(&[][..], Vec::as_slice);
        let found = hospital.under_our_identifier(id)?;
        let Some((person, held)) = copies.first() else {
            if found.is_empty() && row.withdrawn && here["fhirResourceId"].is_null() {
                self.never_sent += 1;
            } else if found.is_empty() {
                self.lost.push(format!("{id}: {here}"));
            } else {
                self.misfiled.push(format!("{id} is under {}", found[0]["subject"]));
            }
            return Ok(());
        };
        if copies.len().max(found.len()) > 1 {
            self.doubled.push(format!("{id} is there {} times ({} by its identifier)", copies.len(), found.len()));
        }
        if found.is_empty() {
            self.other.push(format!("{id} is listed but not found by its identifier"));
        }
        if *person != row.person {
            self.misfiled.push(format!("{id} is under {}", held["subject"]));
        }
        let marks = hospital.marks(held["id"].as_str().unwrap_or_default())?;
        self.histories += usize::from(!marks.is_empty());
        if !marks.is_sorted() {
            self.older.push(format!("{id}: versions {marks:?}"));
        }
        if done.annotated.as_ref() == Some(id) {
            if held["note"][0]["text"].is_null() {
                self.written_over.push(format!("{id}: {here}"));
            }
        } else {
            if mark(held) != here["version"].as_i64() {
                self.older.push(format!("{id}: version {:?} is there, of {}", mark(held), here["version"]));
            }
            if here["syncedToEHR"] != true {
                self.waiting.push(format!("{id}: {}", here["delivery"]));
            }
            self.content(row, held);
        }
        self.once += usize::from(self.findings() == before);
        Ok(())
    }

    fn content(&mut self, row: &Taken, held: &Value) {
        let id = &row.id;
        if row.withdrawn != (held["status"] == "entered-in-error") {
            self.other.push(format!("{id} is {}", held["status"]));
        }
        let value = &held["valueQuantity"]["value"];
        let (Some(sent), false) = (&row.value, row.withdrawn) else { return };
        let digits = value.to_string();
        if digits == *sent {
            return;
        }
        match (digits.parse::<f64>(), sent.parse::<f64>()) {
            (Ok(a), Ok(b)) if (a - b).abs() < 1e-9 => self.digits_lost += 1,
            _ => self.other.push(format!("{id}: {digits} is there, {sent} was sent")),
        }
    }

    fn pulled(&mut self, done: &Done, platform: &Platform) -> Result<(), String> {
        for (at, person) in done.people.iter().enumerate() {
            let here = platform.observations(&person.ours)?;
            for row in done.own.iter().filter(|row| row.person == at) {
                let copies: Vec<&Value> =
                    here.iter().filter(|one| one["source"] == "ehr" && one["fhirResourceId"] == row.id.as_str()).collect();
                let value = copies.first().and_then(|one| one["valueQuantity"].to_string().parse::<f64>().ok());
                if copies.len() != 1 || value != Some(row.value as f64) {
                    self.not_pulled.push(format!("{} (value {}): {} here, {value:?}", row.id, row.value, copies.len()));
                }
            }
            let of_hospital = here.iter().filter(|one| one["source"] == "ehr").count();
            let wanted = done.own.iter().filter(|row| row.person == at).count();
            if of_hospital > wanted {
                self.not_pulled.push(format!("{} rows of the hospital's are here, and it has {wanted}", of_hospital));
            }
        }
        Ok(())
    }

    /// How much is wrong.
    pub fn findings(&self) -> usize {
        self.lists().iter().map(|(_, list)| list.len()).sum()
    }

    /// Everything that may be wrong, with its name.
    pub fn lists(&self) -> [(&'static str, &Vec<String>); 8] {
        [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("misfiled", &self.misfiled),
            ("older over newer", &self.older),
            ("other content", &self.other),
            ("not said to be synced", &self.waiting),
            ("not pulled", &self.not_pulled),
            ("hospital's note written over", &self.written_over),
        ]
    }
}
