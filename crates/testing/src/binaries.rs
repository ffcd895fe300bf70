//! PostgreSQL's programs on this machine, and as whom they may run (they refuse root).

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where `initdb` and `pg_ctl` are.
#[derive(Debug)]
pub struct Binaries {
    folder: PathBuf,
    /// Set where we are root: the user that runs them.
    user: Option<String>,
}

impl Binaries {
    /// Looks in `PATH`, then where Debian keeps its versions, the newest first.
    #[must_use]
    pub fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
            .unwrap_or_default();
        versions.sort();
        folders.extend(versions.into_iter().rev());
        let folder = folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("pg_ctl").is_file())?;
        let user = if id_of(None)? == 0 {
            Some(["postgres", "nobody"].into_iter().find(|user| id_of(Some(user)).is_some())?.to_owned())
        } else {
            None
        };
        Some(Self { folder, user })
    }

    /// Makes a folder that belongs to whoever runs PostgreSQL.
    ///
    /// # Errors
    /// When it cannot be made or given away.
    pub fn make_folder(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        #[cfg(unix)]
        if let Some(id) = self.user.as_deref().and_then(|user| id_of(Some(user))) {
            std::os::unix::fs::chown(folder, Some(id), None)?;
        }
        Ok(())
    }

    /// Runs one of them to its end; its own children keep none of our handles.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run(&self, program: &str, args: &[&str]) -> std::io::Result<Output> {
        let mut command = self.command(program);
        // `pg_ctl start` leaves a server behind that would hold a pipe open for ever: output goes to the log instead.
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").output()
    }

    /// The path of a program, for a script.
    #[must_use]
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// A command that runs as the right user.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = if program.as_ref().is_absolute() { program.as_ref().to_owned() } else { self.folder.join(program) };
        match &self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.arg("-u").arg(user).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        }
    }
}

fn id_of(user: Option<&str>) -> Option<u32> {
    let mut command = Command::new("id");
    command.arg("-u");
    if let Some(user) = user {
        command.arg(user);
    }
    let output = command.stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
