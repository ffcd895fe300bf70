//! A patient as the platform knows it, and the link to the EHR's Patient (PRODUCT, law 3).

use crate::brazil::{BadNumber, Cns, Cpf};
use crate::clock::Timestamp;
use crate::id::{EhrId, PatientId};
use serde::{Deserialize, Serialize};

/// What the platform says of a patient. Serialised only to be sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatientDraft {
    /// The whole name, as text.
    pub name: String,
    /// `YYYY-MM-DD`, a real day; never a timestamp.
    pub birth_date: String,
    /// FHIR administrative gender.
    pub gender: Option<Gender>,
    /// As the platform gave it.
    pub phone: Option<String>,
    /// As the platform gave it.
    pub email: Option<String>,
    /// Check digits verified.
    #[serde(with = "cpf_text")]
    pub cpf: Option<Cpf>,
    /// Check digits verified.
    #[serde(with = "cns_text")]
    pub cns: Option<Cns>,
    /// The platform's own key, unique per tenant.
    pub external_id: Option<String>,
}

/// FHIR R4 administrative-gender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the codes of the value set are their own words")]
pub enum Gender {
    Male,
    Female,
    Other,
    Unknown,
}

impl Gender {
    /// The FHIR code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Male => "male",
            Self::Female => "female",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the FHIR code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        [Self::Male, Self::Female, Self::Other, Self::Unknown].into_iter().find(|g| g.code() == code)
    }
}

/// A patient of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Patient {
    /// Ours.
    pub id: PatientId,
    /// Grows by one with each accepted change.
    pub version: i64,
    /// What the platform said last.
    pub draft: PatientDraft,
    /// Where it is in the EHR.
    pub link: Link,
    /// When a pull or push of this patient last succeeded.
    pub last_sync_at: Option<Timestamp>,
    /// Accepted first.
    pub created_at: Timestamp,
    /// Changed last.
    pub updated_at: Timestamp,
}

/// The link of our patient to the EHR's Patient. Exact or a person's decision; a person's always wins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Link {
    /// Where it stands.
    pub state: LinkState,
    /// The EHR's logical id, once linked.
    pub ehr_id: Option<EhrId>,
    /// Who decided: `cpf`, `cns`, `identifier`, `created`, or `person:<sub>`.
    pub by: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
    /// Why the patient is held, if it is.
    pub problem: Option<LinkProblem>,
    /// Whom a person may choose from.
    pub candidates: Vec<Candidate>,
    /// When the EHR's Patient was last read and found to agree.
    pub verified_at: Option<Timestamp>,
    /// The EHR's `meta.versionId` at that reading.
    pub ehr_version: Option<String>,
}

impl Link {
    /// Whether Ponte itself created the EHR's Patient; only then may it be updated by us.
    #[must_use]
    pub fn created_by_us(&self) -> bool {
        self.by.as_deref() == Some("created")
    }

    /// Whether a person decided, so that no rule may reopen it.
    #[must_use]
    pub fn by_person(&self) -> bool {
        self.by.as_deref().is_some_and(|by| by.starts_with("person:"))
    }
}

/// Where a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Not looked for yet, or nobody found and nobody created.
    #[default]
    Unlinked,
    /// Linked and in use.
    Linked,
    /// A person must decide; see the problem and the candidates.
    Held,
}

/// Why a link is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkProblem {
    /// Somebody like this patient is there, but the evidence is not exact.
    Candidates,
    /// More than one Patient carries the national identifier.
    MultipleMatches,
    /// The national identifier is there with another birth date.
    BirthDateDiffers,
    /// Nobody was found and `patientCreate` is off.
    NotFound,
    /// The linked Patient says that another record replaces it.
    ReplacedBy,
    /// The linked Patient is inactive.
    Inactive,
    /// Asked for one id, answered with another.
    IdDiffers,
    /// The linked Patient's identifiers no longer agree.
    IdentifierDiffers,
    /// The linked Patient is not there any more.
    Gone,
    /// The EHR refuses us this patient.
    AccessDenied,
    /// The Patient carries modifier extensions or implicit rules that we may not judge.
    NotInterpreted,
}

/// An EHR Patient that might be ours. Sealed at rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The EHR's logical id.
    pub ehr_id: EhrId,
    /// The name that the EHR shows.
    pub name: Option<String>,
    /// The birth date that the EHR shows.
    pub birth_date: Option<String>,
    /// What spoke for it: `cpf`, `cns`, `name_and_birth_date`, `replaces`.
    pub evidence: String,
}

impl From<BadNumber> for String {
    fn from(bad: BadNumber) -> Self {
        bad.to_string()
    }
}

macro_rules! number_text {
    ($module:ident, $type:ident) => {
        mod $module {
            use super::$type;
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            pub(super) fn serialize<S: Serializer>(number: &Option<$type>, serializer: S) -> Result<S::Ok, S::Error> {
                number.as_ref().map($type::digits).serialize(serializer)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<$type>, D::Error> {
                Option::<String>::deserialize(deserializer)?.map(|text| $type::parse(&text).map_err(serde::de::Error::custom)).transpose()
            }
        }
    };
}
number_text!(cpf_text, Cpf);
number_text!(cns_text, Cns);
