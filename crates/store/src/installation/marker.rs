//! The marker beside a SQLite file: the name that the database remembers, the one before, and the marker's own inode.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A marker file, there or not.
pub(super) struct Marker {
    path: PathBuf,
}

impl Marker {
    /// `ponte.db` has `ponte.db.home`.
    pub(super) fn beside(database: &Path) -> Self {
        let mut name = database.as_os_str().to_owned();
        name.push(".home");
        Self { path: PathBuf::from(name) }
    }

    /// Whether it lies where it was written, and names this home.
    pub(super) fn knows(&self, home: &str) -> bool {
        let Ok(text) = fs::read_to_string(&self.path) else { return false };
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let inode = fs::metadata(&self.path).map(|meta| inode(&meta)).unwrap_or_default();
        matches!(lines[..], [_, at, fresh, before, ..] if at == inode && (fresh == home || before == home))
    }

    /// Names the fresh home and the one before. Overwritten in place, so that it stays the same file, and padded, so that
    /// no reader ever finds it shorter.
    pub(super) fn write(&self, fresh: &str, before: Option<&str>) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        let inode = inode(&file.metadata()?);
        let text = format!(
            "This file belongs beside the database of the same name: it tells Ponte that the database has not been moved, copied or restored.\n\
             {inode:<40}\n{fresh:<40}\n{:<40}\n",
            before.unwrap_or("-")
        );
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

#[cfg(unix)]
fn inode(meta: &fs::Metadata) -> String {
    std::os::unix::fs::MetadataExt::ino(meta).to_string()
}

/// Where there are no inodes only a missing or older marker is seen.
#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> String {
    "0".to_owned()
}
