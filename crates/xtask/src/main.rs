//! Tasks of the house, run as `cargo xtask TASK`; they need nothing but cargo.

mod bench;
mod fuzz;
mod interop;
mod model;
mod postgres;
mod processes;
mod sabotage;
mod sim;
mod spdx;
mod supply;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let task = words.next();
    let rest: Vec<String> = words.filter(|word| word != "--").collect();
    let root = root();
    let result = match task.as_deref() {
        Some("test") => test::run(&root, &rest),
        Some("tidy") => tidy::run(&root),
        Some("supply") => supply::run(&root),
        Some("sabotage") => sabotage::run(&root, &rest),
        Some("fuzz") => fuzz::run(&root, &rest),
        Some("interop") => interop::run(&root, &rest),
        Some("sim") => sim::run(&root, &rest),
        Some("processes") => processes::run(&root, &rest),
        Some("bench") => bench::run(&root, &rest),
        Some("model") => model::run(&root, &rest),
        _ => {
            eprintln!(
                "cargo xtask test [ARGS OF cargo test]   all tests, on SQLite and on PostgreSQL (which it installs where it is absent and may)\n\
                 cargo xtask tidy                        what the compiler does not see: headers, sizes, migrations, READMEs, imports\n\
                 cargo xtask supply                      licences, bans and sources of every dependency, by deny.toml\n\
                 cargo xtask sabotage [--list | NAME...] takes one rule at a time out of a copy of the source and wants a test to see it\n\
                 cargo xtask sim --seeds N --hours H     so many simulated worlds; one failing seed again: --seed S\n\
                 cargo xtask bench NAME [--help]         how fast the built ponte is, beside a bare loop and the database alone\n\
                 cargo xtask model                       the protocol, every order of events within bounds, over the product's transition function\n\
                 cargo xtask processes [--minutes N] [--seed S] [NAME...] real nodes, databases and lines that fail: nodes, lanes, failover, pgbouncer\n\
                 cargo xtask fuzz [--seconds N] [NAME...] each reader of foreign bytes, N seconds (10) of made-up input; needs a nightly toolchain\n\
                 cargo xtask interop [--seed S] NAME...  the built ponte against a FHIR server that others wrote: hapi, medplum-router, …"
            );
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or_else(|| here.clone(), PathBuf::from)
}

/// The cargo that runs this.
fn cargo() -> std::process::Command {
    std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
