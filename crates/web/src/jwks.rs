//! The keys that an identity provider publishes (RFC 7517): kept ten minutes, at most one fetch a minute, a day at worst.

use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How a JWK set is fetched: given by whoever owns an HTTP client.
pub trait FetchKeys: Send + Sync {
    /// The body of a 200 answer to `GET url`.
    ///
    /// # Errors
    /// A sentence for the log; it names no secret.
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>>;
}

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The set holds none that fits.
    Unknown,
    /// The set cannot be had.
    Unavailable,
}

/// One provider's keys.
pub(crate) struct KeySet {
    url: String,
    issuer: Option<String>,
    audience: Option<String>,
    fetch: Arc<dyn FetchKeys>,
    held: RwLock<Held>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Held {
    keys: Arc<Vec<Published>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

struct Published {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

const FRESH: Duration = Duration::from_secs(600);
const BETWEEN_FETCHES: Duration = Duration::from_secs(60);
/// Without any key nobody can be let in, so the next try comes sooner.
const BETWEEN_FIRST_FETCHES: Duration = Duration::from_secs(5);
const USABLE: Duration = Duration::from_secs(86_400);
const FETCH_LIMIT: Duration = Duration::from_secs(5);

impl KeySet {
    pub(crate) fn new(url: String, issuer: Option<String>, audience: Option<String>, fetch: Arc<dyn FetchKeys>) -> Self {
        Self { url, issuer, audience, fetch, held: RwLock::default(), fetching: tokio::sync::Mutex::new(()) }
    }

    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    pub(crate) fn audience(&self) -> Option<&str> {
        self.audience.as_deref()
    }

    /// The key for a token's `kid` and `alg`, and the one algorithm that the key is for. `now` is a parameter, so that a
    /// day can pass in a test.
    pub(crate) async fn key(&self, kid: Option<&str>, alg: Algorithm, now: Instant) -> Result<(DecodingKey, Algorithm), NoKey> {
        let held = self.held();
        if held.younger_than(FRESH, now)
            && let Some(found) = held.find(kid, alg)
        {
            return Ok(found);
        }
        if held.may_fetch(now) {
            if held.younger_than(USABLE, now) {
                // Somebody else is fetching: the keys that are there will do.
                if let Ok(_turn) = self.fetching.try_lock() {
                    self.refresh(now).await;
                }
            } else {
                let _turn = self.fetching.lock().await;
                self.refresh(now).await;
            }
        }
        let held = self.held();
        if !held.younger_than(USABLE, now) {
            return Err(NoKey::Unavailable);
        }
        held.find(kid, alg).ok_or(NoKey::Unknown)
    }

    fn held(&self) -> Held {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn refresh(&self, now: Instant) {
        if !self.held().may_fetch(now) {
            return;
        }
        let answer = tokio::time::timeout(FETCH_LIMIT, self.fetch.fetch(&self.url)).await;
        let keys = match answer {
            Ok(Ok(body)) => read_set(&body),
            Ok(Err(why)) => Err(why),
            Err(_) => Err("no answer within 5 s".to_owned()),
        };
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.tried = Some(now);
        match keys {
            Ok(keys) => {
                held.keys = Arc::new(keys);
                held.fetched = held.tried;
            }
            Err(why) => tracing::warn!(error = %why, "the identity provider's keys could not be fetched"),
        }
    }
}

impl Held {
    fn younger_than(&self, age: Duration, now: Instant) -> bool {
        self.fetched.is_some_and(|at| now.saturating_duration_since(at) < age)
    }

    fn may_fetch(&self, now: Instant) -> bool {
        let pause = if self.younger_than(USABLE, now) { BETWEEN_FETCHES } else { BETWEEN_FIRST_FETCHES };
        self.tried.is_none_or(|at| now.saturating_duration_since(at) >= pause)
    }

    /// A token without a `kid` is taken only where there is no choice.
    fn find(&self, kid: Option<&str>, alg: Algorithm) -> Option<(DecodingKey, Algorithm)> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == alg && (kid.is_none() || key.kid.as_deref() == kid));
        let found = fitting.next()?;
        if kid.is_none() && fitting.next().is_some() {
            return None;
        }
        Some((found.key.clone(), found.algorithm))
    }
}

/// Reads a set; keys for something else than our two signatures are passed over.
fn read_set(body: &[u8]) -> Result<Vec<Published>, String> {
    let set: Value = serde_json::from_slice(body).map_err(|_| "the key set is not JSON".to_owned())?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("the key set has no `keys`")?;
    Ok(keys.iter().filter_map(published).collect())
}

fn published(jwk: &Value) -> Option<Published> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let (algorithm, word, key) = match text("kty")? {
        "RSA" => (Algorithm::RS256, "RS256", DecodingKey::from_rsa_components(text("n")?, text("e")?).ok()?),
        "EC" if text("crv") == Some("P-256") => (Algorithm::ES256, "ES256", DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?),
        _ => return None,
    };
    if text("alg").is_some_and(|alg| alg != word) {
        return None;
    }
    Some(Published { kid: text("kid").map(str::to_owned), algorithm, key })
}

#[cfg(test)]
mod tests;
