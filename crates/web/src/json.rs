//! Request bodies: JSON (RFC 8259) read strictly, decimals digit for digit, no key twice, no more bytes than allowed.

use crate::problem::Problem;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use fhir::json::{BadName, Unread, VALUES_MAX};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use std::time::Duration;

/// Bytes of a body with one thing in it.
pub(crate) const SINGLE: usize = 1024 * 1024;
/// Bytes of a batch.
pub(crate) const BATCH: usize = 16 * 1024 * 1024;

/// How much of a body is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// Bytes.
    pub(crate) bytes: usize,
    /// From its first byte to its last.
    pub(crate) time: Duration,
}

/// A body as it came and as it reads.
pub(crate) struct Json {
    /// The bytes, for the fingerprint of an idempotent request.
    pub(crate) bytes: Bytes,
    /// The object.
    pub(crate) object: Map<String, Value>,
}

/// Reads a body that must be a JSON object.
///
/// # Errors
/// 408, 413, 415, or 400 `invalid_json`.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: Limit) -> Result<Json, Problem> {
    if !is_json(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "The body must be JSON, said so by `Content-Type: application/json`, and not compressed.",
        ));
    }
    let bytes = bytes_of(body, limit).await?;
    let object = object_of(&bytes)?;
    Ok(Json { bytes, object })
}

/// The same where a body may be left out.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_optional(headers: &HeaderMap, body: Body, limit: Limit) -> Result<Json, Problem> {
    if headers.contains_key(CONTENT_TYPE) {
        let bytes = bytes_of(body, limit).await?;
        return if bytes.is_empty() { Ok(Json { bytes, object: Map::new() }) } else { read(headers, Body::from(bytes), limit).await };
    }
    let bytes = bytes_of(body, limit).await?;
    if bytes.is_empty() { Ok(Json { bytes, object: Map::new() }) } else { read(headers, Body::from(bytes), limit).await }
}

/// A JSON pointer's step (RFC 6901 §3).
pub(crate) fn step(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn is_json(headers: &HeaderMap) -> bool {
    let plain = headers.get(CONTENT_ENCODING).is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    plain && (kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")))
}

async fn bytes_of(body: Body, limit: Limit) -> Result<Bytes, Problem> {
    // A caller who says how much will come is told before it comes.
    if body.size_hint().lower() > limit.bytes as u64 {
        return Err(too_large(limit));
    }
    let Ok(read) = tokio::time::timeout(limit.time, axum::body::to_bytes(body, limit.bytes)).await else {
        return Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            format!("The body did not come whole within {} s; nothing of it was taken. Send it again.", limit.time.as_secs()),
        ));
    };
    read.map_err(|error| {
        // The limit's error is the innermost; anything else is a line that broke.
        let mut source: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        let mut over = error.to_string().contains("length limit exceeded");
        while let Some(inner) = source {
            over |= inner.to_string().contains("length limit exceeded");
            source = inner.source();
        }
        if over {
            too_large(limit)
        } else {
            Problem::new(StatusCode::BAD_REQUEST, "body_incomplete", "The body broke off before its end; send it again.")
        }
    })
}

fn too_large(limit: Limit) -> Problem {
    let most = limit.bytes / (1024 * 1024);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("The body is larger than {most} MiB; send less at a time."))
}

fn object_of(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    let invalid = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "invalid_json", detail);
    // A byte order mark may be ignored (RFC 8259 §8.1).
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("The body is not UTF-8.".to_owned()))?;
    let value = fhir::json::strict(text).map_err(|why| match why {
        Unread::TooManyValues => {
            let detail = format!("The body holds more than {VALUES_MAX} values; send less at a time.");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        }
        Unread::NotJson(error) => {
            invalid(format!("The body is not JSON: it goes wrong at line {}, column {}.", error.line(), error.column()))
        }
        Unread::BadName(BadName::Twice(_)) => {
            invalid("An object of the body has the same key twice, so it is not certain what is meant.".to_owned())
        }
        Unread::BadName(BadName::Unreadable(_)) => invalid("An object of the body has a key that cannot be read.".to_owned()),
    })?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(invalid("The body must be a JSON object.".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_twice_is_seen_at_any_depth_and_in_any_spelling() {
        let said = |text: &str| object_of(text.as_bytes()).map_err(|problem| format!("{problem:?}"));
        for twice in [r#"{"a":1,"a":2}"#, r#"{"a":[{"b":1,"c":{},"b":2}]}"#, r#"{"a":1,"\u0061":2}"#, r#"{"x":"\\","x":"\""}"#] {
            assert!(said(twice).is_err_and(|why| why.contains("the same key twice")), "{twice}");
        }
        for once in [
            r#"{"a":"a","b":["a","a"],"c":{"a":1}}"#,
            r#"{"a":"{\"a\":1,\"a\":2}"}"#,
            r#"{"x":[{"a":1},{"a":2}]}"#,
            r#"{"a":{"b":1},"b":2}"#,
        ] {
            assert!(said(once).is_ok(), "{once}");
        }
        assert!(said(r#"[{"a":1},{"a":2}]"#).is_err_and(|why| why.contains("must be a JSON object")));
    }

    #[test]
    fn a_key_that_means_something_to_our_reader_alone_is_refused() {
        for hidden in [
            r#"{"v":{"$serde_json::private::Number":"1"}}"#,
            r#"{"v":{"$serde_json::private::RawValue":"{\"a\":1,\"a\":2}"}}"#,
            r#"{"v":{"\u0024serde_json::private::Number":"1"}}"#,
        ] {
            assert_eq!(object_of(hidden.as_bytes()).unwrap_err().code(), "invalid_json", "{hidden}");
        }
    }

    #[test]
    fn a_body_of_too_many_values_is_refused_before_it_takes_memory() {
        let many = format!(r#"{{"a":[{}]}}"#, vec!["1"; VALUES_MAX].join(","));
        assert_eq!(object_of(many.as_bytes()).unwrap_err().code(), "body_too_large");
    }

    #[test]
    fn decimals_keep_their_digits() {
        let object = object_of(br#"{"v":1.10,"w":123456789012345678901234567890.120}"#).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"v":1.10,"w":123456789012345678901234567890.120}"#);
    }

    #[test]
    fn what_is_not_an_object_is_refused_with_its_place() {
        for bad in [&b"[1]"[..], b"\"x\"", b"{", b"", b"\xff\xfe", b"{\"a\":01}"] {
            assert_eq!(object_of(bad).unwrap_err().code(), "invalid_json");
        }
        assert!(object_of(b"\xef\xbb\xbf{}").is_ok());
    }
}
