//! Makes sure that a PostgreSQL is there for the tests; they start and stop a server of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub enum Postgres {
    /// The tests find it.
    Here,
    /// It is absent, with what a person can do about it.
    Absent(String),
}

/// Finds PostgreSQL, or installs it as root on a Debian.
pub fn ensure() -> Postgres {
    if std::env::var_os("PONTE_TEST_PG_URL").is_some() || initdb().is_some() {
        return Postgres::Here;
    }
    let by_hand = "PostgreSQL is not here, so the tests run on SQLite alone. Install it (Debian: `apt-get install postgresql`, macOS: `brew install \
                   postgresql`), or set PONTE_TEST_PG_URL to a server on which databases may be created.";
    if !is_root() || !in_path("apt-get") {
        return Postgres::Absent(by_hand.to_owned());
    }
    eprintln!("PostgreSQL is not here; installing it with apt-get.");
    // Without this Debian starts a server of its own on port 5432.
    let _ = std::fs::create_dir_all("/etc/postgresql-common");
    let conf = Path::new("/etc/postgresql-common/createcluster.conf");
    if !conf.exists() {
        let _ = std::fs::write(conf, "create_main_cluster = false\n");
    }
    let installed = apt(&["update", "-qq"])
        && apt(&["install", "-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", "postgresql"]);
    match (installed, initdb()) {
        (true, Some(_)) => Postgres::Here,
        _ => Postgres::Absent(format!("apt-get could not install it. {by_hand}")),
    }
}

fn initdb() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin/initdb"));
    path_entries().map(|folder| folder.join("initdb")).chain(debian).find(|path| path.is_file())
}

fn path_entries() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

fn in_path(name: &str) -> bool {
    path_entries().any(|folder| folder.join(name).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).trim() == "0")
}

fn apt(arguments: &[&str]) -> bool {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
