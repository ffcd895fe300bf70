//! Leases: one statement finds what is due and free, the next takes it.

use crate::engine::{Sql, Tx, args};
use crate::lane::{Claimed, Lane};
use crate::{Error, Inner, PullClaim, Result};
use model::{PatientId, RunId, TenantId, Timestamp};
use std::sync::Arc;

/// Two nodes may find lanes of one tenant at once; whoever comes second looks again, so often at most.
const LOOKS: u32 = 8;

/// What a tenant's config `c` and connection `r` must say besides, so that a lane of its may be claimed once it is due. `$held`:
/// which of its leases `b` count.
macro_rules! may_be_claimed {
    ($tenant:literal, $held:literal) => {
        concat!(
            "c.enabled AND c.sync_direction <> 'pull' AND NOT EXISTS (SELECT 1 FROM installation i WHERE i.state <> 'running') \
             AND (SELECT COUNT(*) FROM lanes b WHERE b.tenant_id = ",
            $tenant,
            " AND b.lease_until ",
            $held,
            ") < CASE WHEN r.failures > 0 THEN 1 ELSE c.max_concurrency END"
        )
    };
}

/// By the indexes of leases and of due lanes: what is due later, or never, is not looked at, however many tenants there are.
macro_rules! free_lane {
    () => {
        concat!(
            "SELECT l.tenant_id, l.shard, l.lease_until FROM lanes l JOIN tenants t ON t.tenant_id = l.tenant_id \
             LEFT JOIN fhir_integration_configs c ON c.tenant_id = l.tenant_id \
             LEFT JOIN connections r ON r.tenant_id = l.tenant_id \
             WHERE (l.lease_until <= $1 OR (l.lease_until IS NULL AND l.due_at <= $1 AND (r.not_before IS NULL OR r.not_before <= $1) AND ",
            may_be_claimed!("l.tenant_id", "> $1"),
            ")) ORDER BY t.served_at, l.served_at, l.tenant_id, l.shard LIMIT 1"
        )
    };
}

/// The longest unserved due lane of the longest unserved tenant.
pub(super) async fn lane(tx: &mut Tx, inner: &Arc<Inner>, now: Timestamp, owner: &str, until: Timestamp) -> Result<Option<Claimed>> {
    let free = Sql { sqlite: free_lane!(), postgres: concat!(free_lane!(), " FOR UPDATE OF l SKIP LOCKED") };
    for _ in 0..LOOKS {
        let Some(found) = tx.row(free, args![now]).await? else { return Ok(None) };
        let tenant = TenantId::new(found.text("tenant_id")?).map_err(|_| Error::Corrupt("lanes"))?;
        let (shard, expired) = (found.int("shard")?, found.ts_opt("lease_until")?.is_some());
        if let Some(claimed) = take_lane(tx, inner, &tenant, shard, expired, now, owner, until).await? {
            return Ok(Some(claimed));
        }
    }
    Ok(None)
}

#[allow(clippy::too_many_arguments, reason = "one claim")]
async fn take_lane(
    tx: &mut Tx,
    inner: &Arc<Inner>,
    tenant: &TenantId,
    shard: i64,
    expired: bool,
    now: Timestamp,
    owner: &str,
    until: Timestamp,
) -> Result<Option<Claimed>> {
    // One claim of a tenant at a time, so that its lanes are counted right on all nodes.
    let alone = Sql {
        sqlite: "SELECT served_at FROM tenants WHERE tenant_id = $1",
        postgres: "SELECT served_at FROM tenants WHERE tenant_id = $1 FOR NO KEY UPDATE",
    };
    tx.row(alone, args![tenant]).await?;
    let row = tx
        .row(
            "SELECT r.generation, r.failures, c.max_concurrency, \
             (SELECT COUNT(*) FROM lanes b WHERE b.tenant_id = $1 AND b.lease_until > $2) AS leased, \
             (SELECT COUNT(*) FROM attempts a WHERE a.tenant_id = $1 AND a.shard = $3 AND a.class IS NULL) AS flying \
             FROM tenants t LEFT JOIN connections r ON r.tenant_id = t.tenant_id \
             LEFT JOIN fhir_integration_configs c ON c.tenant_id = t.tenant_id WHERE t.tenant_id = $1",
            args![tenant, now, shard],
        )
        .await?
        .ok_or(Error::Corrupt("tenants"))?;
    let most = if row.int_opt("failures")?.unwrap_or(0) > 0 { 1 } else { row.int_opt("max_concurrency")?.unwrap_or(1) };
    if !expired && row.int("leased")? >= most {
        return Ok(None);
    }
    let epoch = tx
        .row(
            // Rising even within one millisecond, or the first of a tenant's lanes would be served again before the others.
            "UPDATE lanes SET epoch = epoch + 1, owner = $3, lease_until = $4, served_at = (SELECT CASE WHEN MAX(m.served_at) >= $5 \
               THEN MAX(m.served_at) + 1 ELSE $5 END FROM lanes m WHERE m.tenant_id = $1) \
             WHERE tenant_id = $1 AND shard = $2 RETURNING epoch",
            args![tenant, shard, owner, until, now],
        )
        .await?
        .ok_or(Error::Corrupt("lanes"))?
        .int("epoch")?;
    // Rising even within one millisecond, so that nobody is passed over for the order of his name.
    tx.execute(
        "UPDATE tenants SET served_at = (SELECT CASE WHEN MAX(m.served_at) >= $2 THEN MAX(m.served_at) + 1 ELSE $2 END FROM tenants m) \
         WHERE tenant_id = $1",
        args![tenant, now],
    )
    .await?;
    let lane = Lane {
        inner: inner.clone(),
        tenant: tenant.clone(),
        shard,
        epoch,
        generation: row.int_opt("generation")?.unwrap_or(0),
        lease_until: until,
    };
    // What nobody waits for any more is a dead worker's, however the lane came back.
    let taken_over = expired || row.int("flying")? > 0;
    Ok(Some(Claimed { lane, taken_over }))
}

/// When something becomes due that may be claimed then.
pub(super) async fn next_due(tx: &mut Tx) -> Result<Option<Timestamp>> {
    // A lane is due when it is, or when its connection may be used again, whichever comes later.
    let lanes = concat!(
        "SELECT l.due_at AS at FROM lanes l JOIN fhir_integration_configs c ON c.tenant_id = l.tenant_id \
         LEFT JOIN connections r ON r.tenant_id = l.tenant_id \
         WHERE l.lease_until IS NULL AND l.due_at IS NOT NULL AND (r.not_before IS NULL OR r.not_before <= l.due_at) AND ",
        may_be_claimed!("l.tenant_id", "IS NOT NULL"),
        " ORDER BY l.due_at LIMIT 1"
    );
    let connections = concat!(
        "SELECT MIN(r.not_before) AS at FROM connections r JOIN fhir_integration_configs c ON c.tenant_id = r.tenant_id \
         WHERE r.not_before IS NOT NULL AND EXISTS (SELECT 1 FROM lanes l WHERE l.tenant_id = r.tenant_id AND l.lease_until IS NULL \
           AND l.due_at < r.not_before) AND ",
        may_be_claimed!("r.tenant_id", "IS NOT NULL")
    );
    let pulls = "SELECT MIN(CASE WHEN r.not_before > p.due_at THEN r.not_before ELSE p.due_at END) AS at FROM pulls p \
        JOIN fhir_integration_configs c ON c.tenant_id = p.tenant_id \
        LEFT JOIN connections r ON r.tenant_id = p.tenant_id \
        WHERE p.lease_until IS NULL AND p.due_at IS NOT NULL AND c.enabled AND c.sync_direction <> 'push' \
        AND NOT EXISTS (SELECT 1 FROM installation i WHERE i.state = 'paused')";
    let leases = "SELECT MIN(e.at) AS at FROM (SELECT MIN(lease_until) AS at FROM lanes WHERE lease_until IS NOT NULL \
        UNION ALL SELECT MIN(lease_until) FROM pulls WHERE lease_until IS NOT NULL \
        UNION ALL SELECT MIN(COALESCE(lease_until, created_at)) FROM runs WHERE state = 'running' AND kind = 'check') e";
    let mut earliest: Option<Timestamp> = None;
    for sql in [lanes, connections, pulls, leases] {
        let at = tx.row(sql, args![]).await?.map_or(Ok(None), |row| row.ts_opt("at"))?;
        earliest = [earliest, at].into_iter().flatten().min();
    }
    Ok(earliest)
}

macro_rules! free_pull {
    () => {
        "SELECT p.tenant_id, p.patient_id, r.generation FROM pulls p \
         JOIN fhir_integration_configs c ON c.tenant_id = p.tenant_id \
         JOIN connections r ON r.tenant_id = p.tenant_id \
         WHERE (p.due_at IS NOT NULL OR p.lease_until IS NOT NULL) \
         AND ((p.lease_until IS NULL AND p.due_at <= $1) OR (p.lease_until IS NOT NULL AND p.lease_until <= $1)) \
         AND c.enabled AND c.sync_direction <> 'push' AND (r.not_before IS NULL OR r.not_before <= $1) \
         AND NOT EXISTS (SELECT 1 FROM installation i WHERE i.state = 'paused') \
         AND p.tenant_id NOT IN (SELECT b.tenant_id FROM pulls b WHERE b.lease_until > $1 GROUP BY b.tenant_id HAVING COUNT(*) >= $2) \
         ORDER BY CASE WHEN p.lease_until IS NULL THEN 1 ELSE 0 END, p.due_at, p.tenant_id, p.patient_id LIMIT 1"
    };
}

/// A due pull: one that was asked for or scheduled, or one whose lease ran out.
pub(super) async fn pull(
    tx: &mut Tx,
    inner: &Arc<Inner>,
    now: Timestamp,
    owner: &str,
    until: Timestamp,
    per_tenant: u32,
) -> Result<Option<PullClaim>> {
    let free = Sql { sqlite: free_pull!(), postgres: concat!(free_pull!(), " FOR UPDATE OF p SKIP LOCKED") };
    let Some(found) = tx.row(free, args![now, per_tenant]).await? else { return Ok(None) };
    let tenant = TenantId::new(found.text("tenant_id")?).map_err(|_| Error::Corrupt("pulls"))?;
    let patient = PatientId(found.uuid("patient_id")?);
    let generation = found.int("generation")?;
    // Where the last one was left there is a checkpoint, unless it was one of another base URL.
    let epoch = tx
        .row(
            "UPDATE pulls SET epoch = epoch + 1, owner = $3, lease_until = $4, due_at = NULL, requested_at = NULL, \
               started_at = CASE WHEN sealed_checkpoint IS NULL OR generation <> $6 OR started_at IS NULL THEN $5 ELSE started_at END, \
               created_n = CASE WHEN sealed_checkpoint IS NULL OR generation <> $6 THEN 0 ELSE created_n END, \
               updated_n = CASE WHEN sealed_checkpoint IS NULL OR generation <> $6 THEN 0 ELSE updated_n END, \
               unchanged_n = CASE WHEN sealed_checkpoint IS NULL OR generation <> $6 THEN 0 ELSE unchanged_n END, \
               watermark = CASE WHEN generation <> $6 THEN NULL ELSE watermark END, \
               last_full_at = CASE WHEN generation <> $6 THEN NULL ELSE last_full_at END, \
               sealed_checkpoint = CASE WHEN generation <> $6 THEN NULL ELSE sealed_checkpoint END, \
               generation = $6 \
             WHERE tenant_id = $1 AND patient_id = $2 RETURNING epoch",
            args![&tenant, patient, owner, until, now, generation],
        )
        .await?
        .ok_or(Error::Corrupt("pulls"))?
        .int("epoch")?;
    Ok(Some(PullClaim { inner: inner.clone(), tenant, patient, epoch, lease_until: until }))
}

macro_rules! free_check {
    () => {
        "SELECT tenant_id, id FROM runs WHERE state = 'running' AND kind = 'check' AND (lease_until IS NULL OR lease_until <= $1) \
         ORDER BY created_at LIMIT 1"
    };
}

/// A waiting connection check.
pub(super) async fn check(tx: &mut Tx, now: Timestamp, owner: &str, until: Timestamp) -> Result<Option<(TenantId, RunId)>> {
    let free = Sql { sqlite: free_check!(), postgres: concat!(free_check!(), " FOR UPDATE SKIP LOCKED") };
    let Some(found) = tx.row(free, args![now]).await? else { return Ok(None) };
    let tenant = TenantId::new(found.text("tenant_id")?).map_err(|_| Error::Corrupt("runs"))?;
    let id = RunId(found.uuid("id")?);
    let sql = "UPDATE runs SET owner = $3, lease_until = $4 WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, args![&tenant, id, owner, until]).await?;
    Ok(Some((tenant, id)))
}
