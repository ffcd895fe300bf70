//! What is known of a tenant's EHR, in the row of its connection: plan, failure round, circuit, probe.

use super::{ConnectionFailed, Runtime};
use crate::engine::{Tx, args, locking};
use crate::{Error, Result};
use model::{Class, MeansPlan, TenantId, Timestamp};

/// How exact the moments of the last push and pull are, ms.
const EXACT_MS: i64 = 1000;

pub(crate) async fn load(tx: &mut Tx, tenant: &TenantId) -> Result<Runtime> {
    let row = tx
        .row(
            "SELECT plan, failures, not_before, circuit_open, auth_refused, last_class, down_since, down_total_ms, last_push_at, last_pull_at \
             FROM connections WHERE tenant_id = $1",
            args![tenant],
        )
        .await?;
    let Some(row) = row else { return Ok(Runtime::default()) };
    let class = row.text_opt("last_class")?;
    Ok(Runtime {
        plan: read_plan(&row.text("plan")?)?,
        failures: row.count("failures")?,
        not_before: row.ts_opt("not_before")?,
        circuit_open: row.boolean("circuit_open")?,
        auth_refused: row.boolean("auth_refused")?,
        last_class: class.map(|word| Class::parse(&word).ok_or(Error::Corrupt("connections"))).transpose()?,
        down_since: row.ts_opt("down_since")?,
        down_total_ms: row.int("down_total_ms")?,
        last_push_at: row.ts_opt("last_push_at")?,
        last_pull_at: row.ts_opt("last_pull_at")?,
    })
}

/// The plan of this generation, locked; `None` when it is not the present one.
pub(super) async fn lock_plan(tx: &mut Tx, tenant: &TenantId, generation: i64) -> Result<Option<MeansPlan>> {
    let row = tx.row(locking!("SELECT plan FROM connections WHERE tenant_id = $1 AND generation = $2"), args![tenant, generation]).await?;
    row.map(|row| read_plan(&row.text("plan")?)).transpose()
}

pub(super) async fn write_plan(tx: &mut Tx, tenant: &TenantId, plan: &MeansPlan) -> Result<()> {
    let plan = serde_json::to_string(plan).map_err(|_| Error::Corrupt("connections"))?;
    tx.execute("UPDATE connections SET plan = $2 WHERE tenant_id = $1", args![tenant, plan]).await.map(drop)
}

/// False: what failed is no longer the configuration, and nothing was written.
pub(super) async fn failed(
    tx: &mut Tx,
    tenant: &TenantId,
    now: Timestamp,
    (id, revision): (uuid::Uuid, i64),
    failed: &ConnectionFailed,
) -> Result<bool> {
    // First, and held: a change that is being written just now is waited for.
    let same = locking!("SELECT id FROM fhir_integration_configs WHERE tenant_id = $1 AND id = $2 AND revision = $3");
    if tx.row(same, args![tenant, id, revision]).await?.is_none() {
        return Ok(false);
    }
    tx.execute(
        "UPDATE connections SET failures = $2, not_before = $3, circuit_open = $4, auth_refused = $5, last_class = $6, \
         down_since = CASE WHEN $7 THEN COALESCE(down_since, $8) ELSE down_since END, probe_until = NULL WHERE tenant_id = $1",
        args![tenant, failed.failures, failed.not_before, failed.circuit_open, failed.auth_refused, failed.class.word(), failed.down, now],
    )
    .await?;
    tx.execute("UPDATE fhir_integration_configs SET last_error = $2 WHERE tenant_id = $1", args![tenant, &failed.sentence]).await?;
    Ok(true)
}

/// Whether a success now would tell nothing new.
pub(crate) async fn is_fresh(tx: &mut Tx, tenant: &TenantId, now: Timestamp, pushed: bool, pulled: bool) -> Result<bool> {
    let row = tx
        .row(
            "SELECT COUNT(*) AS fresh FROM connections WHERE tenant_id = $1 AND failures = 0 AND NOT circuit_open AND NOT auth_refused \
             AND down_since IS NULL AND last_class IS NULL AND probe_until IS NULL \
             AND (NOT $2 OR COALESCE(last_push_at, 0) > $4) AND (NOT $3 OR COALESCE(last_pull_at, 0) > $4)",
            args![tenant, pushed, pulled, now.plus_ms(-EXACT_MS)],
        )
        .await?
        .ok_or(Error::Corrupt("connections"))?;
    Ok(row.int("fresh")? > 0)
}

pub(crate) async fn works(tx: &mut Tx, tenant: &TenantId, now: Timestamp, pushed: bool, pulled: bool) -> Result<()> {
    let was = tx
        .row(locking!("SELECT failures, circuit_open, auth_refused, down_since FROM connections WHERE tenant_id = $1"), args![tenant])
        .await?;
    let Some(was) = was else { return Ok(()) };
    let was_down =
        was.int("failures")? > 0 || was.boolean("circuit_open")? || was.boolean("auth_refused")? || was.ts_opt("down_since")?.is_some();
    // What the EHR asked for with a 429 holds, whatever else it answers meanwhile.
    tx.execute(
        "UPDATE connections SET failures = 0, circuit_open = false, auth_refused = false, probe_until = NULL, \
         not_before = CASE WHEN last_class = 'rate_limited' AND not_before > $2 THEN not_before END, \
         last_class = CASE WHEN last_class = 'rate_limited' AND not_before > $2 THEN last_class END, \
         down_total_ms = down_total_ms + COALESCE($2 - down_since, 0), down_since = NULL, \
         last_push_at = CASE WHEN $3 THEN $2 ELSE last_push_at END, last_pull_at = CASE WHEN $4 THEN $2 ELSE last_pull_at END \
         WHERE tenant_id = $1",
        args![tenant, now, pushed, pulled],
    )
    .await?;
    tx.execute(
        "UPDATE fhir_integration_configs SET last_error = NULL, last_sync_at = CASE WHEN $3 THEN $2 ELSE last_sync_at END WHERE tenant_id = $1",
        args![tenant, now, pushed || pulled],
    )
    .await?;
    if was_down {
        tx.wake(true).await?;
    }
    Ok(())
}

pub(crate) fn read_plan(text: &str) -> Result<MeansPlan> {
    serde_json::from_str(text).map_err(|_| Error::Corrupt("connections"))
}
