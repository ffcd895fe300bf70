//! What an EHR shows in an hour: calm, a few faults by chance, or nothing at all.

use crate::chance::SECOND;
use sandbox::{Fault, FaultPlan, Profile, Quirks, Sandbox};
use testing::Dice;

/// Faults that break the identifier by which everything is found: who meets them can only show a person what he has; other
/// tests play them.
const WITHOUT_IDENTIFIER: &[Fault] = &[Fault::EmptySearch, Fault::DropIdentifier, Fault::IdentifierRecased];

/// What an hour's weather is drawn from.
pub fn shown() -> impl Iterator<Item = Fault> {
    Fault::ALL.iter().copied().filter(|fault| !WITHOUT_IDENTIFIER.contains(fault))
}

/// How long a late commit may take, ms: with the longest pause of a sender it stays within lease and settle time.
pub const LATEST_COMMIT: i64 = 30 * SECOND;

/// The manners of an EHR: a real server's, or a plain one that lacks some of the safe means.
pub fn manners(dice: &Dice) -> (Profile, Quirks) {
    let profile = *dice.one_of(Profile::ALL);
    let mut quirks = Quirks::of(profile);
    if profile == Profile::Plain {
        for lacks in [Fault::NoUpdateCreate, Fault::NoConditionalCreate, Fault::NoBatch, Fault::IfMatchIgnored, Fault::NoLastUpdated] {
            if dice.happens(0.3) {
                quirks.always.push(lacks);
            }
        }
        if dice.happens(0.5) {
            quirks.max_page_size = 7;
        }
    }
    (profile, quirks)
}

/// The next hour's.
pub fn turn(sandbox: &Sandbox, dice: &Dice) {
    let ms = |from: i64, to: i64| u64::try_from(dice.between(from, to)).unwrap();
    let (late, lag, skew) = (ms(500, LATEST_COMMIT), ms(100, 5 * SECOND), dice.between(-300 * SECOND, 300 * SECOND));
    sandbox.change_settings(|settings| {
        settings.late_commit_ms = late;
        settings.search_lag_ms = lag;
        settings.clock_skew_ms = skew;
        settings.race_delay_ms = 0;
        settings.slow_body_ms = 0;
        settings.max_entries = 4;
    });
    let mut plan = FaultPlan::none();
    match dice.below(10) {
        0..3 => {}
        3 => plan = plan.rate(*dice.one_of(&[Fault::Refuse, Fault::Status503, Fault::Status503Outcome, Fault::Hang]), 1.0),
        _ => {
            for _ in 0..=dice.below(7) {
                let fault = *dice.one_of(&shown().collect::<Vec<_>>());
                plan = plan.rate(fault, *dice.one_of(&[0.02, 0.1, 0.3]));
            }
        }
    }
    sandbox.set_faults(plan);
}
