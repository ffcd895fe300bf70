//! OperationOutcomes, and the refusals that carry them (FHIR R4 operationoutcome.html, http.html).

use crate::json::{Json, object, string};

/// One issue of an OperationOutcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) severity: &'static str,
    pub(crate) code: &'static str,
    pub(crate) text: String,
    /// FHIRPath of the element, for instance `Observation.status`.
    pub(crate) expression: Option<String>,
}

impl Issue {
    pub(crate) fn error(code: &'static str, text: impl Into<String>) -> Issue {
        Issue { severity: "error", code, text: text.into(), expression: None }
    }

    pub(crate) fn at(mut self, expression: impl Into<String>) -> Issue {
        self.expression = Some(expression.into());
        self
    }
}

/// A request that is not done: the status and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) issues: Vec<Issue>,
    /// A header to go with it (`WWW-Authenticate`, `Allow`, `Location`, `Retry-After`).
    pub(crate) header: Option<(&'static str, String)>,
    /// A body that is not FHIR: content type and text.
    pub(crate) page: Option<(&'static str, String)>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &'static str, text: impl Into<String>) -> Refusal {
        Refusal::of(status, vec![Issue::error(code, text)])
    }

    pub(crate) fn of(status: u16, issues: Vec<Issue>) -> Refusal {
        Refusal { status, issues, header: None, page: None }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Refusal {
        self.header = Some((name, value.into()));
        self
    }

    pub(crate) fn page(status: u16, content_type: &'static str, text: impl Into<String>) -> Refusal {
        let mut refusal = Refusal::of(status, Vec::new());
        refusal.page = Some((content_type, text.into()));
        refusal
    }
}

/// The OperationOutcome of these issues.
pub(crate) fn outcome(issues: &[Issue]) -> Json {
    object([("resourceType", string("OperationOutcome")), ("issue", Json::Array(issues.iter().map(issue).collect()))])
}

/// An OperationOutcome that says that all is well.
pub(crate) fn all_well(text: &str) -> Json {
    outcome(&[Issue { severity: "information", code: "informational", text: text.to_owned(), expression: None }])
}

fn issue(issue: &Issue) -> Json {
    let mut value = object([
        ("severity", string(issue.severity)),
        ("code", string(issue.code)),
        ("details", object([("text", string(issue.text.clone()))])),
        ("diagnostics", string(issue.text.clone())),
    ]);
    if let (Some(expression), Json::Object(members)) = (&issue.expression, &mut value) {
        members.push(("expression".to_owned(), Json::Array(vec![string(expression.clone())])));
    }
    value
}
