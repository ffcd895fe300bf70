//! Published keys: rotation, an attacker's kids, a provider that is down.

use super::*;
use crate::TokenVerifier;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

/// A key made for this run alone.
static KEY: LazyLock<rcgen::KeyPair> = LazyLock::new(|| rcgen::KeyPair::generate().unwrap());

/// A coordinate of the public key's point, which stands uncompressed: `04 X Y`.
fn coordinate(from: usize) -> String {
    URL_SAFE_NO_PAD.encode(&KEY.public_key_raw()[from..from + 32])
}

/// A provider that counts how often it is asked.
struct Provider {
    asked: AtomicUsize,
    answer: Mutex<Result<Vec<u8>, String>>,
}

impl Provider {
    fn with(kids: &[&str]) -> Arc<Self> {
        let provider = Arc::new(Self { asked: AtomicUsize::new(0), answer: Mutex::new(Err("down".to_owned())) });
        provider.publish(kids);
        provider
    }

    fn publish(&self, kids: &[&str]) {
        let ec = |kid: &&str| json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": coordinate(1), "y": coordinate(33)});
        let mut keys: Vec<Value> = kids.iter().map(ec).collect();
        keys.push(json!({"kty": "oct", "kid": "oct", "k": "AAAA"}));
        keys.push(json!({"kty": "EC", "crv": "P-256", "use": "enc", "kid": "enc", "x": coordinate(1), "y": coordinate(33)}));
        *self.answer.lock().unwrap() = Ok(json!({"keys": keys}).to_string().into_bytes());
    }

    fn break_down(&self) {
        *self.answer.lock().unwrap() = Err("down".to_owned());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl FetchKeys for Provider {
    fn fetch<'a>(&'a self, _url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async move { answer })
    }
}

fn token(kid: Option<&str>, claims: Value) -> String {
    let mut all =
        json!({"sub": "u", "tenantId": "t", "role": "NURSE", "exp": 9_999_999_999_i64, "iss": "https://id", "aud": ["other", "ponte"]});
    for (key, value) in claims.as_object().unwrap() {
        all[key] = value.clone();
    }
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, &all, &EncodingKey::from_ec_pem(KEY.serialize_pem().as_bytes()).unwrap()).unwrap()
}

fn verifier(provider: &Arc<Provider>) -> TokenVerifier {
    TokenVerifier::jwks("https://id/jwks", Some("https://id".to_owned()), Some("ponte".to_owned()), provider.clone())
}

async fn status(verifier: &TokenVerifier, token: &str) -> u16 {
    verifier.verify(token).await.map_or_else(|problem| problem.status().as_u16(), |_| 200)
}

#[tokio::test]
async fn issuer_audience_kid_and_algorithm_must_fit() {
    let provider = Provider::with(&["a"]);
    let verifier = verifier(&provider);
    assert_eq!(status(&verifier, &token(Some("a"), json!({}))).await, 200);
    assert_eq!(status(&verifier, &token(None, json!({}))).await, 200);
    for claims in [json!({"iss": "https://evil"}), json!({"iss": null}), json!({"aud": "other"}), json!({"aud": null}), json!({"exp": 1})] {
        assert_eq!(status(&verifier, &token(Some("a"), claims.clone())).await, 401, "{claims}");
    }
    for kid in ["enc", "oct", "b"] {
        assert_eq!(status(&verifier, &token(Some(kid), json!({}))).await, 401, "{kid}");
    }
    // The public key as an HMAC secret: the classic confusion of algorithms.
    let claims = json!({"sub": "u", "tenantId": "t", "role": "ADMIN", "exp": 9_999_999_999_i64, "iss": "https://id", "aud": "ponte"});
    let header = Header { kid: Some("a".to_owned()), ..Header::new(Algorithm::HS256) };
    let forged = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(KEY.public_key_raw())).unwrap();
    assert_eq!(status(&verifier, &forged).await, 401);
}

fn set(provider: &Arc<Provider>) -> KeySet {
    KeySet::new("https://id/jwks".to_owned(), None, None, provider.clone())
}

async fn known(set: &KeySet, kid: &str, now: Instant) -> Result<(), NoKey> {
    set.key(Some(kid), Algorithm::ES256, now).await.map(drop)
}

#[tokio::test]
async fn an_unknown_kid_costs_one_fetch_a_minute_and_a_new_key_is_found() {
    let provider = Provider::with(&["a"]);
    let (set, start) = (set(&provider), Instant::now());
    assert_eq!(known(&set, "a", start).await, Ok(()));
    for n in 0..50 {
        assert_eq!(known(&set, &format!("x{n}"), start + Duration::from_secs(n)).await, Err(NoKey::Unknown));
    }
    assert_eq!(provider.asked(), 1);
    provider.publish(&["a", "b"]);
    assert_eq!(known(&set, "b", start + BETWEEN_FETCHES).await, Ok(()));
    assert_eq!(provider.asked(), 2);
}

#[tokio::test]
async fn keys_outlive_their_provider_by_a_day_and_no_more() {
    let provider = Provider::with(&["a"]);
    let (set, start) = (set(&provider), Instant::now());
    assert_eq!(known(&set, "a", start).await, Ok(()));
    provider.break_down();
    assert_eq!(known(&set, "a", start + FRESH).await, Ok(()));
    assert_eq!(provider.asked(), 2);
    assert_eq!(known(&set, "a", start + USABLE - BETWEEN_FETCHES).await, Ok(()));
    assert_eq!(known(&set, "a", start + USABLE).await, Err(NoKey::Unavailable));
    provider.publish(&["a"]);
    assert_eq!(known(&set, "a", start + USABLE + BETWEEN_FETCHES).await, Ok(()));
}

#[tokio::test]
async fn nobody_is_let_in_while_there_are_no_keys_at_all() {
    let provider = Provider::with(&["a"]);
    provider.break_down();
    let verifier = verifier(&provider);
    assert_eq!(status(&verifier, &token(Some("a"), json!({}))).await, 503);
}
