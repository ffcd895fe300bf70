//! `ponte-sim [--seeds N] [--seed S] [--hours H] [--postgres]`: plays so many worlds; a failing one is named by its seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a tool that cannot go on has to end")]

use futures::FutureExt;
use ponte_sim::chance::die_quietly;
use ponte_sim::people::{ACTS, Act};
use ponte_sim::weather;
use ponte_sim::world::{Played, play};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Plays simulated worlds; a failing one is named by its seed.
#[derive(clap::Parser)]
struct Wish {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// So many seeds.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// This one alone, and everything that is wrong with it.
    #[arg(long, conflicts_with_all = ["from", "seeds"])]
    seed: Option<u64>,
    /// Simulated hours of each world.
    #[arg(long, default_value_t = 24)]
    hours: i64,
    /// On PostgreSQL instead of SQLite.
    #[arg(long)]
    postgres: bool,
}

#[derive(Default)]
struct Sum {
    worlds: u64,
    requests: u64,
    accepted: u64,
    deaths: u64,
    freezes: u64,
    faults: BTreeMap<String, u64>,
    acts: BTreeMap<Act, u64>,
    failed: Vec<u64>,
}

/// What was shown less often says little.
const OFTEN: u64 = 20;

impl Sum {
    /// The faults, and what people do, that were shown too seldom.
    fn rare(&self) -> Vec<String> {
        let rare = |times: Option<&u64>| times.is_none_or(|times| *times < OFTEN);
        let faults = weather::shown().map(sandbox::Fault::name).filter(|name| rare(self.faults.get(*name))).map(str::to_owned);
        let acts = ACTS.iter().filter(|(act, _)| rare(self.acts.get(act))).map(|(act, _)| format!("{act:?}"));
        faults.chain(acts).collect()
    }
}

fn main() -> ExitCode {
    let wish = <Wish as clap::Parser>::parse();
    let seeds = wish.seed.map_or(wish.from..wish.from + wish.seeds, |seed| seed..seed + 1);
    die_quietly();
    let (began, next, sum) = (Instant::now(), AtomicU64::new(seeds.start), Mutex::new(Sum::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end {
                        return;
                    }
                    let played = world(seed, wish.hours, wish.postgres);
                    add(&mut sum.lock().unwrap(), seed, played, wish.seed.is_some());
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    println!(
        "{} worlds of {} h in {:.0} s: {} versions accepted, {} requests, {} deaths, {} freezes; faults shown: {:?}; people: {:?}",
        sum.worlds,
        wish.hours,
        began.elapsed().as_secs_f64(),
        sum.accepted,
        sum.requests,
        sum.deaths,
        sum.freezes,
        sum.faults,
        sum.acts
    );
    println!("Of these the run says little, shown less than {OFTEN} times: {}.", sum.rare().join(", "));
    if sum.failed.is_empty() {
        println!("0 lost, 0 doubled, 0 out of order, 0 overwritten, 0 across tenants, 0 silent.");
        ExitCode::SUCCESS
    } else {
        println!("FAILED: seeds {:?}; one again: cargo xtask sim --seed {} --hours {}", sum.failed, sum.failed[0], wish.hours);
        ExitCode::FAILURE
    }
}

fn world(seed: u64, hours: i64, postgres: bool) -> Result<Played, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let database = if postgres { testing::postgres().await.ok_or("there is no PostgreSQL")? } else { testing::sqlite() };
        let played = AssertUnwindSafe(play(database.url(), seed, hours)).catch_unwind().await;
        played.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        })
    })
}

fn add(sum: &mut Sum, seed: u64, played: Result<Played, String>, alone: bool) {
    sum.worlds += 1;
    match played {
        Ok(played) => {
            sum.requests += played.requests;
            sum.accepted += played.accepted;
            sum.deaths += played.deaths;
            sum.freezes += played.freezes;
            for (fault, times) in played.faults {
                *sum.faults.entry(fault).or_default() += times;
            }
            for (act, times) in played.acts {
                *sum.acts.entry(act).or_default() += times;
            }
            println!("seed {seed}: {} versions, {} requests, hash {}", played.accepted, played.requests, played.hash);
            let most = if alone { usize::MAX } else { 1 };
            for wrong in played.wrong.iter().take(most) {
                println!("seed {seed} WRONG: {}", if alone { wrong.clone() } else { wrong.chars().take(1200).collect() });
            }
            if !played.wrong.is_empty() {
                sum.failed.push(seed);
            }
        }
        Err(why) => {
            println!("seed {seed} BROKE OFF: {}", why.chars().take(3000).collect::<String>());
            sum.failed.push(seed);
        }
    }
}
