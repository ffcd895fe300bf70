//! Pulling one patient: all pages, all changes; a pull that cannot be finished is never a short 200.

use crate::call::{Call, answer, located, path_id};
use crate::idempotency;
use crate::outcome::{connection_trouble, held};
use crate::patients;
use crate::problem::Problem;
use crate::schema::answers::ProblemAnswer;
use crate::sync::usable_connection;
use crate::wait::Wish;
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use model::{HeldReason, LinkState, PatientId};
use serde::Serialize;
use store::PullState;
use utoipa::ToSchema;

/// What a complete pull found.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PullAnswer {
    /// `complete`, or `running`.
    state: &'static str,
    /// New here.
    observations_created: u64,
    /// Newer versions of what was here.
    observations_updated: u64,
    /// Known already, or our own.
    observations_unchanged: u64,
}

/// Pulls one patient's observations and waits for the end.
#[utoipa::path(post, path = "/fhir/patients/{id}/pull", tag = "sync", operation_id = "pullPatient",
    params(("id" = String, Path, format = Uuid), ("Prefer" = Option<String>, Header, description = "`wait=N` seconds (50 at most; 30 without it), or `respond-async`."),
        ("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 200, description = "Complete: every page, every change.", body = PullAnswer),
        (status = 202, description = "Still under way; `lastSyncAt` of the patient under Location tells when it is done.", body = PullAnswer, headers(("Location" = String))),
        (status = 409, description = "`not_configured`, `disabled`, `pull_off`, `patient_unlinked`, `paused`, `credentials_refused`.", body = ProblemAnswer, content_type = "application/problem+json"),
        (status = 502, description = "`pull_incomplete`: what was read is kept, the watermark stays. `ehr_unavailable`.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn patient(call: Call, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = path_id(&id, PatientId)?;
    patients::known(&call, id).await?;
    let work = {
        let call = call.clone();
        async move { pull(&call, id).await }
    };
    idempotency::once(&call, b"", work).await
}

async fn pull(call: &Call, id: PatientId) -> Result<Response, Problem> {
    pulls(call).await?;
    let patient = patients::known(call, id).await?;
    if patient.link.state != LinkState::Linked {
        return Err(held(HeldReason::PatientUnlinked, None));
    }
    let wish = Wish::of(&call.headers);
    let mut wait = wish.begin();
    let tenant = call.tenant();
    let before = tenant.pull_state(id).await?;
    tenant.request_pull(call.now(), id).await?.ok_or_else(Problem::not_found)?;
    loop {
        let state = tenant.pull_state(id).await?;
        if let Some(state) = state.as_ref().filter(|state| !state.waiting) {
            return match state.outcome.as_deref() {
                Some("complete") => Ok(wish.applied(answer(StatusCode::OK, &shown(state, "complete"))?)),
                _ => Err(incomplete(state)),
            };
        }
        if let Some(state) = state.as_ref().filter(|state| failed_since(before.as_ref(), state)) {
            return Err(incomplete(state));
        }
        pulls(call).await?;
        if let Some(trouble) = connection_trouble(call, wait.left_ms()).await? {
            return Err(trouble);
        }
        if !wait.step().await {
            let shown = state.as_ref().map_or_else(PullAnswer::nothing, |state| shown(state, "running"));
            let response = located(answer(StatusCode::ACCEPTED, &shown)?, &format!("/api/v1/patients/{id}"))?;
            return Ok(wish.applied(response));
        }
    }
}

/// The tenant's connection is one that is pulled.
async fn pulls(call: &Call) -> Result<(), Problem> {
    if usable_connection(call).await?.connection.pulls() {
        return Ok(());
    }
    Err(Problem::conflict("pull_off", "The connection only pushes; an administrator may change `syncDirection`."))
}

/// Whether the pull failed after the request, although it will be tried again by itself.
fn failed_since(before: Option<&PullState>, now: &PullState) -> bool {
    let failures = before.map_or(0, |state| state.failures);
    now.failures > failures && now.outcome.as_deref().is_some_and(|outcome| outcome != "complete")
}

fn incomplete(state: &PullState) -> Problem {
    let detail = match state.message.as_deref() {
        Some(message) => format!("The pull could not be finished: {message} What was read is kept, and the next pull goes on from there."),
        None => "The pull could not be finished. What was read is kept, and the next pull goes on from there.".to_owned(),
    };
    let problem = Problem::new(StatusCode::BAD_GATEWAY, "pull_incomplete", detail)
        .with("observationsCreated", state.created)
        .with("observationsUpdated", state.updated)
        .with("observationsUnchanged", state.unchanged);
    match state.outcome.as_deref() {
        Some(outcome) if outcome != "complete" => problem.with("reason", outcome),
        _ => problem,
    }
}

fn shown(state: &PullState, word: &'static str) -> PullAnswer {
    PullAnswer {
        state: word,
        observations_created: state.created,
        observations_updated: state.updated,
        observations_unchanged: state.unchanged,
    }
}

impl PullAnswer {
    fn nothing() -> Self {
        Self { state: "running", observations_created: 0, observations_updated: 0, observations_unchanged: 0 }
    }
}
