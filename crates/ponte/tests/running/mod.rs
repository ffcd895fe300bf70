//! The built binary, run as a person or an orchestrator would.
#![allow(dead_code, clippy::unwrap_used, reason = "each test program uses its part, and one that cannot go on has to end")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Base64 of 32 bytes.
pub const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
/// Long enough for HS256.
pub const SECRET: &str = "a secret of the tests, long enough for HS256";
/// Longer than anything that is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// `ponte` with these arguments, in this folder, without settings of the surroundings.
pub fn ponte(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ponte"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PONTE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

/// The same, with a key and a secret.
pub fn keyed(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = ponte(folder, arguments);
    command.env("PONTE_ENCRYPTION_KEY", KEY).env("PONTE_JWT_SECRET", SECRET);
    command
}

/// What a finished command said.
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// stdout.
    pub out: String,
    /// stderr.
    pub err: String,
}

/// Runs it to its end.
pub fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Said { code: status.code().unwrap_or(-1), out: String::from_utf8(stdout).unwrap(), err: String::from_utf8(stderr).unwrap() }
}

/// A command that runs on; killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Every line read so far, of stdout and stderr.
    pub seen: Vec<String>,
}

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let pipes: [Box<dyn Read + Send>; 2] = [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for pipe in pipes {
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that holds this.
    pub fn line(&mut self, part: &str) -> String {
        let started = Instant::now();
        loop {
            let left = LIMIT.saturating_sub(started.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else { panic!("no line with `{part}` among {:#?}", self.seen) };
            self.seen.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    /// The URL in a line that holds this.
    pub fn url(&mut self, part: &str) -> String {
        let line = self.line(part);
        let from = line.find("http://").unwrap_or_else(|| panic!("no URL in {line}"));
        line[from..].split(['"', ' ', '\n']).next().unwrap().to_owned()
    }

    /// Sends a signal: `TERM`, `INT`.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end; the exit code.
    pub fn end(mut self) -> (i32, Vec<String>) {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if started.elapsed() > LIMIT => panic!("it does not end: {:#?}", self.seen),
                // A child's end is no event that std can wait for with a limit.
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.seen.push(line);
        }
        (status.code().unwrap_or(-1), std::mem::take(&mut self.seen))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
