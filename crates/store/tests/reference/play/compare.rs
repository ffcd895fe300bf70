//! Everything that can be seen, on both sides; and the end, when all that can go has gone.

use super::platform::end_run;
use super::{Play, Played, all, same};
use crate::books::{ConfigBook, next_due};
use model::{Delivery, Direction, Frequency, HeldReason, ResourceKey, State, Timestamp};
use ponte_store::{DeliveryFilter, ObservationFilter, Page, PageRequest, RunKind, RunState};
use testing::Dice;

/// Small pages, so that there are several.
const PAGE: u32 = 7;
/// So many rounds empty any ledger of these sequences; more is going in a circle.
const ROUNDS: usize = 600;

/// The whole list, page by page.
async fn paged<T>(mut ask: impl AsyncFnMut(PageRequest) -> Page<T>) -> Vec<T> {
    let (mut items, mut before) = (Vec::new(), None);
    loop {
        let page = ask(PageRequest { limit: PAGE, before }).await;
        items.extend(page.items);
        match page.next {
            Some(next) => before = Some(next),
            None => return items,
        }
    }
}

impl Play {
    pub async fn compare(&mut self) -> Played {
        for tenant in 0..self.tenants.len() {
            self.compare_ledger(tenant).await?;
            self.compare_records(tenant).await?;
            self.compare_runs(tenant).await?;
            self.compare_the_other(tenant).await?;
        }
        for at in 0..self.holders.len() {
            self.work(at, 8).await?;
        }
        let fleet = self.store.fleet();
        let (counts, oldest) = fleet.totals(self.now).await.unwrap();
        let count = |word: &str| self.books.iter().map(|books| books.count(word)).sum::<i64>();
        let want: Vec<(String, i64)> = State::WORDS.iter().map(|word| ((*word).to_owned(), count(word))).collect();
        same("the totals", &counts, &want)?;
        let rows = self.books.iter().flat_map(|books| &books.rows);
        let since: Option<Timestamp> = rows.filter(|row| row.is_open()).map(|row| row.created).min();
        same("the age of the oldest", &oldest, &since.map(|at| self.now.ms_since(at)))?;
        same("when something is due", &fleet.next_due().await.unwrap(), &next_due(&self.books))
    }

    async fn compare_ledger(&self, tenant: usize) -> Played {
        let (here, books, now) = (&self.tenants[tenant], &self.books[tenant], self.now);
        let any = DeliveryFilter::default();
        let listed = paged(async |page| here.deliveries(now, &any, &page).await.unwrap()).await;
        same("the ledger", &listed, &books.deliveries(now, |_| true))?;
        // Without a try a delivery is what the list shows; the newest stands for those.
        for row in books.rows.iter().rev().take(1).chain(books.rows.iter().filter(|row| !row.attempts.is_empty())) {
            let got = here.delivery(now, row.id.unwrap()).await.unwrap();
            same("a delivery and its attempts", &got, &Some(books.delivery(row, now, true)))?;
        }
        for word in ["pending", "held", "retry_scheduled", "dead"] {
            let filter = DeliveryFilter { state: Some(word.to_owned()), ..DeliveryFilter::default() };
            let got = paged(async |page| here.deliveries(now, &filter, &page).await.unwrap()).await;
            same(word, &got, &books.deliveries(now, |row| books.shown(row, now).word() == word))?;
        }
        if let Some(patient) = books.patients.keys().next().copied() {
            let filter = DeliveryFilter { patient_id: Some(patient), ..DeliveryFilter::default() };
            let got = paged(async |page| here.deliveries(now, &filter, &page).await.unwrap()).await;
            same("the ledger of a patient", &got, &books.deliveries(now, |row| row.patient == patient))?;
        }
        if let Some(id) = books.observations.keys().next().copied() {
            let filter = DeliveryFilter { observation_id: Some(id), ..DeliveryFilter::default() };
            let got = paged(async |page| here.deliveries(now, &filter, &page).await.unwrap()).await;
            same("the ledger of an observation", &got, &books.deliveries(now, |row| row.resource == ResourceKey::Observation(id)))?;
        }
        let mut dead: Vec<Delivery> =
            books.rows.iter().filter(|row| row.state == State::Dead).map(|row| books.delivery(row, now, true)).collect();
        dead.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
        let letters = paged(async |page| here.dead_letters(now, &page).await.unwrap()).await;
        same("the dead letters", &letters, &dead)?;
        same("the status", &here.status(now).await.unwrap(), &books.status())
    }

    async fn compare_records(&self, tenant: usize) -> Played {
        let (here, books, now) = (&self.tenants[tenant], &self.books[tenant], self.now);
        let filter = |deleted, synced| ObservationFilter { deleted, synced, ..ObservationFilter::default() };
        let every = filter(true, None);
        let listed = paged(async |page| here.observations(now, &every, &page).await.unwrap()).await;
        same("the observations", &listed, &books.observations(now, |_| true))?;
        let synced = filter(false, Some(true));
        let listed = paged(async |page| here.observations(now, &synced, &page).await.unwrap()).await;
        let there = |o: &crate::books::ObservationBook| !o.deleted && o.synced_version == Some(o.version);
        same("what the EHR holds", &listed, &books.observations(now, there))?;
        let listed = paged(async |page| here.unsynced(now, &page).await.unwrap()).await;
        same("what the EHR does not hold", &listed, &books.unsynced(now))?;
        for (id, book) in &books.observations {
            let newest = here.observation_version(*id, book.version).await.unwrap();
            same("a version", &newest, &book.versions.get(&book.version))?;
        }
        let listed = paged(async |page| here.patients(&page).await.unwrap()).await;
        let want: Vec<_> = books.patients.keys().rev().filter_map(|id| books.patient(*id)).collect();
        same("the patients", &listed, &want)?;
        for id in books.patients.keys() {
            same("a pull", &here.pull_state(*id).await.unwrap(), &books.pull_state(*id))?;
        }
        Ok(())
    }

    async fn compare_runs(&mut self, tenant: usize) -> Played {
        let ids: Vec<_> = self.books[tenant].runs.keys().copied().collect();
        for id in ids {
            let got = self.tenants[tenant].run(self.now, id).await.unwrap();
            // Looking at a run of which nothing waits ends it.
            let mut run = self.books[tenant].runs[&id].clone();
            end_run(&self.books[tenant], &mut run, self.now);
            self.books[tenant].runs.insert(id, run);
            same("a run", &got, &self.books[tenant].run(id))?;
        }
        Ok(())
    }

    /// Nothing of one tenant is there for the other.
    async fn compare_the_other(&self, tenant: usize) -> Played {
        let (other, books, now) = (&self.tenants[1 - tenant], &self.books[tenant], self.now);
        if let Some(id) = books.ids().last() {
            same("another tenant's delivery", &other.delivery(now, id).await.unwrap(), &None::<Delivery>)?;
        }
        if let Some((id, book)) = books.observations.iter().next() {
            same("another tenant's observation", &other.observation(now, *id).await.unwrap().is_some(), &false)?;
            same("another tenant's version", &other.observation_version(*id, book.version).await.unwrap().is_some(), &false)?;
        }
        for id in books.patients.keys() {
            same("another tenant's patient", &other.patient(*id).await.unwrap().is_some(), &false)?;
            same("another tenant's pull", &other.pull_state(*id).await.unwrap().is_some(), &false)?;
        }
        if let Some(id) = books.runs.keys().next() {
            same("another tenant's run", &other.run(now, *id).await.unwrap().is_some(), &false)?;
        }
        Ok(())
    }

    /// Everything goes well from now on: whatever nobody holds arrives, and nothing goes in a circle.
    pub async fn drain(&mut self) -> Played {
        let dice = Dice::new(2);
        for tenant in 0..self.tenants.len() {
            let expected = self.books[tenant].config.as_ref().map(|config| config.revision);
            let config = ConfigBook {
                enabled: true,
                direction: Direction::Bidirectional,
                frequency: Frequency::Realtime,
                max_concurrency: 2,
                revision: 1,
                last_error: None,
            };
            self.put(tenant, config, expected).await?;
            let got = self.store.fleet().sweep(self.now, false).await.unwrap();
            let now = self.now;
            let due = |books: &&mut crate::books::Books| {
                books.may_push() && books.config.as_ref().is_some_and(|config| config.frequency != Frequency::Daily)
            };
            same("swept rows", &got, &self.books.iter_mut().filter(due).map(|books| books.sweep(now)).sum::<u64>())?;
        }
        let mut rounds = 0;
        loop {
            rounds += 1;
            if rounds > ROUNDS {
                return Err("The lanes are claimed in a circle.".to_owned());
            }
            if self.good_round(&dice).await? || self.good_pull().await? {
                continue;
            }
            let checks = self.books.iter().flat_map(|books| books.runs.values());
            let open = checks.filter(|run| run.kind == RunKind::Check && run.state == RunState::Running).count();
            let claimed = self.store.fleet().claim_check(self.now, "worker", super::LEASE).await.unwrap();
            if let Some((tenant, run)) = claimed {
                let at = self.books.iter().position(|books| books.name == tenant.as_str()).unwrap();
                self.tenants[at].finish_check(self.now, run.id, "{}").await.unwrap();
                let book = self.books[at].runs.get_mut(&run.id).ok_or("a check of another tenant")?;
                (book.state, book.finished, book.lease) = (RunState::Finished, Some(self.now), None);
                book.result = Some("{}".to_owned());
                continue;
            }
            match next_due(&self.books) {
                Some(at) if at > self.now => self.now = at,
                Some(_) => return Err(format!("Something is due now and cannot be claimed; {open} checks are open.")),
                None => break,
            }
        }
        self.compare().await?;
        for books in &self.books {
            for row in books.rows.iter().filter(|row| row.is_open() && !matches!(row.state, State::Held(_))) {
                let held = |other: &crate::books::RowBook| {
                    let reason = matches!(other.state, State::Held(HeldReason::PatientUnlinked));
                    other.patient == row.patient && matches!(other.state, State::Held(_)) && (reason || other.resource == row.resource)
                };
                if !books.is_blocked(row.patient) && !books.rows.iter().any(held) {
                    return Err(format!("Nobody holds this, and it never arrives: {row:?}"));
                }
            }
        }
        same(
            "the rest of a list",
            &paged(async |page| self.tenants[0].patients(&page).await.unwrap()).await.len(),
            &self.books[0].patients.len(),
        )?;
        same("one page that holds all", &self.tenants[0].patients(&all()).await.unwrap().next, &None::<uuid::Uuid>)
    }
}
