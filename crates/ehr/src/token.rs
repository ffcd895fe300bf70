//! OAuth2 access tokens by client credentials (RFC 6749 §4.4): one per set of settings, fetched once by whoever needs it
//! first, renewed ahead of its end.
//!
//! Token answers and requests are never logged: they hold the secret.

use crate::auth;
use crate::transport::{Request, Sent, Transport};
use fhir::search::{http_date, retry_after_ms};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use model::{AuthConfig, Class, Clock, Timestamp};
use moka::future::Cache;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// A token without `expires_in` is kept so long, ms.
const SHORT_MS: i64 = 5 * 60_000;
/// No token is kept longer, ms: one server gives milliseconds where seconds belong (EHRS-AND-ENGINES §7, RNDS).
const LONG_MS: i64 = 60 * 60_000;
/// The most that is read of a token answer, bytes.
const MAX_TOKEN_BYTES: usize = 256 * 1024;

/// Which settings a token belongs to: a hash over all of them.
pub type TokenKey = [u8; 32];

/// An access token.
pub struct Token {
    /// The token itself.
    pub secret: SecretString,
    /// When it ends, capped.
    pub expires_at: Timestamp,
    /// Scopes that the server says it granted; may be fewer than asked.
    pub granted_scope: Option<String>,
    /// Whether the answer said when it ends.
    pub expiry_known: bool,
    /// The token endpoint's clock.
    pub server_date: Option<Timestamp>,
    renew_at: Timestamp,
    number: u64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenError {
    /// What it means for the connection.
    pub class: Class,
    /// Status of the token endpoint, if it answered.
    pub status: Option<u16>,
    /// RFC 6749 §5.2 `error`, if it is one of the known words.
    pub error: Option<&'static str>,
    /// A sentence without any secret.
    pub message: String,
    /// How long it asks us to wait, ms.
    pub retry_after_ms: Option<i64>,
}

/// The token cache of one process.
pub struct Tokens {
    slots: Cache<TokenKey, Arc<Slot>>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
}

/// The settings of a token request.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    client_id: String,
    client_secret: SecretString,
    token_url: String,
    scope: Option<String>,
    /// How the server asked for the secret, where it said so: `Some(true)` for Basic.
    prefer_basic: Option<bool>,
    /// Total time limit, ms.
    deadline_ms: i64,
    key: TokenKey,
}

#[derive(Default)]
struct Slot {
    /// Fetches that have ended, good or bad: who arrived before the last of them shares its result.
    ended: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: Option<Arc<Token>>,
    basic: Option<bool>,
    failed: Option<TokenError>,
    /// An early renewal failed: until then the old token serves without another try.
    old_serves_until: Timestamp,
}

impl TokenSettings {
    /// The settings of a connection that uses OAuth2; `None` for the others.
    #[must_use]
    pub fn new(auth: &AuthConfig, prefer_basic: Option<bool>, request_timeout_ms: i64) -> Option<Self> {
        let AuthConfig::OAuth2 { client_id, client_secret, token_url, scope } = auth else { return None };
        let mut hash = Sha256::new();
        for part in [client_id.as_str(), client_secret.expose_secret(), token_url.as_str(), scope.as_deref().unwrap_or("\0")] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Some(Self {
            client_id: client_id.clone(),
            client_secret: client_secret.clone(),
            token_url: token_url.clone(),
            scope: scope.clone(),
            prefer_basic,
            deadline_ms: request_timeout_ms.min(15_000),
            key: hash.finalize().into(),
        })
    }
}

impl Tokens {
    /// An empty cache.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        let slots = Cache::builder().max_capacity(20_000).time_to_idle(Duration::from_secs(2 * 3600)).build();
        Self { slots, transport, clock }
    }

    /// The token of these settings: the cached one, or a fresh one that is fetched once however many ask.
    ///
    /// # Errors
    /// Why there is none. Those who waited for a fetch that failed share its failure.
    pub async fn current(&self, settings: &TokenSettings) -> Result<Arc<Token>, TokenError> {
        self.get(settings, None).await
    }

    /// Another token than this one, which the EHR refused: somebody else's renewal if there was one meanwhile.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn renewed(&self, settings: &TokenSettings, refused: &Token) -> Result<Arc<Token>, TokenError> {
        self.get(settings, Some(refused.number)).await
    }

    /// How this server wants the secret, once it is known: `Some(true)` for Basic.
    pub async fn learned_basic(&self, settings: &TokenSettings) -> Option<bool> {
        let slot = self.slots.get(&settings.key).await?;
        let held = slot.held.lock().await;
        held.token.as_ref().and(held.basic)
    }

    async fn get(&self, settings: &TokenSettings, refused: Option<u64>) -> Result<Arc<Token>, TokenError> {
        let slot = self.slots.get_with(settings.key, async { Arc::default() }).await;
        let ended_before = slot.ended.load(Ordering::SeqCst);
        let mut held = slot.held.lock().await;
        let now = self.clock.now();
        let serves = |token: &&Arc<Token>| Some(token.number) != refused && now < token.expires_at;
        let fresh = |token: &&Arc<Token>| now < token.renew_at || now < held.old_serves_until;
        if let Some(token) = held.token.as_ref().filter(serves).filter(fresh) {
            return Ok(Arc::clone(token));
        }
        let number = slot.ended.load(Ordering::SeqCst);
        if let Some(failed) = held.failed.as_ref().filter(|_| number != ended_before) {
            return Err(failed.clone());
        }
        let fetched = self.fetch(settings, &mut held, number).await;
        slot.ended.fetch_add(1, Ordering::SeqCst);
        match fetched {
            Ok(token) => {
                let token = Arc::new(token);
                held.failed = None;
                held.token = Some(Arc::clone(&token));
                Ok(token)
            }
            Err(error) => {
                held.failed = Some(error.clone());
                let now = self.clock.now();
                match held.token.as_ref().filter(|token| Some(token.number) != refused && now < token.expires_at).cloned() {
                    Some(token) if error.class != Class::AuthToken => {
                        held.old_serves_until = now.plus_ms(10_000);
                        Ok(token)
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// `client_secret_post` unless the server is known to want Basic; the other way once, if it says `invalid_client`.
    async fn fetch(&self, settings: &TokenSettings, held: &mut Held, number: u64) -> Result<Token, TokenError> {
        let first = held.basic.or(settings.prefer_basic).unwrap_or(false);
        let error = match self.ask(settings, first, number).await {
            Ok(token) => {
                held.basic = Some(first);
                return Ok(token);
            }
            Err(error) => error,
        };
        if error.error != Some("invalid_client") {
            return Err(error);
        }
        match self.ask(settings, !first, number).await {
            Ok(token) => {
                held.basic = Some(!first);
                Ok(token)
            }
            Err(_) => Err(error),
        }
    }

    async fn ask(&self, settings: &TokenSettings, basic: bool, number: u64) -> Result<Token, TokenError> {
        let url = self.transport.admit(&settings.token_url).map_err(|refusal| TokenError {
            class: Class::AddressRefused,
            status: None,
            error: None,
            message: format!("tokenUrl: {refusal}"),
            retry_after_ms: None,
        })?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(settings.scope.as_deref().map(|scope| ("scope", scope)));
        if basic {
            let done = auth::client_secret_basic(&mut headers, &settings.client_id, &settings.client_secret);
            done.map_err(|bad| TokenError::refused(bad.to_string()))?;
        } else {
            form.push(("client_id", &settings.client_id));
            form.push(("client_secret", settings.client_secret.expose_secret()));
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let asked_at = self.clock.now();
        let request = Request {
            method: Method::POST,
            url,
            headers,
            body: body.into(),
            deadline_ms: settings.deadline_ms,
            max_bytes: MAX_TOKEN_BYTES,
            effect: false,
            connect_only_if: None,
        };
        read_answer(self.transport.send(request).await, asked_at, number)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("slots", &self.slots.entry_count()).finish_non_exhaustive()
    }
}

impl TokenError {
    fn refused(message: String) -> Self {
        Self { class: Class::AuthToken, status: None, error: None, message, retry_after_ms: None }
    }
}

fn read_answer(sent: Sent, asked_at: Timestamp, number: u64) -> Result<Token, TokenError> {
    let reply = match sent {
        Sent::Reply(reply) => reply,
        Sent::NotSent { class, detail, .. } => {
            return Err(TokenError { class, message: format!("Token endpoint: {detail}"), ..TokenError::refused(String::new()) });
        }
        Sent::Lost { detail, .. } => {
            let message = format!("Token endpoint: {detail}");
            return Err(TokenError { class: Class::Unreachable, message, ..TokenError::refused(String::new()) });
        }
    };
    let server_date = reply.header("date").and_then(http_date);
    let retry_after_ms = reply.header("retry-after").and_then(|text| retry_after_ms(text, server_date.unwrap_or(asked_at)));
    let json: Option<Value> = fhir::json::bounded(&reply.body);
    let text = |key: &str| json.as_ref().and_then(|json| json.get(key)).and_then(Value::as_str);
    let fail = |class: Class, error: Option<&'static str>, message: String| {
        Err(TokenError { class, status: Some(reply.status), error, message, retry_after_ms })
    };
    if !(200..300).contains(&reply.status) {
        let error = text("error").and_then(known_error);
        return match (reply.status, error) {
            (_, Some(error)) if error != "temporarily_unavailable" && error != "server_error" => {
                fail(Class::AuthToken, Some(error), format!("The token endpoint refused us: {}.", meaning(error)))
            }
            (429, _) => fail(Class::RateLimited, error, "The token endpoint asks us to slow down.".to_owned()),
            (408 | 500..=599, _) | (_, Some(_)) => {
                fail(Class::Unavailable, error, format!("The token endpoint answered {}; Ponte asks again later.", reply.status))
            }
            (300..=399, _) => fail(Class::Redirect, None, "The token endpoint points elsewhere; set that address as tokenUrl.".to_owned()),
            (status, _) => fail(
                Class::AuthToken,
                None,
                format!("The token endpoint answered {status} without a reason; check tokenUrl and credentials."),
            ),
        };
    }
    let Some(secret) = text("access_token").filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())) else {
        return fail(Class::BadResponse, None, "The token endpoint answered without an access_token; is tokenUrl right?".to_owned());
    };
    if text("token_type").is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return fail(Class::BadResponse, None, "The token endpoint gives tokens of another type than Bearer.".to_owned());
    }
    let seconds = json.as_ref().and_then(|json| json.get("expires_in")).and_then(|value| match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.clamp(0.0, 1e12) as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    let life = seconds.filter(|seconds| *seconds > 0).map_or(SHORT_MS, |seconds| seconds.saturating_mul(1000).min(LONG_MS));
    Ok(Token {
        secret: secret.into(),
        expires_at: asked_at.plus_ms(life),
        renew_at: asked_at.plus_ms(life - (life / 10).min(60_000)),
        granted_scope: text("scope").map(str::to_owned),
        expiry_known: seconds.is_some(),
        server_date,
        number,
    })
}

/// The words of RFC 6749 §5.2 and §4.1.2.1; any other text is not repeated, for it may hold anything.
fn known_error(text: &str) -> Option<&'static str> {
    const KNOWN: &[&str] = &[
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "access_denied",
        "temporarily_unavailable",
        "server_error",
    ];
    KNOWN.iter().copied().find(|known| *known == text)
}

fn meaning(error: &str) -> &'static str {
    match error {
        "invalid_client" => {
            "client id or secret are wrong (invalid_client), in the body and as Basic alike; a secret with + / % : may be read differently there"
        }
        "invalid_scope" => "it does not know or not grant the scope (invalid_scope)",
        "unauthorized_client" => "this client may not use client credentials (unauthorized_client)",
        "unsupported_grant_type" => "it does not offer client credentials (unsupported_grant_type)",
        "invalid_grant" => "it does not accept the grant (invalid_grant)",
        "access_denied" => "it denies access (access_denied)",
        _ => "it does not understand the request (invalid_request)",
    }
}

#[cfg(test)]
mod tests;
