//! How a delivery comes to stand where it stands: enqueued, moved from state to state, and what that means for its
//! patient's stream, its lane and the kept counters. Everything that writes the ledger goes through here.
//!
//! Order of locks, so that PostgreSQL's transactions do not wait for each other in a ring: streams (by patient id) →
//! deliveries → lanes → counters (which are written when the write ends).

use crate::engine::{Sql, Tx, args, locking};
use crate::{Error, Result};
use model::delivery::{Event, Facts, next};
use model::{DeliveryId, HeldReason, Means, ObservationId, PatientId, ResourceKey, Rng, State, TenantId, Timestamp};
use std::collections::BTreeMap;

/// Lanes of one tenant. Never to be changed on a database in use: a patient that moves to another lane has two owners.
pub(crate) const SHARDS: i64 = 8;

/// The lane of a patient: the same on every node and for ever (FNV-1a of the id's bytes).
pub(crate) fn shard_of(patient: PatientId) -> i64 {
    let hash = patient
        .0
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    i64::try_from((hash ^ (hash >> 32)) % SHARDS.unsigned_abs()).unwrap_or(0)
}

/// What the tenant's connection means for a delivery that is accepted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The present generation; 1 before the first connection.
    pub(crate) generation: i64,
    /// Enabled, pushes, realtime: what is accepted now is due now. Otherwise it waits for a sweep (or for a connection).
    pub(crate) due_now: bool,
}

/// Reads [`Standing`].
pub(crate) async fn standing(tx: &mut Tx, tenant: &TenantId) -> Result<Standing> {
    let row = tx
        .row(
            "SELECT (SELECT generation FROM connections WHERE tenant_id = $1) AS generation, \
             (SELECT COUNT(*) FROM fhir_integration_configs WHERE tenant_id = $1 AND enabled AND sync_direction <> 'pull' \
              AND sync_frequency = 'realtime') AS realtime",
            args![tenant],
        )
        .await?
        .ok_or(Error::Corrupt("connections"))?;
    Ok(Standing { generation: row.int_opt("generation")?.unwrap_or(1), due_now: row.int("realtime")? > 0 })
}

/// An effect about to be intended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intended {
    /// What it brings.
    pub(crate) resource: ResourceKey,
    /// Which version of it.
    pub(crate) version: i64,
    /// Why it is held from the start, if it is.
    pub(crate) hold: Option<HeldReason>,
    /// Of a sweep, a replay or a run: fresh ones go first.
    pub(crate) backlog: bool,
}

/// Writes the intended effects of one patient, in this order, and makes them due as the connection lets them. A delivery of
/// the Patient that exists already (same generation and version) is not written twice: its id is given back.
/// The stream is touched.
pub(crate) async fn enqueue(
    tx: &mut Tx,
    rng: &dyn Rng,
    tenant: &TenantId,
    now: Timestamp,
    standing: Standing,
    patient: PatientId,
    intended: &[Intended],
) -> Result<Vec<DeliveryId>> {
    let shard = shard_of(patient);
    let wanted = i64::try_from(intended.len()).unwrap_or(0);
    let first = take_sequence(tx, tenant, patient, shard, wanted).await?;
    let mut ids = rng_ids(rng, now, intended.len());
    let (mut pending, mut held) = (0, 0);
    for (at, (effect, id)) in intended.iter().zip(&mut ids).enumerate() {
        let observation = match effect.resource {
            ResourceKey::Observation(observation) => Some(observation),
            ResourceKey::Patient(_) => {
                if let Some(row) = tx
                    .row(
                        "SELECT id FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 AND generation = $3 AND version = $4 \
                         AND observation_id IS NULL",
                        args![tenant, patient, standing.generation, effect.version],
                    )
                    .await?
                {
                    *id = DeliveryId(row.uuid("id")?);
                    continue;
                }
                None
            }
        };
        let state = effect.hold.map_or(State::Pending, State::Held);
        let due = (standing.due_now && effect.hold.is_none()).then_some(now);
        tx.execute(
            "INSERT INTO deliveries (tenant_id, id, shard, patient_id, observation_id, version, seq, generation, state, reason, backlog, \
             due_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)",
            args![
                tenant,
                *id,
                shard,
                patient,
                observation,
                effect.version,
                first + i64::try_from(at).unwrap_or(0),
                standing.generation,
                state.word(),
                effect.hold.map(HeldReason::word),
                effect.backlog,
                due,
                now
            ],
        )
        .await?;
        *(if effect.hold.is_some() { &mut held } else { &mut pending }) += 1;
    }
    tx.execute(
        "UPDATE streams SET open_count = open_count + $3 WHERE tenant_id = $1 AND patient_id = $2",
        args![tenant, patient, pending + held],
    )
    .await?;
    tx.count(tenant, shard, "pending", pending);
    tx.count(tenant, shard, "held", held);
    touch_stream(tx, tenant, patient, now).await?;
    Ok(ids)
}

/// Moves a delivery from one state to another, with its due time, and keeps counters and the stream's open count in step.
/// `false`, and nothing written, if it was not in `from`. The caller touches the stream when it is done with the patient.
pub(crate) async fn move_state(
    tx: &mut Tx,
    tenant: &TenantId,
    now: Timestamp,
    delivery: DeliveryId,
    from: State,
    to: State,
    due_at: Option<Timestamp>,
) -> Result<bool> {
    let reason = |state| match state {
        State::Held(reason) => Some(reason.word()),
        _ => None,
    };
    let moved = tx
        .row(
            "UPDATE deliveries SET state = $4, reason = $5, due_at = $6, updated_at = $7 \
             WHERE tenant_id = $1 AND id = $2 AND state = CAST($3 AS TEXT) RETURNING shard, patient_id",
            args![tenant, delivery, from.word(), to.word(), reason(to), due_at, now],
        )
        .await?;
    let Some(row) = moved else { return Ok(false) };
    note_move(tx, tenant, row.int("shard")?, &row.text("patient_id")?, from, to).await?;
    Ok(true)
}

/// Keeps the stream's open count and the counters in step with a move that took place.
pub(crate) async fn note_move(tx: &mut Tx, tenant: &TenantId, shard: i64, patient: &str, from: State, to: State) -> Result<()> {
    let opened = i64::from(from.is_final()) - i64::from(to.is_final());
    if opened != 0 {
        tx.execute(
            "UPDATE streams SET open_count = open_count + $3 WHERE tenant_id = $1 AND patient_id = $2",
            args![tenant, patient, opened],
        )
        .await?;
    }
    if from.word() != to.word() {
        tx.count(tenant, shard, from.word(), -1);
        tx.count(tenant, shard, to.word(), 1);
    }
    Ok(())
}

/// Locks a patient's stream until the end of the transaction; whoever changes deliveries of several patients locks their
/// streams first, by patient id. `false`: it has none.
pub(crate) async fn lock_stream(tx: &mut Tx, tenant: &TenantId, patient: PatientId) -> Result<bool> {
    let row = tx.row(locking!("SELECT shard FROM streams WHERE tenant_id = $1 AND patient_id = $2"), args![tenant, patient]).await?;
    Ok(row.is_some())
}

/// Works out anew when something of this patient can move, and makes its lane due then. The rule is `sync::turn`'s:
/// an uncertain row asks by itself at its `due_at`; a delivered one at its `audit_at`; a new write is the first waiting row
/// that no held row of its own resource precedes, at its `due_at` and after the resource's open attempts have settled,
/// and none at all while the patient is blocked, its own Patient is held before it, or one of its rows is unsettled.
/// A lane must never be due for a patient that cannot move, or it is claimed in a circle.
pub(crate) async fn touch_stream(tx: &mut Tx, tenant: &TenantId, patient: PatientId, now: Timestamp) -> Result<()> {
    if let Some((shard, at)) = touch(tx, tenant, patient).await? {
        wake_lane(tx, tenant, shard, at, now).await?;
    }
    Ok(())
}

/// The same but for the lane: which it is, and when it is due.
async fn touch(tx: &mut Tx, tenant: &TenantId, patient: PatientId) -> Result<Option<(i64, Timestamp)>> {
    // First the lock, then a statement of its own that sees what others have committed before it was ours.
    if !tx.is_alone() && !lock_stream(tx, tenant, patient).await? {
        return Ok(None);
    }
    let Some(stream) = tx.row(STREAM, args![tenant, patient]).await? else { return Ok(None) };
    let stopped = stream.text_opt("blocked")?.is_some() || stream.int("unsettled")? > 0;
    let write = if stopped { None } else { next_write(tx, tenant, patient, stream.int("own")? > 0).await? };
    let head_due = [stream.int_opt("asks")?, stream.int_opt("audits")?, write].into_iter().flatten().min();
    let fresh_at = stream.int_opt("newest_fresh_at")?.unwrap_or(0);
    tx.execute(
        "UPDATE streams SET head_due = $3, fresh_at = $4 WHERE tenant_id = $1 AND patient_id = $2",
        args![tenant, patient, head_due, fresh_at],
    )
    .await?;
    let shard = stream.int("shard")?;
    Ok(head_due.map(|at| (shard, Timestamp(at))))
}

/// Touches many streams, in the order in which everybody locks them.
pub(crate) async fn touch_streams(tx: &mut Tx, tenant: &TenantId, mut patients: Vec<PatientId>, now: Timestamp) -> Result<()> {
    patients.sort_unstable();
    patients.dedup();
    let mut lanes: BTreeMap<i64, Timestamp> = BTreeMap::new();
    for patient in patients {
        if let Some((shard, at)) = touch(tx, tenant, patient).await? {
            let due = lanes.entry(shard).or_insert(at);
            *due = at.min(*due);
        }
    }
    for (shard, at) in lanes {
        wake_lane(tx, tenant, shard, at, now).await?;
    }
    Ok(())
}

/// Makes a lane due at `at`, if it is not due before, and wakes who waits.
pub(crate) async fn wake_lane(tx: &mut Tx, tenant: &TenantId, shard: i64, at: Timestamp, now: Timestamp) -> Result<()> {
    let earlier = tx
        .execute(
            "UPDATE lanes SET due_at = $3 WHERE tenant_id = $1 AND shard = $2 AND (due_at IS NULL OR due_at > $3)",
            args![tenant, shard, at],
        )
        .await?;
    if at <= now {
        tx.wake(earlier > 0).await?;
    }
    Ok(())
}

/// Applies an event that concerns all deliveries of a resource ([`Event::NewerAccepted`], [`Event::Withdrawn`]) to those
/// below `below_version`, by `delivery::next`; says how many moved. The caller touches the stream.
pub(crate) async fn apply_to_resource(
    tx: &mut Tx,
    tenant: &TenantId,
    now: Timestamp,
    resource: ResourceKey,
    below_version: i64,
    event: &Event,
) -> Result<u32> {
    let rows = tx.rows(Sql::from(of_resource(resource)), args![tenant, resource.uuid(), below_version]).await?;
    let mut moved = 0;
    for row in rows {
        let state = state_of(&row)?;
        let facts = Facts {
            version: row.int("version")?,
            sent_before: row.boolean("sent_before")?,
            proven_not_applied: row.boolean("proven_not_applied")?,
            means: row.text_opt("means")?.as_deref().and_then(Means::parse),
            if_match_honoured: true,
            own_settle_until: None,
            read_first: false,
            resource_settle_until: None,
        };
        let to = next(state, &facts, event).state;
        if to != state && move_state(tx, tenant, now, DeliveryId(row.uuid("id")?), state, to, None).await? {
            moved += 1;
        }
    }
    Ok(moved)
}

/// A row's stored state (columns `state`, `reason`).
pub(crate) fn state_of(row: &crate::engine::Row) -> Result<State> {
    State::parse(&row.text("state")?, row.text_opt("reason")?.as_deref()).ok_or(Error::Corrupt("deliveries"))
}

/// What a row brings (columns `patient_id`, `observation_id`).
pub(crate) fn resource_of(row: &crate::engine::Row) -> Result<ResourceKey> {
    Ok(match row.uuid_opt("observation_id")? {
        Some(id) => ResourceKey::Observation(ObservationId(id)),
        None => ResourceKey::Patient(PatientId(row.uuid("patient_id")?)),
    })
}

/// Ids of one moment in rising order, so that a list by id shows what was accepted together in its order.
pub(crate) fn rising_ids(rng: &dyn Rng, now: Timestamp, n: usize) -> Vec<uuid::Uuid> {
    let mut ids: Vec<_> = (0..n).map(|_| rng.uuid_v7(now)).collect();
    ids.sort_unstable();
    ids
}

/// All that decides when a stream is due, but for the row in front.
const STREAM: &str = "SELECT s.shard, s.blocked, \
    (SELECT COUNT(*) FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 AND state IN ('in_flight', 'uncertain')) AS unsettled, \
    (SELECT MIN(CASE WHEN state = 'uncertain' THEN due_at END) FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 \
     AND state IN ('in_flight', 'uncertain')) AS asks, \
    (SELECT MIN(audit_at) FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 AND audit_at IS NOT NULL \
     AND state = 'delivered') AS audits, \
    (SELECT COUNT(*) FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 AND observation_id IS NULL \
     AND state IN ('pending', 'retry_scheduled', 'held')) AS own, \
    (SELECT CASE WHEN backlog THEN 0 ELSE created_at END FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 \
     AND state IN ('pending', 'in_flight', 'retry_scheduled', 'held', 'uncertain') ORDER BY seq DESC LIMIT 1) AS newest_fresh_at \
    FROM streams s WHERE s.tenant_id = $1 AND s.patient_id = $2";

/// The first row of an observation that may go, and until when attempts on its resource stay open.
const HEAD: &str = "SELECT d.due_at, (SELECT MAX(CASE WHEN a.class IS NULL THEN 9223372036854775807 ELSE a.settle_until END) FROM attempts a \
      WHERE a.tenant_id = $1 AND a.resource_id = d.observation_id AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain')) AS settles \
    FROM deliveries d WHERE d.tenant_id = $1 AND d.patient_id = $2 \
    AND d.state IN ('pending', 'retry_scheduled') AND d.observation_id IS NOT NULL \
    AND NOT EXISTS (SELECT 1 FROM deliveries h WHERE h.tenant_id = $1 AND h.observation_id = d.observation_id \
      AND h.state = 'held' AND h.seq < d.seq) ORDER BY d.seq LIMIT 1";

/// The Patient's own rows that wait or are held (no index offers the order, so that they are found without its observations).
const OWN: &str = "SELECT d.state, d.reason, d.due_at, (SELECT MAX(CASE WHEN a.class IS NULL THEN 9223372036854775807 ELSE a.settle_until END) \
      FROM attempts a WHERE a.tenant_id = $1 AND a.resource_id = $2 AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain')) AS settles \
    FROM deliveries d WHERE d.tenant_id = $1 AND d.patient_id = $2 AND d.observation_id IS NULL \
    AND d.state IN ('pending', 'retry_scheduled', 'held') ORDER BY d.seq + 0";

/// When the patient's next new write may go; `None`: not by itself. The Patient goes before what needs it.
async fn next_write(tx: &mut Tx, tenant: &TenantId, patient: PatientId, has_own: bool) -> Result<Option<i64>> {
    let own = if has_own { tx.rows(OWN, args![tenant, patient]).await? } else { Vec::new() };
    let own_held = own.iter().map(state_of).collect::<Result<Vec<_>>>()?;
    if own_held.contains(&State::Held(HeldReason::PatientUnlinked)) {
        return Ok(None);
    }
    let head;
    let row = match own.first().filter(|_| own_held.first().is_some_and(|state| !matches!(state, State::Held(_)))) {
        Some(row) => row,
        None => {
            head = tx.row(HEAD, args![tenant, patient]).await?;
            let Some(head) = &head else { return Ok(None) };
            head
        }
    };
    let Some(due) = row.int_opt("due_at")? else { return Ok(None) };
    Ok(match row.int_opt("settles")? {
        None => Some(due),
        Some(i64::MAX) => None,
        Some(until) => Some(due.max(until + 1)),
    })
}

/// Takes `n` numbers of the patient's sequence, locking its stream; makes stream and lane where they are new.
async fn take_sequence(tx: &mut Tx, tenant: &TenantId, patient: PatientId, shard: i64, n: i64) -> Result<i64> {
    const TAKE: &str =
        "UPDATE streams SET next_seq = next_seq + $3 WHERE tenant_id = $1 AND patient_id = $2 RETURNING next_seq - $3 AS first";
    if let Some(row) = tx.row(TAKE, args![tenant, patient, n]).await? {
        return row.int("first");
    }
    tx.execute("INSERT INTO lanes (tenant_id, shard) VALUES ($1, $2) ON CONFLICT (tenant_id, shard) DO NOTHING", args![tenant, shard])
        .await?;
    // A link that a person or a rule took away before the patient had any delivery blocks its stream from the start.
    tx.execute(
        "INSERT INTO streams (tenant_id, patient_id, shard, blocked) \
         SELECT $1, p.id, $3, CASE WHEN COALESCE(p.link_generation, 1) <> COALESCE((SELECT generation FROM connections WHERE tenant_id = $1), 1) \
          THEN NULL WHEN p.link_state = 'held' THEN COALESCE(p.link_problem, 'patient_unlinked') \
          WHEN p.link_state = 'unlinked' AND p.link_by LIKE 'person:%' THEN 'patient_unlinked' END \
         FROM patients p WHERE p.tenant_id = $1 AND p.id = $2 ON CONFLICT (tenant_id, patient_id) DO NOTHING",
        args![tenant, patient, shard],
    )
    .await?;
    tx.row(TAKE, args![tenant, patient, n]).await?.ok_or(Error::Corrupt("streams"))?.int("first")
}

fn of_resource(resource: ResourceKey) -> &'static str {
    match resource {
        ResourceKey::Observation(_) => {
            "SELECT id, state, reason, version, sent_before, proven_not_applied, means FROM deliveries \
             WHERE tenant_id = $1 AND observation_id = $2 AND version < $3 AND state NOT IN ('delivered', 'superseded', 'canceled') ORDER BY seq"
        }
        ResourceKey::Patient(_) => {
            "SELECT id, state, reason, version, sent_before, proven_not_applied, means FROM deliveries \
             WHERE tenant_id = $1 AND patient_id = $2 AND observation_id IS NULL AND version < $3 \
             AND state NOT IN ('delivered', 'superseded', 'canceled') ORDER BY seq"
        }
    }
}

fn rng_ids(rng: &dyn Rng, now: Timestamp, n: usize) -> Vec<DeliveryId> {
    rising_ids(rng, now, n).into_iter().map(DeliveryId).collect()
}

#[cfg(test)]
mod tests;
