//! `Idempotency-Key` (IETF draft-ietf-httpapi-idempotency-key-header-07): one request, one effect, however often it is sent.
//!
//! Where a POST writes rows, the store keeps the key in their transaction. Where it asks for work (sync, pull, replay …),
//! [`once`] keeps the answer: also a refusal of the EHR, because that is what became of that request.

use crate::call::Call;
use crate::problem::{PROBLEM_JSON, Problem};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::future::Future;
use store::idempotency::{Key, Stored};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const LONGEST: usize = 255;

/// The request's key with the digest of method, path and body, if it has one.
///
/// # Errors
/// 400 for a key that is none.
pub(crate) fn key_of(call: &Call, body: &[u8]) -> Result<Option<Key>, Problem> {
    let Some(key) = given(&call.headers)? else { return Ok(None) };
    // The store keeps it keyed: nobody who reads the database can guess a body by its digest.
    let mut digest = Sha256::new();
    for part in [call.method.as_str().as_bytes(), call.path.as_bytes(), body] {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    let fingerprint = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(Key { key, fingerprint }))
}

/// The same key with another request.
pub(crate) fn other_request() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
        "This Idempotency-Key was used for another request; take a new key for a new request.",
    )
}

/// Marks an answer that was given before.
pub(crate) fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Does `work` once under the request's key, if it has one. It goes on when the caller hangs up.
///
/// # Errors
/// 422 for a key of another request, 409 while the same one is under way, and whatever `work` answers.
pub(crate) async fn once<F>(call: &Call, body: &[u8], work: F) -> Result<Response, Problem>
where
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    let Some(key) = key_of(call, body)? else { return work.await };
    let tenant = call.tenant();
    match tenant.idempotency_begin(call.now(), &key).await? {
        Stored::OtherRequest => Err(other_request()),
        Stored::Running => {
            Err(Problem::conflict("idempotency_in_progress", "The same request is being served right now; ask again in a moment.")
                .retry_after_ms(2000))
        }
        Stored::Answer { status, body } => again(call, status, &body),
        Stored::New => {
            let clock = call.app.api.clock.clone();
            let served = tokio::spawn(async move {
                let outcome = work.await;
                // What broke on our side says nothing about the request: the key stays free for another try.
                if outcome.as_ref().is_err_and(|problem| ["internal", "database_unavailable"].contains(&problem.code())) {
                    return outcome;
                }
                let (parts, body) = outcome.unwrap_or_else(IntoResponse::into_response).into_parts();
                let bytes = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| Problem::internal())?;
                let header = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
                let kept = json!({
                    "contentType": header(CONTENT_TYPE),
                    "location": header(LOCATION),
                    "body": String::from_utf8_lossy(&bytes),
                });
                tenant.idempotency_finish(clock.now(), &key, parts.status.as_u16(), &kept.to_string()).await?;
                Ok(Response::from_parts(parts, Body::from(bytes)))
            });
            served.await.unwrap_or_else(|_| Err(Problem::internal()))
        }
    }
}

fn given(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(KEY).iter();
    let Some(first) = keys.next() else { return Ok(None) };
    let text = first.to_str().map(str::trim).unwrap_or("");
    let good = (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if good && keys.next().is_none() {
        return Ok(Some(text.to_owned()));
    }
    Err(Problem::new(
        StatusCode::BAD_REQUEST,
        "invalid_idempotency_key",
        "Idempotency-Key is one key of 1 to 255 visible ASCII characters.",
    ))
}

/// The answer of the first time.
fn again(call: &Call, status: u16, kept: &str) -> Result<Response, Problem> {
    let kept: Value = serde_json::from_str(kept).map_err(|_| Problem::internal())?;
    let text = |name: &str| kept.get(name).and_then(Value::as_str);
    let mut body = text("body").unwrap_or("").to_owned();
    let kind = text("contentType").unwrap_or("application/json");
    if kind == PROBLEM_JSON
        && let Ok(Value::Object(mut problem)) = serde_json::from_str(&body)
    {
        problem.insert("requestId".to_owned(), call.request_id.clone().into());
        body = Value::Object(problem).to_string();
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Problem::internal())?;
    for (name, value) in [(CONTENT_TYPE, Some(kind)), (LOCATION, text("location"))] {
        if let Some(value) = value {
            response.headers_mut().insert(name, HeaderValue::from_str(value).map_err(|_| Problem::internal())?);
        }
    }
    Ok(replayed(response))
}
