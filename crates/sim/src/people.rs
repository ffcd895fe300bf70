//! The platform and the hospital's people at one tenant: they register, observe, correct, withdraw, pull, link, replay.

use model::{
    Cpf, Decimal, EhrId, Observation, ObservationDraft, ObservationId, PatientDraft, PatientId, State, TenantId, Value, WhoseMove,
};
use sandbox::{Profile, Sandbox};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::idempotency::Once;
use store::{Accepted, DeliveryFilter, NewPatient, PageRequest, Store, Tenant};
use testing::{Dice, Hand};

/// The identifier system of our observations.
pub const SYSTEM: &str = "urn:ponte:observation";

/// One accepted version, in the order of acceptance.
#[derive(Debug, Clone)]
pub struct Taken {
    pub id: ObservationId,
    pub patient: PatientId,
    pub version: i64,
}

/// What people do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    Observe,
    Correct,
    Withdraw,
    AskForAPull,
    HospitalWrites,
    HospitalSavesOursAgain,
    HospitalDeletes,
    HospitalMerges,
    ConfirmMerges,
    Configure,
    Replay,
    Sweep,
    Register,
    Relink,
}

/// How often each, of two hundred.
pub const ACTS: &[(Act, u64)] = &[
    (Act::Observe, 100),
    (Act::Correct, 36),
    (Act::Withdraw, 8),
    (Act::AskForAPull, 16),
    (Act::HospitalWrites, 10),
    (Act::HospitalSavesOursAgain, 6),
    (Act::HospitalDeletes, 4),
    (Act::HospitalMerges, 1),
    (Act::ConfirmMerges, 2),
    (Act::Configure, 6),
    (Act::Replay, 6),
    (Act::Sweep, 3),
    (Act::Register, 1),
    (Act::Relink, 1),
];

/// A tenant and its EHR.
pub struct Ward {
    pub tenant: Tenant,
    pub host: String,
    pub profile: Profile,
    pub sandbox: Sandbox,
    pub patients: Vec<PatientId>,
    pub taken: Vec<Taken>,
    /// A person sent these again, out of the order.
    pub replayed: BTreeSet<ObservationId>,
    /// A person gave these another Patient.
    pub relinked: BTreeSet<PatientId>,
    /// The hospital has merged these, and no person has confirmed it yet: the surviving records.
    merged: BTreeMap<PatientId, EhrId>,
    /// What was done, and how often.
    pub done: BTreeMap<Act, u64>,
    hand: Hand,
    dice: Arc<Dice>,
    serial: u64,
}

impl Ward {
    pub async fn open(store: &Store, at: usize, profile: Profile, sandbox: Sandbox, hand: &Hand, dice: &Arc<Dice>) -> Self {
        let tenant = store.tenant(&TenantId::new(format!("ward-{at}")).unwrap());
        let mut ward = Self {
            tenant,
            host: host(at),
            profile,
            sandbox,
            patients: Vec::new(),
            taken: Vec::new(),
            replayed: BTreeSet::new(),
            relinked: BTreeSet::new(),
            merged: BTreeMap::new(),
            done: BTreeMap::new(),
            hand: hand.clone(),
            dice: dice.clone(),
            serial: u64::try_from(at).unwrap() * 10_000,
        };
        ward.configure(json!({
            "enabled": true, "baseUrl": format!("http://{}/fhir", ward.host), "authType": "oauth2",
            "authConfig": {"clientId": "ponte", "clientSecret": "s", "tokenUrl": format!("http://{}/oauth/token", ward.host), "scope": "system/*.cruds"},
            "syncFrequency": "realtime", "maxRetries": 6, "initialDelay": 1000, "maxDelay": 60000, "backoffMultiplier": 2.0,
            "requestTimeout": 10000, "settleTime": 60000,
        }))
        .await;
        for _ in 0..3 + dice.below(4) {
            ward.register().await;
        }
        ward
    }

    async fn configure(&self, body: serde_json::Value) {
        let before = self.tenant.connection().await.unwrap();
        let built = model::Connection::build(body.as_object().unwrap(), before.as_ref().map(|s| s.connection.as_ref())).unwrap();
        let stored = self.tenant.put_connection(self.hand.now(), &built, before.map(|s| s.revision), "admin").await.unwrap();
        assert!(stored.is_some(), "the configuration was changed by somebody else");
    }

    async fn register(&mut self) {
        self.serial += 1;
        let n = self.serial;
        let draft = PatientDraft {
            name: format!("Maria Aparecida {n}"),
            birth_date: format!("19{:02}-0{}-1{}", 40 + n % 50, 1 + n % 9, n % 9),
            gender: None,
            phone: None,
            email: None,
            cpf: Some(Cpf::beginning_with(&(123_000_000 + n * 7).to_string()).unwrap()),
            cns: None,
            external_id: None,
        };
        let once = self.tenant.create_patient(self.hand.now(), NewPatient { draft, link: None }, None).await.unwrap().unwrap();
        let Once::Done(patient) = once else { panic!("the patient was not accepted") };
        self.patients.push(patient.id);
    }

    /// Somebody does something.
    pub async fn act(&mut self, fleet: &Store) {
        let mut drawn = self.dice.below(ACTS.iter().map(|(_, weight)| weight).sum());
        let act = ACTS.iter().find(|(_, weight)| drawn.checked_sub(*weight).map(|rest| drawn = rest).is_none());
        let Some((act, _)) = act else { return };
        *self.done.entry(*act).or_default() += 1;
        match act {
            Act::Observe => self.observe().await,
            Act::Correct => self.correct().await,
            Act::Withdraw => self.withdraw().await,
            Act::AskForAPull => self.ask_for_a_pull().await,
            Act::HospitalWrites => self.hospital_writes().await,
            Act::HospitalSavesOursAgain => self.hospital_saves_ours_again().await,
            Act::HospitalDeletes => self.hospital_deletes(),
            Act::HospitalMerges => self.hospital_merges().await,
            Act::ConfirmMerges => self.confirm_merges().await,
            Act::Configure => self.configure(json!({"maxRetries": self.dice.between(3, 9)})).await,
            Act::Replay => self.replay(false).await,
            Act::Sweep => drop(fleet.fleet().sweep(self.hand.now(), false).await.unwrap()),
            Act::Register => self.register().await,
            Act::Relink => self.relink().await,
        }
    }

    async fn observe(&mut self) {
        let drafts: Vec<_> = (0..=self.dice.below(8)).map(|_| (self.draft(), None)).collect();
        let patients: Vec<_> = drafts.iter().map(|(draft, _): &(ObservationDraft, _)| draft.patient_id).collect();
        let once = self.tenant.create_observations(self.hand.now(), drafts, None).await.unwrap();
        let Once::Done(accepted) = once else { panic!("not accepted") };
        for (accepted, patient) in accepted.into_iter().zip(patients) {
            let Accepted::Stored(observation) = accepted else { panic!("the patient is unknown") };
            self.taken.push(Taken { id: observation.id, patient, version: observation.version });
        }
    }

    fn draft(&self) -> ObservationDraft {
        ObservationDraft {
            patient_id: *self.dice.one_of(&self.patients),
            code: Some("72514-3".to_owned()),
            code_system: Some("http://loinc.org".to_owned()),
            display: Some("Dor".to_owned()),
            effective: Some("2026-11-20T08:15:30-03:00".to_owned()),
            value: Some(self.score()),
            status: "final".to_owned(),
            message_id: None,
            external_id: None,
        }
    }

    fn score(&self) -> Value {
        Value::Quantity { value: Decimal::parse(&self.dice.below(11).to_string()).unwrap(), unit: Some("{score}".to_owned()) }
    }

    pub async fn observation(&self, id: ObservationId) -> Observation {
        self.tenant.observation(self.hand.now(), id).await.unwrap().unwrap()
    }

    async fn one(&self) -> Option<Observation> {
        if self.taken.is_empty() {
            return None;
        }
        let here = self.observation(self.dice.one_of(&self.taken).id).await;
        (here.draft.status != "entered-in-error").then_some(here)
    }

    async fn correct(&mut self) {
        let Some(here) = self.one().await else { return };
        let draft = ObservationDraft { status: "corrected".to_owned(), value: Some(self.score()), ..here.draft };
        let patient = draft.patient_id;
        if let Some(updated) = self.tenant.update_observation(self.hand.now(), here.id, here.version, draft, None).await.unwrap()
            && updated.version > here.version
        {
            self.taken.push(Taken { id: here.id, patient, version: updated.version });
        }
    }

    async fn withdraw(&mut self) {
        let Some(here) = self.one().await else { return };
        if self.tenant.withdraw_observation(self.hand.now(), here.id).await.unwrap() {
            let version = self.observation(here.id).await.version;
            self.taken.push(Taken { id: here.id, patient: here.draft.patient_id, version });
        }
    }

    async fn ask_for_a_pull(&self) {
        self.tenant.request_pull(self.hand.now(), *self.dice.one_of(&self.patients)).await.unwrap();
    }

    /// The EHR's id of a patient who is linked.
    pub async fn linked(&self, patient: PatientId) -> Option<EhrId> {
        let link = self.tenant.patient(patient).await.unwrap().unwrap().link;
        link.ehr_id.filter(|_| link.state == model::LinkState::Linked)
    }

    async fn hospital_writes(&mut self) {
        let Some(at) = self.linked(*self.dice.one_of(&self.patients)).await else { return };
        let id = if self.dice.happens(0.3) { self.dice.index(40) } else { 40 + self.taken.len() };
        let row = json!({"resourceType": "Observation", "id": format!("h-{id}"), "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "subject": {"reference": format!("Patient/{at}")}, "effectiveDateTime": "2026-11-20T10:00:00-03:00",
            "valueQuantity": {"value": self.dice.between(50, 120), "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}});
        self.sandbox.put_resource(&row.to_string()).unwrap();
    }

    async fn hospital_saves_ours_again(&mut self) {
        let Some(here) = self.one().await else { return };
        let filter = DeliveryFilter { observation_id: Some(here.id), ..DeliveryFilter::default() };
        let page = PageRequest { limit: 50, before: None };
        let deliveries = self.tenant.deliveries(self.hand.now(), &filter, &page).await.unwrap().items;
        let rests = deliveries.iter().all(|one| matches!(one.state, State::Delivered | State::Superseded | State::Canceled));
        let there = self.sandbox.ledger();
        if let [held] = there.by_identifier(SYSTEM, &here.id.to_string())[..]
            && rests
            && there.late_pending == 0
        {
            let row = self.sandbox.resource("Observation", &held.id).unwrap();
            self.sandbox.put_resource(&row).unwrap();
        }
    }

    fn hospital_deletes(&self) {
        let id = format!("h-{}", self.dice.below(40));
        self.sandbox.delete("Observation", &id);
    }

    async fn relink(&mut self) {
        let patient = *self.dice.one_of(&self.patients);
        let (_, id) = self.sandbox.put_resource(&json!({"resourceType": "Patient", "active": true}).to_string()).unwrap();
        self.relinked.insert(patient);
        self.tenant.link_by_person(self.hand.now(), patient, Some(EhrId::new(id).unwrap()), "ana").await.unwrap().unwrap();
    }

    /// The hospital finds that two records are one person's: ours is replaced.
    async fn hospital_merges(&mut self) {
        let patient = *self.dice.one_of(&self.patients);
        let Some(at) = self.linked(patient).await else { return };
        let Some(row) = self.sandbox.resource("Patient", at.as_str()) else { return };
        let mut row: serde_json::Value = serde_json::from_str(&row).unwrap();
        let (_, survivor) = self.sandbox.put_resource(&json!({"resourceType": "Patient", "active": true}).to_string()).unwrap();
        row["active"] = json!(false);
        row["link"] = json!([{"other": {"reference": format!("Patient/{survivor}")}, "type": "replaced-by"}]);
        self.sandbox.put_resource(&row.to_string()).unwrap();
        self.relinked.insert(patient);
        self.merged.insert(patient, EhrId::new(survivor).unwrap());
    }

    /// A person links the survivors.
    pub async fn confirm_merges(&mut self) {
        for (patient, survivor) in std::mem::take(&mut self.merged) {
            self.tenant.link_by_person(self.hand.now(), patient, Some(survivor), "ana").await.unwrap().unwrap();
        }
    }

    /// What waits for a person is sent again; `all`: or only what is dead.
    pub async fn replay(&mut self, all: bool) {
        for delivery in self.waiting().await {
            let dead = delivery.state == State::Dead;
            if dead || (all && delivery.whose_move() == WhoseMove::You) {
                if let model::ResourceKey::Observation(id) = delivery.resource {
                    self.replayed.insert(id);
                }
                self.tenant.replay(self.hand.now(), delivery.id, "ana").await.unwrap();
            }
        }
    }

    pub fn now(&self) -> model::Timestamp {
        self.hand.now()
    }

    /// What is not at its end.
    pub async fn waiting(&self) -> Vec<model::Delivery> {
        let mut all = self.everything().await;
        all.retain(|one| !matches!(one.state, State::Delivered | State::Superseded | State::Canceled));
        all
    }

    /// Every delivery.
    pub async fn everything(&self) -> Vec<model::Delivery> {
        let mut all = Vec::new();
        let mut page = PageRequest { limit: 200, before: None };
        loop {
            let listed = self.tenant.deliveries(self.hand.now(), &DeliveryFilter::default(), &page).await.unwrap();
            all.extend(listed.items);
            page.before = listed.next;
            if page.before.is_none() {
                return all;
            }
        }
    }
}

/// The name under which a ward's EHR is found.
pub fn host(at: usize) -> String {
    format!("ehr-{at}.example")
}
