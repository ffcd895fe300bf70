//! The two voices of the command line: data on stdout, talk on stderr.

use std::io::{IsTerminal, Write, stderr, stdin, stdout};

/// A line of data. A reader who has gone (`| head`) is no failure.
pub fn data(line: impl AsRef<str>) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{}", line.as_ref()).and_then(|()| out.flush());
}

/// A line of talk.
pub fn say(line: impl AsRef<str>) {
    let _ = writeln!(stderr().lock(), "{}", line.as_ref());
}

/// Whether data goes to a person.
#[must_use]
pub fn data_is_seen() -> bool {
    stdout().is_terminal()
}

/// Whether talk goes to a person.
#[must_use]
pub fn talk_is_seen() -> bool {
    stderr().is_terminal()
}

/// Whether this voice may use colour: only for a person, and not if `NO_COLOR` is set and not empty (no-color.org).
#[must_use]
pub fn colour(seen: bool) -> bool {
    seen && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Asks a person a question to be answered with yes; `None` where there is no person to ask.
#[must_use]
pub fn ask(question: &str) -> Option<bool> {
    if !stdin().is_terminal() || !talk_is_seen() {
        return None;
    }
    let mut err = stderr().lock();
    let _ = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    drop(err);
    let mut answer = String::new();
    stdin().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes" | "s" | "sim"))
}

/// Pads to so many characters (not bytes), for tables.
#[must_use]
pub fn pad(text: &str, width: usize) -> String {
    let length = text.chars().count();
    format!("{text}{}", " ".repeat(width.saturating_sub(length)))
}

/// A table with a head; columns as wide as their widest cell, the last one unpadded.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([head.get(column).map_or(0, |name| name.chars().count())]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| pad(cell, *width)).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_by_characters_not_bytes() {
        let text = table(&["a", "estado"], &[vec!["ação".into(), "x".into()], vec!["b".into(), "yy".into()]]);
        assert_eq!(text, "a     estado\nação  x\nb     yy");
    }
}
