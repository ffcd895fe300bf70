//! The engine: claims what is due, works it, gives it back. It sleeps only when nothing is due, and never inside a claim,
//! so that a simulator can drive [`Engine::work_once`] with its own clock.

use crate::places::{Places, Slot};
use crate::{check, lane, pull};
use ehr::client::EhrPool;
use ehr::transport::{HttpTransport, Transport};
use model::{Clock, Rng, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use store::{Due, Error, Store};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What an engine stands on.
pub struct Setup {
    /// The database.
    pub store: Store,
    /// The way to EHRs, address guard included.
    pub transport: Arc<dyn Transport>,
    /// The same way as a real one, for connection checks; a simulator has none.
    pub http: Option<Arc<HttpTransport>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<dyn Rng>,
    /// How long a lane or pull is held without a sign of life, ms.
    pub lease_ms: i64,
}

/// One node's engine. Its owner name is random per start, never a host or pod name.
pub struct Engine {
    /// The database.
    pub store: Store,
    /// Clients per connection.
    pub ehrs: EhrPool,
    pub(crate) http: Option<Arc<HttpTransport>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<dyn Rng>,
    /// Who holds what this node claims.
    pub owner: String,
    /// How long a claim lasts, ms.
    pub lease_ms: i64,
    /// 403s in a row, per tenant: three are the connection's matter.
    pub(crate) denied: crate::denied::Denied,
    pub(crate) places: Places,
    pulls_running: AtomicUsize,
}

/// What one claim came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worked {
    /// Something was claimed.
    Something,
    /// Nothing was due.
    Nothing,
}

impl Engine {
    /// Builds an engine; it does nothing until asked.
    #[must_use]
    pub fn new(setup: Setup) -> Arc<Self> {
        let owner = format!("{:016x}{:016x}", setup.rng.next_u64(), setup.rng.next_u64());
        Arc::new(Self {
            ehrs: EhrPool::new(setup.transport, setup.clock.clone()),
            store: setup.store,
            http: setup.http,
            clock: setup.clock,
            rng: setup.rng,
            owner,
            lease_ms: setup.lease_ms,
            denied: crate::denied::Denied::default(),
            places: Places::default(),
            pulls_running: AtomicUsize::new(0),
        })
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The margin that a claim keeps for writing results, ms: no request may take longer than the lease less this.
    #[must_use]
    pub fn margin_ms(&self) -> i64 {
        (self.lease_ms / 5).clamp(200, 5000)
    }

    /// Claims one due thing and works it: a connection check, a lane, a pull, in this order.
    ///
    /// # Errors
    /// When the database does not do what is asked; whatever was claimed is taken over when its lease has run out.
    pub async fn work_once(self: &Arc<Self>) -> Result<Worked, Error> {
        match self.claim(usize::MAX).await? {
            Some(claimed) => {
                self.work(claimed, Slot::default()).await?;
                Ok(Worked::Something)
            }
            None => Ok(Worked::Nothing),
        }
    }

    /// Works with `slots` claims at once until `shutdown`, then lets those under way end.
    pub async fn run(self: Arc<Self>, slots: usize, shutdown: CancellationToken) {
        let slots = slots.max(1);
        let most_pulls = (slots / 2).max(1);
        let semaphore = Arc::new(Semaphore::new(slots));
        let under_way = TaskTracker::new();
        while !shutdown.is_cancelled() {
            let slot = tokio::select! {
                () = shutdown.cancelled() => break,
                slot = Slot::of(&semaphore, &shutdown) => match slot { Some(slot) => slot, None => break },
            };
            match self.claim(most_pulls).await {
                Ok(Some(claimed)) => {
                    let engine = self.clone();
                    under_way.spawn(async move {
                        if let Err(error) = engine.work(claimed, slot).await {
                            tracing::error!(%error, "a claim could not be worked; its lease will run out and be taken over");
                        }
                    });
                }
                Ok(None) => {
                    drop(slot);
                    self.wait(&shutdown, most_pulls).await;
                }
                Err(error) => {
                    drop(slot);
                    tracing::error!(%error, "the database did not answer a claim; asking again in a second");
                    self.wait(&shutdown, most_pulls).await;
                }
            }
        }
        under_way.close();
        under_way.wait().await;
    }

    /// The bell is a hint; a second's poll stands behind it.
    async fn wait(&self, shutdown: &CancellationToken, most_pulls: usize) {
        let second = Duration::from_secs(1);
        let due = self.store.fleet().next_due().await;
        // What is due may be a pull, of which this node has as many as it may: that ends no sooner for being asked for.
        let shortest = Duration::from_millis(if self.pulls_running.load(Ordering::Relaxed) < most_pulls { 5 } else { 100 });
        let until_due = match due {
            Ok(Some(due)) => Duration::from_millis(u64::try_from(due.ms_since(self.now())).unwrap_or(0)).clamp(shortest, second),
            _ => second,
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.store.bell() => {}
            () = tokio::time::sleep(until_due) => {}
        }
    }

    async fn claim(&self, most_pulls: usize) -> Result<Option<Due>, Error> {
        let pulls = self.pulls_running.load(Ordering::Relaxed) < most_pulls;
        let claimed = self.store.fleet().claim(self.now(), &self.owner, self.lease_ms, pulls).await?;
        if matches!(claimed, Some(Due::Pull(_))) {
            self.pulls_running.fetch_add(1, Ordering::Relaxed);
        }
        Ok(claimed)
    }

    async fn work(self: &Arc<Self>, due: Due, slot: Slot) -> Result<(), Error> {
        match due {
            Due::Check(tenant, run) => check::run_check(self, &tenant, run).await,
            Due::Lane(claimed) => lane::work_lane(self, claimed, slot).await,
            Due::Pull(claim) => {
                let result = pull::run_pull(self, claim).await;
                self.pulls_running.fetch_sub(1, Ordering::Relaxed);
                result
            }
        }
    }
}
