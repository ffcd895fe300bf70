//! What differs between SQLite and PostgreSQL, and nothing else: connecting, reading, writing, migrating.
//!
//! A write is a closure over one transaction. On SQLite all writes go through one writer, which commits whatever waits
//! together (`engine/writer.rs`); on PostgreSQL each has its own transaction and is repeated after a deadlock. The
//! closure is therefore `Clone`: it may run more than once, and only its last run is committed.

mod schema;
mod tx;
mod writer;

pub(crate) use tx::{Row, Sql, Tx, Value, args, locking};

use crate::{Error, Result};
use futures::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use writer::Writer;

/// Connections of one process to PostgreSQL.
const POOL: u32 = 16;
/// How often a PostgreSQL transaction is run when others get in its way.
const RUNS: u32 = 5;

/// The database.
pub(crate) struct Db {
    engine: Engine,
    bell: Arc<Notify>,
    /// The task that hears other processes' bells (PostgreSQL only); ends with the database.
    ear: Option<tokio::task::AbortHandle>,
}

enum Engine {
    Sqlite { readers: sqlx::SqlitePool, writer: Writer, options: Box<SqliteConnectOptions> },
    Postgres { pool: sqlx::PgPool },
}

impl Db {
    /// Connects by URL; `bell` is rung after a commit that made something due.
    ///
    /// # Errors
    /// When the URL is none of ours or the database does not answer.
    pub(crate) async fn open(url: &str, bell: Arc<Notify>) -> Result<Self> {
        if url.starts_with("sqlite:") {
            Self::open_sqlite(url, bell).await
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Self::open_postgres(url, bell).await
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
        let mut tx = match &self.engine {
            Engine::Sqlite { readers, .. } => Tx::sqlite_read(readers.begin().await?),
            Engine::Postgres { pool } => Tx::postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?),
        };
        let answer = f(&mut tx).await;
        tx.rollback().await?;
        answer
    }

    /// Writes: all of the closure or, if it errs, nothing. Answered only once it is durable.
    pub(crate) async fn write<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        let (answer, rings) = match &self.engine {
            Engine::Sqlite { writer, .. } => writer.write(f).await?,
            Engine::Postgres { pool } => write_postgres(pool, f).await?,
        };
        if rings {
            self.ring();
        }
        Ok(answer)
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
            Engine::Postgres { pool } => pool.close().await,
        }
    }

    /// The database file, on SQLite.
    pub(crate) fn file(&self) -> Option<std::path::PathBuf> {
        match &self.engine {
            Engine::Sqlite { options, .. } => Some(options.get_filename().to_path_buf()),
            Engine::Postgres { .. } => None,
        }
    }

    async fn open_sqlite(url: &str, bell: Arc<Notify>) -> Result<Self> {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(Error::Url("A database in memory forgets what it acknowledged; name a file: sqlite://ponte.db.".to_owned()));
        }
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|_| Error::Url("The SQLite URL must look like sqlite://ponte.db or sqlite:///var/lib/ponte/ponte.db.".to_owned()))?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Acknowledged means durable, through a power cut too.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let writer = Writer::open(options.clone()).await?;
        let readers = SqlitePoolOptions::new().max_connections(8).connect_lazy_with(options.clone().pragma("query_only", "ON"));
        Ok(Self { engine: Engine::Sqlite { readers, writer, options: Box::new(options) }, bell, ear: None })
    }

    async fn open_postgres(url: &str, bell: Arc<Notify>) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| Error::Url("The PostgreSQL URL must look like postgres://user:password@host:5432/database.".to_owned()))?
            .application_name("ponte");
        let pool = PgPoolOptions::new().max_connections(POOL).acquire_timeout(Duration::from_secs(30)).connect_with(options).await?;
        let ear = tokio::spawn(listen(pool.clone(), bell.clone())).abort_handle();
        Ok(Self { engine: Engine::Postgres { pool }, bell, ear: Some(ear) })
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Some(ear) = &self.ear {
            ear.abort();
        }
    }
}

async fn write_postgres<T, F>(pool: &sqlx::PgPool, f: F) -> Result<(T, bool)>
where
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone,
{
    let mut run = 1;
    loop {
        let mut tx = Tx::postgres(pool.begin().await?);
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
                tx.rollback().await?;
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
