//! Lanes: who may work in which, and what its owner writes.

use super::{Books, Try, shard_of};
use model::{AttemptId, Class, HeldReason, LateAnswer, LinkState, PatientId, ResourceKey, Source, State, Timestamp};
use ponte_store::lane::Fenced;
use ponte_store::{Begin, LinkChange, Settlement};

#[derive(Debug, Clone, Default)]
pub struct LaneBook {
    pub due: Option<Timestamp>,
    pub lease: Option<Timestamp>,
    pub epoch: i64,
    pub served: i64,
}

/// What may be claimed once so often without an outcome is not sent again.
const CLAIMS_MAX: u32 = 5;

/// The lane that is to be claimed: (tenant, shard, epoch, taken over).
pub fn claim_lane(all: &mut [Books], now: Timestamp, until: Timestamp) -> Option<(usize, i64, i64, bool)> {
    let mut free = Vec::new();
    for (tenant, books) in all.iter().enumerate() {
        let open = books.may_push() && books.not_before().is_none_or(|at| at <= now) && books.leased(|until| until > now) < books.most();
        for (shard, lane) in &books.lanes {
            // What a dead worker left goes first, that which has lain longest before the rest.
            if let Some(until) = lane.lease.filter(|until| *until <= now) {
                free.push((false, until.0, 0, tenant, *shard));
            } else if lane.lease.is_none() && open && lane.due.is_some_and(|due| due <= now) {
                free.push((true, books.served, lane.served, tenant, *shard));
            }
        }
    }
    let (due, _, _, tenant, shard) = free.into_iter().min()?;
    let after = |served: Option<i64>| served.filter(|served| *served >= now.0).map_or(now.0, |served| served + 1);
    all[tenant].served = after(all.iter().map(|books| books.served).max());
    let served = after(all[tenant].lanes.values().map(|lane| lane.served).max());
    let flying = all[tenant].in_shard(shard).iter().any(|at| all[tenant].rows[*at].attempts.iter().any(|one| one.class.is_none()));
    let lane = all[tenant].lanes.get_mut(&shard).unwrap();
    (lane.lease, lane.served, lane.epoch) = (Some(until), served, lane.epoch + 1);
    Some((tenant, shard, lane.epoch, !due || flying))
}

impl Books {
    /// Leased lanes for which this holds.
    pub fn leased(&self, wanted: impl Fn(Timestamp) -> bool) -> usize {
        self.lanes.values().filter(|lane| lane.lease.is_some_and(&wanted)).count()
    }

    /// So many lanes at once: one while the connection fails.
    pub fn most(&self) -> usize {
        let fails = self.ehr.as_ref().is_some_and(|ehr| ehr.failures > 0);
        if fails { 1 } else { self.config.as_ref().map_or(1, |config| config.max_concurrency) * self.leases_for_a_place }
    }

    pub fn in_shard(&self, shard: i64) -> Vec<usize> {
        self.places(|row| shard_of(row.patient) == shard)
    }

    pub fn is_mine(&self, shard: i64, epoch: i64) -> bool {
        self.lanes.get(&shard).is_some_and(|lane| lane.epoch == epoch && lane.lease.is_some())
    }

    fn fenced(&mut self, shard: i64, epoch: i64, write: impl FnOnce(&mut Self)) -> Fenced {
        if !self.is_mine(shard, epoch) {
            return Fenced::Lost;
        }
        write(self);
        Fenced::Mine
    }

    fn lane(&mut self, shard: i64) -> &mut LaneBook {
        self.lanes.get_mut(&shard).unwrap()
    }

    pub fn renew(&mut self, shard: i64, epoch: i64, until: Timestamp) -> Fenced {
        self.fenced(shard, epoch, |books| books.lane(shard).lease = Some(until))
    }

    /// It has no outcome yet.
    pub fn flies(&self, attempt: AttemptId) -> bool {
        self.rows.iter().any(|row| row.attempts.iter().any(|one| one.id == Some(attempt) && one.class.is_none()))
    }

    pub fn release(&mut self, now: Timestamp, shard: i64, epoch: i64, not_before: Option<Timestamp>) -> Fenced {
        self.fenced(shard, epoch, |books| {
            let heads = books.patients.iter().filter(|(id, _)| shard_of(**id) == shard);
            let head = heads.filter_map(|(_, person)| person.stream.as_ref()?.head).min();
            let lane = books.lane(shard);
            lane.lease = None;
            lane.served = lane.served.max(now.0);
            lane.due = head.map(|head| not_before.map_or(head, |at| at.max(head)));
        })
    }

    pub fn take_over(&mut self, now: Timestamp, shard: i64, epoch: i64, settle_ms: i64) -> Fenced {
        let until = now.plus_ms(settle_ms);
        self.fenced(shard, epoch, |books| {
            let mut touched = Vec::new();
            for at in books.in_shard(shard) {
                let row = &mut books.rows[at];
                let mut opened = row.state == State::InFlight;
                for one in &mut row.attempts {
                    let flies = one.class.is_none();
                    if one.means.is_none() && flies {
                        (one.class, one.ended) = (Some(Class::Uncertain), Some(now));
                    } else if one.open_until().is_some_and(|open| open >= now) {
                        one.class = Some(Class::Uncertain);
                        one.ended = one.ended.or(Some(now));
                        one.settle_until = one.settle_until.max(Some(until));
                        opened = true;
                    }
                }
                if opened {
                    touched.push(at);
                }
            }
            for at in &touched {
                let settled = books.resource_settle_until(books.rows[*at].resource, now).unwrap_or(until).plus_ms(1);
                let row = &mut books.rows[*at];
                match row.state {
                    // What has killed the process again and again is asked about, and not before it has settled.
                    State::InFlight => {
                        let due = if row.claims >= CLAIMS_MAX { until.plus_ms(1) } else { now };
                        books.go(*at, State::Uncertain, Some(due));
                    }
                    State::Delivered => row.audit = Some((settled, 0)),
                    _ => {}
                }
            }
            let patients = touched.into_iter().map(|at| books.rows[at].patient).collect();
            books.touch_each(patients);
        })
    }

    pub fn begin(&mut self, now: Timestamp, shard: i64, epoch: i64, attempts: &[Begin]) -> Fenced {
        if !self.is_mine(shard, epoch) {
            return Fenced::Lost;
        }
        let places: Vec<usize> = attempts.iter().map(|begin| self.row(begin.delivery).unwrap()).collect();
        let blocked = |at: usize| self.patients[&self.rows[at].patient].stream.as_ref().is_some_and(|stream| stream.blocked);
        let may_go = |at: usize| (self.rows[at].waits() && !blocked(at)) || self.rows[at].unsettled();
        if attempts.iter().zip(&places).any(|(begin, at)| begin.means.is_some() && !may_go(*at)) {
            // Nothing is sent, and the lane is to be read anew.
            assert_eq!(self.release(now, shard, epoch, None), Fenced::Mine);
            return Fenced::Lost;
        }
        for (begin, at) in attempts.iter().zip(places) {
            let row = &mut self.rows[at];
            row.attempts.push(Try {
                id: Some(begin.attempt),
                at: now,
                ended: None,
                request: begin.request.clone(),
                means: begin.means,
                status: None,
                class: None,
                settle_until: None,
                message: None,
                late: None,
            });
            if begin.means.is_some() {
                (row.state, row.due) = (State::InFlight, None);
                (row.means, row.etag, row.sent, row.proven) = (begin.means, begin.match_etag.clone(), true, false);
                row.claims += 1;
            }
        }
        Fenced::Mine
    }

    pub fn settle(&mut self, now: Timestamp, shard: i64, epoch: i64, settlements: &[Settlement]) -> Fenced {
        let mine = self.is_mine(shard, epoch);
        if mine {
            self.settle_all(now, settlements);
        } else {
            self.keep_as_late(now, settlements);
        }
        if settlements.iter().any(|settlement| settlement.works) {
            self.works(now);
        }
        if mine { Fenced::Mine } else { Fenced::Lost }
    }

    pub fn settle_link(
        &mut self,
        now: Timestamp,
        (shard, epoch): (i64, i64),
        patient: PatientId,
        change: &LinkChange,
        settlement: Option<Settlement>,
    ) -> Fenced {
        let settlements: Vec<Settlement> = settlement.into_iter().collect();
        if self.is_mine(shard, epoch) {
            self.change_link(patient, change);
        }
        self.settle(now, shard, epoch, &settlements)
    }

    /// A rule's decision; a person's stands above it.
    pub fn change_link(&mut self, patient: PatientId, change: &LinkChange) {
        let person = self.patients.get_mut(&patient).unwrap();
        let same = person.link.by == change.link.by && person.link.ehr_id == change.link.ehr_id;
        if person.link.by_person() && !same {
            return;
        }
        person.link = change.link.clone();
        if let Some(stream) = &mut person.stream {
            stream.blocked = change.blocked;
        }
        self.touch(patient);
    }

    fn settle_all(&mut self, now: Timestamp, settlements: &[Settlement]) {
        let mut patients = Vec::new();
        for settlement in settlements {
            let at = self.row(settlement.delivery).unwrap();
            patients.push(self.rows[at].patient);
            self.settle_one(now, at, settlement);
        }
        self.touch_each(patients);
    }

    fn settle_one(&mut self, now: Timestamp, at: usize, settlement: &Settlement) {
        let was_write = self.end_try(now, at, settlement);
        let (is, to) = (self.rows[at].state, settlement.state);
        let claims = if was_write { 0 } else { self.rows[at].claims };
        let ended = matches!(is, State::Superseded | State::Canceled);
        let there_all_the_same =
            is == State::Delivered && to != State::Delivered && (was_write || !matches!(to, State::RetryScheduled | State::Held(_)));
        if there_all_the_same {
            let read_at = self.resource_settle_until(self.rows[at].resource, now).map_or(now, |until| until.plus_ms(1));
            self.rows[at].audit = Some((read_at, 0));
        } else if !ended && claims >= CLAIMS_MAX && matches!(to, State::Pending | State::RetryScheduled) {
            self.bury(now, at);
        } else if !ended {
            self.stand(now, at, settlement, claims);
        }
        match self.rows[at].resource {
            ResourceKey::Observation(_) => self.keep_observation(now, at, settlement),
            ResourceKey::Patient(patient) => {
                let link = &mut self.patients.get_mut(&patient).unwrap().link;
                if settlement.ehr_version.is_some() && link.state == LinkState::Linked {
                    link.ehr_version.clone_from(&settlement.ehr_version);
                }
            }
        }
        if to == State::Delivered {
            self.patients.get_mut(&self.rows[at].patient).unwrap().last_sync = Some(now);
        }
        self.supersede_older(self.rows[at].resource);
    }

    fn end_try(&mut self, now: Timestamp, at: usize, settlement: &Settlement) -> bool {
        let Some(outcome) = &settlement.outcome else { return false };
        let one = self.rows[at].attempts.iter_mut().find(|one| one.id == Some(outcome.attempt)).unwrap();
        (one.ended, one.status, one.class, one.settle_until) = (Some(now), outcome.status, Some(outcome.class), outcome.settle_until);
        one.message = outcome.message.clone().or(one.message.take());
        one.means.is_some()
    }

    fn stand(&mut self, now: Timestamp, at: usize, settlement: &Settlement, claims: u32) {
        let down = self.ehr.as_ref().map_or(0, |ehr| ehr.down_total + ehr.down_since.map_or(0, |since| now.ms_since(since).max(0)));
        let to = settlement.state;
        let due = settlement.due_at.filter(|_| !to.is_final() && !matches!(to, State::Held(_)));
        let arrives = to == State::Delivered && self.rows[at].state != State::Delivered;
        self.go(at, to, due);
        let row = &mut self.rows[at];
        let tried = u32::from(settlement.counts_try);
        row.claims = claims;
        row.tries += tried;
        row.round_tries = if settlement.new_round { tried } else { row.round_tries + tried };
        row.proven = settlement.proven_not_applied.unwrap_or(row.proven);
        row.ehr_id = settlement.ehr_id.clone().or(row.ehr_id.take());
        row.ehr_version = settlement.ehr_version.clone().or(row.ehr_version.take());
        row.message = settlement.message.clone().or(row.message.take().filter(|_| !arrives));
        if settlement.counts_try && row.first_failed.is_none() {
            (row.first_failed, row.down_then) = (Some(now), down);
        }
        if to == State::Delivered {
            row.delivered = row.delivered.or(Some(now));
        }
        row.audit = settlement.audit;
        let (resource, version) = (row.resource, row.version);
        if to == State::Held(HeldReason::GoneAtEhr)
            && let ResourceKey::Observation(id) = resource
        {
            let book = self.observations.get_mut(&id).unwrap();
            if book.synced_version == Some(version) {
                (book.synced_version, book.synced_at) = (None, None);
            }
        }
    }

    /// It is known not to be there, and has killed the process five times: dead, unless a try of it is open all the same.
    fn bury(&mut self, now: Timestamp, at: usize) {
        self.go(at, State::Dead, None);
        let row = &mut self.rows[at];
        row.message = Some("killed".to_owned());
        row.audit = None;
        row.attempts.push(Try {
            id: None,
            at: now,
            ended: Some(now),
            request: "not sent".to_owned(),
            means: None,
            status: None,
            class: Some(Class::Internal),
            settle_until: None,
            message: Some("killed".to_owned()),
            late: None,
        });
    }

    fn keep_observation(&mut self, now: Timestamp, at: usize, settlement: &Settlement) {
        let ResourceKey::Observation(id) = self.rows[at].resource else { return };
        if settlement.ehr_id.is_none() && settlement.ehr_version.is_none() && !settlement.synced {
            return;
        }
        let version = self.rows[at].version;
        let known = self.observations[&id].synced_version;
        // A known version is never set back.
        if known.is_some_and(|known| known > version) {
            return;
        }
        let holder = self.observations.iter().find(|(other, o)| **other != id && o.known_there && o.ehr_id == settlement.ehr_id);
        let mut ehr_id = settlement.ehr_id.clone();
        if ehr_id.is_some()
            && let Some((holder, book)) = holder
        {
            let (holder, theirs) = (*holder, book.source == Source::Ehr);
            if theirs {
                // A pull brought it before we knew that it is ours.
                let other = self.observations.get_mut(&holder).unwrap();
                (other.ehr_id, other.known_there, other.deleted, other.updated) = (None, false, true, now);
            } else {
                ehr_id = None;
            }
        }
        let book = self.observations.get_mut(&id).unwrap();
        book.ehr_id = ehr_id.or(book.ehr_id.take());
        book.ehr_version = settlement.ehr_version.clone().or(book.ehr_version.take());
        if settlement.synced {
            if known != Some(version) {
                book.synced_at = Some(now);
            }
            book.synced_version = Some(version);
        }
        book.known_there = true;
        (book.settled_at, book.seen_at) = (Some(now), Some(now));
    }

    fn keep_as_late(&mut self, now: Timestamp, settlements: &[Settlement]) {
        for settlement in settlements {
            let Some(outcome) = &settlement.outcome else { continue };
            let Some(status) = outcome.status else { continue };
            let ehr_id = settlement.ehr_id.as_ref().map(ToString::to_string);
            let late = LateAnswer { at: now, status, ehr_id, ehr_version: settlement.ehr_version.clone() };
            self.record_late(outcome.attempt, &late);
        }
    }

    /// Evidence of its try, whatever the epoch; what is delivered is read once more when nothing of it is open.
    pub fn record_late(&mut self, attempt: AttemptId, late: &LateAnswer) {
        let found = self.places(|row| row.attempts.iter().any(|one| one.id == Some(attempt)));
        let Some(at) = found.first().copied() else { return };
        let one = self.rows[at].attempts.iter_mut().find(|one| one.id == Some(attempt)).unwrap();
        if one.late.is_none() {
            one.late = Some(late.clone());
        }
        let settles = self.resource_settle_until(self.rows[at].resource, late.at).filter(|until| until.0 != i64::MAX);
        if self.rows[at].state == State::Delivered
            && let Some(until) = settles
        {
            let read_at = until.plus_ms(1);
            if self.rows[at].audit.is_none_or(|(audit, _)| audit > read_at) {
                self.rows[at].audit = Some((read_at, 0));
            }
            self.touch(self.rows[at].patient);
        }
    }

    /// What was made due while its lane was being released is found again.
    pub fn sweep_lanes(&mut self, now: Timestamp) -> u64 {
        let due: Vec<i64> = self
            .patients
            .iter()
            .filter(|(_, person)| person.stream.as_ref().and_then(|stream| stream.head).is_some_and(|head| head <= now))
            .map(|(id, _)| shard_of(*id))
            .collect();
        let mut swept = 0;
        for (shard, lane) in &mut self.lanes {
            if lane.lease.is_none() && lane.due.is_none_or(|at| at > now) && due.contains(shard) {
                lane.due = Some(now);
                swept += 1;
            }
        }
        swept
    }
}
