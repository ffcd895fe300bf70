//! A primary with a synchronous standby. The primary dies under load, by kill -9 or by falling silent as a vanished machine does;
//! the standby is promoted, and the address of the database leads there. The old primary never comes back.

use crate::Given;
use crate::cluster::Server;
use crate::play::{Plan, Play, blocking, folder, start_again};
use crate::tally::Tally;
use line::{Forwarder, Weather};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub async fn play(given: Given) -> Result<Tally, String> {
    let folder = folder(&given)?;
    let primary = Server::fresh(folder.path())?;
    let forwarder = Forwarder::to(primary.address())?;
    let database = format!("postgres://ponte@127.0.0.1:{}/postgres", forwarder.port());
    let mut play = Play::begin(&given, folder.path(), &database, Plan::of(2)).await?;
    play.line.set(Weather::Rough);
    let over = Arc::new(AtomicBool::new(false));
    let stage = play.stage.clone();
    let moves = async {
        let done = moves(&given, folder.path(), primary, &forwarder, &stage).await;
        over.store(true, Ordering::SeqCst);
        done
    };
    let (moved, ()) = tokio::join!(moves, play.work_until(&over));
    let (mut tally, _primary, mut silent) = moved?;
    play.end(&mut tally).await?;
    silent.iter_mut().for_each(Server::vanish);
    Ok(tally)
}

async fn moves(
    given: &Given,
    folder: &Path,
    mut primary: Server,
    forwarder: &Forwarder,
    stage: &Arc<ponte_processes::stage::Stage>,
) -> Result<(Tally, Server, Vec<Server>), String> {
    let (mut tally, mut dice) = (Tally::default(), StdRng::seed_from_u64(given.seed ^ 0xfa11));
    let (begun, mut longest, mut silent) = (Instant::now(), Duration::ZERO, Vec::new());
    for nth in 0.. {
        // Two at least: one of each kind.
        if nth >= 2 && begun.elapsed() > given.storm {
            break;
        }
        let standby = primary.standby(folder)?;
        let applied = dice.random_bool(0.5);
        primary.commit_on_both(applied).await?;
        tally.did(if applied { "standbys with remote_apply" } else { "standbys with synchronous_commit=on" });
        tokio::time::sleep(Duration::from_millis(dice.random_range(4000..9000))).await;
        let dead = Instant::now();
        if nth % 2 == 0 {
            primary.vanish();
            tally.did("primaries killed with -9");
        } else {
            primary.freeze();
            tally.did("primaries fallen silent");
        }
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..1500))).await;
        standby.promote()?;
        forwarder.turn(standby.address());
        tally.did("standbys promoted");
        let ward = stage.admin("ward-0");
        ward.get("/fhir/status").await;
        longest = longest.max(dead.elapsed());
        // The silent one is never waked, for it would go on with a history of its own, and hangs up on nobody until all is judged.
        silent.push(std::mem::replace(&mut primary, standby));
        // A node that starts now comes home to the promoted one.
        let (stage, at) = (stage.clone(), dice.random_range(0..stage.size()));
        blocking(move || {
            stage.kill(at);
            start_again(&stage, at)
        })
        .await??;
    }
    tally.measured.push(format!("a node answered at most {:.1} s after its primary's death", longest.as_secs_f64()));
    Ok((tally, primary, silent))
}
