//! Up to 1,000 observations at once: good ones are kept beside bad ones, and their order is kept.

use crate::call::{Call, answer};
use crate::fields::Fields;
use crate::idempotency;
use crate::observation_body;
use crate::observations::hold;
use crate::problem::Problem;
use crate::schema::BatchBody;
use crate::schema::answers::{ObservationAnswer, ProblemAnswer};
use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use model::{HeldReason, ObservationDraft, PatientId};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use store::Accepted;
use store::idempotency::Once;
use utoipa::ToSchema;

const MOST: usize = 1000;

/// What became of each observation, in order.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    items: Vec<BatchItem>,
}

/// What became of one observation.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchItem {
    /// Its place in the request.
    index: usize,
    /// 201, or what a single request would have been answered.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    observation: Option<ObservationAnswer>,
    /// A problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProblemAnswer>)]
    error: Option<Value>,
}

/// Accepts up to 1,000 observations in one transaction.
#[utoipa::path(post, path = "/observations/batch", tag = "observations", operation_id = "createObservations", request_body = BatchBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 207, description = "Each on its own: good ones are kept beside bad ones.", body = BatchAnswer),
        (status = 409, description = "`idempotency_outdated`.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn create(call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.batch_json(body).await?;
    let given = observations_of(&body.object)?;
    let mut known = HashMap::new();
    let mut refused: Vec<Option<Problem>> = Vec::with_capacity(given.len());
    let mut drafts = Vec::with_capacity(given.len());
    for (index, item) in given.iter().enumerate() {
        match draft_of(&call, &mut known, index, item).await {
            Ok(draft) => {
                drafts.push(draft);
                refused.push(None);
            }
            // What broke on our side is nobody's mistake: the whole request fails, and nothing of it was accepted.
            Err(problem) if problem.status().is_server_error() => return Err(problem),
            Err(problem) => refused.push(Some(problem)),
        }
    }
    let key = idempotency::key_of(&call, &body.bytes)?;
    let sent = drafts.len();
    if drafts.is_empty() {
        let items = refused.iter().enumerate().filter_map(|(index, problem)| Some(item_refused(&call, index, problem.as_ref()?)));
        return answer(StatusCode::MULTI_STATUS, &BatchAnswer { items: items.collect() });
    }
    let (accepted, before) = match call.tenant().create_observations(call.now(), drafts, key.as_ref()).await? {
        Once::Done(accepted) => (accepted, false),
        Once::Before(accepted) => (accepted, true),
        Once::OtherRequest => return Err(idempotency::other_request()),
    };
    if accepted.len() != sent {
        return Err(Problem::conflict(
            "idempotency_outdated",
            "This batch was accepted before, under other settings of the tenant; what it created stands under GET /api/v1/observations.",
        ));
    }
    let mut accepted = accepted.into_iter();
    let items = refused.into_iter().enumerate().map(|(index, problem)| match (problem, index) {
        (Some(problem), index) => Ok(item_refused(&call, index, &problem)),
        (None, index) => match accepted.next() {
            Some(Accepted::Stored(observation)) => {
                Ok(BatchItem { index, status: 201, observation: Some(ObservationAnswer::from(*observation)), error: None })
            }
            Some(Accepted::PatientUnknown) => {
                Ok(item_refused(&call, index, &Problem::not_found_at(format!("/observations/{index}/patientId"))))
            }
            None => Err(Problem::internal()),
        },
    });
    let response = answer(StatusCode::MULTI_STATUS, &BatchAnswer { items: items.collect::<Result<_, Problem>>()? })?;
    Ok(if before { idempotency::replayed(response) } else { response })
}

fn observations_of(object: &serde_json::Map<String, Value>) -> Result<&Vec<Value>, Problem> {
    let errors = Fields::new(object, "", &["observations"], &[]).errors();
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    match object.get("observations") {
        None | Some(Value::Null) => Err(Problem::field("/observations", "required", "observations is needed: a list of 1 to 1,000.")),
        Some(Value::Array(list)) if list.is_empty() => Err(Problem::field("/observations", "empty", "observations must not be empty.")),
        Some(Value::Array(list)) if list.len() > MOST => {
            Err(Problem::field("/observations", "too_many", "A batch holds 1,000 observations at most; send the rest in another."))
        }
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(Problem::field("/observations", "wrong_type", "observations is a list.")),
    }
}

async fn draft_of(
    call: &Call,
    known: &mut HashMap<PatientId, bool>,
    index: usize,
    item: &Value,
) -> Result<(ObservationDraft, Option<HeldReason>), Problem> {
    let base = format!("/observations/{index}");
    let Value::Object(object) = item else {
        return Err(Problem::field(base, "wrong_type", "An observation is an object."));
    };
    let refused = match observation_body::read(object, &base, None) {
        Ok(draft) => match hold(call, &draft, &base).await {
            Ok(hold) => return Ok((draft, hold)),
            Err(problem) => problem,
        },
        Err(errors) => Problem::fields(errors),
    };
    // Another tenant's patient answers 404 before anything else is looked at.
    if let Some(patient) = observation_body::patient_of(object) {
        let there = match known.get(&patient) {
            Some(there) => *there,
            None => call.tenant().patient(patient).await?.is_some(),
        };
        known.insert(patient, there);
        if !there {
            return Err(Problem::not_found_at(format!("{base}/patientId")));
        }
    }
    Err(refused)
}

fn item_refused(call: &Call, index: usize, problem: &Problem) -> BatchItem {
    BatchItem { index, status: problem.status().as_u16(), observation: None, error: Some(problem.body(Some(&call.request_id))) }
}
