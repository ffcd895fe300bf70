//! Errors as `application/problem+json` (RFC 9457), with a stable `code`, the request's id and the fields that will not do.

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use model::FieldError;
use serde_json::{Map, Value, json};

/// What went wrong, as a sentence and as a code. Its text never holds a secret, nor anybody's data but the tenant's own.
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    members: Map<String, Value>,
}

/// The media type of RFC 9457.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

impl Problem {
    /// A problem with a stable snake_case code and a sentence for people.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts { status, code, detail: detail.into(), errors: Vec::new(), headers: Vec::new(), members: Map::new() }))
    }

    /// The one 404: what is not there and what is another tenant's look alike.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here under this address. Check the path and the id.")
    }

    /// 404 for an id inside a body or a query.
    pub(crate) fn not_found_at(pointer: impl Into<String>) -> Self {
        Self::not_found().with_errors(vec![FieldError::new(pointer, "not_found", "Nothing has this id.")])
    }

    /// 422 with the fields that will not do. One field gives the problem its code and sentence.
    pub(crate) fn fields(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.detail.clone(),
            many => format!("{} fields will not do; `errors` names each of them.", many.len()),
        };
        let code = match errors.as_slice() {
            [one] if ["unknown_field", "unknown_parameter", "code_misused"].contains(&one.code) => one.code,
            _ => "invalid",
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).with_errors(errors)
    }

    /// 422 for one field.
    pub(crate) fn field(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError::new(pointer, code, detail)])
    }

    /// 409 with a code.
    pub(crate) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 401 with the challenge that RFC 6750 §3 asks for.
    pub(crate) fn unauthorized(given: bool, detail: &'static str) -> Self {
        let challenge = if given { r#"Bearer realm="ponte", error="invalid_token""# } else { r#"Bearer realm="ponte""# };
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// Something of ours broke.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something of ours broke; nothing of this request is promised. Try again, and give us the requestId if it stays so.",
        )
    }

    /// Adds fields that will not do.
    #[must_use]
    pub(crate) fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`, in whole seconds, at least one.
    #[must_use]
    pub(crate) fn retry_after_ms(self, ms: i64) -> Self {
        let seconds = (ms.max(0) + 999) / 1000;
        self.with_header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Adds a member of our own (RFC 9457 §3.2).
    #[must_use]
    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    /// Its HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The body, with the request's id where there is one.
    pub(crate) fn body(&self, request_id: Option<&str>) -> Value {
        let Parts { status, code, detail, errors, members, .. } = &*self.0;
        let mut body = Map::new();
        body.insert("type".into(), format!("urn:ponte:problem:{code}").into());
        body.insert("title".into(), title(code).into());
        body.insert("status".into(), status.as_u16().into());
        body.insert("code".into(), (*code).into());
        body.insert("detail".into(), detail.as_str().into());
        if let Some(id) = request_id {
            body.insert("requestId".into(), id.into());
        }
        if !errors.is_empty() {
            let errors = errors.iter().map(|e| json!({"pointer": e.pointer, "code": e.code, "detail": e.detail}));
            body.insert("errors".into(), errors.collect());
        }
        for (name, value) in members {
            body.insert(name.clone(), value.clone());
        }
        Value::Object(body)
    }

    /// What a bare answer of the framework means: nothing leaves without a code and a sentence.
    pub(crate) fn of_bare(status: StatusCode, allow: Option<HeaderValue>) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => {
                let problem =
                    Self::new(status, "method_not_allowed", "This address does not take this method; Allow names those that it takes.");
                match allow {
                    Some(allow) => problem.with_header(ALLOW, allow),
                    None => problem,
                }
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(status, "body_too_large", "The body is too large."),
            other if other.is_client_error() => Self::new(other, "bad_request", "The request cannot be read."),
            _ => Self::internal(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.body(None).to_string().into_response();
        *response.status_mut() = self.0.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        for (name, value) in &self.0.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        // The store's errors hold no value of any row, so they may be logged.
        tracing::error!(error = %error, "the store failed a request");
        match error {
            store::Error::Database(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "database_unavailable",
                "The database does not answer; nothing was changed that was not acknowledged. Try again in a moment.",
            )
            .retry_after_ms(2000),
            _ => Self::internal(),
        }
    }
}

/// The code in words: `patient_exists` is "Patient exists".
fn title(code: &str) -> String {
    let words = code.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
