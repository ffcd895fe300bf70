//! A FHIR interaction taken apart: what is asked of what, under which conditions, and what is answered.

use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::fault::FaultSet;
use crate::json::Json;
use crate::ledger::Author;
use crate::types::{is_id, is_resource_type};

/// One interaction, from HTTP or from a Bundle's entry.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) target: Target,
    /// The URL's query and, for `_search`, the form.
    pub(crate) query: Query,
    pub(crate) conditions: Conditions,
    pub(crate) prefer: Prefer,
    pub(crate) body: Option<Arc<Json>>,
    /// The FHIR base for links, without a slash at the end.
    pub(crate) base: String,
    pub(crate) faults: FaultSet,
    pub(crate) request_id: Option<String>,
    /// `Cache-Control: no-cache`.
    pub(crate) no_cache: bool,
    /// Committed after the cut.
    pub(crate) late: bool,
    pub(crate) by: Author,
    /// It is an entry of a batch or transaction.
    pub(crate) bundled: bool,
    /// The rows that its condition matched when it looked up, before it came to write.
    pub(crate) looked_up: Option<Vec<usize>>,
    /// The scopes of the token that it came with.
    pub(crate) scopes: Option<Arc<[String]>>,
    /// The id that a transaction has already given it.
    pub(crate) given_id: Option<String>,
}

/// Decoded names and values, in order.
pub(crate) type Query = Vec<(String, String)>;

/// The headers that make an interaction conditional.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    pub(crate) if_match: Option<String>,
    pub(crate) if_none_match: Option<String>,
    pub(crate) if_none_exist: Option<String>,
}

/// The `Prefer` header (RFC 7240, http.html#ops).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Prefer {
    pub(crate) wants: Option<Wants>,
    pub(crate) strict: bool,
}

/// `Prefer: return=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    Minimal,
    Representation,
    Outcome,
}

/// What a path below the FHIR base names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Root,
    Metadata,
    Smart,
    Type(String),
    Search(String),
    Validate(String),
    Instance(String, String),
    InstanceHistory(String, String),
    Version(String, String, String),
    TypeHistory(String),
    SystemHistory,
    /// `Patient/[id]/[type]`.
    Compartment(String, String),
    UnknownType,
    Nothing,
}

impl Target {
    /// Reads a path relative to the base, without query.
    pub(crate) fn parse(path: &str) -> Target {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let own = str::to_owned;
        match parts.as_slice() {
            [] => Target::Root,
            ["metadata"] => Target::Metadata,
            [".well-known", "smart-configuration"] => Target::Smart,
            ["_history"] => Target::SystemHistory,
            [kind, ..] if !is_resource_type(kind) => {
                if kind.starts_with(|first: char| first.is_ascii_uppercase()) {
                    Target::UnknownType
                } else {
                    Target::Nothing
                }
            }
            [kind] => Target::Type(own(kind)),
            [kind, "_search"] => Target::Search(own(kind)),
            [kind, "_history"] => Target::TypeHistory(own(kind)),
            [kind, "$validate"] => Target::Validate(own(kind)),
            [kind, id, "$validate"] if is_id(id) => Target::Validate(own(kind)),
            [kind, id] if is_id(id) => Target::Instance(own(kind), own(id)),
            [kind, id, "_history"] if is_id(id) => Target::InstanceHistory(own(kind), own(id)),
            [kind, id, "_history", version] if is_id(id) => Target::Version(own(kind), own(id), own(version)),
            ["Patient", id, kind] if is_id(id) && is_resource_type(kind) => Target::Compartment(own(id), own(kind)),
            _ => Target::Nothing,
        }
    }

    /// The resource type that the counts name.
    pub(crate) fn label(&self) -> &str {
        match self {
            Target::Root => "Bundle",
            Target::Metadata => "metadata",
            Target::Smart => "smart-configuration",
            Target::Type(kind)
            | Target::Search(kind)
            | Target::Validate(kind)
            | Target::Instance(kind, _)
            | Target::InstanceHistory(kind, _)
            | Target::Version(kind, _, _)
            | Target::TypeHistory(kind)
            | Target::Compartment(_, kind) => kind,
            Target::SystemHistory => "_history",
            Target::UnknownType | Target::Nothing => "unknown",
        }
    }
}

/// What kind of interaction it is, as far as method and path tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interaction {
    Create,
    Update,
    Delete,
    Bundle,
    Search,
    Read,
    Other,
}

impl Interaction {
    pub(crate) fn of(method: &Method, target: &Target) -> Interaction {
        let get = method == Method::GET || method == Method::HEAD;
        match target {
            Target::Root if method == Method::POST => Interaction::Bundle,
            Target::Root if get => Interaction::Search,
            Target::Type(_) if method == Method::POST => Interaction::Create,
            Target::Type(_) | Target::Instance(..) if method == Method::PUT => Interaction::Update,
            Target::Type(_) | Target::Instance(..) if method == Method::DELETE => Interaction::Delete,
            Target::Type(_) | Target::Compartment(..) if get => Interaction::Search,
            Target::Search(_) => Interaction::Search,
            Target::Instance(..) | Target::Version(..) | Target::InstanceHistory(..) | Target::TypeHistory(_) | Target::SystemHistory
                if get =>
            {
                Interaction::Read
            }
            _ => Interaction::Other,
        }
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, Interaction::Create | Interaction::Update | Interaction::Delete | Interaction::Bundle)
    }
}

impl Conditions {
    pub(crate) fn of(headers: &HeaderMap) -> Conditions {
        Conditions {
            if_match: header(headers, "if-match"),
            if_none_match: header(headers, "if-none-match"),
            if_none_exist: header(headers, "if-none-exist"),
        }
    }
}

impl Prefer {
    pub(crate) fn of(headers: &HeaderMap) -> Prefer {
        let mut prefer = Prefer::default();
        for value in headers.get_all("prefer") {
            for part in value.to_str().unwrap_or_default().split([',', ';']) {
                match part.trim() {
                    "return=minimal" => prefer.wants = Some(Wants::Minimal),
                    "return=representation" => prefer.wants = Some(Wants::Representation),
                    "return=OperationOutcome" => prefer.wants = Some(Wants::Outcome),
                    "handling=strict" => prefer.strict = true,
                    _ => {}
                }
            }
        }
        prefer
    }
}

/// The header's text, if it is there and is text.
pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// A query or form, decoded.
pub(crate) fn read_query(text: &str) -> Query {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

/// A query, encoded.
pub(crate) fn write_query(query: &[(String, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish()
}

/// What is answered to an interaction that is done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Option<Json>,
    pub(crate) location: Option<String>,
    pub(crate) etag: Option<String>,
    /// Milliseconds since 1970.
    pub(crate) last_modified: Option<i64>,
    /// The stored resource that the answer is about, for an entry of a Bundle.
    pub(crate) resource: Option<Json>,
}

impl Answer {
    pub(crate) fn with(status: u16, body: Json) -> Answer {
        Answer { status, body: Some(body), ..Answer::default() }
    }
}
