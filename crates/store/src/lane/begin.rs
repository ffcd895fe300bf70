//! Attempts, recorded before any byte leaves.

use super::{Begin, Lane};
use crate::engine::{Tx, args};
use crate::ledger::raw::{Raw, lock_patients_of};
use crate::{Error, Result};
use model::delivery::{Event, next};
use model::{DeliveryId, Means, State, Timestamp};

/// What became of a beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// Recorded.
    All,
    /// The lease is lost.
    Lost,
    /// A row is not to be sent any more.
    Moved,
}

/// Records them all, or says that one of them may not go.
pub(super) async fn begin(tx: &mut Tx, lane: &Lane, now: Timestamp, attempts: Vec<Begin>) -> Result<Begun> {
    let ids: Vec<DeliveryId> = attempts.iter().map(|attempt| attempt.delivery).collect();
    lock_patients_of(tx, &lane.tenant, &ids).await?;
    let mut rows = Vec::with_capacity(attempts.len());
    for attempt in &attempts {
        let raw = Raw::load(tx, &lane.tenant, attempt.delivery)
            .await?
            .filter(|raw| raw.shard == lane.shard)
            .ok_or(Error::Corrupt("deliveries"))?;
        if attempt.means.is_some() && !may_be_sent(&raw, now) {
            return Ok(Begun::Moved);
        }
        rows.push(raw);
    }
    for (attempt, raw) in attempts.into_iter().zip(rows) {
        let resource = raw.observation.map_or(raw.patient.0, |id| id.0);
        tx.execute(
            "INSERT INTO attempts (tenant_id, id, delivery_id, shard, resource_id, epoch, at, request, means, is_write) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            args![
                &lane.tenant,
                attempt.attempt,
                raw.id,
                lane.shard,
                resource,
                lane.epoch,
                now,
                attempt.request,
                attempt.means.map(Means::word),
                attempt.means.is_some()
            ],
        )
        .await?;
        let Some(means) = attempt.means else { continue };
        if !raw.go(tx, &lane.tenant, now, State::InFlight, None).await? {
            return Err(Error::Corrupt("deliveries"));
        }
        // From here on some byte may have left: nothing is proven any more.
        tx.execute(
            "UPDATE deliveries SET claims = claims + 1, means = $3, match_etag = $4, sent_before = true, proven_not_applied = false \
             WHERE tenant_id = $1 AND id = $2",
            args![&lane.tenant, raw.id, means.word(), attempt.match_etag],
        )
        .await?;
    }
    // The streams are touched when the lane's owner settles, or by whoever takes the lane over.
    Ok(Begun::All)
}

/// A write goes from a row that waits for its turn, or repeats one that is uncertain; the engine has judged which.
fn may_be_sent(raw: &Raw, now: Timestamp) -> bool {
    raw.state == State::Uncertain || next(raw.state, &raw.facts(now), &Event::Turn { now }).state == State::InFlight
}
