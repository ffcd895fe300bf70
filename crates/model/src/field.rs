//! What is wrong with one field of a request: the `errors` of a problem (RFC 9457, CONTRACT).

use serde::Serialize;

/// One field that will not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the request body: `/authConfig/tokenUrl`.
    pub pointer: String,
    /// Stable snake_case code.
    pub code: &'static str,
    /// A sentence. It never repeats the value.
    pub detail: String,
}

impl FieldError {
    /// Names a field and what is wrong with it.
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}
