//! What differs between SQLite and PostgreSQL, and nothing else: connecting, reading, writing, migrating.
//!
//! A write is a closure over one transaction. On SQLite all writes go through one writer, which commits whatever waits
//! together (`engine/writer.rs`); on PostgreSQL each has its own transaction and is repeated after a deadlock. The
//! closure is therefore `Clone`: it may run more than once, and only its last run is committed.

mod pooler;
mod schema;
mod sqlite;
mod tx;
mod writer;

pub(crate) use tx::{Row, Sql, Tx, Value, args, locking};

use crate::{Error, Result, Way};
use futures::future::BoxFuture;
use sqlite::Readers;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::sqlite::SqliteConnectOptions;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use writer::Writer;

/// Connections of one process to PostgreSQL.
const POOL: u32 = 16;
/// How often a PostgreSQL transaction is run when others get in its way.
const RUNS: u32 = 5;

/// How long a transaction may take. A server whose machine has vanished hangs up on nobody: without a limit whoever waits for it
/// waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection may take to say that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
/// How a PostgreSQL transaction begins. A node that freezes in the middle of one would keep its locks, and with them a lane or a
/// whole tenant, for as long as it sleeps: the server ends what says nothing for four seconds. Less than the five that the
/// contract gives on top of a lease; a transaction of ours waits for nothing but the database.
const BEGIN_WRITE: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 4000";
/// The same, for one consistent picture.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 4000";

/// The database.
pub(crate) struct Db {
    engine: Engine,
    bell: Arc<Notify>,
    /// The task that hears other processes' bells (PostgreSQL without a pooler only); ends with the database.
    ear: Option<tokio::task::AbortHandle>,
}

/// What a commit on SQLite is to survive; the end of a process it survives in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lasting {
    UntilPowerCut,
    OnDisk,
}

enum Engine {
    Sqlite { readers: Readers, writer: Writer, file: PathBuf },
    Postgres { pool: sqlx::PgPool, way: Way, patience: Duration },
}

impl Db {
    /// Connects by URL; `bell` is rung after a commit that made something due.
    ///
    /// # Errors
    /// When the URL is none of ours, the database does not answer, or a pooler stands there that nobody spoke of.
    pub(crate) async fn open(url: &str, way: Way, bell: Arc<Notify>) -> Result<Self> {
        if url.starts_with("sqlite:") {
            Self::open_sqlite(url, bell).await
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Self::open_postgres(url, way, bell).await
        } else {
            Err(Error::Url("The database URL must begin with sqlite:// or postgres://.".to_owned()))
        }
    }

    /// Reads: one consistent picture of the database for the whole closure.
    pub(crate) async fn read<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        match &self.engine {
            Engine::Sqlite { readers, .. } => readers.read(f).await,
            Engine::Postgres { pool, way, patience } => {
                let read = async { read_within(Tx::postgres(pool.begin_with(BEGIN_READ).await?, *way), f).await };
                tokio::time::timeout(*patience, read).await.unwrap_or_else(|_| Err(silent(*patience)))
            }
        }
    }

    /// Writes: all of the closure or, if it errs, nothing. Answered only once it is durable. Without an answer in time (an error)
    /// it may have happened or not, as after any broken connection.
    pub(crate) async fn write<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        self.write_within(Lasting::OnDisk, self.patience(), f).await
    }

    /// The same for leases: who works on what. On SQLite a power cut may take such a write back, together with everybody who could
    /// have relied on it; what is written after it and lasts has it last too. On PostgreSQL the others live on, so there it is as any.
    pub(crate) async fn write_lease<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        self.write_within(Lasting::UntilPowerCut, self.patience(), f).await
    }

    /// The same for what goes through a whole database at a person's word, and may take long.
    pub(crate) async fn write_at_length<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        self.write_within(Lasting::OnDisk, None, f).await
    }

    fn patience(&self) -> Option<Duration> {
        match &self.engine {
            Engine::Postgres { patience, .. } => Some(*patience),
            Engine::Sqlite { .. } => None,
        }
    }

    async fn write_within<T, F>(&self, lasting: Lasting, within: Option<Duration>, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        let (answer, rings) = match (&self.engine, within) {
            (Engine::Sqlite { writer, .. }, _) => writer.write(lasting, f).await?,
            (Engine::Postgres { pool, way, .. }, None) => write_postgres(pool, *way, f).await?,
            (Engine::Postgres { pool, way, .. }, Some(limit)) => {
                let written = tokio::time::timeout(limit, write_postgres(pool, *way, f)).await;
                written.unwrap_or_else(|_| Err(silent(limit)))?
            }
        };
        if rings {
            self.ring();
        }
        Ok(answer)
    }

    /// Whether one process does all the work.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.engine, Engine::Sqlite { .. })
    }

    /// Wakes whoever waits for the bell in this process.
    pub(crate) fn ring(&self) {
        self.bell.notify_waiters();
        self.bell.notify_one();
    }

    /// Ends all connections in order; nothing is read or written after it. A SQLite file is whole by itself then.
    pub(crate) async fn close(&self) {
        match &self.engine {
            Engine::Sqlite { readers, writer, .. } => {
                readers.close().await;
                writer.close().await;
            }
            Engine::Postgres { pool, .. } => pool.close().await,
        }
    }

    /// The database file, on SQLite.
    pub(crate) fn file(&self) -> Option<std::path::PathBuf> {
        match &self.engine {
            Engine::Sqlite { file, .. } => Some(file.clone()),
            Engine::Postgres { .. } => None,
        }
    }

    async fn open_sqlite(url: &str, bell: Arc<Notify>) -> Result<Self> {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(Error::Url("A database in memory forgets what it acknowledged; name a file: sqlite://ponte.db.".to_owned()));
        }
        let file = SqliteConnectOptions::from_str(url)
            .map_err(|_| Error::Url("The SQLite URL must look like sqlite://ponte.db or sqlite:///var/lib/ponte/ponte.db.".to_owned()))?
            .get_filename()
            .to_path_buf();
        let writer = Writer::open(file.clone()).await?;
        Ok(Self { engine: Engine::Sqlite { readers: Readers::of(file.clone()), writer, file }, bell, ear: None })
    }

    async fn open_postgres(url: &str, way: Way, bell: Arc<Notify>) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| Error::Url("The PostgreSQL URL must look like postgres://user:password@host:5432/database.".to_owned()))?
            .application_name("ponte")
            // Values travel in binary form, which knows no such digits, and PgBouncer refuses who asks for them.
            .extra_float_digits(None);
        // What is not kept needs no place: with a pooler a statement ends with its transaction.
        let options = if way == Way::Pooled { options.statement_cache_capacity(0) } else { options };
        let pool = PgPoolOptions::new()
            .max_connections(POOL)
            .acquire_timeout(Duration::from_secs(30))
            // The pool's own test would wait for ever where nobody hangs up, on both occasions.
            .test_before_acquire(false)
            .before_acquire(|conn, _| Box::pin(lives(conn)))
            .after_release(|conn, _| Box::pin(lives(conn)))
            .connect_with(options)
            .await?;
        if way == Way::Direct && pooler::stands_between(&pool).await? {
            return Err(Error::Url(pooler::UNKNOWN.to_owned()));
        }
        // A pooler in transaction mode has nobody who could hear: the poll's second must do there.
        let ear = (way == Way::Direct).then(|| tokio::spawn(listen(pool.clone(), bell.clone())).abort_handle());
        Ok(Self { engine: Engine::Postgres { pool, way, patience: PATIENCE }, bell, ear })
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Some(ear) = &self.ear {
            ear.abort();
        }
    }
}

async fn read_within<T>(mut tx: Tx, f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>>) -> Result<T> {
    let answer = f(&mut tx).await;
    tx.rollback().await;
    answer
}

/// Whether a connection still answers; one that does not is closed.
async fn lives(conn: &mut sqlx::PgConnection) -> std::result::Result<bool, sqlx::Error> {
    Ok(tokio::time::timeout(SIGN_OF_LIFE, conn.ping()).await.is_ok_and(|pong| pong.is_ok()))
}

fn silent(limit: Duration) -> Error {
    Error::Database(format!("it did not answer within {} s", limit.as_secs()))
}

async fn write_postgres<T, F>(pool: &sqlx::PgPool, way: Way, f: F) -> Result<(T, bool)>
where
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone,
{
    let mut run = 1;
    loop {
        let mut tx = Tx::postgres(pool.begin_with(BEGIN_WRITE).await?, way);
        let done = match f.clone()(&mut tx).await {
            Ok(answer) => tx.write_counts().await.map(|()| answer),
            Err(error) => Err(error),
        };
        let failed = match done {
            Ok(answer) => match tx.commit().await {
                Ok(rings) => return Ok((answer, rings)),
                Err(failed) => failed,
            },
            Err(error) => {
                let again = tx.disturbed();
                tx.rollback().await;
                (error, again)
            }
        };
        match failed {
            (_, true) if run < RUNS => {
                tokio::time::sleep(Duration::from_millis(u64::from(run * run) * 5)).await;
                run += 1;
            }
            (error, _) => return Err(error),
        }
    }
}

/// Rings for what other processes made due. A lost connection costs nothing but the poll's second.
async fn listen(pool: sqlx::PgPool, bell: Arc<Notify>) {
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen("ponte").await.is_ok()
        {
            while listener.recv().await.is_ok() {
                bell.notify_waiters();
                bell.notify_one();
            }
        }
        if pool.is_closed() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests;
