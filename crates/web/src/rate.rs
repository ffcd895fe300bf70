//! Requests a second and tenant on this node: a runaway client of one tenant costs the others nothing (PRODUCT, law 6).

use crate::problem::Problem;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::StatusCode;
use model::TenantId;
use std::num::NonZeroU32;

pub(crate) struct Rate {
    limiter: DefaultKeyedRateLimiter<TenantId>,
    clock: DefaultClock,
}

impl Rate {
    /// `per_second` in the long run, five times as many at once.
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(per_second.saturating_mul(NonZeroU32::MIN.saturating_add(4)));
        Self { limiter: RateLimiter::keyed(quota), clock: DefaultClock::default() }
    }

    pub(crate) fn take(&self, tenant: &TenantId) -> Result<(), Problem> {
        self.limiter.check_key(tenant).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "This tenant makes more requests than it may; Retry-After says when to go on.",
            )
            .retry_after_ms(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
        })
    }
}
