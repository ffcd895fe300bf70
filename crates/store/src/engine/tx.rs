//! One transaction on either engine, its statements, their values and rows.

use super::Lasting;
use super::sqlite::{Sqlite, SqliteRow};
use crate::{Error, Result, Way};
use model::{AttemptId, DeliveryId, EhrId, ObservationId, PatientId, RunId, TenantId, Timestamp};
use sqlx::{Postgres, Row as _, Transaction};
use std::collections::BTreeMap;

/// A statement: the same text on both engines, or one each. Parameters are `$1`, `$2` … on both.
///
/// SQLite plans a prepared statement anew whenever a value is bound that its plan may depend on: of `LIMIT $1`, and of `state = $1` where
/// a partial index names a state. On the way of every row stand literals, `state = CAST($1 AS TEXT)` and `LIMIT CAST($1 AS BIGINT)`; a debug
/// build breaks off where it is forgotten, but for pages of lists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sql {
    /// For SQLite.
    pub(crate) sqlite: &'static str,
    /// For PostgreSQL.
    pub(crate) postgres: &'static str,
}

impl From<&'static str> for Sql {
    fn from(both: &'static str) -> Self {
        Self { sqlite: both, postgres: both }
    }
}

/// A `SELECT` that locks its rows until the end of the transaction (on SQLite the whole transaction is alone anyway).
macro_rules! locking {
    ($sql:literal) => {
        $crate::engine::Sql { sqlite: $sql, postgres: concat!($sql, " FOR UPDATE") }
    };
}
pub(crate) use locking;

/// A bound value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// TEXT.
    Text(Option<String>),
    /// BIGINT.
    Int(Option<i64>),
    /// BOOLEAN.
    Bool(Option<bool>),
    /// DOUBLE PRECISION.
    Float(Option<f64>),
    /// BYTEA, BLOB.
    Bytes(Option<Vec<u8>>),
}

/// `args![a, b, c]`: values of different types, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::engine::Value::from($value)),*] };
}
pub(crate) use args;

macro_rules! value_from {
    ($($type:ty, $x:ident => $kind:ident $value:expr;)+) => {$(
        impl From<$type> for Value {
            fn from($x: $type) -> Self { Self::$kind(Some($value)) }
        }
        impl From<Option<$type>> for Value {
            fn from(x: Option<$type>) -> Self { Self::$kind(x.map(|$x| $value)) }
        }
    )+};
}
value_from! {
    &str, x => Text x.to_owned();
    &String, x => Text x.clone();
    String, x => Text x;
    i64, x => Int x;
    i32, x => Int i64::from(x);
    u32, x => Int i64::from(x);
    u16, x => Int i64::from(x);
    bool, x => Bool x;
    f64, x => Float x;
    Vec<u8>, x => Bytes x;
    Timestamp, x => Int x.0;
    uuid::Uuid, x => Text x.to_string();
    PatientId, x => Text x.to_string();
    ObservationId, x => Text x.to_string();
    DeliveryId, x => Text x.to_string();
    AttemptId, x => Text x.to_string();
    RunId, x => Text x.to_string();
    &TenantId, x => Text x.as_str().to_owned();
    TenantId, x => Text String::from(x);
    &EhrId, x => Text x.as_str().to_owned();
    EhrId, x => Text String::from(x);
}

/// One transaction.
pub(crate) struct Tx {
    conn: Conn,
    /// Whether a prepared statement may be kept beyond this transaction.
    keeps: bool,
    disturbed: bool,
    rings: bool,
    counts: Counts,
}

/// What is still to be added to the kept counters: tenant, shard, state.
type Counts = BTreeMap<(String, i64, String), i64>;

enum Conn {
    /// Whoever made the transaction begins and ends it.
    Sqlite(Sqlite),
    Postgres(Transaction<'static, Postgres>),
}

/// Runs a bound query on PostgreSQL.
macro_rules! run {
    ($self:ident, $tx:ident, $sql:expr, $args:expr, $method:ident) => {{
        let mut query = sqlx::query($sql.postgres);
        for value in $args {
            query = match value {
                Value::Text(x) => query.bind(x),
                Value::Int(x) => query.bind(x),
                Value::Bool(x) => query.bind(x),
                Value::Float(x) => query.bind(x),
                Value::Bytes(x) => query.bind(x),
            };
        }
        let done = query.persistent($self.keeps).$method(&mut **$tx).await;
        done.map_err(|error| {
            $self.disturbed |= is_disturbance(&error);
            Error::from(error)
        })
    }};
}

impl Tx {
    pub(super) fn sqlite(conn: Sqlite) -> Self {
        Self { conn: Conn::Sqlite(conn), keeps: true, disturbed: false, rings: false, counts: Counts::new() }
    }

    /// See [`Sqlite::set_lasting`].
    pub(super) fn set_lasting(&mut self, lasting: Lasting) -> Result<()> {
        match &mut self.conn {
            Conn::Sqlite(conn) => conn.set_lasting(lasting),
            Conn::Postgres(_) => Ok(()),
        }
    }

    /// The connection, for who comes next.
    pub(super) fn into_sqlite(self) -> Option<Sqlite> {
        match self.conn {
            Conn::Sqlite(conn) => Some(conn),
            Conn::Postgres(_) => None,
        }
    }

    pub(super) fn postgres(tx: Transaction<'static, Postgres>, way: Way) -> Self {
        Self { conn: Conn::Postgres(tx), keeps: way == Way::Direct, disturbed: false, rings: false, counts: Counts::new() }
    }

    /// Runs a statement; says how many rows it touched.
    pub(crate) async fn execute(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<u64> {
        let sql: Sql = sql.into();
        match &mut self.conn {
            Conn::Sqlite(conn) => conn.execute(sql.sqlite, &args),
            Conn::Postgres(tx) => run!(self, tx, sql, args, execute).map(|done| done.rows_affected()),
        }
    }

    /// All rows of a query.
    pub(crate) async fn rows(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<Vec<Row>> {
        let sql: Sql = sql.into();
        match &mut self.conn {
            Conn::Sqlite(conn) => Ok(conn.rows(sql.sqlite, &args, usize::MAX)?.into_iter().map(Row::Sqlite).collect()),
            Conn::Postgres(tx) => Ok(run!(self, tx, sql, args, fetch_all)?.into_iter().map(Row::Postgres).collect()),
        }
    }

    /// The first row of a query, if there is one.
    pub(crate) async fn row(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<Option<Row>> {
        let sql: Sql = sql.into();
        match &mut self.conn {
            Conn::Sqlite(conn) => Ok(conn.rows(sql.sqlite, &args, 1)?.pop().map(Row::Sqlite)),
            Conn::Postgres(tx) => Ok(run!(self, tx, sql, args, fetch_optional)?.map(Row::Postgres)),
        }
    }

    /// Adds to a kept counter when the write ends: a hundred rows that move alike are one addition.
    pub(crate) fn count(&mut self, tenant: &TenantId, shard: i64, state: &str, by: i64) {
        *self.counts.entry((tenant.as_str().to_owned(), shard, state.to_owned())).or_default() += by;
    }

    /// Ends a write: its counters, always in the same order, so that two transactions do not wait for each other in a ring.
    pub(super) async fn write_counts(&mut self) -> Result<()> {
        for ((tenant, shard, state), by) in std::mem::take(&mut self.counts) {
            if by != 0 {
                self.execute(
                    "INSERT INTO counters (tenant_id, shard, state, n) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (tenant_id, shard, state) DO UPDATE SET n = counters.n + excluded.n",
                    args![tenant, shard, state, by],
                )
                .await?;
            }
        }
        Ok(())
    }

    /// Forgets what a write that failed would have counted.
    pub(super) fn forget_counts(&mut self) {
        self.counts.clear();
    }

    /// Whether nobody else writes meanwhile, so that no row needs a lock.
    pub(crate) fn is_alone(&self) -> bool {
        !matches!(self.conn, Conn::Postgres(_))
    }

    /// Something of this process may be due once this is committed. `idle_lane`: a lane that nobody watches has become
    /// due, so the other nodes hear of it too (PostgreSQL takes a database-wide lock for each NOTIFY at commit, so only then).
    pub(crate) async fn wake(&mut self, idle_lane: bool) -> Result<()> {
        self.rings = true;
        if idle_lane && matches!(self.conn, Conn::Postgres(_)) {
            self.execute("SELECT pg_notify('ponte', '')", args![]).await?;
        }
        Ok(())
    }

    /// Whether a statement failed because of somebody else's transaction: run it again.
    pub(super) fn disturbed(&self) -> bool {
        self.disturbed
    }

    /// Takes the wish to ring the bell.
    pub(super) fn take_rings(&mut self) -> bool {
        std::mem::take(&mut self.rings)
    }

    /// Commits on PostgreSQL; says whether to ring, or what failed and whether to try again.
    pub(super) async fn commit(self) -> Result<bool, (Error, bool)> {
        if let Conn::Postgres(tx) = self.conn {
            tx.commit().await.map_err(|error| {
                let again = is_disturbance(&error);
                (error.into(), again)
            })?;
        }
        Ok(self.rings)
    }

    /// Ends a transaction on PostgreSQL that is not to hold. A connection that broke is gone, and its transaction with it.
    pub(super) async fn rollback(self) {
        if let Conn::Postgres(tx) = self.conn {
            let _ = tx.rollback().await;
        }
    }
}

/// Serialization failure, deadlock, or a row that somebody else inserted first: the next run sees it.
fn is_disturbance(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("40001" | "40P01" | "23505"))
}

/// One row, read by column name. A column that is not there or of another type is a mistake of ours.
pub(crate) enum Row {
    /// SQLite's.
    Sqlite(SqliteRow),
    /// PostgreSQL's.
    Postgres(sqlx::postgres::PgRow),
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)+) => {$(
        $(#[$doc])*
        pub(crate) fn $name(&self, column: &str) -> Result<$type> {
            Ok(match self {
                Self::Sqlite(row) => row.get(column)?,
                Self::Postgres(row) => row.try_get(column)?,
            })
        }
    )+};
}

impl Row {
    getters! {
        /// TEXT NOT NULL.
        text -> String;
        /// TEXT.
        text_opt -> Option<String>;
        /// BIGINT NOT NULL.
        int -> i64;
        /// BIGINT.
        int_opt -> Option<i64>;
        /// BOOLEAN NOT NULL.
        boolean -> bool;
        /// BOOLEAN.
        boolean_opt -> Option<bool>;
        /// DOUBLE PRECISION NOT NULL.
        float -> f64;
        /// Bytes NOT NULL.
        bytes -> Vec<u8>;
        /// Bytes.
        bytes_opt -> Option<Vec<u8>>;
    }

    /// A moment, NOT NULL.
    pub(crate) fn ts(&self, column: &str) -> Result<Timestamp> {
        self.int(column).map(Timestamp)
    }

    /// A moment.
    pub(crate) fn ts_opt(&self, column: &str) -> Result<Option<Timestamp>> {
        Ok(self.int_opt(column)?.map(Timestamp))
    }

    /// An id, NOT NULL.
    pub(crate) fn uuid(&self, column: &str) -> Result<uuid::Uuid> {
        uuid::Uuid::parse_str(&self.text(column)?).map_err(|_| Error::Corrupt("ids"))
    }

    /// An id.
    pub(crate) fn uuid_opt(&self, column: &str) -> Result<Option<uuid::Uuid>> {
        self.text_opt(column)?.map(|text| uuid::Uuid::parse_str(&text).map_err(|_| Error::Corrupt("ids"))).transpose()
    }

    /// Whose row it is (column `tenant_id`).
    pub(crate) fn tenant(&self) -> Result<TenantId> {
        TenantId::new(self.text("tenant_id")?).map_err(|_| Error::Corrupt("tenants"))
    }

    /// A count that is never negative.
    pub(crate) fn count(&self, column: &str) -> Result<u32> {
        Ok(u32::try_from(self.int(column)?).unwrap_or(0))
    }

    /// An EHR id.
    pub(crate) fn ehr_id_opt(&self, column: &str) -> Result<Option<EhrId>> {
        self.text_opt(column)?.map(|text| EhrId::new(text).map_err(|_| Error::Corrupt("EHR ids"))).transpose()
    }
}
