//! The judge: what the EHR really holds, by its own ledger, against what was observed.

use crate::world::World;
use model::{HeldReason, ObservationId, PatientId, State, WhoseMove};
use sandbox::{Author, Effect, Held, Ledger};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::DeliveryFilter;

/// The identifier system of our observations.
pub const SYSTEM: &str = "urn:ponte:observation";

impl World {
    /// The EHR's own ledger.
    pub fn ehr(&self) -> Ledger {
        self.ward.sandbox.ledger()
    }

    /// The living resources of the EHR that are this observation.
    pub fn at_ehr(&self, id: ObservationId) -> Vec<Held> {
        self.ehr().by_identifier(SYSTEM, &id.to_string()).into_iter().cloned().collect()
    }

    /// What was really written of it, in the order of commitment.
    pub fn effects(&self, id: ObservationId) -> Vec<Arc<Effect>> {
        self.ehr().effects_by_identifier(SYSTEM, &id.to_string()).into_iter().cloned().map(Arc::new).collect()
    }

    /// The living resource as the EHR stores it, digit for digit.
    pub fn stored(&self, id: ObservationId) -> Option<serde_json::Value> {
        let held = self.at_ehr(id);
        let [one] = held.as_slice() else { return None };
        serde_json::from_str(&self.ward.sandbox.resource("Observation", &one.id)?).ok()
    }

    /// The digits of the value that the EHR holds.
    pub fn score(&self, id: ObservationId) -> Option<String> {
        Some(self.stored(id)?.get("valueQuantity")?.get("value")?.to_string())
    }

    /// The EHR holds exactly one resource of it, with these digits.
    #[track_caller]
    pub fn holds(&self, id: ObservationId, score: &str) {
        let held = self.at_ehr(id);
        assert_eq!(held.len(), 1, "the EHR holds it {} times: {held:?}", held.len());
        assert_eq!(self.score(id).as_deref(), Some(score), "the EHR holds another value");
    }

    /// The EHR holds nothing of it.
    #[track_caller]
    pub fn holds_nothing(&self, id: ObservationId) {
        assert_eq!(self.effects(id).len(), 0, "something of it was written");
    }

    /// The versions of it that were committed by us, in order.
    pub fn versions(&self, id: ObservationId) -> Vec<i64> {
        self.effects(id).iter().filter(|effect| effect.by == Author::Client).map(|effect| testing::mark(effect).unwrap_or(-1)).collect()
    }

    /// Its newest version is known to be at the EHR.
    pub async fn is_delivered(&self, id: ObservationId) {
        let delivery = self.delivery(id).await;
        assert_eq!(delivery.state, State::Delivered, "{delivery:?}");
        assert!(self.observation(id).await.synced(), "the delivery is delivered, the observation is not synced");
    }

    /// Once, right patient, newest wins, nothing silent: over everything that was observed in this world.
    pub async fn judge(&self) {
        let ledger = self.ehr();
        assert_eq!(ledger.late_pending, 0, "the test ended before the EHR had");
        let ours = |held: &Held| held.sent_identifiers.iter().any(|i| i.system.as_deref() == Some(SYSTEM));
        let doubled: Vec<_> = ledger.doubled().into_iter().filter(|(_, held)| held.iter().all(|h| ours(h))).collect();
        assert!(doubled.is_empty(), "doubled: {doubled:?}");
        let observed = self.observed.lock().unwrap().clone();
        for (id, patient) in &observed {
            self.judge_one(*id, *patient).await;
        }
        self.nothing_is_silent().await;
    }

    async fn judge_one(&self, id: ObservationId, patient: PatientId) {
        let effects = self.effects(id);
        let touched = effects.iter().any(|effect| effect.by == Author::Hospital);
        let versions = self.versions(id);
        if !self.order_not_judged && !touched {
            assert!(versions.is_sorted(), "an older version was written over a newer one: {versions:?}");
        }
        let link = self.as_we_know(patient).await.link;
        let person_relinked = link.by_person();
        for effect in effects.iter().filter(|effect| effect.by == Author::Client && !person_relinked) {
            let subject = effect.subject.as_deref().unwrap_or_default();
            let right = link.ehr_id.as_ref().map(|id| format!("Patient/{id}"));
            assert!(right.is_some_and(|right| subject.ends_with(&right)), "it was written to {subject}, which is not its patient");
        }
        let here = self.observation(id).await;
        if here.synced() && !touched && self.ward_is_current().await {
            let stored = self.at_ehr(id);
            assert_eq!(stored.len(), 1, "said to be synced, and held {} times", stored.len());
            assert_eq!(versions.last(), Some(&here.version), "said to be synced, and the EHR holds another version");
        }
    }

    /// Whether this world's EHR is the one that the tenant's connection points to.
    async fn ward_is_current(&self) -> bool {
        self.tenant.connection().await.unwrap().is_some_and(|c| c.connection.base_url == self.ward.base)
    }

    /// Every row that is not delivered has a state, a reason, whose move it is, and the next automatic step (law 2).
    pub async fn nothing_is_silent(&self) {
        for delivery in self.listed(DeliveryFilter::default()).await {
            let shown = format!("{delivery:?}");
            match delivery.state {
                State::Delivered | State::Superseded | State::Canceled => {}
                State::InFlight => panic!("at rest and in flight: {shown}"),
                State::Dead => {
                    assert!(delivery.message.is_some(), "dead without a reason: {shown}");
                    assert_ne!(delivery.whose_move(), WhoseMove::Ponte, "dead, and nobody's move: {shown}");
                }
                State::Uncertain | State::RetryScheduled | State::Pending => {
                    assert!(delivery.next_attempt_at.is_some(), "it waits for nothing: {shown}");
                }
                State::Held(HeldReason::EarlierFirst | HeldReason::NextSweep | HeldReason::Settling | HeldReason::CircuitOpen) => {}
                State::Held(_) => assert_ne!(delivery.whose_move(), WhoseMove::Ponte, "held, and nobody's move: {shown}"),
            }
        }
    }

    /// Who came first at the EHR, of one patient's observations: their first effects, in the order of commitment.
    pub fn first_written(&self) -> BTreeMap<ObservationId, u64> {
        let observed = self.observed.lock().unwrap().clone();
        observed.iter().filter_map(|(id, _)| Some((*id, self.effects(*id).first()?.seq))).collect()
    }

    /// The order in which the observations of each patient came to the EHR is the order in which they were accepted.
    pub fn order_is_kept(&self) {
        let first = self.first_written();
        let observed = self.observed.lock().unwrap().clone();
        let mut last: BTreeMap<PatientId, u64> = BTreeMap::new();
        for (id, patient) in observed {
            let Some(seq) = first.get(&id) else { continue };
            let before = last.insert(patient, *seq).unwrap_or(0);
            assert!(*seq > before, "{id} overtook an earlier observation of its patient");
        }
    }
}
