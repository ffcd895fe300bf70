//! `cargo xtask fuzz`: each target of `fuzz/` for so many seconds, from our own seeds and, where they stand beside the project,
//! from real examples. What is found anew stays under `target/fuzz`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Which toolchain instruments code.
const TOOLCHAIN: &str = "+nightly";
/// The largest input, bytes: a real CapabilityStatement is larger, and no fault needs one.
const MAX_LEN: &str = "-max_len=65536";

/// Where a target's real examples stand, below `../shared/data`.
fn examples(target: &str) -> &'static [&'static str] {
    match target {
        "bundle_answer" => &["bundles"],
        "operation_outcome" => &["outcomes"],
        "capability_statement" => &["capability"],
        "mapping_round_trip" => &["observations", "patients", "br"],
        _ => &[],
    }
}

/// Runs the targets that are named, or all of them.
///
/// # Errors
/// When one of them fails, when there is no such target, or when they cannot be built.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let (seconds, named) = read(arguments)?;
    let targets = targets(root)?;
    if let Some(unknown) = named.iter().find(|name| !targets.contains(name)) {
        return Err(format!("There is no target {unknown}; there are {}.", targets.join(", ")));
    }
    if !answers(Command::new("cargo").args([TOOLCHAIN, "--version"])) {
        println!("skipped: no nightly toolchain");
        return Ok(());
    }
    let built = target_folder(root).join("fuzz");
    if !answers(Command::new("cargo").args([TOOLCHAIN, "fuzz", "--version"])) {
        println!("cargo-fuzz is absent and is installed now");
        succeed(Command::new("cargo").args(["install", "--locked", "--quiet", "cargo-fuzz"]), "cargo-fuzz cannot be installed")?;
    }
    let fuzz = |word: &str| {
        let mut cargo = Command::new("cargo");
        // No sanitizer: there is no unsafe code of ours for one to watch, and it would double the build.
        cargo.current_dir(root).args([TOOLCHAIN, "fuzz", word, "--dev", "--sanitizer", "none"]).env("CARGO_TARGET_DIR", &built);
        // Else cargo would be the one that runs this task, whatever toolchain is asked for.
        cargo.env("CARGO_INCREMENTAL", "0").env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        cargo
    };
    succeed(&mut fuzz("build"), "the fuzz targets cannot be built")?;
    let wanted = if named.is_empty() { targets } else { named };
    let (waiting, failed) = (Mutex::new(wanted.clone()), Mutex::new(Vec::new()));
    let one_after_another = || {
        while let Some(target) = waiting.lock().ok().and_then(|mut waiting| waiting.pop()) {
            if let Err(why) = one(root, &built, &mut fuzz("run"), &target, seconds)
                && let Ok(mut failed) = failed.lock()
            {
                failed.push(why);
            }
        }
    };
    let lanes = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(one_after_another);
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() {
        println!("{} targets, {seconds} s each: nothing found", wanted.len());
        Ok(())
    } else {
        Err(failed.join("\n"))
    }
}

/// One target; the input that broke it stays under `target/fuzz/artifacts`.
fn one(root: &Path, built: &Path, fuzz: &mut Command, target: &str, seconds: u64) -> Result<(), String> {
    let (corpus, artifacts) = (built.join("corpus").join(target), built.join("artifacts").join(target));
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    fuzz.arg(target).arg(&corpus);
    let shared = root.join("../shared/data");
    let seeds = [root.join("fuzz/corpus-seed").join(target)];
    for folder in seeds.into_iter().chain(examples(target).iter().map(|name| shared.join(name))).filter(|folder| folder.is_dir()) {
        fuzz.arg(folder);
    }
    fuzz.args(["--", MAX_LEN, "-timeout=10", "-rss_limit_mb=2048"]);
    fuzz.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", artifacts.display()));
    let out = fuzz.stdin(Stdio::null()).output().map_err(|why| format!("{target}: {why}"))?;
    let told = String::from_utf8_lossy(&out.stderr);
    if out.status.success() {
        let done = told.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or("Done");
        println!("{target}: {done}");
        return Ok(());
    }
    let lines: Vec<&str> = told.lines().collect();
    Err(format!("{target} found something:\n{}", lines[lines.len().saturating_sub(40)..].join("\n")))
}

/// `--seconds N` and names.
fn read(arguments: &[String]) -> Result<(u64, Vec<String>), String> {
    let (mut seconds, mut named, mut words) = (10, Vec::new(), arguments.iter());
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let number = words.next().and_then(|number| number.parse().ok());
            seconds = number.ok_or("--seconds takes a whole number.")?;
        } else {
            named.push(word.clone());
        }
    }
    Ok((seconds, named))
}

/// The targets, by their files.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

fn answers(command: &mut Command) -> bool {
    command
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn succeed(command: &mut Command, sentence: &str) -> Result<(), String> {
    let status = command.env_remove("RUSTUP_TOOLCHAIN").status();
    if status.is_ok_and(|status| status.success()) { Ok(()) } else { Err(format!("{sentence}.")) }
}
