//! A connection in the columns of `fhir_integration_configs`: the original's, one JSON of what is new, `auth_config` sealed.

use super::{Cache, StoredConnection};
use crate::engine::{Tx, Value, args};
use crate::seal::DataKey;
use crate::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::connection::MisusedCodes;
use model::{AuthConfig, Connection, Direction, Frequency, RetryPolicy, TenantId};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroize;

/// What the original's table has no column for.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    identifier_system: String,
    patient_create: bool,
    request_timeout: i64,
    settle_time: i64,
    pull_overlap: i64,
    patience: i64,
    max_concurrency: u32,
    max_requests_per_second: Option<u32>,
    batch_size: u32,
    score_category: String,
    misused_codes: MisusedCodes,
}

/// `auth_config` before it is sealed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Auth {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_header: Option<String>,
}

impl Drop for Auth {
    fn drop(&mut self) {
        for secret in [&mut self.client_secret, &mut self.password, &mut self.api_key].into_iter().flatten() {
            secret.zeroize();
        }
    }
}

/// The tenant's connection, opened or from the cache.
pub(crate) async fn load(tx: &mut Tx, tenant: &TenantId, key: &DataKey, cache: &Cache) -> Result<Option<StoredConnection>> {
    let row = tx
        .row(
            "SELECT c.id, c.enabled, c.base_url, c.auth_type, c.auth_config, c.sync_direction, c.sync_frequency, c.max_retries, \
             c.initial_delay, c.max_delay, c.backoff_multiplier, c.last_sync_at, c.last_error, c.metadata, c.created_at, c.updated_at, \
             c.secret_updated_at, c.revision, c.settings, COALESCE(r.generation, 1) AS generation \
             FROM fhir_integration_configs c LEFT JOIN connections r ON r.tenant_id = c.tenant_id WHERE c.tenant_id = $1",
            args![tenant],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (id, revision) = (row.uuid("id")?, row.int("revision")?);
    let connection = match cache.get(tenant, id, revision) {
        Some(connection) => connection,
        None => {
            let corrupt = Error::Corrupt("fhir_integration_configs");
            let settings: Settings = serde_json::from_str(&row.text("settings")?).map_err(|_| corrupt)?;
            let opened = Arc::new(Connection {
                enabled: row.boolean("enabled")?,
                base_url: row.text("base_url")?,
                auth: open_auth(key, id, &row.text("auth_type")?, &row.text("auth_config")?)?,
                direction: Direction::parse(&row.text("sync_direction")?).ok_or(Error::Corrupt("fhir_integration_configs"))?,
                frequency: Frequency::parse(&row.text("sync_frequency")?).ok_or(Error::Corrupt("fhir_integration_configs"))?,
                retry: RetryPolicy {
                    max_retries: row.count("max_retries")?,
                    initial_delay_ms: row.int("initial_delay")?,
                    max_delay_ms: row.int("max_delay")?,
                    backoff_multiplier: row.float("backoff_multiplier")?,
                },
                metadata: match row.text_opt("metadata")? {
                    Some(text) => Some(serde_json::from_str(&text).map_err(|_| Error::Corrupt("fhir_integration_configs"))?),
                    None => None,
                },
                identifier_system: settings.identifier_system,
                patient_create: settings.patient_create,
                request_timeout_ms: settings.request_timeout,
                settle_time_ms: settings.settle_time,
                pull_overlap_ms: settings.pull_overlap,
                patience_ms: settings.patience,
                max_concurrency: settings.max_concurrency,
                max_requests_per_second: settings.max_requests_per_second,
                batch_size: settings.batch_size,
                score_category: settings.score_category,
                misused_codes: settings.misused_codes,
            });
            cache.put(tenant, id, revision, opened.clone());
            opened
        }
    };
    Ok(Some(StoredConnection {
        id,
        connection,
        revision,
        generation: row.int("generation")?,
        secret_updated_at: row.ts("secret_updated_at")?,
        last_sync_at: row.ts_opt("last_sync_at")?,
        last_error: row.text_opt("last_error")?,
        created_at: row.ts("created_at")?,
        updated_at: row.ts("updated_at")?,
    }))
}

/// The values of the columns from `enabled` to `max_concurrency` (which the claims read by SQL, so that it has a column of its
/// own beside the settings), in the order of `change::put`'s statements.
pub(super) fn values(key: &DataKey, id: uuid::Uuid, connection: &Connection) -> Result<Vec<Value>> {
    let settings = Settings {
        identifier_system: connection.identifier_system.clone(),
        patient_create: connection.patient_create,
        request_timeout: connection.request_timeout_ms,
        settle_time: connection.settle_time_ms,
        pull_overlap: connection.pull_overlap_ms,
        patience: connection.patience_ms,
        max_concurrency: connection.max_concurrency,
        max_requests_per_second: connection.max_requests_per_second,
        batch_size: connection.batch_size,
        score_category: connection.score_category.clone(),
        misused_codes: connection.misused_codes,
    };
    let settings = serde_json::to_string(&settings).map_err(|_| Error::Corrupt("fhir_integration_configs"))?;
    Ok(args![
        connection.enabled,
        &connection.base_url,
        connection.auth.kind(),
        seal_auth(key, id, &connection.auth)?,
        connection.direction.word(),
        connection.frequency.word(),
        connection.retry.max_retries,
        connection.retry.initial_delay_ms,
        connection.retry.max_delay_ms,
        connection.retry.backoff_multiplier,
        connection.metadata.as_ref().map(serde_json::Value::to_string),
        settings,
        connection.max_concurrency
    ])
}

fn seal_auth(key: &DataKey, id: uuid::Uuid, auth: &AuthConfig) -> Result<String> {
    let mut plain = Auth {
        client_id: None,
        client_secret: None,
        token_url: None,
        scope: None,
        username: None,
        password: None,
        api_key: None,
        api_key_header: None,
    };
    let shown = |secret: &SecretString| Some(secret.expose_secret().to_owned());
    match auth {
        AuthConfig::OAuth2 { client_id, client_secret, token_url, scope } => {
            plain.client_id = Some(client_id.clone());
            plain.client_secret = shown(client_secret);
            plain.token_url = Some(token_url.clone());
            plain.scope.clone_from(scope);
        }
        AuthConfig::Basic { username, password } => {
            plain.username = Some(username.clone());
            plain.password = shown(password);
        }
        AuthConfig::ApiKey { api_key, header } => {
            plain.api_key = shown(api_key);
            plain.api_key_header = Some(header.clone());
        }
    }
    Ok(STANDARD.encode(key.seal_json("fhir_integration_configs", "auth_config", id, &plain)?))
}

fn open_auth(key: &DataKey, id: uuid::Uuid, kind: &str, sealed: &str) -> Result<AuthConfig> {
    let sealed = STANDARD.decode(sealed).map_err(|_| Error::Sealed)?;
    let mut plain: Auth = key.open_json("fhir_integration_configs", "auth_config", id, &sealed)?;
    let secret = |taken: Option<String>| taken.map(SecretString::from);
    let opened = match kind {
        "oauth2" => match (plain.client_id.take(), secret(plain.client_secret.take()), plain.token_url.take()) {
            (Some(client_id), Some(client_secret), Some(token_url)) => {
                Some(AuthConfig::OAuth2 { client_id, client_secret, token_url, scope: plain.scope.take() })
            }
            _ => None,
        },
        "basic" => match (plain.username.take(), secret(plain.password.take())) {
            (Some(username), Some(password)) => Some(AuthConfig::Basic { username, password }),
            _ => None,
        },
        "apikey" => match (secret(plain.api_key.take()), plain.api_key_header.take()) {
            (Some(api_key), Some(header)) => Some(AuthConfig::ApiKey { api_key, header }),
            _ => None,
        },
        _ => None,
    };
    opened.ok_or(Error::Corrupt("fhir_integration_configs"))
}
