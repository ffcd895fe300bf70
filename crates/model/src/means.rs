//! By what means a create is safe at one EHR (PRODUCT, "How a create is made safe"), and what was proven there.

use crate::failure::words;
use crate::probe::{Probe, What};
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

    /// The one of the two by which less is dared.
    #[must_use]
    pub fn more_careful(self, other: Self) -> Self {
        let dares = |proof: Self| match proof {
            Self::Refused => 0,
            Self::Denied => 1,
            Self::Unknown => 2,
            Self::Claimed => 3,
            Self::Proven => 4,
        };
        if dares(self) <= dares(other) { self } else { other }
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
    /// `If-None-Match: *` on such a `PUT` is honoured (means 2a). Only a probe proves it; then creates carry it.
    pub if_none_match: Proof,
    /// The same inside a batch.
    pub if_none_match_in_batch: Proof,
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
    /// The last write probe.
    pub probe: Option<Probe>,
}

impl Default for MeansPlan {
    fn default() -> Self {
        Self {
            observation_update_create: Proof::Unknown,
            patient_update_create: Proof::Unknown,
            if_none_match: Proof::Unknown,
            if_none_match_in_batch: Proof::Unknown,
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
            probe: None,
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

    /// Takes over what a check found (`after`) that had begun with `before`. What ordinary traffic learnt meanwhile is
    /// not overwritten: of the two the more careful one stays.
    pub fn take_over(&mut self, before: &Self, after: &Self) {
        let merge = |now: &mut Proof, before: Proof, after: Proof| *now = if *now == before { after } else { now.more_careful(after) };
        merge(&mut self.observation_update_create, before.observation_update_create, after.observation_update_create);
        merge(&mut self.patient_update_create, before.patient_update_create, after.patient_update_create);
        merge(&mut self.if_none_match, before.if_none_match, after.if_none_match);
        merge(&mut self.if_none_match_in_batch, before.if_none_match_in_batch, after.if_none_match_in_batch);
        merge(&mut self.conditional_create, before.conditional_create, after.conditional_create);
        merge(&mut self.batch, before.batch, after.batch);
        merge(&mut self.last_updated, before.last_updated, after.last_updated);
        merge(&mut self.identifier_search, before.identifier_search, after.identifier_search);
        merge(&mut self.post_search, before.post_search, after.post_search);
        merge(&mut self.if_match, before.if_match, after.if_match);
        merge(&mut self.put_tells_created, before.put_tells_created, after.put_tells_created);
        self.capabilities_read_at.clone_from(&after.capabilities_read_at);
        self.software.clone_from(&after.software);
        self.token_auth_basic = after.token_auth_basic;
        let refuted = self.probe != before.probe && self.doubles_were_seen();
        self.probe.clone_from(&after.probe);
        if refuted {
            self.refute(What::ConditionalParallel);
        }
    }

    /// Ordinary traffic showed that a finding of the probe does not hold.
    pub fn refute(&mut self, what: What) {
        if let Some(probe) = &mut self.probe {
            probe.refute(what);
        }
    }

    /// Two resources of one conditional create were met in ordinary traffic.
    fn doubles_were_seen(&self) -> bool {
        let finding = self.probe.as_ref().and_then(|probe| probe.finding(What::ConditionalParallel));
        finding.is_some_and(|finding| finding.tries == 0 && finding.seen == crate::probe::Seen::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::probe::Seen;

    #[test]
    fn what_traffic_disproved_during_a_probe_stays_disproved() {
        let before = MeansPlan { observation_update_create: Proof::Proven, batch_limit: 10, ..MeansPlan::default() };
        let probe = Probe { at: Timestamp(1), software: None, whole: true, findings: Vec::new() };
        let after = MeansPlan { conditional_create: Proof::Proven, if_match: Proof::Proven, probe: Some(probe.clone()), ..before.clone() };
        let mut now = MeansPlan { observation_update_create: Proof::Refused, batch_limit: 40, ..before.clone() };
        now.take_over(&before, &after);
        assert_eq!((now.observation_update_create, now.conditional_create, now.if_match), (Proof::Refused, Proof::Proven, Proof::Proven));
        assert_eq!((now.batch_limit, &now.probe), (40, &Some(probe)));

        // A double that was met meanwhile is not forgotten by the probe that did not meet it.
        let mut met = now.clone();
        met.refute(What::ConditionalParallel);
        met.take_over(&now, &after);
        assert_eq!(met.probe.unwrap().seen(What::ConditionalParallel), Seen::Refused);
    }
}
