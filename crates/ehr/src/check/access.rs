//! The steps that prove the credentials: token, authenticated search, Observation search and paging, latency.

use super::{Check, Draft, Sentence, StepName, Verdict, why};
use crate::client::{Answer, Call, Ehr, Next, SearchPage, Walk};
use fhir::search::Query;
use model::{AuthConfig, Class, Proof, WhoseMove};

/// Clocks that differ by more are warned of, ms: tokens and signatures fail then.
const SKEW_WARN_MS: i64 = 60_000;
/// The system of identifiers that exist nowhere.
const NOWHERE: &str = "urn:ponte:check";

impl Check<'_> {
    /// Whether the steps behind may go on.
    pub(super) async fn token_step(&mut self) -> bool {
        let mut draft = Draft::new(StepName::Token, self.clock.now());
        let AuthConfig::OAuth2 { token_url, scope, .. } = self.input.connection.auth.clone() else {
            let sentence = Sentence::new("Não se aplica: a conexão não usa OAuth2.", "Does not apply: the connection does not use OAuth2.");
            self.finish(draft.verdict(Verdict::Skipped, sentence));
            return true;
        };
        let mut elsewhere = false;
        if let Some(ehr) = self.ehr()
            && let Some(smart) = ehr.smart_configuration(&self.call()).await.content
        {
            self.plan.token_auth_basic = smart.wants_basic().or(self.plan.token_auth_basic);
            elsewhere =
                smart.token_endpoint.as_deref().is_some_and(|endpoint| endpoint.trim_end_matches('/') != token_url.trim_end_matches('/'));
            draft = draft.detail("authMethods", smart.auth_methods).detail("grantTypes", smart.grant_types);
        }
        let Some(ehr) = self.ehr() else { return false };
        let token = match ehr.token().await {
            Some(Ok(token)) => token,
            Some(Err(error)) => {
                let code = error.error.unwrap_or("-");
                let pt = format!(
                    "O servidor de tokens não deu um token ({}, HTTP {}).",
                    code,
                    error.status.map_or_else(|| "-".to_owned(), |s| s.to_string())
                );
                draft = draft.detail("class", error.class.word()).detail("error", code);
                self.finish(draft.verdict(Verdict::Failed, Sentence::new(pt, error.message)).whose(error.class.whose_move()));
                return false;
            }
            None => return false,
        };
        self.plan.token_auth_basic = ehr.learned_token_basic().await.or(self.plan.token_auth_basic);
        let life_s = token.expires_at.ms_since(self.clock.now()).div_euclid(1000);
        draft = draft.detail("expiresInSeconds", life_s).detail("secretSentAsBasic", self.plan.token_auth_basic);
        draft = draft.verdict(
            Verdict::Ok,
            Sentence::new("O servidor de tokens aceitou as credenciais.", "The token endpoint took the credentials."),
        );
        let asked = scope.unwrap_or_default();
        let granted = token.granted_scope.clone().unwrap_or_else(|| asked.clone());
        let missing: Vec<&str> = asked.split_whitespace().filter(|one| !granted.split_whitespace().any(|g| g == *one)).collect();
        if !missing.is_empty() {
            let list = missing.join(" ");
            let warning = Sentence::new(format!("Não concedeu: {list}."), format!("It did not grant: {list}."));
            draft = draft.warn(&warning, WhoseMove::Hospital);
        }
        if !token.expiry_known {
            let warning = Sentence::new(
                "Não informou expires_in; o token é renovado a cada 5 minutos.",
                "It gave no expires_in; the token is renewed every 5 minutes.",
            );
            draft = draft.warn(&warning, WhoseMove::Ponte);
        }
        if elsewhere {
            let warning = Sentence::new(
                "O smart-configuration do EHR indica outro endereço de token.",
                "The EHR's smart-configuration names another token endpoint.",
            );
            draft = draft.warn(&warning, WhoseMove::You);
        }
        let skew = token.server_date.map(|date| date.ms_since(self.clock.now()).abs());
        if let Some(skew) = skew.filter(|skew| *skew > SKEW_WARN_MS) {
            let warning = Sentence::new(
                format!("O relógio dele difere do nosso em {} s.", skew / 1000),
                format!("Its clock differs from ours by {} s.", skew / 1000),
            );
            draft = draft.warn(&warning, WhoseMove::Hospital);
        }
        self.finish(draft);
        true
    }

    /// Whether the credentials open the EHR.
    pub(super) async fn search_step(&mut self) -> bool {
        let mut draft = Draft::new(StepName::AuthenticatedSearch, self.clock.now());
        let Some(ehr) = self.ehr() else { return false };
        let query = self.nobody();
        let mut answer = ehr.search("Patient", &query, &self.call()).await;
        let mut used = query;
        if answer.outcome.class == Class::Validation {
            // Some servers want another parameter than a foreign identifier.
            used = Query::new().with("_id", self.nowhere());
            answer = ehr.search("Patient", &used, &self.call()).await;
        }
        let Some(found) = answer.content else {
            self.finish(draft.failed(&answer.outcome, why(&answer.outcome)));
            return false;
        };
        draft = draft.verdict(
            Verdict::Ok,
            Sentence::new("Com as credenciais o EHR deixa buscar pacientes.", "With the credentials the EHR lets us search patients."),
        );
        if !found.page.entries.is_empty() {
            let warning = Sentence::new(
                "Ele devolve pacientes que não foram pedidos: a busca por identificador não é respeitada; conferimos cada linha.",
                "It returns patients that were not asked for: the search by identifier is not obeyed; every row is checked.",
            );
            draft = draft.warn(&warning, WhoseMove::Hospital).detail("identifierObeyed", false);
        }
        if let Some(id) = self.input.test_patient_id.clone() {
            let read = ehr.read("Patient", &id, &self.call()).await;
            if !read.outcome.ok() {
                let mut words = why(&read.outcome);
                words.pt_br = format!("O paciente de teste não pôde ser lido. {}", words.pt_br);
                words.en = format!("The test patient could not be read. {}", words.en);
                self.finish(draft.failed(&read.outcome, words));
                return false;
            }
        }
        if ehr.open_search("Patient", &used, &self.call()).await.content.is_some() {
            let warning = Sentence::new(
                "API aberta! A mesma busca funciona sem credenciais: qualquer um na rede lê pacientes, e este teste não prova as credenciais.",
                "Open API! The same search works without credentials: anybody in the network reads patients, and this test does not prove the credentials.",
            );
            draft = draft.warn(&warning, WhoseMove::Hospital).detail("openWithoutCredentials", true);
        }
        self.finish(draft);
        true
    }

    pub(super) async fn paging_step(&mut self) {
        let mut draft = Draft::new(StepName::ObservationSearchPaging, self.clock.now());
        let Some(ehr) = self.ehr() else { return };
        let by_identifier = ehr.search("Observation", &self.nobody(), &self.strict()).await;
        let refused = by_identifier.outcome.class == Class::Validation;
        match &by_identifier.content {
            Some(found) if found.page.entries.is_empty() => {}
            Some(_) => {
                self.plan.identifier_search = Proof::Refused;
                let warning = Sentence::new(
                    "A busca de Observation ignora `identifier` e devolve tudo; conferimos cada linha.",
                    "The search of Observation ignores `identifier` and returns everything; every row is checked.",
                );
                draft = draft.warn(&warning, WhoseMove::Hospital);
            }
            None if refused => {
                self.plan.identifier_search = Proof::Refused;
                let warning =
                    Sentence::new("Observation não pode ser buscada por `identifier`.", "Observation cannot be searched by `identifier`.");
                draft = draft.warn(&warning, WhoseMove::Hospital);
            }
            None => {
                self.finish(draft.failed(&by_identifier.outcome, why(&by_identifier.outcome)));
                return;
            }
        }
        let posted = ehr.post_search("Observation", &self.nobody(), &self.call()).await;
        match (posted.content.is_some(), posted.outcome.class) {
            (true, _) => self.plan.post_search = Proof::Proven,
            (false, Class::MeansRefused | Class::Validation | Class::Gone) => self.plan.post_search = Proof::Refused,
            (false, _) => {}
        }
        let mut rows = 0;
        if let Some(patient) = self.input.test_patient_id.clone() {
            let query = Query::new().with("patient", patient.as_str()).with("_count", "1");
            match self.walk(&ehr, &query).await {
                Ok((pages, found)) => {
                    rows = found;
                    draft = draft.detail("pages", pages).detail("rows", found);
                }
                Err(failed) => {
                    let draft = match failed {
                        Broken::Refused(outcome) => draft.failed(&outcome, why(&outcome)),
                        Broken::Elsewhere => draft.whose(WhoseMove::Hospital).verdict(
                            Verdict::Failed,
                            Sentence::new(
                                "O link da próxima página aponta para outro servidor; Ponte não o segue com credenciais.",
                                "The link to the next page points to another server; Ponte does not follow it with credentials.",
                            ),
                        ),
                        Broken::Circle => draft.whose(WhoseMove::Hospital).verdict(
                            Verdict::Failed,
                            Sentence::new("Os links de páginas andam em círculo.", "The links between pages go round in a circle."),
                        ),
                    };
                    self.finish(draft);
                    return;
                }
            }
        }
        draft = self.last_updated(&ehr, draft, rows).await;
        let good = Sentence::new("Observation pode ser buscada e paginada.", "Observations can be searched and paged.");
        if draft.verdict == Verdict::Ok {
            draft = draft.verdict(Verdict::Ok, good);
        }
        let draft = draft
            .detail("identifierSearch", self.plan.identifier_search.word())
            .detail("postSearch", self.plan.post_search.word())
            .detail("lastUpdated", self.plan.last_updated.word());
        self.finish(draft);
    }

    pub(super) async fn latency_step(&mut self) {
        let mut draft = Draft::new(StepName::Latency, self.clock.now());
        let Some(ehr) = self.ehr() else { return };
        let mut times = Vec::new();
        for _ in 0..5 {
            let answer = ehr.search("Observation", &self.nobody(), &self.call()).await;
            if answer.outcome.class == Class::RateLimited {
                let warning = Sentence::new(
                    "O EHR limita a taxa de pedidos: defina maxRequestsPerSecond.",
                    "The EHR limits the rate of requests: set maxRequestsPerSecond.",
                );
                draft = draft.warn(&warning, WhoseMove::You);
                break;
            }
            times.extend(answer.elapsed_ms);
        }
        times.sort_unstable();
        let Some(middle) = times.get(times.len() / 2).copied() else {
            let sentence = Sentence::new("Nenhuma resposta para medir.", "No answer to measure.");
            self.finish(if draft.verdict == Verdict::Ok { draft.verdict(Verdict::Warn, sentence) } else { draft });
            return;
        };
        draft = draft.detail("p50Ms", middle).detail("calls", times.len());
        draft = draft.detail("suggestedConcurrency", if middle > 1000 { 2 } else { 4 });
        let sentence = Sentence::new(
            format!("Metade das buscas respondeu em até {middle} ms."),
            format!("Half of the searches answered within {middle} ms."),
        );
        if draft.verdict == Verdict::Ok {
            draft = draft.verdict(if middle > 2000 { Verdict::Warn } else { Verdict::Ok }, sentence);
        }
        self.finish(draft);
    }

    /// Asks for changes of a year that has not come: rows mean that the parameter is ignored.
    async fn last_updated(&mut self, ehr: &Ehr, draft: Draft, rows: usize) -> Draft {
        // A claim that leaves it out is no proof: some servers obey it and do not list it.
        if self.plan.last_updated == Proof::Refused {
            return draft;
        }
        let mut query = Query::new().with("_lastUpdated", "ge2199-01-01T00:00:00Z");
        if let Some(patient) = &self.input.test_patient_id {
            query = query.with("patient", patient.as_str());
        }
        let answer = ehr.search("Observation", &query, &self.strict()).await;
        let ignored = match &answer.content {
            Some(found) => {
                let dropped = found.page.self_link.as_deref().is_some_and(|link| !link.contains("_lastUpdated"));
                !found.page.entries.is_empty() || dropped
            }
            None if answer.outcome.class == Class::Validation && self.input.test_patient_id.is_some() => true,
            None => return draft,
        };
        if ignored {
            self.plan.last_updated = Proof::Refused;
            let warning = Sentence::new(
                "O servidor não respeita `_lastUpdated`: a leitura será completa a cada vez.",
                "The server does not obey `_lastUpdated`: every pull reads everything.",
            );
            return draft.warn(&warning, WhoseMove::Ponte);
        }
        if rows > 0 {
            self.plan.last_updated = Proof::Proven;
        }
        draft
    }

    async fn walk(&self, ehr: &Ehr, query: &Query) -> Result<(usize, usize), Broken> {
        let mut walk = Walk::new();
        let mut answer: Answer<SearchPage> = ehr.search("Observation", query, &self.call()).await;
        let (mut pages, mut rows) = (0, 0);
        loop {
            let Some(found) = answer.content else { return Err(Broken::Refused(Box::new(answer.outcome))) };
            pages += 1;
            rows += found.page.entries.len();
            match found.next {
                Next::End => return Ok((pages, rows)),
                Next::Refused(_) => return Err(Broken::Elsewhere),
                Next::Page(url) if !walk.visit(&url) => return Err(Broken::Circle),
                // Three pages show that paging works.
                Next::Page(_) if pages == 3 => return Ok((pages, rows)),
                Next::Page(url) => answer = ehr.next_page(&url, &self.call()).await,
            }
        }
    }

    fn strict(&self) -> Call {
        Call { strict: true, ..self.call() }
    }

    fn nowhere(&self) -> String {
        self.rng.uuid_v7(self.clock.now()).to_string()
    }

    /// An identifier that nobody has.
    fn nobody(&self) -> Query {
        Query::new().token("identifier", NOWHERE, &self.nowhere())
    }
}

enum Broken {
    Refused(Box<crate::reply::Outcome>),
    Elsewhere,
    Circle,
}
