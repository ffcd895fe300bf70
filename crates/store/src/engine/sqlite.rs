//! SQLite, called where the work is: a statement is a call of a function, not a message to another thread.
//!
//! `sqlx` sends every statement to a thread of its connection and waits for the answer. A transaction of ours has about ten of them, so
//! the two threads spent more on waking each other than on the work. Here a whole transaction runs on one thread ([`apart`]).

use super::{Lasting, Tx, Value};
use crate::{Error, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row as Found, Statement, StatementStatus, ToSql};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections that read at once.
const READERS: usize = 8;
/// Prepared statements that one connection keeps: all there are.
const STATEMENTS: usize = 512;
/// Pages that the writer keeps: 16 MiB (SQLite counts in KiB where the number is negative).
const WRITERS_CACHE: i64 = -16_384;
/// Pages in the write-ahead log before they are folded into the file: 16 MiB. A page that many commits change is folded once.
const LOG_PAGES: i64 = 4096;
/// How long one try waits while another process writes.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    Read,
    Write,
}

/// One connection.
pub(super) struct Sqlite {
    conn: Connection,
    /// The names of the columns of each statement that was read.
    columns: HashMap<&'static str, Columns>,
    /// What the commits to come are to survive.
    lasting: Lasting,
}

type Columns = Arc<[Box<str>]>;

/// One row: its values, by the names of its columns.
pub(crate) struct SqliteRow {
    columns: Columns,
    values: Vec<rusqlite::types::Value>,
}

impl Sqlite {
    /// Opens the file, and makes it if there is none.
    pub(super) fn open(file: &std::path::Path, what_for: Use) -> Result<Self> {
        let conn = Connection::open(file)?;
        conn.busy_timeout(BUSY)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        // Acknowledged means durable, through a power cut too.
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "foreign_keys", "ON")?;
        match what_for {
            Use::Read => conn.pragma_update(None, "query_only", "ON")?,
            Use::Write => {
                // What others commit empties a connection's cache; nobody else commits here, so it is worth having.
                conn.pragma_update(None, "cache_size", WRITERS_CACHE)?;
                conn.pragma_update_and_check(None, "wal_autocheckpoint", LOG_PAGES, |_| Ok(()))?;
            }
        }
        Ok(Self { conn, columns: HashMap::new(), lasting: Lasting::OnDisk })
    }

    /// What the commits to come are to survive. One that goes to the disk carries those before it there.
    pub(super) fn set_lasting(&mut self, lasting: Lasting) -> Result<()> {
        if self.lasting != lasting {
            let synchronous = match lasting {
                Lasting::UntilPowerCut => "NORMAL",
                Lasting::OnDisk => "FULL",
            };
            self.conn.pragma_update(None, "synchronous", synchronous)?;
            self.lasting = lasting;
        }
        Ok(())
    }

    /// Runs a statement; says how many rows it touched.
    pub(super) fn execute(&mut self, sql: &'static str, args: &[Value]) -> Result<u64> {
        let mut statement = self.conn.prepare_cached(sql)?;
        bind(&mut statement, args)?;
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        drop(rows);
        never_planned_anew(&statement, sql);
        Ok(self.conn.changes())
    }

    /// The rows of a query, at most so many.
    pub(super) fn rows(&mut self, sql: &'static str, args: &[Value], most: usize) -> Result<Vec<SqliteRow>> {
        let mut statement = self.conn.prepare_cached(sql)?;
        bind(&mut statement, args)?;
        let mut all = Vec::new();
        let mut rows = statement.raw_query();
        let mut columns = None;
        while all.len() < most
            && let Some(row) = rows.next()?
        {
            let columns = match &columns {
                Some(columns) => Arc::clone(columns),
                None => columns.insert(names(&mut self.columns, sql, row.as_ref())).clone(),
            };
            let values = (0..columns.len()).map(|at| owned(row, at)).collect::<rusqlite::Result<_>>()?;
            all.push(SqliteRow { columns, values });
        }
        drop(rows);
        never_planned_anew(&statement, sql);
        Ok(all)
    }
}

/// Nobody would see it but by the time it takes (see [`super::Sql`]). The schema may change a few times, and a page of a list is found
/// the better for a plan that knows how long it is.
fn never_planned_anew(statement: &Statement<'_>, sql: &str) {
    let anew = || statement.get_status(StatementStatus::RePrepare) > 8 && !sql.contains("LIMIT $");
    debug_assert!(!anew(), "SQLite plans this statement anew each time: {sql}");
}

/// The names of a statement's columns. SQLite prepares it anew when the schema has changed under it, so their number is looked at.
fn names(kept: &mut HashMap<&'static str, Columns>, sql: &'static str, statement: &Statement<'_>) -> Columns {
    match kept.get(sql) {
        Some(columns) if columns.len() == statement.column_count() => columns.clone(),
        _ => {
            let columns: Columns = statement.column_names().into_iter().map(Box::from).collect();
            kept.insert(sql, columns.clone());
            columns
        }
    }
}

fn owned(row: &Found<'_>, at: usize) -> rusqlite::Result<rusqlite::types::Value> {
    row.get_ref(at)?.try_into().map_err(|_| rusqlite::Error::InvalidColumnIndex(at))
}

/// Binds by the number in a parameter's name: SQLite itself numbers `$2, $1` by their order in the text.
fn bind(statement: &mut Statement<'_>, args: &[Value]) -> Result<()> {
    for place in 1..=statement.parameter_count() {
        let number = statement.parameter_name(place).and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
        let value = number.and_then(|number| args.get(number - 1));
        let value = value.ok_or_else(|| Error::Database("a statement has a parameter without a value".to_owned()))?;
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Text(x) => x.as_ref().map(|x| ValueRef::Text(x.as_bytes())),
            Self::Int(x) => x.map(ValueRef::Integer),
            Self::Bool(x) => x.map(|x| ValueRef::Integer(i64::from(x))),
            Self::Float(x) => x.map(ValueRef::Real),
            Self::Bytes(x) => x.as_ref().map(|x| ValueRef::Blob(x)),
        };
        Ok(ToSqlOutput::Borrowed(value.unwrap_or(ValueRef::Null)))
    }
}

impl SqliteRow {
    /// The value of a column, as what it is wanted for.
    pub(super) fn get<T: rusqlite::types::FromSql>(&self, column: &str) -> Result<T> {
        let at = self.columns.iter().position(|name| **name == *column);
        let value = at.and_then(|at| self.values.get(at)).ok_or_else(|| Error::Database(format!("no column {column}")))?;
        T::column_result(value.into()).map_err(|_| Error::Database(format!("column {column} is of another type")))
    }
}

/// The connections that read.
pub(super) struct Readers {
    file: PathBuf,
    free: Arc<Mutex<Vec<Sqlite>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// None is opened before it is needed.
    pub(super) fn of(file: PathBuf) -> Self {
        Self { file, free: Arc::default(), permits: Arc::new(Semaphore::new(READERS)) }
    }

    /// Runs `f` in one consistent picture of the database.
    pub(super) async fn read<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let closed = |_| Error::Database("the connection is closed".to_owned());
        let permit = self.permits.clone().acquire_owned().await.map_err(closed)?;
        let (file, free) = (self.file.clone(), self.free.clone());
        apart(move || {
            // Given back last.
            let _permit = permit;
            let taken = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut conn = taken.map_or_else(|| Sqlite::open(&file, Use::Read), Ok)?;
            conn.execute("BEGIN", &[])?;
            let mut tx = Tx::sqlite(conn);
            let answer = at_once(f(&mut tx));
            if let Some(mut conn) = tx.into_sqlite() {
                conn.execute("ROLLBACK", &[])?;
                free.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            }
            answer
        })
        .await
    }

    /// Waits for those who read, and closes all connections.
    pub(super) async fn close(&self) {
        let all = self.permits.acquire_many(u32::try_from(READERS).unwrap_or(u32::MAX)).await;
        self.permits.close();
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
        drop(all);
    }
}

/// The answer of a transaction on SQLite: nothing in one is ever waited for.
pub(super) fn at_once<T>(transaction: impl Future<Output = Result<T>>) -> Result<T> {
    let waited = || Err(Error::Database("a transaction of ours waited for something else than the database".to_owned()));
    transaction.now_or_never().unwrap_or_else(waited)
}

/// Runs what blocks where it holds nobody up. A runtime of one thread has nobody else to serve: there it runs at once, which also
/// makes a simulated world the same each time.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if has_one_thread() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(broke) => match broke.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and whoever waits with it.
            Err(_) => futures::future::pending().await,
        },
    }
}

/// The same in a task of its own.
pub(super) fn beside(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    if has_one_thread() { tokio::spawn(async move { work() }) } else { tokio::task::spawn_blocking(work) }
}

fn has_one_thread() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}
