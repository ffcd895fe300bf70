//! The state: rows, lanes, workers, requests under way, the EHR. All times are ticks that are left, so that moments that look
//! alike are alike.

use crate::ehr::{Answer, Manner, Resource, Want};
use ponte_model::delivery::{Facts, Found};
use ponte_model::{Means, State, Timestamp};
use std::fmt;

/// A lease, in ticks.
pub const LEASE: i8 = 3;
/// The time limit of an attempt, in ticks.
pub const LIMIT: i8 = 1;
/// From sending a request until it can still commit, in ticks.
pub const LATEST: i8 = 2;
/// A settle time that is longer than that, in ticks.
pub const SETTLE: i8 = 3;

/// How large the world is.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub workers: usize,
    /// How many of [`ROWS`]: a version; a version and its correction; these, and another patient's.
    pub rows: usize,
    /// Workers that die, or sleep beyond their lease.
    pub deaths: u8,
    /// Answers that are lost, and requests that are dropped.
    pub cuts: u8,
    /// Requests that commit after their line was cut.
    pub late: u8,
}

/// What can be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The settle time, in ticks.
    pub settle: i8,
    /// The next different write of a resource waits for its open attempts.
    pub next_write_waits: bool,
    /// A takeover opens every attempt without an outcome.
    pub takeover_opens: bool,
    /// A result is written by the present owner only.
    pub fence: bool,
    /// A write is sent only within the lease.
    pub lease_checked: bool,
    /// An attempt that was open when another was recorded counts when that one is written down, though it has settled meanwhile.
    pub judged_as_recorded: bool,
    /// The resource is read once more when its last open attempt has settled.
    pub read_afterwards: bool,
    /// Lanes with something due are made due.
    pub swept: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        settle: SETTLE,
        next_write_waits: true,
        takeover_opens: true,
        fence: true,
        lease_checked: true,
        judged_as_recorded: true,
        read_afterwards: true,
        swept: true,
    };
}

/// The model.
#[derive(Debug, Clone)]
pub struct Bridge {
    pub manner: Manner,
    pub bounds: Bounds,
    pub rules: Rules,
}

impl Bridge {
    /// Under all rules, with each manner of an EHR.
    pub fn of_each_manner(bounds: Bounds) -> impl Iterator<Item = Self> {
        Manner::ALL.into_iter().map(move |manner| Self { manner, bounds, rules: Rules::ALL })
    }
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds { workers, rows, deaths, cuts, late } = self.bounds;
        write!(f, "{}, {workers} workers, {rows} rows, {deaths} deaths, {cuts} cuts, {late} late", self.manner)?;
        if self.rules == Rules::ALL { Ok(()) } else { write!(f, ", {:?}", self.rules) }
    }
}

/// The rows: two versions of one observation in lane 0, one of another patient's in lane 1.
pub const ROWS: [(usize, u8); 3] = [(0, 1), (0, 2), (1, 1)];

/// An attempt that has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    pub id: u8,
    /// Ticks until it has settled; -1: it has; `None`: it is under way, or its worker died with it.
    pub left: Option<i8>,
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    pub state: State,
    pub means: Option<Means>,
    pub sent_before: bool,
    pub proven_not_applied: bool,
    pub read_first: bool,
    /// The request that went last, to be repeated as it was.
    pub last: Option<Want>,
    pub attempts: Vec<Attempt>,
    /// Ticks until it is read once more.
    pub audit: Option<i8>,
}

impl Row {
    fn new() -> Self {
        Self {
            state: State::Pending,
            means: None,
            sent_before: false,
            proven_not_applied: false,
            read_first: false,
            last: None,
            attempts: Vec::new(),
            audit: None,
        }
    }
}

/// A lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    pub due: bool,
    /// Ticks until the lease is over, while somebody has it; -1: it is over.
    pub lease: Option<i8>,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doing {
    /// Nothing yet, or no more.
    Looking,
    /// The attempt is recorded.
    Recorded(Sending),
    /// It is under way.
    Sent(Sending),
    /// An answer (`None`: the line was cut) is there and not written down.
    Answered(Sending, Option<Answer>),
}

/// What is sent, and what its worker knew when it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sending {
    pub row: usize,
    pub attempt: u8,
    pub want: Want,
    /// An earlier attempt on the resource was open.
    pub open: bool,
}

/// A worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Worker {
    Idle,
    /// `mine`: the lane's epoch is the one under which it was claimed.
    Holds {
        lane: usize,
        mine: bool,
        doing: Doing,
    },
}

/// A request at the EHR or on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request {
    pub row: usize,
    pub attempt: u8,
    pub want: Want,
    /// Ticks until it can commit no more.
    pub left: i8,
    /// A conditional create has looked: whether it was there.
    pub looked: Option<bool>,
    /// Somebody waits for the answer.
    pub line: bool,
}

/// The acceptance of the second version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acceptance {
    NotYet,
    /// Written and not committed; whether it found the lane due already and so left it alone.
    Uncommitted {
        lane_was_due: bool,
    },
    Committed,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub rows: Vec<Row>,
    /// Per observation: the ETag that the ledger keeps, once it knows the resource.
    pub known: Vec<Option<u8>>,
    pub lanes: Vec<Lane>,
    pub workers: Vec<Worker>,
    pub requests: Vec<Request>,
    pub ehr: Vec<Resource>,
    pub second: Acceptance,
    pub deaths: u8,
    pub cuts: u8,
    pub late: u8,
}

impl World {
    pub fn new(bounds: &Bounds) -> Self {
        let lanes = ROWS[bounds.rows - 1].0 + 1;
        Self {
            rows: vec![Row::new(); bounds.rows],
            known: vec![None; lanes],
            lanes: vec![Lane { due: true, lease: None }; lanes],
            workers: vec![Worker::Idle; bounds.workers],
            requests: Vec::new(),
            ehr: vec![Resource::default(); lanes],
            second: if bounds.rows > 1 { Acceptance::NotYet } else { Acceptance::Committed },
            deaths: bounds.deaths,
            cuts: bounds.cuts,
            late: bounds.late,
        }
    }

    /// Whether a transaction that begins now sees the row.
    pub fn sees(&self, row: usize) -> bool {
        ROWS[row].1 == 1 || self.second == Acceptance::Committed
    }

    /// The rows of a lane that are to be seen, in the order of acceptance.
    pub fn rows_of(&self, lane: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.rows.len()).filter(move |row| ROWS[*row].0 == lane && self.sees(*row))
    }

    /// Whether anything is left to do in a lane.
    pub fn unfinished(&self, lane: usize) -> bool {
        self.rows_of(lane).any(|row| {
            let row = &self.rows[row];
            row.audit.is_some() || matches!(row.state, State::Pending | State::RetryScheduled | State::InFlight | State::Uncertain)
        })
    }

    /// As `store` reckons it: the latest of the row's attempts without an outcome; for an uncertain row also one that has settled.
    pub fn own_settle_until(&self, row: usize) -> Option<Timestamp> {
        let row = &self.rows[row];
        if row.proven_not_applied {
            return None;
        }
        let asked_for = matches!(row.state, State::Uncertain | State::InFlight);
        latest(&row.attempts).filter(|until| asked_for || until.0 >= 0)
    }

    /// The latest of the resource's attempts that are open still.
    pub fn resource_settle_until(&self, lane: usize) -> Option<Timestamp> {
        let all = (0..self.rows.len()).filter(|row| ROWS[*row].0 == lane).filter_map(|row| latest(&self.rows[row].attempts));
        all.max().filter(|until| until.0 >= 0)
    }

    pub fn facts(&self, row: usize) -> Facts {
        let (lane, version) = ROWS[row];
        let it = &self.rows[row];
        Facts {
            version: i64::from(version),
            sent_before: it.sent_before,
            proven_not_applied: it.proven_not_applied,
            means: it.means,
            if_match_honoured: true,
            own_settle_until: self.own_settle_until(row),
            read_first: it.read_first,
            resource_settle_until: self.resource_settle_until(lane),
        }
    }
}

/// Now is 0.
fn latest(attempts: &[Attempt]) -> Option<Timestamp> {
    attempts.iter().map(|attempt| attempt.left.map_or(Timestamp(i64::MAX), |left| Timestamp(i64::from(left)))).max()
}

/// What an answer shows.
pub fn found(answer: Answer) -> Option<Found> {
    match answer {
        Answer::Holds { version, etag } => Some(Found::Version { version: i64::from(version), etag: Some(etag.to_string()) }),
        Answer::Nothing { settled } => Some(Found::Nothing { sent_at: Timestamp(if settled { i64::MAX } else { i64::MIN }) }),
        Answer::Several => Some(Found::Several),
        Answer::PreconditionFailed => None,
    }
}
