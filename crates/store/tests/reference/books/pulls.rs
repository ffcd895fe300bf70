//! Pulls: one of each patient, leased while it runs, and what a page of it changes here.

use super::{Books, ObservationBook};
use model::{EhrId, LinkState, ObservationDraft, ObservationId, PatientId, ResourceKey, Source, State, Timestamp};
use ponte_store::lane::Fenced;
use ponte_store::{PulledObservation, PulledResult};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default)]
pub struct PullBook {
    pub due: Option<Timestamp>,
    pub lease: Option<Timestamp>,
    pub epoch: i64,
    pub requested: Option<Timestamp>,
    pub watermark: Option<Timestamp>,
    pub checkpoint: Option<String>,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub last_full: Option<Timestamp>,
    pub failures: u32,
    pub outcome: Option<String>,
    pub message: Option<String>,
    pub created: u64,
    pub updated: u64,
    pub unchanged: u64,
}

/// So many of one tenant are under way at once.
pub const PULLS_AT_ONCE: usize = 2;

/// The pulls of which one is to be claimed now: a dead worker's before all others, and else the one that is due longest.
pub fn claimable(all: &[Books], now: Timestamp) -> Vec<(usize, PatientId)> {
    let (mut expired, mut due) = (Vec::new(), Vec::new());
    for (tenant, books) in all.iter().enumerate() {
        let leased = books.pulls.values().filter(|pull| pull.lease.is_some_and(|until| until > now)).count();
        if !books.may_pull() || books.not_before().is_some_and(|at| at > now) || leased >= PULLS_AT_ONCE {
            continue;
        }
        for (patient, pull) in &books.pulls {
            match (pull.lease, pull.due) {
                (Some(until), _) if until <= now => expired.push((tenant, *patient)),
                (None, Some(at)) if at <= now => due.push((at, tenant, *patient)),
                _ => {}
            }
        }
    }
    if expired.is_empty() { due.into_iter().min().map(|(_, tenant, patient)| (tenant, patient)).into_iter().collect() } else { expired }
}

/// Leases the one that was claimed; its epoch.
pub fn claim_pull(books: &mut Books, now: Timestamp, patient: PatientId, until: Timestamp) -> i64 {
    let pull = books.pulls.get_mut(&patient).unwrap();
    pull.epoch += 1;
    (pull.lease, pull.due, pull.requested) = (Some(until), None, None);
    // Where the last one was left there is a note; without one it begins anew.
    if pull.checkpoint.is_none() {
        pull.started = Some(now);
        (pull.created, pull.updated, pull.unchanged) = (0, 0, 0);
    }
    pull.epoch
}

impl Books {
    pub fn request_pull(&mut self, now: Timestamp, patient: PatientId) {
        let pull = self.pulls.entry(patient).or_default();
        pull.requested = Some(now);
        pull.due = Some(pull.due.map_or(now, |due| due.min(now)));
    }

    /// So many became due.
    pub fn pull_everybody(&mut self, now: Timestamp) -> u64 {
        if !self.may_pull() {
            return 0;
        }
        let mut made_due = 0;
        for (id, _) in self.patients.iter().filter(|(_, person)| person.link.state == LinkState::Linked) {
            let pull = self.pulls.entry(*id).or_default();
            if pull.lease.is_none() && pull.due.is_none_or(|due| due > now) {
                pull.due = Some(now);
                pull.requested = pull.requested.or(Some(now));
                made_due += 1;
            }
        }
        made_due
    }

    pub fn pull_is_mine(&self, patient: PatientId, epoch: i64) -> bool {
        self.pulls.get(&patient).is_some_and(|pull| pull.epoch == epoch && pull.lease.is_some())
    }

    fn pull_fenced(&mut self, patient: PatientId, epoch: i64, write: impl FnOnce(&mut Self)) -> Fenced {
        if !self.pull_is_mine(patient, epoch) {
            return Fenced::Lost;
        }
        write(self);
        Fenced::Mine
    }

    fn pull(&mut self, patient: PatientId) -> &mut PullBook {
        self.pulls.get_mut(&patient).unwrap()
    }

    pub fn renew_pull(&mut self, patient: PatientId, epoch: i64, until: Timestamp) -> Fenced {
        self.pull_fenced(patient, epoch, |books| books.pull(patient).lease = Some(until))
    }

    pub fn finish_pull(&mut self, now: Timestamp, (patient, epoch): (PatientId, i64), watermark: Option<Timestamp>, full: bool) -> Fenced {
        self.pull_fenced(patient, epoch, |books| {
            let pull = books.pull(patient);
            (pull.lease, pull.checkpoint, pull.message) = (None, None, None);
            pull.watermark = watermark.or(pull.watermark);
            pull.finished = Some(now);
            if full {
                pull.last_full = Some(now);
            }
            (pull.failures, pull.outcome) = (0, Some("complete".to_owned()));
            books.patients.get_mut(&patient).unwrap().last_sync = Some(now);
            if let Some(ehr) = &mut books.ehr {
                ehr.last_pull = Some(now);
            }
        })
    }

    pub fn fail_pull(&mut self, (patient, epoch): (PatientId, i64), outcome: &str, message: &str, again: Option<Timestamp>) -> Fenced {
        self.pull_fenced(patient, epoch, |books| {
            let pull = books.pull(patient);
            pull.lease = None;
            pull.failures += 1;
            (pull.outcome, pull.message) = (Some(outcome.to_owned()), Some(message.to_owned()));
            pull.due = [pull.due, again].into_iter().flatten().min();
        })
    }

    pub fn put_back_pull(&mut self, now: Timestamp, (patient, epoch): (PatientId, i64), outcome: &str, message: &str) -> Fenced {
        self.pull_fenced(patient, epoch, |books| {
            let pull = books.pull(patient);
            (pull.lease, pull.requested) = (None, Some(now));
            (pull.outcome, pull.message) = (Some(outcome.to_owned()), Some(message.to_owned()));
            pull.due = Some(pull.due.map_or(now, |due| due.min(now)));
        })
    }

    pub fn mark_gone(&mut self, now: Timestamp, patient: PatientId, epoch: i64, id: ObservationId) -> Fenced {
        self.pull_fenced(patient, epoch, |books| {
            if let Some(book) = books.observations.get_mut(&id).filter(|book| book.patient == patient && !book.deleted) {
                (book.deleted, book.seen_at, book.updated) = (true, Some(now), now);
            }
        })
    }

    /// What the EHR is known to hold of this patient and did not show since then; what is on its way judges for itself.
    pub fn not_seen(&self, patient: PatientId, since: Timestamp) -> Vec<(ObservationId, EhrId)> {
        let on_its_way = |id: ObservationId| self.rows.iter().any(|row| row.resource == ResourceKey::Observation(id) && row.is_open());
        let theirs = self.observations.iter().filter(|(id, book)| {
            book.patient == patient
                && book.known_there
                && !book.deleted
                && book.seen_at.is_none_or(|at| at < since)
                && (book.source == Source::Ehr || book.synced_version == Some(book.version))
                && !on_its_way(**id)
        });
        theirs.filter_map(|(id, book)| Some((*id, book.ehr_id.clone()?))).collect()
    }

    /// One page. New rows are named by the caller, who alone knows the ids that the store gave.
    pub fn store_page(
        &mut self,
        now: Timestamp,
        (patient, epoch): (PatientId, i64),
        rows: &[PulledObservation],
        checkpoint: &str,
        until: Timestamp,
    ) -> (Fenced, Vec<PulledResult>, Vec<ObservationBook>) {
        if !self.pull_is_mine(patient, epoch) {
            return (Fenced::Lost, Vec::new(), Vec::new());
        }
        let (mut results, mut new) = (Vec::new(), Vec::new());
        for row in rows {
            let draft = ObservationDraft { patient_id: patient, ..row.draft.clone() };
            let ours = row.ours.filter(|id| {
                let book = self.observations.get(id);
                book.is_some_and(|book| book.source == Source::Platform && book.patient == patient)
            });
            let there = self.observations.iter().find(|(_, book)| book.known_there && book.ehr_id.as_ref() == Some(&row.ehr_id));
            let result = match ours.or(there.map(|(id, _)| *id)) {
                None => {
                    new.push(pulled(now, patient, &draft, row));
                    PulledResult::Created
                }
                Some(id) if self.observations[&id].source == Source::Platform => self.ours_came_back(now, patient, id, &draft, row),
                Some(id) => self.theirs_again(now, patient, id, &draft, row),
            };
            results.push(result);
        }
        let pull = self.pull(patient);
        for result in &results {
            match result {
                PulledResult::Created => pull.created += 1,
                PulledResult::Updated => pull.updated += 1,
                PulledResult::Unchanged => pull.unchanged += 1,
            }
        }
        pull.checkpoint = Some(checkpoint.to_owned()).filter(|note| !note.is_empty());
        pull.lease = Some(until);
        (Fenced::Mine, results, new)
    }

    /// One of ours, as the EHR shows it now.
    fn ours_came_back(
        &mut self,
        now: Timestamp,
        patient: PatientId,
        id: ObservationId,
        draft: &ObservationDraft,
        row: &PulledObservation,
    ) -> PulledResult {
        let started = self.pulls[&patient].started.unwrap();
        let book = self.observations.get_mut(&id).unwrap();
        if book.patient != patient {
            return PulledResult::Unchanged;
        }
        book.seen_at = Some(now);
        let known = book.ehr_id.as_ref() == Some(&row.ehr_id) && book.ehr_version.as_ref() == Some(&row.ehr_version);
        let on_its_way = book.synced_version != Some(book.version);
        if known || on_its_way || book.settled_at.is_some_and(|at| at >= started) {
            return PulledResult::Unchanged;
        }
        if row.mark.is_some_and(|mark| mark < book.version) {
            // An older version of ours over the newer one: its delivery reads it, and repairs it.
            let version = book.version;
            let resource = ResourceKey::Observation(id);
            for at in self.places(|row| row.resource == resource && row.version == version && row.state == State::Delivered) {
                self.rows[at].audit = Some((now, 0));
            }
            self.touch(patient);
            return PulledResult::Unchanged;
        }
        let as_known = match &book.resource {
            Some(shown) => *shown == row.resource,
            None => row.mark.is_none_or(|mark| mark == book.version) && book.draft == *draft && !row.more,
        };
        if as_known {
            return PulledResult::Unchanged;
        }
        // Somebody changed it there. The version that counts as known stays ours.
        book.draft = draft.clone();
        book.resource = Some(row.resource.clone());
        (book.ehr_id, book.known_there, book.updated) = (Some(row.ehr_id.clone()), true, now);
        PulledResult::Updated
    }

    fn theirs_again(
        &mut self,
        now: Timestamp,
        patient: PatientId,
        id: ObservationId,
        draft: &ObservationDraft,
        row: &PulledObservation,
    ) -> PulledResult {
        let book = self.observations.get_mut(&id).unwrap();
        book.seen_at = Some(now);
        if book.ehr_version.as_ref() == Some(&row.ehr_version) && !book.deleted {
            return PulledResult::Unchanged;
        }
        book.version += 1;
        book.versions.insert(book.version, draft.clone());
        (book.draft, book.patient, book.deleted) = (draft.clone(), patient, false);
        (book.synced_version, book.synced_at, book.updated) = (Some(book.version), Some(now), now);
        (book.resource, book.ehr_version) = (Some(row.resource.clone()), Some(row.ehr_version.clone()));
        PulledResult::Updated
    }
}

fn pulled(now: Timestamp, patient: PatientId, draft: &ObservationDraft, row: &PulledObservation) -> ObservationBook {
    ObservationBook {
        patient,
        version: 1,
        versions: BTreeMap::from([(1, draft.clone())]),
        draft: draft.clone(),
        source: Source::Ehr,
        deleted: false,
        resource: Some(row.resource.clone()),
        known_there: true,
        ehr_id: Some(row.ehr_id.clone()),
        ehr_version: Some(row.ehr_version.clone()),
        synced_version: Some(1),
        synced_at: Some(now),
        settled_at: None,
        seen_at: Some(now),
        created: now,
        updated: now,
    }
}
