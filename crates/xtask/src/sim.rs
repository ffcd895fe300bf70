//! `cargo xtask sim`: the simulator, built once for speed, its databases in memory where the machine has a place for that.

use std::path::Path;

/// Runs `ponte-sim` with these arguments.
///
/// # Errors
/// When a world fails, or the simulator cannot be built.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let mut cargo = crate::cargo();
    cargo.current_dir(root).args(["run", "--locked", "--quiet", "--release", "-p", "ponte-sim", "--"]).args(arguments);
    // Durability is not what is simulated here: an fsync to a disk would cost nine tenths of the time.
    let memory = Path::new("/dev/shm");
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() && !arguments.iter().any(|word| word == "--postgres") {
        cargo.env("TMPDIR", memory);
    }
    let status = cargo.status().map_err(|why| format!("cargo cannot be started: {why}"))?;
    if status.success() { Ok(()) } else { Err("The simulation did not come through.".to_owned()) }
}
