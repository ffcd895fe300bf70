//! The steps that need no credentials: URL, DNS, TCP and TLS, CapabilityStatement.

use super::{Check, Draft, Sentence, StepName, Verdict, why};
use crate::guard::{Refusal, ResolveError};
use crate::transport::{TlsProbe, Transport};
use fhir::capability_statement::Claims;
use model::{Class, Connection, Proof, WhoseMove};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// A certificate that ends within so many days is warned of.
const CERTIFICATE_WARN_DAYS: i64 = 30;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Where the FHIR base often is when the address given is a portal.
const SUFFIXES: [&str; 3] = ["fhir", "r4", "fhir/r4"];

impl Check<'_> {
    pub(super) fn url_step(&mut self) -> Option<Url> {
        let draft = Draft::new(StepName::Url, self.clock.now());
        match self.http.admit(&self.input.connection.base_url) {
            Ok(url) => {
                let draft = draft.detail("scheme", url.scheme());
                let draft = if url.scheme() == "https" {
                    draft.verdict(
                        Verdict::Ok,
                        Sentence::new("O endereço é https e pode ser usado.", "The address is https and may be used."),
                    )
                } else {
                    let sentence = Sentence::new(
                        "http:// sem TLS: aceito só na rede local permitida pelo operador; dados de pacientes passam sem proteção.",
                        "http:// without TLS: accepted only in the local network that the operator allows; patient data travels unprotected.",
                    );
                    draft.verdict(Verdict::Warn, sentence).whose(WhoseMove::Hospital)
                };
                self.finish(draft);
                Some(url)
            }
            Err(refusal) => {
                let draft = draft.detail("code", refusal.code());
                self.finish(draft.verdict(Verdict::Failed, refusal_words(refusal)).whose(WhoseMove::You));
                None
            }
        }
    }

    pub(super) async fn dns_step(&mut self, url: &Url) -> Option<Vec<SocketAddr>> {
        let draft = Draft::new(StepName::Dns, self.clock.now());
        let resolved = timeout(CONNECT_LIMIT, self.http.resolve(url)).await.unwrap_or(Err(ResolveError::Unknown));
        match resolved {
            Ok(addresses) => {
                let shown: Vec<Value> = addresses.iter().map(|address| Value::from(address.ip().to_string())).collect();
                let sentence = Sentence::new(
                    format!("O nome resolve para {} endereço(s).", addresses.len()),
                    format!("The name resolves to {} address(es).", addresses.len()),
                );
                self.finish(draft.detail("addresses", shown).verdict(Verdict::Ok, sentence));
                Some(addresses)
            }
            Err(ResolveError::Unknown) => {
                let sentence = Sentence::new(
                    "O nome não resolve fora da rede do hospital: falta a VPN, ou um nome público?",
                    "The name does not resolve outside the hospital's network: is a VPN missing, or a public name?",
                );
                self.finish(draft.verdict(Verdict::Failed, sentence).whose(WhoseMove::Hospital));
                None
            }
            Err(ResolveError::Refused(refusal)) => {
                let draft = draft.detail("code", refusal.code());
                self.finish(draft.verdict(Verdict::Failed, refusal_words(refusal)).whose(WhoseMove::You));
                None
            }
        }
    }

    pub(super) async fn tls_step(&mut self, url: &Url, addresses: &[SocketAddr]) -> bool {
        let mut draft = Draft::new(StepName::TcpTls, self.clock.now());
        let mut probe = TlsProbe::default();
        for address in addresses {
            probe = timeout(CONNECT_LIMIT, self.http.probe(*address, url)).await.unwrap_or_else(|_| TlsProbe {
                problem: Some("The EHR's server did not answer the connection in time.".to_owned()),
                ..TlsProbe::default()
            });
            if probe.problem.is_none() {
                break;
            }
        }
        if let Some(version) = &probe.version {
            draft = draft.detail("version", version.as_str());
        }
        let mut days_left = None;
        if let Some(certificate) = &probe.certificate {
            let days = (certificate.not_after - self.clock.now().0.div_euclid(1000)).div_euclid(86_400);
            days_left = Some(days);
            draft = draft.detail("issuer", certificate.issuer.as_str()).detail("subject", certificate.subject.as_str());
            draft =
                draft.detail("daysLeft", days).detail("notAfter", model::Timestamp(certificate.not_after.saturating_mul(1000)).rfc3339());
        }
        if let Some(problem) = probe.problem {
            let pt = if probe.connected {
                "O servidor respondeu, mas o TLS não foi aceito: confira o certificado (nome, validade, cadeia da AC)."
            } else {
                "O servidor não aceitou a conexão a partir do nosso endereço. Confirme VPN, firewall e porta."
            };
            self.finish(draft.verdict(Verdict::Failed, Sentence::new(pt, problem)).whose(WhoseMove::Hospital));
            return false;
        }
        draft = match days_left {
            None => draft.verdict(Verdict::Ok, Sentence::new("O servidor responde.", "The server answers.")),
            Some(days) => draft.verdict(
                Verdict::Ok,
                Sentence::new(
                    format!("O servidor responde e o certificado vale por mais {days} dias."),
                    format!("The server answers, and its certificate holds for {days} more days."),
                ),
            ),
        };
        if days_left.is_some_and(|days| days < CERTIFICATE_WARN_DAYS) {
            let warning = Sentence::new("Renove o certificado antes que vença.", "Renew the certificate before it ends.");
            draft = draft.warn(&warning, WhoseMove::Hospital);
        }
        self.finish(draft);
        true
    }

    pub(super) async fn capability_step(&mut self) {
        let draft = Draft::new(StepName::CapabilityStatement, self.clock.now());
        let Some(ehr) = self.ehr() else { return };
        let answer = ehr.capabilities(&self.call()).await;
        let Some(claims) = answer.content else {
            let mut draft = draft.failed(&answer.outcome, why(&answer.outcome));
            if matches!(answer.outcome.class, Class::BadResponse | Class::Gone | Class::Redirect | Class::Validation)
                && let Some(suffix) = self.find_base().await
            {
                let hint = Sentence::new(
                    format!("Encontramos FHIR em …/{suffix}: use esse endereço como baseUrl."),
                    format!("FHIR was found at …/{suffix}: use that address as baseUrl."),
                );
                draft = draft.warn(&hint, WhoseMove::You).detail("foundAt", suffix);
            }
            self.finish(draft);
            return;
        };
        self.plan = claims.update_plan(&self.plan, self.clock.now());
        let draft = claimed(draft, &claims, &self.plan);
        self.finish(draft);
    }

    /// Looks for a FHIR base behind the usual suffixes.
    async fn find_base(&self) -> Option<&'static str> {
        for suffix in SUFFIXES {
            let base_url = format!("{}/{suffix}", self.input.connection.base_url);
            let connection = Connection { base_url, ..self.input.connection.clone() };
            let transport = std::sync::Arc::clone(&self.http) as std::sync::Arc<dyn Transport>;
            let ehr = crate::client::Ehr::new(transport, &connection, self.plan.clone(), std::sync::Arc::clone(&self.clock)).ok()?;
            if ehr.capabilities(&self.call()).await.content.is_some() {
                return Some(suffix);
            }
        }
        None
    }
}

fn claimed(draft: Draft, claims: &Claims, plan: &model::MeansPlan) -> Draft {
    let version = claims.fhir_version.as_deref().unwrap_or("");
    let mut draft = draft
        .detail("fhirVersion", version)
        .detail("software", plan.software.clone())
        .detail("updateCreate", plan.observation_update_create.word())
        .detail("conditionalCreate", plan.conditional_create.word())
        .detail("batch", plan.batch.word())
        .detail("lastUpdated", plan.last_updated.word())
        .detail("identifierSearch", plan.identifier_search.word());
    let open = Sentence::new(
        "O servidor se descreve em FHIR R4. Este passo não prova as credenciais.",
        "The server describes itself in FHIR R4. This step does not prove the credentials.",
    );
    if !version.starts_with("4.0") {
        let sentence = Sentence::new(
            format!("O servidor fala FHIR {version}; Ponte fala R4 (4.0.1)."),
            format!("The server speaks FHIR {version}; Ponte speaks R4 (4.0.1)."),
        );
        // R4B keeps Observation and Patient as they are.
        let verdict = if version.starts_with("4.") { Verdict::Warn } else { Verdict::Failed };
        return draft.verdict(verdict, sentence).whose(WhoseMove::Hospital);
    }
    draft = draft.verdict(Verdict::Ok, open);
    for (resource_type, code) in
        [("Patient", "read"), ("Patient", "search-type"), ("Observation", "search-type"), ("Observation", "create")]
    {
        let missing = claims.resource(resource_type).is_none() || claims.interaction(resource_type, code) == Some(false);
        if missing {
            let warning = Sentence::new(
                format!("Ele não declara `{code}` de {resource_type}."),
                format!("It does not claim `{code}` of {resource_type}."),
            );
            draft = draft.warn(&warning, WhoseMove::Hospital);
        }
    }
    if matches!(plan.last_updated, Proof::Denied | Proof::Refused) {
        let warning =
            Sentence::new("Sem `_lastUpdated`: a leitura será completa a cada vez.", "No `_lastUpdated`: every pull reads everything.");
        draft = draft.warn(&warning, WhoseMove::Ponte);
    }
    draft
}

fn refusal_words(refusal: Refusal) -> Sentence {
    let pt = match refusal {
        Refusal::NotAUrl => "Isto não é uma URL que todos leem do mesmo modo.",
        Refusal::Scheme => "O endereço deve começar com https://.",
        Refusal::PlainHttp => "http:// só é aceito para endereços locais que o operador permite (PONTE_EHR_ALLOW_LOCAL); use https://.",
        Refusal::UserInfo => "O endereço não pode conter usuário ou senha; eles ficam em authConfig.",
        Refusal::Host => "O endereço não tem um servidor que possa ser chamado.",
        Refusal::Local => "O endereço fica em rede local ou reservada, que o operador não permite (PONTE_EHR_ALLOW_LOCAL).",
        Refusal::Never => "O endereço é link-local ou de metadados de nuvem: nunca é chamado.",
        Refusal::OtherOrigin => "O EHR nos manda para outro servidor; Ponte não segue.",
    };
    Sentence::new(pt, refusal.to_string())
}
