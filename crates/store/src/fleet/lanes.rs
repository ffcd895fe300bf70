//! Leases of lanes: the longest unserved due lane of the longest unserved tenant.
//!
//! Nothing is looked at that has no turn, however many tenants there are. A lane whose moment has come is marked `ripe` once, and its
//! tenant with it; the ripe tenants are kept in the order in which they were served. Whoever marks or claims holds the tenant's
//! row: a lane that is ripe and free has a ripe tenant. On PostgreSQL what others hold is passed over. A claim waits for a lock only while
//! it holds none, or none but an expired lane's, for which no other claim waits.

use crate::engine::{Sql, Tx, args};
use crate::lane::{Claimed, Lane};
use crate::{Error, Inner, Result};
use model::{TenantId, Timestamp};
use std::sync::Arc;

/// So many tenants are looked at whose lanes somebody else holds just now.
const LOOKS: u32 = 8;

/// See [`super::Fleet::leases_for_a_place`].
pub(super) fn leases_for_a_place(alone: bool) -> i64 {
    if alone { 2 } else { 1 }
}

/// What a tenant's config `c` and connection `r` must say besides, so that a lane of its may be claimed once it is due. `$held`:
/// which of its leases `b` count; `$each`: [`leases_for_a_place`].
macro_rules! may_be_claimed {
    ($tenant:literal, $held:literal, $each:literal) => {
        concat!(
            "c.enabled AND c.sync_direction <> 'pull' AND NOT EXISTS (SELECT 1 FROM installation i WHERE i.state <> 'running') \
             AND (SELECT COUNT(*) FROM lanes b WHERE b.tenant_id = ",
            $tenant,
            " AND b.lease_until ",
            $held,
            ") < CASE WHEN r.failures > 0 THEN 1 ELSE c.max_concurrency * ",
            $each,
            " END"
        )
    };
}

pub(super) use may_be_claimed;

macro_rules! expired_lane {
    () => {
        "SELECT tenant_id, shard FROM lanes WHERE lease_until IS NOT NULL AND lease_until <= $1 ORDER BY lease_until, tenant_id, shard LIMIT 1"
    };
}

macro_rules! became_due {
    ($most:literal) => {
        concat!(
            "SELECT l.tenant_id, l.shard FROM lanes l JOIN tenants t ON t.tenant_id = l.tenant_id \
             WHERE l.lease_until IS NULL AND NOT l.ripe AND l.due_at <= $1 ORDER BY l.due_at LIMIT ",
            $most
        )
    };
}

macro_rules! ripe_tenant {
    () => {
        concat!(
            "SELECT t.tenant_id, t.served_at FROM tenants t LEFT JOIN fhir_integration_configs c ON c.tenant_id = t.tenant_id \
             LEFT JOIN connections r ON r.tenant_id = t.tenant_id \
             WHERE t.ripe AND (t.served_at, t.tenant_id) > ($2, $3) AND (r.not_before IS NULL OR r.not_before <= $1) AND ",
            may_be_claimed!("t.tenant_id", "> $1", "$4"),
            " AND EXISTS (SELECT 1 FROM lanes l WHERE l.tenant_id = t.tenant_id AND l.lease_until IS NULL AND l.due_at <= $1) \
             ORDER BY t.served_at, t.tenant_id LIMIT 1"
        )
    };
}

macro_rules! due_lane {
    () => {
        "SELECT shard FROM lanes WHERE tenant_id = $1 AND lease_until IS NULL AND due_at <= $2 ORDER BY served_at, shard LIMIT 1"
    };
}

/// How PostgreSQL meets a lock of somebody else's; on SQLite nobody else writes.
struct Way {
    became_due: Sql,
    ripe_tenant: Sql,
}

/// It is passed over.
const PASSING: Way = Way {
    became_due: Sql { sqlite: became_due!("64"), postgres: concat!(became_due!("64"), " FOR NO KEY UPDATE SKIP LOCKED") },
    ripe_tenant: Sql { sqlite: ripe_tenant!(), postgres: concat!(ripe_tenant!(), " FOR NO KEY UPDATE OF t SKIP LOCKED") },
};

/// It is waited for: one, so that two who wait never wait for each other.
const WAITING: Way = Way {
    became_due: Sql { sqlite: became_due!("1"), postgres: concat!(became_due!("1"), " FOR NO KEY UPDATE") },
    ripe_tenant: Sql { sqlite: ripe_tenant!(), postgres: concat!(ripe_tenant!(), " FOR NO KEY UPDATE OF t") },
};

/// What a look at the ripe tenants came to.
enum Found {
    Lane(Box<Claimed>),
    /// Their lanes are somebody else's just now.
    Taken,
    /// There is no ripe tenant that may be claimed.
    Nobody,
}

/// Claims one. What a dead worker left goes before everything else.
pub(super) async fn claim(tx: &mut Tx, inner: &Arc<Inner>, now: Timestamp, owner: &str, until: Timestamp) -> Result<Option<Claimed>> {
    let expired = Sql { sqlite: expired_lane!(), postgres: concat!(expired_lane!(), " FOR UPDATE SKIP LOCKED") };
    if let Some(found) = tx.row(expired, args![now]).await? {
        let tenant = found.tenant()?;
        let alone = Sql {
            sqlite: "SELECT served_at FROM tenants WHERE tenant_id = $1",
            postgres: "SELECT served_at FROM tenants WHERE tenant_id = $1 FOR NO KEY UPDATE",
        };
        tx.row(alone, args![&tenant]).await?;
        return take(tx, inner, &tenant, found.int("shard")?, true, now, owner, until).await;
    }
    let marked = ripen(tx, &PASSING, now).await?;
    match longest_unserved(tx, inner, &PASSING, now, owner, until).await? {
        Found::Lane(claimed) => return Ok(Some(*claimed)),
        Found::Nobody if !marked && !tx.is_alone() => {}
        Found::Nobody | Found::Taken => return Ok(None),
    }
    // What another claim is marking just now may leave something for this one.
    let way = if ripen(tx, &WAITING, now).await? { &PASSING } else { &WAITING };
    Ok(match longest_unserved(tx, inner, way, now, owner, until).await? {
        Found::Lane(claimed) => Some(*claimed),
        Found::Nobody | Found::Taken => None,
    })
}

async fn longest_unserved(tx: &mut Tx, inner: &Arc<Inner>, way: &Way, now: Timestamp, owner: &str, until: Timestamp) -> Result<Found> {
    let lane = Sql { sqlite: due_lane!(), postgres: concat!(due_lane!(), " FOR UPDATE SKIP LOCKED") };
    let (mut served_at, mut name) = (Timestamp(i64::MIN), String::new());
    for look in 0..LOOKS {
        // One that was looked at is held: from then on nobody is waited for.
        let next = if look == 0 { way.ripe_tenant } else { PASSING.ripe_tenant };
        let Some(found) = tx.row(next, args![now, served_at, &name, leases_for_a_place(tx.is_alone())]).await? else {
            return Ok(if look == 0 { Found::Nobody } else { Found::Taken });
        };
        let tenant = found.tenant()?;
        (served_at, name) = (found.ts("served_at")?, tenant.as_str().to_owned());
        if let Some(found) = tx.row(lane, args![&tenant, now]).await?
            && let Some(claimed) = take(tx, inner, &tenant, found.int("shard")?, false, now, owner, until).await?
        {
            return Ok(Found::Lane(Box::new(claimed)));
        }
    }
    Ok(Found::Taken)
}

/// Marks the lanes whose moment has come since the last claim, those that wait longest first; whether there was one.
async fn ripen(tx: &mut Tx, way: &Way, now: Timestamp) -> Result<bool> {
    let rows = tx.rows(way.became_due, args![now]).await?;
    for row in &rows {
        let tenant = row.tenant()?;
        tx.execute("UPDATE lanes SET ripe = true WHERE tenant_id = $1 AND shard = $2", args![&tenant, row.int("shard")?]).await?;
        tx.execute("UPDATE tenants SET ripe = true WHERE tenant_id = $1 AND NOT ripe", args![&tenant]).await?;
    }
    Ok(!rows.is_empty())
}

/// Takes a lane, unless its tenant has as many as it may. The caller holds the tenant's row, so that its lanes are counted right on
/// all nodes.
#[allow(clippy::too_many_arguments, reason = "one claim")]
async fn take(
    tx: &mut Tx,
    inner: &Arc<Inner>,
    tenant: &TenantId,
    shard: i64,
    expired: bool,
    now: Timestamp,
    owner: &str,
    until: Timestamp,
) -> Result<Option<Claimed>> {
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
    let most = if row.int_opt("failures")?.unwrap_or(0) > 0 {
        1
    } else {
        row.int_opt("max_concurrency")?.unwrap_or(1) * leases_for_a_place(tx.is_alone())
    };
    if !expired && row.int("leased")? >= most {
        return Ok(None);
    }
    let epoch = tx
        .row(
            // Rising even within one millisecond, or the first of a tenant's lanes would be served again before the others.
            "UPDATE lanes SET epoch = epoch + 1, ripe = false, owner = $3, lease_until = $4, served_at = (SELECT CASE WHEN MAX(m.served_at) >= $5 \
               THEN MAX(m.served_at) + 1 ELSE $5 END FROM lanes m WHERE m.tenant_id = $1) \
             WHERE tenant_id = $1 AND shard = $2 RETURNING epoch",
            args![tenant, shard, owner, until, now],
        )
        .await?
        .ok_or(Error::Corrupt("lanes"))?
        .int("epoch")?;
    // Rising even within one millisecond, so that nobody is passed over for the order of his name.
    tx.execute(
        "UPDATE tenants SET served_at = (SELECT CASE WHEN MAX(m.served_at) >= $2 THEN MAX(m.served_at) + 1 ELSE $2 END FROM tenants m), \
           ripe = EXISTS (SELECT 1 FROM lanes l WHERE l.tenant_id = $1 AND l.ripe) WHERE tenant_id = $1",
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
        revision: None,
    };
    // What nobody waits for any more is a dead worker's, however the lane came back.
    let taken_over = expired || row.int("flying")? > 0;
    Ok(Some(Claimed { lane, taken_over }))
}
