//! The bodies of the API, as the OpenAPI document describes them: requests here, answers in [`answers`].
//!
//! Requests are read field by field elsewhere (`patient_body`, `observation_body`, `model::connection`), so that each
//! field that will not do is named; the structs here describe them. A test holds the two against each other.

pub mod answers;
mod shown;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A patient. What an answer shows besides may be sent back and is ignored.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"name": "Maria Aparecida da Silva", "birthDate": "1961-04-02", "gender": "female", "cpf": "529.982.247-25", "externalId": "P-1"}))]
pub struct PatientBody {
    /// The whole name, as text.
    #[schema(max_length = 1000)]
    pub name: String,
    /// `YYYY-MM-DD`, a real day.
    #[schema(format = Date)]
    pub birth_date: String,
    /// FHIR administrative gender: `male`, `female`, `other`, `unknown`.
    #[schema(nullable)]
    pub gender: Option<String>,
    /// As the platform gave it.
    #[schema(nullable)]
    pub phone: Option<String>,
    /// As the platform gave it.
    #[schema(nullable)]
    pub email: Option<String>,
    /// With or without its mask; check digits are verified.
    #[schema(nullable)]
    pub cpf: Option<String>,
    /// Check digits are verified.
    #[schema(nullable)]
    pub cns: Option<String>,
    /// The platform's own key, unique per tenant.
    #[schema(nullable)]
    pub external_id: Option<String>,
    /// The EHR's id of this patient: a person's link, which wins over every rule. ADMIN alone; `null` unlinks.
    #[schema(nullable)]
    pub ehr_patient_id: Option<String>,
}

/// By what a patient is looked for; several narrow it down.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"cpf": "529.982.247-25"}))]
pub struct PatientSearch {
    /// CPF, with or without its mask.
    pub cpf: Option<String>,
    /// CNS.
    pub cns: Option<String>,
    /// The platform's own key.
    pub external_id: Option<String>,
    /// The EHR's id.
    pub ehr_patient_id: Option<String>,
}

/// An observation. What an answer shows besides may be sent back and is ignored.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"patientId": "019ab000-0000-7000-8000-000000000001", "code": "72514-3", "display": "Pain severity - 0-10 verbal numeric rating [Score] - Reported", "effectiveDateTime": "2026-11-25T09:30:00-03:00", "valueQuantity": 7, "unit": "{score}"}))]
pub struct ObservationBody {
    /// One of this tenant's patients. Cannot change later.
    #[schema(format = Uuid)]
    pub patient_id: String,
    /// The code.
    pub code: String,
    /// Its system; `http://loinc.org` where left out.
    pub code_system: Option<String>,
    /// Words for the code.
    pub display: String,
    /// FHIR dateTime: a year, a month, a day, or a time with seconds and offset. Kept as given.
    pub effective_date_time: String,
    /// A JSON number; its digits are kept (`1.10` stays `1.10`). Exactly one of `valueQuantity` and `valueString`.
    #[schema(value_type = Option<f64>)]
    pub value_quantity: Option<serde_json::Number>,
    /// UCUM code of the quantity.
    pub unit: Option<String>,
    /// Text, up to 32 KB.
    pub value_string: Option<String>,
    /// FHIR observation-status; `final` where left out, `corrected` in a PATCH.
    pub status: Option<String>,
    /// The platform's message that it came from.
    pub message_id: Option<String>,
    /// The platform's own key.
    pub external_id: Option<String>,
}

/// Up to 1,000 observations.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchBody {
    /// In the order in which they are to be accepted.
    #[schema(min_items = 1, max_items = 1000)]
    pub observations: Vec<ObservationBody>,
}

/// The tenant's connection. Everything but `baseUrl`, `authType` and `authConfig` has a default that works.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"enabled": true, "baseUrl": "https://fhir.example.com/fhir", "authType": "oauth2", "authConfig": {"clientId": "your-client-id", "clientSecret": "your-client-secret", "tokenUrl": "https://fhir.example.com/oauth/token", "scope": "system/*.read system/*.write"}, "syncDirection": "bidirectional", "syncFrequency": "realtime", "maxRetries": 3, "initialDelay": 1000, "maxDelay": 30000, "backoffMultiplier": 2.0}))]
pub struct ConfigBody {
    /// Whether anything is sent or read at all; `false` where left out.
    pub enabled: Option<bool>,
    /// FHIR base of the EHR.
    #[schema(format = "uri")]
    pub base_url: String,
    /// `oauth2`, `basic` or `apikey`.
    pub auth_type: String,
    /// oauth2 `{clientId, clientSecret, tokenUrl, scope}`, basic `{username, password}`, apikey `{apiKey, apiKeyHeader}`.
    /// A secret is shown as `{"set": true, "updatedAt": …}`; that object sent back keeps it.
    #[schema(value_type = Object)]
    pub auth_config: Value,
    /// `push`, `pull` or `bidirectional`.
    pub sync_direction: Option<String>,
    /// `realtime`, `hourly` or `daily`.
    pub sync_frequency: Option<String>,
    /// Tries after the first, 0 to 20.
    pub max_retries: Option<i64>,
    /// Wait after the first failure, ms.
    pub initial_delay: Option<i64>,
    /// Longest wait, ms.
    pub max_delay: Option<i64>,
    /// Each wait is so many times the one before, 1 to 10.
    pub backoff_multiplier: Option<f64>,
    /// Whatever the tenant wants to keep here; given back as it came.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
    /// System of our identifier on observations; `urn:ponte:observation`.
    pub identifier_system: Option<String>,
    /// Whether a patient that the EHR does not know is created there; `true`.
    pub patient_create: Option<bool>,
    /// Time limit of one request, ms; 30000.
    pub request_timeout: Option<i64>,
    /// How long an attempt without an outcome stays open, ms; 60000.
    pub settle_time: Option<i64>,
    /// How far a pull reaches back behind its watermark, ms; 300000.
    pub pull_overlap: Option<i64>,
    /// After how long a delivery that never succeeds is dead, ms; 7 days.
    pub patience: Option<i64>,
    /// How many lanes of this tenant are worked at once, 1 to 8.
    pub max_concurrency: Option<i64>,
    /// At most so many requests a second; no limit where left out.
    pub max_requests_per_second: Option<i64>,
    /// At most so many rows in one Bundle, 1 to 100.
    pub batch_size: Option<i64>,
    /// `Observation.category` of scores; `survey`.
    pub score_category: Option<String>,
    /// What happens to a code that means something else: `hold` or `refuse`.
    pub misused_codes: Option<String>,
}

/// What a connection test may do besides reading.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"writeProbe": false}))]
pub struct CheckBody {
    /// Writes one observation on the test patient and withdraws it; `false` where left out.
    pub write_probe: Option<bool>,
    /// The EHR's id of a test patient; needed for `writeProbe`.
    pub test_patient_id: Option<String>,
}

/// Which dead letters are sent again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"dryRun": true}))]
pub struct ReplayBody {
    /// Only those of this patient.
    #[schema(format = Uuid)]
    pub patient_id: Option<String>,
    /// Only counts them.
    pub dry_run: Option<bool>,
}
