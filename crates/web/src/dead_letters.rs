//! Dead letters: what was refused for good, kept until somebody replays or discards it.

use crate::call::{Call, answer, empty, located, path_id};
use crate::deliveries::known;
use crate::fields::Fields;
use crate::idempotency;
use crate::patients;
use crate::problem::Problem;
use crate::query::Query;
use crate::runs::{RunAnswer, run_path};
use crate::schema::ReplayBody;
use crate::schema::answers::{DeliveryAnswer, List, ProblemAnswer};
use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use model::{DeliveryId, PatientId, State};
use store::{Discarded, Replayed};

/// Dead letters, newest first; `reason` carries the EHR's own words.
#[utoipa::path(get, path = "/fhir/dead-letters", tag = "dead letters", operation_id = "listDeadLetters",
    params(("limit" = Option<u32>, Query, description = "1 to 200; 50 where left out."), ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before.")),
    responses((status = 200, description = "A page.", body = List<DeliveryAnswer>)))]
pub(crate) async fn list(call: Call) -> Result<Response, Problem> {
    let query = Query::read(&call, "dead-letters", &[])?;
    let page = call.tenant().dead_letters(call.now(), &query.page(&call)?).await?;
    let next_cursor = query.next(&call, &page);
    answer(StatusCode::OK, &List { items: page.items.into_iter().map(DeliveryAnswer::whole).collect(), next_cursor })
}

/// Sends one again; where it may have been applied, the EHR is asked first.
#[utoipa::path(post, path = "/fhir/dead-letters/{id}/replay", tag = "dead letters", operation_id = "replayDeadLetter",
    params(("id" = String, Path, format = Uuid), ("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 202, description = "On its way again (or superseded by a newer version, which goes instead).", body = DeliveryAnswer, headers(("Location" = String))),
        (status = 409, description = "`not_dead`: it is not a dead letter.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn replay(call: Call, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = path_id(&id, DeliveryId)?;
    known(&call, id).await?;
    let work = {
        let call = call.clone();
        async move {
            match call.tenant().replay(call.now(), id, &call.who.sub).await? {
                Replayed::Again | Replayed::Superseded => {
                    let shown = DeliveryAnswer::whole(known(&call, id).await?);
                    located(answer(StatusCode::ACCEPTED, &shown)?, &format!("/api/v1/fhir/deliveries/{id}"))
                }
                Replayed::NotDead => Err(not_dead()),
                Replayed::Unknown => Err(Problem::not_found()),
            }
        }
    };
    idempotency::once(&call, b"", work).await
}

/// Sends all dead letters again, or those of one patient; `dryRun` only counts them.
#[utoipa::path(post, path = "/fhir/dead-letters/replay", tag = "dead letters", operation_id = "replayDeadLetters", request_body(content = ReplayBody, description = "May be left out."),
    params(("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 200, description = "A dry run: what would be sent.", body = RunAnswer),
        (status = 202, description = "A run.", body = RunAnswer, headers(("Location" = String)))))]
pub(crate) async fn replay_all(call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.optional_json(body).await?;
    let mut fields = Fields::new(&body.object, "", &["patientId", "dryRun"], &[]);
    let dry_run = fields.boolean("dryRun").given().unwrap_or(false);
    let patient = fields.read("patientId", 64, |text| {
        crate::call::uuid(text).map(PatientId).ok_or(("not_a_uuid", "patientId is the UUID of one of your patients.".to_owned()))
    });
    let patient = patient.given();
    if let Some(patient) = patient {
        patients::known(&call, patient).await.map_err(|_| Problem::not_found_at("/patientId"))?;
    }
    let errors = fields.errors();
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    let work = {
        let call = call.clone();
        async move {
            let run = call.tenant().replay_dead(call.now(), patient, &call.who.sub, dry_run).await?;
            let path = run_path(run.id);
            if dry_run {
                return answer(StatusCode::OK, &RunAnswer::from(run));
            }
            located(answer(StatusCode::ACCEPTED, &RunAnswer::from(run))?, &path)
        }
    };
    idempotency::once(&call, &body.bytes, work).await
}

/// Gives one up: ADMIN alone. Its content and attempts stay on record.
#[utoipa::path(delete, path = "/fhir/dead-letters/{id}", tag = "dead letters", operation_id = "discardDeadLetter", params(("id" = String, Path, format = Uuid)),
    responses((status = 204, description = "Given up, now or before."),
        (status = 409, description = "`not_dead`: it is not a dead letter.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn discard(call: Call, Path(id): Path<String>) -> Result<Response, Problem> {
    call.who.must_be_admin()?;
    let id = path_id(&id, DeliveryId)?;
    let delivery = known(&call, id).await?;
    if delivery.state == State::Canceled {
        return Ok(empty());
    }
    match call.tenant().discard(call.now(), id, &call.who.sub).await? {
        Discarded::Canceled => Ok(empty()),
        Discarded::NotDead => Err(not_dead()),
        Discarded::Unknown => Err(Problem::not_found()),
    }
}

fn not_dead() -> Problem {
    Problem::conflict("not_dead", "This delivery is not a dead letter any more, or never was one; read it again.")
}
