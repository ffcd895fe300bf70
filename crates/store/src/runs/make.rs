//! How a run comes about: in small transactions, so that nobody else waits long, and what of it is done.

use super::{Progress, Run, RunKind, RunState};
use crate::engine::{Tx, args};
use crate::fleet::sweep_tenant;
use crate::ledger::raw::Raw;
use crate::ledger::{Due, Replayed, deliver_now, replay_one};
use crate::standing::lock_stream;
use crate::{Error, Result, Tenant, audit};
use model::{DeliveryId, ObservationId, PatientId, ResourceKey, RunId, State, TenantId, Timestamp};
use std::collections::BTreeSet;

/// Rows of one transaction.
const CHUNK: i64 = 200;
/// A run that has not been made whole within this time never will be.
const MAKING_MS: i64 = 600_000;

pub(super) async fn sync_all(tenant: &Tenant, now: Timestamp, actor: &str) -> Result<Run> {
    let id = begin(tenant, now, RunKind::SyncAll, actor).await?;
    sweep_tenant(&tenant.inner, &tenant.id, now).await?;
    for of_older_generation in [false, true] {
        let mut after = String::new();
        loop {
            let (this, last) = (tenant.clone(), after.clone());
            let chunk = tenant
                .inner
                .db
                .write(move |tx| Box::pin(async move { sync_chunk(tx, &this, now, id, &last, of_older_generation).await }))
                .await?;
            match chunk {
                Some(last) => after = last,
                None => break,
            }
        }
    }
    finish(tenant, now, id).await
}

/// One chunk of what is unsynced; the last observation of it, or `None` at the end.
async fn sync_chunk(
    tx: &mut Tx,
    tenant: &Tenant,
    now: Timestamp,
    run: RunId,
    after: &str,
    of_older_generation: bool,
) -> Result<Option<String>> {
    let unsynced = "SELECT id, patient_id FROM observations WHERE tenant_id = $1 AND id > $2 AND source = 'platform' \
        AND (synced_version IS NULL OR synced_version <> version) ORDER BY id LIMIT CAST($3 AS BIGINT)";
    let elsewhere = "SELECT o.id, o.patient_id FROM observations o JOIN connections r ON r.tenant_id = o.tenant_id \
        WHERE o.tenant_id = $1 AND o.id > $2 AND o.source = 'platform' AND o.synced_version = o.version \
        AND o.ehr_generation <> r.generation AND NOT o.deleted ORDER BY o.id LIMIT CAST($3 AS BIGINT)";
    let rows = tx.rows(if of_older_generation { elsewhere } else { unsynced }, args![&tenant.id, after, CHUNK]).await?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last = last.text("id")?;
    let patients = rows.iter().map(|row| row.uuid("patient_id").map(PatientId)).collect::<Result<BTreeSet<_>>>()?;
    for patient in patients {
        lock_stream(tx, &tenant.id, patient).await?;
    }
    for row in &rows {
        let resource = ResourceKey::Observation(ObservationId(row.uuid("id")?));
        let under_way = match Raw::newest(tx, &tenant.id, resource).await? {
            // A person gave it up, or it was withdrawn before any byte left.
            Some(raw) if raw.state == State::Canceled => continue,
            Some(raw) if raw.state == State::Pending && raw.due_at.is_some_and(|at| at <= now) => Some(raw.id),
            _ => None,
        };
        let item = match under_way {
            Some(id) => Some(id),
            None => deliver_now(tx, tenant, now, resource, Due::Backlog).await?,
        };
        if let Some(item) = item {
            add(tx, &tenant.id, run, item).await?;
        }
    }
    Ok(Some(last))
}

/// Dead letters again, of one patient or of all.
pub(crate) async fn replay_dead(tenant: &Tenant, now: Timestamp, patient: Option<PatientId>, actor: &str, dry_run: bool) -> Result<Run> {
    if dry_run {
        let dead = dead(tenant, patient).await?;
        return Ok(Run {
            id: RunId(tenant.inner.rng.uuid_v7(now)),
            kind: RunKind::Replay,
            state: RunState::Finished,
            progress: Progress { total: dead.len() as u64, ..Progress::default() },
            input: None,
            result: None,
            created_at: now,
            finished_at: Some(now),
        });
    }
    let id = begin(tenant, now, RunKind::Replay, actor).await?;
    // Read once and whole: what dies again while the run is made is not its matter.
    for chunk in dead(tenant, patient).await?.chunks(CHUNK.unsigned_abs() as usize) {
        let (this, chunk) = (tenant.clone(), chunk.to_vec());
        tenant
            .inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    crate::ledger::raw::lock_patients_of(tx, &this.id, &chunk).await?;
                    for delivery in chunk {
                        if let (Replayed::Again | Replayed::Superseded, Some(goes)) = replay_one(tx, &this, now, delivery).await? {
                            add(tx, &this.id, id, goes).await?;
                        }
                    }
                    Ok(())
                })
            })
            .await?;
    }
    finish(tenant, now, id).await
}

async fn dead(tenant: &Tenant, patient: Option<PatientId>) -> Result<Vec<DeliveryId>> {
    let id = tenant.id.clone();
    tenant
        .inner
        .db
        .read(move |tx| {
            Box::pin(async move {
                let rows = match patient {
                    Some(patient) => {
                        let sql = "SELECT id FROM deliveries WHERE tenant_id = $1 AND state = 'dead' AND patient_id = $2 ORDER BY seq";
                        tx.rows(sql, args![&id, patient]).await?
                    }
                    None => {
                        let sql = "SELECT id FROM deliveries WHERE tenant_id = $1 AND state = 'dead' ORDER BY patient_id, seq";
                        tx.rows(sql, args![&id]).await?
                    }
                };
                rows.iter().map(|row| row.uuid("id").map(DeliveryId)).collect()
            })
        })
        .await
}

async fn begin(tenant: &Tenant, now: Timestamp, kind: RunKind, actor: &str) -> Result<RunId> {
    // The tenant comes into being with its first write.
    tenant.key(now).await?;
    let id = RunId(tenant.inner.rng.uuid_v7(now));
    let (this, actor) = (tenant.clone(), actor.to_owned());
    tenant
        .inner
        .db
        .write(move |tx| {
            Box::pin(async move {
                tx.execute(
                    "INSERT INTO runs (tenant_id, id, kind, state, by_whom, lease_until, created_at) VALUES ($1, $2, $3, 'running', $4, $5, $6)",
                    args![&this.id, id, kind.word(), actor.as_str(), now.plus_ms(MAKING_MS), now],
                )
                .await?;
                let action = if kind == RunKind::Replay { "replayed" } else { "sync_requested" };
                audit::record(tx, &*this.inner.rng, &this.id, now, &actor, action, &format!("run/{id}")).await
            })
        })
        .await?;
    Ok(id)
}

async fn finish(tenant: &Tenant, now: Timestamp, id: RunId) -> Result<Run> {
    let this = tenant.id.clone();
    tenant
        .inner
        .db
        .write(move |tx| {
            Box::pin(async move {
                tx.execute(
                    "UPDATE runs SET lease_until = NULL, total = (SELECT COUNT(*) FROM run_items i WHERE i.tenant_id = $1 AND i.run_id = $2) \
                     WHERE tenant_id = $1 AND id = $2",
                    args![&this, id],
                )
                .await
                .map(drop)
            })
        })
        .await?;
    tenant.run(now, id).await?.ok_or(Error::Corrupt("runs"))
}

async fn add(tx: &mut Tx, tenant: &TenantId, run: RunId, delivery: DeliveryId) -> Result<()> {
    let sql = "INSERT INTO run_items (tenant_id, run_id, delivery_id) VALUES ($1, $2, $3) ON CONFLICT (tenant_id, run_id, delivery_id) DO NOTHING";
    tx.execute(sql, args![tenant, run, delivery]).await.map(drop)
}

/// What of a run is done. A superseded row stands for the newest of its resource.
pub(super) async fn progress(tx: &mut Tx, tenant: &TenantId, run: RunId) -> Result<Progress> {
    let rows = tx
        .rows(
            "SELECT g.standing, COUNT(*) AS n FROM (SELECT CASE \
               WHEN x.state IN ('delivered', 'superseded') THEN 'synced' \
               WHEN x.state IN ('dead', 'canceled', 'held') THEN 'failed' \
               WHEN x.state = 'retry_scheduled' AND x.due_at IS NULL THEN 'failed' \
               WHEN x.state IN ('pending', 'retry_scheduled') AND s.blocked IS NOT NULL THEN 'failed' \
               ELSE 'waiting' END AS standing \
             FROM run_items i JOIN deliveries d ON d.tenant_id = i.tenant_id AND d.id = i.delivery_id \
             JOIN deliveries x ON x.tenant_id = i.tenant_id AND x.id = CASE WHEN d.state = 'superseded' THEN COALESCE( \
               (SELECT n.id FROM deliveries n WHERE n.tenant_id = d.tenant_id AND n.observation_id = d.observation_id \
                ORDER BY n.version DESC, n.seq DESC LIMIT 1), d.id) ELSE d.id END \
             LEFT JOIN streams s ON s.tenant_id = x.tenant_id AND s.patient_id = x.patient_id \
             WHERE i.tenant_id = $1 AND i.run_id = $2) g GROUP BY g.standing",
            args![tenant, run],
        )
        .await?;
    let mut progress = Progress::default();
    for row in rows {
        let n = u64::try_from(row.int("n")?).unwrap_or(0);
        progress.total += n;
        match row.text("standing")?.as_str() {
            "synced" => progress.synced = n,
            "failed" => progress.failed = n,
            _ => progress.waiting = n,
        }
    }
    Ok(progress)
}
