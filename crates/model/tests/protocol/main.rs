//! The protocol, explored exhaustively: every order in which workers claim, record, send, die, sleep and write down, in which the
//! EHR commits, answers, drops, cuts the line and commits late, within bounds. A row moves by the product's own transition
//! function, `model::delivery::next`; lane, lease, epoch and the choice of what is sent are the store's and the engine's in small.
//!
//! Of two lanes each is alone with its patient: they share workers and time. So what is true of a lane is explored with one, in
//! larger bounds than two would allow, and [`alone`] shows that a lane of two does nothing that it would not do alone.
//!
//! Bounds are no proof. Each rule that is taken out gives a counterexample, or the bounds would say nothing of it.
//!
//! The small bounds run with the other tests; `cargo xtask model` runs the large ones.

mod alone;
mod bridge;
mod ehr;
mod step;

use bridge::{Bounds, Bridge, Rules};
use ehr::Manner;
use stateright::{Checker, HasDiscoveries, Model};
use std::num::NonZeroUsize;

/// Explores all of it, or up to the first counterexample: law and steps. Prints how much there was.
fn explore(bridge: Bridge) -> Option<String> {
    let named = bridge.to_string();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let checked = bridge.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{named}: {} different moments, at most {} steps deep", checked.unique_state_count(), checked.max_depth());
    let broken = step::LAWS.into_iter().find_map(|law| Some((law, checked.discovery(law)?)));
    if broken.is_none() {
        assert!(checked.discovery(step::RESTS).is_some(), "{named}: it never comes to rest");
    }
    broken.map(|(law, path)| {
        let steps: Vec<String> = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
        format!("{law}: {}", steps.join(" · "))
    })
}

fn holds(bounds: Bounds) {
    for bridge in Bridge::of_each_manner(bounds) {
        let named = bridge.to_string();
        assert_eq!(explore(bridge), None, "{named}");
    }
}

#[test]
fn one_death_or_long_sleep_loses_doubles_and_sets_back_nothing() {
    holds(Bounds { workers: 2, rows: 2, deaths: 1, cuts: 0, late: 0 });
}

#[test]
fn one_lost_answer_and_one_late_commit_lose_double_and_set_back_nothing() {
    holds(Bounds { workers: 2, rows: 2, deaths: 0, cuts: 1, late: 1 });
}

#[test]
#[ignore = "millions of moments: `cargo xtask model`"]
fn a_death_a_lost_answer_and_a_late_commit_lose_double_and_set_back_nothing() {
    holds(Bounds { workers: 2, rows: 2, deaths: 1, cuts: 1, late: 1 });
}

#[test]
#[ignore = "millions of moments: `cargo xtask model`"]
fn two_deaths_lose_double_and_set_back_nothing() {
    holds(Bounds { workers: 2, rows: 2, deaths: 2, cuts: 0, late: 0 });
}

#[test]
#[ignore = "millions of moments: `cargo xtask model`"]
fn two_lanes_and_three_workers_lose_double_and_set_back_nothing() {
    holds(Bounds { workers: 3, rows: 3, deaths: 0, cuts: 0, late: 1 });
}

/// Two lanes are each of them one (`alone`), so this is three workers, two lanes, three rows.
#[test]
#[ignore = "150 million moments: `cargo xtask model`"]
fn two_deaths_and_a_late_commit_lose_double_and_set_back_nothing_in_either_lane() {
    for rows in [1, 2] {
        holds(Bounds { workers: 3, rows, deaths: 2, cuts: 0, late: 1 });
    }
}

/// Without the rule there is a way to break this law: the model can fail, and the rule is needed.
#[track_caller]
fn needed(manner: Manner, rules: Rules, bounds: Bounds, law: &str) {
    let found = explore(Bridge { manner, bounds, rules });
    assert!(found.as_deref().is_some_and(|found| found.starts_with(law)), "{found:?}");
}

const A_DEATH: Bounds = Bounds { workers: 2, rows: 2, deaths: 1, cuts: 0, late: 0 };
const A_LATE_COMMIT: Bounds = Bounds { workers: 2, rows: 2, deaths: 0, cuts: 0, late: 1 };

#[test]
fn without_a_settle_time_longer_than_the_ehrs_a_create_doubles() {
    for manner in [Manner::LookUpThenInsert, Manner::PlainCreate] {
        needed(manner, Rules { settle: 1, ..Rules::ALL }, A_LATE_COMMIT, "once");
    }
}

/// What the grade `lock` promises, and `own_id` does not.
#[test]
fn under_a_lock_a_create_that_comes_later_than_the_settle_time_does_no_harm() {
    let rules = Rules { settle: 0, ..Rules::ALL };
    assert_eq!(explore(Bridge { manner: Manner::Lock, bounds: A_LATE_COMMIT, rules }), None);
    needed(Manner::OwnId, rules, A_LATE_COMMIT, "newest");
}

#[test]
fn without_the_wait_of_the_next_write_an_older_version_ends_over_a_newer_one() {
    needed(Manner::OwnId, Rules { next_write_waits: false, ..Rules::ALL }, A_LATE_COMMIT, "newest");
}

#[test]
fn without_opening_what_a_dead_worker_left_a_create_doubles() {
    needed(Manner::PlainCreate, Rules { takeover_opens: false, ..Rules::ALL }, A_DEATH, "once");
}

#[test]
fn without_the_fence_a_correction_goes_before_its_first_version() {
    needed(Manner::PlainCreate, Rules { fence: false, ..Rules::ALL }, Bounds { deaths: 2, ..A_LATE_COMMIT }, "order");
}

#[test]
fn without_the_check_of_the_lease_a_create_doubles() {
    needed(Manner::PlainCreate, Rules { lease_checked: false, ..Rules::ALL }, A_DEATH, "once");
}

#[test]
fn without_the_read_afterwards_the_ledger_keeps_an_etag_that_is_not_the_ehrs() {
    needed(Manner::OwnId, Rules { read_afterwards: false, ..Rules::ALL }, A_LATE_COMMIT, "agreed");
}

#[test]
fn without_the_sweep_a_wake_up_is_lost() {
    needed(Manner::OwnId, Rules { swept: false, ..Rules::ALL }, A_DEATH, "agreed");
}

/// Found by this model: the repeat was answered, the first request committed, and the answer was written down after both had settled.
#[test]
fn without_judging_by_what_was_open_when_it_was_sent_the_ledger_keeps_another_etag() {
    let bounds = Bounds { deaths: 1, ..A_LATE_COMMIT };
    needed(Manner::OwnId, Rules { judged_as_recorded: false, ..Rules::ALL }, bounds, "agreed");
}
