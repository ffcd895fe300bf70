//! Leases of checks, and when the next thing is due.

use super::lanes::{leases_for_a_place, may_be_claimed};
use super::pulls;
use crate::Result;
use crate::engine::{Sql, Tx, args};
use model::{RunId, TenantId, Timestamp};

/// When something becomes due that may be claimed then.
pub(super) async fn next_due(tx: &mut Tx) -> Result<Option<Timestamp>> {
    // A lane is due when it is, or when its connection may be used again, whichever comes later.
    let lanes = concat!(
        "SELECT l.due_at AS at FROM lanes l JOIN fhir_integration_configs c ON c.tenant_id = l.tenant_id \
         LEFT JOIN connections r ON r.tenant_id = l.tenant_id \
         WHERE l.lease_until IS NULL AND l.due_at IS NOT NULL AND (r.not_before IS NULL OR r.not_before <= l.due_at) AND ",
        may_be_claimed!("l.tenant_id", "IS NOT NULL", "$1"),
        " ORDER BY l.due_at LIMIT 1"
    );
    let connections = concat!(
        "SELECT MIN(r.not_before) AS at FROM connections r JOIN fhir_integration_configs c ON c.tenant_id = r.tenant_id \
         WHERE r.not_before IS NOT NULL AND EXISTS (SELECT 1 FROM lanes l WHERE l.tenant_id = r.tenant_id AND l.lease_until IS NULL \
           AND l.due_at < r.not_before) AND ",
        may_be_claimed!("r.tenant_id", "IS NOT NULL", "$1")
    );
    let leases = "SELECT MIN(e.at) AS at FROM (SELECT MIN(lease_until) AS at FROM lanes WHERE lease_until IS NOT NULL \
        UNION ALL SELECT MIN(lease_until) FROM pulls WHERE lease_until IS NOT NULL \
        UNION ALL SELECT MIN(COALESCE(lease_until, created_at)) FROM runs WHERE state = 'running' AND kind = 'check') e";
    let mut earliest = pulls::next_due(tx).await?;
    let each = leases_for_a_place(tx.is_alone());
    for (sql, args) in [(lanes, args![each]), (connections, args![each]), (leases, args![])] {
        let at = tx.row(sql, args).await?.map_or(Ok(None), |row| row.ts_opt("at"))?;
        earliest = [earliest, at].into_iter().flatten().min();
    }
    Ok(earliest)
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
