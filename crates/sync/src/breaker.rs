//! A failure of the connection: its round, its backoff, its circuit (PRODUCT, "Retry"). Pure.
//!
//! The round runs on the tenant's schedule and is counted on the connection, not per lane. When it is used up the circuit
//! is open: one probe at a time, at growing distances, and everything goes on as soon as one succeeds.

use model::retry::{delay_ms, round_used_up};
use model::{Class, RetryPolicy, Timestamp};
use store::Runtime;
use store::config::ConnectionFailed;

/// No probe is further away than this, ms.
const LONGEST_PROBE_MS: i64 = 300_000;
/// The first probe after credentials were refused, ms; a change of the configuration lets everything go on at once.
const FIRST_CREDENTIALS_PROBE_MS: i64 = 60_000;
/// No probe of refused credentials is further away than this, ms.
const LONGEST_CREDENTIALS_PROBE_MS: i64 = 3_600_000;

/// What a failure makes of the connection.
pub(crate) fn failed(
    now: Timestamp,
    class: Class,
    retry_after_ms: Option<i64>,
    runtime: &Runtime,
    retry: &RetryPolicy,
    jitter: f64,
) -> ConnectionFailed {
    // 429 leaves the retry budget untouched.
    let limited = class == Class::RateLimited;
    let failures = if limited { runtime.failures } else { runtime.failures.saturating_add(1) };
    let auth_refused = matches!(class, Class::AuthToken | Class::AuthDenied);
    // Wrong credentials tried again and again get an account locked: no round, probes far apart.
    let circuit_open = !limited && !auth_refused && (runtime.circuit_open || round_used_up(retry, failures));
    let wait = if auth_refused {
        FIRST_CREDENTIALS_PROBE_MS.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(LONGEST_CREDENTIALS_PROBE_MS)
    } else if circuit_open {
        let beyond = failures.saturating_sub(retry.max_retries).min(30);
        let grown = retry.max_delay_ms.min(LONGEST_PROBE_MS).saturating_mul(1 << beyond.saturating_sub(1).min(8)).min(LONGEST_PROBE_MS);
        grown.max(delay_ms(retry, failures.min(retry.max_retries.max(1)), jitter, retry_after_ms))
    } else {
        delay_ms(retry, failures.max(1), jitter, retry_after_ms)
    };
    ConnectionFailed {
        class,
        failures,
        not_before: now.plus_ms(wait),
        circuit_open,
        auth_refused,
        down: !limited,
        sentence: sentence(class).to_owned(),
    }
}

/// What happened and whose move it is, without anybody's data.
pub(crate) fn sentence(class: Class) -> &'static str {
    match class {
        Class::Unreachable => {
            "The EHR's address did not answer; nothing was sent. The hospital checks network and firewall; we try again by ourselves."
        }
        Class::Tls => {
            "The EHR's certificate or TLS handshake will not do; nothing was sent. The hospital renews or completes its certificate; we try again by ourselves."
        }
        Class::Unavailable => "The EHR says that it is not available now. We try again by ourselves.",
        Class::RateLimited => "The EHR asks for fewer requests. We wait as long as it says.",
        Class::AuthToken => {
            "The EHR refuses our credentials. The tenant's admin corrects them in the configuration; what waits goes on by itself then."
        }
        Class::AuthDenied => "The EHR denies us access. The hospital grants the missing permission; we try again by ourselves.",
        Class::Redirect => "The EHR answered with a redirect, which is never followed. The tenant's admin corrects baseUrl.",
        Class::BadResponse => {
            "The EHR answered with something that is not FHIR (a proxy or login page?). The hospital checks what stands in between; we try again by ourselves."
        }
        Class::AddressRefused => {
            "This installation may not dial the EHR's address. The operator allows it (PONTE_EHR_ALLOW_LOCAL) or the tenant's admin corrects baseUrl."
        }
        Class::Gone => "The FHIR base answers 404. The tenant's admin corrects baseUrl.",
        Class::Applied
        | Class::Exists
        | Class::Uncertain
        | Class::Conflict
        | Class::MultipleMatches
        | Class::Validation
        | Class::TooLarge
        | Class::MeansRefused
        | Class::Mapping
        | Class::Internal => "The EHR did not do what was asked; we try again by ourselves.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_schedule_then_probes_at_growing_distances() {
        let retry = RetryPolicy { max_retries: 4, initial_delay_ms: 1000, max_delay_ms: 30_000, backoff_multiplier: 2.0 };
        let mut runtime = Runtime::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let failed = failed(Timestamp(0), Class::Unreachable, None, &runtime, &retry, 0.0);
            waits.push((failed.not_before.0, failed.circuit_open));
            runtime.failures = failed.failures;
            runtime.circuit_open = failed.circuit_open;
        }
        let open = |ms| (ms, true);
        assert_eq!(&waits[..4], &[(1000, false), (2000, false), (4000, false), (8000, false)]);
        assert_eq!(&waits[4..], &[open(30_000), open(60_000), open(120_000), open(240_000), open(300_000)]);
    }

    #[test]
    fn a_429_waits_as_told_and_leaves_the_budget_untouched() {
        let retry = RetryPolicy::default();
        let failed = failed(Timestamp(5), Class::RateLimited, Some(7000), &Runtime::default(), &retry, 0.0);
        assert_eq!((failed.failures, failed.circuit_open, failed.not_before), (0, false, Timestamp(7005)));
        assert!(!failed.down);
    }
}
