//! State × event → state and action (PROTOCOL §3). Pure; the engine gathers the facts and carries out the action.

use super::{HeldReason, State};
use crate::clock::Timestamp;
use crate::means::Means;

/// What the transition depends on, read in the transaction that writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The version of this delivery.
    pub version: i64,
    /// Whether any byte of it was ever sent.
    pub sent_before: bool,
    /// Whether every attempt so far is proven not to have been applied.
    pub proven_not_applied: bool,
    /// By which means it goes, or went last.
    pub means: Option<Means>,
    /// Whether this EHR was seen to honour `If-Match`, or at least not seen to ignore it.
    pub if_match_honoured: bool,
    /// Until when attempts of *this delivery* without an outcome stay open: the latest of them.
    pub own_settle_until: Option<Timestamp>,
    /// Whether the last attempt was answered 409, 412, 404 or 410: our own earlier request may be the reason, so it is read
    /// and not repeated, for a repeat would only be answered so again (trace 15).
    pub read_first: bool,
    /// Until when attempts of *this resource* without an outcome stay open, the one just answered excepted.
    pub resource_settle_until: Option<Timestamp>,
}

/// What is found at the EHR under our identifier or id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It carries the mark of this version of ours, under this ETag.
    Version {
        /// The version that the mark names.
        version: i64,
        /// Its `meta.versionId`.
        etag: Option<String>,
    },
    /// It carries our identifier, but neither a mark nor a content that we ever sent: somebody changed it.
    Changed {
        /// Its `meta.versionId`.
        etag: Option<String>,
    },
    /// It does not carry our identifier, or another subject.
    Foreign,
    /// Not there (404). Says of a create no more than an empty search does.
    Absent,
    /// It was there and somebody deleted it (410). The hospital's deletion stays one.
    Deleted,
    /// A search found more than one.
    Several,
    /// A search found none. Says nothing unless it was *sent* after the settle time.
    Nothing {
        /// When the search was sent.
        sent_at: Timestamp,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its turn has come and all that must go first has gone: see [`Facts`] and the engine's selection.
    Turn {
        /// Now.
        now: Timestamp,
    },
    /// A newer version of the resource was accepted.
    NewerAccepted,
    /// A 2xx that names an id. `found` is what its body shows; on a plain 201 or a `PUT` it is the version sent.
    Applied {
        /// What the body shows.
        found: Found,
    },
    /// No usable answer: cut line, time-out, 5xx after bytes, broken batch answer.
    NoAnswer {
        /// When the loss was known.
        now: Timestamp,
        /// The connection's settle time, ms.
        settle_ms: i64,
    },
    /// Certainly not applied, and it may pass: refused connection, 429, the EHR's own 503.
    NotApplied,
    /// 409 or 412 on a `PUT`.
    PreconditionFailed {
        /// Now.
        now: Timestamp,
    },
    /// 412 on a conditional create.
    SeveralMatch,
    /// Refused for good: 400, 422, or our own check.
    Refused,
    /// The EHR refuses us this write: 403.
    Denied,
    /// The EHR does not offer this means; another one is taken. Nothing was applied.
    MeansRefused,
    /// The EHR offers no way to find out what became of it.
    NoWayToAsk,
    /// The lane was taken over from a worker that died or froze.
    TakenOver {
        /// When.
        now: Timestamp,
        /// The connection's settle time, ms.
        settle_ms: i64,
    },
    /// A search or read has answered. Fenced like any other result.
    Asked {
        /// What it found.
        found: Found,
        /// Now.
        now: Timestamp,
    },
    /// A late 2xx for this version, whose epoch is still mine.
    LateApplied {
        /// The ETag that it names.
        etag: Option<String>,
    },
    /// A late answer whose epoch is not mine any more.
    LateFenced,
    /// A person replays it.
    Replayed,
    /// A person withdraws it, or the resource was deleted.
    Withdrawn,
    /// The patience of the tenant is over.
    PatienceOver,
}

/// What the engine does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Record the attempt, check the lease, send.
    Send,
    /// The same request with the same precondition, at once.
    Repeat,
    /// Search by our identifier; an empty answer counts only if it was sent after the settle time.
    Search,
    /// Read by id.
    Read,
    /// Keep id and ETag as ours.
    KeepEtag {
        /// The EHR's version.
        etag: Option<String>,
    },
    /// Write it again as an update with this ETag.
    UpdateWith {
        /// The ETag to match.
        etag: Option<String>,
    },
    /// Keep id and ETag, and read once more when the last open attempt of the resource has settled.
    ReadAfter {
        /// When.
        at: Timestamp,
        /// The ETag to keep until then.
        etag: Option<String>,
    },
    /// Take the next means and send.
    NextMeans,
}

/// The outcome of a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The state from now on.
    pub state: State,
    /// What to do.
    pub action: Action,
    /// Until when the attempt that just ended without an outcome stays open.
    pub settle_until: Option<Timestamp>,
    /// Every attempt so far is now proven not to have been applied.
    pub proven_not_applied: bool,
    /// An older version of ours was found over a newer one and is being replaced: to be reported.
    pub report_older: bool,
}

/// The one transition function of a delivery.
#[must_use]
pub fn next(state: State, facts: &Facts, event: &Event) -> Next {
    use State::{Canceled, Dead, Delivered, Held, InFlight, Pending, RetryScheduled, Superseded, Uncertain};
    let stay = || to(state, Action::None);
    match (state, event) {
        // Its turn.
        (Pending | RetryScheduled, Event::Turn { .. }) => to(InFlight, Action::Send),
        (Uncertain, Event::Turn { now }) => match facts.means {
            Some(means) if means.repeats_at_once() => {
                // Within the settle time the same `PUT` may go again; later somebody may have corrected it: read first.
                if !facts.read_first && facts.own_settle_until.is_some_and(|until| *now <= until) {
                    to(InFlight, Action::Repeat)
                } else {
                    to(Uncertain, Action::Read)
                }
            }
            _ => to(Uncertain, Action::Search),
        },
        (Delivered, Event::Turn { .. }) => to(Delivered, Action::Read),

        // A newer version.
        (Pending, Event::NewerAccepted) if !facts.sent_before || facts.proven_not_applied => to(Superseded, Action::None),
        (RetryScheduled | Held(_), Event::NewerAccepted) if !facts.sent_before || facts.proven_not_applied => to(Superseded, Action::None),
        (_, Event::NewerAccepted) => stay(),

        // An answer.
        (InFlight | Uncertain, Event::Applied { found }) => found_on_answer(facts, found),
        (InFlight | Uncertain, Event::NoAnswer { now, settle_ms }) => {
            Next { settle_until: Some(now.plus_ms(*settle_ms)), ..to(Uncertain, Action::None) }
        }
        // Only this attempt was not applied; an earlier one of the same delivery may still be open.
        (InFlight | Uncertain, Event::NotApplied) => {
            if facts.own_settle_until.is_some() {
                to(Uncertain, Action::None)
            } else {
                Next { proven_not_applied: true, ..to(RetryScheduled, Action::None) }
            }
        }
        (InFlight | Uncertain, Event::PreconditionFailed { .. }) => to(Uncertain, Action::Read),
        (InFlight | Uncertain, Event::SeveralMatch) => to(Held(HeldReason::MultipleMatches), Action::None),
        (InFlight | Uncertain | Pending | RetryScheduled, Event::Refused) => {
            if facts.own_settle_until.is_some() {
                // The repeat was refused, but the first may have been applied: ask, do not bury.
                to(Uncertain, Action::None)
            } else {
                to(Dead, Action::None)
            }
        }
        (InFlight | Uncertain | Pending | RetryScheduled, Event::Denied) => {
            if facts.own_settle_until.is_some() {
                to(Uncertain, Action::None)
            } else {
                to(Held(HeldReason::AccessDenied), Action::None)
            }
        }
        (InFlight | Uncertain, Event::MeansRefused) => {
            if facts.own_settle_until.is_some() {
                to(Uncertain, Action::None)
            } else {
                Next { proven_not_applied: true, ..to(RetryScheduled, Action::NextMeans) }
            }
        }
        (Uncertain, Event::NoWayToAsk) => to(Held(HeldReason::NoSafeMeans), Action::None),

        // A worker died or froze.
        (InFlight, Event::TakenOver { now, settle_ms }) => {
            Next { settle_until: Some(now.plus_ms(*settle_ms)), ..to(Uncertain, Action::None) }
        }
        // Attempts without an outcome are opened anew whatever the delivery's state (trace 3).
        (_, Event::TakenOver { now, settle_ms }) => Next { settle_until: Some(now.plus_ms(*settle_ms)), ..stay() },

        // Asked.
        (Uncertain, Event::Asked { found, now }) => found_while_uncertain(facts, found, *now),
        (Delivered, Event::Asked { found, .. }) => found_after_settling(facts, found),

        // Late.
        (InFlight | Uncertain | RetryScheduled, Event::LateApplied { etag }) => delivered(facts, etag.clone()),
        (Delivered, Event::LateApplied { .. }) => match facts.resource_settle_until {
            Some(at) => to(Delivered, Action::ReadAfter { at, etag: None }),
            None => to(Delivered, Action::Read),
        },
        (_, Event::LateFenced) => match facts.resource_settle_until {
            Some(at) if !matches!(state, Superseded | Canceled) => to(state, Action::ReadAfter { at, etag: None }),
            _ => stay(),
        },

        // A person, or the end of patience.
        (Dead | Held(_), Event::Replayed) => {
            // What may be there already is asked for first, never sent blind.
            if facts.sent_before && !facts.proven_not_applied { to(Uncertain, Action::None) } else { to(Pending, Action::None) }
        }
        (RetryScheduled, Event::Replayed) => to(RetryScheduled, Action::None),
        (Pending | RetryScheduled | Held(_) | Dead, Event::Withdrawn) if !facts.sent_before || facts.proven_not_applied => {
            to(Canceled, Action::None)
        }
        (Held(_) | Dead, Event::Withdrawn) => to(Canceled, Action::None),
        (RetryScheduled, Event::PatienceOver) => to(Dead, Action::None),

        _ => stay(),
    }
}

/// A 2xx: what its body shows decides, not its status (PRODUCT, effect ledger, rule 3).
fn found_on_answer(facts: &Facts, found: &Found) -> Next {
    match found {
        Found::Version { version, etag } if *version == facts.version => delivered(facts, etag.clone()),
        Found::Version { version, etag } if *version < facts.version => {
            to(State::RetryScheduled, Action::UpdateWith { etag: etag.clone() })
        }
        Found::Several => to(State::Held(HeldReason::MultipleMatches), Action::None),
        Found::Deleted => to(State::Held(HeldReason::GoneAtEhr), Action::None),
        Found::Nothing { .. } | Found::Absent => to(State::Uncertain, Action::None),
        Found::Version { .. } | Found::Changed { .. } | Found::Foreign => to(State::Held(HeldReason::Conflict), Action::None),
    }
}

fn found_while_uncertain(facts: &Facts, found: &Found, now: Timestamp) -> Next {
    let settled = facts.own_settle_until.is_none_or(|until| now > until);
    match found {
        Found::Version { version, etag } if *version == facts.version => delivered(facts, etag.clone()),
        Found::Version { version, etag } if *version < facts.version => {
            // Without a working precondition a late first attempt would be overwritten, or overwrite: wait.
            if facts.if_match_honoured || settled {
                to(State::RetryScheduled, Action::UpdateWith { etag: etag.clone() })
            } else {
                to(State::Uncertain, Action::None)
            }
        }
        Found::Version { .. } | Found::Changed { .. } | Found::Foreign => to(State::Held(HeldReason::Conflict), Action::None),
        Found::Several => to(State::Held(HeldReason::MultipleMatches), Action::None),
        Found::Absent if facts.means.is_some_and(Means::creates) => {
            // Our own id answers 404: not there yet, which proves something only after the settle time.
            if settled { not_applied() } else { to(State::Uncertain, Action::None) }
        }
        Found::Absent | Found::Deleted => to(State::Held(HeldReason::GoneAtEhr), Action::None),
        Found::Nothing { sent_at } => {
            if facts.own_settle_until.is_none_or(|until| *sent_at > until) {
                not_applied()
            } else {
                to(State::Uncertain, Action::None)
            }
        }
    }
}

/// The read after the last open attempt has settled, and the audits (PRODUCT, effect ledger, rules 6 and 10).
fn found_after_settling(facts: &Facts, found: &Found) -> Next {
    if let Some(at) = facts.resource_settle_until {
        return to(State::Delivered, Action::ReadAfter { at, etag: None });
    }
    match found {
        Found::Version { version, etag } if *version >= facts.version => to(State::Delivered, Action::KeepEtag { etag: etag.clone() }),
        Found::Version { etag, .. } => Next { report_older: true, ..to(State::RetryScheduled, Action::UpdateWith { etag: etag.clone() }) },
        Found::Several => to(State::Held(HeldReason::MultipleMatches), Action::None),
        Found::Absent | Found::Deleted => to(State::Held(HeldReason::GoneAtEhr), Action::None),
        Found::Changed { .. } | Found::Foreign => to(State::Held(HeldReason::Conflict), Action::None),
        Found::Nothing { .. } => to(State::Delivered, Action::None),
    }
}

fn delivered(facts: &Facts, etag: Option<String>) -> Next {
    match facts.resource_settle_until {
        Some(at) => to(State::Delivered, Action::ReadAfter { at, etag }),
        None => to(State::Delivered, Action::KeepEtag { etag }),
    }
}

fn not_applied() -> Next {
    Next { proven_not_applied: true, ..to(State::RetryScheduled, Action::None) }
}

fn to(state: State, action: Action) -> Next {
    Next { state, action, settle_until: None, proven_not_applied: false, report_older: false }
}

#[cfg(test)]
mod tests;
