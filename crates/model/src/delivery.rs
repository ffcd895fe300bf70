//! The effect ledger's row, its states, and [`next`], the one function by which a state changes.
//!
//! The table is PROTOCOL §3; its counterexample traces are tests of this file and of the engine.

mod next;

pub use next::{Action, Event, Facts, Found, Next, next};

use crate::attempt::Attempt;
use crate::clock::Timestamp;
use crate::failure::{WhoseMove, words};
use crate::id::{DeliveryId, EhrId, PatientId, ResourceKey};
use std::fmt;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Waiting for its turn.
    Pending,
    /// A worker holds a lease on it and is sending.
    InFlight,
    /// Failed in a way that may pass; due at a known time.
    RetryScheduled,
    /// Cannot go yet.
    Held(HeldReason),
    /// Sent, and no answer came back. Never resent blind.
    Uncertain,
    /// The EHR holds it, under a known id and version.
    Delivered,
    /// Refused for good; kept until somebody replays or discards it.
    Dead,
    /// A newer version replaced it before any byte was sent.
    Superseded,
    /// Withdrawn before any byte was sent, or by a person.
    Canceled,
}

impl State {
    /// The nine words, in the order of PRODUCT's table.
    pub const WORDS: [&'static str; 9] =
        ["pending", "in_flight", "retry_scheduled", "held", "uncertain", "delivered", "dead", "superseded", "canceled"];

    /// The word in the API, the database and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InFlight => "in_flight",
            Self::RetryScheduled => "retry_scheduled",
            Self::Held(_) => "held",
            Self::Uncertain => "uncertain",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Superseded => "superseded",
            Self::Canceled => "canceled",
        }
    }

    /// Reads the word and, for `held`, its reason.
    #[must_use]
    pub fn parse(word: &str, reason: Option<&str>) -> Option<Self> {
        Some(match word {
            "pending" => Self::Pending,
            "in_flight" => Self::InFlight,
            "retry_scheduled" => Self::RetryScheduled,
            "held" => Self::Held(HeldReason::parse(reason?)?),
            "uncertain" => Self::Uncertain,
            "delivered" => Self::Delivered,
            "dead" => Self::Dead,
            "superseded" => Self::Superseded,
            "canceled" => Self::Canceled,
            _ => return None,
        })
    }

    /// Nothing will happen to it any more, unless a person replays it.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Dead | Self::Superseded | Self::Canceled)
    }

    /// Later deliveries of the same patient wait for it. A held row waits for a person and stops only its own resource.
    #[must_use]
    pub fn stops_the_patient(self) -> bool {
        matches!(self, Self::Pending | Self::InFlight | Self::RetryScheduled | Self::Uncertain)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

words!(
    /// Why a delivery cannot go yet. The second group is derived on reading and never stored.
    HeldReason {
        /// The EHR holds something else under this id or identifier, or somebody changed it there.
        Conflict = "conflict",
        /// More than one resource at the EHR carries our identifier.
        MultipleMatches = "multiple_matches",
        /// The code means something else.
        CodeMisused = "code_misused",
        /// The EHR's people deleted it.
        GoneAtEhr = "gone_at_ehr",
        /// The EHR offers no way to find out whether it was applied.
        NoSafeMeans = "no_safe_means",
        /// The EHR refuses us this patient or this write.
        AccessDenied = "access_denied",
        /// It was open when the connection moved to another base URL.
        ConnectionMoved = "connection_moved",
        /// The patient's link needs a person, or there is none (the delivery of the patient itself; derived for the others).
        PatientUnlinked = "patient_unlinked",

        /// An earlier delivery of this patient goes first.
        EarlierFirst = "earlier_first",
        /// An attempt on this resource has to settle first.
        Settling = "settling",
        /// The EHR is down; probes go on.
        CircuitOpen = "circuit_open",
        /// The EHR refuses our credentials.
        CredentialsRefused = "credentials_refused",
        /// The installation is paused until a person says what this database is.
        Paused = "paused",
        /// The tenant has no connection.
        NotConfigured = "not_configured",
        /// The connection is switched off.
        Disabled = "disabled",
        /// The connection only pulls.
        PushOff = "push_off",
        /// Its frequency lets it wait for the next sweep.
        NextSweep = "next_sweep",
    }
);

impl HeldReason {
    /// Whose move it is.
    #[must_use]
    pub fn whose_move(self) -> WhoseMove {
        match self {
            Self::EarlierFirst | Self::Settling | Self::NextSweep => WhoseMove::Ponte,
            Self::CircuitOpen | Self::AccessDenied | Self::GoneAtEhr => WhoseMove::Hospital,
            Self::Conflict
            | Self::MultipleMatches
            | Self::CodeMisused
            | Self::NoSafeMeans
            | Self::ConnectionMoved
            | Self::PatientUnlinked
            | Self::CredentialsRefused
            | Self::Paused
            | Self::NotConfigured
            | Self::Disabled
            | Self::PushOff => WhoseMove::You,
        }
    }
}

/// A row of the ledger, as the API shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Whose stream it is in.
    pub patient_id: PatientId,
    /// What it brings to the EHR.
    pub resource: ResourceKey,
    /// Which version of it.
    pub version: i64,
    /// Where it stands; reasons of the connection and of the patient are derived into it.
    pub state: State,
    /// The EHR's reason or ours, a sentence for the tenant alone.
    pub message: Option<String>,
    /// The next automatic step, if there is one.
    pub next_attempt_at: Option<Timestamp>,
    /// The EHR's id, once known.
    pub ehr_id: Option<EhrId>,
    /// The EHR's version, once known.
    pub ehr_version: Option<String>,
    /// When the change was accepted.
    pub created_at: Timestamp,
    /// When the EHR was known to hold it.
    pub delivered_at: Option<Timestamp>,
    /// Newest last.
    pub attempts: Vec<Attempt>,
}

impl Delivery {
    /// Whose move it is.
    #[must_use]
    pub fn whose_move(&self) -> WhoseMove {
        match self.state {
            State::Held(reason) => reason.whose_move(),
            State::Dead => self.attempts.iter().rev().find_map(|a| a.class).map_or(WhoseMove::You, |class| match class.whose_move() {
                WhoseMove::Ponte => WhoseMove::You,
                other => other,
            }),
            State::RetryScheduled => {
                self.attempts.iter().rev().find_map(|a| a.class).map_or(WhoseMove::Ponte, |class| match class.whose_move() {
                    WhoseMove::Hospital => WhoseMove::Hospital,
                    _ => WhoseMove::Ponte,
                })
            }
            _ => WhoseMove::Ponte,
        }
    }
}
