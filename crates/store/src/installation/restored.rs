//! A database that was restored from a backup: the EHR may know more than it does. A person said so, and only then may
//! a state be set past `delivery::next`.

use crate::Result;
use crate::engine::{Row, Tx, args};
use crate::standing::{self, move_state};
use model::{AttemptId, DeliveryId, PatientId, Rng, State, TenantId, Timestamp};
use std::collections::BTreeMap;

/// Makes all that is open uncertain, with an open attempt that settles at `now + settle_ms`: what the lost days sent may
/// still be under way. What was delivered is read once more.
pub(super) async fn unsettle(tx: &mut Tx, rng: &dyn Rng, now: Timestamp, settle_ms: i64) -> Result<()> {
    tx.execute("UPDATE lanes SET epoch = epoch + 1, lease_until = NULL, owner = NULL", args![]).await?;
    tx.execute("UPDATE pulls SET epoch = epoch + 1, lease_until = NULL, owner = NULL", args![]).await?;
    tx.execute(
        "UPDATE deliveries SET audit_at = $1, audit_stage = 0 WHERE state = 'delivered' AND NOT EXISTS (SELECT 1 FROM deliveries n \
         WHERE n.tenant_id = deliveries.tenant_id AND n.patient_id = deliveries.patient_id AND n.seq > deliveries.seq AND n.state = 'delivered' \
         AND COALESCE(n.observation_id, n.patient_id) = COALESCE(deliveries.observation_id, deliveries.patient_id))",
        args![now],
    )
    .await?;
    tx.execute(
        "UPDATE deliveries SET sent_before = true, proven_not_applied = false \
         WHERE state IN ('pending', 'in_flight', 'retry_scheduled', 'held', 'uncertain')",
        args![],
    )
    .await?;
    let open = tx
        .rows(
            "SELECT tenant_id, id, shard, patient_id, observation_id, state, reason FROM deliveries \
             WHERE state IN ('pending', 'in_flight', 'retry_scheduled', 'uncertain') ORDER BY tenant_id, patient_id, seq",
            args![],
        )
        .await?;
    let mut touched: BTreeMap<TenantId, Vec<PatientId>> = BTreeMap::new();
    for row in open {
        let open = Open::read(&row)?;
        drop(row);
        tx.execute(
            "INSERT INTO attempts (tenant_id, id, delivery_id, shard, resource_id, epoch, at, ended_at, request, class, is_write, settle_until) \
             VALUES ($1, $2, $3, $4, $5, 0, $6, $6, '(before the backup was restored)', 'uncertain', true, $7)",
            args![
                &open.tenant,
                AttemptId(rng.uuid_v7(now)),
                open.id,
                open.shard,
                open.resource,
                now,
                now.plus_ms(settle_ms)
            ],
        )
        .await?;
        move_state(tx, &open.tenant, now, open.id, open.state, State::Uncertain, Some(now.plus_ms(settle_ms + 1))).await?;
    }
    let streams = tx.rows("SELECT tenant_id, patient_id FROM streams", args![]).await?;
    for row in streams {
        touched.entry(row.tenant()?).or_default().push(PatientId(row.uuid("patient_id")?));
    }
    for (tenant, patients) in touched {
        standing::touch_streams(tx, &tenant, patients, now).await?;
    }
    Ok(())
}

struct Open {
    tenant: TenantId,
    id: DeliveryId,
    shard: i64,
    resource: uuid::Uuid,
    state: State,
}

impl Open {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            tenant: row.tenant()?,
            id: DeliveryId(row.uuid("id")?),
            shard: row.int("shard")?,
            resource: standing::resource_of(row)?.uuid(),
            state: standing::state_of(row)?,
        })
    }
}
