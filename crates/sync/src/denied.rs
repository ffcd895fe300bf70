//! 403s in a row at one tenant's EHR: one concerns a patient, three patients in a row the connection (PRODUCT, outcome table).

use model::{PatientId, TenantId};
use std::collections::HashMap;
use std::sync::Mutex;

/// Patients that were denied since the last success.
#[derive(Debug, Default)]
pub(crate) struct Denied {
    in_a_row: Mutex<HashMap<TenantId, Vec<PatientId>>>,
}

impl Denied {
    /// Notes a denial; true when it is the third patient in a row.
    pub(crate) fn note(&self, tenant: &TenantId, patient: PatientId) -> bool {
        let mut all = self.in_a_row.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let patients = all.entry(tenant.clone()).or_default();
        if !patients.contains(&patient) {
            patients.push(patient);
        }
        patients.len() >= 3
    }

    /// Something was allowed.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.in_a_row.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(tenant);
    }
}
