//! `pgbench` with one insert a transaction, against a PostgreSQL that is started for it and keeps its word (`fsync`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use testing::Binaries;

/// Inserts a second.
///
/// # Errors
/// What of PostgreSQL is not to be had here.
pub fn inserts(seconds: u64, callers: usize, row: usize) -> Result<f64, String> {
    let binaries = Binaries::find().ok_or("no initdb and pg_ctl that may be run were found")?;
    let folder = tempfile::Builder::new().prefix("ponte-bench-pg-").tempdir().map_err(|why| why.to_string())?;
    binaries.make_folder(folder.path()).map_err(|why| why.to_string())?;
    let data = folder.path().join("data");
    let (data, log) = (data.display().to_string(), data.join("server.log").display().to_string());
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(|why| why.to_string())?.port().to_string();
    let run = |program: &str, args: &[&str]| match binaries.run(program, args) {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(format!("{program} failed")),
        Err(why) => Err(format!("{program}: {why}")),
    };
    run("initdb", &["-D", &data, "-A", "trust", "-U", "ponte", "-E", "UTF8", "--locale=C"])?;
    let options = format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200");
    run("pg_ctl", &["start", "-w", "-D", &data, "-l", &log, "-o", &options])?;
    let found = measured(&binaries, &port, seconds, callers, row);
    run("pg_ctl", &["stop", "-D", &data, "-m", "immediate"])?;
    found
}

fn measured(binaries: &Binaries, port: &str, seconds: u64, callers: usize, row: usize) -> Result<f64, String> {
    let place = ["-h", "127.0.0.1", "-p", port, "-U", "ponte"];
    let table = "CREATE TABLE rows (id uuid PRIMARY KEY, body bytea NOT NULL)";
    let made = Command::new(program(binaries, "psql"))
        .args(place)
        .args(["-d", "postgres", "-c", table])
        .output()
        .map_err(|why| format!("psql: {why}"))?;
    if !made.status.success() {
        return Err("the table could not be made".to_owned());
    }
    let script = tempfile::NamedTempFile::new().map_err(|why| why.to_string())?;
    let insert = format!("INSERT INTO rows VALUES (gen_random_uuid(), decode(repeat('07', {row}), 'hex'));\n");
    fs::write(script.path(), insert).map_err(|why| why.to_string())?;
    let (seconds, callers, script) = (seconds.to_string(), callers.to_string(), script.path().display().to_string());
    let args = ["-n", "-f", &script, "-c", &callers, "-j", "2", "-T", &seconds, "-M", "prepared", "postgres"];
    let said = Command::new(program(binaries, "pgbench")).args(place).args(args).output().map_err(|why| format!("pgbench: {why}"))?;
    let text = String::from_utf8_lossy(&said.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.ok_or_else(|| format!("pgbench said nothing of its rate: {}", String::from_utf8_lossy(&said.stderr)))
}

/// A client program stands beside the server's, or in the `PATH`.
fn program(binaries: &Binaries, name: &str) -> PathBuf {
    let beside = binaries.path(name);
    if beside.is_file() { beside } else { PathBuf::from(name) }
}
