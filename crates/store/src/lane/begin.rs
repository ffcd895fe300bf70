//! Attempts, recorded before any byte leaves.

use super::{Begin, Lane};
use crate::engine::{Tx, args};
use crate::ledger::raw::Raw;
use crate::{Error, Result, standing};
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
    let known = Raw::load_locked(tx, &lane.tenant, &ids).await?;
    for attempt in &attempts {
        let raw = known.get(&attempt.delivery).filter(|raw| raw.shard == lane.shard).ok_or(Error::Corrupt("deliveries"))?;
        if attempt.means.is_some() && !may_be_sent(raw, now) {
            return Ok(Begun::Moved);
        }
    }
    for attempt in attempts {
        let raw = known.get(&attempt.delivery).ok_or(Error::Corrupt("deliveries"))?;
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
        // From here on some byte may have left: nothing is proven any more.
        let moved = tx
            .execute(
                "UPDATE deliveries SET state = $4, reason = NULL, due_at = NULL, updated_at = $5, claims = claims + 1, means = $6, \
                   match_etag = $7, sent_before = true, proven_not_applied = false WHERE tenant_id = $1 AND id = $2 AND state = CAST($3 AS TEXT)",
                args![&lane.tenant, raw.id, raw.state.word(), State::InFlight.word(), now, means.word(), attempt.match_etag],
            )
            .await?;
        if moved == 0 {
            return Err(Error::Corrupt("deliveries"));
        }
        standing::note_move(tx, &lane.tenant, lane.shard, raw.state, State::InFlight);
    }
    // The streams are touched when the lane's owner settles, or by whoever takes the lane over.
    Ok(Begun::All)
}

/// A write goes from a row that waits for its turn, or repeats one that is uncertain; the engine has judged which.
fn may_be_sent(raw: &Raw, now: Timestamp) -> bool {
    raw.state == State::Uncertain || next(raw.state, &raw.facts(now), &Event::Turn { now }).state == State::InFlight
}
