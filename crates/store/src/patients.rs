//! Patients and their links.

mod link;
mod write;

pub(crate) use link::{problem_word, write_link};

use crate::engine::{Row, Sql, Tx, args};
use crate::page::page_of;
use crate::seal::DataKey;
use crate::standing::standing;
use crate::{Page, PageRequest, Result, Tenant};
use model::{Cns, Cpf, EhrId, Patient, PatientDraft, PatientId, TenantId, Timestamp};

/// A patient to be accepted.
#[derive(Debug, Clone)]
pub struct NewPatient {
    /// What the platform says.
    pub draft: PatientDraft,
    /// A person's link, given at once: the EHR id and the person (`sub`).
    pub link: Option<(EhrId, String)>,
}

/// By what a patient is looked for.
#[derive(Debug, Clone)]
pub enum PatientKey {
    /// CPF.
    Cpf(Cpf),
    /// CNS.
    Cns(Cns),
    /// The platform's own key.
    ExternalId(String),
    /// The EHR's id.
    EhrId(EhrId),
}

/// Why a patient was not accepted or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatientRefused {
    /// Another patient of the tenant has this CPF, CNS or external id (JSON pointer of the field, and who).
    Exists {
        /// `/cpf`, `/cns` or `/externalId`.
        pointer: &'static str,
        /// The other patient.
        id: PatientId,
    },
    /// It was changed by somebody in between: read again.
    Changed,
    /// No such patient.
    Unknown,
}

impl Tenant {
    /// Accepts a patient and, in the same transaction, writes the intended effect (a delivery of the Patient, unless a
    /// person linked it). `idempotency`: see [`crate::idempotency`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_patient(
        &self,
        now: Timestamp,
        new: NewPatient,
        idempotency: Option<&crate::idempotency::Key>,
    ) -> Result<Result<crate::idempotency::Once<Patient>, PatientRefused>> {
        let (ward, idempotency) = (self.ward(now).await?, idempotency.cloned());
        self.inner.db.write(move |tx| Box::pin(async move { write::create(tx, &ward, now, &new, idempotency.as_ref()).await })).await
    }

    /// One patient.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn patient(&self, id: PatientId) -> Result<Option<Patient>> {
        let Some(key) = self.key_if_any().await? else { return Ok(None) };
        let tenant = self.id.clone();
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let generation = standing(tx, &tenant).await?.generation;
                    load(tx, &tenant, &key, generation, id).await
                })
            })
            .await
    }

    /// All patients, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn patients(&self, page: &PageRequest) -> Result<Page<Patient>> {
        let Some(key) = self.key_if_any().await? else { return Ok(Page { items: Vec::new(), next: None }) };
        let (tenant, page) = (self.id.clone(), page.clone());
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let generation = standing(tx, &tenant).await?.generation;
                    let rows = tx.rows(Sql::from(LIST), args![&tenant, page.before_text(), page.fetch()]).await?;
                    let items = rows.iter().map(|row| read(row, &key, generation)).collect::<Result<Vec<_>>>()?;
                    Ok(page_of(&page, items, |patient| patient.id.0))
                })
            })
            .await
    }

    /// The patient with this key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_patient(&self, key: &PatientKey) -> Result<Option<Patient>> {
        let Some(sealing) = self.key_if_any().await? else { return Ok(None) };
        let (tenant, key) = (self.id.clone(), key.clone());
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let generation = standing(tx, &tenant).await?.generation;
                    let row = match &key {
                        PatientKey::Cpf(cpf) => tx.row(Sql::from(BY_CPF), args![&tenant, sealing.blind("cpf", cpf.digits())]).await?,
                        PatientKey::Cns(cns) => tx.row(Sql::from(BY_CNS), args![&tenant, sealing.blind("cns", cns.digits())]).await?,
                        PatientKey::ExternalId(id) => {
                            tx.row(Sql::from(BY_EXTERNAL), args![&tenant, sealing.blind("external_id", id)]).await?
                        }
                        PatientKey::EhrId(id) => tx.row(Sql::from(BY_EHR), args![&tenant, id, generation]).await?,
                    };
                    row.map(|row| read(&row, &sealing, generation)).transpose()
                })
            })
            .await
    }

    /// A new version of a patient, if `version` is still the current one. If Ponte created the EHR's Patient, the update
    /// is a delivery. A change of CPF or CNS drops an automatic link that rested on the old one, and a delivery of the
    /// Patient looks again (CODES-AND-BRAZIL §9).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn update_patient(
        &self,
        now: Timestamp,
        id: PatientId,
        version: i64,
        draft: PatientDraft,
    ) -> Result<Result<Patient, PatientRefused>> {
        if self.key_if_any().await?.is_none() {
            return Ok(Err(PatientRefused::Unknown));
        }
        let ward = self.ward(now).await?;
        self.inner.db.write(move |tx| Box::pin(async move { write::update(tx, &ward, now, id, version, &draft).await })).await
    }

    /// A person links (`Some`) or unlinks (`None`) a patient; audited, wins over every rule, and wakes what was held.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn link_by_person(
        &self,
        now: Timestamp,
        id: PatientId,
        ehr_id: Option<EhrId>,
        actor: &str,
    ) -> Result<Result<Patient, PatientRefused>> {
        if self.key_if_any().await?.is_none() {
            return Ok(Err(PatientRefused::Unknown));
        }
        let (ward, actor) = (self.ward(now).await?, actor.to_owned());
        self.inner
            .db
            .write(move |tx| Box::pin(async move { write::link_by_person(tx, &ward, now, id, ehr_id.as_ref(), &actor).await }))
            .await
    }
}

macro_rules! patients_where {
    ($rest:literal) => {
        concat!(
            "SELECT id, version, sealed_draft, link_state, ehr_patient_id, link_generation, link_by, link_at, link_problem, \
             sealed_candidates, verified_at, ehr_version, last_sync_at, created_at, updated_at, \
             (SELECT s.delivered_at FROM streams s WHERE s.tenant_id = patients.tenant_id AND s.patient_id = patients.id) AS delivered_at FROM patients WHERE tenant_id = $1 ",
            $rest
        )
    };
}
const LIST: &str = patients_where!("AND id < $2 ORDER BY id DESC LIMIT $3");
const BY_ID: &str = patients_where!("AND id = $2");
const BY_CPF: &str = patients_where!("AND cpf_hmac = $2");
const BY_CNS: &str = patients_where!("AND cns_hmac = $2");
const BY_EXTERNAL: &str = patients_where!("AND external_hmac = $2");
const BY_EHR: &str = patients_where!("AND ehr_patient_id = $2 AND link_generation = $3 AND link_state = 'linked' ORDER BY id DESC LIMIT 1");

/// One patient, its link as of this generation.
pub(crate) async fn load(tx: &mut Tx, tenant: &TenantId, key: &DataKey, generation: i64, id: PatientId) -> Result<Option<Patient>> {
    tx.row(Sql::from(BY_ID), args![tenant, id]).await?.map(|row| read(&row, key, generation)).transpose()
}

fn read(row: &Row, key: &DataKey, generation: i64) -> Result<Patient> {
    let (id, version) = (PatientId(row.uuid("id")?), row.int("version")?);
    Ok(Patient {
        id,
        version,
        draft: key.open_json("patients", "sealed_draft", format_args!("{id}/{version}"), &row.bytes("sealed_draft")?)?,
        link: link::read_link(row, key, id, generation)?,
        last_sync_at: row.ts_opt("last_sync_at")?.max(row.ts_opt("delivered_at")?),
        created_at: row.ts("created_at")?,
        updated_at: row.ts("updated_at")?,
    })
}
