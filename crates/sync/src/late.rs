//! An answer that comes after its deadline is evidence of its attempt: kept, never judged here (PRODUCT, effect ledger, rule 8).

use crate::lane::LaneTurn;
use ehr::client::Late;
use ehr::reply::Outcome;
use model::{AttemptId, LateAnswer};

/// Waits for a late answer in the background and keeps it with its attempt.
pub(crate) fn keep(lane: &LaneTurn, attempt: AttemptId, late: Option<Late<()>>) {
    let Some(late) = late else { return };
    let (engine, lane) = (lane.engine.clone(), lane.lane.clone());
    tokio::spawn(async move {
        if let Some(answer) = late.wait().await {
            write(&engine, &lane, attempt, &answer.outcome).await;
        }
    });
}

/// The same for a batch: each entry's answer to its attempt.
pub(crate) fn keep_batch(lane: &LaneTurn, attempts: Vec<AttemptId>, late: Option<Late<Vec<Outcome>>>) {
    let Some(late) = late else { return };
    let (engine, lane) = (lane.engine.clone(), lane.lane.clone());
    tokio::spawn(async move {
        let Some(outcomes) = late.wait().await.and_then(|answer| answer.content) else { return };
        if outcomes.len() == attempts.len() {
            for (attempt, outcome) in attempts.into_iter().zip(&outcomes) {
                write(&engine, &lane, attempt, outcome).await;
            }
        }
    });
}

async fn write(engine: &crate::engine::Engine, lane: &store::Lane, attempt: AttemptId, outcome: &Outcome) {
    let Some(status) = outcome.status else { return };
    let late = LateAnswer {
        at: engine.now(),
        status,
        ehr_id: outcome.ehr_id.as_ref().map(ToString::to_string),
        ehr_version: outcome.ehr_version.clone(),
    };
    if let Err(error) = lane.record_late(attempt, late).await {
        tracing::warn!(%error, %attempt, "a late answer could not be kept; the next question will find out all the same");
    }
}
