//! Sweeps, pulls and pruning by the clock: cron texts in one time zone, each run once over all nodes.
//!
//! A schedule is a row that whoever comes first claims; there is no leader. A run that was missed stands due in its row,
//! so that any number of them collapse into one, soon after the start. Cron texts are read in an IANA time zone, and a
//! change of summer time neither skips nor repeats a run at a fixed hour (what `croner` promises of fixed-time jobs).

use crate::engine::Engine;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, Zoned};
use model::Timestamp;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use store::Error;
use tokio_util::sync::CancellationToken;

/// How often a lane that went idle beside an uncommitted enqueue is looked for, ms.
const LANES_MS: i64 = 5000;
/// Pruning: once an hour, beside the hour.
const PRUNE_CRON: &str = "23 * * * *";
/// How often `run` looks at its clock.
const TICK: Duration = Duration::from_secs(1);

/// What is done by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Job {
    /// Everything unsynced of tenants on realtime or hourly becomes due.
    Sweep,
    /// A pull of every linked patient becomes due.
    Pull,
    /// The sweep of those who chose `daily`.
    Daily,
    /// What nobody needs any more is deleted.
    Prune,
}

impl Job {
    /// The schedule's name in the database and in logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Pull => "pull",
            Self::Daily => "daily",
            Self::Prune => "prune",
        }
    }
}

/// Why a cron text or a time zone will not do. A sentence for whoever set it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// Not a cron text.
    #[error("`{text}` is not a cron expression of five fields (minute hour day month weekday): {why}")]
    Cron {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// A cron text that names a moment that never comes.
    #[error("`{0}` names a moment that never comes")]
    Never(String),
    /// Not a time zone.
    #[error("`{0}` is not an IANA time zone; one is `America/Sao_Paulo`")]
    Timezone(String),
}

/// The cron texts of an installation, valid once parsed.
#[derive(Debug)]
pub struct Schedules {
    timed: Vec<Timed>,
    standing: Mutex<Standing>,
}

/// A cron text in its time zone.
#[derive(Debug, Clone)]
struct Timed {
    job: Job,
    cron: Cron,
    zone: TimeZone,
    /// As it stands in the database: another text or another zone begins anew.
    text: String,
}

/// What this node remembers between two looks.
#[derive(Debug, Default)]
struct Standing {
    /// The rows exist.
    ensured: bool,
    /// Each schedule is due no sooner, in the order of `timed`; `None`: not looked at yet.
    next: Vec<Option<Timestamp>>,
    /// Claimed by this node, and failed: again at the next look.
    owed: Vec<Job>,
    /// When lanes were last swept.
    lanes_at: Option<Timestamp>,
}

impl Schedules {
    /// Reads the cron texts (`PONTE_SWEEP_CRON`, `PONTE_PULL_CRON`, `PONTE_DAILY_CRON`) in a time zone (`PONTE_TIMEZONE`).
    ///
    /// # Errors
    /// A sentence that names the text that will not do.
    pub fn parse(sweep: &str, pull: &str, daily: &str, timezone: &str) -> Result<Self, BadSchedule> {
        let zone = TimeZone::get(timezone).map_err(|_| BadSchedule::Timezone(timezone.to_owned()))?;
        let texts = [(Job::Sweep, sweep), (Job::Pull, pull), (Job::Daily, daily), (Job::Prune, PRUNE_CRON)];
        let timed = texts.into_iter().map(|(job, text)| Timed::parse(job, text, timezone, &zone)).collect::<Result<Vec<_>, _>>()?;
        let standing = Standing { next: vec![None; timed.len()], ..Standing::default() };
        Ok(Self { timed, standing: Mutex::new(standing) })
    }

    /// When a job runs next after a moment.
    #[must_use]
    pub fn next_after(&self, job: Job, after: Timestamp) -> Option<Timestamp> {
        self.timed.iter().find(|timed| timed.job == job)?.next_after(after)
    }

    fn standing<T>(&self, look: impl FnOnce(&mut Standing) -> T) -> T {
        look(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Timed {
    fn parse(job: Job, text: &str, timezone: &str, zone: &TimeZone) -> Result<Self, BadSchedule> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| BadSchedule::Cron { text: text.to_owned(), why: error.to_string() })?;
        let timed = Self { job, cron, zone: zone.clone(), text: format!("{} {timezone}", text.trim()) };
        // 2026-01-01: any moment will do to tell a date that never comes.
        match timed.next_after(Timestamp(1_767_225_600_000)) {
            Some(_) => Ok(timed),
            None => Err(BadSchedule::Never(text.to_owned())),
        }
    }

    fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after: Zoned = Instant::from_millisecond(after.0).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(Timestamp(next.timestamp().as_millisecond()))
    }
}

/// Runs what the clock asks for until `shutdown`. A failure is logged and tried again at the next look.
pub async fn run(engine: &Engine, schedules: &Schedules, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = run_due(engine, schedules, engine.now()).await {
            tracing::error!(%error, "a scheduled run was not made; it is tried again in a second");
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Runs what is due at `now`, so that a simulator can drive it with its own clock. Says what this node ran.
///
/// # Errors
/// When the database does not do what is asked; what was claimed and not done is done at the next call.
pub async fn run_due(engine: &Engine, schedules: &Schedules, now: Timestamp) -> Result<Vec<Job>, Error> {
    let fleet = engine.store.fleet();
    if !schedules.standing(|standing| standing.ensured) {
        for timed in &schedules.timed {
            if let Some(next) = timed.next_after(now) {
                fleet.ensure_schedule(timed.job.word(), &timed.text, next).await?;
            }
        }
        schedules.standing(|standing| standing.ensured = true);
    }
    for (at, timed) in schedules.timed.iter().enumerate() {
        let due = schedules.standing(|standing| standing.next.get(at).copied().flatten().is_none_or(|next| next <= now));
        let Some(next) = timed.next_after(now).filter(|_| due) else { continue };
        let mine = fleet.claim_schedule(now, timed.job.word(), next).await?;
        schedules.standing(|standing| {
            if let Some(slot) = standing.next.get_mut(at) {
                *slot = Some(next);
            }
            if mine && !standing.owed.contains(&timed.job) {
                standing.owed.push(timed.job);
            }
        });
    }
    let mut ran = Vec::new();
    for job in schedules.standing(|standing| standing.owed.clone()) {
        perform(engine, job, now).await?;
        schedules.standing(|standing| standing.owed.retain(|owed| *owed != job));
        ran.push(job);
    }
    let lanes_due = schedules.standing(|standing| standing.lanes_at.is_none_or(|at| now.ms_since(at) >= LANES_MS));
    if lanes_due {
        schedules.standing(|standing| standing.lanes_at = Some(now));
        fleet.sweep_lanes(now).await?;
    }
    Ok(ran)
}

async fn perform(engine: &Engine, job: Job, now: Timestamp) -> Result<(), Error> {
    let fleet = engine.store.fleet();
    let rows = match job {
        Job::Sweep => fleet.sweep(now, false).await?,
        Job::Daily => fleet.sweep(now, true).await?,
        Job::Pull => fleet.pull_everybody(now).await?,
        Job::Prune => fleet.prune(now).await?,
    };
    tracing::info!(schedule = job.word(), rows, "scheduled run");
    Ok(())
}

#[cfg(test)]
mod tests;
