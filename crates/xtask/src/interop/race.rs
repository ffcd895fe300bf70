//! What the server itself does when two ask at once, measured without Ponte: whether `If-None-Exist` is a lock, and whether
//! a `PUT` of a new id makes one resource.

use super::hospital::Hospital;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Rounds of each race.
pub const ROUNDS: usize = 6;
/// Who asks at once.
const AT_ONCE: usize = 12;

/// How many rounds left more than one resource, and the most copies of one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Race {
    /// Rounds that doubled.
    pub doubled: usize,
    /// Most copies.
    pub worst: usize,
    /// How often each status was answered; 0 where no answer came.
    pub statuses: BTreeMap<u16, usize>,
}

/// Conditional creates of one identifier.
///
/// # Errors
/// When the server cannot be asked afterwards.
pub fn conditional(hospital: &Hospital, patient: &str) -> Result<Race, String> {
    run(hospital, |round| {
        let value = format!("race-{}-{round}", std::process::id());
        let body = observation(patient, &value, None);
        let condition = format!("identifier={}|{value}", super::hospital::OURS);
        let sent: Vec<u16> =
            at_once(|| hospital.api().with("If-None-Exist", &condition).send("POST", "/Observation", Some(&body)).map_or(0, |a| a.status));
        (value, sent)
    })
}

/// `PUT`s of one id that nobody has.
///
/// # Errors
/// When the server cannot be asked afterwards.
pub fn own_id(hospital: &Hospital, patient: &str) -> Result<Race, String> {
    run(hospital, |round| {
        let id = format!("0198c2aa-0000-7000-8000-{:08x}{round:04x}", std::process::id());
        let body = observation(patient, &id, Some(&id));
        let path = format!("/Observation/{id}");
        let sent: Vec<u16> = at_once(|| hospital.api().send("PUT", &path, Some(&body)).map_or(0, |a| a.status));
        (id, sent)
    })
}

fn run(hospital: &Hospital, round: impl Fn(usize) -> (String, Vec<u16>)) -> Result<Race, String> {
    let mut race = Race::default();
    for n in 0..ROUNDS {
        let (value, sent) = round(n);
        let copies = hospital.under_our_identifier(&value)?.len();
        race.doubled += usize::from(copies > 1);
        race.worst = race.worst.max(copies);
        for status in sent {
            *race.statuses.entry(status).or_default() += 1;
        }
    }
    Ok(race)
}

fn at_once(ask: impl Fn() -> u16 + Sync) -> Vec<u16> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(&ask)).collect();
        asking.into_iter().map(|one| one.join().unwrap_or(0)).collect()
    })
}

fn observation(patient: &str, value: &str, id: Option<&str>) -> Value {
    let mut body = json!({"resourceType": "Observation", "status": "final", "code": {"text": "race"}, "subject": {"reference": format!("Patient/{patient}")},
        "identifier": [{"system": super::hospital::OURS, "value": value}], "valueString": "race"});
    if let Some(id) = id {
        body["id"] = id.into();
    }
    body
}
