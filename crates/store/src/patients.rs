//! Patients and their links.

use crate::{Page, PageRequest, Result, Tenant};
use model::{Cns, Cpf, EhrId, Patient, PatientDraft, PatientId, Timestamp};

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
    pub async fn create_patient(
        &self, now: Timestamp, new: NewPatient, idempotency: Option<&crate::idempotency::Key>,
    ) -> Result<Result<crate::idempotency::Once<Patient>, PatientRefused>> {
        let _ = (now, new, idempotency);
        todo!()
    }

    /// One patient.
    pub async fn patient(&self, id: PatientId) -> Result<Option<Patient>> {
        let _ = id;
        todo!()
    }

    /// All patients, newest first.
    pub async fn patients(&self, page: &PageRequest) -> Result<Page<Patient>> {
        let _ = page;
        todo!()
    }

    /// The patient with this key.
    pub async fn find_patient(&self, key: &PatientKey) -> Result<Option<Patient>> {
        let _ = key;
        todo!()
    }

    /// A new version of a patient, if `version` is still the current one. If Ponte created the EHR's Patient, the update
    /// is a delivery. A change of CPF or CNS drops an automatic link that rested on the old one, and a delivery of the
    /// Patient looks again (CODES-AND-BRAZIL §9).
    pub async fn update_patient(
        &self, now: Timestamp, id: PatientId, version: i64, draft: PatientDraft,
    ) -> Result<Result<Patient, PatientRefused>> {
        let _ = (now, id, version, draft);
        todo!()
    }

    /// A person links (`Some`) or unlinks (`None`) a patient; audited, wins over every rule, and wakes what was held.
    pub async fn link_by_person(&self, now: Timestamp, id: PatientId, ehr_id: Option<EhrId>, actor: &str) -> Result<Result<Patient, PatientRefused>> {
        let _ = (now, id, ehr_id, actor);
        todo!()
    }
}
