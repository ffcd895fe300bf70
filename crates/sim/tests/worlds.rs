//! A few short worlds in every test run; many long ones by `cargo xtask sim`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

use ponte_sim::chance::die_quietly;
use ponte_sim::world::{Played, play};

async fn world(seed: u64) -> Played {
    die_quietly();
    let database = testing::sqlite();
    let played = play(database.url(), seed, 3).await;
    assert!(played.wrong.is_empty(), "seed {seed}: {:#?}", played.wrong);
    assert!(played.accepted > 0 && played.requests > 0, "nothing happened: {played:?}");
    played
}

#[tokio::test]
async fn the_same_seed_plays_the_same_world() {
    assert_eq!(world(11).await.hash, world(11).await.hash);
    assert_ne!(world(12).await.hash, world(11).await.hash);
}

#[tokio::test]
async fn on_postgresql_nothing_is_lost_or_doubled_either() {
    die_quietly();
    let Some(database) = testing::postgres().await else { return };
    let played = play(database.url(), 13, 3).await;
    assert!(played.wrong.is_empty(), "seed 13: {:#?}", played.wrong);
}
