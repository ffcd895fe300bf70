//! Pulls: one row per patient, leased while it runs, with a checkpoint per page.

mod page;

use crate::engine::{Sql, Tx, args};
use crate::lane::{Fenced, change_link};
use crate::seal::DataKey;
use crate::{Error, Inner, PulledObservation, PulledResult, Result, Runtime, StoredConnection, Tenant};
use futures::future::BoxFuture;
use model::{EhrId, ObservationId, Patient, PatientId, Timestamp};
use std::sync::Arc;

/// A leased pull.
#[derive(Clone)]
pub struct PullClaim {
    pub(crate) inner: Arc<Inner>,
    pub(crate) tenant: model::TenantId,
    pub(crate) patient: PatientId,
    pub(crate) epoch: i64,
    pub(crate) lease_until: Timestamp,
}

/// Where a patient's pull stands.
#[derive(Debug, Clone)]
pub struct PullState {
    /// Asked for, or running, or due.
    pub waiting: bool,
    /// Largest `_lastUpdated` seen, or start of the last complete pull by the server's clock: the lesser.
    pub watermark: Option<Timestamp>,
    /// What the engine noted after the last page, if the pull is under way.
    pub checkpoint: Option<String>,
    /// When the last pull began.
    pub started_at: Option<Timestamp>,
    /// When the last complete one ended.
    pub finished_at: Option<Timestamp>,
    /// When the patient's list was last read whole.
    pub last_full_at: Option<Timestamp>,
    /// `complete`, or a snake_case reason why not (`pull_incomplete` …).
    pub outcome: Option<String>,
    /// A sentence for the tenant.
    pub message: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Of the last pull.
    pub created: u64,
    /// Of the last pull.
    pub updated: u64,
    /// Of the last pull.
    pub unchanged: u64,
}

impl Tenant {
    /// Asks for a pull of this patient now. `None`: no such patient.
    pub async fn request_pull(&self, now: Timestamp, patient: PatientId) -> Result<Option<()>> {
        let tenant = self.id.clone();
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    if tx.row("SELECT id FROM patients WHERE tenant_id = $1 AND id = $2", args![&tenant, patient]).await?.is_none() {
                        return Ok(None);
                    }
                    tx.execute(
                        "INSERT INTO pulls (tenant_id, patient_id, generation, due_at, requested_at) \
                         VALUES ($1, $2, COALESCE((SELECT generation FROM connections WHERE tenant_id = $1), 1), $3, $3) \
                         ON CONFLICT (tenant_id, patient_id) DO UPDATE SET requested_at = $3, \
                           due_at = CASE WHEN pulls.due_at < $3 THEN pulls.due_at ELSE $3 END",
                        args![&tenant, patient, now],
                    )
                    .await?;
                    tx.wake(true).await?;
                    Ok(Some(()))
                })
            })
            .await
    }

    /// Where it stands.
    pub async fn pull_state(&self, patient: PatientId) -> Result<Option<PullState>> {
        let Some(key) = self.key_if_any().await? else { return Ok(None) };
        let tenant = self.id.clone();
        self.inner.db.read(move |tx| Box::pin(async move { state(tx, &tenant, &key, patient).await })).await
    }
}

impl PullClaim {
    /// Whose.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        Tenant { inner: self.inner.clone(), id: self.tenant.clone() }
    }

    /// Until when it is mine.
    #[must_use]
    pub fn lease_until(&self) -> Timestamp {
        self.lease_until
    }

    /// The patient, its link of this generation, where the pull stands, the connection.
    pub async fn load(&self) -> Result<(Patient, PullState, Option<StoredConnection>, Runtime)> {
        let tenant = self.tenant();
        let patient = tenant.patient(self.patient).await?.ok_or(Error::Corrupt("pulls"))?;
        let state = tenant.pull_state(self.patient).await?.ok_or(Error::Corrupt("pulls"))?;
        Ok((patient, state, tenant.connection().await?, tenant.runtime().await?))
    }

    /// Stores one page and the checkpoint behind it in one transaction, fenced; lengthens the lease (see
    /// [`PullClaim::lengthened`]). A row is known by (EHR id, version); ours by its identifier: where its mark is our newest
    /// version it is `Unchanged` and its version is kept as ours, where the content was changed at the EHR it is `Updated`
    /// (resource kept, shown as the EHR's).
    pub async fn store_page(
        &self,
        now: Timestamp,
        rows: Vec<PulledObservation>,
        checkpoint: &str,
        lease_ms: i64,
    ) -> Result<(Fenced, Vec<PulledResult>)> {
        let key = self.tenant().key(now).await?;
        let (claim, checkpoint, until) = (self.clone(), checkpoint.to_owned(), now.plus_ms(lease_ms));
        let results = self
            .inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let Some(fence) = claim.fence(tx).await? else { return Ok(None) };
                    let results = page::store(tx, &claim, &key, &fence, now, rows).await?;
                    let n = |wanted| i64::try_from(results.iter().filter(|result| **result == wanted).count()).unwrap_or(0);
                    // An empty note: the next claim begins anew.
                    let sealed = (!checkpoint.is_empty())
                        .then(|| key.seal_text("pulls", "sealed_checkpoint", claim.patient, &checkpoint))
                        .transpose()?;
                    tx.execute(
                        "UPDATE pulls SET sealed_checkpoint = $4, lease_until = $5, created_n = created_n + $6, updated_n = updated_n + $7, \
                           unchanged_n = unchanged_n + $8 WHERE tenant_id = $1 AND patient_id = $2 AND epoch = $3",
                        args![
                            &claim.tenant,
                            claim.patient,
                            claim.epoch,
                            sealed,
                            until,
                            n(PulledResult::Created),
                            n(PulledResult::Updated),
                            n(PulledResult::Unchanged)
                        ],
                    )
                    .await?;
                    Ok(Some(results))
                })
            })
            .await?;
        Ok(match results {
            Some(results) => (Fenced::Mine, results),
            None => (Fenced::Lost, Vec::new()),
        })
    }

    /// The claim as it is after a page was stored at `now` with this lease.
    #[must_use]
    pub fn lengthened(self, now: Timestamp, lease_ms: i64) -> Self {
        Self { lease_until: self.lease_until.max(now.plus_ms(lease_ms)), ..self }
    }

    /// Lengthens the lease without a page; `Lost` when it is gone.
    pub async fn renew(&mut self, now: Timestamp, lease_ms: i64) -> Result<Fenced> {
        let (claim, until) = (self.clone(), now.plus_ms(lease_ms));
        let fenced = self
            .fenced(move |tx, _| {
                Box::pin(async move {
                    let sql = "UPDATE pulls SET lease_until = $4 WHERE tenant_id = $1 AND patient_id = $2 AND epoch = $3";
                    tx.execute(sql, args![&claim.tenant, claim.patient, claim.epoch, until]).await.map(drop)
                })
            })
            .await?;
        if fenced == Fenced::Mine {
            self.lease_until = until;
        }
        Ok(fenced)
    }

    /// After a whole read: observations of this patient that the EHR is known to hold and that it did not show, to be read
    /// one by one. Those of ours that are on their way are not among them: their deliveries judge for themselves.
    pub async fn not_seen(&self, since: Timestamp) -> Result<Vec<(ObservationId, EhrId)>> {
        let claim = self.clone();
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let rows = tx
                        .rows(
                            "SELECT o.id, o.ehr_id FROM observations o JOIN pulls p ON p.tenant_id = o.tenant_id AND p.patient_id = o.patient_id \
                             WHERE o.tenant_id = $1 AND o.patient_id = $2 AND o.ehr_generation = p.generation AND o.ehr_id IS NOT NULL \
                             AND NOT o.deleted AND (o.seen_at IS NULL OR o.seen_at < $3) \
                             AND (o.source = 'ehr' OR o.synced_version = o.version) \
                             AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant_id = o.tenant_id AND d.observation_id = o.id \
                               AND d.state IN ('pending', 'in_flight', 'retry_scheduled', 'held', 'uncertain')) ORDER BY o.id",
                            args![&claim.tenant, claim.patient, since],
                        )
                        .await?;
                    rows.iter()
                        .map(|row| Ok((ObservationId(row.uuid("id")?), row.ehr_id_opt("ehr_id")?.ok_or(Error::Corrupt("observations"))?)))
                        .collect()
                })
            })
            .await
    }

    /// The EHR deleted it.
    pub async fn mark_gone(&self, now: Timestamp, observation: ObservationId) -> Result<Fenced> {
        let claim = self.clone();
        self.fenced(move |tx, _| {
            Box::pin(async move {
                tx.execute(
                    "UPDATE observations SET deleted = true, seen_at = $4, updated_at = $4 \
                     WHERE tenant_id = $1 AND id = $2 AND patient_id = $3 AND NOT deleted",
                    args![&claim.tenant, observation, claim.patient, now],
                )
                .await
                .map(drop)
            })
        })
        .await
    }

    /// A link that a reading of the Patient puts in doubt (or confirms: `verified_at`), by rule, never over a person's.
    pub async fn settle_link(&self, now: Timestamp, change: crate::LinkChange) -> Result<Fenced> {
        let claim = self.clone();
        let key = self.tenant().key(now).await?;
        self.fenced(move |tx, _| Box::pin(async move { change_link(tx, &claim.tenant, &key, now, claim.patient, &change).await })).await
    }

    /// The pull is complete: the watermark moves, the checkpoint goes, `last_sync_at` of patient and connection is set.
    pub async fn finish(self, now: Timestamp, watermark: Option<Timestamp>, full: bool) -> Result<Fenced> {
        let claim = self.clone();
        self.fenced(move |tx, _| {
            Box::pin(async move {
                tx.execute(
                    "UPDATE pulls SET lease_until = NULL, owner = NULL, sealed_checkpoint = NULL, watermark = COALESCE($4, watermark), \
                       finished_at = $5, last_full_at = CASE WHEN $6 THEN $5 ELSE last_full_at END, failures = 0, outcome = 'complete', \
                       sealed_message = NULL WHERE tenant_id = $1 AND patient_id = $2 AND epoch = $3",
                    args![&claim.tenant, claim.patient, claim.epoch, watermark, now, full],
                )
                .await?;
                let sql = "UPDATE patients SET last_sync_at = $3 WHERE tenant_id = $1 AND id = $2";
                tx.execute(sql, args![&claim.tenant, claim.patient, now]).await?;
                tx.execute("UPDATE connections SET last_pull_at = $2 WHERE tenant_id = $1", args![&claim.tenant, now]).await?;
                let sql = "UPDATE fhir_integration_configs SET last_sync_at = $2 WHERE tenant_id = $1";
                tx.execute(sql, args![&claim.tenant, now]).await?;
                tx.wake(false).await
            })
        })
        .await
    }

    /// It cannot be finished now: what was read is kept, the watermark stays, the checkpoint too. `again_at`: when to go on by itself.
    pub async fn fail(self, now: Timestamp, outcome: &str, message: &str, again_at: Option<Timestamp>) -> Result<Fenced> {
        self.give_back(now, outcome, message, GivenBack { failures: 1, requested_at: None, due_at: again_at }).await
    }

    /// A person's word keeps it from going on: no failure of its own. It is due again as soon as that word is another, from its
    /// checkpoint, and who waits for it waits on.
    pub async fn put_back(self, now: Timestamp, outcome: &str, message: &str) -> Result<Fenced> {
        self.give_back(now, outcome, message, GivenBack { failures: 0, requested_at: Some(now), due_at: Some(now) }).await
    }

    async fn give_back(self, now: Timestamp, outcome: &str, message: &str, as_what: GivenBack) -> Result<Fenced> {
        let key = self.tenant().key(now).await?;
        let sealed = key.seal_text("pulls", "sealed_message", self.patient, message)?;
        let (claim, outcome) = (self.clone(), outcome.to_owned());
        self.fenced(move |tx, _| {
            Box::pin(async move {
                tx.execute(
                    "UPDATE pulls SET lease_until = NULL, owner = NULL, failures = failures + $7, outcome = $4, sealed_message = $5, \
                       requested_at = COALESCE($8, requested_at), \
                       due_at = CASE WHEN due_at IS NULL OR due_at > $6 THEN COALESCE($6, due_at) ELSE due_at END \
                     WHERE tenant_id = $1 AND patient_id = $2 AND epoch = $3",
                    args![
                        &claim.tenant,
                        claim.patient,
                        claim.epoch,
                        outcome,
                        sealed,
                        as_what.due_at,
                        as_what.failures,
                        as_what.requested_at
                    ],
                )
                .await?;
                tx.wake(false).await
            })
        })
        .await
    }

    /// What holds if the pull is still mine; it stays so until the end of this transaction.
    async fn fence(&self, tx: &mut Tx) -> Result<Option<Fence>> {
        const SQLITE: &str = "SELECT p.generation, p.started_at, r.generation AS present FROM pulls p JOIN connections r ON r.tenant_id = p.tenant_id \
            WHERE p.tenant_id = $1 AND p.patient_id = $2 AND p.epoch = $3 AND p.lease_until IS NOT NULL";
        const POSTGRES: &str = "SELECT p.generation, p.started_at, r.generation AS present FROM pulls p JOIN connections r ON r.tenant_id = p.tenant_id \
            WHERE p.tenant_id = $1 AND p.patient_id = $2 AND p.epoch = $3 AND p.lease_until IS NOT NULL FOR UPDATE OF p";
        let sql = Sql { sqlite: SQLITE, postgres: POSTGRES };
        let Some(row) = tx.row(sql, args![&self.tenant, self.patient, self.epoch]).await? else { return Ok(None) };
        let generation = row.int("generation")?;
        if generation != row.int("present")? {
            // What another base URL shows is not written as what this one shows: the next claim begins anew.
            let sql = "UPDATE pulls SET lease_until = 0 WHERE tenant_id = $1 AND patient_id = $2 AND epoch = $3";
            tx.execute(sql, args![&self.tenant, self.patient, self.epoch]).await?;
            return Ok(None);
        }
        Ok(Some(Fence { generation, started_at: row.ts_opt("started_at")?.unwrap_or_default() }))
    }

    /// Runs a write only if the pull is still mine.
    async fn fenced<F>(&self, f: F) -> Result<Fenced>
    where
        F: for<'t> FnOnce(&'t mut Tx, Fence) -> BoxFuture<'t, Result<()>> + Clone + Send + 'static,
    {
        let claim = self.clone();
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let Some(fence) = claim.fence(tx).await? else { return Ok(Fenced::Lost) };
                    f(tx, fence).await?;
                    Ok(Fenced::Mine)
                })
            })
            .await
    }
}

/// How a pull that is not at its end is given back.
#[derive(Clone, Copy)]
struct GivenBack {
    /// So many more.
    failures: i64,
    /// Somebody waits for it.
    requested_at: Option<Timestamp>,
    /// When it goes on by itself, if it is not due before.
    due_at: Option<Timestamp>,
}

/// What a fenced write knows of its pull.
#[derive(Debug, Clone, Copy)]
struct Fence {
    generation: i64,
    started_at: Timestamp,
}

async fn state(tx: &mut Tx, tenant: &model::TenantId, key: &DataKey, patient: PatientId) -> Result<Option<PullState>> {
    let sql = "SELECT (requested_at IS NOT NULL OR lease_until IS NOT NULL) AS waiting, watermark, sealed_checkpoint, started_at, finished_at, \
        last_full_at, outcome, sealed_message, failures, created_n, updated_n, unchanged_n FROM pulls WHERE tenant_id = $1 AND patient_id = $2";
    let Some(row) = tx.row(sql, args![tenant, patient]).await? else { return Ok(None) };
    let open = |column: &'static str| -> Result<Option<String>> {
        row.bytes_opt(column)?.map(|sealed| key.open_text("pulls", column, patient, &sealed)).transpose()
    };
    let count = |column| row.int(column).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(Some(PullState {
        waiting: row.boolean("waiting")?,
        watermark: row.ts_opt("watermark")?,
        checkpoint: open("sealed_checkpoint")?,
        started_at: row.ts_opt("started_at")?,
        finished_at: row.ts_opt("finished_at")?,
        last_full_at: row.ts_opt("last_full_at")?,
        outcome: row.text_opt("outcome")?,
        message: open("sealed_message")?,
        failures: row.count("failures")?,
        created: count("created_n")?,
        updated: count("updated_n")?,
        unchanged: count("unchanged_n")?,
    }))
}
