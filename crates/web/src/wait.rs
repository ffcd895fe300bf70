//! Waiting for an outcome by watching the store: `Prefer: wait=N` and `respond-async` (RFC 7240), 30 s without a wish.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use tokio::time::Instant;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// The longest wait: less than the minute for which a request under an `Idempotency-Key` counts as under way.
const LONGEST: u64 = 50;
const DEFAULT: u64 = 30;
const FIRST_STEP: Duration = Duration::from_millis(50);
const LAST_STEP: Duration = Duration::from_millis(250);

/// How long the caller wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish(Option<u64>);

impl Wish {
    /// Reads `Prefer`; what cannot be read is no wish (RFC 7240 §2).
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
        let mut wish = None;
        for token in values.flat_map(|value| value.split([',', ';'])).map(|token| token.trim().to_ascii_lowercase()) {
            if let Some(seconds) = token.strip_prefix("wait=").and_then(|n| n.trim_matches('"').parse::<u64>().ok()) {
                wish = wish.or(Some(seconds.min(LONGEST)));
            } else if token == "respond-async" {
                wish = wish.or(Some(0));
            }
        }
        Self(wish)
    }

    /// The wait begins now: as wished, else 30 s.
    pub(crate) fn begin(self) -> Wait {
        Wait::for_seconds(self.0.unwrap_or(DEFAULT))
    }

    /// The wait begins now: as wished, else none.
    pub(crate) fn begin_if_wished(self) -> Wait {
        Wait::for_seconds(self.0.unwrap_or(0))
    }

    /// Whether the caller said how long to wait.
    pub(crate) fn is_wished(self) -> bool {
        self.0.is_some_and(|seconds| seconds > 0)
    }

    /// Says that the wish was followed.
    pub(crate) fn applied(self, mut response: Response) -> Response {
        if let Some(seconds) = self.0
            && let Ok(value) = HeaderValue::from_str(&format!("wait={seconds}"))
        {
            response.headers_mut().insert(PREFERENCE_APPLIED, value);
        }
        response
    }
}

/// A wait with growing steps.
pub(crate) struct Wait {
    until: Instant,
    step: Duration,
}

impl Wait {
    fn for_seconds(seconds: u64) -> Self {
        Self { until: Instant::now() + Duration::from_secs(seconds), step: FIRST_STEP }
    }

    /// Sleeps one step; false when the time is over.
    pub(crate) async fn step(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        tokio::time::sleep(self.step.min(left)).await;
        self.step = (self.step * 5 / 4).min(LAST_STEP);
        true
    }

    /// Milliseconds that are left.
    pub(crate) fn left_ms(&self) -> i64 {
        i64::try_from(self.until.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefer_is_read_leniently_and_capped() {
        let wish = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.append("Prefer", HeaderValue::from_str(text).unwrap());
            Wish::of(&headers)
        };
        assert_eq!(wish("wait=5"), Wish(Some(5)));
        assert_eq!(wish("respond-async, wait=10"), Wish(Some(0)));
        assert_eq!(wish("return=minimal; WAIT=7"), Wish(Some(7)));
        assert_eq!(wish("wait=100000"), Wish(Some(LONGEST)));
        assert_eq!(wish("wait=soon"), Wish(None));
    }
}
