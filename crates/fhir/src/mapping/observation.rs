//! An Observation, there and back.

mod read;

pub use read::{Effective, EhrObservation, ValueKind};

use crate::identifier;
use crate::mapping::{category, codes, unit};
use model::{EhrId, ObservationDraft, ObservationId, Timestamp, Value as OwnValue};
use serde_json::{Map, Value, json};

/// What [`to_fhir`] needs besides the observation itself.
#[derive(Debug, Clone, Copy)]
pub struct ToFhir<'a> {
    /// Our id: the identifier's value.
    pub observation: ObservationId,
    /// Our version: the mark.
    pub version: i64,
    /// System of our identifier.
    pub identifier_system: &'a str,
    /// The EHR's own id of the patient: the only thing that may stand as subject.
    pub patient: &'a EhrId,
    /// The tenant's category for scores (`Connection.score_category`).
    pub score_category: &'a str,
    /// The id in the URL of a `PUT`, the EHR's or the one that we choose; `None` for a `POST`.
    pub id: Option<&'a EhrId>,
    /// When this version was accepted.
    pub issued: Timestamp,
}

/// The Observation that goes to the EHR. The value keeps its digits and the time its offset; units and codes stay as
/// they are, and what cannot be said for certain is not said.
#[must_use]
pub fn to_fhir(draft: &ObservationDraft, with: &ToFhir<'_>) -> Value {
    let subject = json!({"reference": format!("Patient/{}", with.patient)});
    let category = category::of(draft, with.score_category);
    let mut out = Map::new();
    out.insert("resourceType".into(), json!("Observation"));
    if let Some(id) = with.id {
        out.insert("id".into(), json!(id.as_str()));
    }
    out.insert("meta".into(), json!({"source": identifier::source(with.version)}));
    let ours = identifier::ours(with.identifier_system, &with.observation.to_string(), with.version);
    out.insert("identifier".into(), json!([ours]));
    out.insert("status".into(), json!(draft.status));
    if let Some(category) = category {
        out.insert("category".into(), json!([{"coding": [coding(category::SYSTEM, category, category::display(category))]}]));
    }
    out.insert("code".into(), code(draft));
    out.insert("subject".into(), subject.clone());
    if let Some(effective) = &draft.effective {
        out.insert("effectiveDateTime".into(), json!(effective));
    }
    out.insert("issued".into(), json!(with.issued.rfc3339()));
    // The patient is the one who says it (R4 observation, performer); a device or a nurse we cannot know.
    if category == Some(category::SURVEY) {
        out.insert("performer".into(), json!([subject]));
    }
    match &draft.value {
        Some(OwnValue::Quantity { value, unit }) => {
            out.insert("valueQuantity".into(), quantity(Value::Number(value.number().clone()), unit.as_deref()));
        }
        Some(OwnValue::Text(text)) => {
            out.insert("valueString".into(), json!(text));
        }
        None => {}
    }
    Value::Object(out)
}

/// The code with the more general one that R4 wants beside it, and the platform's words as text. `display` must be an
/// official name: LOINC's stand in our table or are left out; those of other systems are the platform's to know.
fn code(draft: &ObservationDraft) -> Value {
    let mut concept = Map::new();
    if let Some(code) = draft.code.as_deref() {
        let system = draft.code_system.as_deref().unwrap_or(codes::LOINC);
        let mut codings = Vec::new();
        if codes::is_loinc(Some(system)) {
            let vital = codes::vital_sign(code);
            codings.push(coding(system, code, vital.map(|vital| vital.name)));
            if let Some(general) = vital.and_then(|vital| vital.beside).and_then(codes::vital_sign) {
                codings.push(coding(system, general.code, Some(general.name)));
            }
        } else {
            codings.push(coding(system, code, draft.display.as_deref().filter(|text| !text.trim().is_empty())));
        }
        concept.insert("coding".into(), Value::Array(codings));
    }
    if let Some(text) = draft.display.as_deref().filter(|text| !text.trim().is_empty()) {
        concept.insert("text".into(), json!(text));
    }
    Value::Object(concept)
}

fn coding(system: &str, code: &str, display: Option<&str>) -> Value {
    let mut out = Map::new();
    out.insert("system".into(), json!(system));
    out.insert("code".into(), json!(code));
    if let Some(display) = display {
        out.insert("display".into(), json!(display));
    }
    Value::Object(out)
}

/// `code` and `system` only for what is a UCUM code; any other unit goes as words, for a code without its system would
/// be invalid (qty-3) and a wrong code worse than none.
fn quantity(value: Value, unit: Option<&str>) -> Value {
    let mut out = Map::new();
    out.insert("value".into(), value);
    if let Some(unit) = unit.filter(|unit| !unit.trim().is_empty()) {
        out.insert("unit".into(), json!(unit));
        if unit::judge(unit) == unit::Unit::Code {
            out.insert("system".into(), json!(unit::UCUM));
            out.insert("code".into(), json!(unit));
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests;
