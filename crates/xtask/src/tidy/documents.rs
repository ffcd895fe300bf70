//! What stands twice must agree: migrations of the two engines, the README in its two languages; and no text names a place
//! that only one machine has.

use super::File;
use std::path::Path;

/// Absolute paths of somebody's machine, split here so that this file does not hold them itself.
const PLACES: [(&str, &str); 4] = [("/ro", "ot/"), ("/wo", "rk/"), ("/ho", "me/"), ("/Use", "rs/")];
/// Marks of something that is not done, split alike.
const UNDONE: [(&str, &str); 3] = [("TO", "DO"), ("FIX", "ME"), ("XX", "X:")];

pub(super) fn check(root: &Path, files: &[File], found: &mut Vec<String>) {
    same_migrations(root, found);
    same_sections(files, found);
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            for (one, other) in PLACES.iter().filter(|(one, other)| line.contains(&format!("{one}{other}"))) {
                found.push(format!("{}:{}: names a place of one machine, {one}{other}….", file.path, number + 1));
            }
            for (one, other) in UNDONE.iter().filter(|(one, other)| line.contains(&format!("{one}{other}"))) {
                found.push(format!("{}:{}: {one}{other}; do it, or write it down where people look for it.", file.path, number + 1));
            }
        }
    }
}

fn same_migrations(root: &Path, found: &mut Vec<String>) {
    let [sqlite, postgres] = ["sqlite", "postgres"].map(|engine| {
        let folder = root.join("crates/store/migrations").join(engine);
        let mut names: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    });
    if sqlite != postgres || sqlite.is_empty() {
        found.push(format!("crates/store/migrations: the two engines have other migrations: {sqlite:?} and {postgres:?}."));
    }
}

fn same_sections(files: &[File], found: &mut Vec<String>) {
    let levels = |name: &str| files.iter().find(|file| file.path == name).map(|file| headings(&file.text));
    match (levels("README.md"), levels("README.pt-BR.md")) {
        (Some(en), Some(pt)) if en == pt => {}
        (Some(en), Some(pt)) => found.push(format!("README.md and README.pt-BR.md have other sections: levels {en:?} and {pt:?}.")),
        _ => found.push("README.md or README.pt-BR.md is missing.".to_owned()),
    }
}

/// Levels of the headings, in order.
fn headings(text: &str) -> Vec<usize> {
    let mut fenced = false;
    let mut levels = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        if !fenced && (1..=6).contains(&level) && line[level..].starts_with(' ') {
            levels.push(level);
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_in_code_are_not_headings() {
        assert_eq!(headings("# A\n```\n# no\n```\n## B\n#no\n### C\n"), [1, 2, 3]);
    }
}
