//! `cargo xtask test`: everything on both databases, and the totals in one line.

use crate::postgres::{Postgres, ensure};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

/// Runs `cargo test`, the whole workspace unless arguments say otherwise.
///
/// # Errors
/// When a test fails, or nothing could be built.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let postgres = ensure();
    let mut cargo = crate::cargo();
    cargo.current_dir(root).arg("test").arg("--no-fail-fast");
    if arguments.is_empty() {
        cargo.arg("--workspace");
    }
    cargo.args(arguments).stdout(Stdio::piped());
    match &postgres {
        Postgres::Here => drop(cargo.env("PONTE_TEST_REQUIRE_PG", "1")),
        Postgres::Absent(sentence) => eprintln!("{sentence}"),
    }
    let mut child = cargo.spawn().map_err(|why| format!("cargo cannot be started: {why}"))?;
    let mut totals = Totals::default();
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
        totals.add(&line);
        println!("{line}");
    }
    let good = child.wait().map_err(|why| format!("cargo was lost: {why}"))?.success();
    println!("\n{}", totals.sentence(&postgres));
    if good && totals.failed == 0 { Ok(()) } else { Err("Not all tests passed.".to_owned()) }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    binaries: u32,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Totals {
    /// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let count = |word: &str| {
            let before = result.split(word).next().unwrap_or("").trim_end();
            before.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        };
        self.binaries += 1;
        self.passed += count(" passed");
        self.failed += count(" failed");
        self.ignored += count(" ignored");
    }

    fn sentence(&self, postgres: &Postgres) -> String {
        let on = if *postgres == Postgres::Here { "on SQLite and PostgreSQL" } else { "on SQLite ALONE: PostgreSQL is not here" };
        format!("{} passed, {} failed, {} ignored in {} test programs, {on}.", self.passed, self.failed, self.ignored, self.binaries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_are_those_of_all_programs() {
        let mut totals = Totals::default();
        totals.add("running 3 tests");
        totals.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s");
        totals.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s");
        assert_eq!(totals, Totals { binaries: 2, passed: 15, failed: 2, ignored: 1 });
    }
}
