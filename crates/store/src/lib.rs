//! The store: the only SQL. Two engines, one set of statements; `now` is always a parameter.
//!
//! Two doors: [`Store::tenant`] binds a tenant into every statement; [`Store::fleet`] is for claims, schedules and
//! counters only. A [`Lane`] is a leased part of one tenant's ledger: everything that it writes is fenced by its epoch.

mod engine;
mod reason;
mod seal;
mod standing;

pub mod audit;
pub mod config;
pub mod error;
pub mod fleet;
pub mod idempotency;
pub mod installation;
pub mod lane;
pub mod ledger;
pub mod observations;
pub mod page;
pub mod patients;
pub mod pulls;
pub mod runs;
pub mod status;

pub use config::{Runtime, StoredConnection};
pub use error::{Error, Result};
pub use fleet::{Due, Fleet};
pub use installation::Home;
pub use lane::{Begin, Claimed, JudgedFrom, Lane, LinkChange, Opening, Outcome, PatientWork, Settlement, WorkRow};
pub use ledger::{Content, DeliveryFilter, Discarded, Replayed};
pub use observations::{Accepted, ObservationFilter, PulledObservation, PulledResult};
pub use page::{Page, PageRequest};
pub use patients::{NewPatient, PatientKey};
pub use pulls::{PullClaim, PullState};
pub use runs::{Progress, Run, RunKind, RunState};
pub use seal::KeyRing;
pub use status::Status;

use model::{Rng, TenantId};
use std::sync::Arc;

/// How PostgreSQL is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Each connection is one to the server, or to a pooler that keeps it for us (session mode).
    #[default]
    Direct,
    /// Through a pooler that gives its connection to somebody else after each transaction (PgBouncer in transaction mode): no
    /// statement is kept prepared, nothing is listened for, no lock outlives its transaction.
    Pooled,
}

/// The database of an installation. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) db: engine::Db,
    pub(crate) keys: seal::Keys,
    pub(crate) rng: Arc<dyn Rng>,
    /// Rung when something may have become due in this process (or, on PostgreSQL, in any).
    pub(crate) bell: Arc<tokio::sync::Notify>,
    /// Connections as they were last read, by revision.
    pub(crate) connections: Arc<config::Cache>,
}

impl Store {
    /// Connects to `sqlite://path` (`sqlite::memory:` is refused) or `postgres://…`. Does not migrate.
    ///
    /// # Errors
    /// When the database cannot be reached or the URL is neither.
    pub async fn open(url: &str, keys: KeyRing, rng: Arc<dyn Rng>) -> Result<Self> {
        Self::open_by(Way::Direct, url, keys, rng).await
    }

    /// The same, by this way. Of SQLite there is one only.
    ///
    /// # Errors
    /// As [`Store::open`]; and when a pooler in transaction mode is found where nobody spoke of one.
    pub async fn open_by(way: Way, url: &str, keys: KeyRing, rng: Arc<dyn Rng>) -> Result<Self> {
        let bell = Arc::new(tokio::sync::Notify::new());
        let db = engine::Db::open(url, way, bell.clone()).await?;
        Ok(Self { inner: Arc::new(Inner { db, keys: seal::Keys::new(keys), rng, bell, connections: Arc::default() }) })
    }

    /// Brings the schema up to date; safe to call from several nodes at once.
    ///
    /// # Errors
    /// When a migration fails; the database is then as it was.
    pub async fn migrate(&self) -> Result<()> {
        self.inner.db.migrate().await
    }

    /// Whether the database answers and its migrations are those of this binary.
    ///
    /// # Errors
    /// A sentence that says which of the two is missing.
    pub async fn ready(&self) -> Result<()> {
        self.inner.db.check_schema().await
    }

    /// The only door to a tenant's data.
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Tenant {
        Tenant { inner: self.inner.clone(), id: id.clone() }
    }

    /// The door for claims, schedules and counters.
    #[must_use]
    pub fn fleet(&self) -> Fleet {
        Fleet { inner: self.inner.clone() }
    }

    /// Waits until something may have become due. A hint: the caller polls every second all the same.
    pub async fn bell(&self) {
        self.inner.bell.notified().await;
    }

    /// Ends every connection in order; nothing is read or written after it. A SQLite file is whole by itself then, and may be
    /// copied without what lies beside it.
    pub async fn close(&self) {
        self.inner.db.close().await;
    }

    /// Re-wraps every tenant's data key with the first key of the ring; says how many were re-wrapped.
    ///
    /// # Errors
    /// When a key cannot be opened with any key of the ring.
    pub async fn rotate_keys(&self) -> Result<u64> {
        self.inner.keys.rotate(&self.inner.db).await
    }
}

/// One tenant's data. There is no other way to it.
#[derive(Clone)]
pub struct Tenant {
    pub(crate) inner: Arc<Inner>,
    pub(crate) id: TenantId,
}

impl Tenant {
    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> &TenantId {
        &self.id
    }
}

/// What a writing transaction of one tenant takes along.
#[derive(Clone)]
pub(crate) struct Ward {
    pub(crate) tenant: TenantId,
    pub(crate) key: Arc<seal::DataKey>,
    pub(crate) rng: Arc<dyn Rng>,
}

impl Tenant {
    /// Makes the tenant, if it is not there yet: it comes into being with its first write.
    pub(crate) async fn ward(&self, now: model::Timestamp) -> Result<Ward> {
        Ok(Ward { tenant: self.id.clone(), key: self.key(now).await?, rng: self.inner.rng.clone() })
    }
}
