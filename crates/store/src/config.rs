//! A tenant's connection: the original's `fhir_integration_configs`, secrets sealed, and what is known of the EHR.
//!
//! Cached per tenant by revision: the row's revision is read each time, so a change holds at once on every node; only the
//! opening of the sealed secrets is saved.

mod change;
mod columns;
mod runtime;

pub(crate) use columns::load;
pub(crate) use runtime::{is_fresh, load as load_runtime, read_plan, works};

use crate::engine::args;
use crate::{Result, Tenant};
use model::{Class, Connection, MeansPlan, TenantId, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A connection as stored.
#[derive(Debug, Clone)]
pub struct StoredConnection {
    /// Row id.
    pub id: uuid::Uuid,
    /// The settings.
    pub connection: Arc<Connection>,
    /// Grows with each change.
    pub revision: i64,
    /// Grows with each other base URL.
    pub generation: i64,
    /// When a secret was last set.
    pub secret_updated_at: Timestamp,
    /// When a push or pull last succeeded.
    pub last_sync_at: Option<Timestamp>,
    /// The last failure of the connection, a sentence without anybody's data.
    pub last_error: Option<String>,
    /// Created.
    pub created_at: Timestamp,
    /// Changed.
    pub updated_at: Timestamp,
}

/// What is known of a tenant's EHR right now.
#[derive(Debug, Clone, Default)]
pub struct Runtime {
    /// The means there.
    pub plan: MeansPlan,
    /// Failed attempts of the connection's present round.
    pub failures: u32,
    /// Not before then.
    pub not_before: Option<Timestamp>,
    /// The round is used up: one probe at a time.
    pub circuit_open: bool,
    /// Credentials were refused: held until the config changes or a probe succeeds.
    pub auth_refused: bool,
    /// The class of the last failure.
    pub last_class: Option<Class>,
    /// Since when it is down.
    pub down_since: Option<Timestamp>,
    /// How long it was down altogether, ms, the present time not counted.
    pub down_total_ms: i64,
    /// Last success of a push.
    pub last_push_at: Option<Timestamp>,
    /// Last complete pull.
    pub last_pull_at: Option<Timestamp>,
}

impl Runtime {
    /// The connection failed last: one request probes it, and nothing else is sent until that is answered.
    #[must_use]
    pub fn failed_last(&self) -> bool {
        self.failures > 0 || self.circuit_open || self.auth_refused
    }
}

impl Tenant {
    /// The tenant's connection.
    ///
    /// # Errors
    /// When the database fails or a secret cannot be opened.
    pub async fn connection(&self) -> Result<Option<StoredConnection>> {
        let Some(key) = self.key_if_any().await? else { return Ok(None) };
        let (tenant, cache) = (self.id.clone(), self.inner.connections.clone());
        self.inner.db.read(move |tx| Box::pin(async move { load(tx, &tenant, &key, &cache).await })).await
    }

    /// What is known of its EHR.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn runtime(&self) -> Result<Runtime> {
        let tenant = self.id.clone();
        self.inner.db.read(move |tx| Box::pin(async move { runtime::load(tx, &tenant).await })).await
    }

    /// Stores a connection; audited. `expected` = the revision that it was built over (`None`: there was none); `None`
    /// is answered when that is not the current one any more. Another base URL begins another generation: links, EHR ids,
    /// watermarks and the plan of the old one no longer count, open rows that were sent before are
    /// `held: connection_moved`. A first or newly enabled realtime connection makes what waits due (as backlog).
    /// Clears the circuit, the failure round and `auth_refused`, and wakes the lanes.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn put_connection(
        &self,
        now: Timestamp,
        built: &model::connection::Built,
        expected: Option<i64>,
        actor: &str,
    ) -> Result<Option<StoredConnection>> {
        let (ward, cache, actor) = (self.ward(now).await?, self.inner.connections.clone(), actor.to_owned());
        let new = change::New { connection: Arc::new(built.connection.clone()), secret_changed: built.secret_changed };
        self.inner.db.write(move |tx| Box::pin(async move { change::put(tx, &ward, &cache, now, &new, expected, &actor).await })).await
    }

    /// Deletes it; what waits stays. `false` when there was none.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn delete_connection(&self, now: Timestamp, actor: &str) -> Result<bool> {
        if self.key_if_any().await?.is_none() {
            return Ok(false);
        }
        let (ward, actor) = (self.ward(now).await?, actor.to_owned());
        self.inner.db.write(move |tx| Box::pin(async move { change::delete(tx, &ward, now, &actor).await })).await
    }

    /// Changes the plan in one transaction (read, change, write). Nothing is done for another generation than the present.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn change_plan(&self, generation: i64, change: Box<dyn FnOnce(&mut MeansPlan) + Send>) -> Result<()> {
        let (tenant, change) = (self.id.clone(), Arc::new(Mutex::new(Some(change))));
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let Some(mut plan) = runtime::lock_plan(tx, &tenant, generation).await? else { return Ok(()) };
                    let before = plan.clone();
                    // Taken once: the row is locked by now, and nothing behind it makes PostgreSQL run this again.
                    let change = change.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(change) = change {
                        change(&mut plan);
                    }
                    if plan == before { Ok(()) } else { runtime::write_plan(tx, &tenant, &plan).await }
                })
            })
            .await
    }

    /// A failure of the connection as it was read: `failures + 1`, `not_before`, circuit, `last_error`. Written by whoever saw it; the
    /// numbers are decided by the engine. False: its settings were changed since, nothing is said of the new ones.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn connection_failed(&self, now: Timestamp, of: &StoredConnection, failed: &ConnectionFailed) -> Result<bool> {
        let (tenant, of, failed) = (self.id.clone(), (of.id, of.revision), failed.clone());
        self.inner.db.write(move |tx| Box::pin(async move { runtime::failed(tx, &tenant, now, of, &failed).await })).await
    }

    /// A success: clears the round, closes the circuit, adds up the down time, wakes the lanes if it was down. The moments of
    /// the last push and pull are kept to the second, so that a healthy connection is not written for each delivery.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn connection_works(&self, now: Timestamp, pushed: bool, pulled: bool) -> Result<()> {
        let tenant = self.id.clone();
        let fresh =
            self.inner.db.read(move |tx| Box::pin(async move { runtime::is_fresh(tx, &tenant, now, pushed, pulled).await })).await?;
        if fresh {
            return Ok(());
        }
        let tenant = self.id.clone();
        self.inner.db.write(move |tx| Box::pin(async move { runtime::works(tx, &tenant, now, pushed, pulled).await })).await
    }

    /// Takes the one probe of a connection that is not to be used before its time or whose circuit is open: true for one
    /// caller until `until`, over all nodes. Never before `not_before`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_probe(&self, now: Timestamp, until: Timestamp) -> Result<bool> {
        let tenant = self.id.clone();
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let taken = tx
                        .execute(
                            "UPDATE connections SET probe_until = $3 WHERE tenant_id = $1 AND (probe_until IS NULL OR probe_until <= $2) \
                             AND (not_before IS NULL OR not_before <= $2)",
                            args![&tenant, now, until],
                        )
                        .await?;
                    Ok(taken > 0)
                })
            })
            .await
    }

    /// Gives a probe back that asked the EHR nothing, so that another takes its place at once. One that showed that the connection works,
    /// or that it does not, is over already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_back_probe(&self, until: Timestamp) -> Result<()> {
        let tenant = self.id.clone();
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let sql = "UPDATE connections SET probe_until = NULL WHERE tenant_id = $1 AND probe_until = $2";
                    tx.execute(sql, args![&tenant, until]).await.map(drop)
                })
            })
            .await
    }
}

/// Connections whose secrets were opened, by tenant: the config row, its revision, the settings.
#[derive(Default)]
pub(crate) struct Cache(RwLock<HashMap<TenantId, Opened>>);

/// Config row, revision, settings.
type Opened = (uuid::Uuid, i64, Arc<Connection>);

impl Cache {
    fn get(&self, tenant: &TenantId, id: uuid::Uuid, revision: i64) -> Option<Arc<Connection>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(tenant).filter(|(of, at, _)| *of == id && *at == revision).map(|(.., connection)| connection.clone())
    }

    fn put(&self, tenant: &TenantId, id: uuid::Uuid, revision: i64, connection: Arc<Connection>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), (id, revision, connection));
    }
}

/// What the engine decided about a failing connection.
#[derive(Debug, Clone)]
pub struct ConnectionFailed {
    /// Class of the failure.
    pub class: Class,
    /// Failures of this round, this one included; unchanged by a 429.
    pub failures: u32,
    /// Not before then.
    pub not_before: Timestamp,
    /// The round is used up.
    pub circuit_open: bool,
    /// Credentials refused.
    pub auth_refused: bool,
    /// Whether the EHR counts as down (a 429 does not).
    pub down: bool,
    /// A sentence without anybody's data.
    pub sentence: String,
}
