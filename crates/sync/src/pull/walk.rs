//! The walk over one patient's Observations: which page to ask for next, and when nothing is left. Pure.
//!
//! **By value** (PRODUCT, "Pull"): `_lastUpdated=ge V`, sorted by it. A page that reaches beyond the value V is one snapshot, so
//! the next question is its largest value. Only where a whole page stands inside one value is its next link followed: next
//! links alone lost up to 40 of 100 rows that changed during the walk, the walk by value none (measured on three servers).
//!
//! **Whole**: every next link from the first page on.
//!
//! A pass over several pages is repeated until two in a row show the same (id, version)s. That proves the first of the two: a
//! row can be skipped only because another left its place before it, and that one would be missing, or be another version,
//! in the second. An empty page may have a next link; only its absence ends a pass.

use model::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Rows asked for per page.
pub(crate) const COUNT: u32 = 100;
/// So many pages are no list of one patient any more.
const MOST_PAGES: u32 = 20_000;
/// So many passes over one value, or over the list.
const MOST_PASSES: u32 = 20;
/// The same where everything from before the start of the pull was read.
const MOST_PASSES_BEHIND: u32 = 4;
/// So often a lost session may be begun anew at one value.
const MOST_RESTARTS: u32 = 3;
/// So many empty first pages with a next link, and the server filters after it has paged: by value it would crawl.
const MOST_EMPTY_FIRST: u32 = 3;

/// How the list is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// By value of `_lastUpdated`.
    Value,
    /// Whole, by next links; repeated until nothing new comes.
    Whole,
    /// Whole, by next links, once: behind a walk by value, for what timestamps skip and for deletes.
    Review,
}

/// Where a walk stands. It is what a checkpoint keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Walk {
    mode: Mode,
    /// Asked for from here on, ms; `None`: from the beginning.
    value: Option<i64>,
    /// The next link to follow in this pass.
    next: Option<String>,
    /// Fingerprints of the links followed in this pass.
    links: Vec<u64>,
    /// This pass went over more than one page.
    linked: bool,
    /// When the pull began by the lesser of the server's clock and ours, ms: later stamps are of rows that changed since.
    horizon: Option<i64>,
    /// The value is the stamp of a row that was met: it, or a later version of it, must show again.
    expected: bool,
    /// A row of the present value was met in this pass.
    inhabited: bool,
    /// What this pass has shown of the value, or of the list. A crash forgets it, and the pass is repeated.
    #[serde(skip)]
    shown: BTreeSet<u64>,
    /// How many the pass before showed, and their digest.
    before: Option<(usize, u64)>,
    /// The server compares whole seconds only.
    whole_seconds: bool,
    /// The smallest stamp met, ms: where it lies before the value, a filter that is obeyed can be told from one that is not.
    oldest: Option<i64>,
    /// That filter was seen to be obeyed.
    obeyed: bool,
    passes: u32,
    restarts: u32,
    empty_first: u32,
    pages: u32,
    /// Rows to ask for per page.
    pub(crate) count: u32,
}

/// What is asked next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Sorted by `_lastUpdated`, from this moment on.
    From(Option<Timestamp>),
    /// The plain list.
    List,
    /// The next link of the page before.
    Link(String),
}

/// What the walk wants to know of a page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Of each row of this patient, in order: its `meta.lastUpdated` in ms (where it has one that can be read), and the
    /// [`fingerprint`] of its (id, version).
    pub(crate) rows: Vec<(Option<i64>, u64)>,
    /// Where the page says that the list goes on.
    pub(crate) next: Onward,
}

/// Where a page says that the list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Onward {
    /// Nowhere.
    #[default]
    End,
    /// At this link.
    Link(String),
    /// Where our credentials do not go. By value that matters only if the link has to be followed.
    Foreign,
}

/// Where a page leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask on.
    On,
    /// Everything was read.
    Done,
    /// By value it cannot be done here: go on whole.
    Whole(NotByValue),
    /// It cannot be finished.
    Stuck(Stuck),
}

/// Why the walk by value will not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotByValue {
    /// `_lastUpdated` is not obeyed.
    Ignored,
    /// `_sort` is not obeyed.
    Unsorted,
    /// The stamps that are shown are not those that are searched.
    Astray,
    /// Rows without `meta.lastUpdated`.
    NoStamps,
    /// The server filters after it has paged.
    FiltersLate,
}

/// Why a walk cannot be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// A next link came a second time.
    Loop,
    /// The list goes on where our credentials do not go.
    Foreign,
    /// Next links are lost again and again.
    LinksLost,
    /// Rows change faster than they can be read.
    NeverStill,
    /// More pages than any patient has.
    Endless,
}

impl Stuck {
    /// What happened and whose move it is.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Loop => {
                "The EHR's next links lead in a circle, so the end of the list cannot be told. The hospital looks at its paging; we try again by ourselves."
            }
            Self::Foreign => {
                "The EHR's list goes on at another server, where our credentials do not go. The hospital corrects the addresses in its next links; we try again by ourselves."
            }
            Self::LinksLost => "The EHR forgets its next links before the list ends. We try again by ourselves.",
            Self::NeverStill => "The EHR's rows change faster than they can be read. We try again by ourselves.",
            Self::Endless => "The EHR's list of this patient does not end. The hospital looks at its paging; we try again by ourselves.",
        }
    }
}

impl Walk {
    /// A walk by value, from `from` on; `horizon`: when the pull began, by the lesser of the server's clock and ours.
    pub(crate) fn by_value(from: Option<Timestamp>, horizon: Option<Timestamp>) -> Self {
        Self::new(Mode::Value, from, horizon)
    }

    /// A walk over the whole list; `review`: behind a walk by value.
    pub(crate) fn whole(review: bool) -> Self {
        Self::new(if review { Mode::Review } else { Mode::Whole }, None, None)
    }

    fn new(mode: Mode, from: Option<Timestamp>, horizon: Option<Timestamp>) -> Self {
        Self {
            mode,
            value: from.map(|at| at.0),
            next: None,
            links: Vec::new(),
            linked: false,
            horizon: horizon.map(|at| at.0),
            expected: false,
            inhabited: false,
            shown: BTreeSet::new(),
            before: None,
            whole_seconds: false,
            oldest: None,
            obeyed: false,
            passes: 1,
            restarts: 0,
            empty_first: 0,
            pages: 0,
            count: COUNT,
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the server was seen to obey `_lastUpdated`.
    pub(crate) fn obeyed(&self) -> bool {
        self.obeyed
    }

    /// What to ask now.
    pub(crate) fn ask(&self) -> Ask {
        match (&self.next, self.mode) {
            (Some(link), _) => Ask::Link(link.clone()),
            (None, Mode::Value) => Ask::From(self.value.map(Timestamp)),
            (None, Mode::Whole | Mode::Review) => Ask::List,
        }
    }

    /// Fewer rows per page, because a page was too much; false when it cannot be less.
    pub(crate) fn halve(&mut self) -> bool {
        let less = self.count / 4;
        if less == 0 {
            return false;
        }
        self.count = less;
        // A link asks for as many as before.
        self.begin_pass();
        true
    }

    /// A next link was refused (404, 410, 400): its session is lost, the pass begins anew.
    pub(crate) fn link_lost(&mut self) -> Step {
        self.restarts += 1;
        if self.restarts > MOST_RESTARTS {
            return Step::Stuck(Stuck::LinksLost);
        }
        self.begin_pass();
        Step::On
    }

    /// Takes in a page.
    pub(crate) fn page(&mut self, seen: &Seen) -> Step {
        self.pages += 1;
        let step = match self.mode {
            Mode::Value => self.page_by_value(seen),
            Mode::Whole | Mode::Review => self.page_of_list(seen),
        };
        if step == Step::On && self.pages >= MOST_PAGES { Step::Stuck(Stuck::Endless) } else { step }
    }

    fn page_by_value(&mut self, seen: &Seen) -> Step {
        let mut stamps: Vec<(i64, u64)> = Vec::with_capacity(seen.rows.len());
        for (stamp, print) in &seen.rows {
            match stamp {
                // Some servers show a row twice on a page.
                Some(_) if stamps.iter().any(|(_, before)| before == print) => {}
                Some(stamp) => stamps.push((*stamp, *print)),
                None => return Step::Whole(NotByValue::NoStamps),
            }
        }
        let smallest = stamps.iter().map(|(stamp, _)| *stamp).min();
        if let Some(value) = self.value {
            if smallest.is_some_and(|smallest| smallest < second(value)) {
                return Step::Whole(NotByValue::Ignored);
            }
            if stamps.is_empty() && self.expected && !self.linked && seen.next == Onward::End {
                return Step::Whole(NotByValue::Astray);
            }
            self.whole_seconds |= smallest.is_some_and(|smallest| smallest < value);
            self.obeyed |= smallest.is_some() && self.oldest.is_some_and(|oldest| oldest < second(value));
        }
        self.oldest = [self.oldest, smallest].into_iter().flatten().min();
        // The present value: [value, beyond).
        let beyond = self.value.map(|value| if self.whole_seconds { second(value) + 1000 } else { value + 1 });
        let inside = |stamp: i64| beyond.is_some_and(|beyond| stamp < beyond);
        // A row that changed while this pull was under way may stand at its old place with its new stamp: it says nothing
        // of where the page reaches to, unless nothing else is left.
        let still: Vec<(i64, u64)> =
            stamps.iter().copied().filter(|(stamp, _)| self.horizon.is_none_or(|horizon| *stamp < horizon)).collect();
        let before_the_start = !still.is_empty();
        let places = if before_the_start { still } else { stamps.clone() };
        if before_the_start && places.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if b < a)) {
            return Step::Whole(NotByValue::Unsorted);
        }
        let outside = places.iter().map(|(stamp, _)| *stamp).filter(|stamp| !inside(*stamp)).min();
        let largest = places.iter().map(|(stamp, _)| *stamp).max();
        // Up to the last row inside the value; what changed at its place before that one belongs to it.
        if let Some(last) = stamps.iter().rposition(|(stamp, _)| inside(*stamp)) {
            self.inhabited = true;
            let fits = |stamp: i64| inside(stamp) || self.horizon.is_some_and(|horizon| stamp >= horizon);
            let shown: Vec<u64> = stamps.iter().take(last + 1).filter(|(stamp, _)| fits(*stamp)).map(|(_, print)| *print).collect();
            self.shown.extend(shown);
        }

        match (outside, largest, &seen.next) {
            (Some(_), Some(_), Onward::End) if !self.linked => Step::Done,
            (Some(_), Some(largest), _) if !self.linked => {
                // One page, one snapshot: everything before its largest value stands on it.
                let whole_seconds = places.iter().all(|(stamp, _)| stamp % 1000 == 0);
                self.go_to(largest, whole_seconds, true)
            }
            (Some(outside), _, _) => {
                // What stands behind the value on a linked page is no snapshot: ask for it.
                let (on, expected) = beyond.filter(|_| self.inhabited).map_or((outside, true), |beyond| (beyond, false));
                if self.proven() { self.go_to(on, self.whole_seconds, expected) } else { self.again() }
            }
            (None, _, Onward::End) => self.end(),
            (None, _, onward) => {
                self.empty_first += u32::from(!self.linked && stamps.is_empty());
                if self.empty_first >= MOST_EMPTY_FIRST { Step::Whole(NotByValue::FiltersLate) } else { self.follow(onward) }
            }
        }
    }

    fn page_of_list(&mut self, seen: &Seen) -> Step {
        self.shown.extend(seen.rows.iter().map(|(_, print)| *print));
        match &seen.next {
            Onward::End if self.mode == Mode::Review => Step::Done,
            Onward::End => self.end(),
            onward => self.follow(onward),
        }
    }

    /// The last page of a pass.
    fn end(&mut self) -> Step {
        if !self.linked || self.proven() { Step::Done } else { self.again() }
    }

    /// Whether the pass before showed the same; notes this one.
    fn proven(&mut self) -> bool {
        let mut digest = DefaultHasher::new();
        self.shown.hash(&mut digest);
        let now = (self.shown.len(), digest.finish());
        self.before.replace(now) == Some(now)
    }

    fn follow(&mut self, onward: &Onward) -> Step {
        let Onward::Link(link) = onward else { return Step::Stuck(Stuck::Foreign) };
        let print = fingerprint(link);
        if self.links.contains(&print) {
            return Step::Stuck(Stuck::Loop);
        }
        self.links.push(print);
        self.linked = true;
        self.next = Some(link.clone());
        Step::On
    }

    /// The same pass once more.
    fn again(&mut self) -> Step {
        self.passes += 1;
        // Everything from before the start was read; what goes on changing since is the next pull's.
        let behind = self.value.zip(self.horizon).is_some_and(|(value, horizon)| value >= horizon);
        match (behind, self.passes) {
            (true, passes) if passes > MOST_PASSES_BEHIND => return Step::Done,
            (false, passes) if passes > MOST_PASSES => return Step::Stuck(Stuck::NeverStill),
            _ => {}
        }
        self.begin_pass();
        Step::On
    }

    fn go_to(&mut self, value: i64, whole_seconds: bool, expected: bool) -> Step {
        self.expected = expected;
        // Stamps of whole seconds: what is shown as one second may be compared as one.
        self.whole_seconds |= whole_seconds;
        self.value = Some(value);
        self.passes = 1;
        self.restarts = 0;
        self.before = None;
        self.begin_pass();
        Step::On
    }

    fn begin_pass(&mut self) {
        self.next = None;
        self.links.clear();
        self.linked = false;
        self.inhabited = false;
        self.shown.clear();
    }
}

/// The start of its second: some servers compare whole seconds only (WSO2, measured).
fn second(ms: i64) -> i64 {
    ms - ms.rem_euclid(1000)
}

/// A digest, for comparing within one pull only.
pub(crate) fn fingerprint(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
