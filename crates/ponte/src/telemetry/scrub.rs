//! The last sieve before a line is written: queries of URLs and digits as long as a CPF, a CNS or a phone go.

use std::borrow::Cow;
use std::net::Ipv4Addr;

/// Runs of this many digits or more are hidden; separators as in a CPF or a phone number do not end a run.
const HIDDEN_DIGITS: usize = 9;
/// Characters of a UUID as we write it.
const UUID: usize = 36;

/// The text without queries of URLs and without long numbers. UUIDs (ours) and IP addresses stay.
pub(super) fn scrub(text: &str) -> String {
    let words: Vec<Cow<'_, str>> = text.split(' ').map(without_query).collect();
    without_numbers(&words.join(" "))
}

/// `https://ehr.example/fhir/Patient?identifier=1` → `https://ehr.example/fhir/Patient?…`, relative URLs alike.
fn without_query(word: &str) -> Cow<'_, str> {
    match word.split_once('?') {
        Some((path, query)) if query.contains('=') || query.contains('|') => format!("{path}?…").into(),
        _ => word.into(),
    }
}

fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_a_word = out.chars().next_back().is_some_and(char::is_alphanumeric);
        let uuid = rest.get(..UUID).filter(|text| !in_a_word && uuid::Uuid::try_parse(text).is_ok());
        let taken = match uuid {
            Some(uuid) => uuid.len(),
            None if first.is_ascii_digit() => rest.find(|c: char| !belongs(c)).unwrap_or(rest.len()),
            None => first.len_utf8(),
        };
        let (piece, after) = rest.split_at(taken);
        let hidden =
            uuid.is_none() && piece.bytes().filter(u8::is_ascii_digit).count() >= HIDDEN_DIGITS && piece.parse::<Ipv4Addr>().is_err();
        out.push_str(if hidden { "…" } else { piece });
        rest = after;
    }
    out
}

fn belongs(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '.' | '-' | '/' | '(' | ')')
}
