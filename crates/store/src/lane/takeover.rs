//! A lane whose owner died or froze: what it had sent is uncertain, and stays open for a settle time from now (PROTOCOL §1, §4 traces 3, 4, 8).

use super::{CLAIMS_MAX, Lane};
use crate::engine::{Sql, Tx, args};
use crate::ledger::raw::{Raw, lock_patients_of, raw_columns};
use crate::{Result, standing};
use model::delivery::{Event, next};
use model::{DeliveryId, State, Timestamp};
use std::collections::BTreeSet;

pub(super) async fn take_over(tx: &mut Tx, lane: &Lane, now: Timestamp, settle_ms: i64) -> Result<()> {
    let until = now.plus_ms(settle_ms);
    // A question that was never answered asks for nothing.
    tx.execute(
        "UPDATE attempts SET class = 'uncertain', ended_at = $3 WHERE tenant_id = $1 AND shard = $2 AND class IS NULL AND NOT is_write",
        args![&lane.tenant, lane.shard, now],
    )
    .await?;
    let opened = tx
        .rows(
            "SELECT delivery_id FROM attempts WHERE tenant_id = $1 AND shard = $2 AND is_write \
             AND (class IS NULL OR class = 'uncertain') AND (class IS NULL OR settle_until >= $3)",
            args![&lane.tenant, lane.shard, now],
        )
        .await?;
    let mut deliveries = opened.iter().map(|row| row.uuid("delivery_id").map(DeliveryId)).collect::<Result<BTreeSet<_>>>()?;
    let sql = Sql::from(concat!(
        "SELECT ",
        raw_columns!(),
        " FROM deliveries d WHERE d.tenant_id = $1 AND d.state = 'in_flight' AND d.shard = $2"
    ));
    for row in tx.rows(sql, args![&lane.tenant, lane.shard]).await? {
        deliveries.insert(Raw::read(&row)?.id);
    }
    let ids: Vec<DeliveryId> = deliveries.into_iter().collect();
    let patients = lock_patients_of(tx, &lane.tenant, &ids).await?;
    tx.execute(
        "UPDATE attempts SET class = 'uncertain', ended_at = COALESCE(ended_at, $3), \
           settle_until = CASE WHEN settle_until IS NULL OR settle_until < $4 THEN $4 ELSE settle_until END \
         WHERE tenant_id = $1 AND shard = $2 AND is_write \
         AND (class IS NULL OR class = 'uncertain') AND (class IS NULL OR settle_until >= $3)",
        args![&lane.tenant, lane.shard, now, until],
    )
    .await?;
    for id in ids {
        let Some(raw) = Raw::load(tx, &lane.tenant, id).await? else { continue };
        let after = next(raw.state, &raw.facts(now), &Event::TakenOver { now, settle_ms });
        if after.state != raw.state {
            // What has killed the process again and again is not repeated: it is asked about once it has settled.
            let due = if raw.claims >= CLAIMS_MAX { until.plus_ms(1) } else { now };
            raw.go(tx, &lane.tenant, now, after.state, Some(due)).await?;
        } else if raw.state == State::Delivered {
            let settled = raw.resource_settle_until(now).unwrap_or(until).plus_ms(1);
            tx.execute(
                "UPDATE deliveries SET audit_at = $3, audit_stage = 0 WHERE tenant_id = $1 AND id = $2",
                args![&lane.tenant, id, settled],
            )
            .await?;
        }
    }
    standing::touch_streams(tx, &lane.tenant, patients, now).await
}
