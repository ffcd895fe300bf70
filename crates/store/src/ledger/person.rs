//! What a person does with a delivery: replays it, gives it up, wants it now. The states by `delivery::next`.

use super::raw::{Raw, lock_patients_of, supersede_older};
use super::{Discarded, Replayed};
use crate::engine::{Tx, args};
use crate::standing::{Intended, Standing, apply_to_resource, enqueue, lock_stream, standing, touch_stream};
use crate::{Result, Tenant};
use model::delivery::{Event, next};
use model::{DeliveryId, HeldReason, PatientId, ResourceKey, State, TenantId, Timestamp};

/// When what is wanted goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ahead of the backlog.
    Ahead,
    /// With the backlog: a run.
    Backlog,
}

/// Sends one again; names the delivery that goes (itself, or the newer one that goes instead).
pub(crate) async fn replay_one(tx: &mut Tx, tenant: &Tenant, now: Timestamp, id: DeliveryId) -> Result<(Replayed, Option<DeliveryId>)> {
    lock_patients_of(tx, &tenant.id, &[id]).await?;
    let Some(raw) = Raw::load(tx, &tenant.id, id).await? else {
        return Ok((Replayed::Unknown, None));
    };
    if !matches!(raw.state, State::Dead | State::Held(_) | State::RetryScheduled) {
        return Ok((Replayed::NotDead, None));
    }
    let generation = standing(tx, &tenant.id).await?.generation;
    let elsewhere = raw.observation.is_none() && raw.generation != generation;
    if raw.newer_exists && (elsewhere || raw.state == State::Dead) {
        // The newer version says all that this one would (of a Patient there is one delivery to each EHR): it goes instead.
        let to = next(raw.state, &raw.facts(now), &Event::Withdrawn).state;
        if to == raw.state || !raw.go(tx, &tenant.id, now, to, None).await? {
            return Ok((Replayed::NotDead, None));
        }
    } else {
        let to = next(raw.state, &raw.facts(now), &Event::Replayed).state;
        raw.go(tx, &tenant.id, now, to, Some(now)).await?;
        begin_round(tx, &tenant.id, raw.id, now, generation, true).await?;
    }
    supersede_older(tx, &tenant.id, now, raw.resource()).await?;
    touch_stream(tx, &tenant.id, raw.patient, now).await?;
    let after = Raw::load(tx, &tenant.id, id).await?.map(|raw| raw.state);
    if matches!(after, Some(State::Superseded | State::Canceled)) {
        let goes = deliver_now(tx, tenant, now, raw.resource(), Due::Backlog).await?;
        return Ok((Replayed::Superseded, goes));
    }
    Ok((Replayed::Again, Some(id)))
}

/// Gives one up; its content and attempts stay on record.
pub(super) async fn discard(tx: &mut Tx, tenant: &TenantId, now: Timestamp, id: DeliveryId) -> Result<Discarded> {
    lock_patients_of(tx, tenant, &[id]).await?;
    let Some(raw) = Raw::load(tx, tenant, id).await? else {
        return Ok(Discarded::Unknown);
    };
    if !matches!(raw.state, State::Dead | State::Held(_)) {
        return Ok(Discarded::NotDead);
    }
    let to = next(raw.state, &raw.facts(now), &Event::Withdrawn).state;
    if to == raw.state || !raw.go(tx, tenant, now, to, None).await? {
        return Ok(Discarded::NotDead);
    }
    touch_stream(tx, tenant, raw.patient, now).await?;
    Ok(Discarded::Canceled)
}

/// Makes the newest delivery of a resource due, or intends a new one where there is none, or only one to another EHR.
pub(crate) async fn deliver_now(
    tx: &mut Tx,
    tenant: &Tenant,
    now: Timestamp,
    resource: ResourceKey,
    due: Due,
) -> Result<Option<DeliveryId>> {
    let Some(known) = known(tx, &tenant.id, resource).await? else {
        return Ok(None);
    };
    lock_stream(tx, &tenant.id, known.patient).await?;
    let standing = standing(tx, &tenant.id).await?;
    let newest = Raw::newest(tx, &tenant.id, resource).await?;
    let wanted = match newest {
        Some(raw) if !belongs_elsewhere(&raw, &known, standing) => raw,
        Some(raw) if is_withdrawn(&raw, &known) => return Ok(Some(raw.id)),
        old => {
            if let Some(old) = old.filter(|raw| matches!(raw.state, State::Held(_))) {
                // What was on its way to another EHR ends here; what goes to this one is a delivery of its own.
                apply_to_resource(tx, &tenant.id, now, resource, old.version + 1, &Event::Withdrawn).await?;
            }
            if matches!(resource, ResourceKey::Observation(_)) {
                its_patient(tx, tenant, now, known.patient, standing).await?;
            }
            let intended = Intended { resource, version: known.version, hold: None, backlog: due == Due::Backlog };
            let ids = enqueue(tx, tenant.inner.rng.as_ref(), &tenant.id, now, standing, known.patient, &[intended]).await?;
            let Some(raw) = (match ids.first() {
                Some(id) => Raw::load(tx, &tenant.id, *id).await?,
                None => None,
            }) else {
                return Ok(None);
            };
            raw
        }
    };
    if matches!(wanted.state, State::Pending | State::RetryScheduled) {
        make_due(tx, &tenant.id, now, &wanted, due).await?;
        touch_stream(tx, &tenant.id, known.patient, now).await?;
    }
    Ok(Some(wanted.id))
}

/// What is known of a resource that may be delivered.
struct Known {
    patient: PatientId,
    version: i64,
    /// Under which generation the EHR was last known to hold it.
    generation: Option<i64>,
    withdrawn: bool,
}

async fn known(tx: &mut Tx, tenant: &TenantId, resource: ResourceKey) -> Result<Option<Known>> {
    let row = match resource {
        ResourceKey::Observation(id) => {
            let sql = "SELECT patient_id, version, ehr_generation AS generation, deleted FROM observations \
                       WHERE tenant_id = $1 AND id = $2 AND source = 'platform'";
            tx.row(sql, args![tenant, id]).await?
        }
        ResourceKey::Patient(id) => {
            let sql = "SELECT id AS patient_id, version, link_generation AS generation, false AS deleted FROM patients WHERE tenant_id = $1 AND id = $2";
            tx.row(sql, args![tenant, id]).await?
        }
    };
    row.map(|row| {
        Ok(Known {
            patient: PatientId(row.uuid("patient_id")?),
            version: row.int("version")?,
            generation: row.int_opt("generation")?,
            withdrawn: row.boolean("deleted")?,
        })
    })
    .transpose()
}

/// Whether a row says nothing of the present EHR: it went, or was held on its way, to another one.
fn belongs_elsewhere(raw: &Raw, known: &Known, standing: Standing) -> bool {
    let unknown_here = raw.generation != standing.generation && known.generation != Some(standing.generation);
    match raw.state {
        State::Held(HeldReason::ConnectionMoved) => true,
        State::Delivered => unknown_here,
        // An observation that was given up stays so; whether this EHR has the Patient is asked of this EHR.
        State::Dead | State::Superseded | State::Canceled => unknown_here && raw.observation.is_none(),
        State::Held(_) | State::Pending | State::InFlight | State::RetryScheduled | State::Uncertain => false,
    }
}

/// Withdrawn, and the present EHR never held it: there is nothing to withdraw there.
fn is_withdrawn(raw: &Raw, known: &Known) -> bool {
    known.withdrawn && raw.state == State::Delivered
}

/// A patient whom the present EHR does not know yet goes first.
async fn its_patient(tx: &mut Tx, tenant: &Tenant, now: Timestamp, patient: PatientId, standing: Standing) -> Result<()> {
    let sql = "SELECT version FROM patients WHERE tenant_id = $1 AND id = $2 AND NOT (link_state = 'linked' AND link_generation = $3)";
    let Some(row) = tx.row(sql, args![&tenant.id, patient, standing.generation]).await? else {
        return Ok(());
    };
    let resource = ResourceKey::Patient(patient);
    let newest = Raw::newest(tx, &tenant.id, resource).await?;
    if newest.is_none_or(|raw| raw.generation != standing.generation) {
        apply_to_resource(tx, &tenant.id, now, resource, i64::MAX, &Event::Withdrawn).await?;
        let intended = Intended { resource, version: row.int("version")?, hold: None, backlog: false };
        let ids = enqueue(tx, tenant.inner.rng.as_ref(), &tenant.id, now, standing, patient, &[intended]).await?;
        for id in ids {
            if let Some(raw) = Raw::load(tx, &tenant.id, id).await?.filter(|raw| raw.state == State::Pending) {
                raw.go(tx, &tenant.id, now, raw.state, Some(now)).await?;
            }
        }
    }
    Ok(())
}

/// Makes a waiting row due, and what goes before it.
async fn make_due(tx: &mut Tx, tenant: &TenantId, now: Timestamp, wanted: &Raw, due: Due) -> Result<()> {
    let before = tx
        .rows(
            "SELECT id FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 AND state IN ('pending', 'retry_scheduled') \
             AND (seq < $3 OR observation_id IS NULL) AND (due_at IS NULL OR due_at > $4) ORDER BY seq",
            args![tenant, wanted.patient, wanted.seq, now],
        )
        .await?;
    let generation = wanted.generation;
    for row in &before {
        begin_round(tx, tenant, DeliveryId(row.uuid("id")?), now, generation, false).await?;
    }
    begin_round(tx, tenant, wanted.id, now, generation, false).await?;
    let sql = "UPDATE deliveries SET backlog = $3 WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, args![tenant, wanted.id, due == Due::Backlog]).await.map(drop)
}

/// A new round, due now. `anew`: a person's replay also begins patience and the count of claims anew, towards the present EHR.
async fn begin_round(tx: &mut Tx, tenant: &TenantId, id: DeliveryId, now: Timestamp, generation: i64, anew: bool) -> Result<()> {
    if anew {
        tx.execute(
            "UPDATE deliveries SET due_at = $3, round_tries = 0, claims = 0, first_failed_at = NULL, down_ms_then = 0, backlog = true, \
               generation = $4 WHERE tenant_id = $1 AND id = $2",
            args![tenant, id, now, generation],
        )
        .await?;
    } else {
        tx.execute("UPDATE deliveries SET due_at = $3, round_tries = 0 WHERE tenant_id = $1 AND id = $2", args![tenant, id, now]).await?;
    }
    Ok(())
}
