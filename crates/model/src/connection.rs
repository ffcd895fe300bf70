//! A tenant's EHR and its settings: the original's `fhir_integration_configs`, valid once built.
//!
//! A body comes in as JSON with camelCase fields (CONTRACT, "config"); [`Connection::build`] merges it over what
//! there is already and names every field that will not do.

mod build;

pub use build::{Built, secret_shown};

use crate::failure::words;
use secrecy::{ExposeSecret, SecretString};

/// The settings of one tenant's connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Whether anything is sent or read at all.
    pub enabled: bool,
    /// FHIR base, without a trailing slash.
    pub base_url: String,
    /// How we prove who we are.
    pub auth: AuthConfig,
    /// Which way data goes.
    pub direction: Direction,
    /// When a delivery starts.
    pub frequency: Frequency,
    /// The tenant's backoff.
    pub retry: RetryPolicy,
    /// Whatever the tenant wants to keep here; given back as it came.
    pub metadata: Option<serde_json::Value>,
    /// System of our identifier on observations.
    pub identifier_system: String,
    /// Whether a patient that the EHR does not know is created there.
    pub patient_create: bool,
    /// Total time limit of one request, body included, ms.
    pub request_timeout_ms: i64,
    /// How long an attempt without an outcome stays open, ms.
    pub settle_time_ms: i64,
    /// How far a pull reaches back behind its watermark, ms.
    pub pull_overlap_ms: i64,
    /// After how long a delivery that never succeeds is dead, the connection's down time not counted, ms.
    pub patience_ms: i64,
    /// How many lanes of this tenant are worked at once.
    pub max_concurrency: u32,
    /// At most so many requests a second; `None` for no limit of ours.
    pub max_requests_per_second: Option<u32>,
    /// At most so many rows in one Bundle.
    pub batch_size: u32,
    /// `Observation.category` of scores: `survey` unless the tenant says otherwise.
    pub score_category: String,
    /// What happens to a code that means something else.
    pub misused_codes: MisusedCodes,
}

impl Connection {
    /// Whether observations go to the EHR.
    #[must_use]
    pub fn pushes(&self) -> bool {
        self.direction != Direction::Pull
    }

    /// Whether observations come from the EHR.
    #[must_use]
    pub fn pulls(&self) -> bool {
        self.direction != Direction::Push
    }
}

/// How we prove who we are at the EHR. Secrets cannot be printed.
#[derive(Debug, Clone)]
pub enum AuthConfig {
    /// OAuth2 client credentials (RFC 6749 §4.4).
    OAuth2 {
        /// Client id.
        client_id: String,
        /// Client secret.
        client_secret: SecretString,
        /// Token endpoint.
        token_url: String,
        /// Scopes, separated by spaces.
        scope: Option<String>,
    },
    /// HTTP Basic (RFC 7617).
    Basic {
        /// User, without a colon.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// A key in a header.
    ApiKey {
        /// The key.
        api_key: SecretString,
        /// The header's name; `X-API-Key` by default.
        header: String,
    },
}

impl AuthConfig {
    /// Whether this is the same account, so that it may see the same; a password may be another, a key is its account.
    #[must_use]
    pub fn is_same_account(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::OAuth2 { client_id, token_url, scope, .. }, Self::OAuth2 { client_id: id, token_url: url, scope: scopes, .. }) => {
                client_id == id && token_url == url && scope == scopes
            }
            (Self::Basic { username, .. }, Self::Basic { username: user, .. }) => username == user,
            (Self::ApiKey { api_key, header }, Self::ApiKey { api_key: key, header: name }) => {
                api_key.expose_secret() == key.expose_secret() && header == name
            }
            (Self::OAuth2 { .. } | Self::Basic { .. } | Self::ApiKey { .. }, _) => false,
        }
    }

    /// `oauth2`, `basic` or `apikey`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OAuth2 { .. } => "oauth2",
            Self::Basic { .. } => "basic",
            Self::ApiKey { .. } => "apikey",
        }
    }
}

words!(
    /// Which way data goes.
    Direction {
        /// To the EHR only.
        Push = "push",
        /// From the EHR only.
        Pull = "pull",
        /// Both ways.
        Bidirectional = "bidirectional",
    }
);

words!(
    /// When a delivery starts.
    Frequency {
        /// As soon as its transaction commits.
        Realtime = "realtime",
        /// With the hourly sweep.
        Hourly = "hourly",
        /// With the daily sweep.
        Daily = "daily",
    }
);

words!(
    /// What happens to a code that means something else (CODES-AND-BRAZIL §2).
    MisusedCodes {
        /// It is stored and its delivery is held.
        Hold = "hold",
        /// The API refuses it.
        Refuse = "refuse",
    }
);

/// The tenant's backoff.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Tries after the first, 0 to 20.
    pub max_retries: u32,
    /// Wait after the first failure, ms, at least 1.
    pub initial_delay_ms: i64,
    /// Longest wait, ms.
    pub max_delay_ms: i64,
    /// Each wait is so many times the one before, 1 to 10.
    pub backoff_multiplier: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_retries: 3, initial_delay_ms: 1000, max_delay_ms: 30_000, backoff_multiplier: 2.0 }
    }
}
