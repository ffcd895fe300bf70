//! One day at one server: patients it knows and patients it does not, observations, corrections and withdrawals over a
//! line that breaks, a server that is gone for a while, the hospital's own work meanwhile, and pulls.

use super::hospital::Hospital;
use super::platform::{Platform, items};
use line::{Proxy, Weather};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Patients that the hospital knew before.
const KNOWN: usize = 2;
/// Patients in all.
const PATIENTS: usize = 5;
/// Rows of the hospital's own for each patient it knew: more than a page.
const OWN_ROWS: usize = 25;
/// Nothing may stay open for longer than this after the last write.
const TO_REST: Duration = Duration::from_secs(180);
/// A pull over a line that breaks.
const TO_PULL: Duration = Duration::from_secs(120);

/// A patient on both sides.
#[derive(Debug, Clone)]
pub struct Person {
    /// Our id.
    pub ours: String,
    /// The server's; empty until it is known.
    pub theirs: String,
}

/// An observation that the API took, as it was accepted last.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Our id.
    pub id: String,
    /// Whose: index of the person.
    pub person: usize,
    /// The value as it must arrive, digits and all; none for a text.
    pub value: Option<String>,
    /// Withdrawn.
    pub withdrawn: bool,
}

/// A row of the hospital's own.
#[derive(Debug, Clone)]
pub struct OwnRow {
    /// The server's id.
    pub id: String,
    /// Whose: index of the person.
    pub person: usize,
    /// Its last value.
    pub value: usize,
}

/// What was done, to be judged.
#[derive(Debug, Default)]
pub struct Done {
    /// Everybody.
    pub people: Vec<Person>,
    /// Everything the API took.
    pub taken: Vec<Taken>,
    /// Everything the hospital wrote itself.
    pub own: Vec<OwnRow>,
    /// What the connection test reported.
    pub check: Value,
    /// A Patient that is nobody.
    pub test_patient: String,
    /// The state of affairs at rest.
    pub status: Value,
    /// A row of ours that a person of the hospital annotated before we corrected it once more.
    pub annotated: Option<String>,
    /// Until the last accepted write was at rest.
    pub pushing: Duration,
    /// All pulls at the end, over a calm line.
    pub pulling: Duration,
}

/// Plays it.
pub struct Scenario<'a> {
    /// The platform's side.
    pub platform: &'a Platform,
    /// The hospital's side.
    pub hospital: &'a Hospital,
    /// The line between.
    pub line: &'a Proxy,
    /// Its chance.
    pub dice: StdRng,
    done: Done,
    keys: usize,
}

impl<'a> Scenario<'a> {
    /// Of this seed.
    pub fn new(platform: &'a Platform, hospital: &'a Hospital, line: &'a Proxy, seed: u64) -> Self {
        Self { platform, hospital, line, dice: StdRng::seed_from_u64(seed ^ 0x1a7e), done: Done::default(), keys: 0 }
    }

    /// From the first patient to the last pull.
    ///
    /// # Errors
    /// When either side does not do its part.
    pub fn play(mut self, fhir_path: &str, seed: u64) -> Result<Done, String> {
        self.done.test_patient = self.hospital.register("Paciente de Teste Interop", "1900-01-01", None)?;
        for n in 0..KNOWN {
            let theirs = self.hospital.register(&name(n), "1960-02-03", Some(&cpf(seed, n)))?;
            self.done.people.push(Person { ours: String::new(), theirs: theirs.clone() });
            for k in 0..OWN_ROWS {
                let id = self.hospital.observe(&theirs, 60 + k)?;
                self.done.own.push(OwnRow { id, person: n, value: 60 + k });
            }
        }
        self.platform.connect(&format!("http://127.0.0.1:{}{fhir_path}", self.line.port()))?;
        self.done.check = self.platform.check(&self.done.test_patient)?;

        let begun = Instant::now();
        self.line.set(Weather::Stormy);
        for n in 0..PATIENTS {
            let body = json!({"name": name(n), "birthDate": "1960-02-03", "cpf": cpf(seed, n)});
            let answer = self.platform.api.must("POST", "/patients", Some(&body))?;
            let ours = text(&answer, "id")?;
            match self.done.people.get_mut(n) {
                Some(person) => person.ours = ours,
                None => self.done.people.push(Person { ours, theirs: String::new() }),
            }
        }
        self.observe_in_batch(12)?;
        for _ in 0..8 {
            self.observe_alone()?;
        }
        self.correct(4)?;
        self.line.set(Weather::Down);
        self.observe_alone()?;
        self.correct(2)?;
        self.observe_in_batch(8)?;
        self.withdraw(2)?;
        // How long it is gone: longer than the first waits, so that the circuit opens.
        std::thread::sleep(Duration::from_secs(3));
        self.line.set(Weather::Stormy);
        self.hospital_goes_on()?;
        for _ in 0..11 {
            self.observe_alone()?;
        }
        self.correct(4)?;
        self.withdraw(2)?;
        let people = self.done.people.clone();
        for person in &people {
            // Whatever becomes of it on this line; what counts is the pull at the end.
            self.platform.api.with("Prefer", "wait=2").send("POST", &format!("/fhir/patients/{}/pull", person.ours), Some(&json!({})))?;
        }
        self.platform.rest(TO_REST)?;
        self.correct(4)?;
        self.done.status = self.platform.rest(TO_REST)?;
        self.done.pushing = begun.elapsed();

        self.line.set(Weather::Calm);
        let begun = Instant::now();
        for person in &mut self.done.people {
            self.platform.pull(&person.ours, TO_PULL)?;
            person.theirs = text(&self.platform.api.get(&format!("/patients/{}", person.ours))?, "ehrPatientId")?;
        }
        self.done.pulling = begun.elapsed();
        self.hospital_goes_on()?;
        for person in &self.done.people {
            self.platform.pull(&person.ours, TO_PULL)?;
        }
        self.correct_what_was_annotated()?;
        Ok(self.done)
    }

    /// What the hospital wrote on a row of ours must not be written over.
    fn correct_what_was_annotated(&mut self) -> Result<(), String> {
        let Some(row) = self.done.taken.iter().find(|row| !row.withdrawn && row.value.is_some()) else { return Ok(()) };
        let here = self.platform.api.get(&format!("/observations/{}", row.id))?;
        self.hospital.annotate(&text(&here, "fhirResourceId")?)?;
        self.platform.api.must("PATCH", &format!("/observations/{}", row.id), Some(&json!({"valueQuantity": 9.75})))?;
        self.done.annotated = Some(row.id.clone());
        self.platform.rest(TO_REST).map(drop)
    }

    /// The hospital measures and corrects while Ponte writes.
    fn hospital_goes_on(&mut self) -> Result<(), String> {
        for person in 0..KNOWN {
            let theirs = self.done.people[person].theirs.clone();
            for k in 0..3 {
                let id = self.hospital.observe(&theirs, 100 + k)?;
                self.done.own.push(OwnRow { id, person, value: 100 + k });
            }
            let Some(row) = self.done.own.iter_mut().find(|row| row.person == person && row.value < 100) else { continue };
            row.value += 100;
            self.hospital.correct(&theirs, &row.id, row.value)?;
        }
        Ok(())
    }

    fn observation(&mut self) -> (usize, Value, Option<String>) {
        let person = self.dice.random_range(0..PATIENTS);
        let patient = &self.done.people[person].ours;
        let (score, grams) = (self.dice.random_range(0..=10), self.dice.random_range(10..99));
        let (body, value) = match self.dice.random_range(0..3) {
            0 => {
                (json!({"code": "72514-3", "display": "Pain severity", "valueQuantity": score, "unit": "{score}"}), Some(score.to_string()))
            }
            1 => {
                // A last digit of nought: many servers lose it.
                let weight = format!("6{}.{grams}0", score % 10);
                let number: Value = serde_json::from_str(&weight).unwrap_or(Value::Null);
                (json!({"code": "29463-7", "display": "Body weight", "valueQuantity": number, "unit": "kg"}), Some(weight))
            }
            _ => (json!({"code": "75325-1", "display": "Symptom", "valueString": "Náusea leve após a refeição; “melhor” à noite"}), None),
        };
        let mut body = body;
        body["patientId"] = patient.as_str().into();
        body["effectiveDateTime"] = "2026-11-25T08:30:00-03:00".into();
        (person, body, value)
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("interop-{}", self.keys)
    }

    fn observe_alone(&mut self) -> Result<(), String> {
        let (person, body, value) = self.observation();
        let key = self.key();
        let answer = self.platform.api.with("Idempotency-Key", &key).must("POST", "/observations", Some(&body))?;
        self.done.taken.push(Taken { id: text(&answer, "id")?, person, value, withdrawn: false });
        Ok(())
    }

    fn observe_in_batch(&mut self, many: usize) -> Result<(), String> {
        let all: Vec<_> = (0..many).map(|_| self.observation()).collect();
        let bodies: Vec<&Value> = all.iter().map(|(_, body, _)| body).collect();
        let key = self.key();
        let api = self.platform.api.with("Idempotency-Key", &key);
        let answer = api.must("POST", "/observations/batch", Some(&json!({"observations": bodies})))?;
        for (item, (person, _, value)) in items(&answer).iter().zip(all) {
            self.done.taken.push(Taken { id: text(&item["observation"], "id")?, person, value, withdrawn: false });
        }
        Ok(())
    }

    /// Some row that still stands.
    fn some_row(&mut self) -> usize {
        loop {
            let at = self.dice.random_range(0..self.done.taken.len());
            if !self.done.taken[at].withdrawn {
                return at;
            }
        }
    }

    fn correct(&mut self, many: usize) -> Result<(), String> {
        for n in 0..many {
            let at = self.some_row();
            let row = &mut self.done.taken[at];
            let body = match &mut row.value {
                Some(value) => {
                    let new = format!("{n}.5");
                    let number: Value = serde_json::from_str(&new).unwrap_or(Value::Null);
                    *value = new;
                    json!({"valueQuantity": number})
                }
                None => json!({"valueString": format!("Náusea moderada ({n})")}),
            };
            self.platform.api.must("PATCH", &format!("/observations/{}", row.id), Some(&body))?;
        }
        Ok(())
    }

    fn withdraw(&mut self, many: usize) -> Result<(), String> {
        for _ in 0..many {
            let at = self.some_row();
            let row = &mut self.done.taken[at];
            self.platform.api.must("DELETE", &format!("/observations/{}", row.id), None)?;
            row.withdrawn = true;
        }
        Ok(())
    }
}

fn text(json: &Value, name: &str) -> Result<String, String> {
    json[name].as_str().map(ToOwned::to_owned).ok_or_else(|| format!("No {name} in {json}"))
}

fn name(n: usize) -> String {
    format!("Paciente Sintético {}", ["Um", "Dois", "Três", "Quatro", "Cinco"][n % 5])
}

/// A CPF that is nobody's plan: nine digits and their two check digits.
fn cpf(seed: u64, n: usize) -> String {
    let nine = 100_000_000 + (seed % 1_000_000) * 800 + n as u64 * 7;
    let mut digits: Vec<u64> = nine.to_string().bytes().map(|b| u64::from(b - b'0')).collect();
    for _ in 0..2 {
        let weighed: u64 = digits.iter().rev().zip(2..).map(|(digit, weight)| digit * weight).sum();
        digits.push(match weighed % 11 {
            0 | 1 => 0,
            rest => 11 - rest,
        });
    }
    digits.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::cpf;

    #[test]
    fn a_cpf_has_its_check_digits() {
        // 100.000.000 weighed 10..2 is 10, so 1; with it 11 + 2 = 13, so 9.
        assert_eq!(cpf(0, 0), "10000000019");
    }
}
