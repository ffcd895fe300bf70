//! The verbs of one EHR: read, search, create, put, batch, and what it says of itself.
//!
//! Every verb sends once; only a 401 is answered by one renewal of the token and one more try, for a 401 certainly did
//! nothing. What came of it is an [`Answer`]; nobody here decides what happens next.

mod answer;
mod hang_up;
mod pool;
mod walk;

pub use answer::{Answer, Call, Entry, Late, Put, SmartConfiguration};
pub(crate) use hang_up::Way;
pub use pool::EhrPool;
pub use walk::{Next, SearchPage, Walk};

use crate::auth;
use crate::guard::Refusal;
use crate::reply::{Interaction, Outcome, classify, classify_entry};
use crate::token::{Token, TokenError, TokenSettings, Tokens};
use crate::transport::{MAX_BYTES, Reply, Request, Sent, Transport};
use fhir::bundle::{self, BatchEntry, BundleError};
use fhir::capability_statement::Claims;
use fhir::search::{Query, if_match, if_none_exist};
use futures::future::BoxFuture;
use governor::DefaultDirectRateLimiter;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Method};
use model::{AuthConfig, Class, Clock, Connection, EhrId, MeansPlan, Proof};
use std::fmt;
use std::sync::Arc;
use url::Url;

const FHIR_JSON: HeaderValue = HeaderValue::from_static("application/fhir+json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");

/// One EHR with one set of settings.
#[derive(Clone)]
pub struct Ehr {
    transport: Arc<dyn Transport>,
    tokens: Arc<Tokens>,
    clock: Arc<dyn Clock>,
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
    base: Url,
    auth: AuthConfig,
    token_settings: Option<TokenSettings>,
    plan: MeansPlan,
    timeout_ms: i64,
}

impl fmt::Debug for Ehr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ehr").field("auth", &self.auth.kind()).field("timeout_ms", &self.timeout_ms).finish_non_exhaustive()
    }
}

impl Ehr {
    /// An EHR by itself, with a token cache and rate of its own; workers take theirs from an [`EhrPool`].
    ///
    /// # Errors
    /// When the guard refuses the base URL.
    pub fn new(transport: Arc<dyn Transport>, connection: &Connection, plan: MeansPlan, clock: Arc<dyn Clock>) -> Result<Self, Refusal> {
        EhrPool::new(transport, clock).ehr(connection, plan)
    }

    /// The FHIR base.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The plan that it was made with.
    #[must_use]
    pub fn plan(&self) -> &MeansPlan {
        &self.plan
    }

    /// How the token endpoint wants the secret, once that was seen: `Some(true)` for Basic. To be kept in the plan.
    pub async fn learned_token_basic(&self) -> Option<bool> {
        self.tokens.learned_basic(self.token_settings.as_ref()?).await
    }

    /// `GET [type]/[id]`.
    pub async fn read(&self, resource_type: &str, id: &EhrId, call: &Call) -> Answer {
        let draft = Draft::get(self.url(&[resource_type, id.as_str()]));
        self.ask(draft, Interaction::Read { resource_type: resource_type.to_owned() }, call, nothing_more).await
    }

    /// `GET [type]?…`.
    pub async fn search(&self, resource_type: &str, query: &Query, call: &Call) -> Answer<SearchPage> {
        let mut url = self.url(&[resource_type]);
        url.set_query(Some(&query.encoded()).filter(|query| !query.is_empty()).map(String::as_str));
        self.page(url.clone(), Draft::get(url), Interaction::Search, call).await
    }

    /// `POST [type]/_search`: keeps what is asked out of URLs, where national identifiers do not belong.
    pub async fn post_search(&self, resource_type: &str, query: &Query, call: &Call) -> Answer<SearchPage> {
        let mut draft = Draft::get(self.url(&[resource_type, "_search"]));
        draft.method = Method::POST;
        draft.headers.insert(CONTENT_TYPE, FORM);
        draft.body = query.encoded();
        // Links in its answer are relative to the type, not to `_search`.
        self.page(self.url(&[resource_type]), draft, Interaction::PostSearch, call).await
    }

    /// The page that a `next` link named.
    pub async fn next_page(&self, url: &Url, call: &Call) -> Answer<SearchPage> {
        self.page(url.clone(), Draft::get(url.clone()), Interaction::Search, call).await
    }

    /// `GET [path]/_history?…`, a page of it; `path` is empty, `[type]`, or `[type]`, `[id]`.
    pub async fn history(&self, path: &[&str], query: &Query, call: &Call) -> Answer<SearchPage> {
        let mut url = self.url(&[path, &["_history"]].concat());
        url.set_query(Some(&query.encoded()).filter(|query| !query.is_empty()).map(String::as_str));
        self.page(url.clone(), Draft::get(url), Interaction::Search, call).await
    }

    /// `POST [type]`, conditional by `(system, value)` of our identifier if given.
    pub async fn create(&self, resource_type: &str, body: String, condition: Option<(&str, &str)>, call: &Call) -> Answer {
        let mut draft = Draft::write(Method::POST, self.url(&[resource_type]), body);
        let interaction = match condition {
            None => Interaction::PlainCreate { resource_type: resource_type.to_owned() },
            Some((system, value)) => {
                let Ok(header) = HeaderValue::from_str(&if_none_exist(system, value)) else {
                    return Answer::of(Outcome::ours(Class::Mapping, "Our identifier cannot stand in an HTTP header."));
                };
                draft.headers.insert(IF_NONE_EXIST, header);
                self.conditional_create(resource_type)
            }
        };
        self.ask(draft, interaction, call, nothing_more).await
    }

    /// `PUT [type]/[id]`.
    pub async fn put(&self, resource_type: &str, id: &EhrId, body: String, kind: Put<'_>, call: &Call) -> Answer {
        let mut draft = Draft::write(Method::PUT, self.url(&[resource_type, id.as_str()]), body);
        let update = || Interaction::Update { resource_type: resource_type.to_owned(), id: id.clone() };
        let interaction = match kind {
            Put::OwnId | Put::OwnIdUnlessThere => {
                if kind == Put::OwnIdUnlessThere || self.plan.if_none_match == Proof::Proven {
                    draft.headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
                }
                self.own_id_create(resource_type, id)
            }
            Put::Strong { version } => {
                let Ok(header) = HeaderValue::from_str(&format!("\"{version}\"")) else {
                    return Answer::of(Outcome::ours(Class::Mapping, "The EHR's version cannot stand in an HTTP header."));
                };
                draft.headers.insert(IF_MATCH, header);
                update()
            }
            Put::Update { version } => {
                if let Some(version) = version {
                    let Some(header) = if_match(version).and_then(|tag| HeaderValue::from_str(&tag).ok()) else {
                        return Answer::of(Outcome::ours(Class::Mapping, "The EHR's version cannot stand in an HTTP header."));
                    };
                    draft.headers.insert(IF_MATCH, header);
                }
                update()
            }
        };
        self.ask(draft, interaction, call, nothing_more).await
    }

    /// A `PUT` that creates under our id; `first` as long as this EHR is not proven to take it.
    #[must_use]
    pub fn own_id_create(&self, resource_type: &str, id: &EhrId) -> Interaction {
        let proof = if resource_type == "Patient" { self.plan.patient_update_create } else { self.plan.observation_update_create };
        Interaction::OwnIdCreate { resource_type: resource_type.to_owned(), id: id.clone(), first: proof != Proof::Proven }
    }

    /// A conditional create; `first` as long as this EHR is not proven to take it.
    #[must_use]
    pub fn conditional_create(&self, resource_type: &str) -> Interaction {
        let first = self.plan.conditional_create != Proof::Proven;
        Interaction::ConditionalCreate { resource_type: resource_type.to_owned(), first }
    }

    /// `POST [base]` of a batch Bundle. Its content is one outcome for each entry, in order; without content the whole
    /// batch has the one outcome.
    pub async fn batch(&self, entries: Vec<Entry>, call: &Call) -> Answer<Vec<Outcome>> {
        let (entries, interactions): (Vec<BatchEntry>, Vec<Interaction>) = entries.into_iter().map(|e| (e.entry, e.interaction)).unzip();
        let body = match bundle::batch(&entries) {
            Ok(body) => body,
            Err(error) => return Answer::of(Outcome::ours(Class::Internal, error.to_string())),
        };
        let draft = Draft::write(Method::POST, self.base.clone(), body);
        self.ask(draft, Interaction::Batch, call, move |reply, outcome| batch_content(&interactions, reply, outcome)).await
    }

    /// `GET /metadata`, first without credentials, for it is normally open; with them where it is not.
    pub async fn capabilities(&self, call: &Call) -> Answer<Claims> {
        let draft = || Draft { open: true, ..Draft::get(self.url(&["metadata"])) };
        let read = |reply: &Reply, _: &mut Outcome| Claims::parse(&reply.body);
        let answer = self.ask(draft(), Interaction::Capabilities, call, read).await;
        if !matches!(answer.outcome.class, Class::AuthToken | Class::AuthDenied) {
            return answer;
        }
        self.ask(Draft { open: false, ..draft() }, Interaction::Capabilities, call, read).await
    }

    /// `GET /.well-known/smart-configuration`, without credentials.
    pub async fn smart_configuration(&self, call: &Call) -> Answer<SmartConfiguration> {
        let mut draft = Draft { open: true, ..Draft::get(self.url(&[".well-known", "smart-configuration"])) };
        draft.headers.insert(ACCEPT, JSON);
        let base = self.url(&[""]);
        self.ask(draft, Interaction::Discovery, call, move |reply, _| answer::smart_configuration(&base, reply)).await
    }

    /// A search without any credentials: what everybody may read (for the connection check only).
    pub(crate) async fn open_search(&self, resource_type: &str, query: &Query, call: &Call) -> Answer<SearchPage> {
        let mut url = self.url(&[resource_type]);
        url.set_query(Some(&query.encoded()));
        self.page(url.clone(), Draft { open: true, ..Draft::get(url) }, Interaction::Search, call).await
    }

    /// The current token, where the connection uses OAuth2.
    pub(crate) async fn token(&self) -> Option<Result<Arc<Token>, TokenError>> {
        Some(self.tokens.current(self.token_settings.as_ref()?).await)
    }

    async fn page(&self, asked: Url, draft: Draft, interaction: Interaction, call: &Call) -> Answer<SearchPage> {
        let (base, transport) = (self.base.clone(), Arc::clone(&self.transport));
        let read = move |reply: &Reply, outcome: &mut Outcome| match bundle::page(&reply.body) {
            Ok(page) => {
                let next = walk::next(page.next_link.as_deref(), &asked, &base, transport.as_ref());
                Some(SearchPage { page, next })
            }
            Err(error) => {
                // Then a smaller page may do.
                outcome.class = if error == BundleError::TooManyEntries { Class::TooLarge } else { Class::BadResponse };
                outcome.message = Some(format!("The EHR answered a search, but {error}."));
                None
            }
        };
        self.ask(draft, interaction, call, read).await
    }

    async fn ask<T, F>(&self, draft: Draft, interaction: Interaction, call: &Call, read: F) -> Answer<T>
    where
        T: Send + 'static,
        F: Fn(&Reply, &mut Outcome) -> Option<T> + Send + Sync + 'static,
    {
        let sent = match self.exchange(draft, interaction.writes(), call).await {
            Ok(sent) => sent,
            Err(outcome) => return Answer::of(*outcome),
        };
        let now = self.clock.now();
        let outcome = classify(&interaction, &sent, now);
        match sent {
            Sent::Reply(reply) => Answer::read(outcome, &reply, &interaction, &read),
            Sent::NotSent { .. } => Answer::of(outcome),
            Sent::Lost { late, .. } => {
                let clock = Arc::clone(&self.clock);
                let late = late.map(|late| {
                    Late(Box::pin(async move {
                        let reply = late.wait().await?;
                        let sent = Sent::Reply(reply.clone());
                        Some(Answer::read(classify(&interaction, &sent, clock.now()), &reply, &interaction, &read))
                    }) as BoxFuture<'static, _>)
                });
                Answer { late, ..Answer::of(outcome) }
            }
        }
    }

    /// Sends, and once more with a fresh token after a 401.
    async fn exchange(&self, draft: Draft, effect: bool, call: &Call) -> Result<Sent, Box<Outcome>> {
        let token = match (&self.token_settings, draft.open) {
            (Some(settings), false) => Some(self.tokens.current(settings).await.map_err(|error| no_token(&error))?),
            _ => None,
        };
        let sent = self.transport.send(self.request(&draft, effect, call, token.as_deref()).await?).await;
        let (Some(token), Some(settings), Sent::Reply(Reply { status: 401, .. })) = (token, &self.token_settings, &sent) else {
            return Ok(sent);
        };
        let fresh = self.tokens.renewed(settings, &token).await.map_err(|error| no_token(&error))?;
        Ok(self.transport.send(self.request(&draft, effect, call, Some(&fresh)).await?).await)
    }

    async fn request(&self, draft: &Draft, effect: bool, call: &Call, token: Option<&Token>) -> Result<Request, Box<Outcome>> {
        let mut headers = draft.headers.clone();
        headers.entry(ACCEPT).or_insert(FHIR_JSON);
        if let Some(id) = call.request_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(REQUEST_ID, id);
        }
        if call.after_loss {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        if call.strict && !effect {
            headers.insert(PREFER, HeaderValue::from_static("handling=strict"));
        }
        if !draft.open {
            let done = match (&self.auth, token) {
                (AuthConfig::Basic { username, password }, _) => auth::basic(&mut headers, username, password),
                (AuthConfig::ApiKey { api_key, header }, _) => auth::api_key(&mut headers, header, api_key),
                (AuthConfig::OAuth2 { .. }, Some(token)) => auth::bearer(&mut headers, &token.secret),
                (AuthConfig::OAuth2 { .. }, None) => Ok(()),
            };
            done.map_err(|bad| Box::new(Outcome::ours(Class::AuthToken, bad.to_string())))?;
        }
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
        Ok(Request {
            method: draft.method.clone(),
            url: draft.url.clone(),
            headers,
            body: draft.body.clone().into(),
            deadline_ms: call.deadline_ms.unwrap_or(self.timeout_ms),
            max_bytes: MAX_BYTES,
            effect,
            connect_only_if: call.only_if.clone(),
        })
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

/// A request before credentials and limits.
struct Draft {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: String,
    /// Without credentials.
    open: bool,
}

impl Draft {
    fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: String::new(), open: false }
    }

    fn write(method: Method, url: Url, body: String) -> Self {
        let mut draft = Self { method, body, ..Self::get(url) };
        draft.headers.insert(CONTENT_TYPE, FHIR_JSON);
        draft.headers.insert(PREFER, HeaderValue::from_static("return=representation"));
        draft
    }
}

fn nothing_more(_: &Reply, _: &mut Outcome) -> Option<()> {
    Some(())
}

fn no_token(error: &TokenError) -> Box<Outcome> {
    let mut outcome = Outcome::ours(error.class, error.message.clone());
    outcome.status = error.status;
    outcome.retry_after_ms = error.retry_after_ms;
    Box::new(outcome)
}

/// Pairs a batch answer with its entries. An answer that is a whole batch-response is judged by its entries even when the
/// HTTP status is an error; a success that is none is uncertain.
fn batch_content(interactions: &[Interaction], reply: &Reply, outcome: &mut Outcome) -> Option<Vec<Outcome>> {
    match bundle::batch_response(&reply.body, interactions.len()) {
        Ok(entries) => {
            outcome.class = Class::Applied;
            let judged = interactions.iter().zip(&entries).map(|(interaction, entry)| classify_entry(interaction, entry));
            Some(judged.map(|entry| Outcome { server_date: outcome.server_date, ..entry }).collect())
        }
        Err(error) => {
            if outcome.class == Class::Applied {
                outcome.class = Class::Uncertain;
                outcome.message = Some(format!("The EHR answered the batch, but {error}."));
            }
            None
        }
    }
}

#[cfg(test)]
mod address_tests;
#[cfg(test)]
mod tests;
