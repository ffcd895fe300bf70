//! What tests stand on: fresh databases (a SQLite file, and a database on a PostgreSQL that is found or started), time and
//! chance of their own, the mark of our version on what the sandbox holds, and how much memory a test took.
//!
//! PostgreSQL is the one at `PONTE_TEST_PG_URL` (a role that may create databases), or one that the first test starts from
//! the `initdb` and `pg_ctl` of this machine and that all test binaries share until none is left. Where there is neither,
//! only SQLite is tested and one line says so; with `PONTE_TEST_REQUIRE_PG=1` that is a failure.

mod binaries;
mod chance;
mod mark;
mod memory;
mod server;

pub use binaries::Binaries;
pub use chance::{Dice, Hand};
pub use mark::mark;
pub use memory::Peak;

use sqlx::{ConnectOptions, Executor, PgConnection};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

/// An empty database of its own, gone when it is dropped.
#[derive(Debug)]
pub struct Database {
    engine: Engine,
    url: String,
    home: Home,
}

#[derive(Debug)]
enum Home {
    Folder { folder: tempfile::TempDir, file: PathBuf },
    Server { admin: String, name: String },
}

impl Database {
    /// What to open.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Which engine it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The SQLite file; its WAL and marker stand beside it.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.home {
            Home::Folder { file, .. } => Some(file),
            Home::Server { .. } => None,
        }
    }

    /// The folder of the SQLite file.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match &self.home {
            Home::Folder { folder, .. } => Some(folder.path()),
            Home::Server { .. } => None,
        }
    }
}

/// One fresh database of each engine that can be had.
///
/// # Panics
/// When a database cannot be made, or PostgreSQL is required and not to be had.
pub async fn databases() -> Vec<Database> {
    let mut all = vec![sqlite()];
    all.extend(postgres().await);
    all
}

/// A fresh SQLite file.
///
/// # Panics
/// When there is no place for it.
#[must_use]
#[allow(clippy::expect_used, reason = "a test that has no database has to end here")]
pub fn sqlite() -> Database {
    let folder = tempfile::Builder::new().prefix("ponte-test-").tempdir().expect("a folder for a SQLite file");
    let file = folder.path().join("ponte.db");
    Database { engine: Engine::Sqlite, url: format!("sqlite://{}", file.display()), home: Home::Folder { folder, file } }
}

/// A fresh database on PostgreSQL, if there is one.
///
/// # Panics
/// When it is there and makes no database, or it is required and not to be had.
#[allow(clippy::panic, reason = "a test that has no database has to end here")]
pub async fn postgres() -> Option<Database> {
    let admin = match tokio::task::spawn_blocking(server::admin_url).await {
        Ok(Some(admin)) => admin,
        _ => return None,
    };
    let name = format!("ponte_test_{}", uuid::Uuid::now_v7().simple());
    let mut last = String::new();
    for try_again in 0..10u64 {
        match create(&admin, &name).await {
            Ok(url) => {
                return Some(Database { engine: Engine::Postgres, url, home: Home::Server { admin, name } });
            }
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(50 * (try_again + 1))).await;
    }
    panic!("PostgreSQL is there but makes no database: {last}");
}

async fn create(admin: &str, name: &str) -> Result<String, sqlx::Error> {
    let options = sqlx::postgres::PgConnectOptions::from_str(admin)?.disable_statement_logging();
    let mut conn: PgConnection = options.connect().await?;
    // The name is ours: hexadecimal behind a fixed word.
    conn.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
    Ok(options.database(name).to_url_lossy().to_string())
}

async fn remove(admin: &str, name: &str) -> Result<(), sqlx::Error> {
    let mut conn: PgConnection = sqlx::postgres::PgConnectOptions::from_str(admin)?.connect().await?;
    conn.execute(sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))).await?;
    Ok(())
}

impl Drop for Database {
    fn drop(&mut self) {
        let Home::Server { admin, name } = &self.home else { return };
        let (admin, name) = (admin.clone(), name.clone());
        // A test's own runtime may be ending: the farewell gets one of its own.
        let farewell = std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), remove(&admin, &name)).await });
            }
        });
        let _ = farewell.join();
    }
}
