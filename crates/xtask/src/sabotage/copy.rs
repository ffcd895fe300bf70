//! The copy of the tree that is sabotaged, so that nobody's work is touched. It holds what git would: the committed and the
//! new files, as they stand now.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The copy and where it came from.
#[derive(Debug)]
pub(super) struct Copy {
    original: PathBuf,
    root: PathBuf,
}

impl Copy {
    /// Makes `root` equal to the tree at `original`. What is equal already is not written, or it would be compiled again.
    pub(super) fn of(original: &Path, root: PathBuf) -> Result<Self, String> {
        let copy = Self { original: original.to_path_buf(), root };
        let files = listed(original)?;
        for file in &files {
            copy.bring(file)?;
        }
        let wanted: HashSet<PathBuf> = files.iter().map(|file| copy.root.join(file)).collect();
        remove_others(&copy.root, &wanted).map_err(|why| format!("the old copy cannot be cleared: {why}"))?;
        Ok(copy)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn read(&self, file: &str) -> Result<String, String> {
        std::fs::read_to_string(self.root.join(file)).map_err(|why| format!("{file} cannot be read: {why}"))
    }

    pub(super) fn write(&self, file: &str, text: &str) -> Result<(), String> {
        std::fs::write(self.root.join(file), text).map_err(|why| format!("{file} cannot be written: {why}"))
    }

    /// Brings files back as they are.
    pub(super) fn restore<'f>(&self, files: impl Iterator<Item = &'f str>) -> Result<(), String> {
        for file in files.filter(|file| self.original.join(file).is_file()) {
            self.bring(file)?;
        }
        Ok(())
    }

    fn bring(&self, file: &str) -> Result<(), String> {
        let (from, to) = (self.original.join(file), self.root.join(file));
        let wrong = |why: std::io::Error| format!("{file} cannot be copied: {why}");
        let text = std::fs::read(&from).map_err(wrong)?;
        if std::fs::read(&to).is_ok_and(|there| there == text) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(wrong)?;
        }
        std::fs::write(&to, text).map_err(wrong)
    }
}

/// The files that are or would be committed, without those that were deleted since.
fn listed(original: &Path) -> Result<Vec<String>, String> {
    let git = Command::new("git").current_dir(original).args(["ls-files", "-z", "-co", "--exclude-standard"]).output();
    let output = git.map_err(|why| format!("git cannot be started: {why}"))?;
    if !output.status.success() {
        return Err(format!("git does not list the files: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let names = String::from_utf8(output.stdout).map_err(|_| "a file's name is no UTF-8".to_owned())?;
    Ok(names.split('\0').filter(|name| !name.is_empty() && original.join(name).is_file()).map(str::to_owned).collect())
}

fn remove_others(folder: &Path, wanted: &HashSet<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
            // A folder without a file may still be taken for a crate.
            if std::fs::read_dir(&path)?.next().is_none() {
                std::fs::remove_dir(&path)?;
            }
        } else if !wanted.contains(&path) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
