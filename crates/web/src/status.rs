//! Is anything waiting, lost or stuck? One answer, from kept counters.

use crate::call::{Call, answer};
use crate::problem::Problem;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The tenant's state of affairs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusAnswer {
    /// Deliveries by state, all nine.
    counts: BTreeMap<&'static str, i64>,
    /// When the longest waiting one was accepted.
    oldest_waiting_at: Option<String>,
    /// How long it has waited, ms.
    oldest_waiting_ms: Option<i64>,
    /// Last successful push.
    last_push_at: Option<String>,
    /// Last complete pull.
    last_pull_at: Option<String>,
    /// The last failure of the connection, a sentence.
    last_error: Option<String>,
    /// Why the whole connection waits, if it does.
    reason: Option<&'static str>,
    /// Whose move that is.
    whose_move: Option<&'static str>,
    /// The circuit of the connection.
    circuit: CircuitAnswer,
    /// Patients whose link needs a person.
    patients_held: i64,
    /// By what a create is safe at this EHR, what is not guaranteed there, and whether the proof is out of date; `null`
    /// without a connection.
    #[schema(value_type = Option<Object>)]
    guarantee: Option<model::Guarantee>,
}

/// The circuit: open while the EHR is down; one probe at a time goes on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CircuitAnswer {
    /// `closed` or `open`.
    state: &'static str,
    /// Since when the EHR is down.
    since: Option<String>,
    /// The next probe.
    next_probe_at: Option<String>,
}

/// Counts by state, oldest waiting, last push and pull, last error, circuit.
#[utoipa::path(get, path = "/fhir/status", tag = "status", operation_id = "getStatus",
    responses((status = 200, description = "The tenant's state of affairs.", body = StatusAnswer)))]
pub(crate) async fn get(call: Call) -> Result<Response, Problem> {
    let now = call.now();
    let status = call.tenant().status(now).await?;
    let shown = StatusAnswer {
        counts: status.counts.into_iter().collect(),
        oldest_waiting_at: status.oldest_waiting.map(|at| at.rfc3339()),
        oldest_waiting_ms: status.oldest_waiting.map(|at| now.ms_since(at).max(0)),
        last_push_at: status.last_push_at.map(|at| at.rfc3339()),
        last_pull_at: status.last_pull_at.map(|at| at.rfc3339()),
        last_error: status.last_error,
        reason: status.held.map(model::HeldReason::word),
        whose_move: status.held.map(|reason| reason.whose_move().word()),
        circuit: CircuitAnswer {
            state: if status.circuit_open { "open" } else { "closed" },
            since: status.down_since.map(|at| at.rfc3339()),
            next_probe_at: status.next_probe_at.map(|at| at.rfc3339()),
        },
        patients_held: status.patients_held,
        guarantee: status.plan.map(|plan| model::grade::guarantee(&plan, now)),
    };
    answer(StatusCode::OK, &shown)
}
