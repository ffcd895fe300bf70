//! Workers: they claim lanes, take over from dead ones, send, hear answers or none, and let go; or they die or freeze while
//! others go on, and come back with an old epoch.
//!
//! A worker keeps to the rule of turns (one new write of a patient, asking before repeating), for the store shows what may go
//! and leaves the choice to the engine. Answers come by chance.

use super::{LEASE, Play, Played, SETTLE, same};
use crate::books::{RowBook, claim_lane};
use model::patient::LinkProblem;
use model::{AttemptId, Class, DeliveryId, EhrId, HeldReason, LateAnswer, Link, LinkState, Means, PatientId, ResourceKey, Rng, State};
use ponte_store::{Begin, Lane, LinkChange, Outcome, PatientWork, Settlement, WorkRow};
use testing::Dice;

/// So many workers are remembered.
const REMEMBERED: usize = 6;

pub struct Holder {
    pub tenant: usize,
    pub lane: Lane,
    pub shard: i64,
    pub epoch: i64,
    taken_over: bool,
    /// Sent, and not answered yet.
    flights: Vec<(AttemptId, DeliveryId)>,
}

/// The one thing that is done with a patient now: a row, and by which means it is written; without one it is asked about.
fn choose(work: &PatientWork, now: model::Timestamp, dice: &Dice) -> Option<(DeliveryId, Option<Means>, Option<String>)> {
    if work.rows.iter().any(|row| row.state == State::InFlight) {
        return None;
    }
    let is_due = |row: &&WorkRow| row.due_at.is_some_and(|at| at <= now);
    if let Some(row) = work.rows.iter().filter(|row| row.state == State::Uncertain).find(is_due) {
        let within = row.own_settle_until.is_some_and(|until| now <= until);
        let repeats = row.means.filter(|means| means.repeats_at_once() && within && dice.happens(0.6));
        return Some((row.id, repeats, row.match_etag.clone()));
    }
    if let Some(row) = work.rows.iter().find(|row| row.state == State::Delivered) {
        return Some((row.id, None, None));
    }
    let patient = |row: &&WorkRow| matches!(row.resource, ResourceKey::Patient(_));
    let held = work.rows.iter().filter(patient).any(|row| row.state == State::Held(HeldReason::PatientUnlinked));
    if work.blocked || held || work.rows.iter().any(|row| row.state == State::Uncertain) {
        return None;
    }
    let own = work.rows.iter().find(patient).filter(|row| !matches!(row.state, State::Held(_)));
    let observation = || work.rows.iter().find(|row| !patient(row) && matches!(row.state, State::Pending | State::RetryScheduled));
    let row = own.or_else(observation).filter(is_due)?;
    if row.resource_settle_until.is_some() {
        return None;
    }
    let means = if row.ehr_id.is_some() { Means::Update } else { *dice.one_of(&[Means::OwnId, Means::ConditionalCreate]) };
    Some((row.id, Some(means), row.ehr_version.clone().filter(|_| means == Means::Update)))
}

/// Another try of the row than this one is open.
fn others_open(row: &RowBook, attempt: AttemptId, now: model::Timestamp) -> bool {
    let mut without = row.clone();
    without.attempts.retain(|one| one.id != Some(attempt));
    without.proven = false;
    without.own_settle_until(now).is_some()
}

impl Play {
    fn any_holder(&self, dice: &Dice) -> Option<usize> {
        // The youngest by preference.
        let last = self.holders.len().checked_sub(1)?;
        Some(if dice.happens(0.6) { last } else { dice.index(self.holders.len()) })
    }

    pub async fn claim(&mut self) -> Played {
        self.say("a lane is claimed");
        let until = self.now.plus_ms(LEASE);
        let got = self.store.fleet().claim_lane(self.now, "worker", LEASE).await.unwrap();
        let want = claim_lane(&mut self.books, self.now, until);
        let tenant = |name: &str| self.books.iter().position(|books| books.name == name).unwrap();
        let seen = got.as_ref().map(|claimed| {
            let lane = &claimed.lane;
            (tenant(lane.tenant().id().as_str()), lane.shard(), lane.epoch(), claimed.taken_over)
        });
        same("the claimed lane (tenant, shard, epoch, taken over)", &seen, &want)?;
        let (Some(claimed), Some((tenant, shard, epoch, taken_over))) = (got, seen) else { return Ok(()) };
        same("the lease", &claimed.lane.lease_until(), &until)?;
        self.holders.push(Holder { tenant, lane: claimed.lane, shard, epoch, taken_over, flights: vec![] });
        if self.holders.len() > REMEMBERED {
            self.holders.remove(0);
        }
        Ok(())
    }

    pub async fn take_over(&mut self, dice: &Dice) -> Played {
        let Some(at) = self.any_holder(dice) else { return Ok(()) };
        self.open_anew(at).await
    }

    async fn open_anew(&mut self, at: usize) -> Played {
        let holder = &mut self.holders[at];
        holder.taken_over = false;
        holder.flights.retain(|_| self.books[holder.tenant].is_mine(holder.shard, holder.epoch));
        let (tenant, shard, epoch) = (holder.tenant, holder.shard, holder.epoch);
        self.say(format!("{tenant}: lane {shard}/{epoch} is opened anew"));
        let got = self.holders[at].lane.take_over(self.now, SETTLE).await.unwrap();
        same("the takeover", &got, &self.books[tenant].take_over(self.now, shard, epoch, SETTLE))
    }

    /// The work of a lane, the same on both sides.
    pub async fn work(&mut self, at: usize, limit: u32) -> Result<Vec<PatientWork>, String> {
        let holder = &self.holders[at];
        let got = holder.lane.work(self.now, limit).await.unwrap();
        let want = self.books[holder.tenant].work(self.now, holder.shard, limit as usize);
        same("the work of a lane", &got, &want)?;
        Ok(got)
    }

    pub async fn send(&mut self, dice: &Dice) -> Played {
        match self.any_holder(dice) {
            Some(at) if dice.happens(0.15) => self.send_what_may_not_go(at, dice).await,
            Some(at) => self.begin_all(at, dice).await,
            None => Ok(()),
        }
    }

    async fn begin_all(&mut self, at: usize, dice: &Dice) -> Played {
        if self.holders[at].taken_over && dice.happens(0.9) {
            self.open_anew(at).await?;
        }
        let limit = u32::try_from(dice.between(1, 4)).unwrap();
        let work = self.work(at, limit).await?;
        let mine = self.books[self.holders[at].tenant].is_mine(self.holders[at].shard, self.holders[at].epoch);
        let chosen: Vec<_> = work.iter().filter_map(|work| choose(work, self.now, dice)).collect();
        let begins: Vec<Begin> =
            chosen.into_iter().map(|(delivery, means, match_etag)| self.begin_one(delivery, means, match_etag)).collect();
        let flights: Vec<_> = begins.iter().map(|begin| (begin.attempt, begin.delivery)).collect();
        self.begin_these(at, begins).await?;
        if mine {
            self.holders[at].flights.extend(flights);
        }
        Ok(())
    }

    fn begin_one(&self, delivery: DeliveryId, means: Option<Means>, match_etag: Option<String>) -> Begin {
        let request = means.map_or("GET Observation", |_| "PUT Observation").to_owned();
        Begin { delivery, attempt: AttemptId(self.dice.uuid_v7(self.now)), request, means, match_etag, subject: None }
    }

    async fn begin_these(&mut self, at: usize, begins: Vec<Begin>) -> Played {
        let (tenant, shard, epoch) = (self.holders[at].tenant, self.holders[at].shard, self.holders[at].epoch);
        let told: Vec<_> = begins.iter().map(|begin| format!("{} {:?}", begin.delivery, begin.means)).collect();
        self.say(format!("{tenant}: lane {shard}/{epoch} begins {told:?}"));
        let got = self.holders[at].lane.begin(self.now, begins.clone()).await.unwrap();
        same("the beginning", &got, &self.books[tenant].begin(self.now, shard, epoch, &begins))
    }

    /// A row that was ended, held or delivered since it was shown.
    async fn send_what_may_not_go(&mut self, at: usize, dice: &Dice) -> Played {
        let (tenant, shard) = (self.holders[at].tenant, self.holders[at].shard);
        let books = &self.books[tenant];
        let mut ended = books.in_shard(shard);
        ended.retain(|row| !books.rows[*row].waits() && !books.rows[*row].unsettled());
        if ended.is_empty() {
            return Ok(());
        }
        let delivery = books.rows[*dice.one_of(&ended)].id.unwrap();
        let begin = self.begin_one(delivery, Some(Means::OwnId), None);
        self.begin_these(at, vec![begin]).await
    }

    /// What an answer makes of a row.
    fn judged(&self, tenant: usize, (attempt, delivery): (AttemptId, DeliveryId), dice: &Dice, well: bool) -> Settlement {
        let row = &self.books[tenant].rows[self.books[tenant].row(delivery).unwrap()];
        let one = row.attempts.iter().find(|one| one.id == Some(attempt)).unwrap();
        let open = others_open(row, attempt, self.now);
        let (version, name) = (row.version, row.resource.uuid());
        let blank = |state, class, status| Settlement {
            delivery,
            outcome: Some(Outcome { attempt, status, class, settle_until: None, message: dice.happens(0.3).then(|| "Said.".to_owned()) }),
            state,
            due_at: None,
            counts_try: false,
            new_round: false,
            proven_not_applied: None,
            ehr_id: None,
            ehr_version: None,
            synced: false,
            audit: None,
            message: dice.happens(0.3).then(|| "Said.".to_owned()),
            works: matches!(class, Class::Applied | Class::Exists) && dice.happens(0.8),
        };
        let asks_again = |settlement| Settlement { state: State::Uncertain, due_at: Some(self.now), ..settlement };
        let audit = (!well && dice.happens(0.4)).then(|| (self.now.plus_ms(dice.between(1, 2 * SETTLE)), 1));
        let there = Settlement {
            ehr_id: Some(EhrId::new(format!("o-{name}")).unwrap()),
            ehr_version: Some(format!("v{version}")),
            synced: true,
            audit,
            ..blank(State::Delivered, Class::Applied, Some(200))
        };
        if well {
            return there;
        }
        let again = dice.happens(0.8).then(|| self.now.plus_ms(dice.between(1, 2000)));
        match (one.means.is_some(), dice.below(10)) {
            (_, 0..4) => there,
            // No answer.
            (true, 4..6) => {
                let mut lost = blank(State::Uncertain, Class::Uncertain, None);
                lost.due_at = Some(if dice.happens(0.5) { self.now } else { self.now.plus_ms(SETTLE + 1) });
                lost.outcome.as_mut().unwrap().settle_until = Some(self.now.plus_ms(SETTLE));
                lost
            }
            (true, 6..8) if open => asks_again(blank(State::Dead, Class::Validation, Some(422))),
            (true, 6) => Settlement { counts_try: true, ..blank(State::Dead, Class::Validation, Some(422)) },
            (true, 7) => blank(State::Held(HeldReason::Conflict), Class::Conflict, Some(409)),
            // Certainly not applied.
            (true, _) if open => asks_again(blank(State::RetryScheduled, Class::Unavailable, Some(503))),
            (true, _) => Settlement {
                due_at: again,
                counts_try: dice.happens(0.7),
                new_round: dice.happens(0.2),
                proven_not_applied: Some(true),
                ..blank(State::RetryScheduled, Class::Unavailable, Some(503))
            },
            // A question about what is delivered, or not known.
            (false, 4..6) if row.state == State::Delivered => {
                Settlement { due_at: Some(self.now), ..blank(State::RetryScheduled, Class::Applied, Some(200)) }
            }
            (false, 4..6) => blank(State::Held(HeldReason::GoneAtEhr), Class::Gone, Some(410)),
            (false, _) if row.state == State::Delivered => there,
            (false, 6..8) if !open => Settlement {
                due_at: Some(self.now),
                proven_not_applied: Some(true),
                ..blank(State::RetryScheduled, Class::Applied, Some(200))
            },
            (false, _) => Settlement { due_at: Some(self.now.plus_ms(SETTLE)), ..blank(State::Uncertain, Class::Uncertain, None) },
        }
    }

    pub async fn settle(&mut self, dice: &Dice) -> Played {
        match self.any_holder(dice) {
            Some(at) if dice.happens(0.1) => self.lose_patience(at, dice).await,
            Some(at) => self.answers(at, dice, false).await,
            None => Ok(()),
        }
    }

    /// Some of what flies is answered.
    async fn answers(&mut self, at: usize, dice: &Dice, well: bool) -> Played {
        let flights = std::mem::take(&mut self.holders[at].flights);
        let (answered, flying): (Vec<_>, Vec<_>) = flights.into_iter().partition(|_| well || dice.happens(0.8));
        self.holders[at].flights = flying;
        let tenant = self.holders[at].tenant;
        let settlements: Vec<_> = answered.into_iter().map(|flight| self.judged(tenant, flight, dice, well)).collect();
        self.settle_these(at, settlements).await
    }

    async fn settle_these(&mut self, at: usize, settlements: Vec<Settlement>) -> Played {
        let (tenant, shard, epoch) = (self.holders[at].tenant, self.holders[at].shard, self.holders[at].epoch);
        let told: Vec<_> = settlements.iter().map(|s| format!("{} {:?}", s.delivery, s.state)).collect();
        self.say(format!("{tenant}: lane {shard}/{epoch} settles {told:?}"));
        let got = self.holders[at].lane.settle(self.now, settlements.clone()).await.unwrap();
        let want = self.books[tenant].settle(self.now, shard, epoch, &settlements);
        self.learn().await?;
        same("the settlement", &got, &want)
    }

    /// The patience of the tenant is over with a row that waits to be tried again.
    async fn lose_patience(&mut self, at: usize, dice: &Dice) -> Played {
        let (tenant, shard) = (self.holders[at].tenant, self.holders[at].shard);
        let books = &self.books[tenant];
        let mut waiting = books.in_shard(shard);
        waiting.retain(|row| books.rows[*row].state == State::RetryScheduled);
        if waiting.is_empty() {
            return Ok(());
        }
        let settlement = Settlement {
            delivery: books.rows[*dice.one_of(&waiting)].id.unwrap(),
            outcome: None,
            state: State::Dead,
            due_at: None,
            counts_try: false,
            new_round: false,
            proven_not_applied: None,
            ehr_id: None,
            ehr_version: None,
            synced: false,
            audit: None,
            message: Some("Patience is over.".to_owned()),
            works: false,
        };
        self.settle_these(at, vec![settlement]).await
    }

    /// A rule decides about a link, together with the answer about the Patient where there is one.
    pub async fn decide_link(&mut self, dice: &Dice) -> Played {
        let Some(at) = self.any_holder(dice) else { return Ok(()) };
        let (tenant, shard, epoch) = (self.holders[at].tenant, self.holders[at].shard, self.holders[at].epoch);
        let books = &self.books[tenant];
        let patients: Vec<PatientId> = books.patients.keys().copied().filter(|id| crate::books::shard_of(*id) == shard).collect();
        if patients.is_empty() {
            return Ok(());
        }
        let patient = *dice.one_of(&patients);
        let of_patient = |delivery: DeliveryId| books.rows[books.row(delivery).unwrap()].resource == ResourceKey::Patient(patient);
        let flight = self.holders[at].flights.iter().position(|(_, delivery)| of_patient(*delivery));
        let problem = dice.happens(0.3).then_some(LinkProblem::Candidates);
        let linked = problem.is_none() && dice.happens(0.8);
        let confirms = books.patients[&patient].link.clone();
        let link = match (confirms.by_person() && dice.happens(0.5), problem, linked) {
            (true, ..) => Link { verified_at: Some(self.now), ..confirms },
            (_, Some(problem), _) => Link { state: LinkState::Held, problem: Some(problem), at: Some(self.now), ..Link::default() },
            (_, _, linked) => Link {
                state: if linked { LinkState::Linked } else { LinkState::Unlinked },
                ehr_id: linked.then(|| EhrId::new("p-1").unwrap()),
                by: linked.then(|| "created".to_owned()),
                at: Some(self.now),
                ..Link::default()
            },
        };
        let change = LinkChange { blocked: link.state == LinkState::Held, link, judged_from: None };
        let settlement = flight.map(|flight| {
            let flight = self.holders[at].flights.remove(flight);
            self.judged(tenant, flight, dice, false)
        });
        let told = settlement.as_ref().map(|s| (s.delivery, s.state));
        self.say(format!("{tenant}: lane {shard}/{epoch} decides about {patient}: {:?}, {told:?}", change.link.state));
        let got = self.holders[at].lane.settle_link(self.now, patient, change.clone(), settlement.clone()).await.unwrap();
        let want = self.books[tenant].settle_link(self.now, (shard, epoch), patient, &change, settlement);
        self.learn().await?;
        same("the decision about a link", &got, &want)
    }

    /// A lease is lengthened, or given back.
    pub async fn let_go(&mut self, dice: &Dice) -> Played {
        let Some(at) = self.any_holder(dice) else { return Ok(()) };
        if dice.happens(0.3) {
            let (tenant, shard, epoch) = (self.holders[at].tenant, self.holders[at].shard, self.holders[at].epoch);
            self.say(format!("{tenant}: lane {shard}/{epoch} is renewed"));
            let got = self.holders[at].lane.renew(self.now, LEASE).await.unwrap();
            return same("the renewal", &got, &self.books[tenant].renew(shard, epoch, self.now.plus_ms(LEASE)));
        }
        let not_before = dice.happens(0.2).then(|| self.now.plus_ms(dice.between(-10, 5000)));
        self.release(at, not_before).await
    }

    async fn release(&mut self, at: usize, not_before: Option<model::Timestamp>) -> Played {
        // Nobody gives a lane back that he has not opened anew, or while something is under way: that would be nobody's.
        let books = &self.books[self.holders[at].tenant];
        if self.holders[at].flights.iter().any(|(attempt, _)| books.flies(*attempt)) {
            return Ok(());
        }
        if self.holders[at].taken_over {
            self.open_anew(at).await?;
        }
        let (tenant, shard, epoch) = (self.holders[at].tenant, self.holders[at].shard, self.holders[at].epoch);
        self.say(format!("{tenant}: lane {shard}/{epoch} is released, not before {not_before:?}"));
        let got = self.holders[at].lane.clone().release(self.now, not_before).await.unwrap();
        same("the release", &got, &self.books[tenant].release(self.now, shard, epoch, not_before))
    }

    /// An answer for which nobody waits any more.
    pub async fn late(&mut self, dice: &Dice) -> Played {
        let Some(at) = self.any_holder(dice) else { return Ok(()) };
        let tenant = self.holders[at].tenant;
        let tries: Vec<AttemptId> = self.books[tenant].rows.iter().flat_map(|row| row.attempts.iter().filter_map(|one| one.id)).collect();
        if tries.is_empty() {
            return Ok(());
        }
        let attempt = *dice.one_of(&tries);
        let late = LateAnswer { at: self.now, status: 201, ehr_id: Some("o-late".to_owned()), ehr_version: None };
        self.say(format!("{tenant}: attempt {attempt} is answered late"));
        self.holders[at].lane.record_late(attempt, late.clone()).await.unwrap();
        self.books[tenant].record_late(attempt, &late);
        Ok(())
    }

    /// A worker's whole round: claim, open anew, send, hear, release.
    pub async fn shift(&mut self, dice: &Dice) -> Played {
        let before = self.holders.last().map(|holder| (holder.tenant, holder.shard, holder.epoch));
        self.claim().await?;
        let Some(at) = self.holders.len().checked_sub(1) else { return Ok(()) };
        if self.holders.last().map(|holder| (holder.tenant, holder.shard, holder.epoch)) == before {
            return Ok(());
        }
        for _ in 0..=dice.below(3) {
            self.begin_all(at, dice).await?;
            self.answers(at, dice, false).await?;
            self.now = self.now.plus_ms(dice.between(0, 50));
        }
        if dice.happens(0.8) { self.release(at, None).await } else { Ok(()) }
    }

    /// A worker sends and is never heard of again, until its lease is over.
    pub async fn crash(&mut self, dice: &Dice) -> Played {
        self.claim().await?;
        if let Some(at) = self.holders.len().checked_sub(1) {
            self.begin_all(at, dice).await?;
        }
        self.say("a worker dies");
        self.now = self.now.plus_ms(LEASE + dice.between(0, 1));
        Ok(())
    }

    /// One round in which everything goes well; `false`: nothing was to be claimed.
    pub async fn good_round(&mut self, dice: &Dice) -> Result<bool, String> {
        self.holders.clear();
        self.claim().await?;
        if self.holders.is_empty() {
            return Ok(false);
        }
        if self.holders[0].taken_over {
            self.open_anew(0).await?;
        }
        self.begin_all(0, dice).await?;
        self.answers(0, dice, true).await?;
        self.release(0, None).await?;
        Ok(true)
    }
}
