//! The test Observation: it says of itself that it is a test, carries our identifier and mark as the product's own do, and
//! a decimal whose last digit is a zero.

use super::Bench;
use fhir::identifier::{carries, ours, source, version_mark};
use fhir::resource::Resource;
use model::{Decimal, EhrId};
use serde_json::{Value, json};

/// The system of the probe's identifiers and of its code.
pub(super) const SYSTEM: &str = "urn:ponte:check";
/// Its code.
pub(super) const CODE: &str = "connection-test";
/// What is sent as the value.
const DIGITS: &str = "1.10";

/// What a resource at the EHR shows.
pub(super) struct Look {
    pub(super) id: Option<EhrId>,
    pub(super) version: Option<String>,
    /// It carries our identifier, byte for byte.
    pub(super) carries: bool,
    /// The mark of our version, as the product reads it.
    pub(super) mark: Option<i64>,
    /// In how many of the two places a mark is.
    pub(super) marks: u32,
    /// The decimal kept its digits.
    pub(super) digits: bool,
    pub(super) withdrawn: bool,
    /// It is of this probe by its code, whatever became of its identifier.
    pub(super) ours: bool,
    /// The value of its identifier in our system, if it has one.
    pub(super) value: Option<String>,
}

pub(super) fn look(raw: &str, value: &str) -> Option<Look> {
    let resource = Resource::parse(raw).ok()?;
    let codings = resource.get("code").and_then(|code| code.get("coding")).and_then(Value::as_array);
    let is = |coding: &Value, name: &str, text: &str| coding.get(name).and_then(Value::as_str) == Some(text);
    let in_source = resource.meta_source().is_some_and(|text| text.starts_with(source(0).trim_end_matches('0')));
    let identifiers = resource.identifiers();
    let digits = resource.get("valueQuantity").and_then(|quantity| quantity.get("value"));
    Some(Look {
        id: resource.id(),
        version: resource.version_id().map(str::to_owned),
        carries: carries(&resource, SYSTEM, value),
        mark: version_mark(&resource, SYSTEM, value),
        marks: u32::from(in_source) + u32::from(identifiers.iter().any(|one| one.is(SYSTEM, value) && one.version_mark.is_some())),
        digits: digits.and_then(Value::as_number).is_some_and(|number| number.as_str() == DIGITS),
        withdrawn: resource.get("status").and_then(Value::as_str) == Some("entered-in-error"),
        ours: codings.is_some_and(|all| all.iter().any(|one| is(one, "system", SYSTEM) && is(one, "code", CODE))),
        value: identifiers.iter().find(|one| one.system.as_deref() == Some(SYSTEM)).and_then(|one| one.value.clone()),
    })
}

impl Bench<'_> {
    /// `HTEST` (HL7 v3 ActReason) stands as a security label and as a tag: servers index one or the other.
    pub(super) fn record(&self, value: &str, mark: i64, id: Option<&EhrId>, status: &str) -> String {
        let test =
            json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST", "display": "test health data"}]);
        let mut body = json!({
            "resourceType": "Observation",
            "meta": {"source": source(mark), "security": test, "tag": test},
            "identifier": [ours(SYSTEM, value, mark)],
            "status": status,
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "survey"}]}],
            "code": {"coding": [{"system": SYSTEM, "code": CODE}], "text": "Ponte connection test, no clinical meaning"},
            "subject": {"reference": format!("Patient/{}", self.patient)},
            "effectiveDateTime": self.clock.now().rfc3339(),
        });
        if let Some(object) = body.as_object_mut() {
            if let Some(id) = id {
                object.insert("id".to_owned(), Value::from(id.as_str()));
            }
            if let Some(number) = Decimal::parse(DIGITS) {
                object.insert("valueQuantity".to_owned(), json!({"value": number.number(), "unit": "test"}));
            }
        }
        body.to_string()
    }
}
