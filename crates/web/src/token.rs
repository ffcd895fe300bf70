//! Bearer tokens: signed JWTs (RFC 7519) with `sub`, `tenantId`, `role` and `exp`; one fixed algorithm per key.

use crate::auth::{Principal, Role};
use crate::jwks::{FetchKeys, KeySet, NoKey};
use crate::problem::Problem;
use http::StatusCode;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use model::TenantId;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Number, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How tokens are verified: with a shared secret, or with the keys that an identity provider publishes.
pub struct TokenVerifier(Keys);

enum Keys {
    Secret(DecodingKey),
    Published(Box<KeySet>),
}

/// Why no verifier or token can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// RFC 7518 §3.2: a key as long as the hash.
    #[error("the token secret (PONTE_JWT_SECRET) needs at least 32 bytes; `openssl rand -base64 48` makes a good one")]
    SecretTooShort,
    /// The claims cannot be signed.
    #[error("the token could not be signed")]
    Signing,
}

/// Clocks differ a little; a token is taken so many seconds after its `exp` and before its `nbf`.
const LEEWAY_S: f64 = 5.0;
const SECRET_BYTES: usize = 32;
/// A bearer token is not longer than headers may be.
const TOKEN_BYTES: usize = 16 * 1024;

impl TokenVerifier {
    /// HS256 with a shared secret; its bytes are taken as they are.
    ///
    /// # Errors
    /// When it is shorter than 32 bytes.
    pub fn hs256(secret: &SecretString) -> Result<Self, TokenError> {
        let secret = secret.expose_secret().as_bytes();
        if secret.len() < SECRET_BYTES {
            return Err(TokenError::SecretTooShort);
        }
        Ok(Self(Keys::Secret(DecodingKey::from_secret(secret))))
    }

    /// RS256 or ES256 with the keys of a JWK set (RFC 7517), fetched through `fetch`, kept ten minutes, and used up to a
    /// day when it cannot be fetched again. Where an issuer or audience is given, tokens must name it.
    #[must_use]
    pub fn jwks(url: impl Into<String>, issuer: Option<String>, audience: Option<String>, fetch: Arc<dyn FetchKeys>) -> Self {
        Self(Keys::Published(Box::new(KeySet::new(url.into(), issuer, audience, fetch))))
    }

    /// Who the token speaks for.
    ///
    /// # Errors
    /// 401 for what cannot be trusted, 403 for a role that may do nothing here, 503 when the keys cannot be had.
    pub async fn verify(&self, token: &str) -> Result<Principal, Problem> {
        let forged = || Problem::unauthorized(true, "The token is not one that this installation trusts.");
        if token.len() > TOKEN_BYTES {
            return Err(forged());
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| forged())?;
        // An extension that we must understand and do not (RFC 7515 §4.1.11).
        if header.crit.is_some() {
            return Err(forged());
        }
        let claims = match &self.0 {
            Keys::Secret(key) => signed(token, key, Algorithm::HS256).ok_or_else(forged)?,
            Keys::Published(set) => {
                let (key, algorithm) = set.key(header.kid.as_deref(), header.alg, Instant::now()).await.map_err(|why| match why {
                    NoKey::Unknown => forged(),
                    NoKey::Unavailable => Problem::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "keys_unavailable",
                        "The identity provider's keys cannot be fetched, so no token can be verified. Try again in a moment.",
                    )
                    .retry_after_ms(5000),
                })?;
                let claims = signed(token, &key, algorithm).ok_or_else(forged)?;
                let issued = set.issuer().is_none_or(|want| claims.iss.as_ref().and_then(Value::as_str) == Some(want));
                if !issued || !set.audience().is_none_or(|want| claims.is_for(want)) {
                    return Err(forged());
                }
                claims
            }
        };
        claims.principal(seconds_now())
    }
}

/// Signs an HS256 token that lives for `ttl`: for development, scripts and tests.
///
/// # Errors
/// When the secret is shorter than 32 bytes.
pub fn sign_token(secret: &SecretString, tenant: &TenantId, role: Role, sub: &str, ttl: Duration) -> Result<String, TokenError> {
    let secret = secret.expose_secret().as_bytes();
    if secret.len() < SECRET_BYTES {
        return Err(TokenError::SecretTooShort);
    }
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let exp = now.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    let claims = json!({"sub": sub, "tenantId": tenant.as_str(), "role": role.word(), "iat": now, "exp": exp});
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret)).map_err(|_| TokenError::Signing)
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(rename = "tenantId")]
    tenant_id: String,
    role: String,
    exp: Number,
    nbf: Option<Number>,
    iss: Option<Value>,
    aud: Option<Value>,
}

/// The claims of a token whose signature fits. Times are checked by us: with serde_json's `arbitrary_precision` the
/// library does not find a number where it looks for one, and would miss `exp`.
fn signed(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Option<Claims> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    jsonwebtoken::decode::<Claims>(token, key, &validation).ok().map(|data| data.claims)
}

impl Claims {
    fn principal(self, now: f64) -> Result<Principal, Problem> {
        let refuse = |why| Err(Problem::unauthorized(true, why));
        let seconds = |number: &Number| number.as_f64().filter(|s| s.is_finite());
        match seconds(&self.exp) {
            Some(exp) if exp + LEEWAY_S > now => {}
            Some(_) => return refuse("The token has expired; get a new one."),
            None => return refuse("The token's exp is not a time."),
        }
        if let Some(nbf) = &self.nbf
            && seconds(nbf).is_none_or(|nbf| nbf - LEEWAY_S > now)
        {
            return refuse("The token is not valid yet.");
        }
        let Ok(tenant) = TenantId::new(self.tenant_id) else {
            return refuse("The token's tenantId is not 1 to 128 visible ASCII characters.");
        };
        if self.sub.trim().is_empty() || self.sub.len() > 256 || self.sub.chars().any(char::is_control) {
            return refuse("The token's sub does not name anybody.");
        }
        let Some(role) = Role::parse(&self.role) else {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                format!("The token's role may do nothing here; it takes one of {}.", Role::words()),
            ));
        };
        Ok(Principal { tenant, role, sub: self.sub })
    }

    fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        }
    }
}

fn seconds_now() -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "seconds of this age fit an f64 exactly")]
    let now = time::OffsetDateTime::now_utc().unix_timestamp() as f64;
    now
}

#[cfg(test)]
mod tests;
