//! Ids as types, so that one cannot stand where another belongs.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// One of our patients.
    PatientId
);
uuid_id!(
    /// One of our observations. It is also the value of the identifier that travels with it.
    ObservationId
);
uuid_id!(
    /// A row of the effect ledger.
    DeliveryId
);
uuid_id!(
    /// One try of a delivery.
    AttemptId
);
uuid_id!(
    /// A long job with progress.
    RunId
);

/// A hospital or clinic, as the token's `tenantId` names it: 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(String);

impl TenantId {
    /// Reads a tenant id.
    ///
    /// # Errors
    /// When it is empty, longer than 128 characters, or holds anything but visible ASCII.
    pub fn new(text: impl Into<String>) -> Result<Self, BadId> {
        let text = text.into();
        let good = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if good { Ok(Self(text)) } else { Err(BadId("a tenant id is 1 to 128 visible ASCII characters")) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TenantId {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        Self::new(text)
    }
}

impl From<TenantId> for String {
    fn from(id: TenantId) -> Self {
        id.0
    }
}

/// A logical id that the EHR gave or took: `[A-Za-z0-9\-\.]{1,64}` (FHIR R4 datatypes, `id`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EhrId(String);

impl EhrId {
    /// Reads an EHR id.
    ///
    /// # Errors
    /// When it is not a FHIR `id`.
    pub fn new(text: impl Into<String>) -> Result<Self, BadId> {
        let text = text.into();
        let good = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
            && text != "."
            && text != "..";
        if good { Ok(Self(text)) } else { Err(BadId("a FHIR id is 1 to 64 of A-Z a-z 0-9 - .")) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EhrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for EhrId {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        Self::new(text)
    }
}

impl From<EhrId> for String {
    fn from(id: EhrId) -> Self {
        id.0
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadId(&'static str);

/// The resource that an effect concerns: what settling and rule W (PROTOCOL §2) are kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKey {
    /// The EHR's Patient of one of our patients.
    Patient(PatientId),
    /// The EHR's Observation of one of our observations.
    Observation(ObservationId),
}

impl ResourceKey {
    /// The FHIR resource type.
    #[must_use]
    pub fn resource_type(self) -> &'static str {
        match self {
            Self::Patient(_) => "Patient",
            Self::Observation(_) => "Observation",
        }
    }

    /// Our id: the identifier's value, and the id that we choose for `PUT`.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        match self {
            Self::Patient(id) => id.0,
            Self::Observation(id) => id.0,
        }
    }
}
