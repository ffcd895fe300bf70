//! The built binary, run as a person or an orchestrator would.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
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

/// This `ponte` with these arguments, in this folder, without settings of the surroundings.
#[must_use]
pub fn ponte(binary: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PONTE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

/// The same, with a key and a secret.
#[must_use]
pub fn keyed(binary: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = ponte(binary, folder, arguments);
    command.env("PONTE_ENCRYPTION_KEY", KEY).env("PONTE_JWT_SECRET", SECRET);
    command
}

/// What a finished command said.
#[derive(Debug)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// stdout.
    pub out: String,
    /// stderr.
    pub err: String,
}

/// Runs it to its end.
///
/// # Panics
/// When it cannot be run.
pub fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Said { code: status.code().unwrap_or(-1), out: String::from_utf8(stdout).unwrap(), err: String::from_utf8(stderr).unwrap() }
}

/// A command that runs on; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Every line read so far, of stdout and stderr.
    pub seen: Vec<String>,
}

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        Self::start_with_log(command, None)
    }

    /// Starts it; what it says is kept in this file too, behind what stands there.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_with_log(command: &mut Command, log: Option<&Path>) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let pipes: [Box<dyn Read + Send>; 2] = [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for pipe in pipes {
            let send = send.clone();
            let mut log = log.and_then(|path| File::options().append(true).create(true).open(path).ok());
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if let Some(log) = &mut log {
                        let _ = writeln!(log, "{line}");
                    }
                    // Whoever reads no more lines may still keep a log.
                    if send.send(line).is_err() && log.is_none() {
                        return;
                    }
                }
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that holds this.
    ///
    /// # Panics
    /// When there is none.
    pub fn line(&mut self, part: &str) -> String {
        self.try_line(part).unwrap_or_else(|none| panic!("{none}"))
    }

    /// Waits for a line that holds this.
    ///
    /// # Errors
    /// When there is none before it ends, or in time.
    pub fn try_line(&mut self, part: &str) -> Result<String, String> {
        let started = Instant::now();
        loop {
            let left = LIMIT.saturating_sub(started.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else { return Err(format!("no line with `{part}` among {:#?}", self.seen)) };
            self.seen.push(line.clone());
            if line.contains(part) {
                return Ok(line);
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The URL in a line that holds this.
    ///
    /// # Panics
    /// When there is none.
    pub fn url(&mut self, part: &str) -> String {
        self.try_url(part).unwrap_or_else(|none| panic!("{none}"))
    }

    /// The URL in a line that holds this.
    ///
    /// # Errors
    /// When there is none.
    pub fn try_url(&mut self, part: &str) -> Result<String, String> {
        let line = self.try_line(part)?;
        let url = line.find("http://").and_then(|from| line[from..].split(['"', ' ', '\n']).next());
        url.map(str::to_owned).ok_or_else(|| format!("no URL in {line}"))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`, `STOP`, `CONT`.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end; the exit code, and every line.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
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
