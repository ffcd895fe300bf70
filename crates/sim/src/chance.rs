//! What a node senses of its world's time and chance, and the moment at which it dies.

use model::{Clock, Rng, Timestamp};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Once};
use testing::{Dice, Hand};

pub const SECOND: i64 = 1000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;

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
    pub dice: Arc<Dice>,
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
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.payload().is::<Killed>() {
                loud(panic);
            }
        }));
    });
}
