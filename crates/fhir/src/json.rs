//! What JSON must be before FHIR may read it: names are unique (R4 json), and no name is one of those by which our
//! JSON library marks numbers and raw text for itself.

use std::collections::HashSet;

/// A name that will not do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadName {
    /// It stands twice in one object; where, as a path of names and indices.
    Twice(String),
    /// It cannot be read as text, or is reserved.
    Unreadable(String),
}

/// Looks at every name of a text that is known to be syntactically right JSON.
pub(crate) fn check_names(text: &str) -> Result<(), BadName> {
    let bytes = text.as_bytes();
    let mut frames: Vec<Frame> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' => frames.push(Frame::Object { names: HashSet::new(), current: String::new(), name_next: true }),
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
                    let name: Option<String> = text.get(at..end).and_then(|quoted| serde_json::from_str(quoted).ok());
                    let Some(name) = name.filter(|name| !name.starts_with("$serde_json::private::")) else {
                        return Err(BadName::Unreadable(path(&frames, false)));
                    };
                    current.clone_from(&name);
                    if !names.insert(name) {
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

enum Frame {
    Object { names: HashSet<String>, current: String, name_next: bool },
    Array { index: usize },
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
        assert_eq!(check_names(r#"["a",{"b":"{\"b\":1,\"b\":2}"}]"#), Ok(()));
    }

    #[test]
    fn reserved_names_are_refused() {
        assert!(matches!(check_names(r#"{"x":{"$serde_json::private::Number":"1"}}"#), Err(BadName::Unreadable(path)) if path == "x"));
        assert!(matches!(check_names(r#"{"\ud800":1}"#), Err(BadName::Unreadable(_))));
    }
}
