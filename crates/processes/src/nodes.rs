//! Three nodes on one PostgreSQL: killed, frozen, cut off from the EHR; their database is restarted in the middle.

use crate::Given;
use crate::cluster::Server;
use crate::play::{LONGEST_FREEZE, Plan, Play, blocking, folder, pause, start_again};
use crate::tally::Tally;
use line::{Proxy, Weather};
use ponte_processes::stage::Stage;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// Nodes of the scene.
const NODES: usize = 3;

pub async fn play(given: Given) -> Result<Tally, String> {
    let folder = folder(&given)?;
    let server = Server::fresh(folder.path())?;
    let mut play = Play::begin(&given, folder.path(), &server.url(), Plan::of(NODES)).await?;
    let over = Arc::new(AtomicBool::new(false));
    let mut storm = Storm {
        stage: play.stage.clone(),
        line: play.line.clone(),
        server,
        dice: StdRng::seed_from_u64(given.seed ^ 0x0de5),
        frozen: (0..NODES).map(|_| None).collect(),
        restarts: 0,
        tally: Tally::default(),
    };
    let done = over.clone();
    let storm = blocking(move || {
        let blown = storm.blow(&given);
        done.store(true, Ordering::SeqCst);
        blown.map(|()| storm)
    });
    let (storm, ()) = tokio::join!(storm, play.work_until(&over));
    let mut storm = storm??;
    play.end(&mut storm.tally).await?;
    Ok(storm.tally)
}

struct Storm {
    stage: Arc<Stage>,
    line: Arc<Proxy>,
    server: Server,
    dice: StdRng,
    /// Who wakes a frozen node.
    frozen: Vec<Option<JoinHandle<()>>>,
    restarts: u32,
    tally: Tally,
}

impl Storm {
    fn blow(&mut self, given: &Given) -> Result<(), String> {
        let begun = Instant::now();
        self.line.set(Weather::Rough);
        while begun.elapsed() < given.storm {
            pause(self.dice.random_range(300..2500));
            // At a third and at two thirds at the latest, and in a long storm every half minute or so.
            let due = begun.elapsed() > given.storm * (self.restarts + 1) / 3 && self.restarts < 2;
            match self.dice.random_range(0..100) {
                _ if due => self.restart()?,
                0..35 => self.kill()?,
                35..65 => self.freeze(),
                65..93 => self.weather(),
                _ => self.restart()?,
            }
        }
        self.line.set(Weather::Calm);
        for waker in self.frozen.iter_mut().filter_map(Option::take) {
            let _ = waker.join();
        }
        Ok(())
    }

    /// One that is not frozen; whoever has ended by itself is started again, and told of.
    fn awake(&mut self) -> Option<usize> {
        let at = self.dice.random_range(0..NODES);
        if self.stage.has_ended(at) && start_again(&self.stage, at).is_ok() {
            self.tally.did("nodes that ended by themselves");
        }
        self.frozen[at].take_if(|waker| waker.is_finished());
        self.frozen[at].is_none().then_some(at)
    }

    fn kill(&mut self) -> Result<(), String> {
        let Some(at) = self.awake() else { return Ok(()) };
        self.stage.kill(at);
        if self.dice.random_bool(0.5) {
            // At once, at the same address: nobody has noticed yet.
            self.tally.did("nodes started again at once");
        } else {
            pause(self.dice.random_range(100..4000));
        }
        start_again(&self.stage, at)
    }

    fn freeze(&mut self) {
        let Some(at) = self.awake() else { return };
        let (stage, ms) = (self.stage.clone(), self.dice.random_range(1000..LONGEST_FREEZE.as_millis() as u64));
        stage.signal(at, "STOP");
        self.tally.did("nodes frozen");
        if ms > 5000 {
            self.tally.did("nodes frozen beyond their lease");
        }
        self.frozen[at] = Some(std::thread::spawn(move || {
            pause(ms);
            stage.signal(at, "CONT");
        }));
    }

    fn weather(&mut self) {
        let all = [Weather::Rough, Weather::Rough, Weather::Rough, Weather::Silent, Weather::Down, Weather::Slow, Weather::Calm];
        let weather = all[self.dice.random_range(0..all.len())];
        self.line.set(weather);
        if matches!(weather, Weather::Silent | Weather::Down) {
            self.tally.did(if weather == Weather::Down { "EHR out of reach for seconds" } else { "line silent for seconds" });
            pause(self.dice.random_range(1000..5000));
            self.line.set(Weather::Rough);
        }
    }

    fn restart(&mut self) -> Result<(), String> {
        let mode = if self.restarts.is_multiple_of(2) { "immediate" } else { "fast" };
        self.restarts += 1;
        self.tally.did(&format!("PostgreSQL restarted ({mode})"));
        self.server.restart(mode)
    }
}
