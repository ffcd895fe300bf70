//! Sources: each opens with what it is, holds one idea, and has a name that says which.

use super::File;

/// Beyond this a file says in its header why it is one.
const LONGEST: usize = 600;
/// The words of that reason.
const REASON: &str = "//! Long because";
/// Names that say nothing.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "helper", "helpers", "common", "manager", "service", "misc"];

pub(super) fn check(files: &[File], found: &mut Vec<String>) {
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        if !file.text.starts_with("//! ") {
            found.push(format!("{}: does not open with `//!` saying what it is.", file.path));
        }
        let lines = file.text.lines().count();
        let header = file.text.lines().take_while(|line| line.starts_with("//!"));
        if lines > LONGEST && !header.into_iter().any(|line| line.starts_with(REASON)) {
            found.push(format!("{}: {lines} lines; cut it along its ideas, or say `{REASON} …` in its header.", file.path));
        }
        let empty = file.path.split('/').map(|part| part.trim_end_matches(".rs")).find(|part| EMPTY_NAMES.contains(part));
        if let Some(name) = empty {
            found.push(format!("{}: `{name}` says nothing; name the thing.", file.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        let mut found = Vec::new();
        check(&[File { path: path.to_owned(), text: text.to_owned() }], &mut found);
        found.len()
    }

    #[test]
    fn a_source_without_a_header_or_with_an_empty_name_or_too_long_is_found() {
        assert_eq!(found("crates/a/src/lane.rs", "//! A lane.\n"), 0);
        assert_eq!(found("crates/a/src/lane.rs", "fn lane() {}\n"), 1);
        assert_eq!(found("crates/a/src/util/lane.rs", "//! A lane.\n"), 1);
        let long = "x\n".repeat(LONGEST);
        assert_eq!(found("a.rs", &format!("//! A.\n{long}")), 1);
        assert_eq!(found("a.rs", &format!("//! A.\n//! Long because it is a table.\n{long}")), 0);
    }
}
