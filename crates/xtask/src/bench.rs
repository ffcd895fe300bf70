//! `cargo xtask bench`: the binary and the program that measures it, built for speed, side by side.

use std::path::Path;

/// Builds both and runs `ponte-bench` with these arguments.
///
/// # Errors
/// When one of them cannot be built, or a measurement breaks off.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let done = |mut cargo: std::process::Command, what: &str| match cargo.current_dir(root).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("{what} failed.")),
        Err(why) => Err(format!("cargo cannot be started: {why}")),
    };
    let built = ["--locked", "--release", "-p", "ponte", "-p", "ponte-bench"];
    let mut build = crate::cargo();
    build.arg("build").args(built);
    done(build, "The build")?;
    let mut measure = crate::cargo();
    // Both packages are named again, so that their features, and with them the built files, are the same.
    measure.args(["run", "--quiet"]).args(built).args(["--bin", "ponte-bench", "--"]).args(arguments);
    done(measure, "The measurement")
}
