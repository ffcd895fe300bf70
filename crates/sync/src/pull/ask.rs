//! The questions of a pull and what becomes of one that is not answered.

use super::checkpoint::Checkpoint;
use super::of_the_connection;
use super::row::Row;
use super::turn::{End, Stepped, Turn};
use super::walk::{Ask, Step, Walk};
use crate::breaker;
use ehr::client::{Answer, SearchPage};
use ehr::reply::Outcome;
use fhir::search::Query;
use model::{Class, EhrId, Proof};
use store::Error;
use url::Url;

/// A read that is answered with garbage is made so often in all (PRODUCT, outcome table, last row).
const READS: usize = 3;
/// A patient that the EHR denies us is looked at again after this, ms.
pub(super) const DENIED_MS: i64 = 6 * 3_600_000;
/// Pages that take too long are asked for smaller, but not below this.
const SMALL: u32 = 25;

impl Turn<'_> {
    /// Asks for a page.
    pub(super) async fn ask(&self, ask: &Ask, count: u32) -> Answer<SearchPage> {
        let mut answer = self.ask_once(ask, count).await;
        for _ in 1..READS {
            // A page that was too large comes too large again.
            if answer.outcome.class != Class::BadResponse || answer.outcome.status.is_none() {
                break;
            }
            answer = self.ask_once(ask, count).await;
        }
        answer
    }

    async fn ask_once(&self, ask: &Ask, count: u32) -> Answer<SearchPage> {
        let query = Query::new().with("patient", self.ehr_id.as_str());
        let (query, strict) = match ask {
            Ask::Link(link) => {
                return match Url::parse(link).ok().filter(|url| url.origin() == self.ehr.base().origin()) {
                    Some(url) => self.ehr.next_page(&url, &self.call(false)).await,
                    None => lost_link(),
                };
            }
            Ask::From(from) => {
                let from = from.map(|from| format!("ge{from}"));
                let query = match from {
                    Some(from) => query.with("_lastUpdated", from),
                    None => query,
                };
                (query.with("_sort", "_lastUpdated"), true)
            }
            Ask::List => (query, false),
        };
        let query = query.with("_count", count.to_string());
        if self.runtime.plan.post_search == Proof::Proven {
            self.ehr.post_search("Observation", &query, &self.call(strict)).await
        } else {
            self.ehr.search("Observation", &query, &self.call(strict)).await
        }
    }

    /// A page that did not come: asked for otherwise, or the end of this pull.
    pub(super) async fn not_answered(&mut self, at: &mut Checkpoint, ask: &Ask, outcome: Outcome) -> Result<Stepped, Error> {
        let class = outcome.class;
        let too_large = class == Class::TooLarge || (class == Class::BadResponse && outcome.status.is_none());
        if too_large && at.walk.halve() {
            return Ok(Stepped::On);
        }
        match (ask, class) {
            (Ask::Link(_), Class::Gone | Class::Validation | Class::Conflict) => match at.walk.link_lost() {
                Step::Stuck(stuck) => Ok(Stepped::Ended(self.incomplete(at, stuck.sentence()).await?)),
                Step::On | Step::Done | Step::Whole(_) => Ok(Stepped::On),
            },
            // It does not take `_lastUpdated` or `_sort`: without them, then.
            (Ask::From(_), Class::Validation) => {
                self.refused_value = true;
                at.walk = Walk::whole(false);
                Ok(Stepped::On)
            }
            (_, Class::AuthDenied) => {
                let again_at = self.engine.now().plus_ms(DENIED_MS);
                let message = "The EHR denies us this patient's observations. The hospital grants access; we look again by ourselves.";
                Ok(Stepped::Ended(End::not_now("access_denied", message, Some(again_at))))
            }
            _ if of_the_connection(class) => {
                if class == Class::Unreachable && at.walk.count > SMALL {
                    // It may have been too much to gather.
                    at.walk.halve();
                }
                if !self.store(at, Vec::new()).await? {
                    return Ok(Stepped::Ended(End::Lost));
                }
                let until = self.connection_failed(&outcome, class).await?;
                Ok(Stepped::Ended(End::not_now("pull_incomplete", breaker::sentence(class), Some(until))))
            }
            _ => {
                let words = outcome.message.unwrap_or_default();
                let message = format!("The EHR refuses the search for this patient's observations. {words}");
                Ok(Stepped::Ended(self.incomplete(at, message.trim_end()).await?))
            }
        }
    }

    /// Reads one Observation by id.
    pub(super) async fn read_one(&self, id: &EhrId) -> Row {
        let outcome = self.read_outcome(id).await;
        match outcome.resource.filter(|_| outcome.class == Class::Applied) {
            Some(raw) => self.reader.read_raw(&raw, Some(id)),
            None => Row::Unreadable,
        }
    }

    /// The same, as the EHR answered.
    pub(super) async fn read_outcome(&self, id: &EhrId) -> Outcome {
        let mut outcome = self.ehr.read("Observation", id, &self.call(false)).await.outcome;
        for _ in 1..READS {
            if outcome.class != Class::BadResponse {
                break;
            }
            outcome = self.ehr.read("Observation", id, &self.call(false)).await.outcome;
        }
        outcome
    }
}

/// A link of another origin can only be one of another time: its session is lost.
fn lost_link() -> Answer<SearchPage> {
    Answer {
        outcome: Outcome::ours(Class::Gone, "The next link is not of this EHR any more."),
        content: None,
        late: None,
        elapsed_ms: None,
    }
}
