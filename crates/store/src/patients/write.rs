//! Accepting, changing and linking patients, each with its intended effect in the same transaction.

use super::{PatientRefused, load, write_link};
use crate::engine::{Tx, args, locking};
use crate::idempotency::{Key, Known, Once, look_up, remember};
use crate::patients::NewPatient;
use crate::standing::{self, Intended, Standing};
use crate::{Error, Result, Ward, audit};
use model::delivery::Event;
use model::{EhrId, HeldReason, Link, LinkState, Patient, PatientDraft, PatientId, ResourceKey, Timestamp};

pub(super) async fn create(
    tx: &mut Tx,
    ward: &Ward,
    now: Timestamp,
    new: &NewPatient,
    idempotency: Option<&Key>,
) -> Result<Result<Once<Patient>, PatientRefused>> {
    let standing = standing::standing(tx, &ward.tenant).await?;
    match look_up(tx, &ward.tenant, &ward.key, idempotency).await? {
        Known::New => {}
        Known::OtherRequest => return Ok(Ok(Once::OtherRequest)),
        Known::Made(made) => {
            let id = made.first().copied().flatten().map(PatientId).ok_or(Error::Corrupt("idempotency_keys"))?;
            return Ok(Ok(Once::Before(reread(tx, ward, standing, id).await?)));
        }
    }
    if let Some(refused) = taken(tx, ward, &new.draft, None).await? {
        return Ok(Err(refused));
    }
    let id = PatientId(ward.rng.uuid_v7(now));
    tx.execute(
        "INSERT INTO patients (tenant_id, id, version, sealed_draft, cpf_hmac, cns_hmac, external_hmac, created_at, updated_at) \
         VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $7)",
        args![
            &ward.tenant,
            id,
            seal_draft(ward, id, 1, &new.draft)?,
            blind_cpf(ward, &new.draft),
            blind_cns(ward, &new.draft),
            blind_external(ward, &new.draft),
            now
        ],
    )
    .await?;
    match &new.link {
        Some((ehr_id, person)) => {
            write_link(tx, &ward.tenant, &ward.key, id, &persons_link(Some(ehr_id), person, now)).await?;
            audit::record(tx, &*ward.rng, &ward.tenant, now, person, "link_set", &format!("patient/{id}")).await?;
        }
        None => intend(tx, ward, now, standing, id, 1).await?,
    }
    remember(tx, &ward.tenant, &ward.key, now, idempotency, &[Some(id.0)]).await?;
    Ok(Ok(Once::Done(reread(tx, ward, standing, id).await?)))
}

pub(super) async fn update(
    tx: &mut Tx,
    ward: &Ward,
    now: Timestamp,
    id: PatientId,
    version: i64,
    draft: &PatientDraft,
) -> Result<Result<Patient, PatientRefused>> {
    let standing = standing::standing(tx, &ward.tenant).await?;
    if !lock(tx, ward, id).await? {
        return Ok(Err(PatientRefused::Unknown));
    }
    let before = reread(tx, ward, standing, id).await?;
    if before.version != version {
        return Ok(Err(PatientRefused::Changed));
    }
    if before.draft == *draft {
        return Ok(Ok(before));
    }
    if let Some(refused) = taken(tx, ward, draft, Some(id)).await? {
        return Ok(Err(refused));
    }
    let version = version + 1;
    tx.execute(
        "UPDATE patients SET version = $3, sealed_draft = $4, cpf_hmac = $5, cns_hmac = $6, external_hmac = $7, updated_at = $8 \
         WHERE tenant_id = $1 AND id = $2",
        args![
            &ward.tenant,
            id,
            version,
            seal_draft(ward, id, version, draft)?,
            blind_cpf(ward, draft),
            blind_cns(ward, draft),
            blind_external(ward, draft),
            now
        ],
    )
    .await?;
    let effect = effect_of_change(&before, draft);
    if effect == Effect::LookAgain {
        write_link(tx, &ward.tenant, &ward.key, id, &Link::default()).await?;
        block(tx, ward, id, None).await?;
    }
    if effect != Effect::None {
        standing::lock_stream(tx, &ward.tenant, id).await?;
        standing::apply_to_resource(tx, &ward.tenant, now, ResourceKey::Patient(id), version, &Event::NewerAccepted).await?;
        intend(tx, ward, now, standing, id, version).await?;
    }
    Ok(Ok(reread(tx, ward, standing, id).await?))
}

pub(super) async fn link_by_person(
    tx: &mut Tx,
    ward: &Ward,
    now: Timestamp,
    id: PatientId,
    ehr_id: Option<&EhrId>,
    actor: &str,
) -> Result<Result<Patient, PatientRefused>> {
    let standing = standing::standing(tx, &ward.tenant).await?;
    if !lock(tx, ward, id).await? {
        return Ok(Err(PatientRefused::Unknown));
    }
    standing::lock_stream(tx, &ward.tenant, id).await?;
    write_link(tx, &ward.tenant, &ward.key, id, &persons_link(ehr_id, actor, now)).await?;
    tx.execute("UPDATE patients SET updated_at = $3 WHERE tenant_id = $1 AND id = $2", args![&ward.tenant, id, now]).await?;
    if ehr_id.is_some() {
        block(tx, ward, id, None).await?;
        // The Patient is there: what would have looked for it, or made it, is not needed any more.
        standing::apply_to_resource(tx, &ward.tenant, now, ResourceKey::Patient(id), i64::MAX, &Event::Withdrawn).await?;
        if standing.due_now {
            tx.execute(
                "UPDATE deliveries SET due_at = $3 WHERE tenant_id = $1 AND patient_id = $2 AND due_at IS NULL \
                 AND state IN ('pending', 'retry_scheduled')",
                args![&ward.tenant, id, now],
            )
            .await?;
        }
    } else {
        block(tx, ward, id, Some(HeldReason::PatientUnlinked.word())).await?;
    }
    standing::touch_stream(tx, &ward.tenant, id, now).await?;
    let action = if ehr_id.is_some() { "link_set" } else { "link_removed" };
    audit::record(tx, &*ward.rng, &ward.tenant, now, actor, action, &format!("patient/{id}")).await?;
    Ok(Ok(reread(tx, ward, standing, id).await?))
}

/// What a change of a patient means for the EHR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing: the Patient there is not ours to change.
    None,
    /// Ponte made the Patient: it is updated. Or it is still to be made, with what is true now.
    Deliver,
    /// What the link rested on, or what it was held for, has changed.
    LookAgain,
}

fn effect_of_change(before: &Patient, draft: &PatientDraft) -> Effect {
    let link = &before.link;
    if link.by_person() {
        return Effect::None;
    }
    if link.created_by_us() {
        return Effect::Deliver;
    }
    match link.state {
        LinkState::Unlinked => Effect::Deliver,
        LinkState::Held => Effect::LookAgain,
        LinkState::Linked => match link.by.as_deref() {
            Some("cpf") if before.draft.cpf != draft.cpf => Effect::LookAgain,
            Some("cns") if before.draft.cns != draft.cns => Effect::LookAgain,
            _ => Effect::None,
        },
    }
}

async fn intend(tx: &mut Tx, ward: &Ward, now: Timestamp, standing: Standing, id: PatientId, version: i64) -> Result<()> {
    let effect = Intended { resource: ResourceKey::Patient(id), version, hold: None, backlog: false };
    standing::enqueue(tx, &*ward.rng, &ward.tenant, now, standing, id, &[effect]).await.map(drop)
}

async fn reread(tx: &mut Tx, ward: &Ward, standing: Standing, id: PatientId) -> Result<Patient> {
    load(tx, &ward.tenant, &ward.key, standing.generation, id).await?.ok_or(Error::Corrupt("patients"))
}

async fn lock(tx: &mut Tx, ward: &Ward, id: PatientId) -> Result<bool> {
    let row = tx.row(locking!("SELECT version FROM patients WHERE tenant_id = $1 AND id = $2"), args![&ward.tenant, id]).await?;
    Ok(row.is_some())
}

/// A stream that does not exist yet reads the patient's link when it is made.
async fn block(tx: &mut Tx, ward: &Ward, id: PatientId, why: Option<&'static str>) -> Result<()> {
    tx.execute("UPDATE streams SET blocked = $3 WHERE tenant_id = $1 AND patient_id = $2", args![&ward.tenant, id, why]).await.map(drop)
}

fn persons_link(ehr_id: Option<&EhrId>, person: &str, now: Timestamp) -> Link {
    Link {
        state: if ehr_id.is_some() { LinkState::Linked } else { LinkState::Unlinked },
        ehr_id: ehr_id.cloned(),
        by: Some(format!("person:{person}")),
        at: Some(now),
        ..Link::default()
    }
}

/// Whether another patient of the tenant has one of these keys. Two that come at once meet in the unique index; the second
/// is run again and finds the first.
async fn taken(tx: &mut Tx, ward: &Ward, draft: &PatientDraft, me: Option<PatientId>) -> Result<Option<PatientRefused>> {
    let me = me.map_or_else(String::new, |id| id.to_string());
    let keys = [
        ("/cpf", "SELECT id FROM patients WHERE tenant_id = $1 AND cpf_hmac = $2 AND id <> $3", blind_cpf(ward, draft)),
        ("/cns", "SELECT id FROM patients WHERE tenant_id = $1 AND cns_hmac = $2 AND id <> $3", blind_cns(ward, draft)),
        ("/externalId", "SELECT id FROM patients WHERE tenant_id = $1 AND external_hmac = $2 AND id <> $3", blind_external(ward, draft)),
    ];
    for (pointer, sql, blind) in keys {
        let Some(blind) = blind else { continue };
        if let Some(row) = tx.row(sql, args![&ward.tenant, blind, &me]).await? {
            return Ok(Some(PatientRefused::Exists { pointer, id: PatientId(row.uuid("id")?) }));
        }
    }
    Ok(None)
}

fn seal_draft(ward: &Ward, id: PatientId, version: i64, draft: &PatientDraft) -> Result<Vec<u8>> {
    ward.key.seal_json("patients", "sealed_draft", format_args!("{id}/{version}"), draft)
}

fn blind_cpf(ward: &Ward, draft: &PatientDraft) -> Option<String> {
    draft.cpf.as_ref().map(|cpf| ward.key.blind("cpf", cpf.digits()))
}

fn blind_cns(ward: &Ward, draft: &PatientDraft) -> Option<String> {
    draft.cns.as_ref().map(|cns| ward.key.blind("cns", cns.digits()))
}

fn blind_external(ward: &Ward, draft: &PatientDraft) -> Option<String> {
    draft.external_id.as_ref().map(|id| ward.key.blind("external_id", id))
}
