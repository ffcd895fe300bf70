//! Running the tests that watch a sabotage. What does not compile is told apart from what fails, and what hangs is ended.

use super::{Seen, Watch};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A test that takes longer hangs.
const MOST: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// So much is shown of what a failed test said, in characters.
const LONGEST_WORDS: usize = 100;

/// Where tests are built and run.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) tree: PathBuf,
    pub(super) target: PathBuf,
}

impl Course {
    /// Builds the tests and runs them.
    pub(super) fn run(&self, watch: &Watch) -> Result<Seen, String> {
        let built = self.cargo(watch).arg("--no-run").output().map_err(|why| format!("cargo cannot be started: {why}"))?;
        if !built.status.success() {
            let words = String::from_utf8_lossy(&built.stderr);
            let first = words.lines().find(|line| line.starts_with("error")).unwrap_or("cargo says nothing");
            return Err(format!("it does not compile: {first}"));
        }
        let mut command = self.cargo(watch);
        command.arg("--").args(watch.filters).stdout(Stdio::piped()).stderr(Stdio::null());
        own_group(&mut command);
        let mut child = command.spawn().map_err(|why| format!("cargo cannot be started: {why}"))?;
        let report = child.stdout.take().map(|out| std::thread::spawn(move || Report::read(out)));
        let good = wait(&mut child)?;
        // With the program its end of the pipe is gone, and the reader ends.
        let report = report.and_then(|reader| reader.join().ok()).unwrap_or_default();
        report.judge(watch, good)
    }

    fn cargo(&self, watch: &Watch) -> Command {
        let mut cargo = crate::cargo();
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target).args(["test", "--locked", "--package", watch.package]);
        match watch.program {
            Some(program) => cargo.args(["--test", program]),
            None => cargo.arg("--lib"),
        };
        cargo
    }
}

/// Whether it ended well; `None`: it hung and was ended.
fn wait(child: &mut Child) -> Result<Option<bool>, String> {
    let lost = |why: std::io::Error| format!("cargo was lost: {why}");
    let until = Instant::now() + MOST;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().map_err(lost)? {
            return Ok(Some(status.success()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    end_group(child);
    child.wait().map_err(lost)?;
    Ok(None)
}

/// The test program is cargo's child: only a group of their own ends both.
#[cfg(unix)]
fn own_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
fn own_group(_: &mut Command) {}

fn end_group(child: &mut Child) {
    if cfg!(unix) {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
    }
    let _ = child.kill();
}

/// What the test program said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    /// Tests that were run and ended.
    ended: Vec<String>,
    /// Those that failed, and what each said first.
    failed: Vec<(String, String)>,
    /// The failed test whose output is being read.
    shown: Option<String>,
    /// The line before told of a panic: this one says why.
    panicked: bool,
}

impl Report {
    fn read(out: impl Read) -> Self {
        let mut report = Self::default();
        BufReader::new(out).lines().map_while(Result::ok).for_each(|line| report.add(&line));
        report
    }

    /// Reads `test gate::it_holds ... FAILED`, and of what is shown below it the line behind `thread … panicked at …:`.
    fn add(&mut self, line: &str) {
        if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            self.ended.push(name.to_owned());
            if outcome.starts_with("FAILED") {
                self.failed.push((name.to_owned(), String::new()));
            }
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.shown = Some(name.to_owned());
        } else if line.starts_with("thread ") && line.contains(" panicked at ") {
            self.panicked = true;
        } else if std::mem::take(&mut self.panicked)
            && let Some((_, said)) = self.failed.iter_mut().find(|(name, said)| Some(name) == self.shown.as_ref() && said.is_empty())
        {
            said.extend(line.chars().take(LONGEST_WORDS));
        }
    }

    fn judge(self, watch: &Watch, good: Option<bool>) -> Result<Seen, String> {
        let tests: Vec<String> = self.failed.iter().map(|(name, said)| format!("{name} ({said})")).collect();
        match good {
            None => Ok(Seen::Red(format!("no end within {} s; {}", MOST.as_secs(), tests.join(", ")))),
            Some(_) if !tests.is_empty() => Ok(Seen::Red(tests.join(", "))),
            Some(false) => Ok(Seen::Red("the test program did not come to its end".to_owned())),
            Some(true) => match watch.filters.iter().find(|filter| !self.ended.iter().any(|name| name.contains(**filter))) {
                Some(filter) => Err(format!("no test of {} is called {filter}", watch.package)),
                None => Ok(Seen::Green),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCH: Watch = Watch::engine(&["gate"]);

    fn report(lines: &[&str]) -> Report {
        Report::read(lines.join("\n").as_bytes())
    }

    #[test]
    fn red_is_what_failed_hung_or_died() {
        let lines = [
            "running 2 tests",
            "test gate::one ... ok",
            "test gate::two ... FAILED",
            "---- gate::two stdout ----",
            "thread 'gate::two' panicked at tests/it/gate.rs:7:9:",
            "it stood open",
            "test result: FAILED. 1 passed; 1 failed",
        ];
        assert_eq!(report(&lines).judge(&WATCH, Some(false)), Ok(Seen::Red("gate::two (it stood open)".to_owned())));
        assert!(matches!(report(&lines[..2]).judge(&WATCH, Some(false)), Ok(Seen::Red(_))));
        assert!(matches!(report(&lines[..2]).judge(&WATCH, None), Ok(Seen::Red(_))));
    }

    #[test]
    fn green_is_what_ran_and_passed() {
        assert_eq!(report(&["test gate::one ... ok"]).judge(&WATCH, Some(true)), Ok(Seen::Green));
        assert!(report(&["running 0 tests"]).judge(&WATCH, Some(true)).is_err());
    }
}
