//! An Observation as it comes from the EHR: our own fields filled only where that is certain, the resource kept whole.

use crate::identifier::Identifier;
use crate::mapping::{codes, unit};
use crate::primitive;
use crate::reference::Reference;
use crate::resource::{NotInterpreted, ParseError, Resource};
use model::{EhrId, ObservationDraft, PatientId, Value as OwnValue};
use serde_json::{Map, Value};

/// The eleven types of `Observation.value[x]` (R4 observation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of the types are their own words")]
pub enum ValueKind {
    Quantity,
    CodeableConcept,
    String,
    Boolean,
    Integer,
    Range,
    Ratio,
    SampledData,
    Time,
    DateTime,
    Period,
}

impl ValueKind {
    /// All of them, with the element's name.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Quantity, "valueQuantity"),
        (Self::CodeableConcept, "valueCodeableConcept"),
        (Self::String, "valueString"),
        (Self::Boolean, "valueBoolean"),
        (Self::Integer, "valueInteger"),
        (Self::Range, "valueRange"),
        (Self::Ratio, "valueRatio"),
        (Self::SampledData, "valueSampledData"),
        (Self::Time, "valueTime"),
        (Self::DateTime, "valueDateTime"),
        (Self::Period, "valuePeriod"),
    ];
}

/// When it is true of the patient: the four types of `effective[x]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effective {
    /// `dateTime` as it stands, precision and offset kept.
    DateTime(String),
    /// `instant` as it stands.
    Instant(String),
    /// Start and end as they stand; an end that is absent means "ongoing".
    Period {
        /// Inclusive.
        start: Option<String>,
        /// Inclusive.
        end: Option<String>,
    },
    /// A timing, kept in the resource alone.
    Timing,
}

/// What we read of an EHR's Observation. Whatever stands here is a reading; [`EhrObservation::resource`] is the truth.
#[derive(Clone)]
pub struct EhrObservation {
    /// The EHR's id.
    pub id: Option<EhrId>,
    /// The EHR's `meta.versionId`.
    pub version: Option<String>,
    /// `meta.lastUpdated` as it stands.
    pub last_updated: Option<String>,
    /// Status as it stands, known to us or not; `None` where it is absent (which R4 forbids).
    pub status: Option<String>,
    /// The first LOINC coding's code, else the first coding's; `None` where there is only text.
    pub code: Option<String>,
    /// Its system.
    pub code_system: Option<String>,
    /// Words for the code: `code.text`, else the coding's display.
    pub display: Option<String>,
    /// When it is true of the patient.
    pub effective: Option<Effective>,
    /// `issued` as it stands.
    pub issued: Option<String>,
    /// The value where one of our own two kinds holds it whole and for certain: a quantity without a comparator, or text.
    pub value: Option<OwnValue>,
    /// Which `value[x]` it has.
    pub value_kind: Option<ValueKind>,
    /// How many components it has.
    pub components: usize,
    /// Why we may not judge it, if so; then there is no value either.
    pub not_interpreted: Option<NotInterpreted>,
    /// Whom it is about.
    pub subject: Option<Reference>,
    /// All identifiers, ours among them if it is our own push.
    pub identifiers: Vec<Identifier>,
    /// Whether it is only a subset, never to be the base of an update.
    pub subsetted: bool,
    /// The text as it came, byte for byte.
    pub resource: String,
}

impl EhrObservation {
    /// Whether we may judge it.
    #[must_use]
    pub fn interpreted(&self) -> bool {
        self.not_interpreted.is_none()
    }

    /// Whether it is about this Patient of the EHR at this base. A subject that is absent, logical, contained, of another
    /// type or of another server is not (PRODUCT, law 8).
    #[must_use]
    pub fn subject_is(&self, patient: &EhrId, base_url: &str) -> bool {
        self.subject.as_ref().is_some_and(|subject| subject.is("Patient", patient, base_url))
    }

    /// Whether it carries this identifier, byte for byte: then it is our own push, coming back.
    #[must_use]
    pub fn carries(&self, system: &str, value: &str) -> bool {
        self.identifiers.iter().any(|identifier| identifier.is(system, value))
    }

    /// The value of its identifier in this system, if it is exactly one: the id of our observation.
    #[must_use]
    pub fn identifier_in(&self, system: &str) -> Option<&str> {
        let mut values = self.identifiers.iter().filter(|i| i.system.as_deref() == Some(system)).filter_map(|i| i.value.as_deref());
        let first = values.next()?;
        values.all(|other| other == first).then_some(first)
    }

    /// `effective[x]` as our own field holds it: a dateTime or an instant as it stands. Of a period or a timing it holds
    /// nothing, for neither end is "the" time.
    #[must_use]
    pub fn effective_text(&self) -> Option<&str> {
        match self.effective.as_ref()? {
            Effective::DateTime(text) | Effective::Instant(text) => Some(text),
            Effective::Period { .. } | Effective::Timing => None,
        }
    }

    /// Our own fields, for this patient of ours. A status that is absent reads `unknown`, R4's word for "the source does
    /// not say".
    #[must_use]
    pub fn draft(&self, patient_id: PatientId) -> ObservationDraft {
        ObservationDraft {
            patient_id,
            code: self.code.clone(),
            code_system: self.code_system.clone(),
            display: self.display.clone(),
            effective: self.effective_text().map(str::to_owned),
            value: self.value.clone(),
            status: self.status.clone().unwrap_or_else(|| "unknown".to_owned()),
            message_id: None,
            external_id: None,
        }
    }

    /// Reads an Observation. Whatever it says beyond what we map, and whatever is odd about it, stays in the text.
    ///
    /// # Errors
    /// When it is another resource type.
    pub fn from_fhir(resource: &Resource) -> Result<Self, ParseError> {
        if resource.resource_type() != "Observation" {
            return Err(ParseError::WrongType { expected: "Observation" });
        }
        let fields = resource.fields();
        let not_interpreted = resource.not_interpreted();
        let value_kinds: Vec<ValueKind> = ValueKind::ALL
            .iter()
            .filter(|(_, name)| fields.contains_key(*name) || fields.contains_key(&format!("_{name}")))
            .map(|(kind, _)| *kind)
            .collect();
        let value_kind = value_kinds.first().copied();
        // Two values, or a value beside the reason of its absence, contradict each other: neither is certain.
        let certain = value_kinds.len() == 1 && not_interpreted.is_none() && !fields.contains_key("dataAbsentReason");
        let chosen = chosen_coding(fields);
        let of_coding = |name: &str| chosen.and_then(|coding| text(coding, name));
        let concept_text = fields.get("code").and_then(Value::as_object).and_then(|code| text(code, "text"));
        Ok(Self {
            id: resource.id(),
            version: resource.version_id().map(str::to_owned),
            last_updated: resource.last_updated().map(str::to_owned),
            status: text(fields, "status"),
            code: of_coding("code"),
            code_system: of_coding("system"),
            display: concept_text.or_else(|| of_coding("display")),
            effective: effective(fields),
            issued: text(fields, "issued"),
            value: if certain { value(fields) } else { None },
            value_kind,
            components: fields.get("component").and_then(Value::as_array).map_or(0, Vec::len),
            not_interpreted,
            subject: fields.get("subject").and_then(Reference::read),
            identifiers: resource.identifiers(),
            subsetted: resource.is_subsetted(),
            resource: resource.raw().to_owned(),
        })
    }
}

impl std::fmt::Debug for EhrObservation {
    /// Id and version: what it says is nobody's in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EhrObservation").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name)?.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

/// The first LOINC coding, else the first that has a code. Order carries no rank in FHIR, but some choice must be made,
/// and the others stay in the resource.
fn chosen_coding(fields: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let codings = fields.get("code")?.get("coding")?.as_array()?;
    let coded: Vec<&Map<String, Value>> = codings.iter().filter_map(Value::as_object).filter(|c| text(c, "code").is_some()).collect();
    let loinc = |coding: &&&Map<String, Value>| text(coding, "system").is_some_and(|system| codes::is_loinc(Some(&system)));
    coded.iter().find(loinc).or_else(|| coded.first()).copied()
}

fn effective(fields: &Map<String, Value>) -> Option<Effective> {
    if let Some(at) = text(fields, "effectiveDateTime").filter(|at| primitive::date_time(at).is_some()) {
        return Some(Effective::DateTime(at));
    }
    if let Some(at) = text(fields, "effectiveInstant").filter(|at| primitive::instant(at).is_some()) {
        return Some(Effective::Instant(at));
    }
    if let Some(period) = fields.get("effectivePeriod").and_then(Value::as_object) {
        return Some(Effective::Period { start: text(period, "start"), end: text(period, "end") });
    }
    fields.get("effectiveTiming").map(|_| Effective::Timing)
}

fn value(fields: &Map<String, Value>) -> Option<OwnValue> {
    if let Some(quantity) = fields.get("valueQuantity").and_then(Value::as_object) {
        return own_quantity(quantity);
    }
    text(fields, "valueString").map(OwnValue::Text)
}

/// A number with its unit. With a comparator it is a limit, not a value; with a unit that is only a foreign code nobody
/// could read the number right: both stay in the resource alone.
fn own_quantity(quantity: &Map<String, Value>) -> Option<OwnValue> {
    if quantity.contains_key("comparator") || quantity.contains_key("_comparator") {
        return None;
    }
    let Some(Value::Number(number)) = quantity.get("value") else { return None };
    let system = text(quantity, "system");
    let code = text(quantity, "code");
    let is_ucum = system.as_deref().is_some_and(|system| system.trim_end_matches('/') == unit::UCUM);
    let unit = match (is_ucum.then_some(code.as_ref()).flatten(), text(quantity, "unit")) {
        (Some(code), _) => Some(code.clone()),
        (None, Some(words)) => Some(words),
        (None, None) if code.is_some() => return None,
        (None, None) => None,
    };
    Some(OwnValue::Quantity { value: number.clone().into(), unit })
}
