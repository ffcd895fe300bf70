//! Searching by our identifier: does it find, how soon, and does it find nothing else.

use super::{Base, Bench, learn, record, record::SYSTEM};
use crate::client::Call;
use fhir::search::Query;
use model::{Class, EhrId, Seen, What};
use std::time::{Duration, Instant};

/// Between two looks, ms: twice as long each time, up to half a second.
const FIRST_PAUSE_MS: u64 = 25;
const LONGEST_PAUSE_MS: u64 = 500;

impl Bench<'_> {
    /// The search that decides about uncertain creates (means 3 and 4).
    pub(super) async fn search(&mut self, base: &Base) {
        let since = Instant::now();
        let nobody = Query::new().token("identifier", SYSTEM, &self.rng.uuid_v7(self.clock.now()).to_string());
        let obeyed = self.ehr.search("Observation", &nobody, &self.call()).await;
        let obeyed = match (&obeyed.content, obeyed.outcome.class) {
            (Some(found), _) if found.page.entries.is_empty() => Seen::Proven,
            (Some(_), _) | (None, Class::Validation) => Seen::Refused,
            (None, _) => Seen::NotSeen,
        };
        self.find(What::IdentifierObeyed, obeyed, since);

        let since = Instant::now();
        let strict = Call { strict: true, ..self.call() };
        let unknown = self.ehr.search("Observation", &nobody.clone().with("ponte-unknown", "1"), &strict).await;
        let refused = match (unknown.content.is_some(), unknown.outcome.class) {
            (false, Class::Validation) => Seen::Proven,
            (true, _) => Seen::Refused,
            (false, _) => Seen::NotSeen,
        };
        self.find(What::UnknownParameter, refused, since);

        let (since, mut tries) = (Instant::now(), 0);
        let mut finds = Seen::NotSeen;
        let mut pauses = Pauses::new(self.longest_wait_ms);
        loop {
            tries += 1;
            match self.carrying(&base.value).await {
                Some(found) if found.contains(&base.id) => {
                    finds = Seen::Proven;
                    break;
                }
                Some(_) => finds = Seen::Refused,
                None => {}
            }
            if !self.may_go_on() || !pauses.wait().await {
                break;
            }
        }
        self.find_counted(What::SearchFinds, finds, tries, since, None);
        // Not found within the settle time is as good as never: after it an empty search would be believed.
        let all = [self.seen(What::IdentifierKept), obeyed, finds];
        let together = if all.contains(&Seen::Refused) {
            Seen::Refused
        } else if all.iter().all(|seen| *seen == Seen::Proven) {
            Seen::Proven
        } else {
            Seen::NotSeen
        };
        learn(&mut self.plan.identifier_search, together);
    }

    /// The ids of those rows of a search that carry this identifier; `None` where the search was not answered.
    pub(super) async fn carrying(&self, value: &str) -> Option<Vec<EhrId>> {
        let query = Query::new().token("identifier", SYSTEM, value).with("_count", (50 + self.rng.next_u64() % 50).to_string());
        let answer = self.ehr.search("Observation", &query, &Call { after_loss: true, ..self.call() }).await;
        let rows = answer.content?.page.entries;
        let looks = rows.iter().filter_map(|row| record::look(row.resource.as_ref()?.get(), value));
        Some(looks.filter(|look| look.carries).filter_map(|look| look.id).collect())
    }

    /// Notes one more resource of this identifier.
    pub(super) fn note_id(&mut self, value: &str, id: EhrId) {
        if let Some(written) = self.written.iter_mut().find(|written| written.value == value)
            && !written.ids.contains(&id)
        {
            written.ids.push(id);
        }
    }
}

/// Growing pauses up to a bound.
pub(super) struct Pauses {
    next_ms: u64,
    left_ms: u64,
}

impl Pauses {
    pub(super) fn new(bound_ms: i64) -> Self {
        Self { next_ms: FIRST_PAUSE_MS, left_ms: bound_ms.unsigned_abs() }
    }

    /// Waits once; false when the bound is reached.
    pub(super) async fn wait(&mut self) -> bool {
        if self.left_ms == 0 {
            return false;
        }
        let pause = self.next_ms.min(self.left_ms);
        self.left_ms -= pause;
        self.next_ms = (self.next_ms * 2).min(LONGEST_PAUSE_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        true
    }
}
