//! Attempts, recorded before any byte leaves.

use super::{Begin, Lane};
use crate::engine::{Sql, Tx, args};
use crate::ledger::raw::{Raw, json_list};
use crate::{Error, Result, standing};
use model::delivery::{Event, next};
use model::{DeliveryId, Means, State, Timestamp};
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
    let known = Raw::load_locked(tx, &lane.tenant, &ids).await?;
    for attempt in &attempts {
        let raw = known.get(&attempt.delivery).filter(|raw| raw.shard == lane.shard).ok_or(Error::Corrupt("deliveries"))?;
        if attempt.means.is_some() && !may_be_sent(raw, now) {
            return Ok(Begun::Moved);
        }
    }
    if !holds(tx, lane, &attempts).await? {
        return Ok(Begun::Moved);
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

/// A write goes from a row that waits for its turn, or repeats one that is uncertain while it may.
fn may_be_sent(raw: &Raw, now: Timestamp) -> bool {
    next(raw.state, &raw.facts(now), &Event::Turn { now }).state == State::InFlight
}

/// Whether the writes among these may go: by what holds now, and for whom they were built.
pub(super) async fn holds(tx: &mut Tx, lane: &Lane, attempts: &[Begin]) -> Result<bool> {
    Ok(goes_by_what_holds(tx, lane).await? && speaks_of_whom_it_should(tx, lane, attempts).await?)
}

/// Whether the configuration is the one that the turn was opened with, and the installation still sends.
async fn goes_by_what_holds(tx: &mut Tx, lane: &Lane) -> Result<bool> {
    let Some(revision) = lane.revision else { return Ok(true) };
    let sql = "SELECT id, revision FROM fhir_integration_configs WHERE tenant_id = $1";
    let now = tx.row(sql, args![&lane.tenant]).await?.map(|row| Ok::<_, Error>((row.uuid("id")?, row.int("revision")?))).transpose()?;
    Ok(now == Some(revision) && crate::installation::may_send(tx).await?)
}

/// Whether each patient is linked as it was when the write was built, and a new write's not blocked since.
async fn speaks_of_whom_it_should(tx: &mut Tx, lane: &Lane, attempts: &[Begin]) -> Result<bool> {
    let writes: Vec<&Begin> = attempts.iter().filter(|attempt| attempt.means.is_some()).collect();
    if writes.is_empty() {
        return Ok(true);
    }
    let mut standing = BTreeMap::new();
    for row in tx.rows(PATIENTS, args![&lane.tenant, json_list(writes.iter().map(|write| &write.delivery))]).await? {
        let blocks = row.boolean("blocked")? && row.text("state")? != State::Uncertain.word();
        standing.insert(DeliveryId(row.uuid("id")?), (row.ehr_id_opt("ehr_patient_id")?, blocks));
    }
    Ok(writes.into_iter().all(|write| {
        let of = standing.get(&write.delivery);
        of.is_some_and(|(linked, blocks)| write.subject.as_ref().is_none_or(|subject| linked.as_ref() == Some(subject)) && !blocks)
    }))
}

const PATIENTS: Sql = Sql {
    sqlite: "SELECT d.id, d.state, p.ehr_patient_id, s.blocked IS NOT NULL AS blocked FROM json_each($2) j CROSS JOIN deliveries d \
             JOIN patients p ON p.tenant_id = $1 AND p.id = d.patient_id LEFT JOIN streams s ON s.tenant_id = $1 AND s.patient_id = p.id \
             WHERE d.tenant_id = $1 AND d.id = j.value",
    postgres: "SELECT d.id, d.state, p.ehr_patient_id, s.blocked IS NOT NULL AS blocked FROM json_array_elements_text(CAST($2 AS json)) j(value) \
               JOIN deliveries d ON d.tenant_id = $1 AND d.id = j.value JOIN patients p ON p.tenant_id = $1 AND p.id = d.patient_id \
               LEFT JOIN streams s ON s.tenant_id = $1 AND s.patient_id = p.id",
};
