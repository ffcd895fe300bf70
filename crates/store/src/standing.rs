//! How a delivery comes to stand where it stands: enqueued, moved from state to state, and what that means for its
//! patient's stream, its lane and the kept counters. Everything that writes the ledger goes through here.
//!
//! Order of locks, so that PostgreSQL's transactions do not wait for each other in a ring: streams (by patient id) →
//! deliveries → lanes → counters (which are written when the write ends).

mod stream;

pub(crate) use self::stream::{touch_delivered, touch_stream, touch_streams};

use crate::engine::{Row, Sql, Tx, args, locking};
use crate::{Error, Result};
use model::delivery::{Event, Facts, next};
use model::{DeliveryId, HeldReason, Means, ObservationId, PatientId, ResourceKey, Rng, State, TenantId, Timestamp};

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
    tx.count(tenant, shard, "pending", pending);
    tx.count(tenant, shard, "held", held);
    touch_stream(tx, tenant, patient, now).await?;
    Ok(ids)
}

/// Moves a delivery from one state to another, with its due time, and keeps the counters in step.
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
             WHERE tenant_id = $1 AND id = $2 AND state = CAST($3 AS TEXT) RETURNING shard",
            args![tenant, delivery, from.word(), to.word(), reason(to), due_at, now],
        )
        .await?;
    let Some(row) = moved else { return Ok(false) };
    note_move(tx, tenant, row.int("shard")?, from, to);
    Ok(true)
}

/// Keeps the counters in step with a move that took place.
pub(crate) fn note_move(tx: &mut Tx, tenant: &TenantId, shard: i64, from: State, to: State) {
    if from.word() != to.word() {
        tx.count(tenant, shard, from.word(), -1);
        tx.count(tenant, shard, to.word(), 1);
    }
}

/// Locks a patient's stream until the end of the transaction; whoever changes deliveries of several patients locks their
/// streams first, by patient id. `false`: it has none.
pub(crate) async fn lock_stream(tx: &mut Tx, tenant: &TenantId, patient: PatientId) -> Result<bool> {
    let row = tx.row(locking!("SELECT shard FROM streams WHERE tenant_id = $1 AND patient_id = $2"), args![tenant, patient]).await?;
    Ok(row.is_some())
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
pub(crate) fn state_of(row: &Row) -> Result<State> {
    State::parse(&row.text("state")?, row.text_opt("reason")?.as_deref()).ok_or(Error::Corrupt("deliveries"))
}

/// What a row brings (columns `patient_id`, `observation_id`).
pub(crate) fn resource_of(row: &Row) -> Result<ResourceKey> {
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
