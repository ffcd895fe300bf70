//! Observations: accepted, read, corrected, withdrawn; neither correction nor withdrawal forgets history.

use crate::call::{Call, answer, empty, located, path_id};
use crate::idempotency;
use crate::observation_body;
use crate::patients::{self, TRIES, changed_meanwhile};
use crate::problem::Problem;
use crate::query::Query;
use crate::schema::ObservationBody;
use crate::schema::answers::{List, ObservationAnswer, ProblemAnswer};
use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use futures::{StreamExt, TryStreamExt};
use http::StatusCode;
use model::connection::MisusedCodes;
use model::{HeldReason, Observation, ObservationDraft, ObservationId, PatientId, Source, State};
use store::Accepted;
use store::idempotency::Once;
use store::observations::ObservationFilter;

/// Accepts an observation and, in the same transaction, the intent to bring it to the EHR.
#[utoipa::path(post, path = "/observations", tag = "observations", operation_id = "createObservation", request_body = ObservationBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 201, description = "Accepted; in realtime it is on its way.", body = ObservationAnswer, headers(("Location" = String))),
        (status = 404, description = "`not_found`: patientId is not one of this tenant's patients.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn create(call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.json(body).await?;
    let draft = match observation_body::read(&body.object, "", None) {
        Ok(draft) => draft,
        Err(errors) => {
            // Another tenant's patient answers 404 before anything else is looked at.
            if let Some(patient) = observation_body::patient_of(&body.object) {
                patients::known(&call, patient).await.map_err(|_| Problem::not_found_at("/patientId"))?;
            }
            return Err(Problem::fields(errors));
        }
    };
    let hold = match hold(&call, &draft, "").await {
        Ok(hold) => hold,
        Err(refused) => {
            patients::known(&call, draft.patient_id).await.map_err(|_| Problem::not_found_at("/patientId"))?;
            return Err(refused);
        }
    };
    let key = idempotency::key_of(&call, &body.bytes)?;
    let once = call.tenant().create_observations(call.now(), vec![(draft, hold)], key.as_ref()).await?;
    let (accepted, before) = match once {
        Once::Done(accepted) => (accepted, false),
        Once::Before(accepted) => (accepted, true),
        Once::OtherRequest => return Err(idempotency::other_request()),
    };
    match accepted.into_iter().next() {
        Some(Accepted::Stored(observation)) => {
            let path = format!("/api/v1/observations/{}", observation.id);
            let response = located(answer(StatusCode::CREATED, &ObservationAnswer::from(*observation))?, &path)?;
            Ok(if before { idempotency::replayed(response) } else { response })
        }
        Some(Accepted::PatientUnknown) => Err(Problem::not_found_at("/patientId")),
        None => Err(Problem::internal()),
    }
}

/// Observations of both sources, newest first; withdrawn ones only with `deleted=true`.
#[utoipa::path(get, path = "/observations", tag = "observations", operation_id = "listObservations",
    params(("patientId" = Option<String>, Query, format = Uuid), ("code" = Option<String>, Query),
        ("synced" = Option<bool>, Query, description = "Whether the EHR holds the newest version."),
        ("deleted" = Option<bool>, Query, description = "Withdrawn ones too."),
        ("limit" = Option<u32>, Query, description = "1 to 200; 50 where left out."), ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before.")),
    responses((status = 200, description = "A page.", body = List<ObservationAnswer>)))]
pub(crate) async fn list(call: Call) -> Result<Response, Problem> {
    let query = Query::read(&call, "observations", &["patientId", "code", "synced", "deleted"])?;
    let patient_id = query.id("patientId", PatientId)?;
    if let Some(patient) = patient_id {
        patients::known(&call, patient).await.map_err(|_| Problem::not_found_at("/patientId"))?;
    }
    let code = query.text("code").map(str::to_owned);
    if code.as_deref().is_some_and(|code| code.chars().any(char::is_control) || code.len() > 256) {
        return Err(Problem::field("/code", "not_a_code", "This is no code."));
    }
    let filter =
        ObservationFilter { patient_id, code, synced: query.boolean("synced")?, deleted: query.boolean("deleted")?.unwrap_or(false) };
    let page = call.tenant().observations(call.now(), &filter, &query.page(&call)?).await?;
    let next_cursor = query.next(&call, &page);
    answer(StatusCode::OK, &List { items: page.items.into_iter().map(ObservationAnswer::from).collect(), next_cursor })
}

/// Those that wait, with their delivery's state and reason.
#[utoipa::path(get, path = "/observations/unsynced", tag = "observations", operation_id = "listUnsynced",
    params(("limit" = Option<u32>, Query, description = "1 to 200; 50 where left out."), ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before.")),
    responses((status = 200, description = "A page.", body = List<ObservationAnswer>)))]
pub(crate) async fn unsynced(call: Call) -> Result<Response, Problem> {
    let query = Query::read(&call, "unsynced", &[])?;
    let page = call.tenant().unsynced(call.now(), &query.page(&call)?).await?;
    let next_cursor = query.next(&call, &page);
    let with_reason = page.items.into_iter().map(|observation| shown(&call, observation));
    let items = futures::stream::iter(with_reason).buffered(8).try_collect().await?;
    answer(StatusCode::OK, &List { items, next_cursor })
}

/// One observation, withdrawn or not.
#[utoipa::path(get, path = "/observations/{id}", tag = "observations", operation_id = "getObservation", params(("id" = String, Path, format = Uuid)),
    responses((status = 200, description = "The observation.", body = ObservationAnswer)))]
pub(crate) async fn get(call: Call, Path(id): Path<String>) -> Result<Response, Problem> {
    let observation = known(&call, path_id(&id, ObservationId)?).await?;
    answer(StatusCode::OK, &shown(&call, observation).await?)
}

/// Sends a corrected version: the fields that are given change, `status` becomes `corrected` unless it is given too.
#[utoipa::path(patch, path = "/observations/{id}", tag = "observations", operation_id = "correctObservation", params(("id" = String, Path, format = Uuid)),
    request_body(content = ObservationBody, description = "Any of the fields but patientId."),
    responses((status = 200, description = "As it is now; `syncedToEHR` is false until the EHR holds this version.", body = ObservationAnswer),
        (status = 409, description = "`from_ehr`: it came from the EHR and is changed there. `withdrawn`: create a new one. `changed_meanwhile`.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn correct(call: Call, Path(id): Path<String>, body: Body) -> Result<Response, Problem> {
    let id = path_id(&id, ObservationId)?;
    let mut observation = known(&call, id).await?;
    let body = call.json(body).await?;
    must_be_ours(&observation)?;
    for _ in 0..TRIES {
        let mut draft = observation_body::read(&body.object, "", Some(&observation.draft)).map_err(Problem::fields)?;
        if draft == observation.draft {
            return answer(StatusCode::OK, &ObservationAnswer::from(observation));
        }
        if observation.deleted {
            return Err(Problem::conflict("withdrawn", "It was withdrawn and stays so; create a new observation instead."));
        }
        if body.object.get("status").is_none_or(serde_json::Value::is_null) {
            "corrected".clone_into(&mut draft.status);
        }
        let hold = hold(&call, &draft, "").await?;
        match call.tenant().update_observation(call.now(), id, observation.version, draft, hold).await? {
            Some(changed) => return answer(StatusCode::OK, &ObservationAnswer::from(changed)),
            None => observation = known(&call, id).await?,
        }
    }
    Err(changed_meanwhile())
}

/// Withdraws it: `entered-in-error` goes to the EHR, the row stays readable.
#[utoipa::path(delete, path = "/observations/{id}", tag = "observations", operation_id = "withdrawObservation", params(("id" = String, Path, format = Uuid)),
    responses((status = 204, description = "Withdrawn, now or before."),
        (status = 409, description = "`from_ehr`: it came from the EHR and is withdrawn there.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn withdraw(call: Call, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = path_id(&id, ObservationId)?;
    must_be_ours(&known(&call, id).await?)?;
    if call.tenant().withdraw_observation(call.now(), id).await? { Ok(empty()) } else { Err(Problem::not_found()) }
}

/// The observation of this tenant, or 404.
pub(crate) async fn known(call: &Call, id: ObservationId) -> Result<Observation, Problem> {
    call.tenant().observation(call.now(), id).await?.ok_or_else(Problem::not_found)
}

/// Why the delivery of this observation is held from the start, if it is: its code means something else.
///
/// # Errors
/// 422 `code_misused` where the tenant wants such codes refused.
pub(crate) async fn hold(call: &Call, draft: &ObservationDraft, base: &str) -> Result<Option<HeldReason>, Problem> {
    let Some(misuse) = fhir::mapping::codes::misused(draft) else { return Ok(None) };
    let refuses = call.tenant().connection().await?.is_some_and(|stored| stored.connection.misused_codes == MisusedCodes::Refuse);
    if refuses {
        return Err(Problem::field(format!("{base}/code"), "code_misused", misuse.sentence));
    }
    Ok(Some(HeldReason::CodeMisused))
}

/// An observation with the EHR's own words where its delivery was refused or is tried again.
async fn shown(call: &Call, observation: Observation) -> Result<ObservationAnswer, Problem> {
    let explained =
        observation.delivery.as_ref().filter(|d| matches!(d.state, State::Dead | State::RetryScheduled | State::Uncertain)).map(|d| d.id);
    let mut shown = ObservationAnswer::from(observation);
    if let (Some(id), Some(brief)) = (explained, shown.delivery.as_mut())
        && let Some(delivery) = call.tenant().delivery(call.now(), id).await?
    {
        brief.reason = delivery.message;
    }
    Ok(shown)
}

fn must_be_ours(observation: &Observation) -> Result<(), Problem> {
    match observation.source {
        Source::Platform => Ok(()),
        Source::Ehr => {
            Err(Problem::conflict("from_ehr", "This observation came from the EHR; it is changed there and comes back with the next pull."))
        }
    }
}
