//! The platform and its people: they accept, correct, withdraw, link, configure, replay and ask for runs.

use super::{LEASE, Play, Played, same};
use crate::books::{Books, ConfigBook, RunBook};
use crate::house::{built, person, reading};
use model::{
    Class, Direction, EhrId, Frequency, HeldReason, ObservationDraft, ObservationId, PatientDraft, PatientId, ResourceKey, Timestamp,
};
use ponte_store::config::ConnectionFailed;
use ponte_store::idempotency::Once;
use ponte_store::patients::{NewPatient, PatientRefused};
use ponte_store::{Accepted, Discarded, Replayed, RunKind, RunState};
use testing::Dice;

const PATIENTS: usize = 3;

impl Play {
    /// One of this tenant's, now and then one of the other's.
    fn any_patient(&self, tenant: usize, dice: &Dice) -> Option<PatientId> {
        let of = if dice.happens(0.1) { 1 - tenant } else { tenant };
        let ids: Vec<PatientId> = self.books[of].patients.keys().copied().collect();
        if ids.is_empty() { None } else { Some(*dice.one_of(&ids)) }
    }

    fn any_observation(&self, tenant: usize, dice: &Dice) -> Option<ObservationId> {
        let of = if dice.happens(0.1) { 1 - tenant } else { tenant };
        let ids: Vec<ObservationId> = self.books[of].observations.keys().copied().collect();
        if ids.is_empty() { None } else { Some(*dice.one_of(&ids)) }
    }

    pub async fn new_patient(&mut self, tenant: usize, dice: &Dice) -> Played {
        if self.books[tenant].patients.len() >= PATIENTS {
            return Ok(());
        }
        let link = dice.happens(0.7).then(|| EhrId::new(format!("p-{}", dice.below(1000))).unwrap());
        let draft = person(&format!("Maria {}", dice.below(1000)));
        self.say(format!("{tenant}: a patient, linked: {}", link.is_some()));
        let new = NewPatient { draft: draft.clone(), link: link.clone().map(|id| (id, "ana".to_owned())) };
        let Once::Done(made) = self.tenants[tenant].create_patient(self.now, new, None).await.unwrap().unwrap() else {
            return Err("The patient was made before.".to_owned());
        };
        self.books[tenant].create_patient(self.now, made.id, draft, link);
        self.learn().await?;
        same("the new patient", &Some(&made), &self.books[tenant].patient(made.id).as_ref())
    }

    pub async fn change_patient(&mut self, tenant: usize, dice: &Dice) -> Played {
        let Some(id) = self.any_patient(tenant, dice) else { return Ok(()) };
        let version = self.books[tenant].patients.get(&id).map_or(1, |person| person.version) - i64::from(dice.happens(0.1));
        let before = self.books[tenant].patients.get(&id).map(|person| person.draft.clone()).filter(|_| dice.happens(0.2));
        let draft: PatientDraft = before.unwrap_or_else(|| person(&format!("Ana {}", dice.below(1000))));
        self.say(format!("{tenant}: patient {id} changes over version {version}"));
        let got = self.tenants[tenant].update_patient(self.now, id, version, draft.clone()).await.unwrap();
        let want = match self.books[tenant].patients.contains_key(&id) {
            false => Err(PatientRefused::Unknown),
            true => self.books[tenant].update_patient(self.now, id, version, draft).ok_or(PatientRefused::Changed),
        };
        self.learn().await?;
        same("the changed patient", &got, &want.map(|()| self.books[tenant].patient(id).unwrap()))
    }

    pub async fn link(&mut self, tenant: usize, dice: &Dice) -> Played {
        let Some(id) = self.any_patient(tenant, dice) else { return Ok(()) };
        let ehr_id = dice.happens(0.75).then(|| EhrId::new(format!("p-{}", dice.below(1000))).unwrap());
        self.say(format!("{tenant}: a person links patient {id}: {ehr_id:?}"));
        let got = self.tenants[tenant].link_by_person(self.now, id, ehr_id.clone(), "ana").await.unwrap();
        let here = self.books[tenant].patients.contains_key(&id);
        if here {
            self.books[tenant].link_by_person(self.now, id, ehr_id);
        }
        same("the linked patient", &got, &self.books[tenant].patient(id).ok_or(PatientRefused::Unknown))
    }

    fn draft(&self, patient: PatientId, dice: &Dice) -> (ObservationDraft, Option<HeldReason>) {
        let code = *dice.one_of(&["72514-3", "8310-5"]);
        let hold = dice.happens(0.08).then_some(HeldReason::CodeMisused);
        (reading(patient, code, &dice.below(1000).to_string()), hold)
    }

    pub async fn observe(&mut self, tenant: usize, dice: &Dice) -> Played {
        let drafts: Vec<_> =
            (0..1 + dice.below(3)).filter_map(|_| self.any_patient(tenant, dice)).map(|patient| self.draft(patient, dice)).collect();
        self.say(format!("{tenant}: {} observations", drafts.len()));
        let Once::Done(got) = self.tenants[tenant].create_observations(self.now, drafts.clone(), None).await.unwrap() else {
            return Err("The observations were made before.".to_owned());
        };
        let mut made = Vec::new();
        for ((draft, hold), accepted) in drafts.into_iter().zip(&got) {
            let here = self.books[tenant].patients.contains_key(&draft.patient_id);
            match accepted {
                Accepted::Stored(observation) if here => made.push((observation.id, draft, hold)),
                Accepted::PatientUnknown if !here => {}
                _ => return Err(format!("whose patient is it? {accepted:?}")),
            }
        }
        if !made.is_sorted_by_key(|(id, ..)| *id) {
            return Err("What was accepted together is not listed in its order.".to_owned());
        }
        self.books[tenant].create_observations(self.now, &made);
        self.learn().await?;
        let stored: Vec<_> = got.into_iter().filter_map(|a| if let Accepted::Stored(o) = a { Some(*o) } else { None }).collect();
        let want: Vec<_> = made.iter().filter_map(|(id, ..)| self.books[tenant].observation(*id, self.now)).collect();
        same("the accepted observations", &stored, &want)?;
        let rows = |id: ObservationId| self.books[tenant].newest(ResourceKey::Observation(id)).map(|at| &self.books[tenant].rows[at]);
        for (one, other) in made.iter().zip(made.iter().skip(1)) {
            let (Some(one), Some(other)) = (rows(one.0), rows(other.0)) else { continue };
            if one.patient == other.patient && one.id > other.id {
                return Err("Deliveries of one patient that were accepted together are not listed in their order.".to_owned());
            }
        }
        Ok(())
    }

    pub async fn correct(&mut self, tenant: usize, dice: &Dice) -> Played {
        let Some(id) = self.any_observation(tenant, dice) else { return Ok(()) };
        let books = &self.books[tenant];
        let version = books.observations.get(&id).map_or(1, |book| book.version) - i64::from(dice.happens(0.15));
        let patient = books.observations.get(&id).map_or(PatientId(id.0), |book| book.patient);
        let (draft, hold) = self.draft(patient, dice);
        self.say(format!("{tenant}: observation {id} is corrected over version {version}, {hold:?}"));
        let got = self.tenants[tenant].update_observation(self.now, id, version, draft.clone(), hold).await.unwrap();
        let changed = self.books[tenant].correct(self.now, id, version, draft, hold);
        self.learn().await?;
        same("the corrected observation", &got, &self.books[tenant].observation(id, self.now).filter(|_| changed))
    }

    pub async fn withdraw(&mut self, tenant: usize, dice: &Dice) -> Played {
        let Some(id) = self.any_observation(tenant, dice) else { return Ok(()) };
        self.say(format!("{tenant}: observation {id} is withdrawn"));
        let got = self.tenants[tenant].withdraw_observation(self.now, id).await.unwrap();
        let want = self.books[tenant].withdraw(self.now, id);
        self.learn().await?;
        same("whether it was withdrawn", &got, &want)
    }

    pub async fn put(&mut self, tenant: usize, config: ConfigBook, expected: Option<i64>) -> Played {
        self.say(format!("{tenant}: connection {config:?} over {expected:?}"));
        let body = serde_json::json!({
            "enabled": config.enabled, "baseUrl": "https://ehr.example/fhir", "authType": "basic",
            "authConfig": {"username": "ponte", "password": "geheim"}, "syncFrequency": config.frequency.word(),
            "syncDirection": config.direction.word(), "maxConcurrency": config.max_concurrency,
        });
        let got = self.tenants[tenant].put_connection(self.now, &built(body, None), expected, "ana").await.unwrap();
        let put = self.books[tenant].put_connection(self.now, config, expected);
        let revision = self.books[tenant].config.as_ref().map(|config| config.revision).filter(|_| put);
        same("the connection's revision", &got.map(|stored| stored.revision), &revision)
    }

    pub async fn reconfigure(&mut self, tenant: usize, dice: &Dice) -> Played {
        if dice.happens(0.15) {
            self.say(format!("{tenant}: no connection any more"));
            let got = self.tenants[tenant].delete_connection(self.now, "ana").await.unwrap();
            let want = self.books[tenant].config.take().is_some();
            return same("whether there was a connection", &got, &want);
        }
        let config = ConfigBook {
            enabled: dice.happens(0.85),
            direction: *dice.one_of(&[Direction::Bidirectional, Direction::Bidirectional, Direction::Push, Direction::Pull]),
            frequency: *dice.one_of(&[Frequency::Realtime, Frequency::Realtime, Frequency::Hourly, Frequency::Daily]),
            max_concurrency: 1 + dice.index(3),
            revision: 1,
            last_error: None,
        };
        let expected = self.books[tenant].config.as_ref().map(|config| config.revision);
        let expected = if dice.happens(0.1) { Some(expected.unwrap_or(0) + 1) } else { expected };
        self.put(tenant, config, expected).await
    }

    /// The EHR fails, or works again.
    pub async fn weather(&mut self, tenant: usize, dice: &Dice) -> Played {
        if dice.happens(0.5) {
            self.say(format!("{tenant}: the EHR works"));
            self.tenants[tenant].connection_works(self.now, true, false).await.unwrap();
            self.books[tenant].works(self.now);
            return Ok(());
        }
        let failures = u32::try_from(dice.below(4)).unwrap();
        let failed = ConnectionFailed {
            class: *dice.one_of(&[Class::Unreachable, Class::RateLimited, Class::AuthToken]),
            failures,
            not_before: self.now.plus_ms(dice.between(1, 90_000)),
            circuit_open: failures == 3,
            auth_refused: dice.happens(0.1),
            down: dice.happens(0.7),
            sentence: "It does not answer.".to_owned(),
        };
        self.say(format!("{tenant}: {failed:?}"));
        if let Some(stored) = self.tenants[tenant].connection().await.unwrap() {
            assert!(self.tenants[tenant].connection_failed(self.now, &stored, &failed).await.unwrap());
            self.books[tenant].failed(self.now, &failed);
        }
        Ok(())
    }

    /// A row of this tenant (a dead or held one by preference), now and then one of the other.
    fn any_row(&self, tenant: usize, dice: &Dice) -> Option<model::DeliveryId> {
        let of = &self.books[if dice.happens(0.1) { 1 - tenant } else { tenant }];
        let stuck = of.places(|row| matches!(row.state, model::State::Dead | model::State::Held(_) | model::State::RetryScheduled));
        let from = if stuck.is_empty() || dice.happens(0.2) { of.places(|_| true) } else { stuck };
        if from.is_empty() { None } else { of.rows[*dice.one_of(&from)].id }
    }

    pub async fn replay(&mut self, tenant: usize, dice: &Dice) -> Played {
        let Some(id) = self.any_row(tenant, dice) else { return Ok(()) };
        self.say(format!("{tenant}: delivery {id} is replayed"));
        let got = self.tenants[tenant].replay(self.now, id, "ana").await.unwrap();
        let want = match self.books[tenant].row(id) {
            Some(at) => self.books[tenant].replay(self.now, at).0,
            None => Replayed::Unknown,
        };
        self.learn().await?;
        same("the replay", &got, &want)
    }

    pub async fn discard(&mut self, tenant: usize, dice: &Dice) -> Played {
        let Some(id) = self.any_row(tenant, dice) else { return Ok(()) };
        self.say(format!("{tenant}: delivery {id} is discarded"));
        let got = self.tenants[tenant].discard(self.now, id, "ana").await.unwrap();
        let want = self.books[tenant].row(id).map_or(Discarded::Unknown, |at| self.books[tenant].discard(at));
        same("the discard", &got, &want)
    }

    pub async fn deliver_now(&mut self, tenant: usize, dice: &Dice) -> Played {
        let observation = self.any_observation(tenant, dice).map(ResourceKey::Observation).filter(|_| dice.happens(0.7));
        let Some(resource) = observation.or(self.any_patient(tenant, dice).map(ResourceKey::Patient)) else { return Ok(()) };
        self.say(format!("{tenant}: {resource:?} is wanted now"));
        let got = self.tenants[tenant].deliver_now(self.now, resource).await.unwrap();
        let goes = self.books[tenant].deliver_now(self.now, resource, false);
        self.learn().await?;
        same("what goes now", &got, &goes.and_then(|at| self.books[tenant].rows[at].id))
    }

    pub async fn sweep(&mut self, dice: &Dice) -> Played {
        let (now, fleet) = (self.now, self.store.fleet());
        if dice.happens(0.3) {
            self.say("lanes are swept");
            let want: u64 = self.books.iter_mut().map(|books| books.sweep_lanes(now)).sum();
            return same("swept lanes", &fleet.sweep_lanes(now).await.unwrap(), &want);
        }
        let daily = dice.happens(0.2);
        self.say(format!("the sweep, daily: {daily}"));
        let due =
            |books: &&mut Books| books.may_push() && books.config.as_ref().is_some_and(|c| (c.frequency == Frequency::Daily) == daily);
        let want: u64 = self.books.iter_mut().filter(due).map(|books| books.sweep(now)).sum();
        same("swept rows", &fleet.sweep(now, daily).await.unwrap(), &want)
    }

    pub async fn run(&mut self, tenant: usize, dice: &Dice) -> Played {
        let patient = self.books[tenant].patients.keys().next().copied().filter(|_| dice.happens(0.3));
        let (here, now) = (self.tenants[tenant].clone(), self.now);
        let (run, mut book) = if dice.happens(0.5) {
            self.say(format!("{tenant}: sync all"));
            (here.sync_all(now, "ana").await.unwrap(), self.books[tenant].sync_all(now))
        } else {
            self.say(format!("{tenant}: dead letters again, of {patient:?}"));
            let dead = self.books[tenant].places(|row| row.state == model::State::Dead && patient.is_none_or(|id| row.patient == id));
            let tried = here.replay_dead(now, patient, "ana", true).await.unwrap();
            same("so many would go again", &tried.progress.total, &(dead.len() as u64))?;
            (here.replay_dead(now, patient, "ana", false).await.unwrap(), self.books[tenant].replay_dead(now, patient))
        };
        self.learn().await?;
        end_run(&self.books[tenant], &mut book, now);
        self.books[tenant].runs.insert(run.id, book);
        same("the run", &Some(&run), &self.books[tenant].run(run.id).as_ref())
    }

    /// A connection check is asked for, or done by a worker.
    pub async fn check(&mut self, tenant: usize, dice: &Dice) -> Played {
        let now = self.now;
        if dice.happens(0.5) {
            self.say(format!("{tenant}: a check is asked for"));
            let run = self.tenants[tenant].request_check(now, "{}", "ana").await.unwrap();
            self.books[tenant].runs.insert(run.id, Books::request_check(now, "{}"));
            return same("the check", &Some(&run), &self.books[tenant].run(run.id).as_ref());
        }
        self.say("a check is claimed");
        let claimed = self.store.fleet().claim_check(now, "worker", LEASE).await.unwrap();
        let open =
            |run: &RunBook| run.kind == RunKind::Check && run.state == RunState::Running && run.lease.is_none_or(|until| until <= now);
        let oldest: Option<Timestamp> =
            self.books.iter().flat_map(|books| books.runs.values()).filter(|run| open(run)).map(|run| run.created).min();
        let Some((of, run)) = claimed else { return same("a waiting check", &None::<Timestamp>, &oldest) };
        let of = self.books.iter().position(|books| books.name == of.as_str()).unwrap();
        let book = self.books[of].runs.get_mut(&run.id).ok_or("a check of another tenant")?;
        same("the oldest check", &Some(book.created).filter(|_| open(book)), &oldest)?;
        book.lease = Some(now.plus_ms(LEASE));
        if dice.happens(0.7) {
            self.tenants[of].finish_check(now, run.id, "{\"ok\":true}").await.unwrap();
            (book.state, book.finished, book.lease) = (RunState::Finished, Some(now), None);
            book.result = Some("{\"ok\":true}".to_owned());
        }
        Ok(())
    }
}

/// A run of which nothing waits any more has ended for whoever looks.
pub fn end_run(books: &Books, run: &mut RunBook, now: Timestamp) {
    if run.kind != RunKind::Check && run.state == RunState::Running && books.progress(run).waiting == 0 {
        (run.state, run.finished) = (RunState::Finished, Some(now));
    }
}
