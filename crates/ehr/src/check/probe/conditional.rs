//! Conditional creates: twice in a row, and several at once. They can show that there is no lock, never that there is one.

use super::{Base, Bench, learn, record::SYSTEM};
use crate::reply::Outcome;
use futures::future::join_all;
use model::{Class, Seen, What};
use std::time::Instant;

/// How many at once.
const AT_ONCE: usize = 8;
/// How often.
const ROUNDS: u32 = 3;

impl Bench<'_> {
    /// Means 3: the second request has to find what the first has made. The resource, where one was created.
    pub(super) async fn conditional_twice(&mut self) -> Result<Option<Base>, Box<Outcome>> {
        let (value, since) = (self.begin(), Instant::now());
        let body = self.record(&value, 1, None, "final");
        let first = self.ehr.create("Observation", body.clone(), Some((SYSTEM, &value)), &self.call()).await.outcome;
        self.note(&value, &first);
        let id = match (first.class, first.ehr_id.clone()) {
            (Class::Applied, Some(id)) => id,
            // Not taken; or a 200 for an identifier that nobody has: the condition matches anything.
            (Class::MeansRefused | Class::Exists | Class::MultipleMatches, _) => {
                self.find(What::ConditionalTwice, Seen::Refused, since);
                learn(&mut self.plan.conditional_create, Seen::Refused);
                return Ok(None);
            }
            _ => return Err(Box::new(first)),
        };
        let second = self.ehr.create("Observation", body, Some((SYSTEM, &value)), &self.call()).await.outcome;
        self.note(&value, &second);
        let seen = match second.class {
            Class::Exists if second.ehr_id.as_ref().is_none_or(|found| *found == id) => Seen::Proven,
            Class::Applied | Class::Exists | Class::MeansRefused | Class::MultipleMatches => Seen::Refused,
            _ => Seen::NotSeen,
        };
        self.find_counted(What::ConditionalTwice, seen, 2, since, None);
        learn(&mut self.plan.conditional_create, seen);
        Ok(Some(Base { id, value, version: first.ehr_version, mark: 1 }))
    }

    /// Counts what is stored of one identifier when several requests for it run at once: also where the second of two in a row
    /// failed (HAPI 5.4 answers 500 to it), for what is stored is counted, and not what is answered.
    pub(super) async fn conditional_parallel(&mut self) {
        if !matches!(self.seen(What::ConditionalTwice), Seen::Proven | Seen::NotSeen) {
            return;
        }
        let since = Instant::now();
        let (mut most, mut tries) = (0, 0);
        while tries < ROUNDS && most < 2 && self.may_go_on() {
            let value = self.begin();
            let calls: Vec<_> = (0..AT_ONCE).map(|_| (self.record(&value, 1, None, "final"), self.call())).collect();
            let creates = calls.iter().map(|(body, call)| self.ehr.create("Observation", body.clone(), Some((SYSTEM, &value)), call));
            for answer in join_all(creates).await {
                self.note(&value, &answer.outcome);
            }
            for found in self.carrying(&value).await.unwrap_or_default() {
                self.note_id(&value, found);
            }
            let stored = self.written.iter().find(|written| written.value == value).map_or(0, |written| written.ids.len());
            most = most.max(u32::try_from(stored).unwrap_or(u32::MAX));
            tries += 1;
        }
        let seen = if most > 1 { Seen::Refused } else { Seen::NotSeen };
        self.find_counted(What::ConditionalParallel, seen, tries, since, Some(most));
    }
}
