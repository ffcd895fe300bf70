//! `/metrics` for Prometheus: what this process recorded, and the ledger's own counters over all tenants. No tenant, no patient.

use crate::problem::Problem;
use crate::routes::App;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use std::fmt::Write;

/// Metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", operation_id = "metrics", security(()), responses((status = 200, description = "Prometheus text.", body = String, content_type = "text/plain")))]
pub(crate) async fn get(State(app): State<App>) -> Result<Response, Problem> {
    let (states, oldest) = app.api.store.fleet().totals(app.api.clock.now()).await?;
    let mut text = app.api.metrics.as_ref().map(metrics_exporter_prometheus::PrometheusHandle::render).unwrap_or_default();
    ledger(&mut text, app.api.version, &states, oldest).map_err(|_| Problem::internal())?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

fn ledger(text: &mut String, version: &str, states: &[(String, i64)], oldest_ms: Option<i64>) -> std::fmt::Result {
    writeln!(text, "# HELP ponte_build_info The running version.\n# TYPE ponte_build_info gauge")?;
    writeln!(text, "ponte_build_info{{version=\"{version}\"}} 1")?;
    writeln!(text, "# HELP ponte_backlog Deliveries by state, from kept counters.\n# TYPE ponte_backlog gauge")?;
    for (state, rows) in states {
        writeln!(text, "ponte_backlog{{direction=\"push\",state=\"{state}\"}} {rows}")?;
    }
    let of = |word: &str| states.iter().filter(|(state, _)| state == word).map(|(_, rows)| rows).sum::<i64>();
    writeln!(text, "# HELP ponte_dead_letters Deliveries that were refused for good.\n# TYPE ponte_dead_letters gauge")?;
    writeln!(text, "ponte_dead_letters {}", of("dead"))?;
    writeln!(text, "# HELP ponte_uncertain Deliveries whose answer was lost.\n# TYPE ponte_uncertain gauge")?;
    writeln!(text, "ponte_uncertain {}", of("uncertain"))?;
    let oldest_ms = oldest_ms.unwrap_or(0).max(0);
    writeln!(
        text,
        "# HELP ponte_backlog_oldest_age_seconds Age of the longest waiting delivery.\n# TYPE ponte_backlog_oldest_age_seconds gauge"
    )?;
    writeln!(text, "ponte_backlog_oldest_age_seconds{{direction=\"push\"}} {}.{:03}", oldest_ms / 1000, oldest_ms % 1000)
}
