//! `cargo xtask interop NAME...`: the built `ponte` against FHIR servers that others wrote, over a line that breaks.
//!
//! Each server gets patients, observations, corrections, withdrawals and pulls; then it is read back by its own API.
//! Good only if nothing is lost, doubled, misfiled, of an older version or of other content, and all of the hospital's own
//! rows were pulled. What the servers taught stands in COMPATIBILITY.md.

mod child;
mod hospital;
mod platform;
mod race;
mod scenario;
mod servers;
mod table;
mod verdict;
mod web;

use hospital::Hospital;
use line::Proxy;
pub use platform::build;
use platform::{Platform, REQUEST_TIMEOUT};
use scenario::Scenario;
use servers::Absent;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use table::Told;
use verdict::Verdict;

/// Plays the scenario at each server.
///
/// # Errors
/// When one of them is not as it must be, or did not come up.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let Asked { names, seed, ponte } = read(arguments)?;
    println!("seed {seed} (again: --seed {seed})");
    let binary = match ponte {
        Some(path) => path,
        None => platform::build(root)?,
    };
    let mut failed = Vec::new();
    for name in &names {
        match one(root, name, &binary, seed) {
            Ok(0) => {}
            Ok(findings) => failed.push(format!("{name}: {findings} findings")),
            Err(Absent::Needs(why)) => println!("\n{name}: left out. {why}"),
            Err(Absent::Broken(why)) => failed.push(format!("{name}: {why}")),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// What was asked for.
struct Asked {
    names: Vec<String>,
    seed: u64,
    ponte: Option<PathBuf>,
}

fn read(arguments: &[String]) -> Result<Asked, String> {
    let usage = || {
        let names = servers::NAMES.join(", ");
        format!("cargo xtask interop [--seed S] [--ponte BINARY] NAME...; a name is {names}, or a FHIR base at http://127.0.0.1:PORT.")
    };
    let mut words = arguments.iter();
    let (mut names, mut seed, mut ponte) = (Vec::new(), None, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => seed = Some(words.next().and_then(|text| text.parse().ok()).ok_or_else(usage)?),
            "--ponte" => ponte = Some(words.next().and_then(|path| std::path::absolute(path).ok()).ok_or_else(usage)?),
            flag if flag.starts_with('-') => return Err(usage()),
            name => names.push(name.to_owned()),
        }
    }
    let seed = seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    if names.is_empty() { Err(usage()) } else { Ok(Asked { names, seed, ponte }) }
}

/// One server; how much was found wrong.
fn one(root: &Path, name: &str, binary: &Path, seed: u64) -> Result<usize, Absent> {
    let begun = Instant::now();
    let server = servers::start(root, name)?;
    let ready = begun.elapsed();
    println!("{name} answers at {} after {:.1} s", server.base, ready.as_secs_f64());
    let hospital = Hospital::at(&server.base);
    let claims = hospital.api().get("/metadata")?;
    let (address, fhir_path) = address(&server.base)?;
    let line = Proxy::before(address, REQUEST_TIMEOUT + Duration::from_secs(1), seed)?;
    let home = root.join("target/interop/ponte").join(format!("{}", std::process::id()));
    let platform = Platform::start(binary, &home)?;
    let done = Scenario::new(&platform, &hospital, &line, seed).play(&fhir_path, seed)?;
    let verdict = Verdict::of(&done, &platform, &hospital)?;
    let deliveries = platform.deliveries()?;
    let shown = line.shown();
    drop((platform, line));
    let races = (race::conditional(&hospital, &done.test_patient)?, race::own_id(&hospital, &done.test_patient)?);
    let told = Told {
        name,
        claims: &claims,
        done: &done,
        verdict: &verdict,
        deliveries: &deliveries,
        shown: &shown,
        races,
        ready,
        took: begun.elapsed(),
    };
    table::print(&told);
    let _ = std::fs::remove_dir_all(&home);
    Ok(verdict.findings())
}

/// Host and port, and the path of the FHIR base behind them.
fn address(base: &str) -> Result<(std::net::SocketAddr, String), String> {
    let rest = base.strip_prefix("http://").unwrap_or(base);
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let port = host.rsplit(':').next().and_then(|port| port.parse().ok()).ok_or_else(|| format!("{base} has no port."))?;
    Ok(((std::net::Ipv4Addr::LOCALHOST, port).into(), path))
}
