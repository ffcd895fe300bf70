//! The clock and the chance of a running process.
//!
//! Leases are counted by this clock, so it must go on while the machine sleeps and must never step back
//! (PRODUCT, effect ledger, rule 9). `CLOCK_REALTIME` steps when NTP corrects it, `CLOCK_MONOTONIC` stands still in suspend on
//! Linux; `CLOCK_BOOTTIME` does neither (`clock_gettime(2)`).

use model::{Clock, Rng, Timestamp};
use rand::RngCore;
use rustix::time::{ClockId, clock_gettime};
use std::sync::{Mutex, PoisonError};

/// Wall time that advances by boot time. Where the two disagree (NTP stepped the wall clock) it approaches the wall
/// clock by at most one part in a hundred of the time that passes: a lease of 60 s is then wrong by 0.6 s, less than its margin.
pub struct SystemClock {
    hand: Mutex<Hand>,
}

/// Chance from the operating system.
pub struct OsRng;

impl SystemClock {
    /// A clock that shows wall time now.
    #[must_use]
    pub fn new() -> Self {
        Self { hand: Mutex::new(Hand { boot_ns: boot_ns(), shown_ns: wall_ns() }) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let mut hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner);
        *hand = hand.turned(boot_ns(), wall_ns());
        Timestamp(hand.shown_ns.div_euclid(1_000_000))
    }
}

impl Rng for OsRng {
    fn next_u64(&self) -> u64 {
        // ChaCha, seeded and reseeded by the operating system.
        rand::rng().next_u64()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hand {
    boot_ns: i64,
    shown_ns: i64,
}

impl Hand {
    fn turned(self, boot_ns: i64, wall_ns: i64) -> Self {
        let passed = boot_ns.saturating_sub(self.boot_ns).max(0);
        let by_boot = self.shown_ns.saturating_add(passed);
        let slew = passed / 100;
        let shown_ns = by_boot.saturating_add(wall_ns.saturating_sub(by_boot).clamp(-slew, slew));
        Self { boot_ns: self.boot_ns.saturating_add(passed), shown_ns }
    }
}

fn wall_ns() -> i64 {
    nanoseconds(ClockId::Realtime)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn boot_ns() -> i64 {
    nanoseconds(ClockId::Boottime)
}

/// Elsewhere (macOS) the monotonic clock itself goes on in sleep.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn boot_ns() -> i64 {
    nanoseconds(ClockId::Monotonic)
}

fn nanoseconds(clock: ClockId) -> i64 {
    let at = clock_gettime(clock);
    at.tv_sec.saturating_mul(1_000_000_000).saturating_add(at.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn it_shows_wall_time_at_the_start_and_goes_on_by_boot_time() {
        let hand = Hand { boot_ns: 5 * S, shown_ns: 1_000 * S };
        assert_eq!(hand.turned(65 * S, 1_060 * S).shown_ns, 1_060 * S);
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_a_lease_by_less_than_a_second() {
        let hand = Hand { boot_ns: 0, shown_ns: 0 };
        let forward = hand.turned(60 * S, 3_660 * S).shown_ns;
        let back = hand.turned(60 * S, -3_540 * S).shown_ns;
        assert_eq!(forward, 60 * S + S * 6 / 10);
        assert_eq!(back, 60 * S - S * 6 / 10);
    }

    #[test]
    fn it_never_goes_back_whatever_the_two_clocks_say() {
        let mut hand = Hand { boot_ns: 0, shown_ns: 1_000 * S };
        let mut before = hand.shown_ns;
        for (boot, wall) in [(1, 900), (1, 0), (0, 5_000), (2, -7), (50, 1_049), (51, 2_000)] {
            hand = hand.turned(boot * S, wall * S);
            assert!(hand.shown_ns >= before, "{boot} {wall}");
            before = hand.shown_ns;
        }
    }

    #[test]
    fn after_a_step_it_agrees_with_the_wall_clock_again() {
        let mut hand = Hand { boot_ns: 0, shown_ns: 0 };
        for second in 1..=600 {
            hand = hand.turned(second * S, (second + 5) * S);
        }
        assert_eq!(hand.shown_ns, 605 * S);
    }

    #[test]
    fn two_readings_of_the_real_clock_are_in_order_and_near_wall_time() {
        let clock = SystemClock::new();
        let (a, b) = (clock.now(), clock.now());
        assert!(a <= b);
        assert!((wall_ns() / 1_000_000 - b.0).abs() < 5_000);
    }
}
