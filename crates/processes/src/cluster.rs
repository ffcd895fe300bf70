//! PostgreSQL servers of our own: started, restarted, copied into a standby, killed, promoted.

use sqlx::{Connection as _, PgConnection, Row as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testing::{Binaries, free_port};

/// One server with its data.
#[derive(Debug)]
pub struct Server {
    binaries: Binaries,
    data: PathBuf,
    port: u16,
    frozen: bool,
    gone: bool,
}

impl Server {
    /// A fresh one. Nothing of its durability is turned off.
    pub fn fresh(folder: &Path) -> Result<Self, String> {
        let binaries =
            Binaries::find().ok_or("There is no PostgreSQL: initdb and pg_ctl were not found (Debian: apt install postgresql).")?;
        let server = Self::at(binaries, folder)?;
        let data = server.data.display().to_string();
        server.run("initdb", &["-D", &data, "-A", "trust", "-U", "ponte", "-E", "UTF8", "--locale=C"])?;
        server.start()?;
        Ok(server)
    }

    /// A standby of this one: a copy that streams.
    pub fn standby(&self, folder: &Path) -> Result<Self, String> {
        let standby = Self::at(self.binaries.clone(), folder)?;
        let (port, data) = (self.port.to_string(), standby.data.display().to_string());
        standby.run("pg_basebackup", &["-h", "127.0.0.1", "-p", &port, "-U", "ponte", "-D", &data, "-R", "-X", "stream", "-c", "fast"])?;
        standby.start()?;
        Ok(standby)
    }

    fn at(binaries: Binaries, folder: &Path) -> Result<Self, String> {
        let port = free_port().map_err(|why| format!("No port is free: {why}."))?;
        let data = folder.join(format!("postgres-{port}"));
        let closed = || std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700));
        binaries.make_folder(&data).and_then(|()| closed()).map_err(|why| format!("{}: {why}", data.display()))?;
        Ok(Self { binaries, data, port, frozen: false, gone: false })
    }

    /// What to open.
    pub fn url(&self) -> String {
        format!("postgres://ponte@127.0.0.1:{}/postgres", self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Runs a program that leaves nothing behind, to its end.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        let done = self.binaries.command(program).args(arguments).current_dir("/").output().map_err(|why| format!("{program}: {why}"))?;
        let said = String::from_utf8_lossy(&done.stderr);
        if done.status.success() { Ok(()) } else { Err(format!("{program} {}: {}", arguments.join(" "), said.trim())) }
    }

    /// `pg_ctl`, whose server would hold our pipes open for ever.
    fn control(&self, arguments: &[&str]) -> Result<(), String> {
        let done = self.binaries.run("pg_ctl", arguments).map_err(|why| format!("pg_ctl: {why}"))?;
        let log = self.data.join("server.log").display().to_string();
        if done.status.success() { Ok(()) } else { Err(format!("pg_ctl {}: {}; see {log}", arguments.join(" "), done.status)) }
    }

    fn start(&self) -> Result<(), String> {
        let options = format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200", self.port);
        let (data, log) = (self.data.display().to_string(), self.data.join("server.log").display().to_string());
        self.control(&["start", "-w", "-t", "60", "-D", &data, "-l", &log, "-o", &options])
    }

    /// `immediate`: as after a crash. `fast`: everybody is disconnected.
    pub fn restart(&self, mode: &str) -> Result<(), String> {
        self.control(&["stop", "-w", "-t", "60", "-m", mode, "-D", &self.data.display().to_string()])?;
        self.start()
    }

    /// Makes a standby the primary; back when it takes writes.
    pub fn promote(&self) -> Result<(), String> {
        self.control(&["promote", "-w", "-t", "60", "-D", &self.data.display().to_string()])
    }

    /// kill -9 of all its processes; its data is removed: it never comes back.
    pub fn vanish(&mut self) {
        self.signal("KILL");
        self.gone = true;
        let _ = std::fs::remove_dir_all(&self.data);
    }

    /// All its processes stand still. Its connections live, and nobody answers: so it is with a machine that is gone.
    pub fn freeze(&mut self) {
        self.signal("STOP");
        self.frozen = true;
    }

    fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let Some(postmaster) = pid.lines().next().and_then(|line| line.parse::<u32>().ok()) else { return };
        // The postmaster first: it would begin to recover from its children's death.
        let all = std::iter::once(postmaster).chain(children(postmaster)).map(|id| id.to_string());
        // One may have ended between the look and the signal.
        let _ = Command::new("kill").arg(format!("-{name}")).args(all).stderr(Stdio::null()).status();
    }

    /// Runs a statement.
    pub async fn say(&self, sql: &'static str) -> Result<(), String> {
        let mut conn = self.connect().await?;
        sqlx::raw_sql(sql).execute(&mut conn).await.map(drop).map_err(|why| why.to_string())
    }

    /// A connection of our own.
    pub async fn connect(&self) -> Result<PgConnection, String> {
        PgConnection::connect(&self.url()).await.map_err(|why| why.to_string())
    }

    /// From now on a commit is answered only when the standby has it too (`how`: `on`, or `remote_apply`).
    pub async fn commit_on_both(&self, remote_apply: bool) -> Result<(), String> {
        if remote_apply {
            self.say("ALTER SYSTEM SET synchronous_commit = 'remote_apply'").await?;
        }
        self.say("ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
        self.say("SELECT pg_reload_conf()").await?;
        let started = Instant::now();
        let mut conn = self.connect().await?;
        loop {
            let row =
                sqlx::raw_sql("SELECT count(*)::text AS n FROM pg_stat_replication WHERE sync_state = 'sync'").fetch_one(&mut conn).await;
            if row.and_then(|row| row.try_get::<String, _>("n")).is_ok_and(|n| n == "1") {
                break;
            }
            if started.elapsed() > Duration::from_secs(30) {
                return Err("The standby does not become synchronous.".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // A commit that waits for the standby shows that the reload has reached those who commit.
        self.say("CREATE TABLE IF NOT EXISTS play_marks (n INT); INSERT INTO play_marks VALUES (1)").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }
}

fn children(parent: u32) -> Vec<u32> {
    let of = |stat: &str| -> Option<u32> { stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok() };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| std::fs::read_to_string(format!("/proc/{id}/stat")).ok().and_then(|stat| of(&stat)) == Some(parent)).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.frozen {
            self.vanish();
        } else if !self.gone {
            let _ = self.control(&["stop", "-m", "immediate", "-D", &self.data.display().to_string()]);
        }
    }
}
