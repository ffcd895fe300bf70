//! What the process says about itself: log lines and metrics, without anybody's data (PRODUCT, law 5).
//!
//! A log line holds only fields of the allow-list in [`line`]; every text is scrubbed of URL queries and of digits as long as
//! a national identifier. Crates of others speak from `warn` on, whatever `PONTE_LOG` says: their debug lines show URLs and headers.

mod line;
mod scrub;

use crate::talk;
use line::Lines;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// From created to held by the EHR: 0.1 s to 6 h.
const DELIVERY_SECONDS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0];
/// One request, one query.
const REQUEST_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// How often histograms are drained; their memory grows in between.
const UPKEEP: Duration = Duration::from_secs(5);

/// What `PONTE_LOG` says: a level, or a level per crate (`info,ponte_sync=debug`).
#[derive(Debug, Clone)]
pub struct Verbosity(Targets);

impl Default for Verbosity {
    fn default() -> Self {
        Self(Targets::new().with_default(LevelFilter::WARN).with_target("ponte", LevelFilter::INFO))
    }
}

impl Verbosity {
    /// Reads it.
    ///
    /// # Errors
    /// A sentence that names what it may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| {
            format!("`{part}` is not a log level; it is off, error, warn, info, debug or trace, or a list such as info,ponte_sync=debug")
        };
        let mut targets = Self::default().0;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (target, level) = part.split_once('=').map_or((None, part), |(target, level)| (Some(target.trim()), level.trim()));
            let level: LevelFilter = level.parse().map_err(|_| wrong(part))?;
            targets = match target {
                // A bare level is for our own crates; what others say is never wanted below warn.
                None => targets.with_default(level.min(LevelFilter::WARN)).with_target("ponte", level),
                Some(name) if name.starts_with("ponte") => targets.with_target(name, level),
                Some(name) => targets.with_target(name, level.min(LevelFilter::WARN)),
            };
        }
        Ok(Self(targets))
    }
}

/// Begins to log to stderr: JSON lines, or lines for a person where stderr is a terminal. A second call does nothing.
pub fn log(verbosity: Verbosity) {
    let lines = Lines::new(!talk::talk_is_seen(), talk::colour(talk::talk_is_seen()));
    if tracing_subscriber::registry().with(verbosity.0).with(lines).try_init().is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Installs the recorder behind `/metrics`. `None` if there is one already.
#[must_use]
pub fn metrics() -> Option<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("latency_seconds".to_owned()), DELIVERY_SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("duration_seconds".to_owned()), REQUEST_SECONDS))
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("query_seconds".to_owned()), REQUEST_SECONDS))
        .ok()?;
    builder.install_recorder().ok()
}

/// Keeps the recorder's memory bounded, for ever.
pub async fn keep_up(handle: PrometheusHandle) {
    let mut every = tokio::time::interval(UPKEEP);
    loop {
        every.tick().await;
        handle.run_upkeep();
    }
}

/// A panic says where and, if its text stood in the source, what: any other text may hold data.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), |at| format!("{}:{}", at.file(), at.line()));
    let text = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("its text is not logged, it may hold data");
    tracing::error!(
        event = "panic",
        "Ponte broke a promise of its own at {place} ({text}); what was under way is taken up again, please report this line"
    );
}

#[cfg(test)]
mod tests;
