//! Whose turn it is: one patient's open deliveries → what may be done with them now. Pure.
//!
//! PROTOCOL §3, row "pending": a new write goes only if earlier ones are final, nothing of the patient is uncertain,
//! no attempt on that resource is open (rule W), and the Patient itself is there. Asking, reading and repeating go on for
//! each row by itself, or a lost batch would wait for itself for ever (trace 17).

use model::delivery::{Action, Event, Facts, next};
use model::{Class, HeldReason, MeansPlan, Proof, ResourceKey, State, Timestamp};
use store::{PatientWork, WorkRow};

/// What may be done now with one patient's rows: indexes into [`PatientWork::rows`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The same request again, same precondition (means 2, updates with `If-Match`, within the settle time).
    pub(crate) repeat: Vec<usize>,
    /// Uncertain ones to be asked about, and delivered ones to be read once more.
    pub(crate) ask: Vec<usize>,
    /// The one new write of this patient, if its time has come.
    pub(crate) write: Option<usize>,
}

impl Turn {
    pub(crate) fn is_empty(&self) -> bool {
        self.repeat.is_empty() && self.ask.is_empty() && self.write.is_none()
    }
}

/// The facts of a row that the transition function wants, as they were when the row was shown, which is before anything was sent:
/// an earlier attempt that settles while the answer is under way still has the resource read again, for it may have committed in
/// between (`cargo xtask model` gives the counterexample).
pub(crate) fn facts(row: &WorkRow, plan: &MeansPlan) -> Facts {
    Facts {
        version: row.version,
        sent_before: row.sent_before,
        proven_not_applied: row.proven_not_applied,
        means: row.means,
        if_match_honoured: plan.if_match != Proof::Refused,
        own_settle_until: row.own_settle_until,
        read_first: matches!(row.last_class, Some(Class::Conflict | Class::Gone)),
        resource_settle_until: row.resource_settle_until,
    }
}

/// Decides what may be done now.
pub(crate) fn turn(work: &PatientWork, plan: &MeansPlan, now: Timestamp) -> Turn {
    let due = |row: &WorkRow| row.due_at.is_some_and(|at| at <= now);
    let mut turn = Turn::default();
    let mut unsettled = false;
    for (at, row) in work.rows.iter().enumerate() {
        match row.state {
            State::Uncertain => {
                unsettled = true;
                if due(row) {
                    match next(row.state, &facts(row, plan), &Event::Turn { now }).action {
                        Action::Repeat => turn.repeat.push(at),
                        Action::Read | Action::Search => turn.ask.push(at),
                        Action::None
                        | Action::Send
                        | Action::KeepEtag { .. }
                        | Action::UpdateWith { .. }
                        | Action::ReadAfter { .. }
                        | Action::NextMeans => {}
                    }
                }
            }
            State::InFlight => unsettled = true,
            State::Delivered => {
                if row.audit_at.is_some_and(|at| at <= now) {
                    turn.ask.push(at);
                }
            }
            State::Pending | State::RetryScheduled | State::Held(_) | State::Dead | State::Superseded | State::Canceled => {}
        }
    }
    if unsettled || work.blocked {
        return turn;
    }
    // A held row stops only its own resource; an earlier open one of the patient goes first.
    let mut held: Vec<ResourceKey> = Vec::new();
    for (at, row) in work.rows.iter().enumerate() {
        match row.state {
            State::Held(HeldReason::PatientUnlinked) if matches!(row.resource, ResourceKey::Patient(_)) => return turn,
            State::Held(_) => held.push(row.resource),
            State::Pending | State::RetryScheduled if held.contains(&row.resource) => {}
            State::Pending | State::RetryScheduled => {
                let settled = row.resource_settle_until.is_none_or(|until| now > until);
                if due(row) && settled {
                    turn.write = Some(at);
                }
                return turn;
            }
            State::InFlight | State::Uncertain | State::Delivered | State::Dead | State::Superseded | State::Canceled => {}
        }
    }
    turn
}
