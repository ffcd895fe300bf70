//! From a JSON body to a valid [`Connection`], merged over what there is already, with every bad field named.

use super::{AuthConfig, Connection, Direction, Frequency, MisusedCodes, RetryPolicy};
use crate::field::FieldError;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// What a body makes of a connection.
#[derive(Debug)]
pub struct Built {
    /// The new settings.
    pub connection: Connection,
    /// Whether the base URL is another: another generation (PRODUCT, "A moved hospital").
    pub moved: bool,
    /// Whether a secret was given anew (not kept).
    pub secret_changed: bool,
}

/// The object that stands for a secret in an answer, and that keeps it when it is sent back.
#[must_use]
pub fn secret_shown(updated_at: &str) -> Value {
    serde_json::json!({"set": true, "updatedAt": updated_at})
}

const FIELDS: &[&str] = &[
    "enabled",
    "baseUrl",
    "authType",
    "authConfig",
    "syncDirection",
    "syncFrequency",
    "maxRetries",
    "initialDelay",
    "maxDelay",
    "backoffMultiplier",
    "metadata",
    "identifierSystem",
    "patientCreate",
    "requestTimeout",
    "settleTime",
    "pullOverlap",
    "patience",
    "maxConcurrency",
    "maxRequestsPerSecond",
    "batchSize",
    "scoreCategory",
    "misusedCodes",
];
const READ_ONLY: &[&str] = &["id", "tenantId", "lastSyncAt", "lastError", "createdAt", "updatedAt", "plan", "generation", "guarantee"];
const DAY_MS: i64 = 86_400_000;

impl Connection {
    /// Builds the settings that `body` asks for, over `before` where a field is left out (CONTRACT, `PUT /fhir/config`:
    /// `authConfig` key by key; another `authType` needs its whole `authConfig`).
    ///
    /// # Errors
    /// Every field that will not do, with its JSON pointer; no value is ever repeated.
    pub fn build(body: &Map<String, Value>, before: Option<&Connection>) -> Result<Built, Vec<FieldError>> {
        let mut read = Reader { body, errors: Vec::new() };
        read.unknown_fields();
        let base_url = read.base_url(before);
        let auth = read.auth(before);
        let default_retry = RetryPolicy::default();
        let old_retry = before.map_or(default_retry, |c| c.retry);
        let retry = RetryPolicy {
            max_retries: read.integer("maxRetries", 0, 20, i64::from(old_retry.max_retries)).unsigned_abs() as u32,
            initial_delay_ms: read.integer("initialDelay", 1, 30 * DAY_MS, old_retry.initial_delay_ms),
            max_delay_ms: read.integer("maxDelay", 1, 30 * DAY_MS, old_retry.max_delay_ms.max(1)),
            backoff_multiplier: read.float("backoffMultiplier", 1.0, 10.0, old_retry.backoff_multiplier),
        };
        if retry.max_delay_ms < retry.initial_delay_ms {
            read.errors.push(FieldError::new("/maxDelay", "too_small", "maxDelay must be at least initialDelay."));
        }
        let direction = read.word("syncDirection", Direction::parse, before.map_or(Direction::Bidirectional, |c| c.direction));
        let frequency = read.word("syncFrequency", Frequency::parse, before.map_or(Frequency::Hourly, |c| c.frequency));
        let misused_codes = read.word("misusedCodes", MisusedCodes::parse, before.map_or(MisusedCodes::Hold, |c| c.misused_codes));
        let old = |pick: fn(&Connection) -> i64, default: i64| before.map_or(default, pick);
        let request_timeout_ms = read.integer("requestTimeout", 100, 300_000, old(|c| c.request_timeout_ms, 30_000));
        let settle_time_ms = read.integer("settleTime", 100, DAY_MS, old(|c| c.settle_time_ms, 60_000));
        let pull_overlap_ms = read.integer("pullOverlap", 0, 30 * DAY_MS, old(|c| c.pull_overlap_ms, 300_000));
        let patience_ms = read.integer("patience", 1000, 365 * DAY_MS, old(|c| c.patience_ms, 7 * DAY_MS));
        let max_concurrency = read.integer("maxConcurrency", 1, 8, old(|c| i64::from(c.max_concurrency), 4)).unsigned_abs() as u32;
        let batch_size = read.integer("batchSize", 1, 100, old(|c| i64::from(c.batch_size), 100)).unsigned_abs() as u32;
        let max_requests_per_second = match read.body.get("maxRequestsPerSecond") {
            None => before.and_then(|c| c.max_requests_per_second),
            Some(Value::Null) => None,
            Some(_) => Some(read.integer("maxRequestsPerSecond", 1, 100_000, 1).unsigned_abs() as u32),
        };
        let enabled = read.boolean("enabled", before.is_some_and(|c| c.enabled));
        let patient_create = read.boolean("patientCreate", before.is_none_or(|c| c.patient_create));
        let identifier_system =
            read.token_text("identifierSystem", before.map_or("urn:ponte:observation", |c| c.identifier_system.as_str()));
        let score_category = read.token_text("scoreCategory", before.map_or("survey", |c| c.score_category.as_str()));
        let metadata = match read.body.get("metadata") {
            None => before.and_then(|c| c.metadata.clone()),
            Some(Value::Null) => None,
            Some(value) => Some(value.clone()),
        };
        match (base_url, auth, read.errors.is_empty()) {
            (Some(base_url), Some((auth, secret_changed)), true) => Ok(Built {
                moved: before.is_some_and(|c| c.base_url != base_url),
                secret_changed,
                connection: Connection {
                    enabled,
                    base_url,
                    auth,
                    direction,
                    frequency,
                    retry,
                    metadata,
                    identifier_system,
                    patient_create,
                    request_timeout_ms,
                    settle_time_ms,
                    pull_overlap_ms,
                    patience_ms,
                    max_concurrency,
                    max_requests_per_second,
                    batch_size,
                    score_category,
                    misused_codes,
                },
            }),
            _ => Err(read.errors),
        }
    }
}

struct Reader<'a> {
    body: &'a Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Reader<'_> {
    fn wrong(&mut self, pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) {
        self.errors.push(FieldError::new(pointer, code, detail));
    }

    fn unknown_fields(&mut self) {
        for key in self.body.keys() {
            if !FIELDS.contains(&key.as_str()) && !READ_ONLY.contains(&key.as_str()) {
                let pointer = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
                self.wrong(pointer, "unknown_field", "This field is not part of a configuration.");
            }
        }
    }

    fn base_url(&mut self, before: Option<&Connection>) -> Option<String> {
        match self.body.get("baseUrl") {
            None => {
                if before.is_none() {
                    self.wrong("/baseUrl", "required", "baseUrl is the FHIR base of the EHR, for example https://fhir.example.com/fhir.");
                }
                before.map(|c| c.base_url.clone())
            }
            Some(Value::String(text)) => match url_problem(text) {
                None => Some(text.trim_end_matches('/').to_owned()),
                Some(problem) => {
                    self.wrong("/baseUrl", "invalid_url", problem);
                    None
                }
            },
            Some(_) => {
                self.wrong("/baseUrl", "wrong_type", "baseUrl is a text.");
                None
            }
        }
    }

    fn auth(&mut self, before: Option<&Connection>) -> Option<(AuthConfig, bool)> {
        let kind = match self.body.get("authType") {
            None => match before {
                Some(before) => before.auth.kind(),
                None => {
                    self.wrong("/authType", "required", "authType is one of oauth2, basic, apikey.");
                    return None;
                }
            },
            Some(Value::String(kind)) if ["oauth2", "basic", "apikey"].contains(&kind.as_str()) => kind.as_str(),
            Some(_) => {
                self.wrong("/authType", "not_allowed", "authType is one of oauth2, basic, apikey.");
                return None;
            }
        };
        let same = before.map(|c| &c.auth).filter(|auth| auth.kind() == kind);
        let empty = Map::new();
        let given = match self.body.get("authConfig") {
            None => {
                if same.is_none() {
                    self.wrong("/authConfig", "required", "This authType needs its whole authConfig.");
                    return None;
                }
                &empty
            }
            Some(Value::Object(given)) => given,
            Some(_) => {
                self.wrong("/authConfig", "wrong_type", "authConfig is an object.");
                return None;
            }
        };
        let known: &[&str] = match kind {
            "oauth2" => &["clientId", "clientSecret", "tokenUrl", "scope"],
            "basic" => &["username", "password"],
            _ => &["apiKey", "apiKeyHeader"],
        };
        for key in given.keys().filter(|key| !known.contains(&key.as_str())) {
            let pointer = format!("/authConfig/{}", key.replace('~', "~0").replace('/', "~1"));
            self.wrong(pointer, "unknown_field", "This field is not part of this authType.");
        }
        let errors_before = self.errors.len();
        let mut changed = false;
        let auth = match kind {
            "oauth2" => {
                let old = match same {
                    Some(AuthConfig::OAuth2 { client_id, client_secret, token_url, scope }) => {
                        Some((client_id, client_secret, token_url, scope))
                    }
                    _ => None,
                };
                let token_url = self.auth_text(given, "tokenUrl", old.map(|o| o.2.as_str()), None);
                if let Some(problem) = given.get("tokenUrl").and_then(Value::as_str).and_then(url_problem) {
                    self.wrong("/authConfig/tokenUrl", "invalid_url", problem);
                }
                let scope = match given.get("scope") {
                    None => old.and_then(|o| o.3.clone()),
                    Some(Value::Null) => None,
                    Some(Value::String(scope)) if scope.trim().is_empty() => None,
                    Some(Value::String(scope)) => Some(scope.clone()),
                    Some(_) => {
                        self.wrong("/authConfig/scope", "wrong_type", "scope is a text.");
                        None
                    }
                };
                AuthConfig::OAuth2 {
                    client_id: self.auth_text(given, "clientId", old.map(|o| o.0.as_str()), None),
                    client_secret: self.secret(given, "clientSecret", old.map(|o| o.1), &mut changed),
                    token_url,
                    scope,
                }
            }
            "basic" => {
                let old = match same {
                    Some(AuthConfig::Basic { username, password }) => Some((username, password)),
                    _ => None,
                };
                let username = self.auth_text(given, "username", old.map(|o| o.0.as_str()), None);
                if username.contains(':') {
                    self.wrong("/authConfig/username", "not_allowed", "A Basic user name cannot hold a colon (RFC 7617).");
                }
                AuthConfig::Basic { username, password: self.secret(given, "password", old.map(|o| o.1), &mut changed) }
            }
            _ => {
                let old = match same {
                    Some(AuthConfig::ApiKey { api_key, header }) => Some((api_key, header)),
                    _ => None,
                };
                let header = self.auth_text(given, "apiKeyHeader", old.map(|o| o.1.as_str()), Some("X-API-Key"));
                let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
                if header.is_empty() || !header.bytes().all(token) {
                    self.wrong("/authConfig/apiKeyHeader", "invalid_header", "apiKeyHeader is the name of an HTTP header.");
                }
                AuthConfig::ApiKey { api_key: self.secret(given, "apiKey", old.map(|o| o.0), &mut changed), header }
            }
        };
        (self.errors.len() == errors_before).then_some((auth, changed))
    }

    fn auth_text(&mut self, given: &Map<String, Value>, key: &str, old: Option<&str>, default: Option<&str>) -> String {
        match given.get(key) {
            Some(Value::String(text)) if !text.trim().is_empty() => text.clone(),
            Some(Value::String(_)) => {
                self.wrong(format!("/authConfig/{key}"), "empty", format!("{key} must not be empty."));
                String::new()
            }
            Some(Value::Null) | None => match old.or(default) {
                Some(text) => text.to_owned(),
                None => {
                    self.wrong(format!("/authConfig/{key}"), "required", format!("{key} is needed."));
                    String::new()
                }
            },
            Some(_) => {
                self.wrong(format!("/authConfig/{key}"), "wrong_type", format!("{key} is a text."));
                String::new()
            }
        }
    }

    /// A secret: a text sets it; `{"set": true, …}` or nothing keeps it.
    fn secret(&mut self, given: &Map<String, Value>, key: &str, old: Option<&SecretString>, changed: &mut bool) -> SecretString {
        let keeps = match given.get(key) {
            None | Some(Value::Null) => true,
            Some(Value::Object(shown)) => shown.get("set") == Some(&Value::Bool(true)),
            Some(_) => false,
        };
        match (given.get(key), keeps, old) {
            (_, true, Some(old)) => old.expose_secret().into(),
            (Some(Value::String(text)), _, _) if !text.is_empty() => {
                *changed = true;
                text.as_str().into()
            }
            (_, true, None) => {
                self.wrong(format!("/authConfig/{key}"), "required", format!("{key} is needed."));
                SecretString::default()
            }
            _ => {
                self.wrong(format!("/authConfig/{key}"), "wrong_type", format!("{key} is a text that is not empty."));
                SecretString::default()
            }
        }
    }

    fn boolean(&mut self, key: &str, default: bool) -> bool {
        match self.body.get(key) {
            None => default,
            Some(Value::Bool(value)) => *value,
            Some(_) => {
                self.wrong(format!("/{key}"), "wrong_type", format!("{key} is true or false."));
                default
            }
        }
    }

    fn integer(&mut self, key: &str, least: i64, most: i64, default: i64) -> i64 {
        match self.body.get(key) {
            None => default,
            Some(value) => match value.as_i64() {
                Some(number) if (least..=most).contains(&number) => number,
                Some(_) => {
                    self.wrong(format!("/{key}"), "out_of_range", format!("{key} must be from {least} to {most}."));
                    default
                }
                None => {
                    self.wrong(format!("/{key}"), "wrong_type", format!("{key} is a whole number."));
                    default
                }
            },
        }
    }

    fn float(&mut self, key: &str, least: f64, most: f64, default: f64) -> f64 {
        match self.body.get(key) {
            None => default,
            Some(value) => match value.as_f64() {
                Some(number) if (least..=most).contains(&number) => number,
                Some(_) => {
                    self.wrong(format!("/{key}"), "out_of_range", format!("{key} must be from {least} to {most}."));
                    default
                }
                None => {
                    self.wrong(format!("/{key}"), "wrong_type", format!("{key} is a number."));
                    default
                }
            },
        }
    }

    fn word<T>(&mut self, key: &str, parse: fn(&str) -> Option<T>, default: T) -> T {
        match self.body.get(key) {
            None => default,
            Some(value) => match value.as_str().and_then(parse) {
                Some(word) => word,
                None => {
                    self.wrong(format!("/{key}"), "not_allowed", format!("{key} is not one of the allowed words."));
                    default
                }
            },
        }
    }

    /// A text without spaces that goes into FHIR tokens.
    fn token_text(&mut self, key: &str, default: &str) -> String {
        match self.body.get(key) {
            None => default.to_owned(),
            Some(Value::String(text))
                if !text.is_empty() && text.len() <= 150 && text.bytes().all(|b| b.is_ascii_graphic() && !b"|,$\\".contains(&b)) =>
            {
                text.clone()
            }
            Some(_) => {
                self.wrong(
                    format!("/{key}"),
                    "not_allowed",
                    format!("{key} is a text of up to 150 visible ASCII characters, without | , $ and \\."),
                );
                default.to_owned()
            }
        }
    }
}

/// Why a text is no base or token URL, if it is none. What may be dialled is the address guard's matter.
fn url_problem(text: &str) -> Option<&'static str> {
    let rest = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) | (None, Some(rest)) => rest,
        (None, None) => return Some("It must begin with https:// (or http:// where the operator allows local addresses)."),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    if authority.is_empty() {
        return Some("It has no host.");
    }
    if authority.contains('@') {
        return Some("It must not hold a user name or password.");
    }
    if text.contains(['?', '#']) {
        return Some("It must not hold a query or a fragment.");
    }
    if text.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) || text.len() > 2000 {
        return Some("It is not a URL.");
    }
    None
}

#[cfg(test)]
mod tests;
