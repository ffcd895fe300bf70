//! Claims over all tenants: lanes, pulls, checks, schedules, sweeps.

mod claims;
mod lanes;
mod prune;
mod pulls;
mod sweep;

pub(crate) use sweep::sweep_tenant;

use crate::engine::{Row, Sql, args};
use crate::lane::Claimed;
use crate::reason::oldest_waiting;
use crate::{Error, Inner, PullClaim, Result, Run};
use model::{RunId, State, TenantId, Timestamp};
use std::sync::Arc;

/// The door for claims, schedules and counters. It reads no content.
#[derive(Clone)]
pub struct Fleet {
    pub(crate) inner: Arc<Inner>,
}

/// What a claim leased.
pub enum Due {
    /// A connection check that somebody asked for.
    Check(TenantId, RunId),
    /// A lane.
    Lane(Claimed),
    /// A patient's pull.
    Pull(PullClaim),
}

impl Fleet {
    /// Leases the longest unserved due lane (`FOR UPDATE SKIP LOCKED LIMIT 1` / `BEGIN IMMEDIATE`): epoch + 1. A lane whose
    /// lease ran out is due too, and is marked as taken over. Lanes of one tenant beyond its `maxConcurrency` (times
    /// [`Fleet::leases_for_a_place`]) are passed over, beyond one while the connection's `failures` are not 0. `owner` is random per process start.
    ///
    /// Longest unserved is counted by tenant first, then by lane: eight lanes are no eightfold share. Passed over are also
    /// the lanes of a tenant whose connection is off, only pulls or may not be used yet, and all lanes while the
    /// installation is paused; what a dead worker left in them is opened anew all the same.
    pub async fn claim_lane(&self, now: Timestamp, owner: &str, lease_ms: i64) -> Result<Option<Claimed>> {
        let (inner, owner) = (self.inner.clone(), owner.to_owned());
        self.inner
            .db
            .write_lease(move |tx| Box::pin(async move { lanes::claim(tx, &inner, now, &owner, now.plus_ms(lease_ms)).await }))
            .await
    }

    /// So many lanes of a tenant are leased at once for each of its `maxConcurrency` places at the EHR. Where one node does all the work
    /// (SQLite) two: some are read and written down while others are there, and that node lets no more of them go there than may. Where
    /// several nodes share the places, a lease is a place.
    #[must_use]
    pub fn leases_for_a_place(&self) -> usize {
        usize::try_from(lanes::leases_for_a_place(self.inner.db.is_alone())).unwrap_or(1)
    }

    /// The next moment at which a lane or pull becomes due or a lease runs out, if any.
    pub async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.inner.db.read(|tx| Box::pin(async move { claims::next_due(tx).await })).await
    }

    /// Closes the race of a lane that is released while an enqueue is uncommitted: every lane with a due stream is due, also one
    /// that was released until a later moment, an audit's or a retry's. A connection that backs off is not claimed all the same.
    pub async fn sweep_lanes(&self, now: Timestamp) -> Result<u64> {
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let lanes = tx
                        .execute(
                            "UPDATE lanes SET due_at = $1 WHERE lease_until IS NULL AND (due_at IS NULL OR due_at > $1) \
                             AND EXISTS (SELECT 1 FROM streams s WHERE s.tenant_id = lanes.tenant_id AND s.shard = lanes.shard \
                               AND s.head_due IS NOT NULL AND s.head_due <= $1)",
                            args![now],
                        )
                        .await?;
                    if lanes > 0 {
                        tx.wake(true).await?;
                    }
                    Ok(lanes)
                })
            })
            .await
    }

    /// Leases a due pull. At most two at once of one tenant.
    pub async fn claim_pull(&self, now: Timestamp, owner: &str, lease_ms: i64) -> Result<Option<PullClaim>> {
        let (inner, owner) = (self.inner.clone(), owner.to_owned());
        self.inner
            .db
            .write_lease(move |tx| Box::pin(async move { pulls::claim(tx, &inner, now, &owner, now.plus_ms(lease_ms)).await }))
            .await
    }

    /// Leases one due thing, in one transaction: a waiting connection check, else a lane as [`Fleet::claim_lane`] does, else, with
    /// `pulls`, a pull as [`Fleet::claim_pull`] does.
    pub async fn claim(&self, now: Timestamp, owner: &str, lease_ms: i64, pulls: bool) -> Result<Option<Due>> {
        let (inner, owner, until) = (self.inner.clone(), owner.to_owned(), now.plus_ms(lease_ms));
        self.inner
            .db
            .write_lease(move |tx| {
                Box::pin(async move {
                    if let Some((tenant, run)) = claims::check(tx, now, &owner, until).await? {
                        return Ok(Some(Due::Check(tenant, run)));
                    }
                    if let Some(claimed) = lanes::claim(tx, &inner, now, &owner, until).await? {
                        return Ok(Some(Due::Lane(claimed)));
                    }
                    if !pulls {
                        return Ok(None);
                    }
                    Ok(pulls::claim(tx, &inner, now, &owner, until).await?.map(Due::Pull))
                })
            })
            .await
    }

    /// Leases a waiting connection check.
    pub async fn claim_check(&self, now: Timestamp, owner: &str, lease_ms: i64) -> Result<Option<(TenantId, Run)>> {
        let owner = owner.to_owned();
        let claimed = self
            .inner
            .db
            .write_lease(move |tx| Box::pin(async move { claims::check(tx, now, &owner, now.plus_ms(lease_ms)).await }))
            .await?;
        let Some((tenant, id)) = claimed else { return Ok(None) };
        let tenant = crate::Tenant { inner: self.inner.clone(), id: tenant };
        let run = tenant.run(now, id).await?.ok_or(Error::Corrupt("runs"))?;
        Ok(Some((tenant.id, run)))
    }

    /// Makes sure that a schedule exists with this cron text; a changed text takes `next` as its next run.
    pub async fn ensure_schedule(&self, name: &str, cron: &str, next: Timestamp) -> Result<()> {
        let (name, cron) = (name.to_owned(), cron.to_owned());
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    tx.execute(
                        "INSERT INTO schedules (name, cron, next_run_at) VALUES ($1, $2, $3) \
                         ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, next_run_at = excluded.next_run_at \
                         WHERE schedules.cron <> excluded.cron",
                        args![name, cron, next],
                    )
                    .await
                    .map(drop)
                })
            })
            .await
    }

    /// Takes a due run of a schedule for this node alone and sets the next one; missed runs collapse into one.
    pub async fn claim_schedule(&self, now: Timestamp, name: &str, next: Timestamp) -> Result<bool> {
        let name = name.to_owned();
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let sql = "UPDATE schedules SET next_run_at = $3, last_run_at = $2 WHERE name = $1 AND next_run_at <= $2";
                    Ok(tx.execute(sql, args![name, now, next]).await? > 0)
                })
            })
            .await
    }

    /// The hourly (`daily = false`: tenants on realtime or hourly) or daily sweep: everything unsynced of every enabled tenant
    /// that pushes becomes due as backlog; rounds that were used up begin anew. Says how many rows.
    pub async fn sweep(&self, now: Timestamp, daily: bool) -> Result<u64> {
        sweep::sweep(&self.inner, now, daily).await
    }

    /// Makes a pull of every linked patient of every enabled tenant that pulls due. Says how many.
    pub async fn pull_everybody(&self, now: Timestamp) -> Result<u64> {
        sweep::pull_everybody(&self.inner, now).await
    }

    /// Deletes what nobody needs any more: idempotency keys after 7 days, sealed content of attempts 7 days after delivery and
    /// 30 days after they were superseded or canceled (never of what is open or dead), finished runs after 90 days,
    /// attempts' facts after a year.
    pub async fn prune(&self, now: Timestamp) -> Result<u64> {
        prune::prune(&self.inner, now).await
    }

    /// Rows by state over all tenants, and the age of the oldest waiting one in ms: for metrics.
    pub async fn totals(&self, now: Timestamp) -> Result<(Vec<(String, i64)>, Option<i64>)> {
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let mut totals: Vec<(String, i64)> = State::WORDS.iter().map(|word| ((*word).to_owned(), 0)).collect();
                    for row in tx.rows("SELECT state, CAST(SUM(n) AS BIGINT) AS n FROM counters GROUP BY state", args![]).await? {
                        let (state, n) = (row.text("state")?, row.int("n")?);
                        totals.iter_mut().filter(|(word, _)| *word == state).for_each(|total| total.1 = n);
                    }
                    let oldest = tx
                        .row(
                            Sql::from(concat!(
                                "SELECT MIN(o.at) AS at FROM (SELECT ",
                                oldest_waiting!("t.tenant_id"),
                                " AS at FROM tenants t) o"
                            )),
                            args![],
                        )
                        .await?
                        .map_or(Ok(None), |row| row.ts_opt("at"))?;
                    Ok((totals, oldest.map(|at| now.ms_since(at).max(0))))
                })
            })
            .await
    }

    /// All tenants, for `ponte status`.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.inner
            .db
            .read(|tx| {
                Box::pin(async move {
                    tx.rows("SELECT tenant_id FROM tenants ORDER BY tenant_id", args![]).await?.iter().map(Row::tenant).collect()
                })
            })
            .await
    }
}
