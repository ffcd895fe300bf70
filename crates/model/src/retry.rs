//! When the next try is due (PRODUCT, "Retry"): `min(initialDelay * multiplier^(n-1), maxDelay)` and 0–10 % of jitter,
//! or longer if the EHR says so.

use crate::connection::RetryPolicy;

/// The longest that a `Retry-After` is believed: one hour, in ms.
pub const RETRY_AFTER_CAP_MS: i64 = 3_600_000;

/// Milliseconds to wait after the `failed`-th failed attempt of a round (1 for the first).
///
/// `jitter` is chance in `0.0..1.0`. `retry_after_ms` is what the EHR asked for, capped at one hour.
#[must_use]
pub fn delay_ms(policy: &RetryPolicy, failed: u32, jitter: f64, retry_after_ms: Option<i64>) -> i64 {
    let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
    #[allow(clippy::cast_precision_loss, reason = "delays are far below 2^53 ms")]
    let (initial, max) = (policy.initial_delay_ms as f64, policy.max_delay_ms as f64);
    let base = (initial * policy.backoff_multiplier.powi(exponent)).min(max);
    #[allow(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    let ours = (base * (1.0 + 0.1 * jitter.clamp(0.0, 1.0))) as i64;
    ours.max(retry_after_ms.unwrap_or(0).clamp(0, RETRY_AFTER_CAP_MS))
}

/// Whether the round is used up after so many failed attempts: `maxRetries` counts the tries after the first.
#[must_use]
pub fn round_used_up(policy: &RetryPolicy, failed: u32) -> bool {
    failed > policy.max_retries
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> RetryPolicy {
        RetryPolicy { max_retries: 4, initial_delay_ms: 1000, max_delay_ms: 30_000, backoff_multiplier: 2.0 }
    }

    #[test]
    fn the_originals_example_waits_1_2_4_8_seconds() {
        let waits: Vec<i64> = (1..=4).map(|n| delay_ms(&policy(), n, 0.0, None)).collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000]);
        assert!(!round_used_up(&policy(), 4) && round_used_up(&policy(), 5));
        assert_eq!(delay_ms(&policy(), 10, 0.0, None), 30_000);
    }

    proptest! {
        #[test]
        fn jitter_is_0_to_10_percent_and_retry_after_only_lengthens(n in 1u32..60, jitter in 0.0f64..1.0, asked in 0i64..10_000_000) {
            let bare = delay_ms(&policy(), n, 0.0, None);
            let with = delay_ms(&policy(), n, jitter, None);
            prop_assert!(with >= bare && with <= bare + bare / 10 + 1);
            let told = delay_ms(&policy(), n, jitter, Some(asked));
            prop_assert!(told >= with && told >= asked.min(RETRY_AFTER_CAP_MS));
        }
    }
}
