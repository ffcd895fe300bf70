//! What the platform holds against what the EHR holds: read from the API on one side and from the sandbox's own state on the other.

use super::world::World;
use crate::exit::Failure;
use crate::talk;
use sandbox::Ledger;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// System of our identifier on observations.
const OURS: &str = "urn:ponte:observation";

/// One observation on both sides.
#[derive(Debug)]
pub struct Row {
    from: &'static str,
    ours: String,
    ehr_id: String,
    platform: Shown,
    ehr: Shown,
    wrong: Option<String>,
}

/// Both sides.
#[derive(Debug)]
pub struct Comparison {
    /// Observations.
    pub rows: Vec<Row>,
    /// Patients of the platform.
    pub patients: usize,
    /// Patients whose link does not hold: our id and why.
    pub wrong_patients: Vec<(String, String)>,
}

/// What one side says.
#[derive(Debug, Clone, Default, PartialEq)]
struct Shown {
    value: String,
    status: String,
}

/// Compares.
///
/// # Errors
/// When the API does not answer.
pub async fn compare(world: &World) -> Result<Comparison, Failure> {
    let ledger = world.sandbox.ledger();
    let mut rows = Vec::new();
    let mut seen = BTreeSet::new();
    for item in world.api.all("/observations?deleted=true").await? {
        let row = judge(world, &ledger, &item, &mut seen);
        rows.push(row);
    }
    for held in ledger.resources.iter().filter(|held| held.resource_type == "Observation" && !held.deleted && !seen.contains(&held.id)) {
        let ehr = at_ehr(world, &held.id).unwrap_or_default();
        let wrong = Some("the platform does not hold it".to_owned());
        rows.push(Row { from: "ehr", ours: "-".to_owned(), ehr_id: held.id.clone(), platform: Shown::default(), ehr, wrong });
    }
    rows.sort_by(|a, b| (a.from, &a.ours).cmp(&(b.from, &b.ours)));
    let patients = world.api.all("/patients").await?;
    let wrong_patients = patients.iter().filter_map(|patient| wrong_patient(world, &ledger, patient)).collect();
    Ok(Comparison { rows, patients: patients.len(), wrong_patients })
}

fn judge(world: &World, ledger: &Ledger, item: &Value, seen: &mut BTreeSet<String>) -> Row {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let from = if text("source") == "ehr" { "ehr" } else { "platform" };
    let (ours, ehr_id) = (text("id"), text("fhirResourceId"));
    let platform = Shown { value: value(item, item.get("valueQuantity")), status: text("status") };
    let ehr = at_ehr(world, &ehr_id);
    let carriers = ledger.by_identifier(OURS, &ours).len();
    let again = !ehr_id.is_empty() && !seen.insert(ehr_id.clone());
    let wrong = match &ehr {
        _ if again => Some("two rows of the platform name it".to_owned()),
        _ if from == "platform" && carriers > 1 => Some(format!("the EHR holds it {carriers} times")),
        // Withdrawn before a byte of it was sent: nobody holds it.
        None if from == "platform" && ehr_id.is_empty() && carriers == 0 && platform.status == "entered-in-error" => None,
        None => Some("the EHR does not hold it".to_owned()),
        Some(ehr) if ehr.value != platform.value => Some("other digits".to_owned()),
        Some(ehr) if ehr.status != platform.status => Some("another status".to_owned()),
        Some(_) if from == "platform" && item.get("syncedToEHR") != Some(&Value::Bool(true)) => {
            Some("the platform does not know that it is there".to_owned())
        }
        Some(_) => None,
    };
    Row { from, ours, ehr_id, platform, ehr: ehr.unwrap_or_default(), wrong }
}

/// What the sandbox's own state says of an observation, digit for digit.
fn at_ehr(world: &World, id: &str) -> Option<Shown> {
    let text = world.sandbox.resource("Observation", id)?;
    let resource: Value = serde_json::from_str(&text).ok()?;
    let status = resource.get("status").and_then(Value::as_str).unwrap_or("").to_owned();
    Some(Shown { value: value(&resource, resource.pointer("/valueQuantity/value")), status })
}

fn value(resource: &Value, number: Option<&Value>) -> String {
    match (number, resource.get("valueString").and_then(Value::as_str)) {
        (Some(Value::Number(digits)), _) => digits.to_string(),
        (_, Some(text)) => text.to_owned(),
        _ => "-".to_owned(),
    }
}

fn wrong_patient(world: &World, ledger: &Ledger, patient: &Value) -> Option<(String, String)> {
    let text = |name: &str| patient.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let (id, ehr_id, cpf) = (text("id"), text("ehrPatientId"), text("cpf"));
    let carriers = ledger.resources.iter().filter(|held| {
        held.resource_type == "Patient"
            && !held.deleted
            && held.sent_identifiers.iter().chain(&held.identifiers).any(|one| one.value == cpf)
    });
    let carriers: Vec<&str> = carriers.map(|held| held.id.as_str()).collect();
    let why = match world.sandbox.resource("Patient", &ehr_id) {
        None => Some("is linked to nobody at the EHR".to_owned()),
        Some(_) if carriers != [ehr_id.as_str()] => Some(format!("{} Patients of the EHR carry this person's CPF", carriers.len())),
        Some(_) => None,
    };
    why.map(|why| (id, why))
}

impl Comparison {
    /// Whether both sides say the same.
    pub fn agree(&self) -> bool {
        self.wrong() == 0 && !self.rows.is_empty()
    }

    /// How many differences there are.
    pub fn wrong(&self) -> usize {
        self.rows.iter().filter(|row| row.wrong.is_some()).count() + self.wrong_patients.len()
    }

    /// For people.
    pub fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
                vec![
                    row.from.to_owned(),
                    dash(&row.ours),
                    dash(&row.ehr_id),
                    dash(&row.platform.value),
                    dash(&row.ehr.value),
                    dash(&row.platform.status),
                    dash(&row.ehr.status),
                    row.wrong.clone().map_or("=".to_owned(), |why| format!("DIFFERS: {why}")),
                ]
            })
            .collect();
        let mut text = talk::table(&["from", "our id", "EHR id", "platform", "EHR", "status", "at the EHR", ""], &rows);
        for (id, why) in &self.wrong_patients {
            text.push_str(&format!("\nDIFFERS: patient {id} {why}"));
        }
        text
    }

    /// For scripts.
    pub fn as_json(&self) -> Value {
        let side = |shown: &Shown| json!({"value": shown.value, "status": shown.status});
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "from": row.from, "observationId": row.ours, "ehrId": row.ehr_id, "platform": side(&row.platform), "ehr": side(&row.ehr),
                    "agrees": row.wrong.is_none(), "why": row.wrong,
                })
            })
            .collect();
        let patients: Vec<Value> = self.wrong_patients.iter().map(|(id, why)| json!({"patientId": id, "why": why})).collect();
        json!({"agree": self.agree(), "observations": rows, "patients": self.patients, "patientsThatDiffer": patients})
    }
}
