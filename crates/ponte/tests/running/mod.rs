//! The binary that cargo has built for these tests, run as a person or an orchestrator would.
#![allow(dead_code, unused_imports, reason = "each test program uses its part")]

pub use processes::running::{KEY, Running, SECRET, Said, said};
use std::path::Path;
use std::process::Command;

/// Where it lies.
pub const PONTE: &str = env!("CARGO_BIN_EXE_ponte");

/// `ponte` with these arguments, in this folder, without settings of the surroundings.
pub fn ponte(folder: &Path, arguments: &[&str]) -> Command {
    processes::running::ponte(Path::new(PONTE), folder, arguments)
}

/// The same, with a key and a secret.
pub fn keyed(folder: &Path, arguments: &[&str]) -> Command {
    processes::running::keyed(Path::new(PONTE), folder, arguments)
}
