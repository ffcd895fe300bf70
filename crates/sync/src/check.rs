//! A connection check that an api node asked for: made here, for an api node never calls an EHR.

use crate::engine::Engine;
use ehr::check::{CheckInput, Language, check};
use model::{EhrId, TenantId};
use serde::Deserialize;
use store::{Error, Run};

/// The body of `POST /fhir/config/test`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    write_probe: bool,
    test_patient_id: Option<EhrId>,
}

/// Makes it and stores its report.
pub(crate) async fn run_check(engine: &Engine, tenant: &TenantId, run: &Run) -> Result<(), Error> {
    let tenant = engine.store.tenant(tenant);
    let asked: Asked = run.input.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let (Some(stored), Some(http)) = (tenant.connection().await?, engine.http.clone()) else {
        return tenant.finish_check(engine.now(), run.id, r#"{"overall":"failed","steps":[]}"#).await;
    };
    let plan = tenant.runtime().await?.plan;
    let probed = asked.write_probe && asked.test_patient_id.is_some();
    let input = CheckInput {
        connection: (*stored.connection).clone(),
        plan,
        test_patient_id: asked.test_patient_id,
        write_probe: asked.write_probe,
    };
    let report = check(http, engine.clock.clone(), engine.rng.as_ref(), input, &mut |_| {}).await;
    if probed {
        let proven = report.plan.clone();
        tenant.change_plan(stored.generation, Box::new(move |plan| *plan = proven)).await?;
    }
    let mut json = report.to_json();
    if let Some(object) = json.as_object_mut() {
        object.insert(
            "markdown".to_owned(),
            serde_json::json!({"pt-BR": report.to_markdown(Language::PtBr), "en": report.to_markdown(Language::En)}),
        );
    }
    tenant.finish_check(engine.now(), run.id, &json.to_string()).await
}
