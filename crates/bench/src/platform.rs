//! The platform of one tenant: what it accepts over the store's own door where a million would take too long over HTTP, and the
//! calls of its API.

use crate::process::{KEY, SECRET, database};
use model::connection::Connection;
use model::{Decimal, EhrId, ObservationDraft, ObservationId, PatientDraft, PatientId, TenantId, Timestamp, Value as Reading};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use store::{KeyRing, NewPatient, Store};
use web::Role;

/// Observations in one transaction when a backlog is laid down.
const TOGETHER: usize = 200;

/// A patient of the platform and of the EHR.
#[derive(Debug, Clone)]
pub struct Patient {
    pub here: PatientId,
    pub there: EhrId,
}

/// An accepted observation, as the bare loop needs it.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub id: ObservationId,
    pub draft: ObservationDraft,
    pub at: Timestamp,
}

/// Now, by the wall.
pub fn now() -> Timestamp {
    Timestamp(i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap())
}

/// The store of this folder, brought up to date.
pub async fn store(folder: &Path) -> Store {
    let chance = testing::Dice::new(u64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() & 0xffff_ffff_ffff).unwrap());
    let store = Store::open(&database(folder), KeyRing::parse(KEY).unwrap(), chance).await.unwrap();
    store.migrate().await.unwrap();
    store
}

/// The configuration of a tenant, as its admin would write it, over this EHR.
pub fn config(ehr: &str) -> Value {
    json!({"enabled": true, "baseUrl": ehr, "authType": "basic", "authConfig": {"username": "ponte", "password": "bench"},
        "syncDirection": "push", "syncFrequency": "realtime"})
}

/// One tenant's data in a store.
#[derive(Clone)]
pub struct Ward {
    pub id: TenantId,
    tenant: store::Tenant,
}

impl Ward {
    /// A tenant with this configuration.
    pub async fn open(store: &Store, name: &str, config: &Value) -> Self {
        let id = TenantId::new(name).unwrap();
        let tenant = store.tenant(&id);
        let built = Connection::build(config.as_object().unwrap(), None).unwrap();
        tenant.put_connection(now(), &built, None, "bench").await.unwrap().unwrap();
        Self { id, tenant }
    }

    /// Patients that a person has linked to these of the EHR.
    pub async fn patients(&self, theirs: &[String]) -> Vec<Patient> {
        let mut all = Vec::with_capacity(theirs.len());
        for some in theirs.chunks(256) {
            let making = some.iter().map(|there| async move {
                let there = EhrId::new(there.clone()).unwrap();
                let draft = PatientDraft {
                    name: "Paciente Sintético".to_owned(),
                    birth_date: "1960-02-03".to_owned(),
                    gender: None,
                    phone: None,
                    email: None,
                    cpf: None,
                    cns: None,
                    external_id: Some(there.to_string()),
                };
                let new = NewPatient { draft, link: Some((there.clone(), "person:bench".to_owned())) };
                match self.tenant.create_patient(now(), new, None).await.unwrap().unwrap() {
                    store::idempotency::Once::Done(made) => Patient { here: made.id, there },
                    _ => unreachable!("nothing was made with a key"),
                }
            });
            all.extend(futures::future::join_all(making).await);
        }
        all
    }

    /// Accepts `n` observations, by turns of these patients.
    pub async fn accept(&self, patients: &[Patient], n: usize) -> Vec<Accepted> {
        let drafts: Vec<ObservationDraft> = (0..n).map(|k| draft(patients[k % patients.len()].here, k)).collect();
        let mut all = Vec::with_capacity(n);
        for some in drafts.chunks(TOGETHER * 4) {
            let taking = some.chunks(TOGETHER).map(|few| async move {
                let at = now();
                let asked = few.iter().map(|draft| (draft.clone(), None)).collect();
                match self.tenant.create_observations(at, asked, None).await.unwrap() {
                    store::idempotency::Once::Done(made) => (few, made, at),
                    _ => unreachable!("nothing was made with a key"),
                }
            });
            for (few, made, at) in futures::future::join_all(taking).await {
                for (draft, one) in few.iter().zip(made) {
                    let store::Accepted::Stored(one) = one else { unreachable!("the patients are here") };
                    all.push(Accepted { id: one.id, draft: draft.clone(), at });
                }
            }
        }
        all
    }
}

/// The k-th observation of a load: a pain score or a weight.
fn draft(patient_id: PatientId, k: usize) -> ObservationDraft {
    let (code, display, value, unit) = match k % 3 {
        0 => ("29463-7", "Body weight", format!("{}.50", 50 + k % 50), "kg"),
        _ => ("72514-3", "Pain severity", (k % 11).to_string(), "{score}"),
    };
    ObservationDraft {
        patient_id,
        code: Some(code.to_owned()),
        code_system: Some("http://loinc.org".to_owned()),
        display: Some(display.to_owned()),
        effective: Some("2026-11-25T08:30:00-03:00".to_owned()),
        value: Some(Reading::Quantity { value: Decimal::parse(&value).unwrap(), unit: Some(unit.to_owned()) }),
        status: "final".to_owned(),
        message_id: None,
        external_id: None,
    }
}

/// The same as a body of the API.
pub fn body(patient: PatientId, k: usize) -> Value {
    json!({"patientId": patient.to_string(), "code": "72514-3", "display": "Pain severity",
        "effectiveDateTime": "2026-11-25T08:30:00-03:00", "valueQuantity": k % 11, "unit": "{score}"})
}

/// The API, as one tenant's admin.
#[derive(Clone)]
pub struct Api {
    client: Client,
    base: String,
    token: String,
}

impl Api {
    /// Of the node at this URL.
    pub fn of(client: &Client, url: &str, tenant: &TenantId) -> Self {
        let token = web::sign_token(&SECRET.into(), tenant, Role::Admin, "bench", Duration::from_secs(86_400)).unwrap();
        Self { client: client.clone(), base: format!("{url}/api/v1"), token }
    }

    /// One call; its status and answer.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }

    /// Deliveries that are not at their end, and those that are delivered.
    pub async fn standing(&self) -> (i64, i64) {
        let (_, status) = self.call(Method::GET, "/fhir/status", None).await;
        let count = |word: &str| status["counts"][word].as_i64().unwrap_or_else(|| panic!("no {word}: {status}"));
        assert_eq!(count("dead") + count("held") + count("uncertain"), 0, "{status}");
        (count("pending") + count("in_flight") + count("retry_scheduled"), count("delivered"))
    }
}
