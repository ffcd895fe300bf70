//! Random sequences of what the platform, its people, workers and the clock do, played on a store and in the books of a
//! reference that is plain enough to be right; after every step both have to say the same.
//!
//! A sequence is a list of numbers, each of which decides one step by itself, so that steps can be left out: proptest looks for
//! the shortest sequence that still fails. The seed is printed and may be given, and so may the number of sequences:
//! `PONTE_TEST_SEED=7 PONTE_TEST_CASES=500 cargo test -p ponte-store --test reference`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

mod books;
#[path = "../house/mod.rs"]
mod house;
mod play;

use play::Play;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use testing::Database;

/// Sequences of one run: half a minute of two idle cores on either engine.
const ON_SQLITE: u32 = 14;
/// See [`ON_SQLITE`].
const ON_POSTGRES: u32 = 8;
/// Steps of the longest sequence.
const STEPS: usize = 160;

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays one sequence on a database of its own; what went wrong, with the steps that led to it.
async fn played(database: Database, steps: &[u64]) -> Result<(), String> {
    let store = house::open(database.url(), house::KEY, 7).await;
    store.migrate().await.unwrap();
    let mut play = Play::begin(store.clone()).await;
    let end = async {
        for step in steps {
            play.step(*step).await?;
        }
        play.compare().await?;
        play.drain().await
    }
    .await;
    store.close().await;
    end.map_err(|error| format!("{error}\nafter:\n  {}", play.log.join("\n  ")))
}

fn play_all(cases: u32, make: impl Fn(&tokio::runtime::Runtime) -> Option<Database>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seed: u64 = number("PONTE_TEST_SEED").unwrap_or(7);
    let cases = number("PONTE_TEST_CASES").unwrap_or(cases);
    println!("seed {seed} (PONTE_TEST_SEED), {cases} sequences (PONTE_TEST_CASES)");
    let config = Config { cases, max_shrink_time: 20_000, failure_persistence: None, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let sequences = proptest::collection::vec(any::<u64>().no_shrink(), 1..=STEPS);
    let end = runner.run(&sequences, |steps| {
        let Some(database) = make(&runtime) else { return Ok(()) };
        runtime.block_on(played(database, &steps)).map_err(TestCaseError::fail)
    });
    match end {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => panic!("seed {seed}: the shortest sequence that fails has {} steps: {why}", steps.len()),
        Err(TestError::Abort(why)) => panic!("seed {seed}: {why}"),
    }
}

#[test]
fn a_sqlite_file_says_what_the_books_say() {
    play_all(ON_SQLITE, |_| Some(testing::sqlite()));
}

#[test]
fn a_postgresql_database_says_what_the_books_say() {
    play_all(ON_POSTGRES, |runtime| runtime.block_on(testing::postgres()));
}
