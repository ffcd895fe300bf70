//! What JSON must be before FHIR may read it: names are unique (R4 json), and no name is one of those by which our
//! JSON library marks numbers and raw text for itself.

use serde::de::IgnoredAny;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashSet;

/// The most values that one JSON text may hold to be read into memory. The largest CapabilityStatement and the largest
/// resource that we have seen hold 20,000; a value takes up to 150 bytes in memory and two in a text (`1,`), so that
/// without a bound 16 MiB of text would become a gigabyte.
pub const VALUES_MAX: usize = 100_000;

/// Whether a text may be read into memory: it holds no more than [`VALUES_MAX`] values, names not counted, and none of the names by
/// which our JSON library marks raw text, for what stands in such a text it would read as values too. Looks at the text alone and takes
/// next to no memory; for a text that is not JSON the answer means nothing.
#[must_use]
pub fn is_bounded(text: &[u8]) -> bool {
    look_through(text, |string| !is_reserved(string))
}

/// Counts the values; `pass` sees each string with its quotes.
fn look_through(text: &[u8], pass: impl Fn(&[u8]) -> bool) -> bool {
    let (mut values, mut at) = (1usize, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b',' | b'[' | b'{' => values += 1,
            b'"' => {
                let end = end_of_string(text, at);
                if !text.get(at..end).is_none_or(&pass) {
                    return false;
                }
                at = end;
                continue;
            }
            _ => {}
        }
        if values > VALUES_MAX {
            return false;
        }
        at += 1;
    }
    true
}

/// How names begin that mean something to our JSON library and nothing to anybody else.
const RESERVED: &str = "$serde_json::private::";

/// Whether this text in quotes begins so, however it is escaped.
fn is_reserved(quoted: &[u8]) -> bool {
    matches!(quoted.get(1), Some(b'$' | b'\\'))
        && std::str::from_utf8(quoted).is_ok_and(|quoted| unquoted(quoted).is_some_and(|name| name.starts_with(RESERVED)))
}

/// Reads a text of bounded size, with or without a byte order mark; `None` for anything else.
#[must_use]
pub fn bounded(body: &[u8]) -> Option<Value> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    if is_bounded(body) { serde_json::from_slice(body).ok() } else { None }
}

/// A name that will not do.
#[derive(Debug, PartialEq, Eq)]
pub enum BadName {
    /// It stands twice in one object; where, as a path of names and indices.
    Twice(String),
    /// It cannot be read as text, or is reserved.
    Unreadable(String),
}

/// Why a text is not read.
#[derive(Debug)]
pub enum Unread {
    /// It holds more than [`VALUES_MAX`] values.
    TooManyValues,
    /// It is not JSON.
    NotJson(serde_json::Error),
    /// A name will not do.
    BadName(BadName),
}

/// Reads a text whole, with each name once. What it says of itself is looked at before anything is read into memory, for what stands
/// behind a reserved name would be read too.
///
/// # Errors
/// Too many values, whatever else it is; then that it is not JSON; then the first name that will not do.
pub fn strict(text: &str) -> Result<Value, Unread> {
    if !look_through(text.as_bytes(), |_| true) {
        return Err(Unread::TooManyValues);
    }
    if let Err(bad) = check_names(text) {
        return Err(serde_json::from_str::<IgnoredAny>(text).err().map_or(Unread::BadName(bad), Unread::NotJson));
    }
    serde_json::from_str(text).map_err(Unread::NotJson)
}

/// Looks at every name of a text. For one that is not JSON the answer means nothing.
fn check_names(text: &str) -> Result<(), BadName> {
    let bytes = text.as_bytes();
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' => frames.push(Frame::Object { names: Names::default(), current: Cow::Borrowed(""), name_next: true }),
            b'[' => frames.push(Frame::Array { index: 0 }),
            b'}' | b']' => {
                frames.pop();
            }
            b',' => match frames.last_mut() {
                Some(Frame::Object { name_next, .. }) => *name_next = true,
                Some(Frame::Array { index }) => *index += 1,
                None => {}
            },
            b'"' => {
                let end = end_of_string(bytes, at);
                if let Some(Frame::Object { names, current, name_next }) = frames.last_mut()
                    && *name_next
                {
                    *name_next = false;
                    let name = text.get(at..end).and_then(unquoted).filter(|name| !name.starts_with(RESERVED));
                    let Some(name) = name else {
                        return Err(BadName::Unreadable(path(&frames, false)));
                    };
                    current.clone_from(&name);
                    if !names.add(name) {
                        return Err(BadName::Twice(path(&frames, true)));
                    }
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// What a quoted text says; borrowed where nothing in it is escaped.
fn unquoted(quoted: &str) -> Option<Cow<'_, str>> {
    let plain = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') { serde_json::from_str(quoted).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(plain)) }
}

enum Frame<'t> {
    Object { names: Names<'t>, current: Cow<'t, str>, name_next: bool },
    Array { index: usize },
}

/// The names of one object so far. Nearly all objects have few: those are looked through.
#[derive(Default)]
struct Names<'t> {
    few: Vec<Cow<'t, str>>,
    many: HashSet<Cow<'t, str>>,
}

impl<'t> Names<'t> {
    const FEW: usize = 16;

    /// False: it is one of them already.
    fn add(&mut self, name: Cow<'t, str>) -> bool {
        if self.few.contains(&name) {
            return false;
        }
        if self.few.len() < Self::FEW {
            self.few.push(name);
            return true;
        }
        self.many.insert(name)
    }
}

/// The position behind the closing quote of the string that opens at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn path(frames: &[Frame], with_last: bool) -> String {
    let mut path = String::new();
    let shown = if with_last { frames.len() } else { frames.len().saturating_sub(1) };
    for frame in frames.iter().take(shown) {
        match frame {
            Frame::Object { current, .. } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.extend(current.chars().filter(|c| !c.is_control()).take(64));
            }
            Frame::Array { index } => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_found_wherever_it_is() {
        let twice = |text: &str| match check_names(text) {
            Err(BadName::Twice(path)) => path,
            other => format!("{other:?}"),
        };
        assert_eq!(twice(r#"{"a":1,"a":2}"#), "a");
        assert_eq!(twice(r#"{"a":[{"x":"}"},{"b":{"c":"\"","c":null}}]}"#), "a[1].b.c");
        assert_eq!(twice(r#"{"status":"final","\u0073tatus":"x"}"#), "status");
        assert_eq!(check_names(r#"{"a":{"a":{"a":"a"}},"b":["a","a",{"a":1}]}"#), Ok(()));
        let wide = |last: usize| format!("{{{}}}", (0..100).chain([last]).map(|n| format!("\"n{n}\":1")).collect::<Vec<_>>().join(","));
        assert_eq!(check_names(&wide(100)), Ok(()));
        assert_eq!(twice(&wide(3)), "n3");
        assert_eq!(twice(&wide(70)), "n70");
        assert_eq!(check_names(r#"["a",{"b":"{\"b\":1,\"b\":2}"}]"#), Ok(()));
    }

    #[test]
    fn what_stands_in_a_string_is_never_read_as_values() {
        for name in ["$serde_json::private::RawValue", "\\u0024serde_json::private::RawValue", "$serde_json\\u003a:private::RawValue"] {
            let text = format!(r#"{{"a":[{{"{name}":"[1,1]"}}]}}"#);
            assert!(serde_json::from_str::<Value>(&text).is_ok_and(|read| read["a"][0][1] == 1), "else there is nothing to guard against");
            assert!(!is_bounded(text.as_bytes()), "{text}");
            assert_eq!(bounded(text.as_bytes()), None);
            assert!(matches!(check_names(&text), Err(BadName::Unreadable(_))));
        }
        assert!(is_bounded(br#"{"url":"$validate","text":"\n$","$serde_json":1}"#));
    }

    #[test]
    fn a_text_of_too_many_values_is_not_read_and_what_stands_in_strings_is_no_value() {
        let list = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
        assert!(is_bounded(list("1", VALUES_MAX - 1).as_bytes()));
        assert!(!is_bounded(list("1", VALUES_MAX + 1).as_bytes()));
        assert!(!is_bounded(list("[[]]", VALUES_MAX / 2).as_bytes()));
        assert!(is_bounded(list(r#""\",[{,""#, VALUES_MAX - 1).as_bytes()));
        assert!(bounded(list("{}", VALUES_MAX).as_bytes()).is_none());
        assert_eq!(bounded(b"\xEF\xBB\xBF[1.10]").map(|value| value.to_string()).as_deref(), Some("[1.10]"));
        assert_eq!(bounded(b"[\"\\"), None);
    }

    #[test]
    fn reserved_names_are_refused() {
        assert!(matches!(check_names(r#"{"x":{"$serde_json::private::Number":"1"}}"#), Err(BadName::Unreadable(path)) if path == "x"));
        assert!(matches!(check_names(r#"{"\ud800":1}"#), Err(BadName::Unreadable(_))));
    }
}
