//! PgBouncer in transaction mode between three nodes and PostgreSQL, with fewer connections than one node would have alone.

use crate::Given;
use crate::cluster::Server;
use crate::play::{Plan, Play, blocking, folder, pause, start_again};
use crate::tally::Tally;
use line::Weather;
use ponte_processes::stage::Stage;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testing::Pooler;

pub async fn play(given: Given) -> Result<Tally, String> {
    let folder = folder(&given)?;
    let server = Server::fresh(folder.path())?;
    let mut tally = Tally::default();
    let Some(mut pooler) = Pooler::before(&server.url(), 5) else {
        tally.measured.push("left out: PgBouncer is not here".to_owned());
        return Ok(tally);
    };
    let url = pooler.url().to_owned();
    let careless = Stage::new(&given.ponte, folder.path(), &url, 1, Duration::from_secs(5));
    let refused = blocking(move || careless.try_start(0)).await?.err().unwrap_or_default();
    let mut play = Play::begin(&given, folder.path(), &url, Plan { pooled: true, ..Plan::of(3) }).await?;
    play.line.set(Weather::Rough);
    let (over, stage) = (Arc::new(AtomicBool::new(false)), play.stage.clone());
    let done = over.clone();
    let storm = blocking(move || {
        let blown = blow(&given, &stage, &server, &mut pooler, &mut tally);
        done.store(true, Ordering::SeqCst);
        // Both go on until all is judged.
        blown.map(|()| (tally, server, pooler))
    });
    let (storm, ()) = tokio::join!(storm, play.work_until(&over));
    let (mut tally, _server, _pooler) = storm??;
    play.end(&mut tally).await?;
    if !refused.contains("PONTE_DATABASE_POOLED") {
        tally.verdict.say("a node without the setting started", refused);
    }
    Ok(tally)
}

fn blow(given: &Given, stage: &Stage, server: &Server, pooler: &mut Pooler, tally: &mut Tally) -> Result<(), String> {
    let (begun, mut dice) = (Instant::now(), StdRng::seed_from_u64(given.seed ^ 0xb0b));
    for nth in 0.. {
        if nth >= 3 && begun.elapsed() > given.storm {
            break;
        }
        pause(dice.random_range(1500..5000));
        match nth % 3 {
            0 => {
                let at = dice.random_range(0..stage.size());
                stage.kill(at);
                pause(dice.random_range(0..1500));
                start_again(stage, at)?;
            }
            1 => {
                pooler.replace();
                tally.did("PgBouncer killed with -9");
            }
            _ => {
                server.restart(if dice.random_bool(0.5) { "immediate" } else { "fast" })?;
                tally.did("PostgreSQL restarted behind it");
            }
        }
    }
    Ok(())
}
