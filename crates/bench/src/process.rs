//! A process that is measured: what Linux says it has used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ticks a second in `/proc/PID/stat`: the same on every Linux (`proc(5)`, USER_HZ).
const TICKS: f64 = 100.0;
/// Base64 of 32 bytes.
pub const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
/// Long enough for HS256.
pub const SECRET: &str = "a secret of the bench, long enough for HS256";

/// Processor seconds of a process so far.
pub fn cpu_s(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}

/// A figure of `/proc/PID/status` (`VmRSS`, `VmHWM`), MiB.
pub fn memory_mib(pid: &str, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// The built `ponte`, which stands beside this program.
pub fn ponte() -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name("ponte");
    assert!(path.is_file(), "{} is not there: `cargo xtask bench` builds it", path.display());
    path
}

/// A `ponte serve`; ended when dropped.
pub struct Node {
    child: Child,
    pub pid: String,
    pub url: String,
}

impl Node {
    /// Starts one on the SQLite file of this folder and waits until it answers. Its log goes to a file there.
    pub async fn start(folder: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(ponte());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PONTE_")) {
            command.env_remove(name);
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("ponte.log")).unwrap();
        command.current_dir(folder).arg("serve").args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.env("PONTE_ENCRYPTION_KEY", KEY).env("PONTE_JWT_SECRET", SECRET).env("PONTE_LISTEN", &address);
        command.env("PONTE_DATABASE_URL", database(folder)).env("PONTE_EHR_ALLOW_LOCAL", "true");
        command.envs(settings.iter().copied());
        let child = command.spawn().unwrap();
        let node = Self { pid: child.id().to_string(), child, url: format!("http://{address}") };
        let client = reqwest::Client::new();
        let began = Instant::now();
        while client.get(format!("{}/health/live", node.url)).send().await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "ponte does not answer; see {}", folder.join("ponte.log").display());
            // A listener of another process is no event that could be awaited.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.pid]).status().unwrap();
        assert!(told.success());
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The database of a folder.
pub fn database(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("ponte.db").display())
}
