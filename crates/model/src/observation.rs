//! An observation as the platform knows it: a few fields of our own, and the whole resource where it came from the EHR.

use crate::clock::Timestamp;
use crate::decimal::Decimal;
use crate::delivery::State;
use crate::id::{DeliveryId, EhrId, ObservationId, PatientId};
use serde::{Deserialize, Serialize};

/// What an observation says. Serialised only to be sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservationDraft {
    /// Whose it is.
    pub patient_id: PatientId,
    /// The code; absent where the EHR gave only text.
    pub code: Option<String>,
    /// The code's system; the platform's default is `http://loinc.org`.
    pub code_system: Option<String>,
    /// Words for the code.
    pub display: Option<String>,
    /// FHIR dateTime, as given: its precision and offset are data.
    pub effective: Option<String>,
    /// The value, where one of our own two kinds holds it.
    pub value: Option<Value>,
    /// FHIR observation-status code, as given.
    pub status: String,
    /// The platform's message that it came from.
    pub message_id: Option<String>,
    /// The platform's own key.
    pub external_id: Option<String>,
}

impl ObservationDraft {
    /// Whether it is withdrawn: it stays on record and must not be used.
    #[must_use]
    pub fn entered_in_error(&self) -> bool {
        self.status == "entered-in-error"
    }
}

/// A value that the platform's own fields hold. All other FHIR value types live in the resource alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A number with its UCUM unit.
    Quantity {
        /// Digits kept.
        value: Decimal,
        /// UCUM code, case-sensitive.
        unit: Option<String>,
    },
    /// Free text.
    Text(String),
}

/// Who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The care platform; Ponte brings it to the EHR.
    Platform,
    /// The EHR; Ponte brought it from there.
    Ehr,
}

impl Source {
    /// The word in the API and in the database.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Ehr => "ehr",
        }
    }
}

/// An observation of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Ours; for a platform observation also the identifier's value at the EHR.
    pub id: ObservationId,
    /// Grows by one with each accepted change.
    pub version: i64,
    /// What it says now.
    pub draft: ObservationDraft,
    /// Who made it.
    pub source: Source,
    /// The EHR's logical id, once known.
    pub ehr_id: Option<EhrId>,
    /// The EHR's `meta.versionId` that we know as the current one.
    pub ehr_version: Option<String>,
    /// The version that the EHR holds; synced when it equals `version`.
    pub synced_version: Option<i64>,
    /// Since when.
    pub synced_at: Option<Timestamp>,
    /// Withdrawn by the platform (`DELETE`) or gone at the EHR.
    pub deleted: bool,
    /// The EHR's own JSON, verbatim, where it came from there.
    pub resource: Option<String>,
    /// False where the resource says something that we may not judge (unknown modifierExtension, implicitRules).
    pub interpreted: bool,
    /// The delivery of the newest version, if there is one.
    pub delivery: Option<DeliveryBrief>,
    /// Accepted first.
    pub created_at: Timestamp,
    /// Changed last.
    pub updated_at: Timestamp,
}

impl Observation {
    /// One of the platform's as it is at first: nothing of it is at the EHR.
    #[must_use]
    pub fn accepted(id: ObservationId, draft: ObservationDraft, now: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            draft,
            source: Source::Platform,
            ehr_id: None,
            ehr_version: None,
            synced_version: None,
            synced_at: None,
            deleted: false,
            resource: None,
            interpreted: true,
            delivery: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// Whether the EHR holds the newest version.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.synced_version == Some(self.version)
    }
}

/// A delivery in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryBrief {
    /// Its id.
    pub id: DeliveryId,
    /// Its state; a reason of the connection or of the patient is already derived into it.
    pub state: State,
}
