//! `PUT` of an id of ours, `If-None-Match: *` on it, and what of a create comes back.

use super::{Base, Bench, learn};
use crate::client::Put;
use crate::reply::Outcome;
use model::{Class, EhrId, Proof, Seen, What};
use std::time::Instant;

impl Bench<'_> {
    /// Means 2; the resource, where it was created.
    pub(super) async fn own_id(&mut self) -> Result<Option<Base>, Box<Outcome>> {
        let (value, since) = (self.begin(), Instant::now());
        let Ok(id) = EhrId::new(value.as_str()) else { return Ok(None) };
        let body = self.record(&value, 1, Some(&id), "final");
        let outcome = self.ehr.put("Observation", &id, body, Put::OwnId, &self.call()).await.outcome;
        self.note(&value, &outcome);
        let (seen, base) = match outcome.class {
            Class::Applied => {
                let base = Base { id: id.clone(), value, version: outcome.ehr_version.clone(), mark: 1 };
                let look = self.look(&base).await;
                self.find(What::ReadAfterWrite, if look.is_some() { Seen::Proven } else { Seen::Refused }, since);
                let there = look.is_some_and(|look| look.id.as_ref() == Some(&id) && (look.carries || look.ours));
                // Nobody else has this id, so it was created, whatever the status says.
                self.plan.put_tells_created = if outcome.status == Some(200) { Proof::Refused } else { Proof::Proven };
                (if there { Seen::Proven } else { Seen::Refused }, there.then_some(base))
            }
            Class::MeansRefused => (Seen::Refused, None),
            // No answer, or one that says nothing of the means.
            _ => return Err(Box::new(outcome)),
        };
        self.find(What::OwnId, seen, since);
        learn(&mut self.plan.observation_update_create, seen);
        Ok(base)
    }

    /// Means 2a: the second `PUT` has to be refused, and to change nothing.
    pub(super) async fn if_none_match(&mut self, base: &mut Base) {
        let since = Instant::now();
        let body = self.record(&base.value, base.mark + 1, Some(&base.id), "amended");
        let outcome = self.ehr.put("Observation", &base.id, body, Put::OwnIdUnlessThere, &self.call()).await.outcome;
        let look = self.look(base).await;
        let unchanged = look.as_ref().is_some_and(|look| look.version == base.version);
        let seen = match (outcome.class, outcome.status) {
            (Class::Conflict, Some(412)) if unchanged => Seen::Proven,
            (Class::Applied, _) => Seen::Refused,
            _ => Seen::NotSeen,
        };
        if let Some(look) = look {
            if look.version != base.version {
                base.mark += 1;
            }
            base.version = look.version;
        }
        self.find(What::IfNoneMatch, seen, since);
        learn(&mut self.plan.if_none_match, seen);
    }

    /// What comes back of what was sent: identifier, mark, digits.
    pub(super) async fn kept(&mut self, base: &Base) {
        let since = Instant::now();
        let look = self.look(base).await;
        if self.seen(What::ReadAfterWrite) == Seen::NotTried {
            self.find(What::ReadAfterWrite, if look.is_some() { Seen::Proven } else { Seen::Refused }, since);
        }
        let Some(look) = look else { return };
        let as_seen = |good: bool| if good { Seen::Proven } else { Seen::Refused };
        self.find(What::IdentifierKept, as_seen(look.carries), since);
        self.find(What::Digits, as_seen(look.digits), since);
    }

    /// Means 4: only to have something to go on with.
    pub(super) async fn plain(&mut self) -> Result<Base, Box<Outcome>> {
        let value = self.begin();
        let body = self.record(&value, 1, None, "final");
        let outcome = self.ehr.create("Observation", body, None, &self.call()).await.outcome;
        self.note(&value, &outcome);
        match (outcome.class, &outcome.ehr_id) {
            (Class::Applied, Some(id)) => Ok(Base { id: id.clone(), value, version: outcome.ehr_version.clone(), mark: 1 }),
            _ => Err(Box::new(outcome)),
        }
    }
}
