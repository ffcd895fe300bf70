//! PgBouncer in transaction mode before a PostgreSQL: after each transaction a server connection is anybody's.

use crate::{Binaries, free_port};
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// It runs until this is dropped.
#[derive(Debug)]
pub struct Pooler {
    binaries: Binaries,
    program: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    url: String,
    child: Child,
}

impl Pooler {
    /// Before the server of this URL (one that asks for no password), with so many connections to it. None: it is not
    /// installed, and one line says so.
    ///
    /// # Panics
    /// When it is there and does not start.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a test that has no pooler has to end here")]
    pub fn before(server: &str, connections: u32) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let program = folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file());
        let (Some(program), Some(binaries)) = (program, Binaries::find()) else {
            eprintln!("PgBouncer is not tested: it is not here. Install it (Debian: apt install pgbouncer).");
            return None;
        };
        let options = PgConnectOptions::from_str(server).expect("a URL of a PostgreSQL");
        let folder = tempfile::Builder::new().prefix("ponte-pooler-").tempdir().expect("a folder for PgBouncer");
        binaries.make_folder(folder.path()).expect("a folder for PgBouncer");
        let port = free_port().expect("a free port");
        let (host, at, user) = (options.get_host(), options.get_port(), options.get_username());
        let settings = format!(
            "[databases]\n* = host={host} port={at} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = 400\nlogfile = {}\n\
             pidfile = {}\nquery_wait_timeout = 20\nserver_login_retry = 1\n",
            folder.path().join("pgbouncer.log").display(),
            folder.path().join("pid").display()
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), settings).expect("a place for its settings");
        let url = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username(user);
        let url = url.database(options.get_database().unwrap_or("postgres")).to_url_lossy().to_string();
        let child = start(&binaries, &program, &folder);
        let pooler = Self { binaries, program, folder, port, url, child };
        pooler.listens();
        Some(pooler)
    }

    /// What to open instead of the server's own URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// kill -9, and another one at the same place.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn replace(&mut self) {
        self.end();
        self.child = start(&self.binaries, &self.program, &self.folder);
        self.listens();
    }

    fn end(&mut self) {
        // Where it runs as another user our child is `runuser`, and it is behind that.
        if let Ok(id) = std::fs::read_to_string(self.folder.path().join("pid")) {
            let _ = std::process::Command::new("kill").args(["-9", id.trim()]).stderr(Stdio::null()).status();
            let _ = std::fs::remove_file(self.folder.path().join("pid"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn listens(&self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "PgBouncer does not listen; see {}", self.folder.path().display());
            // A port that begins to listen is no event that can be waited for.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[allow(clippy::expect_used, reason = "a test that has no pooler has to end here")]
fn start(binaries: &Binaries, program: &std::path::Path, folder: &tempfile::TempDir) -> Child {
    let mut command = binaries.command(program);
    command.arg(folder.path().join("pgbouncer.ini"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").spawn().expect("PgBouncer starts")
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.end();
    }
}
