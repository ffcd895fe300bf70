//! Time that a test moves by hand, and chance from a seed.

use model::{Clock, Rng, Timestamp};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Time, moved by the test alone; clones show the same time.
#[derive(Debug, Clone)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    /// Begins here.
    #[must_use]
    pub fn at(begin: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(begin.0)))
    }

    /// Where it stands.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    /// So many ms on.
    pub fn forward(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// To a moment; never back.
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
#[derive(Debug)]
pub struct Dice(Mutex<ChaCha12Rng>);

impl Dice {
    /// The same seed, the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(ChaCha12Rng::seed_from_u64(seed))))
    }

    /// 0 to `n - 1`.
    #[must_use]
    pub fn below(&self, n: u64) -> u64 {
        self.next_u64() % n
    }

    /// A place in a list of this length, which is not empty.
    #[must_use]
    pub fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    /// One of these, which are not none.
    #[must_use]
    pub fn one_of<'a, T>(&self, some: &'a [T]) -> &'a T {
        &some[self.index(some.len())]
    }

    /// `from` to `to`, both included.
    #[must_use]
    pub fn between(&self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below((to - from + 1).unsigned_abs())).unwrap_or_default()
    }

    /// With this chance, 0 to 1.
    #[must_use]
    pub fn happens(&self, chance: f64) -> bool {
        self.unit() < chance
    }
}

impl Rng for Dice {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
