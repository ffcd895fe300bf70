//! What becomes of a create whose line we cut (REAL-SERVERS §0: a hang-up is not an abort).

use super::search::Pauses;
use super::{Bench, record::SYSTEM};
use crate::client::Way;
use crate::reply::Outcome;
use model::{Class, EhrId, Seen, What};
use std::time::Instant;

/// A server that answers before we can hang up is tried so often.
const TRIES: u32 = 3;

impl Bench<'_> {
    /// Sends, cuts, and looks for it. Not where neither id nor search would show it: it could not be withdrawn.
    pub(super) async fn hang_up(&mut self) {
        if self.seen(What::OwnId) != Seen::Proven && self.seen(What::SearchFinds) != Seen::Proven {
            return;
        }
        let began = Instant::now();
        for tries in 1..=TRIES {
            if !self.may_go_on() {
                break;
            }
            let value = self.begin();
            let Some(own) = EhrId::new(value.as_str()).ok().map(|id| (self.seen(What::OwnId) == Seen::Proven).then_some(id)) else {
                return;
            };
            let body = self.record(&value, 1, own.as_ref(), "final");
            let condition = (self.seen(What::ConditionalTwice) == Seen::Proven).then_some((SYSTEM, value.as_str()));
            let way = own.as_ref().map_or(Way::Post(condition), Way::OwnId);
            let answered = self.ehr.create_and_hang_up("Observation", body, way, &self.call()).await;
            let since = Instant::now();
            if let Some(outcome) = &answered {
                self.note(&value, outcome);
                if outcome.class != Class::Uncertain {
                    continue;
                }
            }
            self.note(&value, &Outcome::ours(Class::Uncertain, "The line was cut on purpose."));
            let mut pauses = Pauses::new(self.longest_wait_ms);
            let seen = loop {
                if let Some(id) = self.is_there(&value, own.as_ref()).await {
                    self.note_id(&value, id);
                    break Seen::Proven;
                }
                if !self.may_go_on() || !pauses.wait().await {
                    break Seen::NotSeen;
                }
            };
            self.find_counted(What::HangUp, seen, tries, since, None);
            return;
        }
        self.find_counted(What::HangUp, Seen::NotTried, TRIES, began, None);
    }

    /// By its id where that is ours, else by a search.
    pub(super) async fn is_there(&self, value: &str, own: Option<&EhrId>) -> Option<EhrId> {
        match own {
            Some(id) => self.ehr.read("Observation", id, &self.call()).await.outcome.ehr_id,
            None => self.carrying(value).await?.into_iter().next(),
        }
    }
}
