//! `cargo xtask tidy`: what the compiler does not see and a reader does.

mod documents;
mod imports;
mod sources;

use std::path::Path;

/// Runs all checks.
///
/// # Errors
/// Everything that was found, one sentence a line.
pub fn run(root: &Path) -> Result<(), String> {
    let files = text_files(root);
    let mut found = Vec::new();
    sources::check(&files, &mut found);
    documents::check(root, &files, &mut found);
    imports::check(root, &mut found);
    if found.is_empty() {
        println!("{} files are tidy.", files.len());
        Ok(())
    } else {
        Err(format!("{}\n{} things to tidy up.", found.join("\n"), found.len()))
    }
}

/// One file of the project.
#[derive(Debug)]
pub struct File {
    /// Path from the root, with slashes.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// Every text file of the tree but what is built or belongs to git.
fn text_files(root: &Path) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if name != "Cargo.lock"
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                files.push(File { path: relative(root, &path), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}
