//! One call behind the door: who calls, which tenant's data, and how answers are written.

use crate::auth::Principal;
use crate::edge::RequestId;
use crate::json::{self, Json, Limit};
use crate::problem::Problem;
use crate::routes::App;
use axum::body::Body;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use model::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// What every handler of `/api/v1` gets. It cannot be had without a verified token.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) app: App,
    pub(crate) who: Principal,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) request_id: String,
}

impl FromRequestParts<App> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let who = parts.extensions.get::<Principal>().cloned();
        let who = who.ok_or_else(|| Problem::unauthorized(false, "This needs a bearer token in the Authorization header."))?;
        let uri = parts.extensions.get::<OriginalUri>().map_or_else(|| parts.uri.clone(), |uri| uri.0.clone());
        Ok(Self {
            app: app.clone(),
            who,
            method: parts.method.clone(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            headers: parts.headers.clone(),
            request_id: parts.extensions.get::<RequestId>().map(|id| id.text().to_owned()).unwrap_or_default(),
        })
    }
}

impl Call {
    /// The caller's tenant: the only one that this call can reach.
    pub(crate) fn tenant(&self) -> store::Tenant {
        self.app.api.store.tenant(&self.who.tenant)
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        self.app.api.clock.now()
    }

    /// A body with one thing in it.
    pub(crate) async fn json(&self, body: Body) -> Result<Json, Problem> {
        json::read(&self.headers, body, self.limit(json::SINGLE)).await
    }

    /// A body with up to a thousand things in it.
    pub(crate) async fn batch_json(&self, body: Body) -> Result<Json, Problem> {
        json::read(&self.headers, body, self.limit(json::BATCH)).await
    }

    /// A body that may be left out.
    pub(crate) async fn optional_json(&self, body: Body) -> Result<Json, Problem> {
        json::read_optional(&self.headers, body, self.limit(json::SINGLE)).await
    }

    fn limit(&self, bytes: usize) -> Limit {
        Limit { bytes, time: self.app.api.body_time }
    }
}

/// An id in a path. What is no id is nobody's: 404.
pub(crate) fn path_id<T>(text: &str, wrap: fn(Uuid) -> T) -> Result<T, Problem> {
    uuid(text).map(wrap).ok_or_else(Problem::not_found)
}

/// A UUID in its usual spelling.
pub(crate) fn uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::parse_str(text).ok()).flatten()
}

/// An answer with a JSON body.
pub(crate) fn answer<T: Serialize>(status: StatusCode, body: &T) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(body).map_err(|error| {
        tracing::error!(line = error.line(), "an answer could not be written");
        Problem::internal()
    })?;
    Ok((status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response())
}

/// An answer without a body.
pub(crate) fn empty() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Says where the thing is, or where its outcome will be.
pub(crate) fn located(mut response: Response, path: &str) -> Result<Response, Problem> {
    let value = HeaderValue::from_str(path).map_err(|_| Problem::internal())?;
    response.headers_mut().insert(LOCATION, value);
    Ok(response)
}
