//! Accepting, changing and withdrawing observations, each with its intended effect in the same transaction.

use super::read::View;
use super::{Accepted, seal_draft, seal_version};
use crate::engine::{Tx, args, locking};
use crate::idempotency::{Key, Known, Once, look_up, remember};
use crate::standing::{self, Intended, rising_ids};
use crate::{Error, Result, Ward};
use model::delivery::Event;
use model::{HeldReason, Observation, ObservationDraft, ObservationId, PatientId, ResourceKey, Timestamp};
use std::collections::BTreeMap;

type Drafts = [(ObservationDraft, Option<HeldReason>)];

pub(super) async fn create(
    tx: &mut Tx,
    ward: &Ward,
    now: Timestamp,
    drafts: &Drafts,
    idempotency: Option<&Key>,
) -> Result<Once<Vec<Accepted>>> {
    match look_up(tx, &ward.tenant, &ward.key, idempotency).await? {
        Known::New => {}
        Known::OtherRequest => return Ok(Once::OtherRequest),
        Known::Made(made) => return Ok(Once::Before(accepted_before(tx, ward, now, &made).await?)),
    }
    let standing = standing::standing(tx, &ward.tenant).await?;
    // By patient id, the order in which everybody locks streams; within a patient as they came.
    let mut by_patient: BTreeMap<PatientId, Vec<Intended>> = BTreeMap::new();
    for (draft, _) in drafts {
        if !by_patient.contains_key(&draft.patient_id) && patient_is_here(tx, ward, draft.patient_id).await? {
            by_patient.insert(draft.patient_id, Vec::new());
        }
    }
    let mut made = Vec::with_capacity(drafts.len());
    for ((draft, hold), id) in drafts.iter().zip(rising_ids(&*ward.rng, now, drafts.len())) {
        let Some(intended) = by_patient.get_mut(&draft.patient_id) else {
            made.push(Accepted::PatientUnknown);
            continue;
        };
        let id = ObservationId(id);
        insert(tx, ward, now, id, draft).await?;
        intended.push(Intended { resource: ResourceKey::Observation(id), version: 1, hold: *hold, backlog: false });
        made.push(Accepted::Stored(Box::new(Observation::accepted(id, draft.clone(), now))));
    }
    for (patient, intended) in &by_patient {
        standing::enqueue(tx, &*ward.rng, &ward.tenant, now, standing, *patient, intended).await?;
    }
    let view = View::of(tx, &ward.tenant, &ward.key, standing.generation, now).await?;
    let mut ids = Vec::with_capacity(made.len());
    for accepted in &mut made {
        ids.push(match accepted {
            Accepted::Stored(observation) => {
                view.add_delivery(tx, observation).await?;
                Some(observation.id.0)
            }
            Accepted::PatientUnknown => None,
        });
    }
    remember(tx, &ward.tenant, &ward.key, now, idempotency, &ids).await?;
    Ok(Once::Done(made))
}

pub(super) async fn update(
    tx: &mut Tx,
    ward: &Ward,
    now: Timestamp,
    id: ObservationId,
    version: i64,
    mut draft: ObservationDraft,
    hold: Option<HeldReason>,
) -> Result<Option<Observation>> {
    let Some(found) = lock(tx, ward, id).await? else { return Ok(None) };
    if found.version != version || found.deleted || !found.platform {
        return Ok(None);
    }
    draft.patient_id = found.patient;
    let version = version + 1;
    write_version(tx, ward, now, id, version, &draft, false).await?;
    let resource = ResourceKey::Observation(id);
    standing::apply_to_resource(tx, &ward.tenant, now, resource, version, &Event::NewerAccepted).await?;
    let standing = standing::standing(tx, &ward.tenant).await?;
    let effect = Intended { resource, version, hold, backlog: false };
    standing::enqueue(tx, &*ward.rng, &ward.tenant, now, standing, found.patient, &[effect]).await?;
    View::load(tx, &ward.tenant, &ward.key, now).await?.one(tx, id).await
}

pub(super) async fn withdraw(tx: &mut Tx, ward: &Ward, now: Timestamp, id: ObservationId) -> Result<bool> {
    let Some(found) = lock(tx, ward, id).await? else { return Ok(false) };
    if !found.platform {
        return Ok(false);
    }
    if found.deleted {
        return Ok(true);
    }
    let mut draft = View::load(tx, &ward.tenant, &ward.key, now).await?.one(tx, id).await?.ok_or(Error::Corrupt("observations"))?.draft;
    "entered-in-error".clone_into(&mut draft.status);
    let version = found.version + 1;
    write_version(tx, ward, now, id, version, &draft, true).await?;
    let resource = ResourceKey::Observation(id);
    if may_be_there(tx, ward, id).await? {
        standing::apply_to_resource(tx, &ward.tenant, now, resource, version, &Event::NewerAccepted).await?;
        let standing = standing::standing(tx, &ward.tenant).await?;
        let effect = Intended { resource, version, hold: None, backlog: false };
        standing::enqueue(tx, &*ward.rng, &ward.tenant, now, standing, found.patient, &[effect]).await?;
    } else {
        standing::apply_to_resource(tx, &ward.tenant, now, resource, version, &Event::Withdrawn).await?;
        standing::touch_stream(tx, &ward.tenant, found.patient, now).await?;
    }
    Ok(true)
}

struct Found {
    patient: PatientId,
    version: i64,
    platform: bool,
    deleted: bool,
}

/// Locks the patient's stream and then the observation.
async fn lock(tx: &mut Tx, ward: &Ward, id: ObservationId) -> Result<Option<Found>> {
    let Some(row) = tx.row("SELECT patient_id FROM observations WHERE tenant_id = $1 AND id = $2", args![&ward.tenant, id]).await? else {
        return Ok(None);
    };
    let patient = PatientId(row.uuid("patient_id")?);
    standing::lock_stream(tx, &ward.tenant, patient).await?;
    let row = tx
        .row(locking!("SELECT version, source, deleted FROM observations WHERE tenant_id = $1 AND id = $2"), args![&ward.tenant, id])
        .await?
        .ok_or(Error::Corrupt("observations"))?;
    Ok(Some(Found { patient, version: row.int("version")?, platform: row.text("source")? == "platform", deleted: row.boolean("deleted")? }))
}

async fn patient_is_here(tx: &mut Tx, ward: &Ward, patient: PatientId) -> Result<bool> {
    let row = tx.row("SELECT 1 AS one FROM patients WHERE tenant_id = $1 AND id = $2", args![&ward.tenant, patient]).await?;
    Ok(row.is_some())
}

async fn insert(tx: &mut Tx, ward: &Ward, now: Timestamp, id: ObservationId, draft: &ObservationDraft) -> Result<()> {
    tx.execute(
        "INSERT INTO observations (tenant_id, id, patient_id, version, source, code, sealed_draft, deleted, created_at, updated_at) \
         VALUES ($1, $2, $3, 1, 'platform', $4, $5, false, $6, $6)",
        args![&ward.tenant, id, draft.patient_id, draft.code.as_ref(), seal_draft(&ward.key, id, 1, draft)?, now],
    )
    .await?;
    insert_version(tx, ward, now, id, 1, draft).await
}

async fn write_version(
    tx: &mut Tx,
    ward: &Ward,
    now: Timestamp,
    id: ObservationId,
    version: i64,
    draft: &ObservationDraft,
    deleted: bool,
) -> Result<()> {
    tx.execute(
        "UPDATE observations SET version = $3, code = $4, sealed_draft = $5, deleted = $6, updated_at = $7 WHERE tenant_id = $1 AND id = $2",
        args![&ward.tenant, id, version, draft.code.as_ref(), seal_draft(&ward.key, id, version, draft)?, deleted, now],
    )
    .await?;
    insert_version(tx, ward, now, id, version, draft).await
}

async fn insert_version(tx: &mut Tx, ward: &Ward, now: Timestamp, id: ObservationId, version: i64, draft: &ObservationDraft) -> Result<()> {
    tx.execute(
        "INSERT INTO observation_versions (tenant_id, observation_id, version, sealed_draft, at) VALUES ($1, $2, $3, $4, $5)",
        args![&ward.tenant, id, version, seal_version(&ward.key, id, version, draft)?, now],
    )
    .await
    .map(drop)
}

/// Whether any EHR may hold any version of it: something was sent, and not all of it is known to have come to nothing.
async fn may_be_there(tx: &mut Tx, ward: &Ward, id: ObservationId) -> Result<bool> {
    let row = tx
        .row(
            "SELECT \
             (SELECT COUNT(*) FROM observations WHERE tenant_id = $1 AND id = $2 AND (synced_version IS NOT NULL OR ehr_id IS NOT NULL)) \
             + (SELECT COUNT(*) FROM deliveries WHERE tenant_id = $1 AND observation_id = $2 AND sent_before \
                AND NOT proven_not_applied AND state <> 'dead') \
             + (SELECT COUNT(*) FROM deliveries d CROSS JOIN attempts a WHERE d.tenant_id = $1 AND d.observation_id = $2 \
                AND a.tenant_id = $1 AND a.delivery_id = d.id AND a.is_write AND (a.class IS NULL OR a.class IN \
                ('delivered', 'exists', 'uncertain', 'bad_response', 'conflict', 'multiple_matches'))) AS signs",
            args![&ward.tenant, id],
        )
        .await?
        .ok_or(Error::Corrupt("deliveries"))?;
    Ok(row.int("signs")? > 0)
}

/// What an earlier request with the same key made, as it is now.
async fn accepted_before(tx: &mut Tx, ward: &Ward, now: Timestamp, made: &[Option<uuid::Uuid>]) -> Result<Vec<Accepted>> {
    let view = View::load(tx, &ward.tenant, &ward.key, now).await?;
    let mut accepted = Vec::with_capacity(made.len());
    for id in made {
        accepted.push(match id {
            Some(id) => {
                let observation = view.one(tx, ObservationId(*id)).await?.ok_or(Error::Corrupt("observations"))?;
                Accepted::Stored(Box::new(observation))
            }
            None => Accepted::PatientUnknown,
        });
    }
    Ok(accepted)
}
