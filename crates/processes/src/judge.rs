//! What the EHR really holds, by its own ledger, against what the API took and what it says.

use crate::stage::Platform;
use sandbox::Ledger;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use testing::mark;

/// The identifier system of our observations.
pub const SYSTEM: &str = "urn:ponte:observation";

/// One accepted version of one observation, in the order of acceptance.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Whose.
    pub tenant: usize,
    /// Of which patient.
    pub patient: String,
    /// Which observation.
    pub id: String,
    /// Which version of it.
    pub version: i64,
}

impl Taken {
    /// As the API gave it.
    ///
    /// # Panics
    /// When it is no observation.
    #[must_use]
    pub fn of(tenant: usize, answer: &Value) -> Self {
        let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned();
        Self { tenant, patient: text("patientId"), id: text("id"), version: answer["version"].as_i64().unwrap() }
    }
}

/// One observation: there once, no older version over a newer one, the newest is the one of the API (`here`), which says so.
#[must_use]
pub fn judge_one(ledger: &Ledger, id: &str, here: &Value) -> Vec<String> {
    let held = ledger.by_identifier(SYSTEM, id);
    let marks: Vec<i64> = ledger.effects_by_identifier(SYSTEM, id).into_iter().filter_map(mark).collect();
    if here["status"] == "entered-in-error" && held.is_empty() && marks.is_empty() {
        // Withdrawn before a byte of it was sent.
        return Vec::new();
    }
    let mut wrong = Vec::new();
    if held.len() != 1 {
        wrong.push(format!("{id} is held {} times: {here}", held.len()));
    }
    if !marks.is_sorted() {
        wrong.push(format!("{id}: an older version over a newer one: {marks:?}"));
    }
    if marks.last().copied() != here["version"].as_i64() {
        wrong.push(format!("{id}: the EHR has versions {marks:?}: {here}"));
    }
    if here["syncedToEHR"] != true {
        wrong.push(format!("{id} is not said to be synced: {here}"));
    }
    wrong
}

/// What was accepted earlier of a patient reached the EHR earlier: who overtook whom, in a sentence. `replayed`: whom a person
/// sent again, out of the order.
#[must_use]
pub fn judge_order<'a>(ledger: &Ledger, taken: &'a [Taken], replayed: &BTreeSet<String>) -> Vec<(&'a Taken, &'a str, String)> {
    let mut last: BTreeMap<_, (u64, &'a str)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for one in taken.iter().filter(|one| !replayed.contains(&one.id)) {
        let effects = ledger.effects_by_identifier(SYSTEM, &one.id);
        let Some(first) = effects.into_iter().find(|effect| mark(effect) == Some(one.version)) else { continue };
        let before = last.insert((one.tenant, &one.patient), (first.seq, &one.id));
        if let Some((seq, id)) = before.filter(|(seq, _)| *seq > first.seq) {
            wrong.push((one, id, format!("{} version {} ({}) overtook {id} ({seq})", one.id, one.version, first.seq)));
        }
    }
    wrong
}

/// Everything that is wrong, a sentence each, by its name.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Observations that were accepted.
    pub observations: usize,
    /// Versions of them.
    pub versions: usize,
    /// Deliveries whose last state was compared with the ledger.
    pub deliveries: usize,
    /// What is wrong.
    pub wrong: BTreeMap<&'static str, Vec<String>>,
}

impl Verdict {
    /// Names of all that is looked for.
    pub const NAMES: [&'static str; 6] =
        ["lost or not said to be there", "doubled", "older over newer", "out of order", "misfiled", "another state"];

    /// Reads everything of these tenants. Nothing may have needed a person, or it stands under its own name.
    pub async fn of(tenants: &[Platform], ledger: &Ledger, taken: &[Taken]) -> Self {
        let ids: BTreeMap<&str, &Taken> = taken.iter().map(|one| (one.id.as_str(), one)).collect();
        let mut verdict = Self { observations: ids.len(), versions: taken.len(), ..Self::default() };
        let mut people = BTreeMap::new();
        for one in ids.values() {
            let tenant = &tenants[one.tenant];
            let here = tenant.get(&format!("/observations/{}", one.id)).await;
            for sentence in judge_one(ledger, &one.id, &here) {
                let name = match ledger.by_identifier(SYSTEM, &one.id).len() {
                    2.. => "doubled",
                    _ if sentence.contains("older version") => "older over newer",
                    _ => "lost or not said to be there",
                };
                verdict.say(name, sentence);
            }
            if !people.contains_key(&one.patient) {
                people.insert(one.patient.clone(), tenant.get(&format!("/patients/{}", one.patient)).await["ehrPatientId"].clone());
            }
            let owner = people[&one.patient].as_str().map(|id| format!("Patient/{id}"));
            for held in ledger.by_identifier(SYSTEM, &one.id).iter().filter(|held| held.subject != owner) {
                verdict.say("misfiled", format!("{} is under {:?}, and its patient is {owner:?}", one.id, held.subject));
            }
        }
        for (_, _, sentence) in judge_order(ledger, taken, &BTreeSet::new()) {
            verdict.say("out of order", sentence);
        }
        for (identifier, held) in ledger.doubled() {
            if identifier.system.as_deref() == Some("urn:ponte:patient") {
                verdict.say("doubled", format!("Patient {} is there {} times", identifier.value, held.len()));
            }
        }
        for tenant in tenants {
            verdict.deliveries_of(tenant, ledger).await;
        }
        verdict
    }

    /// Every delivery's last state against what the EHR committed.
    async fn deliveries_of(&mut self, tenant: &Platform, ledger: &Ledger) {
        let mut path = "/fhir/deliveries?limit=200".to_owned();
        loop {
            let page = tenant.get(&path).await;
            for delivery in page["items"].as_array().into_iter().flatten() {
                self.deliveries += 1;
                if let Some(sentence) = judge_delivery(ledger, delivery) {
                    self.say("another state", sentence);
                }
            }
            let Some(cursor) = page["nextCursor"].as_str() else { return };
            path = format!("/fhir/deliveries?limit=200&cursor={cursor}");
        }
    }

    /// Adds a sentence.
    pub fn say(&mut self, name: &'static str, sentence: String) {
        self.wrong.entry(name).or_default().push(sentence);
    }

    /// How much is wrong.
    #[must_use]
    pub fn findings(&self) -> usize {
        self.wrong.values().map(Vec::len).sum()
    }
}

/// What a delivery's last state says that the ledger does not; only of observations, whose effects carry our version.
#[must_use]
pub fn judge_delivery(ledger: &Ledger, delivery: &Value) -> Option<String> {
    let id = delivery["observationId"].as_str()?;
    let (version, state) = (delivery["version"].as_i64()?, delivery["state"].as_str()?);
    let effects = ledger.effects_by_identifier(SYSTEM, id);
    let there = effects.iter().any(|effect| mark(effect) == Some(version));
    let under = delivery["ehrId"].as_str().is_none_or(|place| effects.iter().all(|effect| effect.id == place));
    let agrees = match state {
        "delivered" => there && under,
        "superseded" | "canceled" => !there,
        _ => false,
    };
    (!agrees).then(|| format!("the EHR {} version {version} of {id}, and: {delivery}", if there { "has had" } else { "never had" }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A ledger in which version 1 and then version 2 of `o` were committed under `e`.
    fn ledger() -> Ledger {
        let identifier = json!([{"system": SYSTEM, "value": "o"}]);
        let effect = |seq: u64| {
            json!({"seq": seq, "at": "", "atMs": seq, "method": "PUT", "resourceType": "Observation", "id": "e", "versionId": "1",
                "identifiers": identifier, "source": format!("urn:ponte:version:{seq}"), "late": false, "by": "client", "condition": "none"})
        };
        let held = json!({"resourceType": "Observation", "id": "e", "versionId": "2", "versions": 2, "identifiers": identifier,
            "sentIdentifiers": [], "deleted": false});
        let text = json!({"seq": 2, "effects": [effect(1), effect(2)], "resources": [held]}).to_string();
        Ledger::from_json(&text).unwrap()
    }

    #[test]
    fn what_is_there_and_said_to_be_there_is_right() {
        let here = json!({"version": 2, "syncedToEHR": true});
        assert_eq!(judge_one(&ledger(), "o", &here), Vec::<String>::new());
        assert_eq!(judge_one(&ledger(), "o", &json!({"version": 3, "syncedToEHR": true})).len(), 1);
        assert_eq!(judge_one(&ledger(), "o", &json!({"version": 2, "syncedToEHR": false})).len(), 1);
        assert_eq!(judge_one(&ledger(), "lost", &here).len(), 2, "neither there nor in any effect");
    }

    #[test]
    fn an_older_version_over_a_newer_one_and_two_of_one_are_found() {
        let mut turned = ledger();
        turned.effects.reverse();
        assert!(judge_one(&turned, "o", &json!({"version": 1, "syncedToEHR": true}))[0].contains("older version"));
        let mut twice = ledger();
        twice.resources.push(twice.resources[0].clone());
        assert!(judge_one(&twice, "o", &json!({"version": 2, "syncedToEHR": true}))[0].contains("held 2 times"));
    }

    #[test]
    fn a_delivery_says_what_the_ledger_says() {
        let delivery =
            |version: i64, state: &str, place: Value| json!({"observationId": "o", "version": version, "state": state, "ehrId": place});
        assert_eq!(judge_delivery(&ledger(), &delivery(1, "delivered", json!("e"))), None);
        assert_eq!(judge_delivery(&ledger(), &delivery(3, "superseded", Value::Null)), None);
        for wrong in
            [(1, "delivered", json!("f")), (3, "delivered", json!("e")), (2, "superseded", json!("e")), (2, "uncertain", Value::Null)]
        {
            let (version, state, place) = wrong;
            assert!(judge_delivery(&ledger(), &delivery(version, state, place.clone())).is_some(), "{version} {state} {place}");
        }
    }
}
