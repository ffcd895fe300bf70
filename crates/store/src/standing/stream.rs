//! When a patient's stream can move, and whether it is blocked.

use super::{lock_stream, state_of};
use crate::engine::{Row, Tx, args};
use crate::{Error, Result};
use model::{HeldReason, PatientId, State, TenantId, Timestamp};
use std::collections::BTreeMap;

/// Works out anew when something of this patient can move, and makes its lane due then. The rule is `sync::turn`'s:
/// an uncertain row asks by itself at its `due_at`; a delivered one at its `audit_at`; a new write is the first waiting row
/// that no held row of its own resource precedes, at its `due_at` and after the resource's open attempts have settled,
/// and none at all while the patient is blocked (by its link, or because its own delivery rests with a person and this EHR
/// does not know it), its own Patient is held before it, or one of its rows is unsettled.
/// A lane must never be due for a patient that cannot move, or it is claimed in a circle.
pub(crate) async fn touch_stream(tx: &mut Tx, tenant: &TenantId, patient: PatientId, now: Timestamp) -> Result<()> {
    if let Some((shard, at)) = touch(tx, tenant, patient, None).await? {
        wake_lane(tx, tenant, shard, at, now).await?;
    }
    Ok(())
}

/// The same but for the lane: which it is, and when it is due. `delivered`: the EHR took something of the patient then.
async fn touch(tx: &mut Tx, tenant: &TenantId, patient: PatientId, delivered: Option<Timestamp>) -> Result<Option<(i64, Timestamp)>> {
    // First the lock, then a statement of its own that sees what others have committed before it was ours.
    if !tx.is_alone() && !lock_stream(tx, tenant, patient).await? {
        return Ok(None);
    }
    let Some(stream) = tx.row(STREAM, args![tenant, patient]).await? else { return Ok(None) };
    let own = if stream.int("own")? > 0 { own_rows(tx, tenant, patient).await? } else { Vec::new() };
    let blocked = stream.text_opt("blocked")?;
    let by_link = blocked.as_deref().is_some_and(|why| why != RESTS);
    let rests = !by_link && rests_unknown(tx, tenant, patient, &own).await?;
    if !by_link && rests != blocked.is_some() {
        let sql = "UPDATE streams SET blocked = $3 WHERE tenant_id = $1 AND patient_id = $2";
        tx.execute(sql, args![tenant, patient, rests.then_some(RESTS)]).await?;
    }
    let stopped = by_link || rests || stream.int("unsettled")? > 0;
    let write = if stopped { None } else { next_write(tx, tenant, patient, &own).await? };
    let head_due = [stream.int_opt("asks")?, stream.int_opt("audits")?, write].into_iter().flatten().min();
    let fresh_at = stream.int_opt("newest_fresh_at")?.unwrap_or(0);
    tx.execute(
        "UPDATE streams SET head_due = $3, fresh_at = $4, delivered_at = COALESCE($5, delivered_at) WHERE tenant_id = $1 AND patient_id = $2",
        args![tenant, patient, head_due, fresh_at, delivered],
    )
    .await?;
    let shard = stream.int("shard")?;
    Ok(head_due.map(|at| (shard, Timestamp(at))))
}

/// Touches many streams, in the order in which everybody locks them.
pub(crate) async fn touch_streams(tx: &mut Tx, tenant: &TenantId, patients: Vec<PatientId>, now: Timestamp) -> Result<()> {
    touch_delivered(tx, tenant, patients.into_iter().map(|patient| (patient, None)).collect(), now).await
}

/// The same, with the moment at which the EHR took something of a patient.
pub(crate) async fn touch_delivered(
    tx: &mut Tx,
    tenant: &TenantId,
    patients: BTreeMap<PatientId, Option<Timestamp>>,
    now: Timestamp,
) -> Result<()> {
    let mut lanes: BTreeMap<i64, Timestamp> = BTreeMap::new();
    for (patient, delivered) in patients {
        if let Some((shard, at)) = touch(tx, tenant, patient, delivered).await? {
            let due = lanes.entry(shard).or_insert(at);
            *due = at.min(*due);
        }
    }
    for (shard, at) in lanes {
        wake_lane(tx, tenant, shard, at, now).await?;
    }
    Ok(())
}

/// Makes a lane due at `at`, if it is not due before, and wakes who waits; whoever holds it looks again when it gives it back.
async fn wake_lane(tx: &mut Tx, tenant: &TenantId, shard: i64, at: Timestamp, now: Timestamp) -> Result<()> {
    let earlier = tx
        .row(
            "UPDATE lanes SET due_at = $3 WHERE tenant_id = $1 AND shard = $2 AND (due_at IS NULL OR due_at > $3) RETURNING lease_until",
            args![tenant, shard, at],
        )
        .await?;
    let idle = earlier.map_or(Ok(false), |lane| lane.int_opt("lease_until").map(|until| until.is_none()))?;
    if idle && at <= now {
        tx.wake(true).await?;
    }
    Ok(())
}

/// All that decides when a stream is due, but for the row in front.
const STREAM: &str = "SELECT s.shard, s.blocked, \
    (SELECT COUNT(*) FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 AND state IN ('in_flight', 'uncertain')) AS unsettled, \
    (SELECT MIN(CASE WHEN state = 'uncertain' THEN due_at END) FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 \
     AND state IN ('in_flight', 'uncertain')) AS asks, \
    (SELECT MIN(audit_at) FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 AND audit_at IS NOT NULL \
     AND state = 'delivered') AS audits, \
    (SELECT COUNT(*) FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 AND observation_id IS NULL \
     AND state NOT IN ('delivered', 'superseded')) AS own, \
    (SELECT CASE WHEN n.backlog THEN 0 ELSE n.created_at END FROM ( \
       SELECT * FROM (SELECT seq, backlog, created_at FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 \
         AND state IN ('pending', 'retry_scheduled') ORDER BY seq DESC LIMIT 1) waiting \
       UNION ALL SELECT * FROM (SELECT seq, backlog, created_at FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 \
         AND state = 'held' ORDER BY seq DESC LIMIT 1) held \
       UNION ALL SELECT seq, backlog, created_at FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 \
         AND state IN ('in_flight', 'uncertain')) n ORDER BY n.seq DESC LIMIT 1) AS newest_fresh_at \
    FROM streams s WHERE s.tenant_id = $1 AND s.patient_id = $2";

/// The first row of an observation that may go, and until when attempts on its resource stay open.
const HEAD: &str = "SELECT d.due_at, (SELECT MAX(CASE WHEN a.class IS NULL THEN 9223372036854775807 ELSE a.settle_until END) FROM attempts a \
      WHERE a.tenant_id = $1 AND a.resource_id = d.observation_id AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain')) AS settles \
    FROM deliveries d WHERE d.tenant_id = $1 AND d.patient_id = $2 \
    AND d.state IN ('pending', 'retry_scheduled') AND d.observation_id IS NOT NULL \
    AND NOT EXISTS (SELECT 1 FROM deliveries h WHERE h.tenant_id = $1 AND h.observation_id = d.observation_id \
      AND h.state = 'held' AND h.seq < d.seq) ORDER BY d.seq LIMIT 1";

/// The Patient's own rows that may still mean something (no index offers the order, so that they are found without its observations).
const OWN: &str = "SELECT d.state, d.reason, d.generation, d.due_at, \
     (SELECT MAX(CASE WHEN a.class IS NULL THEN 9223372036854775807 ELSE a.settle_until END) \
      FROM attempts a WHERE a.tenant_id = $1 AND a.resource_id = $2 AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain')) AS settles \
    FROM deliveries d WHERE d.tenant_id = $1 AND d.patient_id = $2 AND d.observation_id IS NULL \
    AND d.state NOT IN ('delivered', 'superseded') ORDER BY d.seq + 0";

/// Why a stream is blocked whose Patient rests with a person: written and taken away by [`touch`] alone.
const RESTS: &str = "patient_rests";

/// One of the Patient's own rows.
struct Own {
    state: State,
    generation: i64,
    due_at: Option<i64>,
    settles: Option<i64>,
}

async fn own_rows(tx: &mut Tx, tenant: &TenantId, patient: PatientId) -> Result<Vec<Own>> {
    let read = |row: &Row| {
        Ok(Own {
            state: state_of(row)?,
            generation: row.int("generation")?,
            due_at: row.int_opt("due_at")?,
            settles: row.int_opt("settles")?,
        })
    };
    tx.rows(OWN, args![tenant, patient]).await?.iter().map(read).collect()
}

/// Whether nothing can bring the Patient to this EHR but a person: its own delivery is held, dead or given up there, none goes
/// before or after it, and the EHR does not know it. Its observations have nobody to speak of until then.
async fn rests_unknown(tx: &mut Tx, tenant: &TenantId, patient: PatientId, own: &[Own]) -> Result<bool> {
    let goes = |row: &Own| match row.state {
        State::Pending | State::InFlight | State::RetryScheduled | State::Uncertain => Some(true),
        State::Held(_) => Some(false),
        State::Dead | State::Canceled | State::Delivered | State::Superseded => None,
    };
    let Some(newest) = own.last() else { return Ok(false) };
    if own.iter().find_map(goes) == Some(true) || newest.state == State::Held(HeldReason::ConnectionMoved) {
        return Ok(false);
    }
    let sql = "SELECT COALESCE(c.generation, 1) AS generation, p.link_state, p.link_generation FROM patients p \
               LEFT JOIN connections c ON c.tenant_id = p.tenant_id WHERE p.tenant_id = $1 AND p.id = $2";
    let row = tx.row(sql, args![tenant, patient]).await?.ok_or(Error::Corrupt("patients"))?;
    let generation = row.int("generation")?;
    let known = row.text("link_state")? == "linked" && row.int_opt("link_generation")? == Some(generation);
    let elsewhere = matches!(newest.state, State::Dead | State::Canceled) && newest.generation != generation;
    Ok(!known && !elsewhere)
}

/// When the patient's next new write may go; `None`: not by itself. The Patient goes before what needs it.
async fn next_write(tx: &mut Tx, tenant: &TenantId, patient: PatientId, own: &[Own]) -> Result<Option<i64>> {
    if own.iter().any(|row| row.state == State::Held(HeldReason::PatientUnlinked)) {
        return Ok(None);
    }
    let first = own.iter().find(|row| matches!(row.state, State::Pending | State::RetryScheduled | State::Held(_)));
    let (due, settles) = match first.filter(|row| !matches!(row.state, State::Held(_))) {
        Some(row) => (row.due_at, row.settles),
        None => match tx.row(HEAD, args![tenant, patient]).await? {
            Some(row) => (row.int_opt("due_at")?, row.int_opt("settles")?),
            None => return Ok(None),
        },
    };
    Ok(match (due, settles) {
        (None, _) | (_, Some(i64::MAX)) => None,
        (due, None) => due,
        (Some(due), Some(until)) => Some(due.max(until + 1)),
    })
}
