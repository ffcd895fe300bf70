//! What every answer gets: a request id, a problem body where it is one, safe headers, a log line, a measured duration.

use crate::problem::{PROBLEM_JSON, Problem};
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue};
use std::panic::AssertUnwindSafe;
use std::time::Instant;
use tracing::Instrument;

/// `X-Request-Id`: taken where the caller gives a sane one, else made here.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of this request.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) HeaderValue);

impl RequestId {
    pub(crate) fn text(&self) -> &str {
        self.0.to_str().unwrap_or("")
    }
}

/// The outermost layer.
pub(crate) async fn edge(mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    // The template, never the path: a path holds ids.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!(
        "request",
        request_id = id.text(),
        trace_id = trace_id(&request),
        tenant_id = tracing::field::Empty,
        method = %method,
        route = %route,
    );
    let started = Instant::now();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = answer.unwrap_or_else(|_| Problem::internal().into_response());
    let code = finish(&mut response, &id);
    let (status, took) = (response.status().as_u16(), started.elapsed());
    let _entered = span.enter();
    tracing::info!(status, code, duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "answered");
    metrics::histogram!("http_server_request_duration_seconds", "route" => route, "method" => method.to_string(), "status" => status.to_string())
        .record(took.as_secs_f64());
    response
}

/// Gives a problem its request's id, a bare error its problem, and every answer its headers. Says the problem's code.
fn finish(response: &mut Response, id: &RequestId) -> Option<&'static str> {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let written = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(PROBLEM_JSON.as_bytes()));
    let mut problem = response.extensions_mut().remove::<Problem>();
    if problem.is_none() && is_error && !written {
        let bare = Problem::of_bare(status, response.headers().get(ALLOW).cloned());
        let kept = std::mem::replace(response, bare.clone().into_response());
        for (name, value) in kept.headers() {
            if name != CONTENT_TYPE && name != CONTENT_LENGTH {
                response.headers_mut().insert(name.clone(), value.clone());
            }
        }
        problem = Some(bare);
    }
    if let Some(problem) = &problem {
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = Body::from(problem.body(Some(id.text())).to_string());
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.0.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    problem.map(|problem| problem.code())
}

fn request_id(request: &Request) -> RequestId {
    let sane = |value: &&HeaderValue| {
        (1..=128).contains(&value.len()) && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(b))
    };
    let given = request.headers().get(REQUEST_ID).filter(sane).cloned();
    let made = || HeaderValue::from_str(&uuid::Uuid::now_v7().to_string()).unwrap_or(HeaderValue::from_static("unknown"));
    RequestId(given.unwrap_or_else(made))
}

/// The trace id of a W3C `traceparent`, `00-<32 hex>-<16 hex>-<2 hex>`, if the caller sends one.
fn trace_id(request: &Request) -> Option<&str> {
    let text = request.headers().get("traceparent")?.to_str().ok()?;
    let id = text.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}
