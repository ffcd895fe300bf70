//! Whether a pooler in transaction mode stands between us and PostgreSQL.
//!
//! There a prepared statement's name means what the last client of that server connection gave it: our statement could run as
//! another node's. So nobody may stumble into it.

use crate::Result;
use sqlx::{PgConnection, Row as _};

/// What to do about it.
pub(super) const UNKNOWN: &str = "Between Ponte and PostgreSQL stands a pooler in transaction mode (PgBouncer with pool_mode=transaction), where \
     prepared statements of one node would run as another's. Set PONTE_DATABASE_POOLED=true, or give the server's own address.";

/// How often both connections are asked. A pooler gives its last used server connection to whoever comes next, or each in
/// turn; both show at the first or second time unless others ask at the very same moment.
const TIMES: usize = 4;

/// Two open connections that are served by one process of the server, or one that is served by two.
pub(super) async fn stands_between(pool: &sqlx::PgPool) -> Result<bool> {
    let (mut one, mut other) = (pool.acquire().await?, pool.acquire().await?);
    let (of_one, of_other) = (server_process(&mut one).await?, server_process(&mut other).await?);
    let mut shared = of_one == of_other;
    for _ in 1..TIMES {
        shared |= server_process(&mut one).await? != of_one || server_process(&mut other).await? != of_other;
    }
    Ok(shared)
}

async fn server_process(conn: &mut PgConnection) -> Result<String> {
    // A simple query: it leaves no statement behind that somebody else could meet.
    Ok(sqlx::raw_sql("SELECT CAST(pg_backend_pid() AS TEXT) AS pid").fetch_one(conn).await?.try_get("pid")?)
}
