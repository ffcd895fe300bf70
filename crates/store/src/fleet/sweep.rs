//! Sweeps: what waits for its hour becomes due, in small transactions, so that nobody else waits long for the database.

use crate::engine::{Row, Sql, Tx, args};
use crate::standing::{SHARDS, lock_stream, touch_streams};
use crate::{Inner, Result};
use model::{DeliveryId, PatientId, TenantId, Timestamp};
use std::collections::BTreeSet;

/// Rows of one transaction.
const CHUNK: i64 = 500;

/// Everything of the tenants of this frequency that waits for a sweep.
pub(super) async fn sweep(inner: &Inner, now: Timestamp, daily: bool) -> Result<u64> {
    let tenants = inner
        .db
        .read(move |tx| {
            Box::pin(async move {
                let rows = tx
                    .rows(
                        "SELECT tenant_id FROM fhir_integration_configs WHERE enabled AND sync_direction <> 'pull' \
                         AND (sync_frequency = 'daily') = $1 ORDER BY tenant_id",
                        args![daily],
                    )
                    .await?;
                rows.iter().map(Row::tenant).collect::<Result<Vec<_>>>()
            })
        })
        .await?;
    let mut swept = 0;
    for tenant in tenants {
        swept += sweep_tenant(inner, &tenant, now).await?;
    }
    Ok(swept)
}

/// Makes what waits for a sweep of one tenant due as backlog; says how many rows.
pub(crate) async fn sweep_tenant(inner: &Inner, tenant: &TenantId, now: Timestamp) -> Result<u64> {
    let mut swept = 0;
    for shard in 0..SHARDS {
        loop {
            let tenant = tenant.clone();
            let n = inner.db.write(move |tx| Box::pin(async move { sweep_chunk(tx, &tenant, shard, now).await })).await?;
            swept += n;
            if n < CHUNK.unsigned_abs() {
                break;
            }
        }
    }
    Ok(swept)
}

async fn sweep_chunk(tx: &mut Tx, tenant: &TenantId, shard: i64, now: Timestamp) -> Result<u64> {
    let rows = tx
        .rows(
            "SELECT id, patient_id FROM deliveries WHERE tenant_id = $1 AND shard = $2 AND state IN ('pending', 'retry_scheduled') \
             AND due_at IS NULL ORDER BY patient_id, seq LIMIT CAST($3 AS BIGINT)",
            args![tenant, shard, CHUNK],
        )
        .await?;
    let mut patients = BTreeSet::new();
    let mut ids = Vec::with_capacity(rows.len());
    for row in &rows {
        patients.insert(PatientId(row.uuid("patient_id")?));
        ids.push(DeliveryId(row.uuid("id")?));
    }
    for patient in &patients {
        lock_stream(tx, tenant, *patient).await?;
    }
    for id in ids {
        tx.execute(
            "UPDATE deliveries SET due_at = $3, backlog = true, round_tries = 0, updated_at = $3 \
             WHERE tenant_id = $1 AND id = $2 AND state IN ('pending', 'retry_scheduled') AND due_at IS NULL",
            args![tenant, id, now],
        )
        .await?;
    }
    touch_streams(tx, tenant, patients.into_iter().collect(), now).await?;
    Ok(u64::try_from(rows.len()).unwrap_or(0))
}

/// Every linked patient of every enabled tenant that pulls.
pub(super) async fn pull_everybody(inner: &Inner, now: Timestamp) -> Result<u64> {
    inner
        .db
        .write(move |tx| {
            Box::pin(async move {
                let sql = Sql::from(
                    "INSERT INTO pulls (tenant_id, patient_id, generation, due_at, requested_at) \
                     SELECT p.tenant_id, p.id, r.generation, $1, $1 FROM patients p \
                     JOIN fhir_integration_configs c ON c.tenant_id = p.tenant_id \
                     JOIN connections r ON r.tenant_id = p.tenant_id \
                     WHERE c.enabled AND c.sync_direction <> 'push' AND p.link_state = 'linked' AND p.link_generation = r.generation \
                     ON CONFLICT (tenant_id, patient_id) DO UPDATE SET due_at = excluded.due_at, \
                       requested_at = COALESCE(pulls.requested_at, excluded.requested_at) \
                     WHERE pulls.lease_until IS NULL AND (pulls.due_at IS NULL OR pulls.due_at > excluded.due_at)",
                );
                let due = tx.execute(sql, args![now]).await?;
                if due > 0 {
                    tx.wake(true).await?;
                }
                Ok(due)
            })
        })
        .await
}
