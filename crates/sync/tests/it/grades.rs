//! The write probe and the grade that it gives, held against what the sandbox really does; and that the grade is kept,
//! chooses the means, and is lowered by what ordinary writes show.

use crate::world::{MINUTE, World, keys, lacking, on_each};
use ehr::check::{CheckInput, Report, StepName, check};
use ehr::guard::{AllowLocal, Guard};
use ehr::transport::{HttpTransport, HttpTransportOptions};
use model::grade::{Basis, OutOfDate};
use model::{Connection, EhrId, Grade, MeansPlan, Proof, Seen, What};
use ponte_sync::{Engine, Setup};
use sandbox::{Fault, FaultPlan, Options, Profile, Quirks, Sandbox, Settings};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use store::Store;
use testing::{Dice, Hand};

const PATIENT: &str = "test-patient";

fn http() -> Arc<HttpTransport> {
    Arc::new(HttpTransport::new(HttpTransportOptions::new(Guard::new(AllowLocal::All))).unwrap())
}

/// A sandbox on a port of its own, with a test patient.
struct Bench {
    sandbox: Sandbox,
    base: String,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Bench {
    async fn open(options: Options) -> Self {
        let sandbox = Sandbox::new(options);
        sandbox.put_resource(&json!({"resourceType": "Patient", "id": PATIENT, "active": true}).to_string()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/fhir", listener.local_addr().unwrap());
        let server = tokio::spawn(sandbox.clone().serve(listener));
        Self { sandbox, base, server }
    }

    fn input(&self, settle_ms: i64) -> CheckInput {
        let body = json!({"baseUrl": self.base, "authType": "apikey", "authConfig": {"apiKey": "k"}, "settleTime": settle_ms});
        let connection = Connection::build(body.as_object().unwrap(), None).unwrap().connection;
        CheckInput {
            test_patient_id: Some(EhrId::new(PATIENT).unwrap()),
            write_probe: true,
            ..CheckInput::reading(connection, MeansPlan::default())
        }
    }

    /// Everything that the probe wrote and that is not withdrawn.
    fn left(&self) -> Vec<String> {
        let all = self.sandbox.ledger().resources.into_iter().filter(|held| held.resource_type == "Observation");
        let texts: Vec<String> = all.filter_map(|held| self.sandbox.resource("Observation", &held.id)).collect();
        texts.into_iter().filter(|text| !text.contains("entered-in-error")).collect()
    }
}

async fn run(input: CheckInput) -> Report {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let clock = Hand::at(model::Timestamp(i64::try_from(now).unwrap()));
    let dice = Dice::new(u64::try_from(now % 1_000_000).unwrap());
    check(http(), Arc::new(clock), dice.as_ref(), input, &mut |_| {}).await
}

fn seen(report: &Report, what: What) -> Seen {
    report.plan.probe.as_ref().map_or(Seen::NotTried, |probe| probe.seen(what))
}

fn probe_step(report: &Report) -> Value {
    let steps = report.to_json();
    steps["steps"].as_array().unwrap().iter().find(|step| step["step"] == StepName::WriteProbe.word()).unwrap().clone()
}

/// So wide a gap between look-up and insert that requests sent at once meet in it on a busy machine too.
fn wide_gap() -> Settings {
    Settings { race_delay_ms: 100, ..Settings::default() }
}

fn like(profile: Profile) -> Options {
    Options { profile, settings: wide_gap(), ..Options::default() }
}

fn lagging(ms: u64, always: &[Fault]) -> Options {
    Options { settings: Settings { search_lag_ms: ms, ..Settings::default() }, ..lacking(always) }
}

fn deaf() -> Options {
    let plain = Quirks::of(Profile::Plain);
    Options { quirks: Some(Quirks { if_none_match_honoured: false, ..plain }), ..Options::default() }
}

/// Settle time of the connections here, ms: longer than any lag that is to be found.
const SETTLE: i64 = 3_000;

/// An EHR, the settle time, and what the probe has to say of it.
type Row = (&'static str, Options, i64, Grade, Vec<(What, Seen)>);

#[tokio::test]
async fn the_grade_is_what_the_ehr_really_does() {
    use Fault as F;
    use Seen::{NotSeen, NotTried, Proven, Refused};
    let only_search = [F::NoUpdateCreate, F::NoConditionalCreate];
    let with = |fault: Fault| [&only_search[..], &[fault]].concat();
    let table: Vec<Row> = vec![
        (
            "plain",
            like(Profile::Plain),
            SETTLE,
            Grade::Lock,
            vec![
                (What::OwnId, Proven),
                (What::IfNoneMatch, Proven),
                (What::IfNoneMatchInBatch, Proven),
                (What::ConditionalTwice, Proven),
                (What::ConditionalParallel, NotSeen),
                (What::IfMatch, Proven),
                (What::IfMatchInBatch, Proven),
                (What::IfMatchStrong, Proven),
                (What::VersionMark, Proven),
                (What::IdentifierKept, Proven),
                (What::Digits, Proven),
                (What::ReadAfterWrite, Proven),
                (What::SearchFinds, Proven),
                (What::IdentifierObeyed, Proven),
                (What::UnknownParameter, Proven),
                (What::Batch, Proven),
            ],
        ),
        (
            "epic",
            like(Profile::Epic),
            SETTLE,
            Grade::Search,
            vec![(What::OwnId, Refused), (What::ConditionalTwice, Refused), (What::Batch, Refused), (What::SearchFinds, Proven)],
        ),
        (
            "hapi",
            like(Profile::Hapi),
            SETTLE,
            Grade::OwnId,
            vec![
                (What::IfNoneMatch, Refused),
                (What::IfNoneMatchInBatch, Refused),
                (What::ConditionalTwice, NotSeen),
                (What::ConditionalParallel, Refused),
            ],
        ),
        ("helios", like(Profile::Helios), SETTLE, Grade::OwnId, vec![(What::ConditionalParallel, Refused), (What::Digits, Proven)]),
        (
            "medplum",
            like(Profile::Medplum),
            SETTLE,
            Grade::Conditional,
            vec![(What::OwnId, Refused), (What::ConditionalParallel, NotSeen), (What::Digits, Refused), (What::IfNoneMatch, NotTried)],
        ),
        (
            "medplum-router",
            like(Profile::MedplumRouter),
            SETTLE,
            Grade::Lock,
            vec![(What::OwnId, Proven), (What::IfMatch, Proven), (What::Digits, Refused)],
        ),
        (
            "wso2",
            like(Profile::Wso2),
            SETTLE,
            Grade::OwnId,
            vec![(What::UnknownParameter, Refused), (What::Digits, Refused), (What::ConditionalParallel, Refused)],
        ),
        ("no update create", lacking(&[F::NoUpdateCreate]), SETTLE, Grade::Conditional, vec![(What::ConditionalParallel, NotSeen)]),
        (
            "no lock",
            Options { settings: wide_gap(), ..lacking(&[F::NoUpdateCreate, F::ConditionalCreateRace]) },
            SETTLE,
            Grade::Conditional,
            vec![(What::ConditionalTwice, Proven), (What::ConditionalParallel, Refused)],
        ),
        (
            "a condition that is ignored",
            lacking(&[F::NoUpdateCreate, F::IgnoreIfNoneExist]),
            SETTLE,
            Grade::Search,
            vec![(What::ConditionalTwice, Refused), (What::ConditionalParallel, NotTried)],
        ),
        ("If-None-Match is ignored", deaf(), SETTLE, Grade::OwnId, vec![(What::IfNoneMatch, Refused)]),
        ("If-Match is ignored", lacking(&[F::IfMatchIgnored]), SETTLE, Grade::Lock, vec![(What::IfMatch, Refused)]),
        ("a stale If-Match is a 409", lacking(&[F::Precondition409]), SETTLE, Grade::Lock, vec![(What::IfMatch, Proven)]),
        ("no batch", lacking(&[F::NoBatch]), SETTLE, Grade::Lock, vec![(What::Batch, Refused), (What::IfMatchInBatch, NotTried)]),
        ("a batch of another length", lacking(&[F::BatchWrongCount]), SETTLE, Grade::OwnId, vec![(What::Batch, NotSeen)]),
        ("digits are rounded", lacking(&[F::DecimalsRounded]), SETTLE, Grade::Lock, vec![(What::Digits, Refused)]),
        ("extensions are dropped", lacking(&[F::DropExtensions]), SETTLE, Grade::Lock, vec![(What::VersionMark, Proven)]),
        ("the identifier is dropped", lacking(&with(F::DropIdentifier)), SETTLE, Grade::Person, vec![(What::IdentifierKept, Refused)]),
        ("the identifier is recased", lacking(&with(F::IdentifierRecased)), SETTLE, Grade::Person, vec![(What::IdentifierKept, Refused)]),
        (
            "the parameter is ignored",
            lacking(&with(F::IgnoreIdentifier)),
            SETTLE,
            Grade::Person,
            vec![(What::IdentifierObeyed, Refused), (What::IdentifierKept, Proven)],
        ),
        ("an index that lags", lagging(150, &with(F::SearchLag)), SETTLE, Grade::Search, vec![(What::SearchFinds, Proven)]),
        (
            "an index that lags beyond the settle time",
            lagging(60_000, &with(F::SearchLag)),
            300,
            Grade::Person,
            vec![(What::SearchFinds, Refused), (What::ReadAfterWrite, Proven), (What::HangUp, NotTried)],
        ),
    ];
    for (name, options, settle, grade, findings) in table {
        let bench = Bench::open(options).await;
        let report = run(bench.input(settle)).await;
        let step = probe_step(&report);
        assert_eq!(report.guarantee.grade, grade, "{name}: {step:#}");
        assert_eq!(report.guarantee.basis, Basis::Probe, "{name}");
        for (what, wanted) in findings {
            assert_eq!(seen(&report, what), wanted, "{name}: {what}: {step:#}");
        }
        assert_eq!(step["details"]["findings"].as_array().unwrap().len(), What::ALL.len(), "{name}: one finding of each kind");
        assert!(report.plan.probe.as_ref().unwrap().whole, "{name}");
        assert_eq!(bench.left(), Vec::<String>::new(), "{name}: something is left that is not withdrawn: {step:#}");
        let named = step["details"]["leftBehind"].as_array().unwrap().len();
        let held = bench.sandbox.ledger().resources.iter().filter(|held| held.resource_type == "Observation").count();
        assert_eq!(named, held, "{name}: all that stays is named");
        let tagged = bench.sandbox.ledger().effects.iter().filter(|effect| effect.resource_type == "Observation").all(|effect| {
            let text = effect.content.as_ref().map_or("", |raw| raw.get());
            text.contains(r#""security""#) && text.contains("HTEST")
        });
        assert!(tagged, "{name}: every version says that it is a test");
    }
}

#[tokio::test]
async fn a_create_that_is_committed_after_we_hung_up_is_seen_and_withdrawn() {
    // Each answer drips for longer than we hold the line, so that we are always the first to go.
    let settings = Settings { slow_body_ms: 40, ..Settings::default() };
    let bench = Bench::open(Options { settings, ..lacking(&[Fault::SlowBody]) }).await;
    let report = run(bench.input(SETTLE)).await;
    assert_eq!(seen(&report, What::HangUp), Seen::Proven, "{:#}", probe_step(&report));
    assert_eq!(bench.left(), Vec::<String>::new());

    // The EHR itself cuts the line and commits later.
    let settings = Settings { late_commit_ms: 250, ..Settings::default() };
    let bench = Bench::open(Options { settings, ..lacking(&[]) }).await;
    let (mut input, ehr) = (bench.input(SETTLE), bench.sandbox.clone());
    let cut = AtomicU32::new(0);
    input.go_on = Arc::new(move || {
        let ledger = ehr.ledger();
        // One repeat, and seven of each of three rounds: the parallel creates are over.
        let over = ledger.requests.get("POST Observation 200").is_some_and(|n| *n >= 22);
        if over && ledger.late_pending == 0 && !ledger.faults.contains_key("late_commit") {
            ehr.set_faults(FaultPlan::none().always(Fault::LateCommit));
            cut.store(1, Ordering::SeqCst);
        } else if cut.load(Ordering::SeqCst) == 1 {
            ehr.set_faults(FaultPlan::none());
        }
        true
    });
    let report = run(input).await;
    assert_eq!(bench.sandbox.ledger().faults.get("late_commit"), Some(&1));
    let late = report.plan.probe.as_ref().unwrap().finding(What::HangUp).unwrap().clone();
    assert_eq!(late.seen, Seen::Proven, "{:#}", probe_step(&report));
    assert_eq!(bench.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_probe_that_is_cut_short_withdraws_what_it_wrote_and_says_so() {
    for parts in 0..8 {
        let bench = Bench::open(like(Profile::Helios)).await;
        let mut input = bench.input(SETTLE);
        let asked = AtomicU32::new(0);
        input.go_on = Arc::new(move || asked.fetch_add(1, Ordering::SeqCst) < parts);
        let report = run(input).await;
        let written = bench.sandbox.ledger().effects.iter().filter(|effect| effect.resource_type == "Observation").count();
        assert!(written > 0);
        assert_eq!(bench.left(), Vec::<String>::new(), "cut after {parts}");
        assert!(!report.plan.probe.as_ref().unwrap().whole);
        assert!(report.guarantee.next.as_ref().unwrap().en.starts_with("The probe did not reach its end"));
    }
}

#[tokio::test]
async fn what_a_killed_probe_left_is_withdrawn_by_the_next() {
    let bench = Bench::open(like(Profile::Wso2)).await;
    let mut input = bench.input(SETTLE);
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new((0, Some(tell)));
    input.go_on = Arc::new(move || {
        let mut tell = tell.lock().unwrap();
        tell.0 += 1;
        if tell.0 == 8
            && let Some(tell) = tell.1.take()
        {
            let _ = tell.send(());
        }
        true
    });
    let killed = tokio::spawn(run(input));
    told.await.unwrap();
    killed.abort();
    assert!(killed.await.is_err());
    assert!(!bench.left().is_empty(), "the killed probe had written something");
    run(bench.input(SETTLE)).await;
    assert_eq!(bench.left(), Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_that_says_nothing_ends_the_probe_and_takes_no_earlier_proof_away() {
    let bench = Bench::open(Options { faults: FaultPlan::none().always(Fault::Status503), ..lacking(&[]) }).await;
    bench.sandbox.set_faults(FaultPlan::none());
    let proven = run(bench.input(SETTLE)).await.plan;
    let mut input = CheckInput { plan: proven.clone(), ..bench.input(300) };
    let ehr = bench.sandbox.clone();
    // From its first write on the EHR refuses to speak.
    ehr.set_faults("cut_before_commit".parse().unwrap());
    input.go_on = Arc::new(|| true);
    let report = run(input).await;
    assert_eq!(probe_step(&report)["verdict"], "failed");
    assert_eq!((report.plan.observation_update_create, &report.plan.probe), (proven.observation_update_create, &proven.probe));
    assert_eq!(probe_step(&report)["details"]["leftBehind"][0]["status"], "unknown", "it is said that something may still appear");
}

/// Has the engine make the check that the API asks for.
async fn probed_by_the_engine(w: &World) -> Value {
    w.ward.sandbox.put_resource(&json!({"resourceType": "Patient", "id": PATIENT, "active": true}).to_string()).unwrap();
    let asked = json!({"writeProbe": true, "testPatientId": PATIENT}).to_string();
    let run = w.tenant.request_check(w.clock.now(), &asked, "admin").await.unwrap();
    let store = Store::open(w.db.url(), keys(), Dice::new(5)).await.unwrap();
    let setup =
        Setup { store, transport: http(), http: Some(http()), clock: Arc::new(w.clock.clone()), rng: Dice::new(6), lease_ms: MINUTE };
    let engine = Engine::new(setup);
    engine.work_once().await.unwrap();
    let run = w.tenant.run(w.clock.now(), run.id).await.unwrap().unwrap();
    serde_json::from_str(&run.result.expect("the check has no result")).unwrap()
}

#[tokio::test]
async fn the_result_is_kept_chooses_the_means_and_grows_old() {
    on_each(Options::default(), async |w| {
        let before = w.tenant.status(w.clock.now()).await.unwrap().plan.unwrap();
        assert_eq!(model::grade::guarantee(&before, w.clock.now()).grade, Grade::Unproven);
        let report = probed_by_the_engine(w).await;
        assert_eq!((&report["guarantee"]["grade"], &report["guarantee"]["basis"]), (&json!("lock"), &json!("probe")), "{report:#}");
        let kept = w.tenant.status(w.clock.now()).await.unwrap().plan.unwrap();
        assert_eq!(kept, w.tenant.runtime().await.unwrap().plan);
        assert_eq!(model::grade::guarantee(&kept, w.clock.now()).grade, Grade::Lock);

        // From now on creates carry `If-None-Match: *`; whatever is lost, each is there once.
        let patient = w.known_patient().await;
        for way in [Fault::CutAfterCommit, Fault::LateCommit, Fault::CutBeforeCommit, Fault::HangAfterCommit] {
            let pain = w.observe(patient, "3").await;
            w.next(1, way, "PUT", pain);
            w.settle_down().await;
            assert_eq!(w.effects(pain).len(), 1, "{way}");
            w.is_delivered(pain).await;
            w.well();
        }
        assert_eq!(w.tenant.runtime().await.unwrap().plan.if_none_match, Proof::Proven);

        let old = model::grade::guarantee(&kept, w.clock.now().plus_ms(91 * 24 * 60 * MINUTE));
        assert_eq!(old.out_of_date, Some(OutOfDate::TooOld));
        w.tenant.change_plan(1, Box::new(|plan| plan.software = Some("EHR 2".to_owned()))).await.unwrap();
        let changed = w.tenant.status(w.clock.now()).await.unwrap().plan.unwrap();
        assert_eq!(model::grade::guarantee(&changed, w.clock.now()).out_of_date, Some(OutOfDate::SoftwareChanged));
    })
    .await;
}

/// What the grade `lock` promises, and `own_id` does not: a create that commits long after the settle time overwrites nothing.
#[tokio::test]
async fn under_a_lock_a_create_that_commits_after_the_settle_time_overwrites_nothing() {
    on_each(Options::default(), async |w| {
        probed_by_the_engine(w).await;
        let patient = w.known_patient().await;
        w.late_commit_after(3 * MINUTE);
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::LateCommit, "PUT", pain);
        w.go_on_for(MINUTE / 2).await;
        w.correct(pain, "8").await;
        w.go_on_for(2 * MINUTE).await;
        assert_eq!((w.versions(pain), w.ehr().late_pending), (vec![1, 2], 1), "the correction went before the late create");
        w.settle_down().await;
        assert_eq!((w.versions(pain), w.ehr().late_pending), (vec![1, 2], 0), "the late create was carried out");
        w.holds(pain, "8");
        w.is_delivered(pain).await;
    })
    .await;
}

#[tokio::test]
async fn another_address_is_another_ehr_and_nothing_of_it_is_proven() {
    on_each(Options::default(), async |w| {
        probed_by_the_engine(w).await;
        assert_eq!(w.tenant.runtime().await.unwrap().plan.if_none_match, Proof::Proven);
        w.configure(&w.tenant, "http://127.0.0.1:9/fhir", json!({})).await;
        let moved = w.tenant.status(w.clock.now()).await.unwrap().plan.unwrap();
        assert_eq!((moved.probe, moved.if_none_match), (None, Proof::Unknown));
    })
    .await;
}

#[tokio::test]
async fn a_lock_that_ordinary_writes_disprove_is_believed_no_more() {
    on_each(deaf(), async |w| {
        let patient = w.known_patient().await;
        let believe = |plan: &mut MeansPlan| {
            plan.if_none_match = Proof::Proven;
            plan.if_none_match_in_batch = Proof::Proven;
        };
        w.tenant.change_plan(1, Box::new(believe)).await.unwrap();
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::CutAfterCommit, "PUT", pain);
        w.settle_down().await;
        w.is_delivered(pain).await;
        let plan = w.tenant.runtime().await.unwrap().plan;
        assert_eq!((plan.if_none_match, plan.if_none_match_in_batch), (Proof::Refused, Proof::Refused));
        assert_eq!(model::grade::guarantee(&plan, w.clock.now()).grade, Grade::OwnId);
    })
    .await;
}
