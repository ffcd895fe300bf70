//! HTTP: the API. It translates and never decides, and it never calls an EHR: it makes rows due and watches the ledger.
//!
//! | file | what it is |
//! |---|---|
//! | `token`, `jwks`, `auth` | who calls: bearer tokens, key sets, roles |
//! | `serve` | the API over TCP: no caller takes longer than it may |
//! | `edge` | what every answer gets: request id, problem body, headers, one log line |
//! | `problem` | RFC 9457 |
//! | `json`, `fields`, `query`, `cursor` | what comes in, read strictly |
//! | `idempotency`, `wait`, `rate` | `Idempotency-Key`, `Prefer: wait=N`, requests per tenant |
//! | `patients` … `status` | one file per group of routes |
//! | `health`, `metrics`, `docs` | outside `/api/v1`, without a token |

mod auth;
mod batch;
mod call;
mod check;
mod config;
mod cursor;
mod dead_letters;
mod deliveries;
mod docs;
mod edge;
mod fields;
mod health;
mod idempotency;
mod json;
mod jwks;
mod metrics;
mod observation_body;
mod observations;
mod outcome;
mod patient_body;
mod patients;
mod problem;
mod pull;
mod query;
mod rate;
mod routes;
mod runs;
pub mod schema;
mod serve;
mod status;
mod sync;
mod token;
mod wait;

pub use auth::{Principal, Role};
pub use cursor::CursorKey;
pub use docs::openapi;
pub use jwks::FetchKeys;
pub use problem::Problem;
pub use routes::router;
pub use serve::{HEAD_TIME, serve};
pub use token::{TokenError, TokenVerifier, sign_token};

use metrics_exporter_prometheus::PrometheusHandle;
use model::Clock;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// What the API needs. [`Api::new`] gives defaults for all that is not handed to it.
pub struct Api {
    /// The database.
    pub store: store::Store,
    /// How tokens are verified.
    pub verifier: TokenVerifier,
    /// Which local EHR addresses the operator allows (`PONTE_EHR_ALLOW_LOCAL`): a config that names others is refused.
    pub guard: ehr::guard::AllowLocal,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What `/metrics` shows besides the ledger's own counters.
    pub metrics: Option<PrometheusHandle>,
    /// The version shown in the OpenAPI document and in `ponte_build_info`.
    pub version: &'static str,
    /// Signs cursors; the same on every node, else a cursor of one node is refused by another.
    pub cursor_key: CursorKey,
    /// Requests a second that one tenant may make on this node, with a burst of five times as many.
    pub requests_per_second: NonZeroU32,
    /// How long a request's body may take from its first byte to its last.
    pub body_time: Duration,
}

impl Api {
    /// An API with defaults: no recorded metrics, 1,000 requests a second and tenant, a minute for a body. `cursor_secret` is any secret that
    /// all nodes share: the encryption key or the token secret.
    #[must_use]
    pub fn new(
        store: store::Store,
        verifier: TokenVerifier,
        guard: ehr::guard::AllowLocal,
        clock: Arc<dyn Clock>,
        cursor_secret: &[u8],
    ) -> Self {
        Self {
            store,
            verifier,
            guard,
            clock,
            metrics: None,
            version: env!("CARGO_PKG_VERSION"),
            cursor_key: CursorKey::from_secret(cursor_secret),
            requests_per_second: NonZeroU32::MIN.saturating_add(999),
            body_time: Duration::from_secs(60),
        }
    }
}
