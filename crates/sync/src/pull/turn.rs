//! One pull while it runs: read the Patient, ask page by page, store each with its checkpoint, learn what the EHR obeys.
//!
//! No transaction is open during a request. Every write is fenced by the claim's epoch; a lost lease ends the turn at once.

use super::ask::DENIED_MS;
use super::checkpoint::Checkpoint;
use super::row::{Reader, Row};
use super::walk::{Mode, NotByValue, Onward, Seen, Step, Walk, fingerprint};
use super::{connection_failed, missing, of_the_connection, wanted};
use crate::breaker;
use crate::engine::Engine;
use crate::lane::limit_ms;
use crate::reading::{self, Reading};
use ehr::client::{Call, Ehr, Next, SearchPage};
use ehr::reply::Outcome;
use fhir::operation_outcome::OperationOutcome;
use model::{Class, EhrId, Patient, Proof, Timestamp};
use std::collections::HashSet;
use store::lane::Fenced;
use store::{Error, PullClaim, PullState, PulledObservation, PulledResult, Runtime, StoredConnection};

/// A whole read follows behind a walk by value when the last is older than this, ms: timestamps skip rows, and searches
/// never show a delete.
const WHOLE_EVERY_MS: i64 = 7 * 86_400_000;
/// A pull reaches back at least so far, ms: some servers stamp whole seconds (REAL-SERVERS §3).
const LEAST_OVERLAP_MS: i64 = 2000;

/// How a pull ended.
pub(super) enum End {
    /// Everything was read.
    Complete { watermark: Option<Timestamp>, full: bool },
    /// It could not go on now; the checkpoint is kept.
    NotNow { outcome: &'static str, message: String, again_at: Option<Timestamp> },
    /// A person's word keeps it from going on; the checkpoint is kept, and it goes on as soon as that word is another.
    NotWanted { outcome: &'static str, message: &'static str },
    /// It cannot be told that everything was read; what was read is kept, and the next one begins at the watermark again.
    Incomplete { message: String },
    /// The lease is somebody else's.
    Lost,
}

impl End {
    pub(super) fn not_now(outcome: &'static str, message: &str, again_at: Option<Timestamp>) -> Self {
        Self::NotNow { outcome, message: message.to_owned(), again_at }
    }
}

/// A pull while it runs.
pub(super) struct Turn<'a> {
    pub(super) engine: &'a Engine,
    pub(super) claim: &'a PullClaim,
    pub(super) ehr: Ehr,
    pub(super) reader: Reader,
    patient: Patient,
    state: PullState,
    stored: StoredConnection,
    pub(super) runtime: Runtime,
    pub(super) ehr_id: EhrId,
    lease_until: Timestamp,
    /// (id, version) met in this pull: an overlap costs nothing.
    met: HashSet<(String, String)>,
    /// `_lastUpdated` was refused in this pull; if the list can be read without it, that is remembered.
    pub(super) refused_value: bool,
}

impl<'a> Turn<'a> {
    #[allow(clippy::too_many_arguments, reason = "what a claim gives, taken apart once")]
    pub(super) fn new(
        engine: &'a Engine,
        claim: &'a PullClaim,
        ehr: Ehr,
        patient: Patient,
        state: PullState,
        stored: StoredConnection,
        runtime: Runtime,
        ehr_id: EhrId,
    ) -> Self {
        let connection = &stored.connection;
        let reader = Reader {
            patient: patient.id,
            ehr_id: ehr_id.clone(),
            base_url: connection.base_url.clone(),
            identifier_system: connection.identifier_system.clone(),
        };
        let lease_until = claim.lease_until();
        Self { engine, claim, ehr, reader, patient, state, stored, runtime, ehr_id, lease_until, met: HashSet::new(), refused_value: false }
    }

    pub(super) async fn run(&mut self) -> Result<End, Error> {
        let server_date = match self.read_patient().await? {
            Ok(server_date) => server_date,
            Err(end) => return Ok(end),
        };
        let mut at = self.begin(server_date);
        loop {
            let Some(step) = self.page(&mut at).await? else { return Ok(End::Lost) };
            match step {
                Stepped::On => {}
                Stepped::Ended(end) => return Ok(end),
                Stepped::Done => match at.walk.mode() {
                    Mode::Value if at.review_due => at.walk = Walk::whole(true),
                    Mode::Value => break,
                    Mode::Whole | Mode::Review => {
                        at.full = true;
                        break;
                    }
                },
            }
        }
        self.learn(&at).await?;
        if at.full
            && let Some(end) = missing::look(self, &mut at).await?
        {
            return Ok(end);
        }
        self.conclude(&at).await
    }

    /// The linked Patient first. `Ok` with the server's `Date`, or how the pull ended.
    async fn read_patient(&mut self) -> Result<Result<Option<Timestamp>, End>, Error> {
        let call = || self.call(false);
        let (reading, outcome) = reading::read_patient(&self.ehr, &self.patient, &self.ehr_id, &call).await;
        let now = self.engine.now();
        if let Some(change) = reading.link(&self.patient, now)
            && self.claim.settle_link(now, change).await? == Fenced::Lost
        {
            return Ok(Err(End::Lost));
        }
        match reading {
            Reading::Good { .. } => {
                self.works().await?;
                Ok(Ok(outcome.server_date))
            }
            Reading::Problem { problem, .. } => {
                let tenant = self.claim.tenant();
                tracing::warn!(tenant = %tenant.id(), patient = %self.patient.id, ?problem, "a linked Patient no longer agrees; the patient is held");
                let denied = outcome.class == Class::AuthDenied;
                if denied && self.engine.denied.note(tenant.id(), self.patient.id) {
                    let until = self.connection_failed(&outcome, Class::AuthDenied).await?;
                    return Ok(Err(End::not_now("credentials_refused", breaker::sentence(Class::AuthDenied), Some(until))));
                }
                let (word, again_at) = if denied { ("access_denied", Some(now.plus_ms(DENIED_MS))) } else { ("patient_unlinked", None) };
                Ok(Err(End::not_now(word, reading::sentence(problem), again_at)))
            }
            Reading::NotRead { class } => {
                let class = if of_the_connection(class) || class == Class::Gone { class } else { Class::BadResponse };
                let until = self.connection_failed(&outcome, class).await?;
                Ok(Err(End::not_now("pull_incomplete", breaker::sentence(class), Some(until))))
            }
        }
    }

    /// Takes up where the last one stopped, or begins.
    fn begin(&self, server_date: Option<Timestamp>) -> Checkpoint {
        let now = self.engine.now();
        if let Some(at) = self.state.checkpoint.as_deref().and_then(|note| Checkpoint::take_up(note, &self.ehr_id, now)) {
            return at;
        }
        let by_value = self.runtime.plan.last_updated.may_try();
        let overlap = self.stored.connection.pull_overlap_ms.max(LEAST_OVERLAP_MS);
        let from = self.state.watermark.map(|watermark| watermark.plus_ms(-overlap));
        let horizon = server_date.map_or(now, |date| date.min(now));
        let walk = if by_value { Walk::by_value(from, Some(horizon)) } else { Walk::whole(false) };
        let mut at = Checkpoint::begin(self.ehr_id.clone(), now, server_date, walk);
        // From the very beginning the walk by value is a whole read itself.
        at.full = by_value && from.is_none();
        at.review_due = !at.full && self.state.last_full_at.is_none_or(|last| now.ms_since(last) >= WHOLE_EVERY_MS);
        at
    }

    /// One page: asked, read, stored. `None`: the lease is lost.
    async fn page(&mut self, at: &mut Checkpoint) -> Result<Option<Stepped>, Error> {
        if let Err(end) = self.goes_on().await? {
            return Ok(Some(Stepped::Ended(end)));
        }
        if !self.keep_lease(at).await? {
            return Ok(None);
        }
        let ask = at.walk.ask();
        let answer = self.ask(&ask, at.walk.count).await;
        let Some(SearchPage { page, next }) = answer.content else {
            return self.not_answered(at, &ask, answer.outcome).await.map(Some);
        };
        at.withheld |= page.outcomes.iter().any(OperationOutcome::withholds);
        at.unreadable += page.unreadable as u64;
        let mut rows = Vec::new();
        let mut seen = Seen::default();
        for entry in &page.entries {
            match self.reader.read(entry) {
                Row::Own { row, last_updated } => self.own(at, *row, last_updated, &mut rows, &mut seen),
                Row::Foreign { .. } => at.foreign += 1,
                Row::Other => {}
                Row::Empty(id) => match self.read_one(&id).await {
                    Row::Own { row, last_updated } => self.own(at, *row, last_updated, &mut rows, &mut seen),
                    Row::Foreign { .. } => at.foreign += 1,
                    Row::Other | Row::Empty(_) | Row::Unreadable => at.unreadable += 1,
                },
                Row::Unreadable => at.unreadable += 1,
            }
        }
        seen.next = match next {
            Next::End => Onward::End,
            Next::Page(url) => Onward::Link(url.into()),
            Next::Refused(_) => Onward::Foreign,
        };
        let step = at.walk.page(&seen);
        if let Step::Whole(why) = step {
            tracing::info!(tenant = %self.claim.tenant().id(), ?why, "the walk by value will not do here; the list is read whole");
            if why == NotByValue::Ignored {
                self.plan_last_updated(Proof::Refused).await?;
            }
            at.walk = Walk::whole(false);
        }
        if !self.store(at, rows).await? {
            return Ok(None);
        }
        Ok(Some(match step {
            Step::On | Step::Whole(_) => Stepped::On,
            Step::Done => Stepped::Done,
            Step::Stuck(stuck) => Stepped::Ended(self.incomplete(at, stuck.sentence()).await?),
        }))
    }

    /// Whether it is still to go on: what an admin turns off is off from the next request on. Other changes hold from the next pull on.
    pub(super) async fn goes_on(&self) -> Result<Result<(), End>, Error> {
        Ok(wanted(self.claim.tenant().connection().await?).map(drop))
    }

    /// A row of this patient: into the walk, and to the store unless it was met in this pull.
    fn own(
        &mut self,
        at: &mut Checkpoint,
        row: PulledObservation,
        last_updated: Option<Timestamp>,
        rows: &mut Vec<PulledObservation>,
        seen: &mut Seen,
    ) {
        let key = (row.ehr_id.as_str().to_owned(), row.ehr_version.clone());
        seen.rows.push((last_updated.map(|stamp| stamp.0), fingerprint(&key)));
        at.largest = at.largest.max(last_updated.map(|stamp| stamp.0));
        if self.met.insert(key) {
            at.own += 1;
            rows.push(row);
        }
    }

    /// Stores rows and the note behind them; lengthens the lease. False: it is lost.
    pub(super) async fn store(&mut self, at: &Checkpoint, rows: Vec<PulledObservation>) -> Result<bool, Error> {
        self.write(&at.note(), rows).await
    }

    async fn write(&mut self, note: &str, rows: Vec<PulledObservation>) -> Result<bool, Error> {
        let now = self.engine.now();
        let (fenced, results) = self.claim.store_page(now, rows, note, self.engine.lease_ms).await?;
        self.lease_until = now.plus_ms(self.engine.lease_ms);
        for (word, kind) in [("created", PulledResult::Created), ("updated", PulledResult::Updated), ("unchanged", PulledResult::Unchanged)]
        {
            let n = results.iter().filter(|result| **result == kind).count();
            metrics::counter!("ponte_pull_resources_total", "result" => word).increment(n as u64);
        }
        Ok(fenced == Fenced::Mine)
    }

    /// Lengthens the lease where a request and the writing of its result would not fit into what is left. False: it is lost.
    pub(super) async fn keep_lease(&mut self, at: &Checkpoint) -> Result<bool, Error> {
        let need = limit_ms(self.engine, &self.stored) + self.engine.margin_ms();
        if self.lease_until.ms_since(self.engine.now()) >= need {
            return Ok(true);
        }
        self.store(at, Vec::new()).await
    }

    pub(super) fn now(&self) -> Timestamp {
        self.engine.now()
    }

    /// A failure of the connection. Says when it may be used again.
    pub(super) async fn connection_failed(&self, outcome: &Outcome, class: Class) -> Result<Timestamp, Error> {
        connection_failed(self.engine, self.claim, &self.stored, &self.runtime, class, outcome.retry_after_ms).await
    }

    /// The EHR answered: whoever waited for that goes on.
    async fn works(&mut self) -> Result<(), Error> {
        let tenant = self.claim.tenant();
        self.engine.denied.forget(tenant.id());
        if self.runtime.failed_last() || self.runtime.down_since.is_some() {
            tenant.connection_works(self.engine.now(), false, false).await?;
            self.runtime = Runtime { plan: self.runtime.plan.clone(), down_total_ms: self.runtime.down_total_ms, ..Runtime::default() };
        }
        Ok(())
    }

    async fn learn(&mut self, at: &Checkpoint) -> Result<(), Error> {
        if self.refused_value {
            self.plan_last_updated(Proof::Refused).await?;
        } else if at.walk.obeyed() {
            self.plan_last_updated(Proof::Proven).await?;
        }
        Ok(())
    }

    async fn plan_last_updated(&mut self, proof: Proof) -> Result<(), Error> {
        if self.runtime.plan.last_updated != proof {
            self.runtime.plan.last_updated = proof;
            let change = Box::new(move |plan: &mut model::MeansPlan| plan.last_updated = proof);
            self.claim.tenant().change_plan(self.stored.generation, change).await?;
        }
        Ok(())
    }

    /// Everything was asked; was everything told?
    async fn conclude(&mut self, at: &Checkpoint) -> Result<End, Error> {
        if at.foreign > 0 {
            tracing::warn!(tenant = %self.claim.tenant().id(), rows = at.foreign, "the EHR answered with rows of other patients; they were left out");
            metrics::counter!("ponte_pull_resources_total", "result" => "foreign").increment(at.foreign);
        }
        if at.withheld {
            return self
                .incomplete(at, "The EHR says that it withholds a part of this patient's observations. The hospital widens our permission.")
                .await;
        }
        if at.unreadable > 0 {
            let message =
                format!("{} of the EHR's rows could not be read. The hospital looks at them; the others were taken.", at.unreadable);
            return self.incomplete(at, &message).await;
        }
        if at.foreign > 0 && at.own == 0 {
            let message =
                "The EHR answered with rows of other patients only. The hospital looks at its search by patient; nothing was taken.";
            return self.incomplete(at, message).await;
        }
        Ok(End::Complete { watermark: at.watermark(self.state.watermark), full: at.full })
    }

    /// What was read is kept; the note goes, so that the next pull begins at the watermark again.
    pub(super) async fn incomplete(&mut self, _: &Checkpoint, message: &str) -> Result<End, Error> {
        if !self.write("", Vec::new()).await? {
            return Ok(End::Lost);
        }
        Ok(End::Incomplete { message: message.to_owned() })
    }

    pub(super) fn call(&self, strict: bool) -> Call {
        Call {
            request_id: Some(self.engine.rng.uuid_v7(self.engine.now()).to_string()),
            only_if: None,
            // Some servers repeat the result of the same search for a minute (HAPI).
            after_loss: true,
            strict,
            deadline_ms: Some(limit_ms(self.engine, &self.stored)),
        }
    }
}

/// Where a page led.
pub(super) enum Stepped {
    /// Ask on.
    On,
    /// This walk is at its end.
    Done,
    /// The pull is.
    Ended(End),
}
