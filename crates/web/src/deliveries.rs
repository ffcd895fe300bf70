//! The effect ledger as the tenant sees it, with attempts and the EHR's own words.

use crate::call::{Call, answer, path_id};
use crate::observations;
use crate::patients;
use crate::problem::Problem;
use crate::query::Query;
use crate::schema::answers::{DeliveryAnswer, List};
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use model::{Delivery, DeliveryId, ObservationId, PatientId, State};
use store::DeliveryFilter;

/// Deliveries, newest first, without their attempts.
#[utoipa::path(get, path = "/fhir/deliveries", tag = "deliveries", operation_id = "listDeliveries",
    params(("state" = Option<String>, Query, description = "One of the nine states."), ("observationId" = Option<String>, Query, format = Uuid), ("patientId" = Option<String>, Query, format = Uuid),
        ("limit" = Option<u32>, Query, description = "1 to 200; 50 where left out."), ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before.")),
    responses((status = 200, description = "A page.", body = List<DeliveryAnswer>)))]
pub(crate) async fn list(call: Call) -> Result<Response, Problem> {
    let query = Query::read(&call, "deliveries", &["state", "observationId", "patientId"])?;
    let observation_id = query.id("observationId", ObservationId)?;
    if let Some(id) = observation_id {
        observations::known(&call, id).await.map_err(|_| Problem::not_found_at("/observationId"))?;
    }
    let patient_id = query.id("patientId", PatientId)?;
    if let Some(id) = patient_id {
        patients::known(&call, id).await.map_err(|_| Problem::not_found_at("/patientId"))?;
    }
    let state = query.text("state").map(str::to_owned);
    if state.as_deref().is_some_and(|word| !State::WORDS.contains(&word)) {
        return Err(Problem::field("/state", "not_allowed", format!("state is one of {}.", State::WORDS.join(", "))));
    }
    let filter = DeliveryFilter { state, observation_id, patient_id };
    let page = call.tenant().deliveries(call.now(), &filter, &query.page(&call)?).await?;
    let next_cursor = query.next(&call, &page);
    answer(StatusCode::OK, &List { items: page.items.into_iter().map(DeliveryAnswer::brief).collect(), next_cursor })
}

/// One delivery with its attempts.
#[utoipa::path(get, path = "/fhir/deliveries/{id}", tag = "deliveries", operation_id = "getDelivery", params(("id" = String, Path, format = Uuid)),
    responses((status = 200, description = "The delivery.", body = DeliveryAnswer)))]
pub(crate) async fn get(call: Call, Path(id): Path<String>) -> Result<Response, Problem> {
    answer(StatusCode::OK, &DeliveryAnswer::whole(known(&call, path_id(&id, DeliveryId)?).await?))
}

/// The delivery of this tenant, or 404.
pub(crate) async fn known(call: &Call, id: DeliveryId) -> Result<Delivery, Problem> {
    call.tenant().delivery(call.now(), id).await?.ok_or_else(Problem::not_found)
}
