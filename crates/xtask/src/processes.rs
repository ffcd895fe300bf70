//! `cargo xtask processes`: the built `ponte`, killed and frozen, on databases that restart and fail over, over lines that break.

use std::path::Path;

/// Builds `ponte`, unless `--ponte` names one, and plays.
///
/// # Errors
/// When something was lost, doubled, out of order or misfiled, or a scene could not be played.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let mut cargo = crate::cargo();
    cargo.current_dir(root).args(["run", "--locked", "--quiet", "-p", "ponte-processes", "--"]).args(arguments);
    if !arguments.iter().any(|word| word == "--ponte" || word.starts_with("--ponte=")) {
        cargo.arg("--ponte").arg(crate::interop::build(root)?);
    }
    let status = cargo.status().map_err(|why| format!("cargo cannot be started: {why}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("The processes did not keep what Ponte promises, or a scene could not be played.".to_owned())
    }
}
