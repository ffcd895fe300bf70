//! The tenant's connection: ADMIN alone. Secrets go in and never come out (PRODUCT, law 5).

use crate::call::{Call, answer, empty, located};
use crate::idempotency;
use crate::patients::{TRIES, changed_meanwhile};
use crate::problem::Problem;
use crate::schema::ConfigBody;
use crate::schema::answers::ProblemAnswer;
use axum::body::Body;
use axum::response::Response;
use ehr::guard::Guard;
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use model::connection::{Built, secret_shown};
use model::grade::guarantee;
use model::{AuthConfig, Connection, FieldError, Timestamp};
use serde_json::{Map, Value, json};
use store::{Runtime, StoredConnection};

/// The connection. 404 before the first.
#[utoipa::path(get, path = "/fhir/config", tag = "config", operation_id = "getConfig",
    responses((status = 200, description = "The connection; a secret is shown as `{\"set\": true, \"updatedAt\"}`.", body = ConfigBody, headers(("ETag" = String)))))]
pub(crate) async fn get(call: Call) -> Result<Response, Problem> {
    call.who.must_be_admin()?;
    let stored = call.tenant().connection().await?.ok_or_else(none_yet)?;
    respond(&call, StatusCode::OK, &stored).await
}

/// Creates the connection, or replaces it: what is left out takes its default, a secret shown as set is kept.
#[utoipa::path(post, path = "/fhir/config", tag = "config", operation_id = "putWholeConfig", request_body = ConfigBody,
    params(("If-Match" = Option<String>, Header, description = "ETag of the connection that is replaced."), ("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 200, description = "Replaced.", body = ConfigBody, headers(("ETag" = String))),
        (status = 201, description = "Created.", body = ConfigBody, headers(("ETag" = String), ("Location" = String))),
        (status = 412, description = "`precondition_failed`: it was changed since.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn create(call: Call, body: Body) -> Result<Response, Problem> {
    call.who.must_be_admin()?;
    let body = call.json(body).await?;
    let work = {
        let (call, object) = (call.clone(), body.object);
        async move { store(&call, &object, true).await }
    };
    idempotency::once(&call, &body.bytes, work).await
}

/// Changes the fields that are given; `authConfig` key by key, but another `authType` needs its whole `authConfig`.
#[utoipa::path(put, path = "/fhir/config", tag = "config", operation_id = "changeConfig",
    request_body(content = ConfigBody, description = "Any of the fields."),
    params(("If-Match" = Option<String>, Header, description = "ETag of the connection that is changed.")),
    responses((status = 200, description = "As it is now; it holds from the next attempt on.", body = ConfigBody, headers(("ETag" = String))),
        (status = 412, description = "`precondition_failed`: it was changed since.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn change(call: Call, body: Body) -> Result<Response, Problem> {
    call.who.must_be_admin()?;
    let body = call.json(body).await?;
    store(&call, &body.object, false).await
}

/// Deletes the connection. What waits stays, held as `not_configured`.
#[utoipa::path(delete, path = "/fhir/config", tag = "config", operation_id = "deleteConfig",
    params(("If-Match" = Option<String>, Header, description = "ETag of the connection that is deleted.")),
    responses((status = 204, description = "Deleted."), (status = 404, description = "`not_found`: there is none.", body = ProblemAnswer, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`: it was changed since.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn delete(call: Call) -> Result<Response, Problem> {
    call.who.must_be_admin()?;
    let before = call.tenant().connection().await?;
    must_match(&call.headers, before.as_ref())?;
    if call.tenant().delete_connection(call.now(), &call.who.sub).await? { Ok(empty()) } else { Err(none_yet()) }
}

async fn store(call: &Call, object: &Map<String, Value>, whole: bool) -> Result<Response, Problem> {
    let tenant = call.tenant();
    for _ in 0..TRIES {
        let before = tenant.connection().await?;
        must_match(&call.headers, before.as_ref())?;
        if !whole && before.is_none() {
            return Err(none_yet());
        }
        let built = build(object, before.as_ref(), whole).map_err(Problem::fields)?;
        let refused = forbidden_addresses(&Guard::new(call.app.api.guard.clone()), &built.connection);
        if !refused.is_empty() {
            return Err(Problem::fields(refused));
        }
        let expected = before.as_ref().map(|stored| stored.revision);
        if let Some(stored) = tenant.put_connection(call.now(), &built, expected, &call.who.sub).await? {
            let status = if before.is_none() { StatusCode::CREATED } else { StatusCode::OK };
            return respond(call, status, &stored).await;
        }
    }
    Err(changed_meanwhile())
}

/// A change is built over what there is. A whole body is built over the defaults: only its secrets may stand for those kept.
fn build(object: &Map<String, Value>, before: Option<&StoredConnection>, whole: bool) -> Result<Built, Vec<FieldError>> {
    let Some(before) = before.map(|stored| &*stored.connection) else { return Connection::build(object, None) };
    if !whole {
        return Connection::build(object, Some(before));
    }
    let missing = ["baseUrl", "authType", "authConfig"].into_iter().filter(|key| !object.contains_key(*key));
    let missing: Vec<FieldError> =
        missing.map(|key| FieldError::new(format!("/{key}"), "required", format!("{key} is needed; PUT changes single fields."))).collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    let bare = json!({"baseUrl": before.base_url, "authType": "basic", "authConfig": {"username": "-", "password": "-"}});
    let Value::Object(bare) = bare else { return Connection::build(object, Some(before)) };
    let defaults = Connection { auth: before.auth.clone(), ..Connection::build(&bare, None)?.connection };
    Connection::build(object, Some(&defaults))
}

/// What may not be dialled on a tenant's word. Names are judged again when they resolve, at every connect.
fn forbidden_addresses(guard: &Guard, connection: &Connection) -> Vec<FieldError> {
    let mut urls = vec![("/baseUrl", connection.base_url.as_str())];
    if let AuthConfig::OAuth2 { token_url, .. } = &connection.auth {
        urls.push(("/authConfig/tokenUrl", token_url));
    }
    let refused = urls.into_iter().filter_map(|(pointer, url)| guard.check_url(url).err().map(|why| (pointer, why)));
    refused.map(|(pointer, why)| FieldError::new(pointer, why.code(), why.to_string())).collect()
}

/// `If-Match` (RFC 9110 §13.1.1), where it is given.
fn must_match(headers: &HeaderMap, stored: Option<&StoredConnection>) -> Result<(), Problem> {
    let mut wanted = headers.get_all(IF_MATCH).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).peekable();
    if wanted.peek().is_none() {
        return Ok(());
    }
    let current = stored.map(etag);
    if wanted.map(str::trim).any(|tag| (tag == "*" && current.is_some()) || Some(tag) == current.as_deref()) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "precondition_failed",
        "The configuration is not the one that If-Match names; read it again and decide.",
    ))
}

fn etag(stored: &StoredConnection) -> String {
    format!("\"{}\"", stored.revision)
}

fn none_yet() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "There is no configuration yet; create it with POST /api/v1/fhir/config.")
}

async fn respond(call: &Call, status: StatusCode, stored: &StoredConnection) -> Result<Response, Problem> {
    let runtime = call.tenant().runtime().await?;
    let mut response = answer(status, &shown(call.who.tenant.as_str(), stored, &runtime, call.now()))?;
    if let Ok(tag) = HeaderValue::from_str(&etag(stored)) {
        response.headers_mut().insert(ETAG, tag);
    }
    if status == StatusCode::CREATED { located(response, "/api/v1/fhir/config") } else { Ok(response) }
}

/// The configuration as it is shown; sent back, it changes nothing.
fn shown(tenant: &str, stored: &StoredConnection, runtime: &Runtime, now: Timestamp) -> Value {
    let c = &stored.connection;
    let secret = || secret_shown(&stored.secret_updated_at.rfc3339());
    let auth = match &c.auth {
        AuthConfig::OAuth2 { client_id, token_url, scope, .. } => {
            json!({"clientId": client_id, "clientSecret": secret(), "tokenUrl": token_url, "scope": scope})
        }
        AuthConfig::Basic { username, .. } => json!({"username": username, "password": secret()}),
        AuthConfig::ApiKey { header, .. } => json!({"apiKey": secret(), "apiKeyHeader": header}),
    };
    json!({
        "id": stored.id.to_string(),
        "tenantId": tenant,
        "enabled": c.enabled,
        "baseUrl": c.base_url,
        "authType": c.auth.kind(),
        "authConfig": auth,
        "syncDirection": c.direction.word(),
        "syncFrequency": c.frequency.word(),
        "maxRetries": c.retry.max_retries,
        "initialDelay": c.retry.initial_delay_ms,
        "maxDelay": c.retry.max_delay_ms,
        "backoffMultiplier": c.retry.backoff_multiplier,
        "metadata": c.metadata,
        "identifierSystem": c.identifier_system,
        "patientCreate": c.patient_create,
        "requestTimeout": c.request_timeout_ms,
        "settleTime": c.settle_time_ms,
        "pullOverlap": c.pull_overlap_ms,
        "patience": c.patience_ms,
        "maxConcurrency": c.max_concurrency,
        "maxRequestsPerSecond": c.max_requests_per_second,
        "batchSize": c.batch_size,
        "scoreCategory": c.score_category,
        "misusedCodes": c.misused_codes.word(),
        "generation": stored.generation,
        "guarantee": guarantee(&runtime.plan, now).sentence.en,
        "plan": serde_json::to_value(&runtime.plan).unwrap_or(Value::Null),
        "lastSyncAt": stored.last_sync_at.map(|at| at.rfc3339()),
        "lastError": stored.last_error,
        "createdAt": stored.created_at.rfc3339(),
        "updatedAt": stored.updated_at.rfc3339(),
    })
}
