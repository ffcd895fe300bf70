//! Answers as HTTP: headers, bodies and the faults that only the wire shows.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::call::Answer;
use crate::outcome::{Refusal, outcome};
use crate::{Hang, Severed};

/// What a FHIR server sends as its content type.
pub(crate) const FHIR_JSON: &str = "application/fhir+json; charset=utf-8";

/// The page of a web server that knows no FHIR at this address.
pub(crate) const NOT_FOUND_PAGE: &str = "<!DOCTYPE html>\r\n<html><head><title>404 - File or directory not found.</title></head>\r\n<body><h2>404 - File or directory not found.</h2></body></html>\r\n";

/// A page of some program between client and server.
pub(crate) const GATEWAY_PAGE: &str = "<html>\r\n<head><title>Bad Gateway</title></head>\r\n<body><center><h1>The server is temporarily unable to service your request</h1></center></body>\r\n</html>\r\n";

/// A sign-in page that answers 200 to everything.
pub(crate) const LOGIN_PAGE: &str =
    "<!DOCTYPE html>\r\n<html><head><title>Sign in</title></head><body><form>Please sign in to continue</form></body></html>\r\n";

/// An answer before it becomes HTTP.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn page(status: u16, content_type: &'static str, body: impl Into<String>) -> Reply {
        Reply { status, headers: Vec::new(), content_type, body: body.into() }
    }

    pub(crate) fn answer(answer: Answer) -> Reply {
        let mut headers = Vec::new();
        if let Some(location) = answer.location {
            headers.push(("location", location));
        }
        if let Some(etag) = answer.etag {
            headers.push(("etag", format!("W/\"{etag}\"")));
        }
        if let Some(at) = answer.last_modified {
            headers.push(("last-modified", crate::instant::http_date(at)));
        }
        Reply {
            status: answer.status,
            headers,
            content_type: FHIR_JSON,
            body: answer.body.map(|body| body.to_compact()).unwrap_or_default(),
        }
    }

    pub(crate) fn refusal(refusal: Refusal) -> Reply {
        let headers = refusal.header.into_iter().collect();
        match refusal.page {
            Some((content_type, body)) => Reply { status: refusal.status, headers, content_type, body },
            None => Reply { status: refusal.status, headers, content_type: FHIR_JSON, body: outcome(&refusal.issues).to_compact() },
        }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// As HTTP; `drip_ms` spreads the body over that many milliseconds.
    pub(crate) fn into_response(self, drip_ms: Option<u64>) -> Response {
        let mut response = match drip_ms {
            Some(ms) if !self.body.is_empty() => Response::new(drip(self.body, ms)),
            _ => Response::new(Body::from(self.body.clone())),
        };
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        if !self.content_type.is_empty() && self.status != 204 && self.status != 304 {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        response
    }
}

/// The line is cut: nothing of this response is to reach the client.
pub(crate) fn severed(committed: bool) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.extensions_mut().insert(Severed { committed });
    response
}

/// The answer never comes.
pub(crate) fn hang(committed: bool, ms: u64) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.extensions_mut().insert(Hang { committed, ms: ms.min(120_000) });
    response
}

fn drip(body: String, ms: u64) -> Body {
    const DROPS: usize = 10;
    let size = body.len().div_ceil(DROPS).max(1);
    let bytes = Bytes::from(body);
    let pause = Duration::from_millis(ms / DROPS as u64);
    Body::from_stream(futures::stream::unfold(bytes, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let drop = left.split_to(size.min(left.len()));
        Some((Ok::<_, Infallible>(drop), left))
    }))
}
