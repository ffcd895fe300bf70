//! A connection check that an api node asked for: made here, for an api node never calls an EHR.

use crate::engine::Engine;
use ehr::check::{CheckInput, Language, Report, check};
use model::{EhrId, RunId, TenantId};
use serde::Deserialize;
use std::time::Duration;
use store::{Error, Tenant};

/// The body of `POST /fhir/config/test`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    write_probe: bool,
    test_patient_id: Option<EhrId>,
}

/// Makes it and stores its report.
pub(crate) async fn run_check(engine: &Engine, tenant: &TenantId, run: RunId) -> Result<(), Error> {
    let tenant = engine.store.tenant(tenant);
    let run = tenant.run(engine.now(), run).await?.ok_or(Error::Corrupt("runs"))?;
    let asked: Asked = run.input.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let (Some(stored), Some(http)) = (tenant.connection().await?, engine.http.clone()) else {
        return tenant.finish_check(engine.now(), run.id, r#"{"overall":"failed","steps":[]}"#).await;
    };
    let before = tenant.runtime().await?.plan;
    let probed = asked.write_probe && asked.test_patient_id.is_some();
    let input = CheckInput {
        test_patient_id: asked.test_patient_id,
        write_probe: asked.write_probe,
        ..CheckInput::reading((*stored.connection).clone(), before.clone())
    };
    let mut nobody_listens = |_: &_| {};
    let checking = check(http, engine.clock.clone(), engine.rng.as_ref(), input, &mut nobody_listens);
    let report = alive(engine, &tenant, run.id, checking).await?;
    if probed {
        let after = report.plan.clone();
        tenant.change_plan(stored.generation, Box::new(move |plan| plan.take_over(&before, &after))).await?;
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

/// A check may take longer than a lease: without signs of life another worker would begin it, and its probe, again.
async fn alive(engine: &Engine, tenant: &Tenant, run: RunId, checking: impl Future<Output = Report>) -> Result<Report, Error> {
    let third = Duration::from_millis(u64::try_from(engine.lease_ms / 3).unwrap_or(1).max(1));
    let mut checking = std::pin::pin!(checking);
    loop {
        match tokio::time::timeout(third, &mut checking).await {
            Ok(report) => return Ok(report),
            Err(_) => {
                let until = engine.now().plus_ms(engine.lease_ms);
                if let Err(error) = tenant.keep_check(run, &engine.owner, until).await {
                    tracing::warn!(%error, "a connection check could not show a sign of life");
                }
            }
        }
    }
}
