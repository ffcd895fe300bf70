//! The walk against small servers of paper: whatever changes under way, nothing that stands still long enough is lost.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// How a paper server goes from page to page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paging {
    Offset,
    Snapshot,
}

/// A list of rows: id → (version, stamp ms).
#[derive(Debug, Clone)]
struct Paper {
    rows: BTreeMap<u32, (u32, i64)>,
    paging: Paging,
    page: usize,
    /// Shows and compares whole seconds.
    seconds: bool,
    /// Shows milliseconds, compares whole seconds.
    compares_seconds: bool,
    ignores_value: bool,
    ignores_sort: bool,
    empty_first: bool,
    /// So many of the rows of each page change when they have been found and before they are shown.
    touched_when_shown: usize,
    /// Shows this moment as each row's stamp, and searches the real ones.
    shows_now: bool,
    clock: i64,
    sessions: Vec<Vec<(u32, u32, i64)>>,
}

impl Paper {
    fn new(stamps: &[i64], page: usize, paging: Paging) -> Self {
        let rows: BTreeMap<u32, (u32, i64)> = stamps.iter().enumerate().map(|(id, at)| (u32::try_from(id).unwrap(), (1, *at))).collect();
        let clock = stamps.iter().copied().max().unwrap_or(0) + 1;
        Self {
            rows,
            paging,
            page,
            seconds: false,
            compares_seconds: false,
            ignores_value: false,
            ignores_sort: false,
            empty_first: false,
            touched_when_shown: 0,
            shows_now: false,
            clock,
            sessions: Vec::new(),
        }
    }

    fn list(&self, from: Option<i64>, sorted: bool) -> Vec<(u32, u32, i64)> {
        let shown = |at: i64| if self.seconds { second(at) } else { at };
        let compared = |at: i64| if self.seconds || self.compares_seconds { second(at) } else { at };
        let mut list: Vec<(u32, u32, i64)> = self
            .rows
            .iter()
            .filter(|(_, (_, at))| self.ignores_value || from.is_none_or(|from| compared(*at) >= compared(from)))
            .map(|(id, (version, at))| (*id, *version, shown(*at)))
            .collect();
        if sorted && !self.ignores_sort {
            list.sort_by_key(|(id, _, at)| (*at, *id));
        } else {
            list.reverse();
        }
        list
    }

    fn answer(&mut self, ask: &Ask) -> (Vec<(u32, u32, i64)>, Option<String>) {
        let (session, from, sorted, offset) = match ask {
            Ask::From(from) => {
                let list = self.list(from.map(|at| at.0), true);
                self.sessions.push(list);
                (self.sessions.len() - 1, from.map(|at| at.0), true, 0)
            }
            Ask::List => {
                let list = self.list(None, false);
                self.sessions.push(list);
                (self.sessions.len() - 1, None, false, 0)
            }
            Ask::Link(link) => {
                let parts: Vec<i64> = link.split(' ').map(|part| part.parse().unwrap()).collect();
                let from = Some(parts[1]).filter(|from| *from != i64::MIN);
                (usize::try_from(parts[0]).unwrap(), from, parts[2] == 1, usize::try_from(parts[3]).unwrap())
            }
        };
        let list = if self.paging == Paging::Snapshot { self.sessions[session].clone() } else { self.list(from, sorted) };
        let link = |offset: usize| format!("{session} {} {} {offset}", from.unwrap_or(i64::MIN), i32::from(sorted));
        if self.empty_first && offset == 0 {
            return (Vec::new(), Some(link(100_000)));
        }
        let offset = if offset >= 100_000 { offset - 100_000 } else { offset };
        let mut rows: Vec<_> = list.iter().skip(offset).take(self.page).copied().collect();
        for n in 0..self.touched_when_shown.min(rows.len()) {
            let at = rows.len() - 1 - (n * 5 + self.sessions.len()) % rows.len();
            self.touch(rows[at].0);
            rows[at] = (rows[at].0, self.rows[&rows[at].0].0, self.clock);
        }
        if self.shows_now {
            self.clock += 1;
            rows.iter_mut().for_each(|row| row.2 = self.clock);
        }
        let base = if self.empty_first { 100_000 } else { 0 };
        let next = (offset + self.page < list.len()).then(|| link(base + offset + self.page));
        (rows, next)
    }

    fn touch(&mut self, id: u32) {
        self.clock += 1;
        let clock = self.clock;
        if let Some((version, at)) = self.rows.get_mut(&id) {
            *version += 1;
            *at = clock;
        }
    }
}

/// Walks to the end; `between` plays the hospital between two pages. Gives back what was seen, and how it ended.
fn walk(paper: &mut Paper, mut walk: Walk, mut between: impl FnMut(&mut Paper, u32)) -> (BTreeSet<(u32, u32)>, Step, Walk, u32) {
    let mut met = BTreeSet::new();
    let mut asked = 0;
    loop {
        let (rows, next) = paper.answer(&walk.ask());
        asked += 1;
        assert!(asked < 5000, "the walk does not end: {walk:?}");
        let rows = rows
            .into_iter()
            .map(|(id, version, at)| {
                met.insert((id, version));
                (Some(at), fingerprint(&(id, version)))
            })
            .collect();
        match walk.page(&Seen { rows, next: next.map_or(Onward::End, Onward::Link) }) {
            Step::On => between(paper, asked),
            end => return (met, end, walk, asked),
        }
    }
}

fn ids(met: &BTreeSet<(u32, u32)>) -> BTreeSet<u32> {
    met.iter().map(|(id, _)| *id).collect()
}

fn all(paper: &Paper) -> BTreeSet<u32> {
    paper.rows.keys().copied().collect()
}

#[test]
fn three_hundred_rows_that_change_while_they_are_paged_are_all_met() {
    for paging in [Paging::Offset, Paging::Snapshot] {
        let stamps: Vec<i64> = (0..300).map(|n| 1_000_000 + n * 700).collect();
        let mut paper = Paper::new(&stamps, 20, paging);
        let (met, end, _, _) = walk(&mut paper, Walk::by_value(None, None), |paper, n| {
            if n < 60 {
                paper.touch(n * 3 % 300);
                paper.touch(n * 7 % 300);
            }
        });
        assert_eq!(end, Step::Done);
        assert_eq!(ids(&met), all(&paper));
        for (id, (version, _)) in &paper.rows {
            assert!(met.contains(&(*id, *version)), "row {id} was met only in an older version");
        }
    }
}

#[test]
fn rows_that_change_between_being_found_and_being_shown_carry_the_walk_past_nothing() {
    let stamps: Vec<i64> = (0..300).map(|n| 1_000_000 + n * 700).collect();
    let mut paper = Paper::new(&stamps, 20, Paging::Offset);
    paper.touched_when_shown = 3;
    let start = Some(Timestamp(paper.clock));
    let (met, end, _, asked) = walk(&mut paper, Walk::by_value(None, start), |_, _| {});
    assert_eq!(end, Step::Done);
    assert_eq!(ids(&met), all(&paper));
    assert!(asked < 200, "{asked} requests");
}

#[test]
fn stamps_that_are_not_those_that_are_searched_are_noticed() {
    let stamps: Vec<i64> = (0..100).map(|n| 1_000_000 + n * 700).collect();
    let mut paper = Paper::new(&stamps, 20, Paging::Offset);
    paper.shows_now = true;
    let start = Some(Timestamp(paper.clock));
    assert_eq!(walk(&mut paper, Walk::by_value(None, start), |_, _| {}).1, Step::Whole(NotByValue::Astray));
}

#[test]
fn a_bulk_of_one_stamp_larger_than_a_page_is_met_whole() {
    let mut stamps = vec![5_000; 101];
    stamps.extend([5_001, 5_002, 6_000]);
    let mut paper = Paper::new(&stamps, 20, Paging::Offset);
    let (met, end, _, asked) = walk(&mut paper, Walk::by_value(None, None), |paper, n| {
        if n < 12 {
            paper.touch(n);
        }
    });
    assert_eq!(end, Step::Done);
    assert_eq!(ids(&met), all(&paper));
    assert!(asked < 60, "{asked} requests");
}

#[test]
fn whole_second_stamps_and_whole_second_comparison_lose_nothing_and_end() {
    for (seconds, compares_seconds) in [(true, false), (false, true)] {
        let stamps: Vec<i64> = (0..100).map(|n| 10_000_123 + n * 11).collect();
        let mut paper = Paper::new(&stamps, 7, Paging::Offset);
        paper.seconds = seconds;
        paper.compares_seconds = compares_seconds;
        let (met, end, _, asked) = walk(&mut paper, Walk::by_value(None, None), |_, _| {});
        assert_eq!(end, Step::Done, "seconds {seconds}");
        assert_eq!(ids(&met), all(&paper));
        assert!(asked < 150, "{asked} requests");
    }
}

#[test]
fn a_filter_or_a_sort_that_is_not_obeyed_is_noticed() {
    let stamps: Vec<i64> = (0..100).map(|n| 1_000_000 + n * 5000).collect();
    let mut ignoring = Paper::new(&stamps, 20, Paging::Snapshot);
    ignoring.ignores_value = true;
    assert_eq!(walk(&mut ignoring, Walk::by_value(None, None), |_, _| {}).1, Step::Whole(NotByValue::Ignored));
    let mut unsorted = Paper::new(&stamps, 20, Paging::Snapshot);
    unsorted.ignores_sort = true;
    assert_eq!(walk(&mut unsorted, Walk::by_value(None, None), |_, _| {}).1, Step::Whole(NotByValue::Unsorted));
    let mut honest = Paper::new(&stamps, 20, Paging::Snapshot);
    let (_, end, walked, _) = walk(&mut honest, Walk::by_value(None, None), |_, _| {});
    assert_eq!(end, Step::Done);
    assert!(walked.obeyed());
}

#[test]
fn rows_without_stamps_are_read_whole() {
    let mut walk = Walk::by_value(None, None);
    let seen = Seen { rows: vec![(Some(1), 1), (None, 2)], next: Onward::Link("n".to_owned()) };
    assert_eq!(walk.page(&seen), Step::Whole(NotByValue::NoStamps));
}

#[test]
fn an_empty_page_with_a_next_link_is_no_end_and_a_server_of_such_pages_is_read_whole() {
    let stamps: Vec<i64> = (0..30).map(|n| 1_000_000 + n * 5000).collect();
    let mut paper = Paper::new(&stamps, 10, Paging::Snapshot);
    paper.empty_first = true;
    assert_eq!(walk(&mut paper, Walk::by_value(None, None), |_, _| {}).1, Step::Whole(NotByValue::FiltersLate));
    let (met, end, _, _) = walk(&mut paper, Walk::whole(false), |_, _| {});
    assert_eq!(end, Step::Done);
    assert_eq!(ids(&met), all(&paper));
}

#[test]
fn a_next_link_seen_before_is_a_loop_and_never_an_end() {
    let mut walk = Walk::whole(false);
    let page = |print| Seen { rows: vec![(None, print)], next: Onward::Link("same".to_owned()) };
    assert_eq!(walk.page(&page(1)), Step::On);
    assert_eq!(walk.page(&page(2)), Step::Stuck(Stuck::Loop));
}

#[test]
fn a_link_to_another_server_stops_the_walk_only_where_it_must_be_followed() {
    let rows = |stamps: &[i64]| stamps.iter().map(|at| (Some(*at), fingerprint(at))).collect();
    let mut walk = Walk::by_value(None, None);
    assert_eq!(walk.page(&Seen { rows: rows(&[1, 2, 3]), next: Onward::Foreign }), Step::On);
    assert_eq!(walk.ask(), Ask::From(Some(Timestamp(3))));
    assert_eq!(walk.page(&Seen { rows: rows(&[3]), next: Onward::Foreign }), Step::Stuck(Stuck::Foreign));
}

#[test]
fn a_lost_session_begins_the_pass_anew_but_not_for_ever() {
    let mut walk = Walk::by_value(Some(Timestamp(1000)), None);
    let page = Seen { rows: vec![(Some(1000), 1)], next: Onward::Link("a".to_owned()) };
    for _ in 0..MOST_RESTARTS {
        assert_eq!(walk.page(&page), Step::On);
        assert_eq!(walk.ask(), Ask::Link("a".to_owned()));
        assert_eq!(walk.link_lost(), Step::On);
        assert_eq!(walk.ask(), Ask::From(Some(Timestamp(1000))));
    }
    assert_eq!(walk.page(&page), Step::On);
    assert_eq!(walk.link_lost(), Step::Stuck(Stuck::LinksLost));
}

#[test]
fn a_whole_read_of_one_page_is_asked_once_and_of_several_until_nothing_new_comes() {
    let mut small = Paper::new(&[1, 2, 3], 20, Paging::Offset);
    let (_, end, _, asked) = walk(&mut small, Walk::whole(false), |_, _| {});
    assert_eq!((end, asked), (Step::Done, 1));
    let stamps: Vec<i64> = (0..100).collect();
    let mut paper = Paper::new(&stamps, 20, Paging::Offset);
    let (met, end, _, asked) = walk(&mut paper, Walk::whole(false), |paper, n| {
        if n < 5 {
            // A deleted row moves the others up: the offset skips one.
            paper.rows.remove(&(99 - n));
        }
    });
    assert_eq!(end, Step::Done);
    assert!(ids(&met).is_superset(&all(&paper)));
    assert!(asked >= 10);
    let mut paper = Paper::new(&stamps, 20, Paging::Offset);
    assert_eq!(walk(&mut paper, Walk::whole(true), |_, _| {}).3, 5);
}

#[test]
fn pages_that_are_too_much_are_asked_for_smaller_down_to_one_row() {
    let mut walk = Walk::by_value(None, None);
    let mut counts = vec![walk.count];
    while walk.halve() {
        counts.push(walk.count);
    }
    assert_eq!(counts, [100, 25, 6, 1]);
}

proptest! {
    /// Whatever the stamps, the paging and the changes under way: every row is met, in the version that it had at the start
    /// or in a later one, and every change made before the last page is met if it stands still afterwards.
    #[test]
    fn nothing_is_lost_whatever_changes(
        stamps in proptest::collection::vec(0i64..4000, 1..80),
        page in 1usize..12,
        offset in any::<bool>(),
        seconds in 0u8..3,
        horizon in any::<bool>(),
        touched in proptest::collection::vec(any::<u32>(), 0..18),
    ) {
        let stamps: Vec<i64> = stamps.iter().map(|at| 1_000_000 + at).collect();
        let mut paper = Paper::new(&stamps, page, if offset { Paging::Offset } else { Paging::Snapshot });
        paper.seconds = seconds == 1;
        paper.compares_seconds = seconds == 2;
        paper.clock = 1_010_000;
        let rows = u32::try_from(stamps.len()).unwrap();
        let start = horizon.then_some(Timestamp(1_010_000));
        let (met, end, _, _) = walk(&mut paper, Walk::by_value(None, start), |paper, n| {
            if let Some(id) = touched.get(usize::try_from(n).unwrap() - 1) {
                paper.touch(id % rows);
            }
        });
        prop_assert_eq!(end, Step::Done);
        prop_assert_eq!(ids(&met), all(&paper));
    }
}
