//! Whether this node lives, and whether it is ready: database and migrations, not the EHR.

use crate::problem::Problem;
use crate::routes::App;
use crate::schema::answers::ProblemAnswer;
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// A healthy answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
}

/// The process serves requests.
#[utoipa::path(get, path = "/health/live", tag = "operation", operation_id = "live", security(()), responses((status = 200, description = "It does.", body = Health)))]
pub(crate) async fn live() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The database answers and its schema is this binary's.
#[utoipa::path(get, path = "/health/ready", tag = "operation", operation_id = "ready", security(()),
    responses((status = 200, description = "Ready.", body = Health),
        (status = 503, description = "`not_ready`: the sentence says what is missing.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn ready(State(app): State<App>) -> Result<Json<Health>, Problem> {
    match app.api.store.ready().await {
        Ok(()) => Ok(Json(Health { status: "ok" })),
        Err(error) => {
            tracing::warn!(error = %error, "not ready");
            let detail = match error {
                store::Error::Schema(sentence) => sentence,
                _ => "The database does not answer.".to_owned(),
            };
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail).retry_after_ms(2000))
        }
    }
}
