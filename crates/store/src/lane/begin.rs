//! Attempts, recorded before any byte leaves.

use super::{Begin, Lane};
use crate::engine::{Sql, Tx, args};
use crate::ledger::raw::{Raw, json_list, lock_streams_of};
use crate::{Error, Result, standing};
use model::delivery::{Event, next};
use model::{DeliveryId, EhrId, Means, State, Timestamp};
use std::collections::BTreeMap;

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
    lock_streams_of(tx, &lane.tenant, &ids).await?;
    let rows = Row::load(tx, lane, &ids).await?;
    for attempt in &attempts {
        let row = rows.get(&attempt.delivery).filter(|row| row.shard == lane.shard).ok_or(Error::Corrupt("deliveries"))?;
        if attempt.means.is_some() && !may_be_sent(tx, lane, now, attempt.delivery, row.state).await? {
            return Ok(Begun::Moved);
        }
    }
    if !may_go(tx, lane, &attempts, &rows).await? {
        return Ok(Begun::Moved);
    }
    for attempt in attempts {
        let row = rows.get(&attempt.delivery).ok_or(Error::Corrupt("deliveries"))?;
        tx.execute(
            "INSERT INTO attempts (tenant_id, id, delivery_id, shard, resource_id, epoch, at, request, means, is_write) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            args![
                &lane.tenant,
                attempt.attempt,
                attempt.delivery,
                lane.shard,
                row.resource,
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
                args![&lane.tenant, attempt.delivery, row.state.word(), State::InFlight.word(), now, means.word(), attempt.match_etag],
            )
            .await?;
        if moved == 0 {
            return Err(Error::Corrupt("deliveries"));
        }
        standing::note_move(tx, &lane.tenant, lane.shard, row.state, State::InFlight);
    }
    // The streams are touched when the lane's owner settles, or by whoever takes the lane over.
    Ok(Begun::All)
}

/// A delivery as it stands now, and its patient.
struct Row {
    shard: i64,
    state: State,
    resource: uuid::Uuid,
    linked: Option<EhrId>,
    blocked: bool,
}

impl Row {
    async fn load(tx: &mut Tx, lane: &Lane, ids: &[DeliveryId]) -> Result<BTreeMap<DeliveryId, Self>> {
        let mut all = BTreeMap::new();
        for row in tx.rows(ROWS, args![&lane.tenant, json_list(ids)]).await? {
            let one = Self {
                shard: row.int("shard")?,
                state: standing::state_of(&row)?,
                resource: standing::resource_of(&row)?.uuid(),
                linked: row.ehr_id_opt("ehr_patient_id")?,
                blocked: row.boolean("blocked")?,
            };
            all.insert(DeliveryId(row.uuid("id")?), one);
        }
        Ok(all)
    }
}

const ROWS: Sql = Sql {
    sqlite: "SELECT d.id, d.shard, d.state, d.reason, d.patient_id, d.observation_id, p.ehr_patient_id, s.blocked IS NOT NULL AS blocked \
             FROM json_each($2) j CROSS JOIN deliveries d LEFT JOIN patients p ON p.tenant_id = $1 AND p.id = d.patient_id \
             LEFT JOIN streams s ON s.tenant_id = $1 AND s.patient_id = d.patient_id WHERE d.tenant_id = $1 AND d.id = j.value",
    postgres: "SELECT d.id, d.shard, d.state, d.reason, d.patient_id, d.observation_id, p.ehr_patient_id, s.blocked IS NOT NULL AS blocked \
               FROM json_array_elements_text(CAST($2 AS json)) j(value) JOIN deliveries d ON d.tenant_id = $1 AND d.id = j.value \
               LEFT JOIN patients p ON p.tenant_id = $1 AND p.id = d.patient_id \
               LEFT JOIN streams s ON s.tenant_id = $1 AND s.patient_id = d.patient_id",
};

/// A write goes from a row that waits for its turn, of which `delivery::next` asks nothing more, or repeats one that is uncertain while
/// it may.
async fn may_be_sent(tx: &mut Tx, lane: &Lane, now: Timestamp, id: DeliveryId, state: State) -> Result<bool> {
    if matches!(state, State::Pending | State::RetryScheduled) {
        return Ok(true);
    }
    let raw = Raw::load(tx, &lane.tenant, id).await?.ok_or(Error::Corrupt("deliveries"))?;
    Ok(next(raw.state, &raw.facts(now), &Event::Turn { now }).state == State::InFlight)
}

/// Whether what a turn went by still holds: the configuration and the installation, and for each write the link of its patient; and
/// whether no patient of a new write was blocked since.
async fn may_go(tx: &mut Tx, lane: &Lane, attempts: &[Begin], rows: &BTreeMap<DeliveryId, Row>) -> Result<bool> {
    let for_whom_it_was_built = |write: &Begin, row: &Row| {
        write.subject.as_ref().is_none_or(|subject| row.linked.as_ref() == Some(subject)) && (row.state == State::Uncertain || !row.blocked)
    };
    let mut writes = attempts.iter().filter(|attempt| attempt.means.is_some());
    Ok(goes_by_what_holds(tx, lane).await?
        && writes.all(|write| rows.get(&write.delivery).is_some_and(|row| for_whom_it_was_built(write, row))))
}

/// Whether the configuration is the one that the turn was opened with, and the installation still sends.
pub(super) async fn goes_by_what_holds(tx: &mut Tx, lane: &Lane) -> Result<bool> {
    let Some(revision) = lane.revision else { return Ok(true) };
    let sql = "SELECT id, revision FROM fhir_integration_configs WHERE tenant_id = $1";
    let now = tx.row(sql, args![&lane.tenant]).await?.map(|row| Ok::<_, Error>((row.uuid("id")?, row.int("revision")?))).transpose()?;
    Ok(now == Some(revision) && crate::installation::may_send(tx).await?)
}
