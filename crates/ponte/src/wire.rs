//! Where the rooms are joined: engine, schedules, API, tokens. Nothing is decided here.

use crate::clock::{OsRng, SystemClock};
use crate::exit::Failure;
use crate::settings::{Settings, Verify};
use ehr::guard::{AllowLocal, Guard};
use ehr::transport::{HttpTransport, HttpTransportOptions};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use model::{Clock, TenantId};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use sync::schedule::Schedules;
use tokio_util::sync::CancellationToken;
use web::{Api, FetchKeys, Role, TokenVerifier};

/// The most that is read of a key set.
const KEY_SET_BYTES: usize = 1024 * 1024;

/// The way to EHRs, guard included.
///
/// # Errors
/// When the machine's TLS will not start.
pub fn transport(allow_local: &AllowLocal) -> Result<Arc<HttpTransport>, Failure> {
    let options = HttpTransportOptions::new(Guard::new(allow_local.clone()));
    HttpTransport::new(options).map(Arc::new).map_err(|why| Failure::failed(format!("{why}.")))
}

/// An engine on this database; it does nothing until asked.
///
/// # Errors
/// When the machine's TLS will not start.
pub fn engine(store: &Store, allow_local: &AllowLocal, clock: Arc<dyn Clock>, lease_ms: i64) -> Result<Arc<sync::Engine>, Failure> {
    let http = transport(allow_local)?;
    let setup = sync::Setup { store: store.clone(), transport: http.clone(), http: Some(http), clock, rng: Arc::new(OsRng), lease_ms };
    Ok(sync::Engine::new(setup))
}

/// Lanes, pulls, checks and schedules until `shutdown`; what is under way then ends first.
pub async fn work(engine: Arc<sync::Engine>, workers: usize, schedules: Schedules, shutdown: CancellationToken) {
    tokio::join!(engine.clone().run(workers, shutdown.clone()), sync::schedule::run(&engine, &schedules, shutdown));
}

/// The three schedules.
///
/// # Errors
/// When a cron text or the zone cannot be read.
pub fn schedules(settings: &Settings) -> Result<Schedules, Failure> {
    Schedules::parse(&settings.sweep_cron, &settings.pull_cron, &settings.daily_cron, &settings.timezone)
        .map_err(|why| Failure::usage(why.to_string()))
}

/// Whether this is a cron text.
///
/// # Errors
/// What is wrong with it.
pub fn check_cron(text: &str) -> Result<(), String> {
    Schedules::parse(text, text, text, "UTC").map(drop).map_err(|why| format!("will not do: {why}"))
}

/// Whether this is a zone.
///
/// # Errors
/// What is wrong with it.
pub fn check_zone(text: &str) -> Result<(), String> {
    Schedules::parse("0 * * * *", "0 * * * *", "0 * * * *", text).map(drop).map_err(|why| format!("will not do: {why}"))
}

/// The API on this database.
///
/// # Errors
/// When tokens cannot be verified in the way that is set.
pub fn api(store: &Store, settings: &Settings, clock: Arc<dyn Clock>, metrics: Option<PrometheusHandle>) -> Result<axum::Router, Failure> {
    let verifier = match &settings.verify {
        Some(Verify::Secret(secret)) => TokenVerifier::hs256(secret).map_err(|why| Failure::usage(format!("{why}.")))?,
        Some(Verify::Jwks { url, issuer, audience }) => {
            TokenVerifier::jwks(url.clone(), Some(issuer.clone()), Some(audience.clone()), Arc::new(KeyClient::new(url)?))
        }
        // A worker shows its health only; with a secret that nobody knows nobody can be let in.
        None => TokenVerifier::hs256(&SecretString::from(crate::open::random_key())).map_err(|why| Failure::failed(format!("{why}.")))?,
    };
    // The first key is the same on every node but for the minutes in which a new one is rolled out.
    let first_key = settings.encryption_key.as_ref().map_or("", |ring| ring.expose_secret().split(',').next().unwrap_or(""));
    let mut api = Api::new(store.clone(), verifier, settings.allow_local.clone(), clock, first_key.trim().as_bytes());
    api.metrics = metrics;
    api.version = env!("CARGO_PKG_VERSION");
    Ok(web::router(api))
}

/// Signs a token.
///
/// # Errors
/// When the secret is too short, or there is no such role.
pub fn sign(secret: &SecretString, tenant: &TenantId, role: &str, sub: &str, ttl: Duration) -> Result<String, Failure> {
    let role = Role::parse(role).ok_or_else(|| Failure::usage(format!("{role} is no role.")))?;
    web::sign_token(secret, tenant, role, sub, ttl).map_err(|why| Failure::usage(format!("{why}.")))
}

/// The clock of this process.
#[must_use]
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// Fetches the identity provider's keys. The operator chose the address, so it may be a local one.
struct KeyClient(reqwest::Client);

impl KeyClient {
    fn new(url: &str) -> Result<Self, Failure> {
        let local = |host: Option<&str>| matches!(host, Some("localhost" | "127.0.0.1" | "[::1]"));
        let good = url::Url::parse(url).is_ok_and(|url| url.scheme() == "https" || (url.scheme() == "http" && local(url.host_str())));
        if !good {
            return Err(Failure::usage(
                "PONTE_JWKS_URL must begin with https:// (http:// for this machine only): whoever changes the keys may sign as anybody.",
            ));
        }
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(5))
            .build()
            .map_err(|_| Failure::failed("The HTTP client for PONTE_JWKS_URL could not be set up on this machine."))?;
        Ok(Self(client))
    }
}

impl FetchKeys for KeyClient {
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let mut answer = self.0.get(url).send().await.map_err(|why| why.without_url().to_string())?;
            if answer.status() != reqwest::StatusCode::OK {
                return Err(format!("it answered {}", answer.status().as_u16()));
            }
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|why| why.without_url().to_string())? {
                body.extend_from_slice(&chunk);
                if body.len() > KEY_SET_BYTES {
                    return Err("its answer is larger than 1 MiB".to_owned());
                }
            }
            Ok(body)
        })
    }
}
