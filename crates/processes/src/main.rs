//! `cargo xtask processes`: real nodes, databases and lines that fail while observations are accepted, and the judgement by the
//! EHR's own ledger. Run by hand, for ten minutes to an hour.
#![allow(clippy::unwrap_used, reason = "a play that cannot go on has to end")]

mod bouncer;
mod cluster;
mod failover;
mod lanes;
mod nodes;
mod play;
mod tally;

use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tally::Tally;

/// Processes that die, lines that break.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask processes", version)]
struct Asked {
    /// The binary that is driven
    #[arg(long, value_name = "BINARY")]
    ponte: PathBuf,
    /// How long the storms last, all scenes together; coming to rest comes on top
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// From which all chance comes
    #[arg(long)]
    seed: Option<u64>,
    /// Keep what the nodes say, and say where
    #[arg(long)]
    keep: bool,
    /// Which scenes; all of them unless some are named
    names: Vec<Scene>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scene {
    /// Three nodes on one PostgreSQL: killed, frozen, cut off from the EHR, their database restarted
    Nodes,
    /// A killed or frozen node's lanes are served again within lease and five seconds
    Lanes,
    /// The primary dies under load and its synchronous standby is promoted
    Failover,
    /// PgBouncer in transaction mode between
    Pgbouncer,
}

impl Scene {
    /// Its share of the time, of ten.
    fn share(self) -> f64 {
        match self {
            Self::Nodes => 4.0,
            Self::Failover => 3.0,
            Self::Pgbouncer => 2.0,
            Self::Lanes => 1.0,
        }
    }
}

/// How long each scene's storm lasts.
fn shares(scenes: &[Scene], minutes: f64) -> Vec<(Scene, Duration)> {
    let all: f64 = scenes.iter().map(|scene| scene.share()).sum();
    scenes.iter().map(|scene| (*scene, Duration::from_secs_f64(minutes.max(0.1) * 60.0 * scene.share() / all))).collect()
}

/// What a scene is given.
#[derive(Debug, Clone)]
struct Given {
    ponte: PathBuf,
    storm: Duration,
    seed: u64,
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let asked = Asked::parse();
    let seed = asked.seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    println!("seed {seed} (again: --seed {seed})");
    let mut scenes = asked.names.clone();
    if scenes.is_empty() {
        scenes = Scene::value_variants().to_vec();
    }
    let mut wrong = Vec::new();
    for (scene, storm) in shares(&scenes, asked.minutes) {
        let name = scene.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        println!("\n{name}: a storm of {:.0} s", storm.as_secs_f64());
        let given = Given { ponte: asked.ponte.clone(), storm, seed, keep: asked.keep };
        let begun = Instant::now();
        // A play that cannot go on panics; the next scene is played all the same.
        let played = tokio::spawn(async move {
            match scene {
                Scene::Nodes => nodes::play(given).await,
                Scene::Lanes => lanes::play(given).await,
                Scene::Failover => failover::play(given).await,
                Scene::Pgbouncer => bouncer::play(given).await,
            }
        });
        let tally = played.await.unwrap_or_else(|broken| Err(format!("it broke off: {broken}"))).unwrap_or_else(Tally::broken);
        tally.print(begun.elapsed());
        wrong.extend((tally.findings() > 0).then(|| format!("{name}: {}", tally.sentence())));
    }
    if wrong.is_empty() {
        println!("\nNothing was lost, doubled, overwritten by an older version, out of order or misfiled. Seed {seed}.");
        ExitCode::SUCCESS
    } else {
        eprintln!("\nSeed {seed}.\n{}", wrong.join("\n"));
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenes_share_the_asked_time() {
        let all: Duration = shares(Scene::value_variants(), 10.0).iter().map(|(_, storm)| *storm).sum();
        assert_eq!(all, Duration::from_secs(600));
        assert_eq!(shares(&[Scene::Failover], 10.0), [(Scene::Failover, Duration::from_secs(600))]);
    }
}
