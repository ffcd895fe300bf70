//! A Patient, there and back.

mod read;

pub use read::{EhrPatient, Name, Telecom};

use crate::identifier;
use crate::mapping::{name, phone};
use crate::national::{CNS, CPF, Systems};
use model::{EhrId, PatientDraft, PatientId};
use serde_json::{Map, Value, json};

/// HL7 v2-0203, the system of identifier types.
const IDENTIFIER_TYPE: &str = "http://terminology.hl7.org/CodeSystem/v2-0203";

/// What [`to_fhir`] needs besides the patient.
#[derive(Debug, Clone, Copy)]
pub struct ToFhir<'a> {
    /// Our id: the value of our own identifier.
    pub patient: PatientId,
    /// Our version: the mark.
    pub version: i64,
    /// The id in the URL of a `PUT`, the EHR's or the one that we choose; `None` for a `POST`.
    pub id: Option<&'a EhrId>,
}

/// The Patient that goes to the EHR. No profile is claimed: BR Core asks for race, which we do not know.
#[must_use]
pub fn to_fhir(draft: &PatientDraft, with: &ToFhir<'_>) -> Value {
    let mut out = Map::new();
    out.insert("resourceType".into(), json!("Patient"));
    if let Some(id) = with.id {
        out.insert("id".into(), json!(id.as_str()));
    }
    out.insert("meta".into(), json!({"source": identifier::source(with.version)}));
    let mut identifiers = Vec::new();
    if let Some(cpf) = &draft.cpf {
        identifiers.push(national(&CPF, "Tax ID number", cpf.digits()));
    }
    if let Some(cns) = &draft.cns {
        identifiers.push(national(&CNS, "Patient health card number", cns.digits()));
    }
    identifiers.push(identifier::ours(identifier::PATIENT_SYSTEM, &with.patient.to_string(), with.version));
    out.insert("identifier".into(), Value::Array(identifiers));
    out.insert("active".into(), json!(true));
    if !draft.name.trim().is_empty() {
        out.insert("name".into(), json!([human_name(draft.name.trim())]));
    }
    let telecom = telecom(draft);
    if !telecom.is_empty() {
        out.insert("telecom".into(), Value::Array(telecom));
    }
    if let Some(gender) = draft.gender {
        out.insert("gender".into(), json!(gender.code()));
    }
    if !draft.birth_date.is_empty() {
        out.insert("birthDate".into(), json!(draft.birth_date));
    }
    Value::Object(out)
}

fn national(systems: &Systems, display: &str, digits: &str) -> Value {
    json!({
        "use": "official",
        "type": {"coding": [{"system": IDENTIFIER_TYPE, "code": systems.type_code, "display": display}]},
        "system": systems.preferred,
        "value": digits,
    })
}

/// The whole name as text, always; the parts where it has some.
fn human_name(whole: &str) -> Value {
    let parts = name::split(whole);
    let mut out = Map::new();
    out.insert("text".into(), json!(whole));
    if let Some(family) = parts.family {
        out.insert("family".into(), json!(family));
    }
    if !parts.given.is_empty() {
        out.insert("given".into(), json!(parts.given));
    }
    if let Some(suffix) = parts.suffix {
        out.insert("suffix".into(), json!([suffix]));
    }
    Value::Object(out)
}

fn telecom(draft: &PatientDraft) -> Vec<Value> {
    let mut out = Vec::new();
    if let Some(given) = draft.phone.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        match phone::e164(given) {
            Some(number) if phone::is_mobile(&number) => out.push(json!({"system": "phone", "value": number, "use": "mobile"})),
            Some(number) => out.push(json!({"system": "phone", "value": number})),
            None => out.push(json!({"system": "phone", "value": given})),
        }
    }
    if let Some(email) = draft.email.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        out.push(json!({"system": "email", "value": email}));
    }
    out
}

#[cfg(test)]
mod tests;
