//! Claims over all tenants: lanes, pulls, checks, schedules, sweeps.

use crate::lane::Claimed;
use crate::{Inner, PullClaim, Result, Run};

use model::{TenantId, Timestamp};
use std::sync::Arc;

/// The door for claims, schedules and counters. It reads no content.
#[derive(Clone)]
pub struct Fleet {
    pub(crate) inner: Arc<Inner>,
}

impl Fleet {
    /// Leases the longest unserved due lane (`FOR UPDATE SKIP LOCKED LIMIT 1` / `BEGIN IMMEDIATE`): epoch + 1. A lane whose
    /// lease ran out is due too, and is marked as taken over. Lanes of one tenant beyond its `maxConcurrency` are passed over,
    /// beyond one while the connection's `failures` are not 0. `owner` is random per process start.
    pub async fn claim_lane(&self, now: Timestamp, owner: &str, lease_ms: i64) -> Result<Option<Claimed>> {
        let _ = (now, owner, lease_ms);
        todo!()
    }

    /// The next moment at which a lane or pull becomes due or a lease runs out, if any.
    pub async fn next_due(&self) -> Result<Option<Timestamp>> {
        todo!()
    }

    /// Closes the race of a lane that goes idle while an enqueue is uncommitted: every lane with a due stream is due.
    pub async fn sweep_lanes(&self, now: Timestamp) -> Result<u64> {
        let _ = now;
        todo!()
    }

    /// Leases a due pull. At most `per_tenant` at once of one tenant.
    pub async fn claim_pull(&self, now: Timestamp, owner: &str, lease_ms: i64, per_tenant: u32) -> Result<Option<PullClaim>> {
        let _ = (now, owner, lease_ms, per_tenant);
        todo!()
    }

    /// Leases a waiting connection check.
    pub async fn claim_check(&self, now: Timestamp, owner: &str, lease_ms: i64) -> Result<Option<(TenantId, Run)>> {
        let _ = (now, owner, lease_ms);
        todo!()
    }

    /// Makes sure that a schedule exists with this cron text; a changed text takes `next` as its next run.
    pub async fn ensure_schedule(&self, name: &str, cron: &str, next: Timestamp) -> Result<()> {
        let _ = (name, cron, next);
        todo!()
    }

    /// Takes a due run of a schedule for this node alone and sets the next one; missed runs collapse into one.
    pub async fn claim_schedule(&self, now: Timestamp, name: &str, next: Timestamp) -> Result<bool> {
        let _ = (now, name, next);
        todo!()
    }

    /// The hourly (`daily = false`: tenants on realtime or hourly) or daily sweep: everything unsynced of every enabled tenant
    /// that pushes becomes due as backlog; rounds that were used up begin anew. Says how many rows.
    pub async fn sweep(&self, now: Timestamp, daily: bool) -> Result<u64> {
        let _ = (now, daily);
        todo!()
    }

    /// Makes a pull of every linked patient of every enabled tenant that pulls due. Says how many.
    pub async fn pull_everybody(&self, now: Timestamp) -> Result<u64> {
        let _ = now;
        todo!()
    }

    /// Deletes what nobody needs any more: idempotency keys after 7 days, sealed content of delivered attempts after 7 days
    /// (never of what is not delivered, superseded or canceled), finished runs after 90 days, attempts' facts after a year.
    pub async fn prune(&self, now: Timestamp) -> Result<u64> {
        let _ = now;
        todo!()
    }

    /// Rows by state over all tenants, and the age of the oldest waiting one in ms: for metrics.
    pub async fn totals(&self, now: Timestamp) -> Result<(Vec<(String, i64)>, Option<i64>)> {
        let _ = now;
        todo!()
    }

    /// All tenants, for `ponte status`.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        todo!()
    }
}
