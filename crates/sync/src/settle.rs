//! An answer (or none) → the new standing of its delivery. Pure: the state by `delivery::next`, the time by the tenant's retry.

use crate::found::Judged;
use crate::turn::facts;
use model::delivery::{Action, Event, Found, Next, next};
use model::retry::{delay_ms, round_used_up};
use model::{AttemptId, Class, EhrId, MeansPlan, RetryPolicy, State, Timestamp};
use store::{Outcome, Settlement, WorkRow};

/// One hour and one day after an attempt that never had an outcome, it is audited (PRODUCT, effect ledger, rule 10).
const AUDIT_AFTER_MS: [i64; 2] = [3_600_000, 86_400_000];

/// What a settlement depends on beside the row.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) now: Timestamp,
    pub(crate) plan: MeansPlan,
    pub(crate) retry: RetryPolicy,
    pub(crate) settle_ms: i64,
    pub(crate) patience_ms: i64,
    /// The connection's down time so far, ms.
    pub(crate) down_total_ms: i64,
    /// Chance in `0.0..1.0`.
    pub(crate) jitter: f64,
}

/// How an attempt ended, as `ehr` saw it.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) attempt: AttemptId,
    pub(crate) class: Class,
    pub(crate) status: Option<u16>,
    pub(crate) message: Option<String>,
    pub(crate) retry_after_ms: Option<i64>,
}

/// The answer to a write.
#[derive(Debug, Clone)]
pub(crate) enum Written {
    /// A 2xx (or 303) that was looked into.
    Applied(Judged),
    /// 200 to the first `PUT` of an id that we chose: something else lives there.
    SomethingElse,
    /// Anything else: the class says what.
    Failed {
        /// When the connection may be used again, if the failure is the connection's.
        connection_next: Option<Timestamp>,
    },
}

/// The event that an ended write is.
fn event(terms: &Terms, class: Class, written: &Written) -> Event {
    let now = terms.now;
    match written {
        Written::Applied(judged) => Event::Applied { found: judged.found.clone() },
        Written::SomethingElse => Event::Applied { found: Found::Foreign },
        Written::Failed { .. } => match class {
            Class::Applied | Class::Exists | Class::Uncertain | Class::BadResponse | Class::Internal => {
                Event::NoAnswer { now, settle_ms: terms.settle_ms }
            }
            Class::Unreachable
            | Class::Tls
            | Class::Unavailable
            | Class::RateLimited
            | Class::AuthToken
            | Class::Redirect
            | Class::AddressRefused => Event::NotApplied,
            Class::Conflict | Class::Gone => Event::PreconditionFailed { now },
            Class::MultipleMatches => Event::SeveralMatch,
            Class::Validation | Class::TooLarge | Class::Mapping => Event::Refused,
            Class::AuthDenied => Event::Denied,
            Class::MeansRefused => Event::MeansRefused,
        },
    }
}

/// Settles a write.
pub(crate) fn settle_write(terms: &Terms, row: &WorkRow, ended: &Ended, written: &Written) -> Settlement {
    let next = next(State::InFlight, &facts(row, &terms.plan), &event(terms, ended.class, written));
    let (ehr_id, connection_next) = match written {
        Written::Applied(judged) => (judged.ehr_id.clone(), None),
        Written::SomethingElse => (None, None),
        Written::Failed { connection_next } => (None, *connection_next),
    };
    build(terms, row, Some(ended), &next, ehr_id, connection_next)
}

/// Settles what never left: our own check refused it.
pub(crate) fn settle_refused_by_us(terms: &Terms, row: &WorkRow, message: String) -> Settlement {
    let next = next(row.state, &facts(row, &terms.plan), &Event::Refused);
    Settlement { message: Some(message), ..build(terms, row, None, &next, None, None) }
}

/// Settles a question about an uncertain row, or the read after settling.
pub(crate) fn settle_asked(terms: &Terms, row: &WorkRow, ended: &Ended, judged: &Judged) -> Settlement {
    let next = next(row.state, &facts(row, &terms.plan), &Event::Asked { found: judged.found.clone(), now: terms.now });
    build(terms, row, Some(ended), &next, judged.ehr_id.clone(), None)
}

/// A question that the EHR does not answer: asked again until the round is used up, for it may have been a page out of
/// place; then there is no way to find out.
pub(crate) fn settle_no_way_to_ask(terms: &Terms, row: &WorkRow, ended: &Ended) -> Settlement {
    let tries = row.round_tries + 1;
    let never = matches!(ended.class, Class::MeansRefused | Class::Mapping);
    if !never && !round_used_up(&terms.retry, tries) {
        let again_at = terms.now.plus_ms(delay_ms(&terms.retry, tries, terms.jitter, ended.retry_after_ms));
        return Settlement { counts_try: true, ..settle_not_asked(row, ended, again_at) };
    }
    let settled = row.own_settle_until.is_none_or(|until| terms.now > until);
    let event = if settled { Event::NoWayToAsk } else { Event::Asked { found: Found::Nothing { sent_at: Timestamp(0) }, now: terms.now } };
    build(terms, row, Some(ended), &next(row.state, &facts(row, &terms.plan), &event), None, None)
}

/// A question that failed: the row stays as it is and is asked about again.
pub(crate) fn settle_not_asked(row: &WorkRow, ended: &Ended, again_at: Timestamp) -> Settlement {
    Settlement {
        due_at: Some(again_at),
        audit: row.audit_at.map(|_| (again_at, row.audit_stage)),
        ..unchanged(row, Some(outcome(ended, None)))
    }
}

/// What was sent cannot be written again: it is asked about as soon as its last attempt has settled.
pub(crate) fn settle_not_repeated(terms: &Terms, row: &WorkRow, why: String) -> Settlement {
    let settled = row.own_settle_until.map_or(terms.now, |until| until.plus_ms(1));
    Settlement { due_at: Some(settled), message: Some(why), ..unchanged(row, None) }
}

fn build(
    terms: &Terms,
    row: &WorkRow,
    ended: Option<&Ended>,
    next: &Next,
    ehr_id: Option<EhrId>,
    connection_next: Option<Timestamp>,
) -> Settlement {
    let now = terms.now;
    let own_failure = ended.is_some_and(|e| counts(e.class)) && next.state != State::Delivered && connection_next.is_none();
    let mut settlement = unchanged(row, ended.map(|e| outcome(e, next.settle_until)));
    settlement.state = next.state;
    settlement.due_at = None;
    settlement.counts_try = own_failure;
    settlement.ehr_id = ehr_id;
    settlement.audit = None;
    if next.proven_not_applied {
        settlement.proven_not_applied = Some(true);
    } else if next.settle_until.is_some() {
        settlement.proven_not_applied = Some(false);
    }
    match &next.action {
        Action::KeepEtag { etag } | Action::UpdateWith { etag } | Action::ReadAfter { etag, .. } => settlement.ehr_version = etag.clone(),
        Action::None | Action::Send | Action::Repeat | Action::Search | Action::Read | Action::NextMeans => {}
    }
    let tries = row.round_tries + u32::from(own_failure);
    let backoff = || now.plus_ms(delay_ms(&terms.retry, tries.max(1), terms.jitter, ended.and_then(|e| e.retry_after_ms)));
    match next.state {
        State::Delivered => {
            settlement.synced = true;
            settlement.audit = audit(terms, row, next);
        }
        State::RetryScheduled => {
            settlement.due_at = match (&next.action, connection_next) {
                (Action::NextMeans | Action::UpdateWith { .. }, _) => Some(now),
                (_, Some(at)) => Some(at),
                (_, None) if round_used_up(&terms.retry, tries) => None,
                (_, None) if tries == 0 => Some(now),
                (_, None) => Some(backoff()),
            };
            if settlement.due_at.is_none() && patience_over(terms, row) {
                let over = model::delivery::next(State::RetryScheduled, &facts(row, &terms.plan), &Event::PatienceOver);
                settlement.state = over.state;
            }
        }
        State::Uncertain => {
            let until = next.settle_until.or(row.own_settle_until).filter(|until| *until >= now);
            settlement.due_at = Some(match (&next.action, until) {
                (Action::Read, _) => now,
                // The same `PUT` may go again, until the round is used up: then it is read, and the connection judged by that.
                (_, Some(until)) if row.means.is_some_and(model::Means::repeats_at_once) => {
                    if round_used_up(&terms.retry, tries) {
                        until.plus_ms(1)
                    } else {
                        backoff()
                    }
                }
                // A search may find it sooner, an empty one counts only after the settle time.
                (_, Some(until)) if next.settle_until.is_some() => now.plus_ms((terms.settle_ms / 4).clamp(1, 1000)).min(until.plus_ms(1)),
                (_, Some(until)) => until.plus_ms(1),
                (_, None) => backoff(),
            });
        }
        State::Pending | State::InFlight | State::Held(_) | State::Dead | State::Superseded | State::Canceled => {}
    }
    if let Some(ended) = ended.filter(|e| next.state != State::Delivered && e.message.is_some()) {
        settlement.message = ended.message.clone();
    }
    settlement
}

/// Failures of a row's own; those of the connection are counted there, a question asked and answered is none.
fn counts(class: Class) -> bool {
    matches!(class, Class::Uncertain | Class::Conflict | Class::TooLarge | Class::Internal)
}

/// The next reading of a delivered row: after the last open attempt has settled; then, if an attempt of it never had an
/// outcome, after an hour and after a day.
fn audit(terms: &Terms, row: &WorkRow, next: &Next) -> Option<(Timestamp, u32)> {
    match next.action {
        Action::ReadAfter { at, .. } => Some((at.plus_ms(1), 0)),
        _ if row.state == State::Delivered => {
            let stage = row.audit_stage;
            AUDIT_AFTER_MS.get(stage as usize).map(|after| (terms.now.plus_ms(*after), stage + 1))
        }
        // It was sent before: somebody may still be frozen with a request in hand.
        _ if row.sent_before || row.own_settle_until.is_some() || row.state == State::Uncertain => {
            Some((terms.now.plus_ms(AUDIT_AFTER_MS[0]), 1))
        }
        _ => None,
    }
}

fn patience_over(terms: &Terms, row: &WorkRow) -> bool {
    row.first_failed_at.is_some_and(|first| {
        let down = terms.down_total_ms.saturating_sub(row.down_ms_then);
        terms.now.ms_since(first).saturating_sub(down) > terms.patience_ms
    })
}

fn outcome(ended: &Ended, settle_until: Option<Timestamp>) -> Outcome {
    Outcome { attempt: ended.attempt, status: ended.status, class: ended.class, settle_until, message: ended.message.clone() }
}

fn unchanged(row: &WorkRow, outcome: Option<Outcome>) -> Settlement {
    Settlement {
        delivery: row.id,
        outcome,
        state: row.state,
        due_at: row.due_at,
        counts_try: false,
        new_round: false,
        proven_not_applied: None,
        ehr_id: None,
        ehr_version: None,
        synced: false,
        audit: row.audit_at.map(|at| (at, row.audit_stage)),
        message: None,
        works: false,
    }
}
