//! The pull of one patient: the linked Patient first, then all Observations, each page stored with a note of where the
//! walk stands (PRODUCT, "Pull" and law 8).
//!
//! | file | idea |
//! |---|---|
//! | `walk` | which page is asked next, and when nothing is left: pure |
//! | `row` | an entry of a page: this patient's row, somebody else's, or unreadable |
//! | `checkpoint` | what is noted behind each page |
//! | `turn` | one pull while it runs: reading the Patient, storing, learning |
//! | `ask` | its questions, and what becomes of one that is not answered |
//! | `missing` | what a whole read did not show |

mod ask;
mod checkpoint;
mod missing;
mod row;
mod turn;
mod walk;

use crate::breaker;
use crate::engine::Engine;
use crate::probe::Probe;
use crate::reading;
use model::failure::Scope;
use model::patient::LinkProblem;
use model::{Class, EhrId, LinkState, Patient, Timestamp};
use store::lane::Fenced;
use store::{Error, PullClaim, PullState, Runtime, StoredConnection};
use turn::{End, Turn};

/// After this an incomplete pull is tried again by itself, doubled with each failure in a row, ms.
const AGAIN_MS: i64 = 15 * 60_000;
/// It is never further away than a round of the six-hourly pull, ms.
const AGAIN_AT_MOST_MS: i64 = 6 * 3_600_000;
/// Somebody else probes the connection: look again soon, ms.
const PROBED_MS: i64 = 1000;

/// Pulls one patient, from wherever it stands, and gives the claim back.
///
/// # Errors
/// When the database does not do what is asked; the pull goes on from its checkpoint when the lease has run out.
pub async fn run_pull(engine: &Engine, claim: PullClaim) -> Result<(), Error> {
    let (patient, state, stored, runtime) = claim.load().await?;
    let failures = state.failures;
    let end = match gate(engine, &claim, &patient, stored, &runtime).await? {
        Gate::Closed(end) => end,
        Gate::Open { ehr_id, stored, probe_until } => {
            let end = work(engine, &claim, patient, state, *stored, runtime, ehr_id).await?;
            if let Some(until) = probe_until {
                claim.tenant().give_back_probe(until).await?;
            }
            end
        }
    };
    give_back(engine, claim, failures, end).await
}

enum Gate {
    Open {
        ehr_id: EhrId,
        stored: Box<StoredConnection>,
        /// The connection failed last: this pull has the one probe until then.
        probe_until: Option<Timestamp>,
    },
    Closed(End),
}

/// The connection, if it is one that is pulled.
fn wanted(stored: Option<StoredConnection>) -> Result<StoredConnection, End> {
    let not = |outcome, message| Err(End::NotWanted { outcome, message });
    match stored {
        None => not("not_configured", "The tenant has no connection."),
        Some(stored) if !stored.connection.enabled => not("disabled", "The connection is switched off."),
        Some(stored) if !stored.connection.pulls() => not("pull_off", "The connection only pushes (syncDirection)."),
        Some(stored) => Ok(stored),
    }
}

/// Whether this patient can be pulled now; one probe at a time where the connection failed last.
async fn gate(
    engine: &Engine,
    claim: &PullClaim,
    patient: &Patient,
    stored: Option<StoredConnection>,
    runtime: &Runtime,
) -> Result<Gate, Error> {
    let closed = |outcome, message, again_at| Ok(Gate::Closed(End::not_now(outcome, message, again_at)));
    let now = engine.now();
    let stored = match wanted(stored) {
        Ok(stored) => Box::new(stored),
        Err(end) => return Ok(Gate::Closed(end)),
    };
    let Some(ehr_id) = readable(patient) else {
        let message = patient.link.problem.map_or("The patient is not linked to a Patient of the EHR yet.", reading::sentence);
        return closed("patient_unlinked", message, None);
    };
    if let Some(until) = runtime.not_before.filter(|until| *until > now) {
        return closed(waiting_word(runtime), "The EHR failed last; we try again by ourselves.", Some(until));
    }
    let probe = Probe::take(engine, &claim.tenant(), &stored, runtime, now).await?;
    if matches!(probe, Probe::Anothers) {
        return closed(
            waiting_word(runtime),
            "The EHR failed last and is being asked whether it works again.",
            Some(now.plus_ms(PROBED_MS)),
        );
    }
    Ok(Gate::Open { ehr_id, stored, probe_until: probe.until() })
}

/// The EHR's id to read, where the link is in use or is held for something that another reading can show to be over.
fn readable(patient: &Patient) -> Option<EhrId> {
    let link = &patient.link;
    let again = match (link.state, link.problem) {
        (LinkState::Linked, _) => true,
        (LinkState::Held, Some(problem)) => match problem {
            LinkProblem::ReplacedBy
            | LinkProblem::Inactive
            | LinkProblem::IdDiffers
            | LinkProblem::IdentifierDiffers
            | LinkProblem::Gone
            | LinkProblem::AccessDenied
            | LinkProblem::BirthDateDiffers
            | LinkProblem::NotInterpreted => true,
            LinkProblem::Candidates | LinkProblem::MultipleMatches | LinkProblem::NotFound => false,
        },
        (LinkState::Held, None) | (LinkState::Unlinked, _) => false,
    };
    link.ehr_id.clone().filter(|_| again)
}

fn waiting_word(runtime: &Runtime) -> &'static str {
    if runtime.auth_refused {
        "credentials_refused"
    } else if runtime.circuit_open {
        "circuit_open"
    } else {
        "pull_incomplete"
    }
}

async fn work(
    engine: &Engine,
    claim: &PullClaim,
    patient: Patient,
    state: PullState,
    stored: StoredConnection,
    runtime: Runtime,
    ehr_id: EhrId,
) -> Result<End, Error> {
    let Ok(ehr) = engine.ehrs.ehr(&stored.connection, runtime.plan.clone()) else {
        let until = connection_failed(engine, claim, &stored, &runtime, Class::AddressRefused, None).await?;
        return Ok(End::not_now("pull_incomplete", breaker::sentence(Class::AddressRefused), Some(until)));
    };
    let mut turn = Turn::new(engine, claim, ehr, patient, state, stored, runtime, ehr_id);
    turn.run().await
}

/// A failure of the connection goes to the connection's backoff. Says when it may be used again.
async fn connection_failed(
    engine: &Engine,
    claim: &PullClaim,
    stored: &StoredConnection,
    runtime: &Runtime,
    class: Class,
    retry_after_ms: Option<i64>,
) -> Result<Timestamp, Error> {
    let now = engine.now();
    let failed = breaker::failed(now, class, retry_after_ms, runtime, &stored.connection.retry, engine.rng.unit());
    let tenant = claim.tenant();
    tracing::warn!(tenant = %tenant.id(), class = %class, failures = failed.failures, circuit_open = failed.circuit_open,
        retry_in_ms = failed.not_before.ms_since(now), "the connection failed during a pull");
    Ok(if tenant.connection_failed(now, stored, &failed).await? { failed.not_before } else { now })
}

/// Whether a failed read concerns the connection and not this patient.
fn of_the_connection(class: Class) -> bool {
    class.scope() == Scope::Connection || class == Class::Uncertain
}

async fn give_back(engine: &Engine, claim: PullClaim, failures: u32, end: End) -> Result<(), Error> {
    let now = engine.now();
    let tenant = claim.tenant();
    let (word, given_back) = match end {
        End::Lost => return Ok(()),
        End::Complete { watermark, full } => {
            let given_back = claim.finish(now, watermark, full).await?;
            if given_back == Fenced::Mine {
                tenant.connection_works(now, false, true).await?;
            }
            ("complete", given_back)
        }
        End::NotWanted { outcome, message } => (outcome, claim.put_back(now, outcome, message).await?),
        End::NotNow { outcome, message, again_at } => (outcome, claim.fail(now, outcome, &message, again_at).await?),
        End::Incomplete { message } => {
            let wait = AGAIN_MS.saturating_mul(1 << failures.min(8)).min(AGAIN_AT_MOST_MS);
            ("pull_incomplete", claim.fail(now, "pull_incomplete", &message, Some(now.plus_ms(wait))).await?)
        }
    };
    metrics::counter!("ponte_pull_runs_total", "result" => word).increment(1);
    match given_back {
        Fenced::Mine => tracing::info!(tenant = %tenant.id(), outcome = word, "pull"),
        Fenced::Lost => tracing::info!(tenant = %tenant.id(), "a pull lost its lease; whoever holds it goes on from its checkpoint"),
    }
    Ok(())
}
