//! "Deliver now": one observation, one patient, or all that is unsynced.

use crate::call::{Call, answer, located, path_id};
use crate::idempotency;
use crate::observations;
use crate::outcome::{Outcome, held, watch};
use crate::patients;
use crate::problem::Problem;
use crate::runs::{RunAnswer, run_path, watch_run};
use crate::schema::answers::{ObservationAnswer, PatientAnswer, ProblemAnswer};
use crate::wait::Wish;
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use model::{HeldReason, ObservationId, PatientId, ResourceKey, Source};
use store::StoredConnection;

/// Delivers one observation now and waits for the outcome.
#[utoipa::path(post, path = "/fhir/observations/{id}/sync", tag = "sync", operation_id = "syncObservation",
    params(("id" = String, Path, format = Uuid), ("Prefer" = Option<String>, Header, description = "`wait=N` seconds (50 at most; 30 without it), or `respond-async`."),
        ("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 200, description = "The EHR holds the newest version.", body = ObservationAnswer),
        (status = 202, description = "Not decided yet; the delivery stands under Location.", body = ObservationAnswer, headers(("Location" = String))),
        (status = 409, description = "It cannot go: the code is the reason (`not_configured`, `disabled`, `patient_unlinked`, `code_misused`, `conflict` …).", body = ProblemAnswer, content_type = "application/problem+json"),
        (status = 422, description = "`ehr_refused`: the EHR's own words stand in `detail`.", body = ProblemAnswer, content_type = "application/problem+json"),
        (status = 502, description = "`ehr_unavailable`: the EHR cannot be used at present; Ponte goes on by itself.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn observation(call: Call, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = path_id(&id, ObservationId)?;
    let observation = observations::known(&call, id).await?;
    // What came from the EHR is there already.
    if observation.source == Source::Ehr {
        return answer(StatusCode::OK, &ObservationAnswer::from(observation));
    }
    let work = {
        let call = call.clone();
        async move {
            let wish = Wish::of(&call.headers);
            let outcome = deliver(&call, ResourceKey::Observation(id), wish).await?;
            let shown = ObservationAnswer::from(observations::known(&call, id).await?);
            respond(outcome, &shown).map(|response| wish.applied(response))
        }
    };
    idempotency::once(&call, b"", work).await
}

/// Delivers one patient now: found at the EHR, created there, or brought up to date.
#[utoipa::path(post, path = "/fhir/patients/{id}/sync", tag = "sync", operation_id = "syncPatient",
    params(("id" = String, Path, format = Uuid), ("Prefer" = Option<String>, Header, description = "`wait=N` seconds (50 at most; 30 without it), or `respond-async`."),
        ("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 200, description = "The patient, linked.", body = PatientAnswer),
        (status = 202, description = "Not decided yet; the delivery stands under Location.", body = PatientAnswer, headers(("Location" = String))),
        (status = 409, description = "It cannot go: the code is the reason.", body = ProblemAnswer, content_type = "application/problem+json"),
        (status = 422, description = "`ehr_refused`: the EHR's own words stand in `detail`.", body = ProblemAnswer, content_type = "application/problem+json"),
        (status = 502, description = "`ehr_unavailable`.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn patient(call: Call, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = path_id(&id, PatientId)?;
    patients::known(&call, id).await?;
    let work = {
        let call = call.clone();
        async move {
            let wish = Wish::of(&call.headers);
            let outcome = deliver(&call, ResourceKey::Patient(id), wish).await?;
            let shown = PatientAnswer::from(patients::known(&call, id).await?);
            respond(outcome, &shown).map(|response| wish.applied(response))
        }
    };
    idempotency::once(&call, b"", work).await
}

/// A run over all that is unsynced.
#[utoipa::path(post, path = "/fhir/observations/sync-all", tag = "sync", operation_id = "syncAll",
    params(("Prefer" = Option<String>, Header, description = "`wait=N`: answers 200 when it is done within N seconds (50 at most)."),
        ("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 200, description = "Done within the time that `Prefer` gave.", body = RunAnswer),
        (status = 202, description = "Under way; the run stands under Location.", body = RunAnswer, headers(("Location" = String))),
        (status = 409, description = "`not_configured`, `disabled`, `push_off`, `paused`.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn all(call: Call) -> Result<Response, Problem> {
    let work = {
        let call = call.clone();
        async move {
            let stored = usable_connection(&call).await?;
            if !stored.connection.pushes() {
                return Err(held(HeldReason::PushOff, None));
            }
            let wish = Wish::of(&call.headers);
            let run = call.tenant().sync_all(call.now(), &call.who.sub).await?;
            let path = run_path(run.id);
            let (run, done) = watch_run(&call, run, wish.begin_if_wished()).await?;
            let status = if done && wish.is_wished() { StatusCode::OK } else { StatusCode::ACCEPTED };
            located(answer(status, &RunAnswer::from(run))?, &path).map(|response| wish.applied(response))
        }
    };
    idempotency::once(&call, b"", work).await
}

/// The tenant's connection, where it may be used.
///
/// # Errors
/// 409 with the reason why not.
pub(crate) async fn usable_connection(call: &Call) -> Result<StoredConnection, Problem> {
    let stored = call.tenant().connection().await?.ok_or_else(|| held(HeldReason::NotConfigured, None))?;
    if !stored.connection.enabled {
        return Err(held(HeldReason::Disabled, None));
    }
    if !call.app.api.store.may_send().await? {
        return Err(held(HeldReason::Paused, None));
    }
    Ok(stored)
}

async fn deliver(call: &Call, resource: ResourceKey, wish: Wish) -> Result<Outcome, Problem> {
    let delivery = call.tenant().deliver_now(call.now(), resource).await?.ok_or_else(Problem::not_found)?;
    watch(call, resource, delivery, wish.begin()).await
}

fn respond<T: serde::Serialize>(outcome: Outcome, shown: &T) -> Result<Response, Problem> {
    match outcome {
        Outcome::Delivered => answer(StatusCode::OK, shown),
        Outcome::Undecided(delivery) => located(answer(StatusCode::ACCEPTED, shown)?, &format!("/api/v1/fhir/deliveries/{delivery}")),
    }
}
