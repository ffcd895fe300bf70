//! The fields of a body, read one by one: every field that will not do is named, and none of their values is repeated.

use crate::json::step;
use model::FieldError;
use serde_json::{Map, Value};

/// What a body says of one field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given<T> {
    /// Nothing, or nothing that will do.
    Absent,
    /// `null`.
    Null,
    /// This.
    Is(T),
}

impl<T> Given<T> {
    /// The value of an optional field: `null` clears it, left out keeps it.
    pub(crate) fn over(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Absent => before,
            Self::Null => None,
            Self::Is(value) => Some(value),
        }
    }

    /// The value, if one is given.
    pub(crate) fn given(self) -> Option<T> {
        self.over(None)
    }
}

/// Reads an object's fields and collects what is wrong with them.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    base: String,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// The fields of an object that stands at the pointer `base` of the body (`""` for the body itself). All that is
    /// neither known nor read-only is an error: it would be lost silently.
    pub(crate) fn new(object: &'a Map<String, Value>, base: impl Into<String>, known: &[&str], read_only: &[&str]) -> Self {
        let mut fields = Self { object, base: base.into(), errors: Vec::new() };
        for key in object.keys().filter(|key| !known.contains(&key.as_str()) && !read_only.contains(&key.as_str())) {
            fields.wrong(&step(key), "unknown_field", "This field is not part of this body.");
        }
        fields
    }

    /// Names a field that will not do.
    pub(crate) fn wrong(&mut self, key: &str, code: &'static str, detail: impl Into<String>) {
        self.errors.push(FieldError::new(format!("{}/{key}", self.base), code, detail));
    }

    /// What was wrong.
    pub(crate) fn errors(self) -> Vec<FieldError> {
        self.errors
    }

    /// Whether this field was complained of.
    pub(crate) fn complained_of(&self, key: &str) -> bool {
        let pointer = format!("{}/{key}", self.base);
        self.errors.iter().any(|error| error.pointer == pointer)
    }

    /// The bare value.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key)
    }

    /// A text that says something, of at most `max` bytes, without control characters but tab and line ends (FHIR
    /// `string`).
    pub(crate) fn text(&mut self, key: &str, max: usize) -> Given<String> {
        match self.object.get(key) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(Value::String(text)) => match text_problem(text, max) {
                None => Given::Is(text.clone()),
                Some((code, detail)) => {
                    self.wrong(key, code, format!("{key} {detail}"));
                    Given::Absent
                }
            },
            Some(_) => {
                self.wrong(key, "wrong_type", format!("{key} is a text."));
                Given::Absent
            }
        }
    }

    /// A text that `read` understands.
    pub(crate) fn read<T>(&mut self, key: &str, max: usize, read: impl FnOnce(&str) -> Result<T, (&'static str, String)>) -> Given<T> {
        match self.text(key, max) {
            Given::Absent => Given::Absent,
            Given::Null => Given::Null,
            Given::Is(text) => match read(&text) {
                Ok(value) => Given::Is(value),
                Err((code, detail)) => {
                    self.wrong(key, code, detail);
                    Given::Absent
                }
            },
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, key: &str) -> Given<bool> {
        match self.object.get(key) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(Value::Bool(value)) => Given::Is(*value),
            Some(_) => {
                self.wrong(key, "wrong_type", format!("{key} is true or false."));
                Given::Absent
            }
        }
    }

    /// A field that must be there: `null` is refused, left out is refused unless there is a value already.
    pub(crate) fn required<T>(&mut self, key: &str, given: Given<T>, before: Option<T>) -> Option<T> {
        match given {
            Given::Is(value) => Some(value),
            Given::Absent if before.is_some() => before,
            Given::Absent => {
                if !self.complained_of(key) {
                    self.wrong(key, "required", format!("{key} is needed."));
                }
                None
            }
            Given::Null => {
                self.wrong(key, "required", format!("{key} is needed; it cannot be null."));
                None
            }
        }
    }
}

fn text_problem(text: &str, max: usize) -> Option<(&'static str, String)> {
    if text.trim().is_empty() {
        return Some(("empty", "must not be empty.".to_owned()));
    }
    if text.len() > max {
        return Some(("too_long", format!("has more than {max} bytes.")));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return Some(("control_character", "holds a control character.".to_owned()));
    }
    None
}
