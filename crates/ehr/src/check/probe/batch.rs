//! One batch of four: a create, a read of what is not there, and two writes whose preconditions do not hold.

use super::{Base, Bench, learn, record::SYSTEM};
use crate::client::Entry;
use crate::reply::{Interaction, Outcome};
use fhir::bundle::BatchEntry;
use fhir::search::{if_match, if_none_exist};
use model::{Class, EhrId, Seen, What};
use serde_json::value::RawValue;
use std::time::Instant;

/// A version that no resource of the probe has any more, or ever had.
const STALE: &str = "ponte-stale";

impl Bench<'_> {
    /// The entries have to be judged one by one, and the preconditions inside to be honoured.
    pub(super) async fn batch(&mut self, base: &Base, second: Option<&Base>) {
        let since = Instant::now();
        let made = self.begin();
        let nobody = self.rng.uuid_v7(self.clock.now()).to_string();
        let (Some(create), Ok(read)) = (self.create_entry(&made), EhrId::new(nobody.as_str())) else { return };
        let mut entries = vec![
            create,
            Entry {
                entry: BatchEntry::get(format!("Observation/{read}")),
                interaction: Interaction::Read { resource_type: "Observation".to_owned() },
            },
        ];
        // An id of ours stands for what a create would meet; the other resource gets the stale version.
        let (locked, mut stale) = match (self.seen(What::OwnId) == Seen::Proven, second) {
            (true, Some(second)) => (Some(base.clone()), Some(second.clone())),
            (true, None) => (Some(base.clone()), None),
            (false, _) => (None, Some(base.clone())),
        };
        entries.extend(locked.as_ref().and_then(|base| self.put_entry(base, false)));
        entries.extend(stale.as_ref().and_then(|base| self.put_entry(base, true)));
        let asked = entries.len();
        let answer = self.ehr.batch(entries, &self.call()).await;
        let Some(outcomes) = answer.content.filter(|outcomes| outcomes.len() == asked) else {
            let seen = match answer.outcome.class {
                Class::MeansRefused | Class::Validation | Class::Gone => Seen::Refused,
                _ => Seen::NotSeen,
            };
            if seen == Seen::NotSeen {
                self.note(&made, &Outcome::ours(Class::Uncertain, "The answer to the batch was lost."));
            }
            self.find(What::Batch, seen, since);
            learn(&mut self.plan.batch, seen);
            return;
        };
        let class = |at: usize| outcomes.get(at).map(|outcome| outcome.class);
        if let Some(created) = outcomes.first() {
            self.note(&made, created);
        }
        let seen = match (class(0), class(1)) {
            (Some(Class::Applied), Some(read)) if read != Class::Applied => Seen::Proven,
            (Some(Class::Uncertain), _) => Seen::NotSeen,
            _ => Seen::Refused,
        };
        self.find(What::Batch, seen, since);
        learn(&mut self.plan.batch, seen);
        let mut at = 2;
        if let Some(mut base) = locked {
            let seen = match class(at) {
                Some(class) => self.refused_and_unchanged(&mut base, class).await,
                None => Seen::NotTried,
            };
            self.find(What::IfNoneMatchInBatch, seen, since);
            learn(&mut self.plan.if_none_match_in_batch, seen);
            at += 1;
        }
        if let (Some(base), Some(class)) = (&mut stale, class(at)) {
            let seen = self.refused_and_unchanged(base, class).await;
            self.find(What::IfMatchInBatch, seen, since);
            // Updates go in batches too: what does not hold there does not hold.
            if seen == Seen::Refused {
                learn(&mut self.plan.if_match, seen);
            }
        }
    }

    /// By the best means that the probe has seen to work.
    fn create_entry(&self, value: &str) -> Option<Entry> {
        if self.seen(What::OwnId) == Seen::Proven {
            let id = EhrId::new(value).ok()?;
            let body = RawValue::from_string(self.record(value, 1, Some(&id), "final")).ok()?;
            let entry = BatchEntry::put(format!("{}/Observation/{id}", self.base_url()), "Observation", id.as_str(), body, None);
            return Some(Entry { entry, interaction: self.ehr.own_id_create("Observation", &id) });
        }
        let body = RawValue::from_string(self.record(value, 1, None, "final")).ok()?;
        let full_url = format!("urn:uuid:{value}");
        if self.seen(What::ConditionalTwice) == Seen::Proven {
            let entry = BatchEntry::post(full_url, "Observation", body, Some(if_none_exist(SYSTEM, value)));
            return Some(Entry { entry, interaction: self.ehr.conditional_create("Observation") });
        }
        let entry = BatchEntry::post(full_url, "Observation", body, None);
        Some(Entry { entry, interaction: Interaction::PlainCreate { resource_type: "Observation".to_owned() } })
    }

    /// A write that has to be refused: by `ifNoneMatch: *`, or by a stale `ifMatch`.
    fn put_entry(&self, base: &Base, stale: bool) -> Option<Entry> {
        let body = RawValue::from_string(self.record(&base.value, base.mark + 1, Some(&base.id), "amended")).ok()?;
        let full_url = format!("{}/Observation/{}", self.base_url(), base.id);
        let matching = if stale { if_match(STALE) } else { None };
        let entry = BatchEntry::put(full_url, "Observation", base.id.as_str(), body, matching);
        let interaction = Interaction::Update { resource_type: "Observation".to_owned(), id: base.id.clone() };
        Some(Entry { entry: if stale { entry } else { entry.unless_there() }, interaction })
    }

    fn base_url(&self) -> &str {
        self.ehr.base().as_str().trim_end_matches('/')
    }
}
