//! What the platform does meanwhile: observations in batches and alone, corrections, withdrawals, pulls, overlapping sweeps.

use crate::judge::Taken;
use crate::stage::Platform;
use model::Cpf;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The platform's work.
#[derive(Debug)]
pub struct Load {
    /// Who does it.
    pub tenants: Vec<Platform>,
    /// Every accepted version, in the order of acceptance.
    pub taken: Vec<Taken>,
    /// Every patient: whose, and its id.
    pub patients: Vec<(usize, String)>,
    ids: BTreeSet<String>,
    dice: StdRng,
    calls: usize,
}

impl Load {
    /// Registers so many patients of each tenant.
    ///
    /// # Panics
    /// When the API answers what it never should.
    pub async fn begin(tenants: Vec<Platform>, patients_each: u64, seed: u64) -> Self {
        let mut patients = Vec::new();
        for (at, tenant) in tenants.iter().enumerate() {
            for n in 0..patients_each {
                let body = json!({"name": format!("Paciente Sintético {n}"), "birthDate": "1960-02-03", "cpf": cpf(seed % 1000 * 1000 + at as u64 * patients_each + n)});
                let (status, answer) = tenant.post("/patients", &body, &format!("patient-{n}")).await;
                assert_eq!(status, 201, "{answer}");
                patients.push((at, answer["id"].as_str().unwrap().to_owned()));
            }
        }
        Self { tenants, taken: Vec::new(), patients, ids: BTreeSet::new(), dice: StdRng::seed_from_u64(seed), calls: 0 }
    }

    /// So many observations were accepted.
    #[must_use]
    pub fn taken_now(&self) -> usize {
        self.ids.len()
    }

    fn key(&mut self, what: &str) -> String {
        self.calls += 1;
        format!("{what}-{}", self.calls)
    }

    fn patient(&mut self) -> (usize, String) {
        self.patients[self.dice.random_range(0..self.patients.len())].clone()
    }

    /// A batch of new ones, and now and then something else; never more than `most` in all.
    ///
    /// # Panics
    /// When the API answers what it never should.
    pub async fn some(&mut self, most: usize) {
        let size = if self.dice.random_bool(0.3) { 1 } else { self.dice.random_range(2..40) }.min(most - self.taken_now());
        let (at, _) = self.patient();
        let body: Vec<Value> = (0..size)
            .map(|k| {
                let theirs = self.patients.len() / self.tenants.len();
                let patient = &self.patients[at * theirs + self.dice.random_range(0..theirs)].1;
                if k % 3 == 0 {
                    let weight: Value = serde_json::from_str("62.50").unwrap();
                    return json!({"patientId": patient, "code": "29463-7", "display": "Body weight",
                        "effectiveDateTime": "2026-11-25T08:30:00-03:00", "valueQuantity": weight, "unit": "kg"});
                }
                json!({"patientId": patient, "code": "72514-3", "display": "Pain severity",
                    "effectiveDateTime": "2026-11-25T08:30:00-03:00", "valueQuantity": (self.calls + k) % 11, "unit": "{score}"})
            })
            .collect();
        let key = self.key("batch");
        let (status, answer) = self.tenants[at].post("/observations/batch", &json!({"observations": body}), &key).await;
        assert_eq!(status, 207, "{answer}");
        for item in answer["items"].as_array().unwrap() {
            let one = Taken::of(at, &item["observation"]);
            self.ids.insert(one.id.clone());
            self.taken.push(one);
        }
        if self.dice.random_bool(0.2) {
            self.change(Method::PATCH).await;
        }
        if self.dice.random_bool(0.05) {
            self.change(Method::DELETE).await;
        }
        if self.dice.random_bool(0.2) {
            drop(self.pull());
        }
        if self.dice.random_bool(0.1) {
            let tenant = &self.tenants[at];
            tokio::join!(tenant.sync_all(), tenant.sync_all());
        }
    }

    /// More of everything.
    ///
    /// # Panics
    /// When the API answers what it never should.
    pub async fn more(&mut self) {
        // The last pull sets the pace: the EHR is asked while it is written to, not buried.
        let pulls: Vec<_> = (0..4).map(|_| self.pull()).collect();
        for pull in pulls {
            let _ = tokio::time::timeout(Duration::from_secs(2), pull).await;
        }
        for _ in 0..5 {
            self.change(Method::PATCH).await;
        }
        self.some(usize::MAX).await;
    }

    /// Somebody else's calls were accepted too.
    pub fn adopt(&mut self, taken: &[Taken]) {
        self.ids.extend(taken.iter().map(|one| one.id.clone()));
        self.taken.extend_from_slice(taken);
    }

    /// One of those that were accepted.
    pub fn one(&mut self) -> Taken {
        self.taken[self.dice.random_range(0..self.taken.len())].clone()
    }

    async fn change(&mut self, method: Method) {
        let one = self.one();
        self.change_one(method, &one).await;
    }

    /// Corrects (PATCH) or withdraws (DELETE) it.
    ///
    /// # Panics
    /// When the API answers what it never should.
    pub async fn change_one(&mut self, method: Method, one: &Taken) {
        let body = json!({"valueQuantity": self.dice.random_range(0..=10)});
        let body = (method == Method::PATCH).then_some(&body);
        let (tenant, path) = (&self.tenants[one.tenant], format!("/observations/{}", one.id));
        let (status, mut answer) = tenant.call(method, &path, body, None).await;
        assert!(matches!(status, 200 | 204 | 404 | 409), "{status} {answer}");
        if status == 204 {
            // A withdrawal is a version too, and is answered without it.
            answer = tenant.get(&path).await;
        }
        if matches!(status, 200 | 204) && answer["id"] == one.id.as_str() {
            let changed = Taken::of(one.tenant, &answer);
            // The value that it had already is no new version.
            if !self.taken.iter().any(|one| (&one.id, one.version) == (&changed.id, changed.version)) {
                self.taken.push(changed);
            }
        }
    }

    fn pull(&mut self) -> tokio::task::JoinHandle<()> {
        let (at, patient) = self.patient();
        let tenant = self.tenants[at].clone();
        tokio::spawn(async move { tenant.try_once(Method::POST, &format!("/fhir/patients/{patient}/pull"), &json!({})).await })
    }
}

/// The n-th CPF of a play, with its check digits.
fn cpf(n: u64) -> String {
    Cpf::beginning_with(&(100_000_000 + n * 79).to_string()).unwrap().digits().to_owned()
}
