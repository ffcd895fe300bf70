//! By what means a create is safe at one EHR (PRODUCT, "How a create is made safe"), and what was proven there.

use crate::failure::words;
use serde::{Deserialize, Serialize};

words!(
    /// The means of one write.
    Means {
        /// `PUT` of an id that we chose: our UUID (means 2).
        OwnId = "own_id",
        /// `POST` with `If-None-Exist` (means 3). It is no lock.
        ConditionalCreate = "conditional_create",
        /// `POST`, and a search after any uncertain outcome (means 4).
        PlainCreate = "plain_create",
        /// `PUT` of a known id with `If-Match`.
        Update = "update",
    }
);

impl Means {
    /// Whether the same request may go again at once after a lost answer (PROTOCOL §2: a `PUT` may).
    #[must_use]
    pub fn repeats_at_once(self) -> bool {
        matches!(self, Self::OwnId | Self::Update)
    }

    /// Whether it creates.
    #[must_use]
    pub fn creates(self) -> bool {
        self != Self::Update
    }
}

words!(
    /// How sure we are that one EHR does something.
    Proof {
        /// Nothing is known.
        Unknown = "unknown",
        /// Its CapabilityStatement says so; that proves nothing.
        Claimed = "claimed",
        /// Seen to work.
        Proven = "proven",
        /// Its CapabilityStatement says no.
        Denied = "denied",
        /// Tried and refused.
        Refused = "refused",
    }
);

impl Proof {
    /// Worth trying.
    #[must_use]
    pub fn may_try(self) -> bool {
        matches!(self, Self::Unknown | Self::Claimed | Self::Proven)
    }
}

/// What one generation of a connection is known to do. Kept, dated, and chosen from by every write and pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeansPlan {
    /// `PUT` of our own id creates an Observation.
    pub observation_update_create: Proof,
    /// `PUT` of our own id creates a Patient.
    pub patient_update_create: Proof,
    /// `If-None-Exist` is taken.
    pub conditional_create: Proof,
    /// `Bundle` of type `batch` is taken.
    pub batch: Proof,
    /// `_lastUpdated` is a search parameter of Observation.
    pub last_updated: Proof,
    /// `identifier` is a search parameter of Observation and is obeyed.
    pub identifier_search: Proof,
    /// `POST [type]/_search` works (keeps national identifiers out of URLs).
    pub post_search: Proof,
    /// A stale `If-Match` is refused.
    pub if_match: Proof,
    /// A `PUT` that creates answers 201. Refused: it answers 200 as for an update (against http.html#upsert), so that a 200
    /// does not say that something was there.
    pub put_tells_created: Proof,
    /// At most so many entries in one Bundle; halved when one is too large, grown when it goes well.
    pub batch_limit: u32,
    /// When the CapabilityStatement was read, RFC 3339.
    pub capabilities_read_at: Option<String>,
    /// `software.name` and version, as far as the server tells.
    pub software: Option<String>,
    /// The token endpoint that `.well-known/smart-configuration` names, and whether it asks for Basic.
    pub token_auth_basic: Option<bool>,
}

impl Default for MeansPlan {
    fn default() -> Self {
        Self {
            observation_update_create: Proof::Unknown,
            patient_update_create: Proof::Unknown,
            conditional_create: Proof::Unknown,
            batch: Proof::Unknown,
            last_updated: Proof::Unknown,
            identifier_search: Proof::Unknown,
            post_search: Proof::Unknown,
            if_match: Proof::Unknown,
            put_tells_created: Proof::Unknown,
            batch_limit: 10,
            capabilities_read_at: None,
            software: None,
            token_auth_basic: None,
        }
    }
}

impl MeansPlan {
    /// The best means for a create of this resource type that may still be tried, and whether it must go alone
    /// because it is not proven yet.
    #[must_use]
    pub fn for_create(&self, resource_type: &str) -> (Means, bool) {
        let own_id = if resource_type == "Patient" { self.patient_update_create } else { self.observation_update_create };
        match own_id {
            Proof::Proven => (Means::OwnId, false),
            Proof::Unknown | Proof::Claimed => (Means::OwnId, true),
            Proof::Denied | Proof::Refused if self.conditional_create.may_try() => {
                (Means::ConditionalCreate, self.conditional_create != Proof::Proven)
            }
            Proof::Denied | Proof::Refused => (Means::PlainCreate, false),
        }
    }
}
