//! One seed's world: two tenants with an EHR each, up to three nodes, so many hours, and a rest in which all is well.

use crate::chance::{HOUR, MINUTE, SECOND};
use crate::judge::judge;
use crate::line::{Freeze, Log};
use crate::node::{LEASE, Node, Parts, Step, keys};
use crate::people::{Act, Ward, host};
use crate::weather::{manners, turn};
use model::{Rng, Timestamp};
use sandbox::{Auth, FaultPlan, OAuth2, Options, Sandbox};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::Store;
use testing::{Dice, Hand};

/// What one world came to.
#[derive(Debug, Default)]
pub struct Played {
    pub hash: String,
    pub requests: u64,
    pub accepted: u64,
    pub deaths: u64,
    pub freezes: u64,
    pub faults: BTreeMap<String, u64>,
    pub acts: BTreeMap<Act, u64>,
    pub wrong: Vec<String>,
}

/// Where a node that froze wakes again, at the latest.
struct Sleep {
    at: usize,
    until: Timestamp,
}

struct World<'a> {
    parts: Parts<'a>,
    seed: u64,
    dice: Arc<Dice>,
    store: Store,
    wards: Vec<Ward>,
    nodes: Vec<Node>,
    asleep: Vec<Sleep>,
    started: u64,
    rough: bool,
    played: Played,
}

/// Plays one seed's world for so many hours on an empty database.
pub async fn play(url: &str, seed: u64, hours: i64) -> Played {
    let (hand, dice, log) = (Hand::at(Timestamp(1_800_000_000_000)), Dice::new(seed), Log::default());
    let store = Store::open(url, keys(), Dice::new(seed ^ 0xacce)).await.unwrap();
    store.migrate().await.unwrap();
    store.come_home(hand.now()).await.unwrap();
    let ehrs: Vec<_> = (0..2).map(|at| ehr(&hand, &dice, seed + at)).collect();
    let hosts = Arc::new(ehrs.iter().enumerate().map(|(at, (_, sandbox))| (host(at), sandbox.clone())).collect());
    let mut wards = Vec::new();
    for (at, (profile, sandbox)) in ehrs.into_iter().enumerate() {
        wards.push(Ward::open(&store, at, profile, sandbox, &hand, &dice).await);
    }
    let parts = Parts { url, hand: &hand, wards: &hosts, log: &log };
    let mut world = World {
        parts,
        seed,
        dice,
        store,
        wards,
        nodes: Vec::new(),
        asleep: Vec::new(),
        started: 0,
        rough: true,
        played: Played::default(),
    };
    for _ in 0..=world.dice.below(3) {
        let node = world.new_node().await;
        world.nodes.push(node);
    }
    world.live(hours).await;
    world.rest().await;
    world.judge().await
}

fn ehr(hand: &Hand, dice: &Dice, seed: u64) -> (sandbox::Profile, Sandbox) {
    let (profile, quirks) = manners(dice);
    let clock = hand.clone();
    let options = Options {
        profile,
        quirks: Some(quirks),
        auth: vec![Auth::OAuth2(OAuth2::new("ponte", "s"))],
        seed,
        clock: Arc::new(move || clock.now().0),
        ..Options::default()
    };
    (profile, Sandbox::new(options))
}

impl World<'_> {
    async fn new_node(&mut self) -> Node {
        self.started += 1;
        Node::start(&self.parts, format!("node-{}", self.started), self.seed.wrapping_mul(1000) + self.started).await
    }

    fn now(&self) -> Timestamp {
        self.parts.hand.now()
    }

    async fn live(&mut self, hours: i64) {
        let end = self.now().plus_ms(hours * HOUR);
        let mut next_weather = self.now();
        let mut next_act = self.now();
        while self.now() < end {
            if self.now() >= next_weather {
                for ward in &self.wards {
                    turn(&ward.sandbox, &self.dice);
                }
                next_weather = self.now().plus_ms(HOUR);
                self.jump();
            }
            if self.now() >= next_act {
                let at = self.dice.index(self.wards.len());
                self.wards[at].act(&self.store).await;
                // Now and then everything happens at once.
                let pause = if self.dice.happens(0.3) { self.dice.between(0, 2 * SECOND) } else { self.dice.between(SECOND, 15 * MINUTE) };
                next_act = self.now().plus_ms(pause);
            }
            let until = next_act.min(next_weather);
            self.work(until).await;
        }
    }

    /// The machines stood still for an hour, and nothing was on its way.
    fn jump(&mut self) {
        let late = self.wards.iter().any(|ward| ward.sandbox.late_pending() > 0);
        if self.dice.happens(0.05) && !late && self.asleep.is_empty() {
            self.parts.hand.forward(HOUR);
        }
    }

    /// Everything due is worked; then the clock goes on to the next moment at which something can happen.
    async fn work(&mut self, until: Timestamp) {
        let mut turns = 0;
        while self.turn().await {
            turns += 1;
            assert!(
                turns < 3000,
                "the engine works in a circle at one moment:\n{}",
                self.parts.log.about("node").iter().rev().take(5).cloned().collect::<Vec<_>>().join("\n")
            );
        }
        let now = self.now();
        let mut next = match self.store.fleet().next_due().await.unwrap() {
            // Due and not to be had now: a dead node's, or one that stands still.
            Some(at) if at <= now => now.plus_ms(20 * SECOND),
            Some(at) => at,
            None => until,
        };
        next = next.min(until).min(now.plus_ms(10 * MINUTE));
        if self.wards.iter().any(|ward| ward.sandbox.late_pending() > 0) {
            next = next.min(now.plus_ms(5 * SECOND));
        }
        for sleep in &self.asleep {
            next = next.min(sleep.until);
        }
        self.parts.hand.to(next.max(now.plus_ms(1)));
        for ward in &self.wards {
            ward.sandbox.settle_due();
        }
        let awake: Vec<_> = self.nodes.iter().filter(|node| !node.stands_still()).collect();
        if !awake.is_empty() {
            self.dice.one_of(&awake).look_at_the_clock().await;
        }
    }

    /// Each node once; whether one of them did something.
    async fn turn(&mut self) -> bool {
        let mut worked = false;
        let first = self.dice.index(self.nodes.len());
        for at in (0..self.nodes.len()).map(|at| (at + first) % self.nodes.len()).collect::<Vec<_>>() {
            let step = if self.nodes[at].stands_still() {
                let woken = self.asleep.iter().position(|sleep| sleep.at == at && sleep.until <= self.now());
                let Some(woken) = woken else { continue };
                self.asleep.remove(woken);
                self.nodes[at].wake().await
            } else {
                let freezes = if self.rough { 0.003 } else { 0.0 };
                let dies = (self.rough && self.dice.happens(0.02)).then(|| self.dice.between(1, 60));
                self.nodes[at].step(freezes, dies).await
            };
            // One database, one moment: what is not due for one node is not due for another.
            let idle = step == Step::Idle;
            worked |= self.after(at, step).await;
            if idle && !self.asleep.iter().any(|sleep| sleep.until <= self.now()) {
                break;
            }
        }
        worked
    }

    async fn after(&mut self, at: usize, step: Step) -> bool {
        match step {
            Step::Idle => return false,
            Step::Worked => {}
            Step::Died => {
                self.played.deaths += 1;
                self.nodes[at] = self.new_node().await;
            }
            Step::Frozen(freeze) => {
                self.played.freezes += 1;
                // Nothing can fence it there: within lease and settle time, less the latest commit, it is safe.
                let longest =
                    if freeze == Freeze::AfterTheCheck { LEASE + LEASE - crate::weather::LATEST_COMMIT - 5 * SECOND } else { 2 * HOUR };
                let until = self.now().plus_ms(self.dice.between(SECOND, longest));
                self.asleep.push(Sleep { at, until });
            }
        }
        true
    }

    /// All is well at the EHRs, nobody dies, and persons do what is theirs to do, until nothing is open.
    async fn rest(&mut self) {
        self.rough = false;
        for ward in &self.wards {
            ward.sandbox.set_faults(FaultPlan::none());
        }
        let end = self.now().plus_ms(30 * 24 * HOUR);
        let mut pulled = 0;
        loop {
            let until = self.now().plus_ms(30 * MINUTE);
            while self.now() < until {
                self.work(until).await;
            }
            let mut open = Vec::new();
            for ward in &mut self.wards {
                ward.confirm_merges().await;
                open.extend(ward.waiting().await);
                ward.replay(true).await;
            }
            if open.is_empty() && self.asleep.is_empty() {
                pulled += 1;
                // A whole pull of each patient, after the last write.
                if pulled > 1 {
                    return;
                }
                // What the hospital deleted shows in the weekly whole read.
                self.parts.hand.forward(8 * 24 * HOUR);
                for ward in &self.wards {
                    for patient in &ward.patients {
                        ward.tenant.request_pull(self.now(), *patient).await.unwrap();
                    }
                }
            } else {
                self.store.fleet().sweep(self.now(), false).await.unwrap();
            }
            if self.now() > end {
                let told =
                    |one: &model::Delivery| format!("{one:?}\n{}", self.parts.log.about(&one.resource.uuid().to_string()).join("\n"));
                let story = open.iter().take(3).map(told).collect::<Vec<_>>().join("\n");
                self.played.wrong.push(format!("{} are open after a week in which all is well: {story}", open.len()));
                return;
            }
        }
    }

    async fn judge(mut self) -> Played {
        for at in 0..self.wards.len() {
            let others: BTreeSet<String> = self
                .wards
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at)
                .flat_map(|(_, ward)| ward.taken.iter().map(|taken| taken.id.to_string()))
                .collect();
            let ward = &self.wards[at];
            let found = judge(ward, &others, self.parts.log).await;
            self.played.wrong.extend(found.into_iter().map(|wrong| format!("{:?}: {wrong}", ward.profile)));
            for (act, times) in &ward.done {
                *self.played.acts.entry(*act).or_default() += times;
            }
            self.played.accepted += u64::try_from(ward.taken.len()).unwrap();
            let ledger = ward.sandbox.ledger();
            for (fault, times) in &ledger.faults {
                *self.played.faults.entry(fault.clone()).or_default() += times;
            }
            for effect in &ledger.effects {
                self.parts.log.say(format!("{} {} {} {}", effect.seq, effect.at_ms, effect.id, effect.version_id));
            }
        }
        self.played.requests = self.parts.log.requests();
        self.parts.log.say(format!("{}", self.dice.next_u64()));
        self.played.hash = self.parts.log.hash();
        self.played
    }
}
