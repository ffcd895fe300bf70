//! What the API answers. Times are RFC 3339; decimals are JSON numbers with their digits.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A part of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct List<T: ToSchema> {
    /// The rows.
    pub items: Vec<T>,
    /// What to ask for next; `null` at the end.
    pub next_cursor: Option<String>,
}

/// A patient and where it stands at the EHR.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatientAnswer {
    /// Our id, UUIDv7.
    pub id: String,
    /// The whole name, as text.
    pub name: String,
    /// `YYYY-MM-DD`.
    pub birth_date: String,
    /// FHIR administrative gender.
    pub gender: Option<&'static str>,
    /// As the platform gave it.
    pub phone: Option<String>,
    /// As the platform gave it.
    pub email: Option<String>,
    /// 11 digits.
    pub cpf: Option<String>,
    /// 15 digits.
    pub cns: Option<String>,
    /// The platform's own key.
    pub external_id: Option<String>,
    /// The EHR's id, once linked.
    pub ehr_patient_id: Option<String>,
    /// When a push or pull of this patient last succeeded.
    pub last_sync_at: Option<String>,
    /// The link to the EHR's Patient.
    pub link: LinkAnswer,
    /// Grows by one with each accepted change.
    pub version: i64,
    /// Accepted first.
    pub created_at: String,
    /// Changed last.
    pub updated_at: String,
}

/// A link: exact, or a person's decision.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkAnswer {
    /// `unlinked`, `linked`, or `held`: a person must decide.
    pub state: &'static str,
    /// `cpf`, `cns`, `identifier`, `created`, or `person:<sub>`.
    pub by: Option<String>,
    /// When.
    pub at: Option<String>,
    /// Why it is held.
    pub problem: Option<&'static str>,
    /// Whom a person may choose from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<CandidateAnswer>,
}

/// An EHR Patient that might be this one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateAnswer {
    /// The EHR's id: `PATCH` the patient with it to link.
    pub ehr_patient_id: String,
    /// The name that the EHR shows.
    pub name: Option<String>,
    /// The birth date that the EHR shows.
    pub birth_date: Option<String>,
    /// What spoke for it.
    pub evidence: String,
}

/// An observation and where it stands at the EHR.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservationAnswer {
    /// Our id, UUIDv7; also the identifier's value at the EHR.
    pub id: String,
    /// Whose it is.
    pub patient_id: String,
    /// The code; absent where the EHR gave only text.
    pub code: Option<String>,
    /// Its system.
    pub code_system: Option<String>,
    /// Words for it.
    pub display: Option<String>,
    /// As given.
    pub effective_date_time: Option<String>,
    /// Digits kept.
    #[schema(value_type = Option<f64>)]
    pub value_quantity: Option<serde_json::Number>,
    /// UCUM code.
    pub unit: Option<String>,
    /// Text.
    pub value_string: Option<String>,
    /// FHIR observation-status.
    pub status: String,
    /// The platform's message.
    pub message_id: Option<String>,
    /// The platform's own key.
    pub external_id: Option<String>,
    /// The EHR's id, once known.
    pub fhir_resource_id: Option<String>,
    /// Whether the EHR holds the newest version.
    #[serde(rename = "syncedToEHR")]
    #[schema(rename = "syncedToEHR")]
    pub synced_to_ehr: bool,
    /// Since when.
    pub synced_at: Option<String>,
    /// `platform` or `ehr`.
    pub source: &'static str,
    /// The EHR's own JSON, digit for digit, where it came from there.
    #[schema(value_type = Option<Object>)]
    pub resource: Option<Box<RawValue>>,
    /// False where the resource says something that may not be judged here (unknown modifierExtension, implicitRules).
    pub interpreted: bool,
    /// Withdrawn, or gone at the EHR.
    pub deleted: bool,
    /// The delivery of the newest version.
    pub delivery: Option<BriefAnswer>,
    /// Grows by one with each accepted change.
    pub version: i64,
    /// Accepted first.
    pub created_at: String,
    /// Changed last.
    pub updated_at: String,
}

/// A delivery in one line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BriefAnswer {
    /// Its id.
    pub id: String,
    /// One of the nine states.
    pub state: &'static str,
    /// Why it is held, or in lists of what waits the EHR's own words.
    pub reason: Option<String>,
}

/// A row of the effect ledger.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryAnswer {
    /// Its id.
    pub id: String,
    /// What it brings, if an observation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observation_id: Option<String>,
    /// What it brings, if a patient; else whose it is.
    pub patient_id: String,
    /// `Patient` or `Observation`.
    pub resource_type: &'static str,
    /// Which version.
    pub version: i64,
    /// One of the nine states.
    pub state: &'static str,
    /// Why it is held, or the EHR's own words.
    pub reason: Option<String>,
    /// The EHR's own words or ours, a sentence.
    pub message: Option<String>,
    /// `ponte`, `hospital` or `you`.
    pub whose_move: &'static str,
    /// The next automatic step.
    pub next_attempt_at: Option<String>,
    /// The EHR's id, once known.
    pub ehr_id: Option<String>,
    /// The EHR's version, once known.
    pub ehr_version: Option<String>,
    /// When the change was accepted.
    pub created_at: String,
    /// When the EHR was known to hold it.
    pub delivered_at: Option<String>,
    /// Newest last; left out in the list of deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<AttemptAnswer>>,
}

/// One try.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptAnswer {
    /// Recorded before any byte left.
    pub at: String,
    /// From then to its outcome, ms.
    pub duration_ms: Option<i64>,
    /// Method and path template.
    pub request: String,
    /// The means of a write; absent for a question.
    pub means: Option<&'static str>,
    /// HTTP status, if one came.
    pub status: Option<u16>,
    /// What it meant; `null` while nobody knows.
    pub class: Option<&'static str>,
    /// Until when it stays open although nobody waits for it.
    pub settle_until: Option<String>,
    /// The EHR's own words or ours.
    pub message: Option<String>,
    /// An answer that came too late to be judged, kept as evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<LateAnswer>,
}

/// An answer that came too late.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LateAnswer {
    /// When it came.
    pub at: String,
    /// Its HTTP status.
    pub status: u16,
    /// The id that it names.
    pub ehr_id: Option<String>,
    /// The version that it names.
    pub ehr_version: Option<String>,
}

/// A problem (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem, example = json!({"type": "urn:ponte:problem:invalid", "title": "Invalid", "status": 422, "code": "invalid", "detail": "birthDate is needed.", "requestId": "019ab0c0-0000-7000-8000-000000000000", "errors": [{"pointer": "/birthDate", "code": "required", "detail": "birthDate is needed."}]}))]
pub struct ProblemAnswer {
    /// `urn:ponte:problem:` and the code.
    pub r#type: String,
    /// The code in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable, snake_case.
    pub code: String,
    /// A sentence: what happened, whose move it is, what next.
    pub detail: String,
    /// Also in `X-Request-Id`.
    pub request_id: String,
    /// The fields that will not do.
    pub errors: Option<Vec<FieldAnswer>>,
}

/// A field that will not do.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldAnswer {
    /// JSON pointer into the body (RFC 6901); of a query, `/` and the parameter.
    pub pointer: String,
    /// Stable, snake_case.
    pub code: String,
    /// A sentence; it never repeats the value.
    pub detail: String,
}
