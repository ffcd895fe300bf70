//! OperationOutcome: what an EHR says went wrong, as one sentence, a code and a fingerprint (FHIR.md §6).
//!
//! Its texts may hold patient data: they go to the sealed attempt and to the tenant, never to a log or metric. That is
//! why `Debug` shows codes only, and why the fingerprint is made of codes and paths.

use serde_json::Value;
use std::fmt;

/// The longest sentence given back, in characters.
const SENTENCE_CAP: usize = 1000;

/// The most issues that are read. Which of more than that matters nobody could say, so that one counts as unreadable.
pub const ISSUES_MAX: usize = 1000;

/// How bad an issue is (value set issue-severity).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the codes of the value set are their own words")]
pub enum Severity {
    Information,
    Warning,
    Error,
    Fatal,
}

/// One issue.
#[derive(Clone, PartialEq, Eq)]
pub struct Issue {
    /// How bad. An unknown or absent severity counts as an error.
    pub severity: Severity,
    /// issue-type; `unknown` where the server gave none.
    pub code: String,
    /// `details.text`.
    pub text: Option<String>,
    /// `details.coding`: system, code, display.
    pub codings: Vec<(String, String, String)>,
    /// Technical words.
    pub diagnostics: Option<String>,
    /// FHIRPath of the elements concerned.
    pub expression: Vec<String>,
    /// XPath, or `http.<header|parameter>`; deprecated and still sent.
    pub location: Vec<String>,
}

/// An OperationOutcome as far as we read it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct OperationOutcome {
    /// Its issues, in order.
    pub issues: Vec<Issue>,
    /// `text.div` without its tags.
    pub narrative: Option<String>,
}

impl OperationOutcome {
    /// Reads an OperationOutcome; `None` for anything else, however broken, and for one that says more than we read
    /// ([`ISSUES_MAX`], [`crate::json::VALUES_MAX`]).
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        Self::from_value(&crate::json::bounded(body)?)
    }

    /// Reads it from JSON that is parsed already.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        if value.get("resourceType")?.as_str()? != "OperationOutcome" {
            return None;
        }
        let issues = value.get("issue").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if issues.len() > ISSUES_MAX {
            return None;
        }
        let issues = issues.iter().map(issue).collect();
        let narrative = value.pointer("/text/div").and_then(Value::as_str).map(strip_tags).filter(|text| !text.is_empty());
        Some(Self { issues, narrative })
    }

    /// The worst issue; of equals the first. A 4xx may begin with an `information`.
    #[must_use]
    pub fn worst(&self) -> Option<&Issue> {
        self.issues.iter().rev().max_by_key(|issue| issue.severity)
    }

    /// Whether anything in it is an error.
    #[must_use]
    pub fn has_error(&self) -> bool {
        self.issues.iter().any(|issue| issue.severity >= Severity::Error)
    }

    /// Whether the worst issue is of the `transient` branch of issue-type: the same request may go well later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        const TRANSIENT: &[&str] = &["transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"];
        self.worst().is_some_and(|issue| TRANSIENT.contains(&issue.code.as_str()))
    }

    /// Whether an error in it has this issue-type.
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        self.errors().any(|issue| issue.code == code)
    }

    /// Whether, beside a result, it says that the result is not all there is (R4 issue-type: `suppressed`, `incomplete`; as a
    /// warning as a rule) or that something went wrong.
    #[must_use]
    pub fn withholds(&self) -> bool {
        self.has_error() || self.issues.iter().any(|issue| matches!(issue.code.as_str(), "suppressed" | "incomplete"))
    }

    /// Whether an error names an element of the resource, other than its id: then it is about content.
    #[must_use]
    pub fn names_an_element(&self) -> bool {
        self.errors().flat_map(|issue| issue.expression.iter().chain(&issue.location)).any(|path| {
            let path = path.trim();
            let about_id = path == "id" || path.ends_with(".id") || path.ends_with("/f:id") || path.starts_with("http.");
            // FHIRPath begins with a type, XPath with a slash or a prefix; anything else may be a parameter's name.
            let of_resource = path.starts_with(|c: char| c.is_ascii_uppercase()) || path.starts_with('/') || path.starts_with("f:");
            of_resource && !about_id && path.contains(['.', '/'])
        })
    }

    /// One sentence for people, in the EHR's own words: of each error (else warning) the text, the coding's display or the
    /// diagnostics, and where. `None` if it says nothing at all.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let shown: Vec<&Issue> = [Severity::Error, Severity::Warning, Severity::Information]
            .into_iter()
            .map(|least| self.issues.iter().filter(|issue| issue.severity >= least).collect::<Vec<_>>())
            .find(|issues| !issues.is_empty())
            .unwrap_or_default();
        let mut parts: Vec<String> = Vec::new();
        for words in shown.into_iter().filter_map(issue_words) {
            if !parts.contains(&words) {
                parts.push(words);
            }
        }
        let text = if parts.is_empty() { self.narrative.clone()? } else { parts.join("; ") };
        Some(clip(&text, SENTENCE_CAP))
    }

    /// What groups equal failures: status, codes, codings and paths without indices. Never a text, never a value.
    #[must_use]
    pub fn fingerprint(&self, status: Option<u16>) -> String {
        let mut parts: Vec<String> = self.errors().map(issue_fingerprint).collect();
        if parts.is_empty() {
            parts = self.worst().map(issue_fingerprint).into_iter().collect();
        }
        parts.sort();
        parts.dedup();
        parts.truncate(5);
        let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        format!("{status}|{}", parts.join(";"))
    }

    fn errors(&self) -> impl Iterator<Item = &Issue> {
        self.issues.iter().filter(|issue| issue.severity >= Severity::Error)
    }
}

impl fmt::Debug for OperationOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperationOutcome").field("issues", &self.issues).finish_non_exhaustive()
    }
}

impl fmt::Debug for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issue").field("severity", &self.severity).field("code", &token_only(&self.code)).finish_non_exhaustive()
    }
}

/// One sentence for an answer of this status: the OperationOutcome's words if there are any, else what kind of thing
/// came instead. Nothing of a page that is not FHIR is repeated.
#[must_use]
pub fn sentence(status: u16, body: &[u8]) -> String {
    if let Some(words) = OperationOutcome::parse(body).and_then(|outcome| outcome.sentence()) {
        return words;
    }
    match kind_of(body) {
        BodyKind::Empty => format!("The EHR answered {status} without a body."),
        BodyKind::Html => {
            format!("The EHR answered {status} with an HTML page instead of FHIR; a proxy or a login page is in front of it.")
        }
        BodyKind::Json => format!("The EHR answered {status} without saying why."),
        BodyKind::Other => format!("The EHR answered {status} with something that is not FHIR."),
    }
}

/// What groups equal failures, for any body.
#[must_use]
pub fn fingerprint(status: Option<u16>, body: &[u8]) -> String {
    match OperationOutcome::parse(body) {
        Some(outcome) => outcome.fingerprint(status),
        None => OperationOutcome::default().fingerprint(status) + kind_of(body).word(),
    }
}

/// What a body is at first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// Nothing, or only white space.
    Empty,
    /// A page.
    Html,
    /// JSON of some kind, whole.
    Json,
    /// Anything else, JSON that breaks off included.
    Other,
}

impl BodyKind {
    fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Html => "html",
            Self::Json => "json",
            Self::Other => "other",
        }
    }
}

/// What a body is at first sight, whatever its Content-Type claims.
#[must_use]
pub fn kind_of(body: &[u8]) -> BodyKind {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii();
    if body.is_empty() {
        return BodyKind::Empty;
    }
    if body.starts_with(b"<") {
        let head = String::from_utf8_lossy(&body[..body.len().min(300)]).to_ascii_lowercase();
        let html = head.contains("<html") || head.contains("<!doctype html") || head.contains("<head") || head.contains("<body");
        return if html { BodyKind::Html } else { BodyKind::Other };
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() { BodyKind::Json } else { BodyKind::Other }
}

fn issue(value: &Value) -> Issue {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    let list = |key: &str| -> Vec<String> {
        let all = value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let codings = value.pointer("/details/coding").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let part = |coding: &Value, key: &str| coding.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Issue {
        severity: match value.get("severity").and_then(Value::as_str) {
            Some("fatal") => Severity::Fatal,
            Some("warning") => Severity::Warning,
            Some("information") => Severity::Information,
            _ => Severity::Error,
        },
        code: text("/code").unwrap_or_else(|| "unknown".to_owned()),
        text: text("/details/text"),
        codings: codings.iter().map(|c| (part(c, "system"), part(c, "code"), part(c, "display"))).collect(),
        diagnostics: text("/diagnostics"),
        expression: list("expression"),
        location: list("location"),
    }
}

fn issue_words(issue: &Issue) -> Option<String> {
    let display = issue.codings.iter().map(|(_, _, display)| display.trim()).find(|display| !display.is_empty());
    let first = issue.text.as_deref().or(display).or(issue.diagnostics.as_deref());
    let mut words = match first {
        Some(first) => clip(&squeeze(first), 500),
        None if issue.code != "unknown" => format!("issue `{}`", clip(&issue.code, 60)),
        None => return None,
    };
    if let Some(diagnostics) = issue.diagnostics.as_deref().map(squeeze)
        && diagnostics.chars().count() <= 300
        && !words.contains(&diagnostics)
    {
        words = format!("{words} ({diagnostics})");
    }
    if let Some(path) = issue.expression.first().or(issue.location.first()) {
        words = format!("{words} [{}]", clip(path, 120));
    }
    Some(words)
}

fn issue_fingerprint(issue: &Issue) -> String {
    let mut parts = vec![token_only(&issue.code)];
    parts.extend(issue.codings.iter().take(2).map(|(system, code, _)| format!("{}#{}", token_only(system), token_only(code))));
    parts.extend(issue.expression.first().or(issue.location.first()).map(|path| path_only(path)));
    parts.join(",")
}

/// A path without indices and without anything in brackets, which may hold values.
fn path_only(path: &str) -> String {
    let mut depth = 0u32;
    let mut out = String::new();
    for c in path.chars() {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            c if depth == 0 && (c.is_ascii_alphabetic() || matches!(c, '.' | '/' | ':' | '_' | '-')) => out.push(c),
            _ => {}
        }
    }
    clip(&out, 120)
}

fn token_only(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "-._:/".contains(*c)).take(100).collect()
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn strip_tags(html: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                out.push(' ');
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    let out = out.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&nbsp;", " ").replace("&amp;", "&");
    squeeze(&out)
}

fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
