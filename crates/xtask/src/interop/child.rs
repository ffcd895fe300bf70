//! A process that listens on a port of this machine; ended when dropped.

use super::web::Web;
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// It runs until this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    /// Starts it; what it says goes to a file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self, String> {
        let sink = || File::options().append(true).create(true).open(log).map_err(|why| format!("{}: {why}", log.display()));
        File::create(log).map_err(|why| format!("{}: {why}", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(sink()?).stderr(sink()?).spawn();
        let child = child.map_err(|why| format!("{} cannot be started: {why}", command.get_program().to_string_lossy()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Waits until this path answers 200.
    ///
    /// # Errors
    /// When it ended, or does not answer in time.
    pub fn ready(&mut self, web: &Web, path: &str, limit: Duration) -> Result<(), String> {
        let started = Instant::now();
        loop {
            if web.send("GET", path, None).is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            self.alive()?;
            if started.elapsed() > limit {
                return Err(format!("It does not answer after {} s. {}", limit.as_secs(), self.last_words()));
            }
            // A port that begins to listen is no event that can be waited for.
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The first line of its log that holds this, as soon as it is there.
    ///
    /// # Errors
    /// When it ended, or does not say it in time.
    pub fn line(&mut self, part: &str, limit: Duration) -> Result<String, String> {
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            if let Some(line) = whole.lines().find(|line| line.contains(part)) {
                return Ok(line.to_owned());
            }
            self.alive()?;
            if started.elapsed() > limit {
                return Err(format!("It does not say `{part}`. {}", self.last_words()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(format!("It ended. {}", self.last_words())),
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut last: Vec<&str> = text.lines().rev().take(5).collect();
        last.reverse();
        format!("Its last words ({}):\n{}", self.log.display(), last.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody has now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|why| format!("No port is free: {why}."))
}
