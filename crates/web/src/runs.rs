//! Long jobs with progress.

use crate::call::{Call, answer, path_id};
use crate::problem::Problem;
use crate::wait::Wait;
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use model::RunId;
use serde::Serialize;
use serde_json::value::RawValue;
use store::{Run, RunKind, RunState};
use utoipa::ToSchema;

/// A run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunAnswer {
    /// Its id.
    run_id: String,
    /// `sync_all`, `replay` or `check`.
    kind: &'static str,
    /// `running`, `finished` or `failed`.
    state: &'static str,
    /// All rows of it.
    total: u64,
    /// At the EHR.
    synced: u64,
    /// Dead, or its round used up, or held for a person.
    failed: u64,
    /// On its way.
    waiting: u64,
    /// Asked for.
    created_at: String,
    /// Ended.
    finished_at: Option<String>,
    /// The report of a connection test.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    report: Option<Box<RawValue>>,
}

/// Progress of a run.
#[utoipa::path(get, path = "/fhir/runs/{id}", tag = "sync", operation_id = "getRun", params(("id" = String, Path, format = Uuid)),
    responses((status = 200, description = "The run.", body = RunAnswer)))]
pub(crate) async fn get(call: Call, Path(id): Path<String>) -> Result<Response, Problem> {
    let run = call.tenant().run(call.now(), path_id(&id, RunId)?).await?.ok_or_else(Problem::not_found)?;
    // A test of the connection is an administrator's alone, and so is its report.
    if run.kind == RunKind::Check {
        call.who.must_be_admin()?;
    }
    answer(StatusCode::OK, &RunAnswer::from(run))
}

/// Where a run stands.
pub(crate) fn run_path(id: RunId) -> String {
    format!("/api/v1/fhir/runs/{id}")
}

/// Watches a run until it ends or the wait is over; says whether it ended.
pub(crate) async fn watch_run(call: &Call, mut run: Run, mut wait: Wait) -> Result<(Run, bool), Problem> {
    loop {
        if run.state != RunState::Running {
            return Ok((run, true));
        }
        if !wait.step().await {
            return Ok((run, false));
        }
        run = call.tenant().run(call.now(), run.id).await?.ok_or_else(Problem::not_found)?;
    }
}

impl From<Run> for RunAnswer {
    fn from(run: Run) -> Self {
        Self {
            run_id: run.id.to_string(),
            kind: match run.kind {
                RunKind::SyncAll => "sync_all",
                RunKind::Replay => "replay",
                RunKind::Check => "check",
            },
            state: match run.state {
                RunState::Running => "running",
                RunState::Finished => "finished",
                RunState::Failed => "failed",
            },
            total: run.progress.total,
            synced: run.progress.synced,
            failed: run.progress.failed,
            waiting: run.progress.waiting,
            created_at: run.created_at.rfc3339(),
            finished_at: run.finished_at.map(|at| at.rfc3339()),
            report: run.result.and_then(|text| RawValue::from_string(text).ok()),
        }
    }
}
