//! What an EHR says of itself, read once a day: it orders what is tried and proves nothing (FHIR.md §5).

use crate::lane::LaneTurn;
use crate::push::call;
use ehr::client::Call;
use model::failure::Scope;
use model::{MeansPlan, Timestamp};
use store::Error;

const DAY_MS: i64 = 86_400_000;

/// Reads CapabilityStatement and smart-configuration where that is due. A failure of the connection ends the turn; any
/// other answer leaves everything to be tried.
pub(crate) async fn learn(lane: &mut LaneTurn) -> Result<(), Error> {
    let now = lane.engine.now();
    let read_at = lane.runtime.plan.capabilities_read_at.as_deref().and_then(Timestamp::from_rfc3339);
    if read_at.is_some_and(|at| now.ms_since(at) < DAY_MS) {
        return Ok(());
    }
    if !lane.enter_to_ask().await? {
        return Ok(());
    }
    let call = Call { only_if: None, ..call(lane) };
    let answer = lane.ehr.capabilities(&call).await;
    if answer.outcome.class.scope() == Scope::Connection && answer.outcome.status.is_none() {
        lane.connection_failed(&answer.outcome, answer.outcome.class).await?;
        return Ok(());
    }
    let wants_basic = lane.ehr.smart_configuration(&call).await.content.and_then(|smart| smart.wants_basic());
    let claims = answer.content;
    let change = move |plan: &mut MeansPlan| {
        if let Some(claims) = &claims {
            *plan = claims.update_plan(plan, now);
        }
        plan.capabilities_read_at = Some(now.rfc3339());
        plan.token_auth_basic = plan.token_auth_basic.or(wants_basic);
    };
    lane.answered();
    lane.change_plan(change).await
}
