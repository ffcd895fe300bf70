//! The connection test: made by a worker, because an api node never calls an EHR; watched here.

use crate::call::{Call, answer, located};
use crate::fields::{Fields, Given};
use crate::idempotency;
use crate::outcome::held;
use crate::patient_body::ehr_id;
use crate::problem::Problem;
use crate::runs::{RunAnswer, run_path, watch_run};
use crate::schema::CheckBody;
use crate::schema::answers::ProblemAnswer;
use crate::wait::Wish;
use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use model::HeldReason;
use serde_json::{Map, Value, json};
use store::RunState;

/// Tests the connection step by step. Nothing is written at the EHR without `writeProbe` and a test patient.
#[utoipa::path(post, path = "/fhir/config/test", tag = "config", operation_id = "testConfig", request_body(content = CheckBody, description = "May be left out."),
    params(("Prefer" = Option<String>, Header, description = "`wait=N` seconds (50 at most; 30 without it), or `respond-async`."),
        ("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 200, description = "The report, step by step; also when steps failed.", body = Object),
        (status = 202, description = "Not done yet; the run stands under Location.", body = RunAnswer, headers(("Location" = String))),
        (status = 409, description = "`not_configured`.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn test(call: Call, body: Body) -> Result<Response, Problem> {
    call.who.must_be_admin()?;
    let body = call.optional_json(body).await?;
    let input = read(&body.object)?;
    let work = {
        let call = call.clone();
        async move {
            if call.tenant().connection().await?.is_none() {
                return Err(held(HeldReason::NotConfigured, None));
            }
            let wish = Wish::of(&call.headers);
            let run = call.tenant().request_check(call.now(), &input.to_string(), &call.who.sub).await?;
            let path = run_path(run.id);
            let (run, done) = watch_run(&call, run, wish.begin()).await?;
            let response = if done { report(run)? } else { answer(StatusCode::ACCEPTED, &RunAnswer::from(run))? };
            located(response, &path).map(|response| wish.applied(response))
        }
    };
    idempotency::once(&call, &body.bytes, work).await
}

fn read(object: &Map<String, Value>) -> Result<Value, Problem> {
    let mut fields = Fields::new(object, "", &["writeProbe", "testPatientId"], &[]);
    let probe = fields.boolean("writeProbe") == Given::Is(true);
    let patient = fields.read("testPatientId", 200, ehr_id).given();
    if probe && patient.is_none() && !fields.complained_of("testPatientId") {
        fields.wrong(
            "testPatientId",
            "required",
            "A write probe needs the EHR's id of a test patient: nothing is ever written on a real one.",
        );
    }
    let errors = fields.errors();
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    Ok(json!({"writeProbe": probe, "testPatientId": patient.map(String::from)}))
}

/// The worker's report with the id of its run.
fn report(run: store::Run) -> Result<Response, Problem> {
    let steps = run.result.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(steps) = steps.filter(|_| run.state == RunState::Finished) else {
        return Err(Problem::new(StatusCode::BAD_GATEWAY, "check_failed", "The test broke off before its end; try again."));
    };
    let mut body = Map::new();
    body.insert("runId".to_owned(), run.id.to_string().into());
    match steps {
        Value::Object(fields) => body.extend(fields),
        steps => {
            body.insert("steps".to_owned(), steps);
        }
    }
    answer(StatusCode::OK, &body)
}
