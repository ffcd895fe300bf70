//! A leased lane: what to do in it, and results written `WHERE epoch = mine`.
//!
//! Every method that writes answers [`Fenced::Lost`] when the lease is no longer mine; then nothing was written but late
//! answers, which are evidence of their attempt (PRODUCT, effect ledger, rule 8).

mod begin;
mod link;
mod settle;
mod takeover;
mod work;

pub(crate) use link::change_link;
pub(crate) use settle::record_late_answer;

use crate::engine::{Sql, Tx, args};
use crate::ledger::Content;
use crate::{Inner, Result, Runtime, StoredConnection, Tenant, config};
use futures::future::BoxFuture;
use model::{AttemptId, Class, DeliveryId, EhrId, LateAnswer, Link, Means, Patient, ResourceKey, State, Timestamp};
use settle::Settling;
use std::sync::Arc;

/// A row that was claimed so often without an outcome has killed the process each time: it is dead (PRODUCT, "The effect ledger").
pub(crate) const CLAIMS_MAX: i64 = 5;

/// A lane and what was found at its claim.
pub struct Claimed {
    /// The leased lane.
    pub lane: Lane,
    /// Its lease ran out under somebody else: every attempt without an outcome has to be opened anew.
    pub taken_over: bool,
}

/// A leased lane.
#[derive(Clone)]
pub struct Lane {
    pub(crate) inner: Arc<Inner>,
    pub(crate) tenant: model::TenantId,
    pub(crate) shard: i64,
    pub(crate) epoch: i64,
    /// Of the connection, at the claim: an answer of another base URL is not written as one of this.
    pub(crate) generation: i64,
    pub(crate) lease_until: Timestamp,
    /// The configuration that the turn goes by, once it is open: its row and revision.
    pub(crate) revision: Option<(uuid::Uuid, i64)>,
}

/// Whether a write of a lane's owner took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fenced {
    /// Written.
    Mine,
    /// The lease is somebody else's: nothing was written.
    Lost,
}

/// What a lane's turn begins with.
#[derive(Debug)]
pub struct Opening {
    /// The tenant's connection.
    pub stored: Option<StoredConnection>,
    /// What is known of its EHR.
    pub runtime: Runtime,
    /// Whether the installation sends: not while it is paused, and never from a copy.
    pub may_send: bool,
    /// The turns that have come.
    pub work: Vec<PatientWork>,
}

/// One patient's turn.
#[derive(Debug, Clone)]
pub struct PatientWork {
    /// The patient, with the link of this generation.
    pub patient: Patient,
    /// Why this patient is blocked; only asking, reading and repeating may go on.
    pub blocked: bool,
    /// The newest delivery that waits is no backlog: the lane goes on until it has come to it.
    pub fresh: bool,
    /// More waits behind what is shown, or may once that has moved.
    pub more: bool,
    /// Open deliveries in the order of their acceptance (of those of observations that wait only the first), then delivered ones
    /// whose audit is due.
    pub rows: Vec<WorkRow>,
}

/// One delivery, with all that a decision needs.
#[derive(Debug, Clone)]
pub struct WorkRow {
    /// Its id.
    pub id: DeliveryId,
    /// What it brings.
    pub resource: ResourceKey,
    /// Which version.
    pub version: i64,
    /// Order within the patient.
    pub seq: i64,
    /// Where it stands.
    pub state: State,
    /// Of a sweep or a replay.
    pub backlog: bool,
    /// When it is due; `None`: at the next sweep.
    pub due_at: Option<Timestamp>,
    /// How often it was claimed for sending.
    pub claims: u32,
    /// How often a try ended in a failure of its own.
    pub tries: u32,
    /// Failures of the present round.
    pub round_tries: u32,
    /// By which means it went last.
    pub means: Option<Means>,
    /// Whether any byte of it was ever sent.
    pub sent_before: bool,
    /// Whether every attempt so far is proven not to have been applied.
    pub proven_not_applied: bool,
    /// The ETag that the last update of it was to match: a repeat carries the same.
    pub match_etag: Option<String>,
    /// The EHR's id and version of the *resource*, as known now.
    pub ehr_id: Option<EhrId>,
    /// See `ehr_id`.
    pub ehr_version: Option<String>,
    /// The version of the resource that the EHR is known to hold.
    pub synced_version: Option<i64>,
    /// Until when attempts of this delivery without an outcome stay open (a flying one counts as `i64::MAX`).
    pub own_settle_until: Option<Timestamp>,
    /// Until when attempts of this resource (all its deliveries) without an outcome stay open.
    pub resource_settle_until: Option<Timestamp>,
    /// A newer version of the resource was accepted.
    pub newer_exists: bool,
    /// The next audit and its stage, for delivered rows.
    pub audit_at: Option<Timestamp>,
    /// 0: the read after settling; 1: after an hour; 2: after a day.
    pub audit_stage: u32,
    /// Means and class of the last attempt.
    pub last_class: Option<Class>,
    /// First failure of its own.
    pub first_failed_at: Option<Timestamp>,
    /// The connection's down time at that moment, ms.
    pub down_ms_then: i64,
    /// Accepted.
    pub created_at: Timestamp,
    /// What it brings: that version.
    pub content: Content,
}

/// An attempt about to be made; recorded before any byte leaves.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Id of the attempt.
    pub attempt: AttemptId,
    /// Method and path template.
    pub request: String,
    /// A write (which makes the row `in_flight` and counts a claim) or a question (which does neither).
    pub means: Option<Means>,
    /// The ETag that the write is to match.
    pub match_etag: Option<String>,
    /// The EHR's Patient of whom the write speaks.
    pub subject: Option<EhrId>,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which.
    pub attempt: AttemptId,
    /// HTTP status.
    pub status: Option<u16>,
    /// Its class.
    pub class: Class,
    /// Until when it stays open, if it has no outcome.
    pub settle_until: Option<Timestamp>,
    /// Words for the tenant.
    pub message: Option<String>,
}

/// The new standing of a delivery, decided by `delivery::next`; written together with the attempt's outcome.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// The attempt that just ended, if one did.
    pub outcome: Option<Outcome>,
    /// The state from now on.
    pub state: State,
    /// When it is due next; `None`: a final state, a person's move, or the next sweep.
    pub due_at: Option<Timestamp>,
    /// Counts a failed try of its own (and of the round).
    pub counts_try: bool,
    /// A new round begins.
    pub new_round: bool,
    /// Every attempt so far is proven not to have been applied. `None`: as it was.
    pub proven_not_applied: Option<bool>,
    /// The resource's id at the EHR.
    pub ehr_id: Option<EhrId>,
    /// The resource's version at the EHR, to be kept as ours. `None`: as it was.
    pub ehr_version: Option<String>,
    /// The EHR holds this version from now on: sets `synced_version`, `synced_at` (never back to an older version).
    pub synced: bool,
    /// When to read it again, and at which stage. `None`: no further audit.
    pub audit: Option<(Timestamp, u32)>,
    /// The sentence shown with the delivery. `None`: as it was.
    pub message: Option<String>,
    /// The EHR took a write, and nothing has shown since that the connection fails: it works ([`Tenant::connection_works`]).
    pub works: bool,
}

/// A new standing of a patient's link, decided by rule.
#[derive(Debug, Clone)]
pub struct LinkChange {
    /// The whole link as it shall be. Ignored where a person decided meanwhile.
    pub link: Link,
    /// Whether the patient is blocked from now on.
    pub blocked: bool,
    /// What it was judged from. Ignored where the patient is not that any more: a corrected number is looked for anew. `None`: it does
    /// not depend on what is known here, as of a Patient that we just made.
    pub judged_from: Option<JudgedFrom>,
}

/// What a rule knew of a patient.
#[derive(Debug, Clone)]
pub struct JudgedFrom {
    version: i64,
    by: Option<String>,
    ehr_id: Option<EhrId>,
}

impl LinkChange {
    /// What was judged from this patient, as it was read.
    #[must_use]
    pub fn judged(patient: &Patient, link: Link, blocked: bool) -> Self {
        let judged_from = JudgedFrom { version: patient.version, by: patient.link.by.clone(), ehr_id: patient.link.ehr_id.clone() };
        Self { link, blocked, judged_from: Some(judged_from) }
    }
}

impl Lane {
    /// Whose.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        Tenant { inner: self.inner.clone(), id: self.tenant.clone() }
    }

    /// Which of the tenant's shards.
    #[must_use]
    pub fn shard(&self) -> i64 {
        self.shard
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Until when it is mine.
    #[must_use]
    pub fn lease_until(&self) -> Timestamp {
        self.lease_until
    }

    /// What a turn begins with, in one picture: the connection as it is now (so that a change holds from the next attempt on), and
    /// the turns that have come, as [`Lane::work`] shows them; at most as many as `limit` says of such a connection.
    pub async fn open(&mut self, now: Timestamp, limit: fn(&StoredConnection, &Runtime) -> u32) -> Result<Opening> {
        let (lane, cache) = (self.clone(), self.inner.connections.clone());
        let key = self.tenant().key(now).await?;
        let read = self.inner.db.read(move |tx| {
            Box::pin(async move {
                let may_send = crate::installation::may_send(tx).await?;
                let runtime = config::load_runtime(tx, &lane.tenant).await?;
                let stored = config::load(tx, &lane.tenant, &key, &cache).await?;
                let work = match &stored {
                    Some(stored) if may_send => work::work(tx, &lane, &key, now, limit(stored, &runtime)).await?,
                    Some(_) | None => Vec::new(),
                };
                Ok(Opening { stored, runtime, may_send, work })
            })
        });
        let opening: Opening = read.await?;
        self.revision = opening.stored.as_ref().map(|stored| (stored.id, stored.revision));
        Ok(opening)
    }

    /// After a takeover: every attempt of this lane without an outcome gets `settle_until = max(its own, now + settle_ms)`,
    /// every row `in_flight` becomes `uncertain` and is due at once; delivered rows with such attempts get an audit then.
    pub async fn take_over(&self, now: Timestamp, settle_ms: i64) -> Result<Fenced> {
        let lane = self.clone();
        self.fenced(move |tx| Box::pin(async move { takeover::take_over(tx, &lane, now, settle_ms).await })).await
    }

    /// The turns that have come: patients of this lane with something due, at most `limit`; half of them those with the
    /// freshest observations, half those that wait longest, nobody twice. Also due are delivered rows whose audit has come.
    /// A row that was claimed twice without an outcome says so in `claims`: it is to be sent alone.
    pub async fn work(&self, now: Timestamp, limit: u32) -> Result<Vec<PatientWork>> {
        let lane = self.clone();
        let key = self.tenant().key(now).await?;
        self.inner.db.read(move |tx| Box::pin(async move { work::work(tx, &lane, &key, now, limit).await })).await
    }

    /// Records attempts before any byte leaves: one transaction, fenced.
    ///
    /// [`Fenced::Lost`] also when something is not as it was shown, however long ago that is: a row was superseded or withdrawn, the time
    /// in which it may be repeated is over, its patient was linked anew or blocked, the configuration was changed, or the installation
    /// stopped. Nothing is written then, and the lane is given back at once, so that its next claim sees all as it is.
    pub async fn begin(&self, now: Timestamp, attempts: Vec<Begin>) -> Result<Fenced> {
        let lane = self.clone();
        let begun = self
            .inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    if lane.fence(tx).await? { begin::begin(tx, &lane, now, attempts).await } else { Ok(begin::Begun::Lost) }
                })
            })
            .await?;
        Ok(match begun {
            begin::Begun::All => Fenced::Mine,
            begin::Begun::Lost => Fenced::Lost,
            begin::Begun::Moved => {
                // Lost already, or given back now: not mine either way.
                let _: Fenced = self.clone().release(now, None).await?;
                Fenced::Lost
            }
        })
    }

    /// Makes sure that what the turn goes by still holds before it asks something that no delivery is about: the configuration is the
    /// one that it was opened with, and the installation still sends. Where it does not, the lane is given back.
    pub async fn goes_on(&self, now: Timestamp) -> Result<Fenced> {
        let lane = self.clone();
        if self.inner.db.read(move |tx| Box::pin(async move { begin::goes_by_what_holds(tx, &lane).await })).await? {
            return Ok(Fenced::Mine);
        }
        let _: Fenced = self.clone().release(now, None).await?;
        Ok(Fenced::Lost)
    }

    /// Writes results: one transaction, fenced. Keeps counters, streams, observations and patients in step.
    ///
    /// Where the lease is lost, each answer is still kept with its attempt as a late one.
    pub async fn settle(&self, now: Timestamp, settlements: Vec<Settlement>) -> Result<Fenced> {
        self.write_down(now, None, settlements).await
    }

    /// Writes a rule's decision about a link: fenced. Never over a person's. `Some(delivery)`: that delivery of the
    /// Patient is settled in the same transaction.
    pub async fn settle_link(
        &self,
        now: Timestamp,
        patient: model::PatientId,
        change: LinkChange,
        settlement: Option<Settlement>,
    ) -> Result<Fenced> {
        self.write_down(now, Some((patient, change)), settlement.into_iter().collect()).await
    }

    async fn write_down(
        &self,
        now: Timestamp,
        link: Option<(model::PatientId, LinkChange)>,
        settlements: Vec<Settlement>,
    ) -> Result<Fenced> {
        let lane = self.clone();
        let key = self.tenant().key(now).await?;
        let works = settlements.iter().any(|settlement| settlement.works);
        let (fenced, said) = self
            .inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    if !lane.fence(tx).await? {
                        settle::keep_as_late(tx, &lane.tenant, now, &settlements).await?;
                        return Ok((Fenced::Lost, false));
                    }
                    if let Some((patient, change)) = &link {
                        change_link(tx, &lane.tenant, &key, now, *patient, change).await?;
                    }
                    Settling::load(tx, &lane.inner, &lane.tenant, &key, now).await?.settle(tx, &settlements).await?;
                    // In the same commit where nobody else writes; elsewhere a change of the connection locks it before the streams.
                    let said = works && tx.is_alone();
                    if said && !config::is_fresh(tx, &lane.tenant, now, true, false).await? {
                        config::works(tx, &lane.tenant, now, true, false).await?;
                    }
                    Ok((Fenced::Mine, said))
                })
            })
            .await?;
        if works && !said {
            self.tenant().connection_works(now, true, false).await?;
        }
        Ok(fenced)
    }

    /// A late answer: kept with its attempt whatever the epoch, and a delivered or open row is asked about again once its
    /// attempts have settled.
    pub async fn record_late(&self, attempt: AttemptId, late: LateAnswer) -> Result<()> {
        let tenant = self.tenant.clone();
        self.inner.db.write(move |tx| Box::pin(async move { record_late_answer(tx, &tenant, attempt, &late).await })).await
    }

    /// Lengthens the lease; `Lost` when it is gone.
    pub async fn renew(&mut self, now: Timestamp, lease_ms: i64) -> Result<Fenced> {
        let lane = self.clone();
        let until = now.plus_ms(lease_ms);
        let fenced = self
            .fenced(move |tx| {
                Box::pin(async move {
                    let sql = "UPDATE lanes SET lease_until = $4 WHERE tenant_id = $1 AND shard = $2 AND epoch = $3";
                    tx.execute(sql, args![&lane.tenant, lane.shard, lane.epoch, until]).await.map(drop)
                })
            })
            .await?;
        if fenced == Fenced::Mine {
            self.lease_until = until;
        }
        Ok(fenced)
    }

    /// Gives the lane back; it is due again when its first stream is, and not before `not_before`.
    pub async fn release(self, now: Timestamp, not_before: Option<Timestamp>) -> Result<Fenced> {
        let lane = self.clone();
        let release = self.if_mine(move |tx| {
            Box::pin(async move {
                tx.execute(
                    "UPDATE lanes SET lease_until = NULL, owner = NULL, served_at = CASE WHEN served_at > $4 THEN served_at ELSE $4 END, due_at = \
                       (SELECT CASE WHEN MIN(s.head_due) < $5 THEN $5 ELSE MIN(s.head_due) END FROM streams s \
                        WHERE s.tenant_id = $1 AND s.shard = $2 AND s.head_due IS NOT NULL) \
                     WHERE tenant_id = $1 AND shard = $2 AND epoch = $3",
                    args![&lane.tenant, lane.shard, lane.epoch, now, not_before.unwrap_or(Timestamp(i64::MIN))],
                )
                .await?;
                tx.wake(false).await
            })
        });
        self.inner.db.write_lease(release).await
    }

    /// Runs a write only if the lane is still mine.
    async fn fenced<F>(&self, f: F) -> Result<Fenced>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<()>> + Clone + Send + 'static,
    {
        self.inner.db.write(self.if_mine(f)).await
    }

    /// The same write as a transaction to be run.
    fn if_mine<F>(&self, f: F) -> impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<Fenced>> + Clone + Send + use<F>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<()>> + Clone + Send + 'static,
    {
        let lane = self.clone();
        move |tx| {
            Box::pin(async move {
                if !lane.fence(tx).await? {
                    return Ok(Fenced::Lost);
                }
                f(tx).await?;
                Ok(Fenced::Mine)
            })
        }
    }

    /// Whether the lane is mine, and stays mine until the end of this transaction. A claim takes the full lock of the row, so
    /// that a shared one keeps it out; those who only make the lane due are not kept waiting, and wait for nobody.
    async fn fence(&self, tx: &mut Tx) -> Result<bool> {
        const SQLITE: &str = "SELECT lease_until FROM lanes WHERE tenant_id = $1 AND shard = $2 AND epoch = $3 AND lease_until IS NOT NULL";
        const POSTGRES: &str =
            "SELECT lease_until FROM lanes WHERE tenant_id = $1 AND shard = $2 AND epoch = $3 AND lease_until IS NOT NULL FOR KEY SHARE";
        let sql = Sql { sqlite: SQLITE, postgres: POSTGRES };
        if tx.row(sql, args![&self.tenant, self.shard, self.epoch]).await?.is_none() {
            return Ok(false);
        }
        let sql = "SELECT generation FROM connections WHERE tenant_id = $1";
        let generation = tx.row(sql, args![&self.tenant]).await?.map(|row| row.int("generation")).transpose()?;
        if generation.unwrap_or(0) == self.generation {
            return Ok(true);
        }
        // The connection moved to another base URL under this owner: what it sent has to be opened anew like a dead worker's.
        self.expire(tx, Timestamp(0)).await?;
        Ok(false)
    }

    /// Ends the lease, so that the next claim is a takeover.
    async fn expire(&self, tx: &mut Tx, now: Timestamp) -> Result<()> {
        let sql = "UPDATE lanes SET lease_until = $4 WHERE tenant_id = $1 AND shard = $2 AND epoch = $3";
        tx.execute(sql, args![&self.tenant, self.shard, self.epoch, now]).await?;
        tx.wake(true).await
    }
}
