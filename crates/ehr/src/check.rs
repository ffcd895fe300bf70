//! The connection test, step by step (UX §4): what works, what does not, and whose move it is.
//!
//! A failed step skips only what depends on it. Steps without credentials can never make the whole green. Nothing is
//! written at the EHR without the write probe and a test patient. No report holds patient data or a secret.

mod access;
mod network;
mod probe;
mod report;

pub use model::Sentence;
pub use report::{Language, Report};

use crate::client::{Call, Ehr, EhrPool};
use crate::reply::Outcome;
use crate::transport::{HttpTransport, Transport};
use model::{Clock, Connection, EhrId, MeansPlan, Rng, Timestamp, WhoseMove};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A step of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// Whether the address may be dialled at all.
    Url,
    /// Whether its name is known here.
    Dns,
    /// Whether the server answers and shows a good certificate.
    TcpTls,
    /// What it claims. Without credentials.
    CapabilityStatement,
    /// Whether the token endpoint knows us.
    Token,
    /// Whether the EHR lets us search Patients; and nobody else.
    AuthenticatedSearch,
    /// Whether Observations can be searched and paged.
    ObservationSearchPaging,
    /// Whether writes are safe, on a test patient.
    WriteProbe,
    /// How fast it is.
    Latency,
}

impl StepName {
    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Dns => "dns",
            Self::TcpTls => "tcp_tls",
            Self::CapabilityStatement => "capability_statement",
            Self::Token => "token",
            Self::AuthenticatedSearch => "authenticated_search",
            Self::ObservationSearchPaging => "observation_search_paging",
            Self::WriteProbe => "write_probe",
            Self::Latency => "latency",
        }
    }
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Good.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not work.
    Failed,
    /// It was not tried: not asked for, not needed here, or what it depends on failed.
    Skipped,
}

/// One step and how it went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which.
    pub step: StepName,
    /// How it went.
    pub verdict: Verdict,
    /// How long it took, ms.
    pub ms: i64,
    /// What was found, and what to do.
    pub sentence: Sentence,
    /// Who has to do something, if anybody.
    pub whose_move: Option<WhoseMove>,
    /// Technical facts: codes, versions, counts. Never patient data, never a secret.
    pub details: Map<String, Value>,
    /// The EHR's own words on a failure. They may hold patient data: for the tenant's eyes, in no export.
    #[serde(skip)]
    pub ehr_words: Option<String>,
}

/// Whether a probe may begin something new: `false` cuts it short, and what it wrote is withdrawn.
pub type GoOn = Arc<dyn Fn() -> bool + Send + Sync>;

/// What is tested.
#[derive(Clone)]
pub struct CheckInput {
    /// The connection, saved or not.
    pub connection: Connection,
    /// What is known of it already.
    pub plan: MeansPlan,
    /// A Patient at the EHR that is nobody: made for tests.
    pub test_patient_id: Option<EhrId>,
    /// Whether test Observations may be written on that Patient.
    pub write_probe: bool,
    /// Asked between the parts of the write probe.
    pub go_on: GoOn,
}

impl CheckInput {
    /// A test of this connection that writes nothing and is not interrupted.
    #[must_use]
    pub fn reading(connection: Connection, plan: MeansPlan) -> Self {
        Self { connection, plan, test_patient_id: None, write_probe: false, go_on: Arc::new(|| true) }
    }
}

/// Runs all steps, one after the other; each is handed to `on_step` as soon as it is done.
pub async fn check(
    http: Arc<HttpTransport>,
    clock: Arc<dyn Clock>,
    rng: &dyn Rng,
    input: CheckInput,
    on_step: &mut (dyn FnMut(&Step) + Send + Sync),
) -> Report {
    let started = clock.now();
    let transport: Arc<dyn Transport> = Arc::clone(&http) as _;
    let pool = EhrPool::new(transport, Arc::clone(&clock));
    let mut check = Check { http, pool, clock, rng, plan: input.plan.clone(), input, steps: Vec::new(), on_step };
    check.run().await;
    Report::new(check.steps, check.plan, started)
}

struct Check<'a> {
    http: Arc<HttpTransport>,
    /// One for all steps, so that one token serves them all.
    pool: EhrPool,
    clock: Arc<dyn Clock>,
    rng: &'a dyn Rng,
    input: CheckInput,
    plan: MeansPlan,
    steps: Vec<Step>,
    on_step: &'a mut (dyn FnMut(&Step) + Send + Sync),
}

impl Check<'_> {
    async fn run(&mut self) {
        let reachable = match self.url_step() {
            None => false,
            Some(url) => match self.dns_step(&url).await {
                None => false,
                Some(addresses) => self.tls_step(&url, &addresses).await,
            },
        };
        for (name, depends_on) in [(StepName::Dns, StepName::Url), (StepName::TcpTls, StepName::Dns)] {
            if !self.done(name) {
                self.skip_after(name, depends_on);
            }
        }
        if !reachable {
            for name in [
                StepName::CapabilityStatement,
                StepName::Token,
                StepName::AuthenticatedSearch,
                StepName::ObservationSearchPaging,
                StepName::WriteProbe,
                StepName::Latency,
            ] {
                self.skip_after(name, StepName::TcpTls);
            }
            return;
        }
        self.capability_step().await;
        if !self.token_step().await {
            for name in [StepName::AuthenticatedSearch, StepName::ObservationSearchPaging, StepName::WriteProbe, StepName::Latency] {
                self.skip_after(name, StepName::Token);
            }
            return;
        }
        if !self.search_step().await {
            for name in [StepName::ObservationSearchPaging, StepName::WriteProbe, StepName::Latency] {
                self.skip_after(name, StepName::AuthenticatedSearch);
            }
            return;
        }
        self.paging_step().await;
        self.write_step().await;
        self.latency_step().await;
    }

    /// The EHR by the plan as it stands now. Its URL was admitted in the first step.
    fn ehr(&self) -> Option<Ehr> {
        self.pool.ehr(&self.input.connection, self.plan.clone()).ok()
    }

    fn call(&self) -> Call {
        Call { request_id: Some(self.rng.uuid_v7(self.clock.now()).to_string()), ..Call::default() }
    }

    fn done(&self, name: StepName) -> bool {
        self.steps.iter().any(|step| step.step == name)
    }

    fn skip_after(&mut self, name: StepName, broken: StepName) {
        let sentence = Sentence::new(
            format!("Pulado: depende do passo `{}`, que não passou.", broken.word()),
            format!("Skipped: it depends on the step `{}`, which did not pass.", broken.word()),
        );
        self.finish(Draft::new(name, self.clock.now()).verdict(Verdict::Skipped, sentence));
    }

    fn finish(&mut self, draft: Draft) -> Verdict {
        let step = Step {
            step: draft.name,
            verdict: draft.verdict,
            ms: self.clock.now().ms_since(draft.started).max(0),
            sentence: draft.sentence,
            whose_move: draft.whose_move,
            details: draft.details,
            ehr_words: draft.ehr_words,
        };
        (self.on_step)(&step);
        let verdict = step.verdict;
        self.steps.push(step);
        verdict
    }
}

/// A step that is not finished.
struct Draft {
    name: StepName,
    started: Timestamp,
    verdict: Verdict,
    sentence: Sentence,
    whose_move: Option<WhoseMove>,
    details: Map<String, Value>,
    ehr_words: Option<String>,
}

impl Draft {
    fn new(name: StepName, started: Timestamp) -> Self {
        Self {
            name,
            started,
            verdict: Verdict::Ok,
            sentence: Sentence::new("", ""),
            whose_move: None,
            details: Map::new(),
            ehr_words: None,
        }
    }

    fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    fn verdict(mut self, verdict: Verdict, sentence: Sentence) -> Self {
        self.verdict = verdict;
        self.sentence = sentence;
        self
    }

    fn whose(mut self, whose_move: WhoseMove) -> Self {
        self.whose_move = Some(whose_move);
        self
    }

    /// A warning beside what was found; the first one gives the verdict, all are shown.
    fn warn(mut self, sentence: &Sentence, whose_move: WhoseMove) -> Self {
        if self.verdict != Verdict::Failed {
            self.verdict = Verdict::Warn;
        }
        self.sentence.pt_br = format!("{} {}", self.sentence.pt_br, sentence.pt_br).trim().to_owned();
        self.sentence.en = format!("{} {}", self.sentence.en, sentence.en).trim().to_owned();
        self.whose_move = self.whose_move.or(Some(whose_move));
        self
    }

    /// A failure that an exchange showed: its class, status and codes go in, its words stay beside the report.
    fn failed(self, outcome: &Outcome, sentence: Sentence) -> Self {
        let mut draft = self.detail("class", outcome.class.word());
        if let Some(status) = outcome.status {
            draft = draft.detail("status", status);
        }
        if let Some(fingerprint) = &outcome.fingerprint {
            draft = draft.detail("fingerprint", fingerprint.as_str());
        }
        draft.ehr_words = outcome.message.clone();
        draft.verdict(Verdict::Failed, sentence).whose(outcome.class.whose_move())
    }
}

/// What went wrong in an exchange, by its class, in words for the hospital's people.
fn why(outcome: &Outcome) -> Sentence {
    use model::Class;
    let status = outcome.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    match outcome.class {
        Class::Unreachable => Sentence::new(
            "O endereço não respondeu a partir do nosso servidor. Confirme VPN e firewall.",
            "The address did not answer from our server. Check VPN and firewall.",
        ),
        Class::Tls => Sentence::new(
            "A conexão segura (TLS) não foi aceita: confira o certificado do servidor.",
            "The secure connection (TLS) was not accepted: check the server's certificate.",
        ),
        Class::AddressRefused => {
            Sentence::new("O endereço não pode ser usado a partir desta instalação.", "The address may not be used from this installation.")
        }
        Class::AuthToken => Sentence::new(
            format!("O EHR recusou as credenciais (HTTP {status}). Confira authConfig."),
            format!("The EHR refused the credentials (HTTP {status}). Check authConfig."),
        ),
        Class::AuthDenied => Sentence::new(
            "Falta permissão (HTTP 403): peça ao hospital o acesso de leitura a Patient e Observation e de gravação de Observation.",
            "Permission is missing (HTTP 403): ask the hospital for read access to Patient and Observation and write access to Observation.",
        ),
        Class::BadResponse => Sentence::new(
            "Recebemos algo que não é FHIR (uma página de proxy ou de login?).",
            "What came back is not FHIR (a proxy's or a login page?).",
        ),
        Class::Redirect => Sentence::new(
            format!("O servidor redireciona (HTTP {status}); use o endereço final como baseUrl."),
            format!("The server redirects (HTTP {status}); use the final address as baseUrl."),
        ),
        Class::Gone => Sentence::new(
            format!("O endereço não foi encontrado (HTTP {status}); confira a baseUrl."),
            format!("The address was not found (HTTP {status}); check baseUrl."),
        ),
        Class::RateLimited => Sentence::new("O EHR pede para ir mais devagar (HTTP 429).", "The EHR asks us to slow down (HTTP 429)."),
        Class::Unavailable => {
            Sentence::new(format!("O EHR está indisponível (HTTP {status})."), format!("The EHR is unavailable (HTTP {status})."))
        }
        _ => Sentence::new(format!("O EHR recusou o pedido (HTTP {status})."), format!("The EHR refused the request (HTTP {status}).")),
    }
}

#[cfg(test)]
mod tests;
