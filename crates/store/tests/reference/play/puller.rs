//! Pulls: asked for, claimed, read page by page, finished, failed or left behind.

use super::{LEASE, Play, Played, all, same};
use crate::books::{claim_pull, claimable};
use crate::house::reading;
use model::{EhrId, ObservationId, PatientId, Source};
use ponte_store::lane::Fenced;
use ponte_store::{ObservationFilter, PullClaim, PulledObservation};
use testing::Dice;

const REMEMBERED: usize = 4;

pub struct Puller {
    tenant: usize,
    patient: PatientId,
    epoch: i64,
    claim: PullClaim,
}

impl Play {
    pub async fn ask_for_pull(&mut self, tenant: usize, dice: &Dice) -> Played {
        if dice.happens(0.4) {
            self.say("everybody is pulled");
            let now = self.now;
            let want: u64 = self.books.iter_mut().map(|books| books.pull_everybody(now)).sum();
            return same("so many pulls are due", &self.store.fleet().pull_everybody(now).await.unwrap(), &want);
        }
        let of = if dice.happens(0.1) { 1 - tenant } else { tenant };
        let Some(patient) = self.books[of].patients.keys().nth(dice.index(3)).copied() else { return Ok(()) };
        self.say(format!("{tenant}: a pull of {patient} is asked for"));
        let got = self.tenants[tenant].request_pull(self.now, patient).await.unwrap();
        if of == tenant {
            self.books[tenant].request_pull(self.now, patient);
        }
        same("whether there is such a patient", &got.is_some(), &(of == tenant))
    }

    /// `false`: none was to be claimed.
    async fn claim_one_pull(&mut self) -> Result<bool, String> {
        self.say("a pull is claimed");
        let want = claimable(&self.books, self.now);
        let claimed = self.store.fleet().claim_pull(self.now, "worker", LEASE).await.unwrap();
        let Some(claim) = claimed else {
            same("pulls that may be claimed", &Vec::<(usize, PatientId)>::new(), &want)?;
            return Ok(false);
        };
        let tenant = self.books.iter().position(|books| books.name == claim.tenant().id().as_str()).unwrap();
        let (patient, state, connection, _) = claim.load().await.unwrap();
        if !want.contains(&(tenant, patient.id)) {
            return Err(format!("The pull of {tenant} {} was claimed, and not one of {want:?}.", patient.id));
        }
        let epoch = claim_pull(&mut self.books[tenant], self.now, patient.id, self.now.plus_ms(LEASE));
        same("the claimed pull", &Some(state), &self.books[tenant].pull_state(patient.id))?;
        same("its patient", &Some(&patient), &self.books[tenant].patient(patient.id).as_ref())?;
        same("its connection", &connection.map(|c| c.revision), &self.books[tenant].config.as_ref().map(|c| c.revision))?;
        self.pullers.push(Puller { tenant, patient: patient.id, epoch, claim });
        if self.pullers.len() > REMEMBERED {
            self.pullers.remove(0);
        }
        Ok(true)
    }

    /// A pull is claimed, and its worker reads on, dies, or does nothing yet.
    pub async fn claim_pull(&mut self, dice: &Dice) -> Played {
        if !self.claim_one_pull().await? {
            return Ok(());
        }
        let last = self.pullers.len() - 1;
        if dice.happens(0.5) {
            self.store_page(last, dice).await?;
        }
        if dice.happens(0.4) {
            self.say("a puller dies");
            self.now = self.now.plus_ms(LEASE);
        }
        Ok(())
    }

    /// One observation as the EHR shows it: one of its own, or one of ours, as it was sent or as somebody changed it.
    fn found(&self, tenant: usize, patient: PatientId, n: u64, dice: &Dice) -> PulledObservation {
        let mut ours: Vec<ObservationId> =
            self.books[tenant].observations.iter().filter(|(_, o)| o.source == Source::Platform).map(|(id, _)| *id).collect();
        ours.retain(|id| self.books[tenant].observations[id].patient == patient || dice.happens(0.1));
        if ours.is_empty() || dice.happens(0.5) {
            let version = dice.below(3);
            return PulledObservation {
                ehr_id: EhrId::new(format!("their-{tenant}-{n}")).unwrap(),
                ehr_version: format!("w{version}"),
                ours: None,
                mark: None,
                draft: reading(patient, "8310-5", &version.to_string()),
                more: false,
                resource: format!("{{\"v\":{version}}}"),
                interpreted: true,
            };
        }
        let id = *dice.one_of(&ours);
        let book = &self.books[tenant].observations[&id];
        let changed = dice.happens(0.4);
        PulledObservation {
            ehr_id: EhrId::new(format!("o-{id}")).unwrap(),
            ehr_version: if dice.happens(0.3) { format!("v{}", book.version) } else { format!("w{}", dice.below(5)) },
            // A server may have dropped our identifier.
            ours: dice.happens(0.9).then_some(id),
            mark: dice.happens(0.8).then(|| book.version - i64::from(dice.happens(0.3))),
            draft: if changed { reading(patient, "8310-5", "99") } else { book.draft.clone() },
            more: false,
            resource: format!("{{\"changed\":{changed},\"n\":{n}}}"),
            interpreted: true,
        }
    }

    pub async fn page(&mut self, dice: &Dice) -> Played {
        if self.pullers.is_empty() {
            return Ok(());
        }
        self.store_page(dice.index(self.pullers.len()), dice).await
    }

    async fn store_page(&mut self, at: usize, dice: &Dice) -> Played {
        let (tenant, patient, epoch) = (self.pullers[at].tenant, self.pullers[at].patient, self.pullers[at].epoch);
        let mut rows: Vec<PulledObservation> = (0..1 + dice.below(3)).map(|n| self.found(tenant, patient, n, dice)).collect();
        rows.sort_by(|a, b| a.ehr_id.as_str().cmp(b.ehr_id.as_str()));
        rows.dedup_by(|a, b| a.ehr_id == b.ehr_id);
        let note = if dice.happens(0.8) { format!("page {}", dice.below(9)) } else { String::new() };
        let told: Vec<_> = rows.iter().map(|row| (row.ehr_id.as_str(), row.ehr_version.as_str(), row.ours.is_some(), row.mark)).collect();
        self.say(format!("{tenant}: a page of {patient}/{epoch}: {told:?}"));
        let got = self.pullers[at].claim.store_page(self.now, rows.clone(), &note, LEASE).await.unwrap();
        let until = self.now.plus_ms(LEASE);
        let (fenced, results, new) = self.books[tenant].store_page(self.now, (patient, epoch), &rows, &note, until);
        same("the page", &got, &(fenced, results))?;
        if new.is_empty() {
            return Ok(());
        }
        let filter = ObservationFilter { deleted: true, ..ObservationFilter::default() };
        let listed = self.tenants[tenant].observations(self.now, &filter, &all()).await.unwrap().items;
        for book in new {
            let found = listed.iter().find(|o| o.ehr_id == book.ehr_id && !self.books[tenant].observations.contains_key(&o.id));
            let id = found.ok_or_else(|| format!("The store lacks the observation {:?}.", book.ehr_id))?.id;
            self.books[tenant].observations.insert(id, book);
        }
        Ok(())
    }

    pub async fn end_pull(&mut self, dice: &Dice) -> Played {
        if self.pullers.is_empty() {
            return Ok(());
        }
        let at = dice.index(self.pullers.len());
        let puller = &mut self.pullers[at];
        let (tenant, patient, epoch, now) = (puller.tenant, puller.patient, puller.epoch, self.now);
        let books = &mut self.books[tenant];
        let (told, got, want) = match dice.below(10) {
            0..2 => {
                let until = now.plus_ms(LEASE);
                ("renewed", puller.claim.renew(now, LEASE).await.unwrap(), books.renew_pull(patient, epoch, until))
            }
            2..4 => {
                let again = dice.happens(0.7).then(|| now.plus_ms(dice.between(0, 5000)));
                let got = puller.claim.clone().fail(now, "pull_incomplete", "It broke off.", again).await.unwrap();
                ("failed", got, books.fail_pull((patient, epoch), "pull_incomplete", "It broke off.", again))
            }
            4..6 => {
                let gone = puller.claim.not_seen(now).await.unwrap();
                // Asked without a fence: whose it is does not matter.
                same("what was not seen", &gone, &books.not_seen(patient, now))?;
                let Some((id, _)) = gone.first() else { return Ok(()) };
                let got = puller.claim.mark_gone(now, *id).await.unwrap();
                ("sees one gone", got, books.mark_gone(now, patient, epoch, *id))
            }
            6 if dice.happens(0.5) => {
                let got = puller.claim.clone().put_back(now, "disabled", "It is off.").await.unwrap();
                ("put back", got, books.put_back_pull(now, (patient, epoch), "disabled", "It is off."))
            }
            6 => ("left behind", Fenced::Mine, Fenced::Mine),
            _ => {
                let watermark = dice.happens(0.8).then(|| now.plus_ms(-dice.between(0, 5000)));
                let full = dice.happens(0.4);
                let got = puller.claim.clone().finish(now, watermark, full).await.unwrap();
                ("finished", got, books.finish_pull(now, (patient, epoch), watermark, full))
            }
        };
        self.say(format!("{tenant}: the pull of {patient}/{epoch} is {told}"));
        same("the pull", &got, &want)
    }

    /// Claims a pull and ends it; `false`: none was to be claimed.
    pub async fn good_pull(&mut self) -> Result<bool, String> {
        if !self.claim_one_pull().await? {
            return Ok(false);
        }
        let puller = self.pullers.pop().unwrap();
        let got = puller.claim.finish(self.now, None, false).await.unwrap();
        same("the pull", &got, &self.books[puller.tenant].finish_pull(self.now, (puller.patient, puller.epoch), None, false))?;
        Ok(true)
    }
}
