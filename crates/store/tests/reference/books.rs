//! One tenant's books, kept by hand: what the store means, in plain collections and without any SQL.
//!
//! Nothing here is clever. Rows stand in the order of their acceptance, every question is answered by looking at all of them,
//! and what the store keeps beside its rows (counters, heads of streams) is counted anew or written down where the store says
//! that it is written. The tenant's connection never moves to another base URL here: that is a law with a test of its own.

mod lanes;
mod pulls;
mod views;
mod writes;

pub use lanes::{LaneBook, claim_lane};
pub use pulls::{PullBook, claim_pull, claimable};
pub use views::next_due;
pub use writes::RunBook;

use model::{
    AttemptId, Class, DeliveryId, Direction, EhrId, Frequency, HeldReason, LateAnswer, Link, LinkState, Means, ObservationDraft,
    ObservationId, PatientDraft, PatientId, ResourceKey, RunId, Source, State, Timestamp,
};
use std::collections::BTreeMap;

/// One try of a row.
#[derive(Debug, Clone)]
pub struct Try {
    /// `None`: the store made it by itself, and its id is not known yet.
    pub id: Option<AttemptId>,
    pub at: Timestamp,
    pub ended: Option<Timestamp>,
    pub request: String,
    /// A write, by this means; `None`: a question.
    pub means: Option<Means>,
    pub status: Option<u16>,
    pub class: Option<Class>,
    pub settle_until: Option<Timestamp>,
    pub message: Option<String>,
    pub late: Option<LateAnswer>,
}

impl Try {
    /// Until when nobody knows whether it was applied; one that still flies has no end.
    fn open_until(&self) -> Option<Timestamp> {
        match (self.means, self.class) {
            (None, _) => None,
            (Some(_), None) => Some(Timestamp(i64::MAX)),
            (Some(_), Some(Class::Uncertain)) => self.settle_until,
            _ => None,
        }
    }
}

/// One row of the ledger.
#[derive(Debug, Clone)]
pub struct RowBook {
    /// `None` until the store has named it.
    pub id: Option<DeliveryId>,
    pub patient: PatientId,
    pub resource: ResourceKey,
    pub version: i64,
    pub seq: i64,
    pub state: State,
    pub backlog: bool,
    pub due: Option<Timestamp>,
    pub claims: u32,
    pub tries: u32,
    pub round_tries: u32,
    pub means: Option<Means>,
    pub sent: bool,
    pub proven: bool,
    pub etag: Option<String>,
    pub ehr_id: Option<EhrId>,
    pub ehr_version: Option<String>,
    pub message: Option<String>,
    pub audit: Option<(Timestamp, u32)>,
    pub first_failed: Option<Timestamp>,
    pub down_then: i64,
    pub created: Timestamp,
    pub delivered: Option<Timestamp>,
    pub attempts: Vec<Try>,
}

impl RowBook {
    pub fn is_open(&self) -> bool {
        !self.state.is_final()
    }

    /// Waits for its turn.
    pub fn waits(&self) -> bool {
        matches!(self.state, State::Pending | State::RetryScheduled)
    }

    /// Nobody knows what became of it, or will know soon.
    pub fn unsettled(&self) -> bool {
        matches!(self.state, State::InFlight | State::Uncertain)
    }

    fn of_patient(&self) -> bool {
        matches!(self.resource, ResourceKey::Patient(_))
    }

    /// No byte of it can have been applied.
    fn harmless(&self) -> bool {
        !self.sent || self.proven
    }

    fn own_open_until(&self) -> Option<Timestamp> {
        self.attempts.iter().filter_map(Try::open_until).max()
    }

    /// Until when its own tries stay open: of what was sent and not answered also beyond its time, for nobody has asked yet.
    pub fn own_settle_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.own_open_until().filter(|until| !self.proven && (self.unsettled() || *until >= now))
    }
}

/// What the store writes down of a patient's stream.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    pub next_seq: i64,
    pub head: Option<Timestamp>,
    pub fresh: i64,
    pub blocked: bool,
}

#[derive(Debug, Clone)]
pub struct PatientBook {
    pub draft: PatientDraft,
    pub version: i64,
    pub link: Link,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub last_sync: Option<Timestamp>,
    /// Comes into being with the first delivery.
    pub stream: Option<Stream>,
}

#[derive(Debug, Clone)]
pub struct ObservationBook {
    pub patient: PatientId,
    pub version: i64,
    pub versions: BTreeMap<i64, ObservationDraft>,
    pub draft: ObservationDraft,
    pub source: Source,
    pub deleted: bool,
    pub resource: Option<String>,
    /// The EHR is known to hold it, or held it.
    pub known_there: bool,
    pub ehr_id: Option<EhrId>,
    pub ehr_version: Option<String>,
    pub synced_version: Option<i64>,
    pub synced_at: Option<Timestamp>,
    pub settled_at: Option<Timestamp>,
    pub seen_at: Option<Timestamp>,
    pub created: Timestamp,
    pub updated: Timestamp,
}

/// The tenant's configuration.
#[derive(Debug, Clone)]
pub struct ConfigBook {
    pub enabled: bool,
    pub direction: Direction,
    pub frequency: Frequency,
    pub max_concurrency: usize,
    pub revision: i64,
    pub last_error: Option<String>,
}

/// What is known of the tenant's EHR.
#[derive(Debug, Clone, Default)]
pub struct EhrBook {
    pub failures: u32,
    pub not_before: Option<Timestamp>,
    pub circuit_open: bool,
    pub auth_refused: bool,
    pub last_class: Option<Class>,
    pub down_since: Option<Timestamp>,
    pub down_total: i64,
    pub last_push: Option<Timestamp>,
    pub last_pull: Option<Timestamp>,
}

/// One tenant.
#[derive(Debug, Default)]
pub struct Books {
    pub name: &'static str,
    pub leases_for_a_place: usize,
    pub config: Option<ConfigBook>,
    pub ehr: Option<EhrBook>,
    pub served: i64,
    pub patients: BTreeMap<PatientId, PatientBook>,
    pub observations: BTreeMap<ObservationId, ObservationBook>,
    /// In the order of their acceptance.
    pub rows: Vec<RowBook>,
    pub lanes: BTreeMap<i64, LaneBook>,
    pub pulls: BTreeMap<PatientId, PullBook>,
    pub runs: BTreeMap<RunId, RunBook>,
}

/// An effect about to be intended.
#[derive(Debug, Clone, Copy)]
pub struct Effect {
    pub resource: ResourceKey,
    pub version: i64,
    pub hold: Option<HeldReason>,
    pub backlog: bool,
}

/// The lane of a patient, written down a second time: FNV-1a of the id's bytes. Whoever changes the store's has two owners
/// for every patient of a database in use.
pub fn shard_of(patient: PatientId) -> i64 {
    let mut hash: u64 = 14_695_981_039_346_656_037;
    for byte in patient.0.into_bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211);
    }
    i64::try_from((hash ^ (hash >> 32)) % 8).unwrap()
}

impl Books {
    pub fn new(name: &'static str, leases_for_a_place: usize) -> Self {
        Self { name, leases_for_a_place, ..Self::default() }
    }

    /// What is accepted now may go now.
    pub fn due_now(&self) -> bool {
        self.config.as_ref().is_some_and(|c| c.enabled && c.direction != Direction::Pull && c.frequency == Frequency::Realtime)
    }

    pub fn may_push(&self) -> bool {
        self.config.as_ref().is_some_and(|c| c.enabled && c.direction != Direction::Pull)
    }

    pub fn may_pull(&self) -> bool {
        self.config.as_ref().is_some_and(|c| c.enabled && c.direction != Direction::Push)
    }

    pub fn not_before(&self) -> Option<Timestamp> {
        self.ehr.as_ref().and_then(|ehr| ehr.not_before)
    }

    pub fn row(&self, id: DeliveryId) -> Option<usize> {
        self.rows.iter().position(|row| row.id == Some(id))
    }

    /// Places of the rows for which this holds, in the order of their acceptance.
    pub fn places(&self, wanted: impl Fn(&RowBook) -> bool) -> Vec<usize> {
        (0..self.rows.len()).filter(|at| wanted(&self.rows[*at])).collect()
    }

    /// The newest row of a resource.
    pub fn newest(&self, resource: ResourceKey) -> Option<usize> {
        self.places(|row| row.resource == resource).into_iter().max_by_key(|at| (self.rows[*at].version, self.rows[*at].seq))
    }

    pub fn newer_exists(&self, at: usize) -> bool {
        let this = &self.rows[at];
        self.rows.iter().any(|row| row.resource == this.resource && row.seq > this.seq)
    }

    /// Until when tries of any row of this resource stay open.
    fn open_until(&self, resource: ResourceKey) -> Option<Timestamp> {
        self.rows.iter().filter(|row| row.resource == resource).filter_map(RowBook::own_open_until).max()
    }

    pub fn resource_settle_until(&self, resource: ResourceKey, now: Timestamp) -> Option<Timestamp> {
        self.open_until(resource).filter(|until| *until >= now)
    }

    /// Writes down what is to be brought to the EHR; the places of the new rows.
    pub fn enqueue(&mut self, now: Timestamp, patient: PatientId, effects: &[Effect]) -> Vec<usize> {
        let due_now = self.due_now();
        let person = self.patients.get_mut(&patient).unwrap();
        let by_person = person.link.by.as_deref().is_some_and(|by| by.starts_with("person:"));
        let blocked = match person.link.state {
            model::LinkState::Held => true,
            model::LinkState::Unlinked => by_person,
            model::LinkState::Linked => false,
        };
        let stream = person.stream.get_or_insert(Stream { next_seq: 1, blocked, ..Stream::default() });
        self.lanes.entry(shard_of(patient)).or_default();
        let mut places = Vec::new();
        for effect in effects {
            places.push(self.rows.len());
            self.rows.push(RowBook {
                id: None,
                patient,
                resource: effect.resource,
                version: effect.version,
                seq: stream.next_seq,
                state: effect.hold.map_or(State::Pending, State::Held),
                backlog: effect.backlog,
                due: (due_now && effect.hold.is_none()).then_some(now),
                claims: 0,
                tries: 0,
                round_tries: 0,
                means: None,
                sent: false,
                proven: false,
                etag: None,
                ehr_id: None,
                ehr_version: None,
                message: None,
                audit: None,
                first_failed: None,
                down_then: 0,
                created: now,
                delivered: None,
                attempts: Vec::new(),
            });
            stream.next_seq += 1;
        }
        self.touch(patient);
        places
    }

    pub fn go(&mut self, at: usize, to: State, due: Option<Timestamp>) {
        self.rows[at].state = to;
        self.rows[at].due = due;
    }

    /// Writes down anew when something of this patient can move, and makes its lane due by then.
    pub fn touch(&mut self, patient: PatientId) {
        let head = self.head(patient);
        let newest = self.rows.iter().rfind(|row| row.patient == patient && row.is_open());
        let fresh = newest.map_or(0, |row| if row.backlog { 0 } else { row.created.0 });
        let Some(stream) = self.patients.get_mut(&patient).and_then(|person| person.stream.as_mut()) else { return };
        (stream.head, stream.fresh) = (head, fresh);
        if let Some(at) = head {
            let lane = self.lanes.get_mut(&shard_of(patient)).unwrap();
            lane.due = Some(lane.due.map_or(at, |due| due.min(at)));
        }
    }

    pub fn touch_each(&mut self, mut patients: Vec<PatientId>) {
        patients.dedup();
        for patient in patients {
            self.touch(patient);
        }
    }

    /// When something of this patient can move: a question or a reading by itself, a new write in its turn.
    fn head(&self, patient: PatientId) -> Option<Timestamp> {
        let rows: Vec<&RowBook> = self.rows.iter().filter(|row| row.patient == patient).collect();
        let asks = rows.iter().filter(|row| row.state == State::Uncertain).filter_map(|row| row.due).min();
        let reads = rows.iter().filter(|row| row.state == State::Delivered).filter_map(|row| row.audit.map(|(at, _)| at)).min();
        let stuck = self.is_blocked(patient) || rows.iter().any(|row| row.unsettled());
        let write = if stuck { None } else { self.next_write(&rows) };
        [asks, reads, write].into_iter().flatten().min()
    }

    pub fn is_blocked(&self, patient: PatientId) -> bool {
        self.patients[&patient].stream.as_ref().is_some_and(|stream| stream.blocked || self.rests_unknown(patient))
    }

    /// Nothing but a person can bring the Patient to the EHR, which does not know it. (The books know one EHR only.)
    fn rests_unknown(&self, patient: PatientId) -> bool {
        let said =
            |row: &&RowBook| row.resource == ResourceKey::Patient(patient) && !matches!(row.state, State::Delivered | State::Superseded);
        let own: Vec<&RowBook> = self.rows.iter().filter(said).collect();
        let goes_by_itself = own.iter().find(|row| row.is_open()).is_some_and(|row| !matches!(row.state, State::Held(_)));
        !own.is_empty() && !goes_by_itself && self.patients[&patient].link.state != LinkState::Linked
    }

    /// The Patient first, then observations as they came, but none that a held version of its own goes before.
    fn next_write(&self, rows: &[&RowBook]) -> Option<Timestamp> {
        let own: Vec<_> = rows.iter().filter(|row| row.of_patient() && row.is_open()).collect();
        if own.iter().any(|row| row.state == State::Held(HeldReason::PatientUnlinked)) {
            return None;
        }
        let head = match own.first() {
            Some(first) if first.waits() => first,
            _ => rows.iter().find(|row| !row.of_patient() && row.waits() && !stands_behind_a_held_one(rows, row))?,
        };
        match (head.due?, self.open_until(head.resource)) {
            (due, None) => Some(due),
            (_, Some(Timestamp(i64::MAX))) => None,
            (due, Some(until)) => Some(due.max(until.plus_ms(1))),
        }
    }

    /// What waits of a resource although a newer version was accepted goes no more, unless it may have been applied.
    pub fn supersede_older(&mut self, resource: ResourceKey) {
        for at in self.places(|row| row.resource == resource && (row.waits() || matches!(row.state, State::Held(_)))) {
            if self.newer_exists(at) && self.rows[at].harmless() {
                self.go(at, State::Superseded, None);
            }
        }
    }

    /// A newer version was accepted: older ones that cannot have been applied go no more.
    fn newer_accepted(&mut self, resource: ResourceKey, version: i64) {
        for at in self.places(|row| row.resource == resource && row.version < version) {
            if (self.rows[at].waits() || matches!(self.rows[at].state, State::Held(_))) && self.rows[at].harmless() {
                self.go(at, State::Superseded, None);
            }
        }
    }

    /// It is not wanted any more. What a person holds in hand ends in any case; what waits only if it cannot have been applied.
    fn withdrawn(&mut self, resource: ResourceKey) {
        for at in self.places(|row| row.resource == resource) {
            let in_hand = matches!(self.rows[at].state, State::Held(_) | State::Dead);
            if in_hand || (self.rows[at].waits() && self.rows[at].harmless()) {
                self.go(at, State::Canceled, None);
            }
        }
    }
}

/// A held version of the same observation was accepted before it.
pub fn stands_behind_a_held_one(rows: &[&RowBook], row: &RowBook) -> bool {
    rows.iter().any(|held| held.resource == row.resource && matches!(held.state, State::Held(_)) && held.seq < row.seq)
}
