//! Cron texts in a time zone: the next run, summer time, and sentences for what will not do.

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::from_rfc3339(text).unwrap()
}

fn contract(zone: &str) -> Schedules {
    Schedules::parse("0 * * * *", "0 */6 * * *", "0 3 * * *", zone).unwrap()
}

fn runs(schedules: &Schedules, job: Job, from: &str, n: usize) -> Vec<String> {
    let mut after = at(from);
    (0..n)
        .map(|_| {
            after = schedules.next_after(job, after).unwrap();
            after.rfc3339()
        })
        .collect()
}

#[test]
fn the_contracts_schedules_run_by_the_tenants_wall_clock() {
    let schedules = contract("America/Sao_Paulo");
    assert_eq!(runs(&schedules, Job::Sweep, "2026-11-25T04:59:59.999Z", 2), ["2026-11-25T05:00:00.000Z", "2026-11-25T06:00:00.000Z"]);
    assert_eq!(runs(&schedules, Job::Pull, "2026-11-25T04:00:00Z", 2), ["2026-11-25T09:00:00.000Z", "2026-11-25T15:00:00.000Z"]);
    assert_eq!(runs(&schedules, Job::Daily, "2026-11-25T06:00:00Z", 1), ["2026-11-26T06:00:00.000Z"]);
}

#[test]
fn a_run_is_never_at_the_moment_itself() {
    let schedules = contract("UTC");
    assert_eq!(runs(&schedules, Job::Sweep, "2026-11-25T05:00:00Z", 1), ["2026-11-25T06:00:00.000Z"]);
}

#[test]
fn summer_time_neither_skips_nor_doubles_the_daily_run() {
    // New York, 2026: 8 March 02:00 → 03:00, 1 November 02:00 → 01:00.
    let schedules = Schedules::parse("0 * * * *", "0 */6 * * *", "30 2 * * *", "America/New_York").unwrap();
    let spring = runs(&schedules, Job::Daily, "2026-03-07T12:00:00Z", 2);
    assert_eq!(spring.len(), 2);
    assert!(spring[0].starts_with("2026-03-08T07:"), "{spring:?}");
    assert_eq!(spring[1], "2026-03-09T06:30:00.000Z");
    let autumn = Schedules::parse("0 * * * *", "0 */6 * * *", "30 1 * * *", "America/New_York").unwrap();
    assert_eq!(runs(&autumn, Job::Daily, "2026-10-31T12:00:00Z", 2), ["2026-11-01T05:30:00.000Z", "2026-11-02T06:30:00.000Z"]);
}

#[test]
fn the_hourly_sweep_goes_on_every_hour_through_both_changes() {
    let schedules = contract("America/New_York");
    for from in ["2026-03-08T04:30:00Z", "2026-11-01T03:30:00Z"] {
        let all = runs(&schedules, Job::Sweep, from, 6);
        for pair in all.windows(2) {
            assert_eq!(at(&pair[1]).ms_since(at(&pair[0])), 3_600_000, "{all:?}");
        }
    }
}

#[test]
fn what_will_not_do_is_refused_with_a_sentence_that_names_it() {
    let parse = |sweep: &str, zone: &str| Schedules::parse(sweep, "0 */6 * * *", "0 3 * * *", zone).map(|_| ()).unwrap_err();
    for bad in ["", "* * *", "61 * * * *", "0 0 * * * *", "every hour"] {
        let error = parse(bad, "UTC");
        assert!(matches!(error, BadSchedule::Cron { .. }), "{bad}: {error}");
        assert!(error.to_string().contains(bad));
    }
    assert!(matches!(parse("0 0 30 2 *", "UTC"), BadSchedule::Never(_)));
    assert_eq!(parse("0 * * * *", "Sao Paulo"), BadSchedule::Timezone("Sao Paulo".to_owned()));
}
