//! The write probe: test Observations on a test patient, to see by what means a create is safe here, and what is not.
//!
//! Each part tries one thing and leaves a [`Finding`]; what it finds goes into the plan. Whatever was written is withdrawn
//! (`entered-in-error`) at the end, also when the probe is cut short; what an earlier one left is withdrawn first. The
//! report says what stays.

mod batch;
mod conditional;
mod hang_up;
mod own_id;
mod record;
mod search;
mod update;
mod withdraw;

use super::{Check, Draft, GoOn, Sentence, StepName, Verdict, why};
use crate::client::{Call, Ehr};
use crate::reply::Outcome;
use model::{Class, Clock, EhrId, Finding, Grade, MeansPlan, Probe, Proof, Rng, Seen, What, WhoseMove};
use record::Look;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for something to appear, ms; never longer than the settle time, for that is what it is held against.
const LONGEST_WAIT_MS: i64 = 10_000;
/// A probe begins nothing new after this.
const LONGEST_PROBE: Duration = Duration::from_secs(90);

/// A resource of the probe, or a request that may have made one.
struct Written {
    /// The value of its identifier.
    value: String,
    /// The EHR's ids of it; several where it doubled.
    ids: Vec<EhrId>,
    /// An answer was lost, so that there may be one that we do not know.
    perhaps: bool,
}

/// A resource that the next parts stand on.
#[derive(Clone)]
struct Base {
    id: EhrId,
    value: String,
    /// `meta.versionId` as last seen.
    version: Option<String>,
    /// The mark of our version that it was last written with.
    mark: i64,
}

/// The EHR, the patient, and what was found so far.
struct Bench<'a> {
    ehr: Ehr,
    patient: EhrId,
    clock: Arc<dyn Clock>,
    rng: &'a dyn Rng,
    go_on: GoOn,
    began: Instant,
    longest_wait_ms: i64,
    plan: MeansPlan,
    findings: Vec<Finding>,
    written: Vec<Written>,
}

impl Check<'_> {
    pub(super) async fn write_step(&mut self) {
        let draft = Draft::new(StepName::WriteProbe, self.clock.now());
        let patient = match (self.input.write_probe, self.input.test_patient_id.clone()) {
            (false, _) => {
                let sentence =
                    Sentence::new("Não pedido: nada é gravado no EHR sem pedido.", "Not asked for: nothing is written at the EHR unasked.");
                self.finish(draft.verdict(Verdict::Skipped, sentence));
                return;
            }
            (true, None) => {
                let sentence = Sentence::new(
                    "A prova de gravação precisa de um paciente de teste (testPatientId).",
                    "The write probe needs a test patient (testPatientId).",
                );
                self.finish(draft.verdict(Verdict::Failed, sentence).whose(WhoseMove::You));
                return;
            }
            (true, Some(patient)) => patient,
        };
        // By a plan that knows nothing: what was proven once is tried again, and a refusal is heard as one.
        let unknown = MeansPlan { token_auth_basic: self.plan.token_auth_basic, ..MeansPlan::default() };
        let Ok(ehr) = self.pool.ehr(&self.input.connection, unknown) else { return };
        let mut bench = Bench {
            ehr,
            patient,
            clock: Arc::clone(&self.clock),
            rng: self.rng,
            go_on: Arc::clone(&self.input.go_on),
            began: Instant::now(),
            longest_wait_ms: self.input.connection.settle_time_ms.clamp(100, LONGEST_WAIT_MS),
            plan: self.plan.clone(),
            findings: Vec::new(),
            written: Vec::new(),
        };
        let result = match bench.withdraw_earlier().await {
            Ok(()) => bench.run().await,
            Err(outcome) => Err(outcome),
        };
        let left = bench.withdraw().await;
        let whole = matches!(result, Ok(true));
        let mut findings = std::mem::take(&mut bench.findings);
        for what in What::ALL {
            if !findings.iter().any(|finding| finding.what == *what) {
                findings.push(Finding { what: *what, seen: Seen::NotTried, tries: 0, ms: 0, count: None });
            }
        }
        findings.sort_by_key(|finding| finding.what);
        self.plan = bench.plan;
        // A probe that saw nothing does not take the place of one that saw something.
        if whole || findings.iter().any(|finding| matches!(finding.seen, Seen::Proven | Seen::Refused)) {
            let software = self.plan.software.clone();
            self.plan.probe = Some(Probe { at: draft.started, software, whole, findings: findings.clone() });
        }
        let all_withdrawn = left.iter().all(|one| one.get("status").and_then(Value::as_str) == Some("entered-in-error"));
        let shown = findings.iter().map(|finding| {
            let mut shown = json!(finding);
            shown.as_object_mut().map(|object| object.insert("sentence".to_owned(), json!(finding.sentence())));
            shown
        });
        let mut draft = draft
            .detail("leftBehind", Value::from(left))
            .detail("updateCreate", self.plan.observation_update_create.word())
            .detail("conditionalCreate", self.plan.conditional_create.word())
            .detail("ifMatch", self.plan.if_match.word())
            .detail("identifierSearch", self.plan.identifier_search.word())
            .detail("findings", shown.collect::<Vec<_>>());
        draft = match result {
            Err(outcome) => draft.failed(&outcome, why(&outcome)),
            Ok(_) => self.judge(draft, whole, all_withdrawn),
        };
        if !all_withdrawn {
            let warning = Sentence::new(
                "Um registro de teste ficou sem ser anulado: veja leftBehind.",
                "A test record could not be withdrawn: see leftBehind.",
            );
            draft = draft.warn(&warning, WhoseMove::Hospital);
        }
        self.finish(draft);
    }

    /// The step's verdict by the grade.
    fn judge(&self, draft: Draft, whole: bool, all_withdrawn: bool) -> Draft {
        let guarantee = model::grade::guarantee(&self.plan, self.clock.now());
        let left = if all_withdrawn {
            [" Os registros de teste ficam como entered-in-error.", " The test records stay as entered-in-error."]
        } else {
            ["", ""]
        };
        let both = Sentence::new(format!("{}{}", guarantee.sentence.pt_br, left[0]), format!("{}{}", guarantee.sentence.en, left[1]));
        let mut draft = match guarantee.grade {
            Grade::Lock | Grade::OwnId | Grade::Conditional => draft.verdict(Verdict::Ok, both),
            Grade::Search | Grade::Person | Grade::Unproven => draft.verdict(Verdict::Warn, both).whose(WhoseMove::Ponte),
        };
        if !whole {
            let warning = Sentence::new("A prova foi interrompida antes do fim.", "The probe was cut short.");
            draft = draft.warn(&warning, WhoseMove::You);
        }
        if self.plan.if_match == Proof::Refused {
            let warning = Sentence::new(
                "Ele aceita um If-Match vencido: uma correção pode sobrescrever outra.",
                "It takes a stale If-Match: one correction may overwrite another.",
            );
            draft = draft.warn(&warning, WhoseMove::Hospital);
        }
        draft
    }
}

impl Bench<'_> {
    /// Each part in its turn; true when all had theirs. An answer that says nothing of the means ends the probe.
    async fn run(&mut self) -> Result<bool, Box<Outcome>> {
        let mut base = self.own_id().await?;
        if let Some(base) = &mut base
            && self.may_go_on()
        {
            self.if_none_match(base).await;
        }
        if !self.may_go_on() {
            return Ok(false);
        }
        let second = self.conditional_twice().await?;
        let mut base = match base.or_else(|| second.clone()) {
            Some(base) => base,
            None => self.plain().await?,
        };
        self.kept(&base).await;
        for part in [Part::Search, Part::Update, Part::Batch, Part::Parallel, Part::HangUp] {
            if !self.may_go_on() {
                return Ok(false);
            }
            match part {
                Part::Search => self.search(&base).await,
                Part::Update => self.update(&mut base).await,
                Part::Batch => self.batch(&base, second.as_ref()).await,
                Part::Parallel => self.conditional_parallel().await,
                Part::HangUp => self.hang_up().await,
            }
        }
        Ok(true)
    }

    fn may_go_on(&self) -> bool {
        (self.go_on)() && self.began.elapsed() < LONGEST_PROBE
    }

    fn call(&self) -> Call {
        Call { request_id: Some(self.rng.uuid_v7(self.clock.now()).to_string()), ..Call::default() }
    }

    /// A fresh identifier, noted before anything is sent with it.
    fn begin(&mut self) -> String {
        let value = self.rng.uuid_v7(self.clock.now()).to_string();
        self.written.push(Written { value: value.clone(), ids: Vec::new(), perhaps: false });
        value
    }

    /// Notes what a create with this identifier came to.
    fn note(&mut self, value: &str, outcome: &Outcome) {
        let Some(written) = self.written.iter_mut().find(|written| written.value == value) else { return };
        match (outcome.class, &outcome.ehr_id) {
            (Class::Applied, Some(id)) if !written.ids.contains(id) => written.ids.push(id.clone()),
            (Class::Uncertain, _) => written.perhaps = true,
            _ => {}
        }
    }

    fn find(&mut self, what: What, seen: Seen, since: Instant) {
        self.find_counted(what, seen, 1, since, None);
    }

    fn find_counted(&mut self, what: What, seen: Seen, tries: u32, since: Instant, count: Option<u32>) {
        let ms = i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.findings.push(Finding { what, seen, tries, ms, count });
    }

    fn seen(&self, what: What) -> Seen {
        self.findings.iter().find(|finding| finding.what == what).map_or(Seen::NotTried, |finding| finding.seen)
    }

    async fn look(&self, base: &Base) -> Option<Look> {
        let outcome = self.ehr.read("Observation", &base.id, &self.call()).await.outcome;
        outcome.resource.as_deref().and_then(|raw| record::look(raw, &base.value))
    }
}

/// What follows once a resource is there.
enum Part {
    Search,
    Update,
    Batch,
    Parallel,
    HangUp,
}

/// What a finding makes of what was known. What was tried and not seen is no longer proven.
fn learn(proof: &mut Proof, seen: Seen) {
    *proof = match (seen, *proof) {
        (Seen::Proven, _) => Proof::Proven,
        (Seen::Refused, _) => Proof::Refused,
        (Seen::NotSeen, Proof::Proven) => Proof::Claimed,
        (Seen::NotSeen | Seen::NotTried, as_it_was) => as_it_was,
    };
}
