//! The schema: brought up to date by whoever comes first, and compared with what this binary knows.

use super::sqlite::BUSY;
use super::{Db, Engine, args};
use crate::{Error, Result, Way};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use std::sync::LazyLock;
use std::time::Duration;

static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("./migrations/postgres");
    // Its own lock belongs to a session, and behind a pooler nobody knows whose that is: `migrate_postgres` takes one of the transaction's.
    migrator.set_locking(false);
    migrator
});

impl Db {
    /// Applies what is missing. On PostgreSQL all of it is one transaction that holds an advisory lock; on SQLite a second
    /// process may lose the race for a migration, which is rolled back whole, so it simply looks again.
    pub(crate) async fn migrate(&self) -> Result<()> {
        match &self.engine {
            Engine::Postgres { pool, way, .. } => migrate_postgres(pool, *way).await,
            Engine::Sqlite { file, .. } => {
                let options = SqliteConnectOptions::new().filename(file).busy_timeout(BUSY);
                let mut tries = 1;
                loop {
                    let mut conn = options.connect().await?;
                    let done = SQLITE.run(&mut conn).await;
                    // Its thread would hold the file open for a while, and the file is whole once the last one has closed it.
                    let closed = conn.close().await;
                    match done {
                        Ok(()) => return Ok(closed?),
                        Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) if tries < 5 => tries += 1,
                        Err(error) => return Err(said(error)),
                    }
                    tokio::time::sleep(Duration::from_millis(100 * tries)).await;
                }
            }
        }
    }

    /// Whether the schema is the one that this binary was built with.
    pub(crate) async fn check_schema(&self) -> Result<()> {
        let migrator = match &self.engine {
            Engine::Postgres { .. } => &*POSTGRES,
            Engine::Sqlite { .. } => &SQLITE,
        };
        self.read(|tx| Box::pin(async move { tx.row("SELECT 1 AS one", args![]).await })).await?;
        let applied = self
            .read(|tx| {
                Box::pin(async move {
                    let rows = tx.rows("SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version", args![]).await?;
                    rows.iter()
                        .map(|row| Ok((row.int("version")?, row.boolean("success")?, row.bytes("checksum")?)))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .await
            .map_err(|_| Error::Schema("The database has no schema yet: run `ponte migrate`.".to_owned()))?;
        for migration in migrator.iter() {
            match applied.iter().find(|(version, ..)| *version == migration.version) {
                None => return Err(Error::Schema("The database is older than this binary: run `ponte migrate`.".to_owned())),
                Some((_, false, _)) => {
                    return Err(Error::Schema("A migration of the database broke off: run `ponte migrate` again.".to_owned()));
                }
                Some((_, true, checksum)) if checksum[..] != migration.checksum[..] => {
                    return Err(Error::Schema("The database was migrated by another build than this binary.".to_owned()));
                }
                Some(_) => {}
            }
        }
        if applied.iter().any(|(version, ..)| !migrator.version_exists(*version)) {
            return Err(Error::Schema("The database is newer than this binary: run the newer one.".to_owned()));
        }
        Ok(())
    }
}

async fn migrate_postgres(pool: &sqlx::PgPool, way: Way) -> Result<()> {
    let mut tx = pool.begin().await?;
    forget_statements(&mut tx, way).await?;
    sqlx::raw_sql("SELECT pg_advisory_xact_lock(hashtext('ponte'), hashtext('migrations'))").execute(&mut *tx).await?;
    // `run` would do the same, but its future may not move between threads (sqlx says so itself, beside `run_direct`).
    POSTGRES.run_direct(None, &mut *tx, false).await.map_err(said)?;
    forget_statements(&mut tx, way).await?;
    Ok(tx.commit().await?)
}

/// The migrator prepares statements by name; behind a pooler the next client of this connection would meet them.
async fn forget_statements(tx: &mut sqlx::PgConnection, way: Way) -> Result<()> {
    if way == Way::Pooled {
        sqlx::raw_sql("DEALLOCATE ALL").execute(tx).await?;
    }
    Ok(())
}

fn said(error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(_) => Error::Schema("The database is newer than this binary: run the newer one.".to_owned()),
        MigrateError::VersionMismatch(_) => Error::Schema("The database was migrated by another build than this binary.".to_owned()),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => Error::Schema(format!("The database could not be migrated: {other}.")),
    }
}
