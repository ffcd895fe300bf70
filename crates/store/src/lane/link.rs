//! A rule's decision about a patient's link. A person's always wins (law 3).

use super::LinkChange;
use crate::engine::{Tx, args, locking};
use crate::seal::DataKey;
use crate::{Error, Result, standing};
use model::{HeldReason, PatientId, TenantId, Timestamp};

/// Writes the change, unless a person decided otherwise meanwhile or the patient is another than it was judged from.
pub(crate) async fn change_link(
    tx: &mut Tx,
    tenant: &TenantId,
    key: &DataKey,
    now: Timestamp,
    patient: PatientId,
    change: &LinkChange,
) -> Result<()> {
    let sql = locking!("SELECT version, link_by, ehr_patient_id, link_generation FROM patients WHERE tenant_id = $1 AND id = $2");
    let row = tx.row(sql, args![tenant, patient]).await?.ok_or(Error::Corrupt("patients"))?;
    standing::lock_stream(tx, tenant, patient).await?;
    let by = row.text_opt("link_by")?;
    let present = row.int_opt("link_generation")? == Some(standing::standing(tx, tenant).await?.generation);
    let ehr_id = row.ehr_id_opt("ehr_patient_id")?;
    if let Some(from) = &change.judged_from {
        let known = if present { (by.clone(), ehr_id.clone()) } else { (None, None) };
        if row.int("version")? != from.version || known != (from.by.clone(), from.ehr_id.clone()) {
            return Ok(());
        }
    }
    let same = by == change.link.by && ehr_id == change.link.ehr_id;
    if present && by.is_some_and(|by| by.starts_with("person:")) && !same {
        return Ok(());
    }
    crate::patients::write_link(tx, tenant, key, patient, &change.link).await?;
    let blocked = change.blocked.then(|| change.link.problem.map_or(HeldReason::PatientUnlinked.word(), crate::patients::problem_word));
    tx.execute("UPDATE streams SET blocked = $3 WHERE tenant_id = $1 AND patient_id = $2", args![tenant, patient, blocked]).await?;
    standing::touch_stream(tx, tenant, patient, now).await
}
