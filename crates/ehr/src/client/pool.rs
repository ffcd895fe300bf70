//! What all EHRs of one process share: the transport, the tokens, and the rate of each connection.

use super::Ehr;
use crate::guard::Refusal;
use crate::token::{TokenSettings, Tokens};
use crate::transport::Transport;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use model::{AuthConfig, Clock, Connection, MeansPlan};
use moka::sync::Cache;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Which connection a rate belongs to: base, who we are there, and the rate itself.
type RateKey = (String, [u8; 32], u32);

/// The EHRs of one process.
#[derive(Clone)]
pub struct EhrPool {
    transport: Arc<dyn Transport>,
    tokens: Arc<Tokens>,
    clock: Arc<dyn Clock>,
    limiters: Cache<RateKey, Arc<DefaultDirectRateLimiter>>,
}

impl EhrPool {
    /// A pool over this transport.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        Self {
            tokens: Arc::new(Tokens::new(Arc::clone(&transport), Arc::clone(&clock))),
            limiters: Cache::builder().max_capacity(20_000).time_to_idle(Duration::from_secs(3600)).build(),
            transport,
            clock,
        }
    }

    /// The EHR of these settings. Cheap; made anew for each claim, so that a change of settings holds from the next attempt on.
    ///
    /// # Errors
    /// When the guard refuses the base URL.
    pub fn ehr(&self, connection: &Connection, plan: MeansPlan) -> Result<Ehr, Refusal> {
        let mut base = self.transport.admit(&connection.base_url)?;
        base.set_query(None);
        base.set_fragment(None);
        Ok(Ehr {
            transport: Arc::clone(&self.transport),
            tokens: Arc::clone(&self.tokens),
            clock: Arc::clone(&self.clock),
            limiter: self.limiter(connection),
            token_settings: TokenSettings::new(&connection.auth, plan.token_auth_basic, connection.request_timeout_ms),
            base,
            auth: connection.auth.clone(),
            plan,
            timeout_ms: connection.request_timeout_ms,
        })
    }

    fn limiter(&self, connection: &Connection) -> Option<Arc<DefaultDirectRateLimiter>> {
        let rate = NonZeroU32::new(connection.max_requests_per_second?)?;
        let identity = identity(&connection.auth);
        let key = (connection.base_url.clone(), identity, rate.get());
        Some(self.limiters.get_with(key, || Arc::new(RateLimiter::direct(Quota::per_second(rate).allow_burst(NonZeroU32::MIN)))))
    }
}

impl fmt::Debug for EhrPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EhrPool").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// Who we are at an EHR, as a hash: two tenants with their own credentials have their own rate.
fn identity(auth: &AuthConfig) -> [u8; 32] {
    let (name, secret) = match auth {
        AuthConfig::OAuth2 { client_id, client_secret, .. } => (client_id, client_secret),
        AuthConfig::Basic { username, password } => (username, password),
        AuthConfig::ApiKey { header, api_key } => (header, api_key),
    };
    let mut hash = Sha256::new();
    for part in [auth.kind(), name, secret.expose_secret()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}
