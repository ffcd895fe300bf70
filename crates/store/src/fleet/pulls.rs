//! Leases of pulls: a dead worker's before all others, and else the one that is due longest of a tenant that may have one more.
//!
//! After a sweep every linked patient of a hospital is due. Only the few that are due longest are looked at; where they are all of tenants
//! that have as many as they may, or whose EHR rests, the first of each tenant is.

use crate::engine::{Sql, Tx, args};
use crate::{Error, Inner, PullClaim, Result};
use model::{PatientId, TenantId, Timestamp};
use std::sync::Arc;

/// Those that are due longest are so many; the literal in [`window`] says the same.
const WINDOW: i64 = 64;

/// What a tenant's config `c` must say besides, so that a pull of it may be claimed once it is due. At most two of one tenant are
/// under way at once; `$held`: which of its leases `b` count.
macro_rules! may_be_pulled {
    ($held:literal) => {
        concat!(
            "c.enabled AND c.sync_direction <> 'push' AND NOT EXISTS (SELECT 1 FROM installation i WHERE i.state = 'paused') \
             AND (SELECT COUNT(*) FROM pulls b WHERE b.tenant_id = c.tenant_id AND b.lease_until ",
            $held,
            ") < 2"
        )
    };
}

/// The few that are due longest.
macro_rules! window {
    ($which:literal) => {
        concat!(
            "(SELECT due_at, tenant_id, patient_id FROM pulls WHERE lease_until IS NULL AND due_at IS NOT NULL",
            $which,
            " ORDER BY due_at, tenant_id, patient_id LIMIT 64)"
        )
    };
}

/// Of tenant `c` the one that is due longest.
macro_rules! first_of {
    ($which:literal) => {
        concat!(
            "(SELECT h.patient_id FROM pulls h WHERE h.tenant_id = c.tenant_id AND h.lease_until IS NULL AND h.due_at IS NOT NULL",
            $which,
            " ORDER BY h.due_at, h.patient_id LIMIT 1)"
        )
    };
}

macro_rules! of_tenant {
    () => {
        " JOIN fhir_integration_configs c ON c.tenant_id = p.tenant_id JOIN connections r ON r.tenant_id = p.tenant_id "
    };
}

const EXPIRED: &str = concat!(
    "SELECT p.tenant_id, p.patient_id, r.generation FROM pulls p",
    of_tenant!(),
    "WHERE p.lease_until IS NOT NULL AND p.lease_until <= $1 AND (r.not_before IS NULL OR r.not_before <= $1) AND ",
    may_be_pulled!("> $1"),
    " ORDER BY p.lease_until, p.tenant_id, p.patient_id LIMIT 8"
);

const DUE_LONGEST: &str = concat!(
    "SELECT p.tenant_id, p.patient_id, r.generation FROM ",
    window!(" AND due_at <= $1"),
    " p",
    of_tenant!(),
    "WHERE (r.not_before IS NULL OR r.not_before <= $1) AND ",
    may_be_pulled!("> $1"),
    " ORDER BY p.due_at, p.tenant_id, p.patient_id LIMIT 8"
);

const FIRST_OF_EACH: &str = concat!(
    "SELECT p.tenant_id, p.patient_id, r.generation FROM fhir_integration_configs c JOIN connections r ON r.tenant_id = c.tenant_id \
     JOIN pulls p ON p.tenant_id = c.tenant_id AND p.patient_id = ",
    first_of!(" AND h.due_at <= $1"),
    " WHERE (r.not_before IS NULL OR r.not_before <= $1) AND ",
    may_be_pulled!("> $1"),
    " ORDER BY p.due_at, p.tenant_id, p.patient_id LIMIT 8"
);

/// How many of those that are due longest there are.
const MANY: &str = concat!("SELECT COUNT(*) AS n FROM ", window!(" AND due_at <= $1"), " w");

macro_rules! still_free {
    () => {
        "SELECT epoch FROM pulls WHERE tenant_id = $1 AND patient_id = $2 AND ((lease_until IS NULL AND due_at <= $3) OR lease_until <= $3)"
    };
}

/// When the first becomes due that may be claimed then, among those that are due first; how many they are, and until when they are due.
const NEXT: &str = concat!(
    "SELECT (SELECT MIN(CASE WHEN r.not_before > p.due_at THEN r.not_before ELSE p.due_at END) FROM ",
    window!(""),
    " p JOIN fhir_integration_configs c ON c.tenant_id = p.tenant_id LEFT JOIN connections r ON r.tenant_id = p.tenant_id WHERE ",
    may_be_pulled!("IS NOT NULL"),
    ") AS at, COUNT(*) AS n, MAX(w.due_at) AS last FROM ",
    window!(""),
    " w"
);

/// The same among the first of each tenant.
const NEXT_OF_EACH: &str = concat!(
    "SELECT MIN(CASE WHEN r.not_before > p.due_at THEN r.not_before ELSE p.due_at END) AS at FROM fhir_integration_configs c \
     LEFT JOIN connections r ON r.tenant_id = c.tenant_id JOIN pulls p ON p.tenant_id = c.tenant_id AND p.patient_id = ",
    first_of!(""),
    " WHERE ",
    may_be_pulled!("IS NOT NULL")
);

/// When the next becomes due that may be claimed then.
pub(super) async fn next_due(tx: &mut Tx) -> Result<Option<Timestamp>> {
    let first = tx.row(NEXT, args![]).await?.ok_or(Error::Corrupt("pulls"))?;
    let (at, last) = (first.ts_opt("at")?, first.ts_opt("last")?);
    if first.int("n")? < WINDOW || (at.is_some() && at <= last) {
        return Ok(at);
    }
    tx.row(NEXT_OF_EACH, args![]).await?.map_or(Ok(None), |row| row.ts_opt("at"))
}

/// One that nobody holds.
struct Free {
    tenant: TenantId,
    patient: PatientId,
    generation: i64,
}

/// Claims one.
pub(super) async fn claim(tx: &mut Tx, inner: &Arc<Inner>, now: Timestamp, owner: &str, until: Timestamp) -> Result<Option<PullClaim>> {
    let mut found = first_free(tx, EXPIRED, now).await?;
    if found.is_none() {
        found = first_free(tx, DUE_LONGEST, now).await?;
    }
    if found.is_none() && are_many_due(tx, now).await? {
        found = first_free(tx, FIRST_OF_EACH, now).await?;
    }
    match found {
        Some(free) => take(tx, inner, free, now, owner, until).await.map(Some),
        None => Ok(None),
    }
}

/// The first of these that nobody is claiming just now.
async fn first_free(tx: &mut Tx, sql: &'static str, now: Timestamp) -> Result<Option<Free>> {
    let free = Sql { sqlite: still_free!(), postgres: concat!(still_free!(), " FOR UPDATE SKIP LOCKED") };
    for found in tx.rows(sql, args![now]).await? {
        let (tenant, patient) = (found.tenant()?, PatientId(found.uuid("patient_id")?));
        if tx.row(free, args![&tenant, patient, now]).await?.is_some() {
            return Ok(Some(Free { tenant, patient, generation: found.int("generation")? }));
        }
    }
    Ok(None)
}

/// Whether more are due than are looked at.
async fn are_many_due(tx: &mut Tx, now: Timestamp) -> Result<bool> {
    Ok(tx.row(MANY, args![now]).await?.map_or(Ok(0), |row| row.int("n"))? >= WINDOW)
}

async fn take(tx: &mut Tx, inner: &Arc<Inner>, free: Free, now: Timestamp, owner: &str, until: Timestamp) -> Result<PullClaim> {
    let Free { tenant, patient, generation } = free;
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
    Ok(PullClaim { inner: inner.clone(), tenant, patient, epoch, lease_until: until })
}
