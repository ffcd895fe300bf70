//! A connection changes: what that means for what waits, and for what an older EHR knew.

use super::{Cache, StoredConnection, columns};
use crate::engine::{Tx, args, locking};
use crate::{Result, Ward, audit, standing};
use model::{Connection, DeliveryId, HeldReason, PatientId, State, TenantId, Timestamp};
use std::sync::Arc;

/// A connection to be stored.
#[derive(Clone)]
pub(super) struct New {
    pub(super) connection: Arc<Connection>,
    pub(super) secret_changed: bool,
}

pub(super) async fn put(
    tx: &mut Tx,
    ward: &Ward,
    cache: &Cache,
    now: Timestamp,
    new: &New,
    expected: Option<i64>,
    actor: &str,
) -> Result<Option<StoredConnection>> {
    let tenant = &ward.tenant;
    // One change at a time, the first one too.
    tx.row(locking!("SELECT key_id FROM tenants WHERE tenant_id = $1"), args![tenant]).await?;
    let before = tx.row("SELECT id, revision FROM fhir_integration_configs WHERE tenant_id = $1", args![tenant]).await?;
    let current = before.as_ref().map(|row| row.int("revision")).transpose()?;
    if current != expected {
        return Ok(None);
    }
    let was_due = standing::standing(tx, tenant).await?.due_now;
    // What cannot be opened any more is not known to be the same.
    let account = columns::load(tx, tenant, &ward.key, cache).await.ok().flatten();
    let id = before.map_or_else(|| Ok(ward.rng.uuid_v7(now)), |row| row.uuid("id"))?;
    let connection = &new.connection;
    let mut values = args![tenant, id, now];
    values.extend(columns::values(&ward.key, id, connection)?);
    if current.is_some() {
        values.extend(args![new.secret_changed]);
        tx.execute(
            "UPDATE fhir_integration_configs SET enabled = $4, base_url = $5, auth_type = $6, auth_config = $7, sync_direction = $8, \
             sync_frequency = $9, max_retries = $10, initial_delay = $11, max_delay = $12, backoff_multiplier = $13, metadata = $14, \
             settings = $15, max_concurrency = $16, updated_at = $3, last_error = NULL, revision = revision + 1, \
             secret_updated_at = CASE WHEN $17 THEN $3 ELSE secret_updated_at END WHERE tenant_id = $1 AND id = $2",
            values,
        )
        .await?;
    } else {
        tx.execute(
            "INSERT INTO fhir_integration_configs (tenant_id, id, created_at, updated_at, secret_updated_at, enabled, base_url, auth_type, \
             auth_config, sync_direction, sync_frequency, max_retries, initial_delay, max_delay, backoff_multiplier, metadata, settings, \
             max_concurrency) VALUES ($1, $2, $3, $3, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            values,
        )
        .await?;
    }
    let moved = begin_generation(tx, ward, now, connection).await?;
    if !moved && !account.is_some_and(|before| before.connection.auth.is_same_account(&connection.auth)) {
        begin_pulls_anew(tx, tenant, now).await?;
    }
    tx.execute(
        "UPDATE connections SET failures = 0, not_before = NULL, circuit_open = false, auth_refused = false, last_class = NULL, \
         probe_until = NULL WHERE tenant_id = $1",
        args![tenant],
    )
    .await?;
    let due_now = standing::standing(tx, tenant).await?.due_now;
    if due_now && (!was_due || moved) {
        tx.execute(
            "UPDATE deliveries SET due_at = $2, backlog = true WHERE tenant_id = $1 AND due_at IS NULL AND state IN ('pending', 'retry_scheduled')",
            args![tenant, now],
        )
        .await?;
    }
    if moved || (due_now && !was_due) {
        touch_all(tx, ward, now).await?;
    }
    tx.wake(true).await?;
    audit::record(tx, &*ward.rng, tenant, now, actor, "config_changed", &format!("config/{id}")).await?;
    columns::load(tx, tenant, &ward.key, cache).await
}

pub(super) async fn delete(tx: &mut Tx, ward: &Ward, now: Timestamp, actor: &str) -> Result<bool> {
    tx.row(locking!("SELECT key_id FROM tenants WHERE tenant_id = $1"), args![&ward.tenant]).await?;
    let gone = tx.execute("DELETE FROM fhir_integration_configs WHERE tenant_id = $1", args![&ward.tenant]).await? > 0;
    if gone {
        audit::record(tx, &*ward.rng, &ward.tenant, now, actor, "config_deleted", "config").await?;
    }
    Ok(gone)
}

/// Another base URL is another EHR: `true`, and nothing that the old one knew counts any more. The URL is remembered beyond
/// the configuration's life, so deleting it and making another is a move too.
async fn begin_generation(tx: &mut Tx, ward: &Ward, now: Timestamp, connection: &Connection) -> Result<bool> {
    let tenant = &ward.tenant;
    let known = tx.row(locking!("SELECT base_url, generation FROM connections WHERE tenant_id = $1"), args![tenant]).await?;
    let Some(known) = known else {
        tx.execute("INSERT INTO connections (tenant_id, base_url) VALUES ($1, $2)", args![tenant, &connection.base_url]).await?;
        return Ok(false);
    };
    if known.text("base_url")? == connection.base_url {
        return Ok(false);
    }
    let generation = known.int("generation")? + 1;
    tx.execute(
        "UPDATE connections SET generation = $2, base_url = $3, plan = '{}', down_since = NULL WHERE tenant_id = $1",
        args![tenant, generation, &connection.base_url],
    )
    .await?;
    // Streams first, by patient id, as everybody locks them; a link that belonged to the old EHR blocks nobody here.
    tx.rows(locking!("SELECT patient_id FROM streams WHERE tenant_id = $1 ORDER BY patient_id"), args![tenant]).await?;
    tx.execute("UPDATE streams SET blocked = NULL WHERE tenant_id = $1 AND blocked IS NOT NULL", args![tenant]).await?;
    // Whoever works a lane just now talks to the old EHR: its answers stay evidence and settle nothing.
    tx.execute(
        "UPDATE attempts SET settle_until = $2 WHERE tenant_id = $1 AND class IS NULL AND settle_until IS NULL",
        args![tenant, now.plus_ms(connection.settle_time_ms)],
    )
    .await?;
    tx.execute("UPDATE lanes SET epoch = epoch + 1, lease_until = NULL, owner = NULL WHERE tenant_id = $1", args![tenant]).await?;
    hold_what_was_sent(tx, ward, now).await?;
    tx.execute(
        "UPDATE deliveries SET generation = $2 WHERE tenant_id = $1 AND NOT sent_before \
         AND state IN ('pending', 'in_flight', 'retry_scheduled', 'held', 'uncertain')",
        args![tenant, generation],
    )
    .await?;
    tx.execute("UPDATE deliveries SET audit_at = NULL WHERE tenant_id = $1 AND audit_at IS NOT NULL", args![tenant]).await?;
    tx.execute("UPDATE pulls SET generation = $2, watermark = NULL, failures = 0 WHERE tenant_id = $1", args![tenant, generation]).await?;
    begin_pulls_anew(tx, tenant, now).await?;
    Ok(true)
}

/// Another account may see other rows: no walk that began as one goes on as the other, which would take what it may not see for deleted.
/// All is read again, for what only the new one may see is older than the watermark.
async fn begin_pulls_anew(tx: &mut Tx, tenant: &TenantId, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE pulls SET sealed_checkpoint = NULL, last_full_at = NULL, epoch = epoch + 1, owner = NULL, lease_until = NULL, \
           requested_at = CASE WHEN lease_until IS NULL THEN requested_at ELSE $2 END, \
           due_at = CASE WHEN lease_until IS NULL THEN due_at ELSE $2 END WHERE tenant_id = $1",
        args![tenant, now],
    )
    .await
    .map(drop)
}

/// What may have reached the old EHR waits for a person. Not a step of `delivery::next`: the EHR that it speaks of is gone.
async fn hold_what_was_sent(tx: &mut Tx, ward: &Ward, now: Timestamp) -> Result<()> {
    let rows = tx
        .rows(
            "SELECT id, state, reason FROM deliveries WHERE tenant_id = $1 AND sent_before \
             AND state IN ('pending', 'in_flight', 'retry_scheduled', 'held', 'uncertain') ORDER BY patient_id, seq",
            args![&ward.tenant],
        )
        .await?;
    for row in rows {
        let (id, state) = (DeliveryId(row.uuid("id")?), standing::state_of(&row)?);
        standing::move_state(tx, &ward.tenant, now, id, state, State::Held(HeldReason::ConnectionMoved), None).await?;
    }
    Ok(())
}

async fn touch_all(tx: &mut Tx, ward: &Ward, now: Timestamp) -> Result<()> {
    let sql = "SELECT patient_id FROM streams WHERE tenant_id = $1 AND head_due IS NOT NULL \
               UNION SELECT patient_id FROM deliveries WHERE tenant_id = $1 \
                AND state IN ('pending', 'in_flight', 'retry_scheduled', 'held', 'uncertain')";
    let rows = tx.rows(sql, args![&ward.tenant]).await?;
    let patients = rows.iter().map(|row| row.uuid("patient_id").map(PatientId)).collect::<Result<Vec<_>>>()?;
    standing::touch_streams(tx, &ward.tenant, patients, now).await
}
