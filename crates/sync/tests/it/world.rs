//! A world to play in: a database, an EHR on a port of its own, a clock that the test moves, one engine or two.
//!
//! Verbs are the users' words. Whatever is claimed is judged by the EHR's own ledger (`judge.rs`), never by our database alone.

use crate::gate::Gate;
use ehr::guard::{AllowLocal, Guard};
use ehr::transport::{HttpTransport, HttpTransportOptions, Transport};
use model::{
    Cpf, Decimal, Delivery, DeliveryId, Observation, ObservationDraft, ObservationId, Patient, PatientDraft, PatientId, TenantId,
    Timestamp, Value,
};
use ponte_sync::{Engine, Setup, Worked};
use sandbox::{Fault, FaultPlan, Options, Quirks, Sandbox, Script};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use store::idempotency::Once;
use store::{Accepted, DeliveryFilter, KeyRing, NewPatient, PageRequest, Store, Tenant};
pub use testing::{Dice, Hand};
use tokio::task::JoinHandle;

pub const SECOND: i64 = 1000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;
/// The settle time of every world's connection unless a test says otherwise.
pub const SETTLE: i64 = MINUTE;
/// How long a lane is leased.
pub const LEASE: i64 = MINUTE;

/// Time that begins now and is moved by the test alone.
fn a_clock() -> Hand {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Hand::at(Timestamp(i64::try_from(now.as_millis()).unwrap()))
}

/// An EHR that takes our own id (means 2).
pub fn own_id() -> Options {
    Options::default()
}

/// An EHR without update-as-create: conditional creates (means 3).
pub fn conditional() -> Options {
    lacking(&[Fault::NoUpdateCreate])
}

/// An EHR with neither: plain creates and questions (means 4).
pub fn bare() -> Options {
    lacking(&[Fault::NoUpdateCreate, Fault::NoConditionalCreate])
}

/// A well-behaved EHR but for what it always lacks.
pub fn lacking(always: &[Fault]) -> Options {
    let plain = Quirks::of(sandbox::Profile::Plain);
    Options { quirks: Some(Quirks { always: always.to_vec(), ..plain }), ..Options::default() }
}

/// The three means by name, for tests that hold for each.
pub fn every_means() -> [(&'static str, Options); 3] {
    [("own id", own_id()), ("conditional create", conditional()), ("plain create", bare())]
}

/// An EHR on a port of its own.
pub struct Ward {
    pub sandbox: Sandbox,
    pub base: String,
    server: JoinHandle<std::io::Result<()>>,
}

impl Ward {
    pub async fn open(options: Options, clock: &Hand) -> Self {
        let hand = clock.clone();
        let sandbox = Sandbox::new(Options { clock: Arc::new(move || hand.now().0), ..options });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/fhir", listener.local_addr().unwrap());
        let server = tokio::spawn(sandbox.clone().serve(listener));
        Self { sandbox, base, server }
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A node: an engine with its own line to the EHRs.
pub struct Node {
    pub engine: Arc<Engine>,
    pub gate: Arc<Gate>,
}

impl Node {
    pub fn on(store: Store, clock: &Hand, seed: u64) -> Self {
        let options = HttpTransportOptions { late_ms: 5_000, ..HttpTransportOptions::new(Guard::new(AllowLocal::All)) };
        let gate = Gate::new(Arc::new(HttpTransport::new(options).unwrap()), clock.clone());
        let transport: Arc<dyn Transport> = gate.clone();
        let setup = Setup { store, transport, http: None, clock: Arc::new(clock.clone()), rng: Dice::new(seed), lease_ms: LEASE };
        Self { engine: Engine::new(setup), gate }
    }

    /// One claim, worked.
    pub async fn step(&self) -> Worked {
        self.engine.work_once().await.unwrap()
    }

    /// One claim, worked beside the test, so that it can be frozen or killed.
    pub fn step_aside(&self) -> JoinHandle<()> {
        let engine = self.engine.clone();
        tokio::spawn(async move {
            // A fenced or killed worker may meet anything; what counts is what the EHR holds.
            let _ = engine.work_once().await;
        })
    }
}

pub struct World {
    pub db: testing::Database,
    pub store: Store,
    pub tenant: Tenant,
    pub clock: Hand,
    pub ward: Ward,
    pub node: Node,
    pub dice: Arc<Dice>,
    pub seed: u64,
    /// What was observed, in order.
    pub observed: Mutex<Vec<(ObservationId, PatientId)>>,
    /// A hospital, or a test, wrote under our identifier by hand: versions there may go any way.
    pub order_not_judged: bool,
    serial: AtomicU64,
}

/// Plays a scenario on each database that is to be had, and judges what it left at the EHR.
pub async fn on_each(options: Options, scenario: impl AsyncFn(&mut World)) {
    for db in testing::databases().await {
        let mut world = World::begin(db, options.clone(), json!({})).await;
        scenario(&mut world).await;
        world.judge().await;
    }
}

/// The same with other settings of the connection.
pub async fn on_each_with(options: Options, settings: serde_json::Value, scenario: impl AsyncFn(&mut World)) {
    for db in testing::databases().await {
        let mut world = World::begin(db, options.clone(), settings.clone()).await;
        scenario(&mut world).await;
        world.judge().await;
    }
}

/// The keys of every test's installation.
pub fn keys() -> KeyRing {
    KeyRing::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

impl World {
    pub async fn begin(db: testing::Database, options: Options, settings: serde_json::Value) -> Self {
        let seed = std::env::var("PONTE_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7);
        println!("database {}, seed {seed} (PONTE_TEST_SEED)", db.url().split(':').next().unwrap_or_default());
        let clock = a_clock();
        let dice = Dice::new(seed);
        let store = Store::open(db.url(), keys(), dice.clone()).await.unwrap();
        store.migrate().await.unwrap();
        store.come_home(clock.now()).await.unwrap();
        let ward = Ward::open(Options { seed, ..options }, &clock).await;
        let tenant = store.tenant(&TenantId::new("santa-casa").unwrap());
        let node = Node::on(store.clone(), &clock, seed + 1);
        let world = Self {
            db,
            tenant,
            clock,
            ward,
            node,
            dice,
            seed,
            observed: Mutex::default(),
            order_not_judged: false,
            serial: AtomicU64::new(1),
            store,
        };
        world.configure(&world.tenant, &world.ward.base, settings).await;
        world
    }

    /// Sets or changes a connection.
    pub async fn configure(&self, tenant: &Tenant, base: &str, settings: serde_json::Value) {
        let before = tenant.connection().await.unwrap();
        let mut body = json!({"baseUrl": base});
        if before.is_none() {
            body = json!({
                "enabled": true, "baseUrl": base, "authType": "apikey", "authConfig": {"apiKey": "k"}, "syncFrequency": "realtime",
                "maxRetries": 4, "initialDelay": 1000, "maxDelay": 30000, "backoffMultiplier": 2.0,
                "requestTimeout": 10000, "settleTime": SETTLE,
            });
        }
        for (key, value) in settings.as_object().unwrap() {
            body[key] = value.clone();
        }
        let built = model::Connection::build(body.as_object().unwrap(), before.as_ref().map(|s| s.connection.as_ref())).unwrap();
        let stored = tenant.put_connection(self.clock.now(), &built, before.map(|s| s.revision), "admin").await.unwrap();
        assert!(stored.is_some(), "the configuration was changed by somebody else");
    }

    /// A second node on the same database.
    pub async fn second_node(&self) -> Node {
        let store = Store::open(self.db.url(), keys(), Dice::new(self.seed + 77)).await.unwrap();
        Node::on(store, &self.clock, self.seed + 78)
    }

    // People.

    pub fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::SeqCst)
    }

    /// Somebody with a CPF whom the EHR does not know.
    pub fn somebody(&self) -> PatientDraft {
        let n = self.next_serial();
        PatientDraft {
            name: format!("Maria Aparecida {}", ["Souza", "Lima", "Alves", "Rocha"][usize::try_from(n % 4).unwrap()]),
            birth_date: format!("19{:02}-0{}-1{}", 40 + n % 50, 1 + n % 9, n % 9),
            gender: Some(model::patient::Gender::Female),
            phone: None,
            email: None,
            cpf: Some(cpf(n)),
            cns: None,
            external_id: None,
        }
    }

    pub async fn accept(&self, draft: PatientDraft) -> PatientId {
        match self.tenant.create_patient(self.clock.now(), NewPatient { draft, link: None }, None).await.unwrap().unwrap() {
            Once::Done(patient) => patient.id,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// A patient whom the EHR does not know yet.
    pub async fn patient(&self) -> PatientId {
        self.accept(self.somebody()).await
    }

    /// A patient who is linked, at an EHR whose means are proven: one observation of theirs is there already.
    pub async fn known_patient(&self) -> PatientId {
        let patient = self.patient().await;
        let first = self.observe(patient, "1").await;
        self.settle_down().await;
        assert_eq!(self.at_ehr(first).len(), 1, "the first observation did not arrive: {:?}", self.delivery(first).await);
        patient
    }

    /// Several of them, in lanes that share batches.
    pub async fn known_patients(&self, n: usize) -> Vec<PatientId> {
        let mut all = vec![self.known_patient().await];
        while all.len() < n {
            let patient = self.patient().await;
            self.observe(patient, "1").await;
            all.push(patient);
        }
        self.settle_down().await;
        for patient in &all {
            self.ehr_id(*patient).await;
        }
        all
    }

    pub async fn as_we_know(&self, patient: PatientId) -> Patient {
        self.tenant.patient(patient).await.unwrap().unwrap()
    }

    /// The EHR's id of a linked patient.
    pub async fn ehr_id(&self, patient: PatientId) -> String {
        self.as_we_know(patient).await.link.ehr_id.expect("the patient is not linked").to_string()
    }

    // Observations.

    /// What was observed so far, in order.
    pub fn all_observed(&self) -> Vec<(ObservationId, PatientId)> {
        self.observed.lock().unwrap().clone()
    }

    /// A pain score from 0 to 10, or any number.
    pub async fn observe(&self, patient: PatientId, score: &str) -> ObservationId {
        self.observe_for(&self.tenant, patient, score).await
    }

    pub async fn observe_for(&self, tenant: &Tenant, patient: PatientId, score: &str) -> ObservationId {
        self.accept_observation(tenant, draft(patient, score)).await
    }

    pub async fn accept_observation(&self, tenant: &Tenant, draft: ObservationDraft) -> ObservationId {
        let patient = draft.patient_id;
        let once = tenant.create_observations(self.clock.now(), vec![(draft, None)], None).await.unwrap();
        let Once::Done(mut accepted) = once else { panic!("not accepted") };
        let Some(Accepted::Stored(observation)) = accepted.pop() else { panic!("the patient is unknown") };
        if tenant.id() == self.tenant.id() {
            self.observed.lock().unwrap().push((observation.id, patient));
        }
        observation.id
    }

    pub async fn observation(&self, id: ObservationId) -> Observation {
        self.tenant.observation(self.clock.now(), id).await.unwrap().unwrap()
    }

    pub async fn correct(&self, id: ObservationId, score: &str) {
        let now = self.observation(id).await;
        let draft = ObservationDraft { status: "corrected".to_owned(), value: Some(quantity(score, "{score}")), ..now.draft };
        let updated = self.tenant.update_observation(self.clock.now(), id, now.version, draft, None).await.unwrap();
        assert!(updated.is_some(), "somebody else changed it");
    }

    pub async fn withdraw(&self, id: ObservationId) {
        assert!(self.tenant.withdraw_observation(self.clock.now(), id).await.unwrap());
    }

    // The ledger.

    /// All deliveries of an observation, oldest first, with their attempts.
    pub async fn deliveries(&self, id: ObservationId) -> Vec<Delivery> {
        let filter = DeliveryFilter { observation_id: Some(id), ..DeliveryFilter::default() };
        self.listed(filter).await
    }

    pub async fn listed(&self, filter: DeliveryFilter) -> Vec<Delivery> {
        let mut all = Vec::new();
        let mut before = None;
        loop {
            let page = self.tenant.deliveries(self.clock.now(), &filter, &PageRequest { limit: 200, before }).await.unwrap();
            for brief in page.items {
                all.push(self.by_id(brief.id).await);
            }
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        all.sort_by_key(|delivery| (delivery.created_at, delivery.version));
        all
    }

    pub async fn by_id(&self, id: DeliveryId) -> Delivery {
        self.tenant.delivery(self.clock.now(), id).await.unwrap().unwrap()
    }

    /// The delivery of an observation's newest version.
    pub async fn delivery(&self, id: ObservationId) -> Delivery {
        self.deliveries(id).await.pop().expect("it has no delivery")
    }

    /// When a version of an observation first left this node for the EHR.
    #[track_caller]
    pub fn gate_time_of_version(&self, id: ObservationId, version: i64) -> Timestamp {
        let (id, mark) = (id.to_string(), format!("urn:ponte:version:{version}\""));
        let passed = self.node.gate.passed();
        let sent = passed.iter().filter(|p| p.method != http::Method::GET && String::from_utf8_lossy(&p.body).contains(&id));
        sent.filter(|p| String::from_utf8_lossy(&p.body).contains(&mark)).map(|p| p.at).min().expect("that version was never sent")
    }

    /// Waits until an answer that came after its deadline is kept with its attempt.
    pub async fn late_answer_of(&self, id: ObservationId) {
        let mut tries = 0;
        while !self.deliveries(id).await.iter().any(|d| d.attempts.iter().any(|a| a.late.is_some())) {
            tries += 1;
            assert!(tries < 2000, "the late answer was never kept");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Waits for something that happens beside the test.
    pub async fn until(&self, happened: impl Fn() -> bool) {
        let mut tries = 0;
        while !happened() {
            tries += 1;
            assert!(tries < 2000, "it never happened");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    // Time and work.

    /// Works until nothing is due for nine minutes, moving the clock from due moment to due moment and no further.
    pub async fn settle_down(&self) {
        let until = self.clock.now().plus_ms(9 * MINUTE);
        self.go_on_until(&[&self.node], until).await;
    }

    /// Works whatever is due now; the clock stands still.
    pub async fn work(&self) {
        self.work_on(&self.node).await;
    }

    pub async fn work_on(&self, node: &Node) {
        let mut turns = 0;
        while node.step().await == Worked::Something {
            turns += 1;
            assert!(turns < 400, "the engine works in a circle at one moment: {:?} {:?}", self.ehr().requests, node.gate.last(2));
        }
    }

    /// Works for so long by the test's clock.
    pub async fn go_on_for(&self, ms: i64) {
        self.go_on(&[&self.node], ms).await;
    }

    pub async fn go_on(&self, nodes: &[&Node], ms: i64) {
        let until = self.clock.now().plus_ms(ms);
        self.go_on_until(nodes, until).await;
        self.clock.to(until);
        self.ward.sandbox.settle_due();
    }

    async fn go_on_until(&self, nodes: &[&Node], until: Timestamp) {
        loop {
            for node in nodes {
                self.work_on(node).await;
            }
            let now = self.clock.now();
            let late = self.ward.sandbox.late_pending() > 0;
            let next = match self.store.fleet().next_due().await.unwrap() {
                // Due and not to be had now: somebody else holds it.
                Some(at) if at <= now => now.plus_ms(SECOND),
                Some(at) => at,
                None if late => now.plus_ms(SECOND),
                None => return,
            };
            let next = if late { next.min(now.plus_ms(5 * SECOND)) } else { next };
            if next > until {
                return;
            }
            self.clock.to(next);
        }
    }

    // The EHR's moods.

    /// From now on these faults, by scripts, rates or for good.
    pub fn faults(&self, plan: FaultPlan) {
        self.ward.sandbox.set_faults(plan);
    }

    /// The EHR is well again.
    pub fn well(&self) {
        self.faults(FaultPlan::none());
    }

    /// The next `times` requests with this method that carry this text meet a fault.
    pub fn next(&self, times: u32, fault: Fault, method: &str, part: impl ToString) {
        self.faults(FaultPlan::none().script(script(times, fault, method, part)));
    }

    pub fn late_commit_after(&self, ms: i64) {
        self.ward.sandbox.change_settings(|s| s.late_commit_ms = u64::try_from(ms).unwrap());
    }
}

pub fn script(times: u32, fault: Fault, method: &str, part: impl ToString) -> Script {
    Script { fault, next: times, method: Some(method.to_owned()), path: Some("/fhir".to_owned()), identifier: Some(part.to_string()) }
}

/// A pain score.
pub fn draft(patient: PatientId, score: &str) -> ObservationDraft {
    ObservationDraft {
        patient_id: patient,
        code: Some("72514-3".to_owned()),
        code_system: Some("http://loinc.org".to_owned()),
        display: Some("Dor".to_owned()),
        effective: Some("2026-11-20T08:15:30-03:00".to_owned()),
        value: Some(quantity(score, "{score}")),
        status: "final".to_owned(),
        message_id: None,
        external_id: None,
    }
}

pub fn quantity(number: &str, unit: &str) -> Value {
    Value::Quantity { value: Decimal::parse(number).unwrap(), unit: Some(unit.to_owned()) }
}

/// The n-th CPF of these tests, with its check digits.
pub fn cpf(n: u64) -> Cpf {
    Cpf::beginning_with(&(123_000_000 + n * 7).to_string()).unwrap()
}
