//! A lane beside another does nothing that it would not do alone: whoever works in the other lane is idle in this one, and what
//! failed there is spent. Every moment of two lanes, seen by either, is a moment of one.

use crate::bridge::{Acceptance, Bounds, Bridge, Doing, ROWS, Sending, Worker, World};
use stateright::Model;
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// A moment in eight bytes, for millions are kept.
fn fingerprint(world: &World) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(world)
}

/// Every moment, once: what it was, in small.
fn moments(bridge: &Bridge, mut each: impl FnMut(&World)) -> HashSet<u64> {
    let mut ahead = bridge.init_states();
    let mut known: HashSet<_> = ahead.iter().map(fingerprint).collect();
    while let Some(world) = ahead.pop() {
        each(&world);
        for later in bridge.next_steps(&world).into_iter().map(|(_, later)| later).filter(|later| bridge.within_boundary(later)) {
            if known.insert(fingerprint(&later)) {
                ahead.push(later);
            }
        }
    }
    known
}

/// What a lane sees of a world of two.
fn seen(world: &World, lane: usize) -> World {
    let first = ROWS.iter().position(|(its, _)| *its == lane).unwrap_or(ROWS.len());
    let its = |row: usize| ROWS[row].0 == lane;
    let mut workers = world.workers.clone();
    for worker in &mut workers {
        match worker {
            Worker::Holds { lane: held, doing, .. } if *held == lane => {
                *held = 0;
                if let Doing::Recorded(Sending { row, .. }) | Doing::Sent(Sending { row, .. }) | Doing::Answered(Sending { row, .. }, _) =
                    doing
                {
                    *row -= first;
                }
            }
            _ => *worker = Worker::Idle,
        }
    }
    workers.sort_unstable();
    let mut requests: Vec<_> = world.requests.iter().copied().filter(|request| its(request.row)).collect();
    requests.iter_mut().for_each(|request| request.row -= first);
    World {
        rows: world.rows.iter().enumerate().filter(|(row, _)| its(*row)).map(|(_, row)| row.clone()).collect(),
        known: vec![world.known[lane]],
        lanes: vec![world.lanes[lane].clone()],
        workers,
        requests,
        ehr: vec![world.ehr[lane]],
        second: if lane == 0 { world.second } else { Acceptance::Committed },
        ..*world
    }
}

/// As much or less of it was spent: a death in the other lane is none here.
fn within(alone: &HashSet<u64>, mut seen: World, most: &Bounds) -> bool {
    let World { deaths, cuts, late, .. } = seen;
    (deaths..=most.deaths).any(|deaths| {
        (cuts..=most.cuts).any(|cuts| {
            (late..=most.late).any(|late| {
                (seen.deaths, seen.cuts, seen.late) = (deaths, cuts, late);
                alone.contains(&fingerprint(&seen))
            })
        })
    })
}

fn each_lane_is_alone(bounds: Bounds) {
    for bridge in Bridge::of_each_manner(bounds) {
        let lanes = [2, 1].map(|rows| moments(&Bridge { bounds: Bounds { rows, ..bounds }, ..bridge }, |_| {}));
        let together = moments(&bridge, |world| {
            for (lane, alone) in lanes.iter().enumerate() {
                assert!(within(alone, seen(world, lane), &bounds), "{bridge}: lane {lane} of {world:?}");
            }
        });
        println!("{bridge}: {} different moments are {} and {} of one lane", together.len(), lanes[0].len(), lanes[1].len());
    }
}

#[test]
fn a_lane_beside_another_does_what_it_would_do_alone() {
    each_lane_is_alone(Bounds { workers: 2, rows: 3, deaths: 0, cuts: 0, late: 0 });
}

#[test]
#[ignore = "millions of moments: `cargo xtask model`"]
fn a_lane_beside_another_that_fails_does_what_it_would_do_alone() {
    each_lane_is_alone(Bounds { workers: 3, rows: 3, deaths: 0, cuts: 0, late: 1 });
    each_lane_is_alone(Bounds { workers: 3, rows: 3, deaths: 1, cuts: 0, late: 0 });
}
