//! A node: an engine that works one claim at a time, and may freeze or die in the middle of it.

use crate::chance::{Heart, Killed, Senses};
use crate::line::{Freeze, Line, Log};
use ehr::transport::Transport;
use sandbox::Sandbox;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use store::{KeyRing, Store};
use sync::schedule::{Schedules, run_due};
use sync::{Engine, Setup, Worked};
use testing::{Dice, Hand};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a lane is leased, ms.
pub const LEASE: i64 = 60_000;

/// The keys of every world's installation.
pub fn keys() -> KeyRing {
    KeyRing::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Worked,
    Idle,
    Frozen(Freeze),
    Died,
}

type Work = JoinHandle<Result<Worked, store::Error>>;

pub struct Node {
    pub name: String,
    pub engine: Arc<Engine>,
    pub line: Arc<Line>,
    senses: Senses,
    schedules: Schedules,
    standing: Option<(Work, oneshot::Sender<()>)>,
}

/// What a node is made of.
pub struct Parts<'a> {
    pub url: &'a str,
    pub hand: &'a Hand,
    pub wards: &'a Arc<BTreeMap<String, Sandbox>>,
    pub log: &'a Log,
}

impl Node {
    pub async fn start(parts: &Parts<'_>, name: String, seed: u64) -> Self {
        let senses = Senses { hand: parts.hand.clone(), dice: Dice::new(seed), heart: Heart::default() };
        let store = Store::open(parts.url, keys(), Arc::new(senses.clone())).await.unwrap();
        let line = Line::new(name.clone(), senses.clone(), parts.wards.clone(), parts.log.clone());
        let transport: Arc<dyn Transport> = line.clone();
        let (clock, rng) = (Arc::new(senses.clone()), Arc::new(senses.clone()));
        let setup = Setup { store, transport, http: None, clock, rng, lease_ms: LEASE };
        let schedules = Schedules::parse("0 * * * *", "0 */6 * * *", "0 3 * * *", "America/Sao_Paulo").unwrap();
        Self { name, engine: Engine::new(setup), line, senses, schedules, standing: None }
    }

    pub fn stands_still(&self) -> bool {
        self.standing.is_some()
    }

    /// What is due by the clock.
    pub async fn look_at_the_clock(&self) {
        let now = self.senses.hand.now();
        run_due(&self.engine, &self.schedules, now).await.unwrap();
    }

    /// One claim; `dies_at`: at this beat of its heart it dies.
    pub async fn step(&mut self, freezes: f64, dies_at: Option<i64>) -> Step {
        *self.line.freezes.lock().unwrap_or_else(PoisonError::into_inner) = freezes;
        self.senses.heart.stop_at(dies_at.unwrap_or(0));
        let engine = self.engine.clone();
        let work = tokio::spawn(async move { engine.work_once().await });
        let step = self.go_on(work).await;
        self.senses.heart.go_on();
        step
    }

    /// It wakes and goes on with what it had in hand.
    pub async fn wake(&mut self) -> Step {
        let Some((work, go)) = self.standing.take() else { return Step::Idle };
        let _ = go.send(());
        self.go_on(work).await
    }

    async fn go_on(&mut self, mut work: Work) -> Step {
        tokio::select! {
            biased;
            ended = &mut work => match ended {
                Ok(Ok(Worked::Something)) => Step::Worked,
                Ok(Ok(Worked::Nothing)) => Step::Idle,
                // What was claimed is taken over when its lease has run out.
                Ok(Err(error)) => {
                    let said = error.to_string();
                    assert!(said.contains("broke off") || said.contains("lease"), "the database refused: {said}");
                    Step::Died
                }
                Err(died) => match died.try_into_panic() {
                    Ok(panic) if panic.is::<Killed>() => Step::Died,
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Step::Died,
                },
            },
            () = self.line.stands.notified() => {
                // What it does beside the frozen request comes to its end first.
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                match self.line.frozen() {
                    Some((freeze, go)) => {
                        self.standing = Some((work, go));
                        Step::Frozen(freeze)
                    }
                    None => Step::Idle,
                }
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some((work, _)) = self.standing.take() {
            work.abort();
        }
    }
}
