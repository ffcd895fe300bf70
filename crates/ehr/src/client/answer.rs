//! What goes along with a call, and what comes back from it.

use crate::reply::{Interaction, Outcome};
use crate::transport::{LastCheck, Reply};
use fhir::bundle::BatchEntry;
use futures::future::BoxFuture;
use model::Class;
use serde_json::Value;
use std::fmt;
use url::Url;

/// What goes along with one call.
#[derive(Clone, Default)]
pub struct Call {
    /// `X-Request-Id`.
    pub request_id: Option<String>,
    /// The last check before bytes leave.
    pub only_if: Option<LastCheck>,
    /// Asking after a loss: `Cache-Control: no-cache`, for some servers repeat a cached search result.
    pub after_loss: bool,
    /// `Prefer: handling=strict`: an unknown parameter shall be an error. For searches that decide something.
    pub strict: bool,
    /// Total time limit of one exchange, ms, instead of the connection's.
    pub deadline_ms: Option<i64>,
}

/// By what kind of `PUT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put<'a> {
    /// A create under an id that we chose (means 2); `If-None-Match: *` goes along where it is proven to be honoured.
    OwnId,
    /// The same with `If-None-Match: *` in any case: for the probe that proves it.
    OwnIdUnlessThere,
    /// An update; `If-Match` goes along whenever a version is known.
    Update {
        /// `meta.versionId` as we know it.
        version: Option<&'a str>,
    },
    /// An update whose `If-Match` has the strong form (without `W/`): for the probe.
    Strong {
        /// `meta.versionId` as we know it.
        version: &'a str,
    },
}

/// One entry of a batch with what it means.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What is sent.
    pub entry: BatchEntry,
    /// How its answer is judged.
    pub interaction: Interaction,
}

/// What became of a call.
#[derive(Debug)]
pub struct Answer<T = ()> {
    /// Its class and what the answer names.
    pub outcome: Outcome,
    /// What the verb is for, where it went well: a page, the entries of a batch, the claims.
    pub content: Option<T>,
    /// The answer after its deadline, if it may still come.
    pub late: Option<Late<T>>,
    /// From start to the last byte, ms; `None` if no answer came.
    pub elapsed_ms: Option<i64>,
}

/// An answer that may still come.
pub struct Late<T>(pub(super) BoxFuture<'static, Option<Answer<T>>>);

impl<T> Late<T> {
    /// Waits for it, a bounded time; `None` if it never comes.
    pub async fn wait(self) -> Option<Answer<T>> {
        self.0.await
    }
}

impl<T> fmt::Debug for Late<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Late")
    }
}

/// What `.well-known/smart-configuration` says (SMART App Launch, conformance).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SmartConfiguration {
    /// Resolved against the FHIR base where it is relative.
    pub token_endpoint: Option<String>,
    /// `token_endpoint_auth_methods_supported`.
    pub auth_methods: Vec<String>,
    /// `grant_types_supported`.
    pub grant_types: Vec<String>,
    /// `scopes_supported`, not exhaustive.
    pub scopes: Vec<String>,
    /// `capabilities`.
    pub capabilities: Vec<String>,
}

impl SmartConfiguration {
    /// Whether the secret has to go as Basic: known only where one of the two ways is named.
    #[must_use]
    pub fn wants_basic(&self) -> Option<bool> {
        let has = |method: &str| self.auth_methods.iter().any(|m| m == method);
        match (has("client_secret_post"), has("client_secret_basic")) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }
}

impl<T> Answer<T> {
    pub(super) fn of(outcome: Outcome) -> Self {
        Self { outcome, content: None, late: None, elapsed_ms: None }
    }

    pub(super) fn read(
        mut outcome: Outcome,
        reply: &Reply,
        interaction: &Interaction,
        read: impl Fn(&Reply, &mut Outcome) -> Option<T>,
    ) -> Self {
        let judge = outcome.class == Class::Applied || *interaction == Interaction::Batch;
        let content = if judge { read(reply, &mut outcome) } else { None };
        Self { outcome, content, late: None, elapsed_ms: Some(reply.elapsed_ms) }
    }
}

/// Reads it; `base` is the FHIR base with a `/` at its end.
pub(super) fn smart_configuration(base: &Url, reply: &Reply) -> Option<SmartConfiguration> {
    let json: Value = fhir::json::bounded(&reply.body)?;
    json.as_object()?;
    let list = |key: &str| -> Vec<String> {
        let all = json.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let endpoint = json.get("token_endpoint").and_then(Value::as_str);
    Some(SmartConfiguration {
        token_endpoint: endpoint.and_then(|text| base.join(text).ok()).map(String::from),
        auth_methods: list("token_endpoint_auth_methods_supported"),
        grant_types: list("grant_types_supported"),
        scopes: list("scopes_supported"),
        capabilities: list("capabilities"),
    })
}
