//! One turn of one lane: gate, read Patients, ask, repeat, write, settle, give back.
//!
//! No transaction is open while a request is. Every result is written `WHERE epoch = mine`; a lost lease ends the turn.

use crate::breaker;
use crate::engine::Engine;
use crate::places::{Slot, Way};
use crate::probe::Probe;
use crate::settle::{Ended, Terms, settle_not_asked};
use crate::turn::{Turn, turn};
use crate::{ask, linking, push};
use ehr::client::Ehr;
use ehr::reply::Outcome;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use model::{AttemptId, Class, LinkState, PatientId, ResourceKey, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::lane::Fenced;
use store::{Begin, Claimed, Error, Lane, LinkChange, Opening, PatientWork, Runtime, Settlement, StoredConnection, WorkRow};

/// A lane of a tenant that cannot push waits at most so long before it is looked at again; a change of config wakes it at once.
const IDLE_MS: i64 = 600_000;
/// The linked Patient is read before a push if the last reading is older than this (PRODUCT, "Patients").
const READING_LASTS_MS: i64 = 600_000;
/// Requests of one lane that are under way at once.
pub(crate) const AT_ONCE: usize = 8;
/// Rounds of one claim, so that other tenants have their turn.
const ROUNDS: usize = 4;

/// Works a claimed lane and gives it back.
pub(crate) async fn work_lane(engine: &Arc<Engine>, claimed: Claimed, slot: Slot) -> Result<(), Error> {
    let Claimed { mut lane, taken_over } = claimed;
    let now = engine.now();
    if taken_over {
        let settle_ms = lane.tenant().connection().await?.map_or(60_000, |stored| stored.connection.settle_time_ms);
        if lane.take_over(now, settle_ms).await? == Fenced::Lost {
            return Ok(());
        }
    }
    let way = Way::through(engine.places.of(lane.tenant().id()), slot);
    let Opening { stored, runtime, may_send, work } = lane.open(now, turns_at_once).await?;
    let waits_until = match &stored {
        Some(stored) if may_send => gate(engine, &lane, stored, &runtime, now).await?,
        Some(_) | None => Gate::Closed(now.plus_ms(IDLE_MS)),
    };
    let (probe_until, stored) = match (waits_until, stored) {
        (Gate::Open { probe_until }, Some(stored)) => (probe_until, stored),
        (Gate::Closed(until), _) => return released(lane.release(now, Some(until)).await?),
        (Gate::Open { .. }, None) => return released(lane.release(now, Some(now.plus_ms(IDLE_MS))).await?),
    };
    let Ok(ehr) = engine.ehrs.ehr(&stored.connection, runtime.plan.clone()) else {
        return refused_address(engine, lane, &stored, &runtime).await;
    };
    let mut at_work = LaneTurn {
        ehr: Arc::new(ehr),
        way,
        engine: engine.clone(),
        lane,
        stored,
        runtime,
        probe: probe_until.is_some(),
        unanswered: false,
        connection_next: None,
        said_works: false,
        lost: false,
        worked: false,
        refused_rows: 0,
        failed: Arc::new(AtomicBool::new(false)),
    };
    at_work.rounds(work).await?;
    at_work.way.leave();
    let LaneTurn { lane, connection_next, lost, worked, unanswered, .. } = at_work;
    if let Some(until) = probe_until.filter(|_| !unanswered) {
        lane.tenant().give_back_probe(until).await?;
    }
    if lost {
        return Ok(());
    }
    let now = engine.now();
    // A turn in which nothing could move must not spin.
    let not_before = connection_next.or_else(|| (!worked).then(|| now.plus_ms(200)));
    released(lane.release(now, not_before).await?)
}

/// The address guard refuses the base URL: a failure of the connection, without a byte sent.
async fn refused_address(engine: &Engine, lane: Lane, stored: &StoredConnection, runtime: &Runtime) -> Result<(), Error> {
    let now = engine.now();
    let failed = breaker::failed(now, Class::AddressRefused, None, runtime, &stored.connection.retry, engine.rng.unit());
    let until = if lane.tenant().connection_failed(now, stored, &failed).await? { failed.not_before } else { now };
    released(lane.release(now, Some(until)).await?)
}

fn released(_: Fenced) -> Result<(), Error> {
    Ok(())
}

enum Gate {
    Open {
        /// It failed last: this turn has the one probe until then.
        probe_until: Option<Timestamp>,
    },
    Closed(Timestamp),
}

/// Whether this connection may be used now; one probe at a time where it failed last.
async fn gate(engine: &Engine, lane: &Lane, stored: &StoredConnection, runtime: &Runtime, now: Timestamp) -> Result<Gate, Error> {
    if !stored.connection.enabled || !stored.connection.pushes() {
        return Ok(Gate::Closed(now.plus_ms(IDLE_MS)));
    }
    if let Some(until) = runtime.not_before.filter(|until| *until > now) {
        return Ok(Gate::Closed(until));
    }
    Ok(match Probe::take(engine, &lane.tenant(), stored, runtime, now).await? {
        Probe::Anothers => Gate::Closed(now.plus_ms(500)),
        probe => Gate::Open { probe_until: probe.until() },
    })
}

/// So many patients have their turn in one round.
fn turns_at_once(stored: &StoredConnection, runtime: &Runtime) -> u32 {
    if runtime.failed_last() { 1 } else { batch_limit(stored, runtime).max(u32::try_from(AT_ONCE).unwrap_or(8)) }
}

fn batch_limit(stored: &StoredConnection, runtime: &Runtime) -> u32 {
    runtime.plan.batch_limit.clamp(1, stored.connection.batch_size.max(1))
}

/// The time limit of one request: the tenant's, but always shorter than the lease less its margin.
pub(crate) fn limit_ms(engine: &Engine, stored: &StoredConnection) -> i64 {
    stored.connection.request_timeout_ms.min(engine.lease_ms - 2 * engine.margin_ms()).max(100)
}

/// A lane while it is worked.
pub(crate) struct LaneTurn {
    pub(crate) engine: Arc<Engine>,
    pub(crate) ehr: Arc<Ehr>,
    pub(crate) way: Way,
    pub(crate) lane: Lane,
    pub(crate) stored: StoredConnection,
    pub(crate) runtime: Runtime,
    /// The connection failed last: one request, and no more until it succeeds.
    pub(crate) probe: bool,
    /// Something was asked in this turn of which nobody knows what became of it.
    pub(crate) unanswered: bool,
    /// The connection failed in this turn: not before then.
    pub(crate) connection_next: Option<Timestamp>,
    /// Everybody was told in this turn that the connection works.
    pub(crate) said_works: bool,
    /// The lease is somebody else's.
    pub(crate) lost: bool,
    /// Something moved.
    pub(crate) worked: bool,
    /// Rows that were refused for good in this turn.
    pub(crate) refused_rows: usize,
    /// Raised as soon as one request shows that the connection fails, so that those behind it are not sent.
    pub(crate) failed: Arc<AtomicBool>,
}

impl LaneTurn {
    async fn rounds(&mut self, mut work: Vec<PatientWork>) -> Result<(), Error> {
        for round in 1..=ROUNDS {
            if work.is_empty() || self.stopped() {
                return Ok(());
            }
            // Of a backlog one batch at a time: what is fresh in the tenant's other lanes waits no longer than that.
            let fresh = work.iter().any(|work| work.fresh || work.rows.iter().any(|row| !row.backlog && !row.state.is_final()));
            // What comes while these are sent makes the lane due again.
            let more = work.len() >= self.turns_at_once() as usize || work.iter().any(|work| work.more);
            let moved = self.round(work).await?;
            // Nobody knows yet whether the connection works.
            let probing = self.probe && self.unanswered;
            if !moved || probing || self.stopped() || !fresh || !more || round == ROUNDS {
                return Ok(());
            }
            work = self.lane.work(self.engine.now(), self.turns_at_once()).await?;
        }
        Ok(())
    }

    fn turns_at_once(&self) -> u32 {
        if self.probe { 1 } else { turns_at_once(&self.stored, &self.runtime) }
    }

    /// True when something moved, so that another round may find more.
    async fn round(&mut self, work: Vec<PatientWork>) -> Result<bool, Error> {
        let plan = self.runtime.plan.clone();
        let now = self.engine.now();
        let turns: Vec<(PatientWork, Turn)> = work
            .into_iter()
            .map(|work| {
                let turn = turn(&work, &plan, now);
                (work, turn)
            })
            .collect();
        if turns.iter().all(|(_, turn)| turn.is_empty()) {
            return Ok(false);
        }
        self.ask_all(&turns).await?;
        if self.stopped() {
            return Ok(true);
        }
        let mut observations: Vec<(PatientWork, usize)> = Vec::new();
        for (work, turn) in turns {
            if self.stopped() {
                return Ok(true);
            }
            for at in &turn.repeat {
                let row = work.rows[*at].clone();
                push::repeat(self, &work, row).await?;
            }
            if let Some(at) = turn.write {
                match work.rows[at].resource {
                    ResourceKey::Patient(_) if !self.enter().await? => return Ok(true),
                    ResourceKey::Patient(_) => {
                        linking::deliver_patient(self, &work, &work.rows[at]).await?;
                        self.way.leave();
                    }
                    ResourceKey::Observation(_) => observations.push((work, at)),
                }
            }
        }
        if self.stopped() || observations.is_empty() {
            return Ok(true);
        }
        let ready = self.read_patients(observations).await?;
        if !self.stopped() && !ready.is_empty() {
            push::write_all(self, ready).await?;
        }
        Ok(true)
    }

    /// Nothing more may be sent in this turn.
    pub(crate) fn stopped(&self) -> bool {
        self.lost || self.connection_next.is_some() || (self.probe && self.failed.load(Ordering::Relaxed))
    }

    pub(crate) fn batch_limit(&self) -> u32 {
        batch_limit(&self.stored, &self.runtime)
    }

    /// The terms of a settlement now.
    pub(crate) fn terms(&self) -> Terms {
        let connection = &self.stored.connection;
        let now = self.engine.now();
        let down_now = self.runtime.down_since.map_or(0, |since| now.ms_since(since).max(0));
        Terms {
            now,
            plan: self.runtime.plan.clone(),
            retry: connection.retry,
            settle_ms: connection.settle_time_ms,
            patience_ms: connection.patience_ms,
            down_total_ms: self.runtime.down_total_ms.saturating_add(down_now),
            jitter: self.engine.rng.unit(),
        }
    }

    pub(crate) fn new_attempt(&self) -> AttemptId {
        AttemptId(self.engine.rng.uuid_v7(self.engine.now()))
    }

    /// Takes a place at the EHR, and makes sure of the lease. False: nothing is to be sent.
    pub(crate) async fn enter(&mut self) -> Result<bool, Error> {
        if !self.way.enter(self.stored.connection.max_concurrency).await && self.connection_next.is_none() {
            self.connection_next = Some(self.engine.now());
        }
        self.keep_lease().await?;
        Ok(!self.stopped())
    }

    /// The same, before something is asked of which no attempt is recorded.
    pub(crate) async fn enter_to_ask(&mut self) -> Result<bool, Error> {
        if self.enter().await? && self.lane.goes_on(self.engine.now()).await? == Fenced::Lost {
            self.lost = true;
        }
        self.unanswered |= !self.stopped();
        Ok(!self.stopped())
    }

    /// Records attempts before any byte leaves. False: send nothing.
    pub(crate) async fn begin(&mut self, attempts: Vec<Begin>) -> Result<bool, Error> {
        if !self.enter().await? {
            return Ok(false);
        }
        if self.lane.begin(self.engine.now(), attempts).await? == Fenced::Lost {
            self.lost = true;
        }
        self.unanswered |= !self.lost;
        Ok(!self.lost)
    }

    /// Writes results.
    pub(crate) async fn settle(&mut self, settlements: Vec<Settlement>) -> Result<(), Error> {
        if settlements.is_empty() {
            return Ok(());
        }
        self.worked = true;
        self.hear(settlements.iter());
        let settlements = settlements.into_iter().map(|one| self.unless_failed(one)).collect();
        if self.lane.settle(self.engine.now(), settlements).await? == Fenced::Lost {
            self.lost = true;
        }
        Ok(())
    }

    /// Writes a decision about a link, and a settlement of the Patient's delivery with it.
    pub(crate) async fn settle_link(
        &mut self,
        patient: PatientId,
        change: LinkChange,
        settlement: Option<Settlement>,
    ) -> Result<(), Error> {
        self.worked = true;
        self.hear(settlement.iter());
        let settlement = settlement.map(|one| self.unless_failed(one));
        if self.lane.settle_link(self.engine.now(), patient, change, settlement).await? == Fenced::Lost {
            self.lost = true;
        }
        Ok(())
    }

    /// What the EHR answered, whatever it was, is an answer; who heard none goes on not knowing.
    fn hear<'s>(&mut self, settlements: impl Iterator<Item = &'s Settlement>) {
        let mut classes = settlements.filter_map(|settlement| settlement.outcome.as_ref().map(|outcome| outcome.class)).peekable();
        if classes.peek().is_some() {
            self.unanswered = classes.any(|class| matches!(class, Class::Uncertain | Class::BadResponse | Class::Internal));
        }
    }

    /// All that was asked was answered.
    pub(crate) fn answered(&mut self) {
        self.unanswered = false;
    }

    /// What was answered well before the connection failed does not say that it works.
    fn unless_failed(&self, settlement: Settlement) -> Settlement {
        Settlement { works: settlement.works && self.connection_next.is_none(), ..settlement }
    }

    /// Lengthens the lease where a request and the writing of its result would not fit into what is left of it.
    async fn keep_lease(&mut self) -> Result<(), Error> {
        let now = self.engine.now();
        let need = limit_ms(&self.engine, &self.stored) + self.engine.margin_ms();
        if self.lane.lease_until().ms_since(now) < need && self.lane.renew(now, self.engine.lease_ms).await? == Fenced::Lost {
            self.lost = true;
        }
        Ok(())
    }

    /// The last check before bytes leave (PRODUCT, effect ledger, rule 9).
    pub(crate) fn last_check(&self) -> ehr::transport::LastCheck {
        let (clock, until) = (self.engine.clock.clone(), self.lane.lease_until());
        let need = limit_ms(&self.engine, &self.stored) + self.engine.margin_ms();
        Arc::new(move || until.ms_since(clock.now()) >= need)
    }

    /// A failure of the connection: counted once a turn. Returns when it may be used again.
    pub(crate) async fn connection_failed(&mut self, outcome: &Outcome, class: Class) -> Result<Timestamp, Error> {
        if let Some(next) = self.connection_next {
            return Ok(next);
        }
        self.failed.store(true, Ordering::Relaxed);
        let failed = breaker::failed(
            self.engine.now(),
            class,
            outcome.retry_after_ms,
            &self.runtime,
            &self.stored.connection.retry,
            self.engine.rng.unit(),
        );
        let tenant = self.lane.tenant();
        tracing::warn!(tenant = %tenant.id(), class = %class, status = outcome.status, failures = failed.failures, circuit_open = failed.circuit_open,
            retry_in_ms = failed.not_before.ms_since(self.engine.now()), "the connection failed");
        let next = if tenant.connection_failed(self.engine.now(), &self.stored, &failed).await? {
            self.way.note_failure();
            failed.not_before
        } else {
            self.engine.now()
        };
        self.connection_next = Some(next);
        Ok(next)
    }

    /// The EHR answered a question: the connection works.
    pub(crate) async fn connection_works(&mut self) -> Result<(), Error> {
        self.answered_well();
        if self.connection_next.is_none() {
            self.lane.tenant().connection_works(self.engine.now(), false, false).await?;
        }
        Ok(())
    }

    /// The EHR took a write. True: its settlement tells everybody that the connection works, once a turn, and never in one in which the
    /// connection has failed.
    pub(crate) fn took_a_write(&mut self) -> bool {
        let news = self.connection_next.is_none() && (self.probe || !self.said_works);
        self.said_works |= news;
        self.answered_well();
        news
    }

    /// The connection works: this turn goes on, unless it has failed in it.
    fn answered_well(&mut self) {
        self.engine.denied.forget(self.lane.tenant().id());
        if self.connection_next.is_some() {
            return;
        }
        self.probe = false;
        self.failed.store(false, Ordering::Relaxed);
        self.runtime.failures = 0;
        self.runtime.circuit_open = false;
        self.runtime.auth_refused = false;
    }

    /// What `ehr` learnt on the way is kept for everybody.
    pub(crate) async fn change_plan(&mut self, change: impl Fn(&mut model::MeansPlan) + Send + 'static) -> Result<(), Error> {
        change(&mut self.runtime.plan);
        self.lane.tenant().change_plan(self.stored.generation, Box::new(change)).await
    }

    async fn ask_all(&mut self, turns: &[(PatientWork, Turn)]) -> Result<(), Error> {
        let rows: Vec<WorkRow> = turns.iter().flat_map(|(work, turn)| turn.ask.iter().map(|at| work.rows[*at].clone())).collect();
        for chunk in rows.chunks(AT_ONCE) {
            if self.stopped() {
                return Ok(());
            }
            let attempts: Vec<AttemptId> = chunk.iter().map(|_| self.new_attempt()).collect();
            let begins = chunk.iter().zip(&attempts).map(|(row, attempt)| ask::begin(row, *attempt)).collect();
            if !self.begin(begins).await? {
                return Ok(());
            }
            let this = &*self;
            let asking: Vec<BoxFuture<'_, ask::Answer>> = chunk.iter().map(|row| ask::ask(this, row).boxed()).collect();
            let answers: Vec<ask::Answer> = futures::stream::iter(asking).buffered(AT_ONCE).collect().await;
            let mut settlements = Vec::new();
            for ((row, attempt), answer) in chunk.iter().zip(&attempts).zip(answers) {
                let settlement = ask::settle(self, row, *attempt, answer).await?;
                match linking::found_created(self, row, &settlement) {
                    Some((patient, change)) => self.settle_link(patient, change, Some(settlement)).await?,
                    None => settlements.push(settlement),
                }
            }
            self.way.leave();
            self.settle(settlements).await?;
        }
        Ok(())
    }

    /// Reads the Patients whose last reading is too old; a problem holds that patient and nobody else.
    async fn read_patients(&mut self, observations: Vec<(PatientWork, usize)>) -> Result<Vec<(PatientWork, usize)>, Error> {
        let now = self.engine.now();
        let (linked, unlinked): (Vec<_>, Vec<_>) = observations.into_iter().partition(|(work, _)| work.patient.link.ehr_id.is_some());
        for (work, _) in unlinked {
            // Nobody has looked for the patient at this EHR yet (another base URL is another generation): that goes first.
            self.lane.tenant().deliver_now(now, ResourceKey::Patient(work.patient.id)).await?;
        }
        let (fresh, stale): (Vec<_>, Vec<_>) = linked.into_iter().partition(|(work, _)| {
            let link = &work.patient.link;
            link.state == LinkState::Linked && link.verified_at.is_some_and(|at| now.ms_since(at) < READING_LASTS_MS)
        });
        let mut ready = fresh;
        let mut stale = stale.into_iter().peekable();
        while stale.peek().is_some() && !self.stopped() {
            if !self.enter_to_ask().await? {
                break;
            }
            let chunk: Vec<(PatientWork, usize)> = stale.by_ref().take(AT_ONCE).collect();
            let this = &*self;
            let reading: Vec<BoxFuture<'_, linking::ReadPatient>> =
                chunk.iter().map(|(work, _)| linking::read_linked(this, &work.patient).boxed()).collect();
            let readings: Vec<linking::ReadPatient> = futures::stream::iter(reading).buffered(AT_ONCE).collect().await;
            for ((mut work, at), reading) in chunk.into_iter().zip(readings) {
                if linking::judge_reading(self, &mut work, reading).await? {
                    ready.push((work, at));
                }
            }
            self.answered();
            self.way.leave();
        }
        Ok(ready)
    }

    /// A question or write that the connection kept from being answered: the row waits for the connection.
    pub(crate) async fn not_asked(&mut self, row: &WorkRow, ended: &Ended, outcome: &Outcome) -> Result<Settlement, Error> {
        let again_at = self.connection_failed(outcome, ended.class).await?;
        Ok(settle_not_asked(row, ended, again_at))
    }
}
