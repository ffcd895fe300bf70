//! Leases of pulls and checks, and when the next thing is due.

use super::lanes::may_be_claimed;
use crate::engine::{Sql, Tx, args};
use crate::{Error, Inner, PullClaim, Result};
use model::{PatientId, RunId, TenantId, Timestamp};
use std::sync::Arc;

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
    let tenant = found.tenant()?;
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
    let tenant = found.tenant()?;
    let id = RunId(found.uuid("id")?);
    let sql = "UPDATE runs SET owner = $3, lease_until = $4 WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, args![&tenant, id, owner, until]).await?;
    Ok(Some((tenant, id)))
}
