//! Time and chance of a world, and the moment at which a node dies.

use model::{Clock, Rng, Timestamp};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub const SECOND: i64 = 1000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;

/// Time, moved by the world alone.
#[derive(Clone)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    pub fn at(ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ms)))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    pub fn forward(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// Never back.
    pub fn to(&self, at: Timestamp) {
        self.0.fetch_max(at.0, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }
}

/// Chance from a seed.
#[derive(Clone)]
pub struct Dice(Arc<Mutex<ChaCha12Rng>>);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(ChaCha12Rng::seed_from_u64(seed))))
    }

    /// 0 to `n - 1`.
    pub fn below(&self, n: usize) -> usize {
        let n = u64::try_from(n.max(1)).unwrap();
        usize::try_from(self.next_u64() % n).unwrap()
    }

    /// `from` to `to`, both included.
    pub fn between(&self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(usize::try_from(to - from + 1).unwrap())).unwrap()
    }

    pub fn happens(&self, chance: f64) -> bool {
        self.unit() < chance
    }

    pub fn one_of<'a, T>(&self, some: &'a [T]) -> &'a T {
        &some[self.below(some.len())]
    }
}

impl Rng for Dice {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}

/// What a killed node dies of: a panic that nobody prints.
pub struct Killed;

/// The beats of a node's heart: each look at the clock, each number drawn, each word to the EHR. It may be told to stop at one.
#[derive(Clone, Default)]
pub struct Heart(Arc<AtomicI64>);

impl Heart {
    /// It stops at the n-th beat from now.
    pub fn stop_at(&self, beats: i64) {
        self.0.store(beats, Ordering::SeqCst);
    }

    pub fn go_on(&self) {
        self.stop_at(0);
    }

    pub fn beat(&self) {
        if self.0.load(Ordering::SeqCst) > 0 && self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::panic::panic_any(Killed);
        }
    }
}

/// A node's own look at time and chance.
#[derive(Clone)]
pub struct Senses {
    pub hand: Hand,
    pub dice: Dice,
    pub heart: Heart,
}

impl Clock for Senses {
    fn now(&self) -> Timestamp {
        self.heart.beat();
        self.hand.now()
    }
}

impl Rng for Senses {
    fn next_u64(&self) -> u64 {
        self.heart.beat();
        self.dice.next_u64()
    }
}

/// Keeps the deaths of nodes off the terminal.
pub fn die_quietly() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload().is::<Killed>() {
            loud(panic);
        }
    }));
}
