//! What the store has to answer when it is asked, worked out from the books.

use super::pulls::PULLS_AT_ONCE;
use super::{Books, ObservationBook, PatientBook, PullBook, RowBook, RunBook, Try, shard_of, stands_behind_a_held_one};
use model::observation::DeliveryBrief;
use model::{
    Attempt, Delivery, DeliveryId, Direction, HeldReason, LinkState, MeansPlan, Observation, ObservationId, Patient, PatientId,
    ResourceKey, RunId, Source, State, Timestamp,
};
use ponte_store::{Content, PatientWork, PullState, Run, Status, WorkRow};

/// So many rows of a kind are shown of one patient at once.
const SHOWN: usize = 8;

/// The next moment at which something may be claimed that cannot be claimed before.
pub fn next_due(all: &[Books]) -> Option<Timestamp> {
    let mut moments = Vec::new();
    for books in all {
        let gate = |at: Timestamp| books.not_before().map_or(at, |not_before| not_before.max(at));
        let full = books.config.is_some() && books.leased(|_| true) >= books.most();
        if books.may_push() && !full {
            moments.extend(books.lanes.values().filter(|lane| lane.lease.is_none()).filter_map(|lane| lane.due).map(gate));
        }
        if books.may_pull() && books.pulls.values().filter(|pull| pull.lease.is_some()).count() < PULLS_AT_ONCE {
            moments.extend(books.pulls.values().filter(|pull| pull.lease.is_none()).filter_map(|pull| pull.due).map(gate));
        }
        moments.extend(books.lanes.values().filter_map(|lane| lane.lease));
        moments.extend(books.pulls.values().filter_map(|pull| pull.lease));
        let checks =
            books.runs.values().filter(|run| run.kind == ponte_store::RunKind::Check && run.state == ponte_store::RunState::Running);
        moments.extend(checks.map(|run| run.lease.unwrap_or(run.created)));
    }
    moments.into_iter().min()
}

impl Books {
    /// Why nothing of this tenant is sent at all.
    fn connection_holds(&self) -> Option<HeldReason> {
        let ehr = self.ehr.clone().unwrap_or_default();
        match &self.config {
            None => Some(HeldReason::NotConfigured),
            Some(config) if !config.enabled => Some(HeldReason::Disabled),
            Some(config) if config.direction == Direction::Pull => Some(HeldReason::PushOff),
            _ if ehr.auth_refused => Some(HeldReason::CredentialsRefused),
            _ if ehr.circuit_open => Some(HeldReason::CircuitOpen),
            _ => None,
        }
    }

    /// Another row of the patient goes first.
    fn waits_for_another(&self, this: &RowBook) -> bool {
        let rows: Vec<&RowBook> = self.rows.iter().filter(|row| row.patient == this.patient).collect();
        let observation = matches!(this.resource, ResourceKey::Observation(_));
        rows.iter().filter(|row| row.seq != this.seq && row.is_open()).any(|row| match (row.state, row.resource) {
            (State::InFlight | State::Uncertain, _) => true,
            (State::Held(HeldReason::PatientUnlinked), ResourceKey::Patient(_)) => true,
            (State::Held(_), ResourceKey::Observation(_)) => row.seq < this.seq && row.resource == this.resource,
            (State::Held(_), ResourceKey::Patient(_)) => false,
            (_, ResourceKey::Patient(_)) => observation || row.seq < this.seq,
            (_, ResourceKey::Observation(_)) => observation && row.seq < this.seq && !stands_behind_a_held_one(&rows, row),
        })
    }

    pub fn shown(&self, row: &RowBook, now: Timestamp) -> State {
        if !row.waits() {
            return row.state;
        }
        if let Some(reason) = self.connection_holds() {
            State::Held(reason)
        } else if self.is_blocked(row.patient) {
            State::Held(HeldReason::PatientUnlinked)
        } else if row.due.is_none() {
            State::Held(HeldReason::NextSweep)
        } else if row.state == State::RetryScheduled {
            State::RetryScheduled
        } else if self.waits_for_another(row) {
            State::Held(HeldReason::EarlierFirst)
        } else if self.resource_settle_until(row.resource, now).is_some() {
            State::Held(HeldReason::Settling)
        } else {
            State::Pending
        }
    }

    pub fn delivery(&self, row: &RowBook, now: Timestamp, with_attempts: bool) -> Delivery {
        let state = self.shown(row, now);
        let gate = |at: Timestamp| self.not_before().map_or(at, |not_before| not_before.max(at));
        Delivery {
            id: row.id.unwrap(),
            patient_id: row.patient,
            resource: row.resource,
            version: row.version,
            state,
            message: row.message.clone(),
            // No schedule is made here, so that nobody knows when the next sweep comes.
            next_attempt_at: match state {
                State::Pending | State::Uncertain | State::RetryScheduled => row.due.map(gate),
                State::Held(HeldReason::CircuitOpen | HeldReason::CredentialsRefused) => self.not_before(),
                State::Held(HeldReason::Settling) => self.resource_settle_until(row.resource, now),
                _ => None,
            },
            ehr_id: row.ehr_id.clone(),
            ehr_version: row.ehr_version.clone(),
            created_at: row.created,
            delivered_at: row.delivered.filter(|_| row.state == State::Delivered),
            attempts: if with_attempts { attempts(row) } else { Vec::new() },
        }
    }

    /// Newest first.
    pub fn deliveries(&self, now: Timestamp, wanted: impl Fn(&RowBook) -> bool) -> Vec<Delivery> {
        let mut all: Vec<Delivery> = self.rows.iter().filter(|row| wanted(row)).map(|row| self.delivery(row, now, false)).collect();
        all.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
        all
    }

    pub fn observation(&self, id: ObservationId, now: Timestamp) -> Option<Observation> {
        let book: &ObservationBook = self.observations.get(&id)?;
        let newest = self.newest(ResourceKey::Observation(id)).map(|at| &self.rows[at]);
        Some(Observation {
            id,
            version: book.version,
            draft: book.draft.clone(),
            source: book.source,
            ehr_id: book.ehr_id.clone(),
            ehr_version: book.ehr_version.clone(),
            synced_version: book.synced_version,
            synced_at: book.synced_at,
            deleted: book.deleted,
            resource: book.resource.clone(),
            interpreted: true,
            delivery: newest.map(|row| DeliveryBrief { id: row.id.unwrap(), state: self.shown(row, now) }),
            created_at: book.created,
            updated_at: book.updated,
        })
    }

    /// Newest first.
    pub fn observations(&self, now: Timestamp, wanted: impl Fn(&ObservationBook) -> bool) -> Vec<Observation> {
        let ids = self.observations.iter().rev().filter(|(_, book)| wanted(book)).map(|(id, _)| *id);
        ids.filter_map(|id| self.observation(id, now)).collect()
    }

    /// What the EHR does not hold, but what was withdrawn before any byte of it left.
    pub fn unsynced(&self, now: Timestamp) -> Vec<Observation> {
        let mut all = self.observations(now, |book| book.source == Source::Platform && book.synced_version != Some(book.version));
        all.retain(|o| {
            let of_version = |row: &RowBook| row.resource == ResourceKey::Observation(o.id) && row.version == o.version;
            !o.deleted || self.rows.iter().any(of_version)
        });
        all
    }

    pub fn patient(&self, id: PatientId) -> Option<Patient> {
        let book: &PatientBook = self.patients.get(&id)?;
        Some(Patient {
            id,
            version: book.version,
            draft: book.draft.clone(),
            link: book.link.clone(),
            last_sync_at: book.last_sync,
            created_at: book.created,
            updated_at: book.updated,
        })
    }

    /// Rows counted anew.
    pub fn count(&self, word: &str) -> i64 {
        i64::try_from(self.rows.iter().filter(|row| row.state.word() == word).count()).unwrap()
    }

    pub fn status(&self) -> Status {
        let waits_for_people = |row: &&RowBook| row.waits() && (self.connection_holds().is_some() || self.is_blocked(row.patient));
        let word = |row: &RowBook| if waits_for_people(&row) { "held" } else { row.state.word() };
        let count = |wanted: &str| i64::try_from(self.rows.iter().filter(|row| word(row) == wanted).count()).unwrap();
        let ehr = self.ehr.clone().unwrap_or_default();
        let held = self.patients.values().filter(|person| person.link.state == LinkState::Held);
        Status {
            counts: State::WORDS.iter().map(|word| (*word, count(word))).collect(),
            oldest_waiting: self.rows.iter().filter(|row| row.is_open()).map(|row| row.created).min(),
            last_push_at: ehr.last_push,
            last_pull_at: ehr.last_pull,
            last_error: self.config.as_ref().and_then(|config| config.last_error.clone()),
            held: self.connection_holds(),
            circuit_open: ehr.circuit_open,
            down_since: ehr.down_since,
            next_probe_at: ehr.not_before,
            patients_held: i64::try_from(held.count()).unwrap(),
            // Nobody here learns anything of an EHR.
            plan: self.config.as_ref().map(|_| MeansPlan::default()),
        }
    }

    pub fn pull_state(&self, id: PatientId) -> Option<PullState> {
        let pull: &PullBook = self.pulls.get(&id)?;
        Some(PullState {
            waiting: pull.requested.is_some() || pull.lease.is_some(),
            watermark: pull.watermark,
            checkpoint: pull.checkpoint.clone(),
            started_at: pull.started,
            finished_at: pull.finished,
            last_full_at: pull.last_full,
            outcome: pull.outcome.clone(),
            message: pull.message.clone(),
            failures: pull.failures,
            created: pull.created,
            updated: pull.updated,
            unchanged: pull.unchanged,
        })
    }

    pub fn run(&self, id: RunId) -> Option<Run> {
        let run: &RunBook = self.runs.get(&id)?;
        Some(Run {
            id,
            kind: run.kind,
            state: run.state,
            progress: self.progress(run),
            input: run.input.clone(),
            result: run.result.clone(),
            created_at: run.created,
            finished_at: run.finished,
        })
    }

    /// The turns that have come in a lane: those with the freshest rows and those that wait longest, one by one.
    pub fn work(&self, now: Timestamp, shard: i64, limit: usize) -> Vec<PatientWork> {
        let due = self.patients.iter().filter_map(|(id, person)| Some((person.stream.as_ref()?, *id)));
        let due: Vec<_> = due.filter(|(stream, id)| shard_of(*id) == shard && stream.head.is_some_and(|at| at <= now)).collect();
        let (mut fresh, mut waiting) = (due.clone(), due);
        fresh.sort_by_key(|(stream, id)| (-stream.fresh, stream.head, *id));
        waiting.sort_by_key(|(stream, id)| (stream.head, *id));
        let mut chosen = Vec::new();
        for (fresh, waiting) in fresh.iter().zip(&waiting) {
            for (_, id) in [fresh, waiting] {
                if !chosen.contains(id) {
                    chosen.push(*id);
                }
            }
        }
        chosen.truncate(limit);
        let newest = |id| self.rows.iter().filter(move |row| row.patient == id && row.waits()).max_by_key(|row| row.seq);
        let turn = |id| {
            let rows = self.turn(id, now);
            let open: Vec<i64> = rows.iter().filter(|row| !row.state.is_final()).map(|row| row.seq).collect();
            PatientWork {
                patient: self.patient(id).unwrap(),
                blocked: self.is_blocked(id),
                fresh: newest(id).is_some_and(|row| !row.backlog),
                more: open.len() > 1 || newest(id).is_some_and(|row| open.iter().all(|seq| *seq < row.seq)),
                rows,
            }
        };
        chosen.into_iter().map(turn).filter(|work| !work.rows.is_empty()).collect()
    }

    /// What is open of a patient and may be looked at, its own Patient first; then what is to be read once more.
    fn turn(&self, patient: PatientId, now: Timestamp) -> Vec<WorkRow> {
        let rows: Vec<&RowBook> = self.rows.iter().filter(|row| row.patient == patient).collect();
        let own = |row: &&&RowBook| matches!(row.resource, ResourceKey::Patient(_));
        let mut asked: Vec<&RowBook> = rows.iter().filter(|row| row.unsettled()).copied().collect();
        asked.sort_by_key(|row| (row.due.is_none(), row.due, row.seq));
        asked.truncate(SHOWN);
        let mut read: Vec<&RowBook> = rows.iter().filter(|row| row.state == State::Delivered).copied().collect();
        read.retain(|row| row.audit.is_some_and(|(at, _)| at <= now));
        read.sort_by_key(|row| row.audit);
        read.truncate(SHOWN);
        let of_patient = rows.iter().filter(own).filter(|row| row.waits() || matches!(row.state, State::Held(_))).take(SHOWN);
        let waiting = rows.iter().filter(|row| !own(row) && row.waits() && !stands_behind_a_held_one(&rows, row)).take(1);
        let mut shown: Vec<&RowBook> = of_patient.chain(waiting).copied().chain(asked).chain(read).collect();
        shown.sort_by_key(|row| (row.state == State::Delivered, matches!(row.resource, ResourceKey::Observation(_)), row.seq));
        shown.into_iter().map(|row| self.work_row(row, now)).collect()
    }

    fn work_row(&self, row: &RowBook, now: Timestamp) -> WorkRow {
        let at = self.row(row.id.unwrap()).unwrap();
        let (ehr_id, ehr_version, synced_version, content) = match row.resource {
            ResourceKey::Patient(id) => {
                let person = &self.patients[&id];
                let linked = person.link.state == LinkState::Linked;
                let done = self.rows.iter().filter(|other| other.resource == row.resource && other.state == State::Delivered);
                (
                    person.link.ehr_id.clone().filter(|_| linked),
                    person.link.ehr_version.clone().filter(|_| linked),
                    done.map(|other| other.version).max(),
                    Content::Patient(person.draft.clone()),
                )
            }
            ResourceKey::Observation(id) => {
                let book = &self.observations[&id];
                let content = Content::Observation(book.versions[&row.version].clone());
                let there = book.known_there;
                (
                    book.ehr_id.clone().filter(|_| there),
                    book.ehr_version.clone().filter(|_| there),
                    book.synced_version.filter(|_| there),
                    content,
                )
            }
        };
        let own_settle_until = row.own_settle_until(now);
        let due_at = match own_settle_until {
            // What has killed the process again and again is asked about when nothing of it is open any more.
            Some(until) if row.state == State::Uncertain && row.claims >= 5 && until >= now => Some(until.plus_ms(1)),
            _ => row.due,
        };
        WorkRow {
            id: row.id.unwrap(),
            resource: row.resource,
            version: row.version,
            seq: row.seq,
            state: row.state,
            backlog: row.backlog,
            due_at,
            claims: row.claims,
            tries: row.tries,
            round_tries: row.round_tries,
            means: row.means,
            sent_before: row.sent,
            proven_not_applied: row.proven,
            match_etag: row.etag.clone(),
            ehr_id,
            ehr_version,
            synced_version,
            own_settle_until,
            resource_settle_until: self.resource_settle_until(row.resource, now),
            newer_exists: self.newer_exists(at),
            audit_at: row.audit.map(|(at, _)| at),
            audit_stage: row.audit.map_or(0, |(_, stage)| stage),
            last_class: attempts(row).last().and_then(|one| one.class),
            first_failed_at: row.first_failed,
            down_ms_then: row.down_then,
            created_at: row.created,
            content,
        }
    }

    pub fn ids(&self) -> impl Iterator<Item = DeliveryId> {
        self.rows.iter().filter_map(|row| row.id)
    }
}

/// The tries of a row, newest last.
fn attempts(row: &RowBook) -> Vec<Attempt> {
    let mut all: Vec<&Try> = row.attempts.iter().collect();
    all.sort_by_key(|one| (one.at, one.id));
    let shown = all.into_iter().map(|one| Attempt {
        id: one.id.unwrap(),
        at: one.at,
        duration_ms: one.ended.map(|ended| ended.ms_since(one.at)),
        request: one.request.clone(),
        means: one.means,
        status: one.status,
        class: one.class,
        settle_until: one.settle_until,
        message: one.message.clone(),
        late: one.late.clone(),
    });
    shown.collect()
}
