//! What the platform and its people write: observations, patients, links, the connection, replays and runs.

use super::{Books, ConfigBook, Effect, EhrBook, ObservationBook, PatientBook};
use model::{
    Class, EhrId, HeldReason, Link, LinkState, ObservationDraft, ObservationId, PatientDraft, PatientId, ResourceKey, Source, State,
    Timestamp,
};
use ponte_store::config::ConnectionFailed;
use ponte_store::{Discarded, Progress, Replayed, RunKind, RunState};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub struct RunBook {
    pub kind: RunKind,
    pub state: RunState,
    /// Places of its rows.
    pub items: BTreeSet<usize>,
    pub created: Timestamp,
    pub finished: Option<Timestamp>,
    pub input: Option<String>,
    pub result: Option<String>,
    pub lease: Option<Timestamp>,
}

fn persons_link(ehr_id: Option<EhrId>, actor: &str, now: Timestamp) -> Link {
    let state = if ehr_id.is_some() { LinkState::Linked } else { LinkState::Unlinked };
    Link { state, ehr_id, by: Some(format!("person:{actor}")), at: Some(now), ..Link::default() }
}

impl Books {
    fn intend(&mut self, now: Timestamp, resource: ResourceKey, version: i64, hold: Option<HeldReason>) {
        let patient = match resource {
            ResourceKey::Patient(id) => id,
            ResourceKey::Observation(id) => self.observations[&id].patient,
        };
        self.enqueue(now, patient, &[Effect { resource, version, hold, backlog: false }]);
    }

    pub fn create_patient(&mut self, now: Timestamp, id: PatientId, draft: PatientDraft, link: Option<EhrId>) {
        let linked = link.is_some();
        let link = link.map_or_else(Link::default, |ehr_id| persons_link(Some(ehr_id), "ana", now));
        self.patients.insert(id, PatientBook { draft, version: 1, link, created: now, updated: now, last_sync: None, stream: None });
        if !linked {
            self.intend(now, ResourceKey::Patient(id), 1, None);
        }
    }

    /// `None`: somebody changed it in between.
    pub fn update_patient(&mut self, now: Timestamp, id: PatientId, version: i64, draft: PatientDraft) -> Option<()> {
        let person = self.patients.get_mut(&id).unwrap();
        if person.version != version {
            return None;
        }
        if person.draft == draft {
            return Some(());
        }
        (person.version, person.draft, person.updated) = (version + 1, draft, now);
        let link = person.link.clone();
        if link.by_person() || (link.state == LinkState::Linked && !link.created_by_us()) {
            return Some(());
        }
        if link.state == LinkState::Held && !link.created_by_us() {
            // What it was held for has changed: it is looked for again.
            person.link = Link::default();
            if let Some(stream) = &mut person.stream {
                stream.blocked = false;
            }
        }
        self.newer_accepted(ResourceKey::Patient(id), version + 1);
        self.intend(now, ResourceKey::Patient(id), version + 1, None);
        Some(())
    }

    pub fn link_by_person(&mut self, now: Timestamp, id: PatientId, ehr_id: Option<EhrId>) {
        let linked = ehr_id.is_some();
        let person = self.patients.get_mut(&id).unwrap();
        person.link = persons_link(ehr_id, "ana", now);
        person.updated = now;
        if let Some(stream) = &mut person.stream {
            stream.blocked = !linked;
        }
        if linked {
            self.withdrawn(ResourceKey::Patient(id));
            if self.due_now() {
                for at in self.places(|row| row.patient == id && row.waits() && row.due.is_none()) {
                    self.rows[at].due = Some(now);
                }
            }
        }
        self.touch(id);
    }

    /// Observations of one request, already named; each patient's in one go.
    pub fn create_observations(&mut self, now: Timestamp, made: &[(ObservationId, ObservationDraft, Option<HeldReason>)]) {
        let mut by_patient: BTreeMap<PatientId, Vec<Effect>> = BTreeMap::new();
        for (id, draft, hold) in made {
            let effect = Effect { resource: ResourceKey::Observation(*id), version: 1, hold: *hold, backlog: false };
            by_patient.entry(draft.patient_id).or_default().push(effect);
            self.observations.insert(
                *id,
                ObservationBook {
                    patient: draft.patient_id,
                    version: 1,
                    versions: BTreeMap::from([(1, draft.clone())]),
                    draft: draft.clone(),
                    source: Source::Platform,
                    deleted: false,
                    resource: None,
                    known_there: false,
                    ehr_id: None,
                    ehr_version: None,
                    synced_version: None,
                    synced_at: None,
                    settled_at: None,
                    seen_at: None,
                    created: now,
                    updated: now,
                },
            );
        }
        for (patient, effects) in by_patient {
            self.enqueue(now, patient, &effects);
        }
    }

    fn new_version(&mut self, now: Timestamp, id: ObservationId, draft: ObservationDraft, deleted: bool) -> i64 {
        let book = self.observations.get_mut(&id).unwrap();
        book.version += 1;
        book.versions.insert(book.version, draft.clone());
        (book.draft, book.deleted, book.updated) = (draft, deleted, now);
        book.version
    }

    /// `false`: not the newest version, not ours to change, or withdrawn.
    pub fn correct(&mut self, now: Timestamp, id: ObservationId, version: i64, draft: ObservationDraft, hold: Option<HeldReason>) -> bool {
        let Some(book) = self.observations.get(&id) else { return false };
        if book.version != version || book.deleted || book.source == Source::Ehr {
            return false;
        }
        let draft = ObservationDraft { patient_id: book.patient, ..draft };
        let version = self.new_version(now, id, draft, false);
        self.newer_accepted(ResourceKey::Observation(id), version);
        self.intend(now, ResourceKey::Observation(id), version, hold);
        true
    }

    pub fn withdraw(&mut self, now: Timestamp, id: ObservationId) -> bool {
        let Some(book) = self.observations.get(&id) else { return false };
        if book.source == Source::Ehr || book.deleted {
            return book.source == Source::Platform;
        }
        let resource = ResourceKey::Observation(id);
        let draft = ObservationDraft { status: "entered-in-error".to_owned(), ..book.draft.clone() };
        let patient = book.patient;
        let there = self.may_be_there(id);
        let version = self.new_version(now, id, draft, true);
        if there {
            self.newer_accepted(resource, version);
            self.intend(now, resource, version, None);
        } else {
            self.withdrawn(resource);
            self.touch(patient);
        }
        true
    }

    /// Something of it was sent, and not all of that is known to have come to nothing.
    fn may_be_there(&self, id: ObservationId) -> bool {
        const SIGNS: [Class; 6] =
            [Class::Applied, Class::Exists, Class::Uncertain, Class::BadResponse, Class::Conflict, Class::MultipleMatches];
        let book = &self.observations[&id];
        let mut rows = self.rows.iter().filter(|row| row.resource == ResourceKey::Observation(id));
        book.synced_version.is_some()
            || book.ehr_id.is_some()
            || rows.any(|row| {
                let mut writes = row.attempts.iter().filter(|one| one.means.is_some());
                (!row.harmless() && row.state != State::Dead) || writes.any(|one| one.class.is_none_or(|class| SIGNS.contains(&class)))
            })
    }

    /// `false`: somebody changed it in between.
    pub fn put_connection(&mut self, now: Timestamp, new: ConfigBook, expected: Option<i64>) -> bool {
        if self.config.as_ref().map(|config| config.revision) != expected {
            return false;
        }
        let was_due = self.due_now();
        if self.config.is_none() {
            // Whether it is the same account as one that is gone, nobody knows.
            for pull in self.pulls.values_mut() {
                (pull.checkpoint, pull.epoch) = (None, pull.epoch + 1);
                if pull.lease.take().is_some() {
                    (pull.requested, pull.due) = (Some(now), Some(now));
                }
            }
        }
        self.config = Some(ConfigBook { revision: expected.unwrap_or(0) + 1, last_error: None, ..new });
        let ehr = self.ehr.get_or_insert_default();
        *ehr = EhrBook { failures: 0, not_before: None, circuit_open: false, auth_refused: false, last_class: None, ..ehr.clone() };
        if self.due_now() && !was_due {
            for at in self.places(|row| row.waits() && row.due.is_none()) {
                (self.rows[at].due, self.rows[at].backlog) = (Some(now), true);
            }
            let with_work = |books: &Self, id| books.rows.iter().any(|row| row.patient == id && row.is_open());
            let all: Vec<PatientId> = self.patients.keys().copied().collect();
            let moves = |books: &Self, id: PatientId| books.patients[&id].stream.as_ref().is_some_and(|stream| stream.head.is_some());
            let touched = all.into_iter().filter(|id| with_work(self, *id) || moves(self, *id)).collect();
            self.touch_each(touched);
        }
        true
    }

    pub fn failed(&mut self, now: Timestamp, failed: &ConnectionFailed) {
        let Some(ehr) = &mut self.ehr else { return };
        (ehr.failures, ehr.not_before, ehr.circuit_open) = (failed.failures, Some(failed.not_before), failed.circuit_open);
        (ehr.auth_refused, ehr.last_class) = (failed.auth_refused, Some(failed.class));
        if failed.down {
            ehr.down_since = ehr.down_since.or(Some(now));
        }
        if let Some(config) = &mut self.config {
            config.last_error = Some(failed.sentence.clone());
        }
    }

    pub fn works(&mut self, now: Timestamp) {
        let Some(ehr) = &mut self.ehr else { return };
        let well = ehr.failures == 0 && !ehr.circuit_open && !ehr.auth_refused && ehr.down_since.is_none() && ehr.last_class.is_none();
        if well && ehr.last_push.is_some_and(|at| at > now.plus_ms(-1000)) {
            return;
        }
        let asked_to_wait = ehr.last_class == Some(Class::RateLimited) && ehr.not_before.is_some_and(|at| at > now);
        if !asked_to_wait {
            (ehr.not_before, ehr.last_class) = (None, None);
        }
        (ehr.failures, ehr.circuit_open, ehr.auth_refused) = (0, false, false);
        ehr.down_total += ehr.down_since.take().map_or(0, |since| now.ms_since(since));
        ehr.last_push = Some(now);
        if let Some(config) = &mut self.config {
            config.last_error = None;
        }
    }

    pub fn sweep(&mut self, now: Timestamp) -> u64 {
        let swept = self.places(|row| row.waits() && row.due.is_none());
        for at in &swept {
            let row = &mut self.rows[*at];
            (row.due, row.backlog, row.round_tries) = (Some(now), true, 0);
        }
        let patients = swept.iter().map(|at| self.rows[*at].patient).collect();
        self.touch_each(patients);
        swept.len() as u64
    }

    /// What became of a replay, and the row that goes.
    pub fn replay(&mut self, now: Timestamp, at: usize) -> (Replayed, Option<usize>) {
        let row = &self.rows[at];
        let (resource, patient) = (row.resource, row.patient);
        match row.state {
            // The newer version says all that this one would.
            State::Dead if self.newer_exists(at) => self.go(at, State::Canceled, None),
            State::Dead | State::Held(_) | State::RetryScheduled => {
                let to = match row.state {
                    State::RetryScheduled => State::RetryScheduled,
                    _ if row.harmless() => State::Pending,
                    // What may be there already is asked for first.
                    _ => State::Uncertain,
                };
                self.go(at, to, Some(now));
                let row = &mut self.rows[at];
                (row.round_tries, row.claims, row.first_failed, row.down_then, row.backlog) = (0, 0, None, 0, true);
            }
            _ => return (Replayed::NotDead, None),
        }
        self.supersede_older(resource);
        self.touch(patient);
        if matches!(self.rows[at].state, State::Superseded | State::Canceled) {
            let goes = self.deliver_now(now, resource, true);
            return (Replayed::Superseded, goes);
        }
        (Replayed::Again, Some(at))
    }

    pub fn discard(&mut self, at: usize) -> Discarded {
        if !matches!(self.rows[at].state, State::Dead | State::Held(_)) {
            return Discarded::NotDead;
        }
        self.go(at, State::Canceled, None);
        self.touch(self.rows[at].patient);
        Discarded::Canceled
    }

    /// The row that stands for the resource; `None`: unknown here, or the EHR's.
    pub fn deliver_now(&mut self, now: Timestamp, resource: ResourceKey, backlog: bool) -> Option<usize> {
        let (patient, version) = match resource {
            ResourceKey::Patient(id) => (id, self.patients.get(&id)?.version),
            ResourceKey::Observation(id) => {
                let book = self.observations.get(&id).filter(|book| book.source == Source::Platform)?;
                (book.patient, book.version)
            }
        };
        let wanted = match self.newest(resource) {
            Some(at) => at,
            None => self.enqueue(now, patient, &[Effect { resource, version, hold: None, backlog }])[0],
        };
        if self.rows[wanted].waits() {
            let seq = self.rows[wanted].seq;
            let before = self.places(|row| {
                let first = row.seq < seq || matches!(row.resource, ResourceKey::Patient(_));
                row.patient == patient && row.waits() && first && row.due.is_none_or(|due| due > now)
            });
            for at in before.into_iter().chain([wanted]) {
                (self.rows[at].due, self.rows[at].round_tries) = (Some(now), 0);
            }
            self.rows[wanted].backlog = backlog;
            self.touch(patient);
        }
        Some(wanted)
    }

    fn begin_run(now: Timestamp, kind: RunKind, items: BTreeSet<usize>) -> RunBook {
        RunBook { kind, state: RunState::Running, items, created: now, finished: None, input: None, result: None, lease: None }
    }

    pub fn sync_all(&mut self, now: Timestamp) -> RunBook {
        self.sweep(now);
        let mut items = BTreeSet::new();
        let unsynced = |book: &ObservationBook| book.source == Source::Platform && book.synced_version != Some(book.version);
        let ids: Vec<ObservationId> = self.observations.iter().filter(|(_, book)| unsynced(book)).map(|(id, _)| *id).collect();
        for id in ids {
            let resource = ResourceKey::Observation(id);
            let row = self.newest(resource).map(|at| (at, &self.rows[at]));
            items.extend(match row {
                Some((_, row)) if row.state == State::Canceled => continue,
                Some((at, row)) if row.state == State::Pending && row.due.is_some_and(|due| due <= now) => Some(at),
                _ => self.deliver_now(now, resource, true),
            });
        }
        Self::begin_run(now, RunKind::SyncAll, items)
    }

    pub fn replay_dead(&mut self, now: Timestamp, patient: Option<PatientId>) -> RunBook {
        let mut dead = self.places(|row| row.state == State::Dead && patient.is_none_or(|id| row.patient == id));
        dead.sort_by_key(|at| (self.rows[*at].patient, self.rows[*at].seq));
        let items = dead.into_iter().filter_map(|at| self.replay(now, at).1).collect();
        Self::begin_run(now, RunKind::Replay, items)
    }

    pub fn request_check(now: Timestamp, input: &str) -> RunBook {
        RunBook { input: Some(input.to_owned()), ..Self::begin_run(now, RunKind::Check, BTreeSet::new()) }
    }

    /// What of a run is done. A superseded row stands for the newest of its observation.
    pub fn progress(&self, run: &RunBook) -> Progress {
        let mut progress = Progress { total: run.items.len() as u64, ..Progress::default() };
        for at in &run.items {
            let observation = matches!(self.rows[*at].resource, ResourceKey::Observation(_));
            let stands_for =
                if self.rows[*at].state == State::Superseded && observation { self.newest(self.rows[*at].resource).unwrap() } else { *at };
            let row = &self.rows[stands_for];
            let stuck = row.waits() && self.is_blocked(row.patient);
            let given_up = row.state == State::RetryScheduled && row.due.is_none();
            match row.state {
                State::Delivered | State::Superseded => progress.synced += 1,
                State::Dead | State::Canceled | State::Held(_) => progress.failed += 1,
                _ if stuck || given_up => progress.failed += 1,
                _ => progress.waiting += 1,
            }
        }
        progress
    }
}
