//! What the store's tests share: stores on fresh databases of both engines, and a few inhabitants.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its own part, and one that cannot go on has to end")]

use model::{Cns, Connection, Cpf, Decimal, ObservationDraft, PatientDraft, PatientId, Rng, TenantId, Timestamp, Value};
use ponte_store as store;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::patients::NewPatient;
use store::{KeyRing, Store, Tenant};
use testing::Database;

pub const NOW: Timestamp = Timestamp(1_764_000_000_000);

/// Repeatable chance (splitmix64), unlike from store to store.
pub struct Chance(AtomicU64);

impl Chance {
    pub fn seeded(seed: u64) -> Arc<dyn Rng> {
        Arc::new(Self(AtomicU64::new(seed)))
    }
}

impl Rng for Chance {
    fn next_u64(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

pub const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const OTHER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

pub async fn open(url: &str, key: &str, seed: u64) -> Store {
    Store::open(url, KeyRing::parse(key).unwrap(), Chance::seeded(seed)).await.unwrap()
}

/// A migrated store on each engine.
pub async fn stores() -> Vec<(Database, Store)> {
    let mut stores = Vec::new();
    for database in testing::databases().await {
        let store = open(database.url(), KEY, 7).await;
        store.migrate().await.unwrap();
        stores.push((database, store));
    }
    stores
}

pub fn tenant(store: &Store, name: &str) -> Tenant {
    store.tenant(&TenantId::new(name).unwrap())
}

pub fn person(name: &str) -> PatientDraft {
    PatientDraft {
        name: name.to_owned(),
        birth_date: "1970-01-02".to_owned(),
        gender: None,
        phone: None,
        email: None,
        cpf: None,
        cns: None,
        external_id: None,
    }
}

pub fn with_cpf(name: &str, cpf: &str) -> PatientDraft {
    PatientDraft { cpf: Some(Cpf::parse(cpf).unwrap()), ..person(name) }
}

pub fn with_cns(name: &str, cns: &str) -> PatientDraft {
    PatientDraft { cns: Some(Cns::parse(cns).unwrap()), ..person(name) }
}

pub fn unlinked(draft: PatientDraft) -> NewPatient {
    NewPatient { draft, link: None }
}

pub async fn patient(tenant: &Tenant, draft: PatientDraft) -> PatientId {
    match tenant.create_patient(NOW, unlinked(draft), None).await.unwrap().unwrap() {
        store::idempotency::Once::Done(patient) => patient.id,
        other => panic!("not made: {other:?}"),
    }
}

pub fn reading(patient: PatientId, code: &str, value: &str) -> ObservationDraft {
    ObservationDraft {
        patient_id: patient,
        code: Some(code.to_owned()),
        code_system: Some("http://loinc.org".to_owned()),
        display: Some("Pain severity".to_owned()),
        effective: Some("2026-11-25T00:55:59-03:00".to_owned()),
        value: Some(Value::Quantity { value: Decimal::parse(value).unwrap(), unit: Some("{score}".to_owned()) }),
        status: "final".to_owned(),
        message_id: None,
        external_id: None,
    }
}

pub async fn observation(tenant: &Tenant, draft: ObservationDraft) -> model::Observation {
    match tenant.create_observations(NOW, vec![(draft, None)], None).await.unwrap() {
        store::idempotency::Once::Done(accepted) => match accepted.into_iter().next() {
            Some(store::Accepted::Stored(observation)) => *observation,
            other => panic!("not stored: {other:?}"),
        },
        other => panic!("not done: {other:?}"),
    }
}

/// A connection as a body of the API builds it.
pub fn built(body: serde_json::Value, before: Option<&Connection>) -> model::connection::Built {
    Connection::build(body.as_object().unwrap(), before).unwrap()
}

pub fn realtime(base_url: &str) -> model::connection::Built {
    built(
        serde_json::json!({
            "enabled": true, "baseUrl": base_url, "authType": "basic",
            "authConfig": {"username": "ponte", "password": "geheim"}, "syncFrequency": "realtime"
        }),
        None,
    )
}
