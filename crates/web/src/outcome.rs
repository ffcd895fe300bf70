//! What became of a delivery that somebody waits for: delivered, undecided, or a problem that says why it does not go.

use crate::call::Call;
use crate::problem::Problem;
use crate::wait::Wait;
use http::StatusCode;
use model::{Class, Delivery, DeliveryId, HeldReason, ResourceKey, State};
use store::{DeliveryFilter, PageRequest};

/// How the wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The EHR holds the newest version.
    Delivered,
    /// Not decided in time; the ledger goes on by itself.
    Undecided(DeliveryId),
}

/// Watches the newest delivery of a resource until it is decided or the wait is over.
///
/// # Errors
/// Why it does not go, as far as that is certain.
pub(crate) async fn watch(call: &Call, resource: ResourceKey, first: DeliveryId, mut wait: Wait) -> Result<Outcome, Problem> {
    let mut id = first;
    loop {
        let delivery = call.tenant().delivery(call.now(), id).await?.ok_or_else(Problem::not_found)?;
        match delivery.state {
            State::Delivered | State::Superseded => match newest(call, resource).await? {
                Newest::Synced => return Ok(Outcome::Delivered),
                Newest::Delivery(newer) if newer != id => {
                    id = newer;
                    continue;
                }
                Newest::Delivery(_) | Newest::Unknown => {}
            },
            State::Canceled => {
                return Err(Problem::conflict("canceled", "It was withdrawn before anything was sent; there is nothing to deliver.")
                    .with("deliveryId", id.to_string()));
            }
            State::Dead => return Err(refused(&delivery)),
            State::Held(HeldReason::EarlierFirst | HeldReason::Settling | HeldReason::NextSweep) => {}
            State::Held(reason) => return Err(held(reason, delivery.message.as_deref()).with("deliveryId", id.to_string())),
            State::InFlight | State::Uncertain => {}
            State::Pending | State::RetryScheduled => {}
        }
        if !matches!(delivery.state, State::InFlight | State::Uncertain)
            && let Some(trouble) = connection_trouble(call, wait.left_ms()).await?
        {
            return Err(trouble.with("deliveryId", id.to_string()));
        }
        if !wait.step().await {
            return Ok(Outcome::Undecided(id));
        }
    }
}

/// A problem where the connection is known not to be used within the next `within_ms`.
pub(crate) async fn connection_trouble(call: &Call, within_ms: i64) -> Result<Option<Problem>, Problem> {
    let runtime = call.tenant().runtime().await?;
    let now = call.now();
    if runtime.auth_refused {
        return Ok(Some(held(HeldReason::CredentialsRefused, None)));
    }
    let resting = runtime.failures > 0 && runtime.not_before.is_some_and(|at| at > now.plus_ms(within_ms));
    if !runtime.circuit_open && !resting {
        return Ok(None);
    }
    let mut problem = held(HeldReason::CircuitOpen, None);
    if let Some(at) = runtime.not_before.filter(|at| *at > now) {
        problem = problem.retry_after_ms(at.ms_since(now)).with("nextAttemptAt", at.rfc3339());
    }
    if let Some(class) = runtime.last_class {
        problem = problem.with("class", class.word());
    }
    Ok(Some(problem))
}

/// A reason to wait for a person or for the hospital, as a problem.
pub(crate) fn held(reason: HeldReason, message: Option<&str>) -> Problem {
    let sentence = sentence(reason);
    let detail = message.map_or_else(|| sentence.to_owned(), |message| format!("{sentence} {message}"));
    let problem = match reason {
        HeldReason::CircuitOpen => Problem::new(StatusCode::BAD_GATEWAY, "ehr_unavailable", detail),
        other => Problem::conflict(other.word(), detail),
    };
    problem.with("whoseMove", reason.whose_move().word())
}

enum Newest {
    Synced,
    Delivery(DeliveryId),
    Unknown,
}

/// Whether the EHR holds the newest version of a resource, else which delivery is to bring it.
async fn newest(call: &Call, resource: ResourceKey) -> Result<Newest, Problem> {
    let tenant = call.tenant();
    match resource {
        ResourceKey::Observation(id) => {
            let observation = tenant.observation(call.now(), id).await?.ok_or_else(Problem::not_found)?;
            Ok(match observation.delivery {
                _ if observation.synced() => Newest::Synced,
                Some(brief) => Newest::Delivery(brief.id),
                None => Newest::Unknown,
            })
        }
        ResourceKey::Patient(id) => {
            let filter = DeliveryFilter { patient_id: Some(id), ..DeliveryFilter::default() };
            let page = tenant.deliveries(call.now(), &filter, &PageRequest { limit: 200, before: None }).await?;
            let newest = page.items.into_iter().find(|delivery| delivery.resource == resource);
            Ok(match newest {
                Some(delivery) if delivery.state == State::Delivered => Newest::Synced,
                Some(delivery) => Newest::Delivery(delivery.id),
                None => Newest::Unknown,
            })
        }
    }
}

/// A dead delivery: the EHR's own words go to the tenant they concern.
fn refused(delivery: &Delivery) -> Problem {
    let class = delivery.attempts.iter().rev().find_map(|attempt| attempt.class);
    let words = delivery.message.clone().unwrap_or_else(|| "It was refused for good; see its attempts.".to_owned());
    let problem = match class {
        Some(Class::Mapping) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not_deliverable", words),
        Some(class) if class.scope() == model::failure::Scope::Connection => {
            Problem::new(StatusCode::BAD_GATEWAY, "ehr_unavailable", words)
        }
        Some(Class::Internal) => Problem::new(StatusCode::BAD_GATEWAY, "not_deliverable", words),
        _ => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "ehr_refused", words),
    };
    let problem = match class {
        Some(class) => problem.with("class", class.word()),
        None => problem,
    };
    problem.with("deliveryId", delivery.id.to_string()).with("whoseMove", delivery.whose_move().word())
}

fn sentence(reason: HeldReason) -> &'static str {
    match reason {
        HeldReason::Conflict => "The EHR holds something else in its place, or somebody changed it there: a person has to decide.",
        HeldReason::MultipleMatches => {
            "More than one resource at the EHR carries its identifier: the EHR's people have to say which is right."
        }
        HeldReason::CodeMisused => "Its code means something else; correct the code.",
        HeldReason::GoneAtEhr => "The EHR's people deleted it; Ponte does not bring it back by itself.",
        HeldReason::NoSafeMeans => {
            "It was sent and no answer came, and this EHR offers no way to find out whether it was applied: look there, then replay or discard it."
        }
        HeldReason::AccessDenied => "The EHR refuses us this patient or this write; its people have to grant it.",
        HeldReason::ConnectionMoved => "It was open when the connection moved to another address; send it anew by a sync.",
        HeldReason::PatientUnlinked => "The patient is not linked to the EHR's Patient; an administrator has to link it.",
        HeldReason::EarlierFirst => "An earlier delivery of this patient goes first.",
        HeldReason::Settling => "An earlier attempt has to settle first.",
        HeldReason::CircuitOpen => "The EHR cannot be used at present; nothing is lost, and Ponte goes on by itself.",
        HeldReason::CredentialsRefused => "The EHR refuses our credentials; an administrator has to correct the configuration.",
        HeldReason::Paused => "This installation is paused until its operator says what this database is (`ponte adopt`).",
        HeldReason::NotConfigured => {
            "There is no connection to an EHR yet; an administrator has to create it with POST /api/v1/fhir/config."
        }
        HeldReason::Disabled => "The connection is switched off; an administrator may switch it on (`enabled`).",
        HeldReason::PushOff => "The connection only pulls; an administrator may change `syncDirection`.",
        HeldReason::NextSweep => "It goes with the next sweep.",
    }
}
