//! `cargo xtask model`: the protocol explored in its large bounds, built once for speed.

use std::path::Path;

/// Runs all tests of the model, the ones of millions of moments too.
///
/// # Errors
/// When a law is broken in these bounds, or the model cannot be built.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let mut cargo = crate::cargo();
    cargo.current_dir(root).args(["test", "--locked", "--quiet", "--release", "-p", "ponte-model", "--test", "protocol"]);
    cargo.args(["--", "--include-ignored", "--nocapture", "--test-threads", "1"]).args(arguments);
    let status = cargo.status().map_err(|why| format!("cargo cannot be started: {why}"))?;
    if status.success() { Ok(()) } else { Err("The model found a way to break a law.".to_owned()) }
}
