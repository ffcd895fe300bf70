//! One PostgreSQL for all test binaries: started by whoever comes first, stopped when nobody uses it any more.

use crate::binaries::Binaries;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

/// The URL of a database from which others can be made; asked once per process.
pub(crate) fn admin_url() -> Option<String> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    URL.get_or_init(|| {
        if let Ok(url) = std::env::var("PONTE_TEST_PG_URL") {
            return Some(url);
        }
        match start() {
            Ok(url) => Some(url),
            Err(why) => {
                let required = std::env::var("PONTE_TEST_REQUIRE_PG").is_ok_and(|value| value == "1");
                assert!(!required, "PONTE_TEST_REQUIRE_PG is set and there is no PostgreSQL: {why}");
                eprintln!("PostgreSQL is not tested: {why}. Install it (Debian: apt install postgresql) or set PONTE_TEST_PG_URL.");
                None
            }
        }
    })
    .clone()
}

fn start() -> Result<String, String> {
    let binaries = Binaries::find().ok_or("no initdb and pg_ctl that may be run were found")?;
    let owner = std::env::var("USER").unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let folder = std::env::temp_dir().join(format!("ponte-testing-pg-{owner}"));
    let said = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    binaries.make_folder(&folder).map_err(said("its folder cannot be made"))?;
    let users = folder.join("users");
    fs::create_dir_all(&users).map_err(said("its folder cannot be made"))?;
    let lock = File::create(folder.join("lock")).map_err(said("its lock cannot be made"))?;
    lock.lock().map_err(said("its lock cannot be taken"))?;
    fs::write(users.join(std::process::id().to_string()), "").map_err(said("its folder cannot be written"))?;
    let data = folder.join("data");
    if let Some(port) = running(&binaries, &data) {
        return Ok(url(port));
    }
    if !data.join("PG_VERSION").exists() {
        let _ = fs::remove_dir_all(&data);
        let data = data.display().to_string();
        let made = binaries.run("initdb", &["-D", &data, "-A", "trust", "-U", "ponte", "-E", "UTF8", "--locale=C", "--no-sync"]);
        if !made.map_err(said("initdb does not run"))?.status.success() {
            return Err(format!("initdb failed in {data}"));
        }
    }
    for _ in 0..5 {
        let port = free_port().map_err(said("no port is free"))?;
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c synchronous_commit=off \
             -c full_page_writes=off -c max_connections=400 -c autovacuum=off"
        );
        let (at, log) = (data.display().to_string(), folder.join("data/server.log").display().to_string());
        let started = binaries.run("pg_ctl", &["start", "-w", "-t", "60", "-D", &at, "-l", &log, "-o", &options]);
        if started.map_err(said("pg_ctl does not run"))?.status.success() {
            watch(&binaries, &folder).map_err(said("its watcher does not run"))?;
            return Ok(url(port));
        }
    }
    Err(format!("it does not start; see {}", folder.join("data/server.log").display()))
}

/// The port of the server on this data, if it runs.
fn running(binaries: &Binaries, data: &Path) -> Option<u16> {
    let status = binaries.run("pg_ctl", &["status", "-D", &data.display().to_string()]).ok()?;
    if !status.status.success() {
        return None;
    }
    fs::read_to_string(data.join("postmaster.pid")).ok()?.lines().nth(3)?.trim().parse().ok()
}

/// Stops the server a minute after its last user's process has ended. Nothing of it outlives the tests for long.
///
/// The end is decided under the lock that newcomers take (where `flock` is, as on every Linux): whoever was told of the server keeps it.
fn watch(binaries: &Binaries, folder: &Path) -> std::io::Result<()> {
    const SCRIPT: &str = r#"used() {
  for user in "$1"/users/*; do
    [ -e "$user" ] || continue
    if [ -d "/proc/${user##*/}" ] || ps -p "${user##*/}" >/dev/null 2>&1; then return 0; fi
    rm -f "$user"
  done
  return 1
}
idle=0
while :; do
  while [ "$idle" -lt 12 ]; do
    sleep 5
    idle=$((idle + 1))
    if used "$1"; then idle=0; fi
  done
  exec 9</dev/null
  if [ -r "$1/lock" ] && command -v flock >/dev/null; then exec 9<"$1/lock"; flock 9; fi
  if ! used "$1"; then
    "$2" stop -D "$1/data" -m immediate >/dev/null 2>&1
    rm -rf "$1/data"
    exit
  fi
  exec 9<&-
  idle=0
done"#;
    let mut command = binaries.command(Path::new("/bin/sh"));
    command.arg("-c").arg(SCRIPT).arg("watch").arg(folder).arg(binaries.path("pg_ctl"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map(drop)
}

/// A port that nobody has now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn url(port: u16) -> String {
    format!("postgres://ponte@127.0.0.1:{port}/postgres")
}
