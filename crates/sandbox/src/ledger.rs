//! The ledger: what was really committed, in order, and what the server holds. It is the judge's evidence, independent of any client.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// What happened, as `GET /_sandbox/ledger` gives it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ledger {
    /// The number of the last effect, also of those left out by `since`.
    pub seq: u64,
    /// Every committed write, in the order of commitment.
    #[serde(serialize_with = "plain_effects", deserialize_with = "shared_effects")]
    pub effects: Vec<Arc<Effect>>,
    /// Everything that exists or was deleted.
    pub resources: Vec<Held>,
    /// How often each fault was really shown, by name.
    pub faults: BTreeMap<String, u64>,
    /// Requests by `METHOD TYPE STATUS`; the status of a request without answer is `severed` or `hang`.
    pub requests: BTreeMap<String, u64>,
    /// Access tokens given out.
    pub tokens_issued: u64,
    /// Requests whose line was cut and that are still to commit.
    pub late_pending: u64,
}

/// One committed write.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Effect {
    /// 1, 2, 3 … in the order of commitment.
    pub seq: u64,
    /// The moment, RFC 3339 in UTC.
    pub at: String,
    /// The moment, milliseconds since 1970.
    pub at_ms: i64,
    /// `POST` (created), `PUT` (created or updated by id) or `DELETE`.
    pub method: String,
    /// For instance `Observation`.
    pub resource_type: String,
    /// The logical id.
    pub id: String,
    /// The version that it made.
    pub version_id: String,
    /// The identifiers as they were sent, even if the server dropped them.
    pub identifiers: Vec<Identifier>,
    /// `subject.reference` (or `patient.reference`) as stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `meta.source` as stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The resource as stored, digit for digit; none for a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Box<RawValue>>,
    /// The request's `X-Request-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Committed after the line had been cut (`late_commit`).
    pub late: bool,
    /// Who wrote.
    pub by: Author,
    /// What became of its condition (`If-None-Exist`, or a conditional update's query).
    pub condition: Condition,
}

/// Who wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Author {
    /// A client, over FHIR.
    Client,
    /// The hospital's own people: [`crate::Sandbox::put_resource`], `POST /_sandbox/resources`, and rows touched between pages.
    Hospital,
}

/// What became of a write's condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Condition {
    /// It had none.
    None,
    /// Nothing matched, so it created.
    NoMatch,
    /// One matched and was updated.
    OneMatch,
    /// It was not looked at.
    Ignored,
    /// Nothing matched when it looked; by the time of the insert something did.
    Raced,
}

/// A business identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identifier {
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The value.
    pub value: String,
}

/// One resource as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// For instance `Observation`.
    pub resource_type: String,
    /// The logical id.
    pub id: String,
    /// The current version.
    pub version_id: String,
    /// How many versions there were.
    pub versions: u64,
    /// The identifiers as stored.
    pub identifiers: Vec<Identifier>,
    /// The identifiers as last sent, even if the server dropped or changed them.
    pub sent_identifiers: Vec<Identifier>,
    /// `subject.reference` (or `patient.reference`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Deleted.
    pub deleted: bool,
}

impl Ledger {
    /// Reads what `GET /_sandbox/ledger` gave.
    ///
    /// # Errors
    /// If the text is not a ledger.
    pub fn from_json(text: &str) -> Result<Ledger, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The living resources that carry this identifier, as stored or as sent.
    pub fn by_identifier(&self, system: &str, value: &str) -> Vec<&Held> {
        let wanted = |one: &Identifier| one.value == value && one.system.as_deref().unwrap_or("") == system;
        self.resources.iter().filter(|held| !held.deleted && held.all_identifiers().any(wanted)).collect()
    }

    /// The identifiers that more than one living resource of one type carries, with those resources.
    pub fn doubled(&self) -> Vec<(Identifier, Vec<&Held>)> {
        let mut carriers: BTreeMap<(&str, &Identifier), Vec<&Held>> = BTreeMap::new();
        for held in self.resources.iter().filter(|held| !held.deleted) {
            let mut own: Vec<&Identifier> = held.all_identifiers().collect();
            own.sort();
            own.dedup();
            for identifier in own {
                carriers.entry((&held.resource_type, identifier)).or_default().push(held);
            }
        }
        carriers.into_iter().filter(|(_, held)| held.len() > 1).map(|((_, identifier), held)| (identifier.clone(), held)).collect()
    }

    /// The writes of this Patient and of what has it as subject, in order.
    pub fn effects_for_patient(&self, patient_id: &str) -> Vec<&Effect> {
        let reference = format!("Patient/{patient_id}");
        self.effects
            .iter()
            .map(Arc::as_ref)
            .filter(|effect| {
                (effect.resource_type == "Patient" && effect.id == patient_id)
                    || effect.subject.as_deref().is_some_and(|subject| local(subject) == reference)
            })
            .collect()
    }

    /// The writes of the resource that carries this identifier, in order.
    pub fn effects_by_identifier(&self, system: &str, value: &str) -> Vec<&Effect> {
        self.effects
            .iter()
            .map(Arc::as_ref)
            .filter(|effect| effect.identifiers.iter().any(|one| one.value == value && one.system.as_deref().unwrap_or("") == system))
            .collect()
    }

    /// How often this fault was shown.
    pub fn shown(&self, fault: crate::Fault) -> u64 {
        self.faults.get(fault.name()).copied().unwrap_or(0)
    }
}

impl Held {
    fn all_identifiers(&self) -> impl Iterator<Item = &Identifier> {
        self.identifiers.iter().chain(&self.sent_identifiers)
    }
}

/// The last `Type/id` of a reference, whatever stands before and behind it.
pub(crate) fn local(reference: &str) -> String {
    let path = reference.split("/_history/").next().unwrap_or(reference);
    let mut last = path.rsplitn(3, '/');
    match (last.next(), last.next()) {
        (Some(id), Some(kind)) => format!("{kind}/{id}"),
        _ => path.to_owned(),
    }
}

fn plain_effects<S: Serializer>(effects: &[Arc<Effect>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(effects.iter().map(Arc::as_ref))
}

fn shared_effects<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<Effect>>, D::Error> {
    Ok(Vec::<Effect>::deserialize(deserializer)?.into_iter().map(Arc::new).collect())
}
