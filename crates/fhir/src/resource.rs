//! A resource: its text, kept as it came, and a thin reading of what all resources share.

use crate::identifier::Identifier;
use crate::json::{self, BadName, Unread, VALUES_MAX};
use model::EhrId;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// The system of the SUBSETTED tag (R4 search#summary).
const OBSERVATION_VALUE: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";

/// A resource as text and as JSON. The text is the truth: it is kept byte for byte (but for a byte order mark in front,
/// which RFC 8259 §8.1 lets a reader skip), and decimals keep their digits in both.
#[derive(Clone)]
pub struct Resource {
    raw: String,
    fields: Map<String, Value>,
    resource_type: String,
}

/// Why a text is not a resource that we can read. Each is a sentence, and none repeats what the text says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not UTF-8 (R4 json: always UTF-8).
    #[error("the text is not UTF-8 (first wrong byte at position {at}); FHIR JSON always is")]
    NotUtf8 {
        /// Position of the first wrong byte.
        at: usize,
    },
    /// Nothing in it.
    #[error("the text is empty; a FHIR resource is a JSON object")]
    Empty,
    /// Broken off.
    #[error("the JSON ends too early, in line {line}; the text seems to be cut off")]
    CutOff {
        /// Line, from 1.
        line: usize,
    },
    /// Not JSON.
    #[error("this is not JSON: line {line}, column {column} cannot be read")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// More values than any resource holds.
    #[error("the resource holds more than {most} values; Ponte reads none that large")]
    TooManyValues {
        /// The most that are read.
        most: usize,
    },
    /// JSON, but an array, text or number.
    #[error("a FHIR resource is a JSON object; this is {found}")]
    NotAnObject {
        /// `an array`, `a text` …
        found: &'static str,
    },
    /// One name twice in one object: which of the two was meant cannot be known (R4 json: names are unique).
    #[error("the name at {path} stands twice in the same object, so its meaning is not certain")]
    DuplicateName {
        /// Path of names and indices.
        path: String,
    },
    /// A name that is no name of FHIR and cannot be read safely.
    #[error("an object at {path} has a name that cannot be read")]
    BadName {
        /// Path of the object; empty at the top.
        path: String,
    },
    /// No `resourceType`, or not one.
    #[error("resourceType is missing or is not the name of a resource type")]
    NoResourceType,
    /// Another type than asked for.
    #[error("this is not the resource type {expected}")]
    WrongType {
        /// The type asked for.
        expected: &'static str,
    },
}

/// Why we may not judge what a resource means (PRODUCT, law 7; R4 extensibility#modifierExtension, resource).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotInterpreted {
    /// It follows implicit rules that we do not know.
    ImplicitRules,
    /// It carries a modifier extension that we do not know, at this path.
    ModifierExtension(String),
}

impl Resource {
    /// Reads a resource. A byte order mark is skipped; an object that holds one name twice is refused, for half of the
    /// world's readers take the first of the two and the other half the last.
    ///
    /// # Errors
    /// When it is not a JSON object with a `resourceType`; the sentence says what it is instead.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let raw = text.strip_prefix('\u{feff}').unwrap_or(text);
        if raw.trim().is_empty() {
            return Err(ParseError::Empty);
        }
        let value = json::strict(raw).map_err(|why| match why {
            Unread::TooManyValues => match serde_json::from_str::<IgnoredAny>(raw) {
                Ok(_) => ParseError::TooManyValues { most: VALUES_MAX },
                Err(error) => bad_json(&error),
            },
            Unread::NotJson(error) => bad_json(&error),
            Unread::BadName(BadName::Twice(path)) => ParseError::DuplicateName { path },
            Unread::BadName(BadName::Unreadable(path)) => ParseError::BadName { path },
        })?;
        let fields = match value {
            Value::Object(fields) => fields,
            other => return Err(ParseError::NotAnObject { found: kind(&other) }),
        };
        let resource_type = fields.get("resourceType").and_then(Value::as_str).filter(|name| crate::search::is_type_name(name));
        let resource_type = resource_type.ok_or(ParseError::NoResourceType)?.to_owned();
        Ok(Self { raw: raw.to_owned(), fields, resource_type })
    }

    /// Reads a resource from bytes.
    ///
    /// # Errors
    /// As [`Self::parse`], and when the bytes are not UTF-8.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        Self::parse(std::str::from_utf8(bytes).map_err(|error| ParseError::NotUtf8 { at: error.valid_up_to() })?)
    }

    /// The text as it came.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The text as it came.
    #[must_use]
    pub fn into_raw(self) -> String {
        self.raw
    }

    /// Its elements.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// One of its elements.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// Its type.
    #[must_use]
    pub fn resource_type(&self) -> &str {
        &self.resource_type
    }

    /// Its logical id, if that is one.
    #[must_use]
    pub fn id(&self) -> Option<EhrId> {
        EhrId::new(self.fields.get("id")?.as_str()?).ok()
    }

    /// `meta.versionId`: opaque, to be compared for equality only.
    #[must_use]
    pub fn version_id(&self) -> Option<&str> {
        self.meta("versionId")?.as_str()
    }

    /// `meta.lastUpdated` as it stands.
    #[must_use]
    pub fn last_updated(&self) -> Option<&str> {
        self.meta("lastUpdated")?.as_str()
    }

    /// `meta.source` as it stands.
    #[must_use]
    pub fn meta_source(&self) -> Option<&str> {
        self.meta("source")?.as_str()
    }

    /// All of its identifiers, wherever ours may have been moved to.
    #[must_use]
    pub fn identifiers(&self) -> Vec<Identifier> {
        Identifier::read_all(&self.fields)
    }

    /// Whether it is only a part of the resource (`_summary`, `_elements`) and must never be the base of an update
    /// (R4 http#read).
    #[must_use]
    pub fn is_subsetted(&self) -> bool {
        let tags = self.meta("tag").and_then(Value::as_array);
        tags.into_iter().flatten().any(|tag| {
            tag.get("code").and_then(Value::as_str) == Some("SUBSETTED")
                && tag.get("system").and_then(Value::as_str).is_none_or(|system| system == OBSERVATION_VALUE)
        })
    }

    /// Why we may not judge what it says, if so: implicit rules, or a modifier extension anywhere but inside a
    /// contained resource. We know no modifier extension.
    #[must_use]
    pub fn not_interpreted(&self) -> Option<NotInterpreted> {
        if self.fields.contains_key("implicitRules") || self.fields.contains_key("_implicitRules") {
            return Some(NotInterpreted::ImplicitRules);
        }
        modifier_extension(&self.fields, &self.resource_type).map(NotInterpreted::ModifierExtension)
    }

    fn meta(&self, name: &str) -> Option<&Value> {
        self.fields.get("meta")?.get(name)
    }
}

impl std::fmt::Debug for Resource {
    /// Its type and size: what it says is nobody's in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resource({}, {} bytes)", self.resource_type, self.raw.len())
    }
}

impl std::fmt::Display for NotInterpreted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ImplicitRules => f.write_str("it follows implicit rules that Ponte does not know, so its meaning is not judged"),
            Self::ModifierExtension(path) => {
                write!(f, "it carries a modifier extension that Ponte does not know, at {path}, so its meaning is not judged")
            }
        }
    }
}

fn bad_json(error: &serde_json::Error) -> ParseError {
    if error.is_eof() {
        ParseError::CutOff { line: error.line() }
    } else {
        ParseError::NotJson { line: error.line(), column: error.column() }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn modifier_extension(fields: &Map<String, Value>, path: &str) -> Option<String> {
    fields.iter().find_map(|(name, value)| {
        let path = format!("{path}.{name}");
        match (name.as_str(), value) {
            ("contained", _) => None,
            ("modifierExtension", Value::Array(all)) if all.is_empty() => None,
            ("modifierExtension", Value::Null) => None,
            ("modifierExtension", _) => Some(path),
            (_, Value::Object(inner)) => modifier_extension(inner, &path),
            (_, Value::Array(all)) => all
                .iter()
                .enumerate()
                .find_map(|(index, value)| value.as_object().and_then(|inner| modifier_extension(inner, &format!("{path}[{index}]")))),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests;
