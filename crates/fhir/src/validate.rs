//! R4 validity, asked before anything is sent (PRODUCT, "Before a delivery is sent") and in tests of whatever we make.
//!
//! The model check (cardinality, types, unknown elements, one `value[x]`) is fhirkit's, behind this one function. What it
//! leaves out stands here and in `rules`: required bindings, the calendar, and the invariants of what we map.

mod rules;

use fhirkit::r4::Resource as Model;
use serde_json::Value;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// FHIRPath of the element: `Observation.component[1].valueQuantity`.
    pub expression: String,
    /// What is wrong with it, a sentence that does not repeat the value.
    pub detail: String,
}

impl std::fmt::Display for Issue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.expression, self.detail)
    }
}

/// Checks a resource of this type against R4 4.0.1.
///
/// # Errors
/// Everything that is wrong, in the order of the resource.
pub fn validate(resource_type: &str, resource: &Value) -> Result<(), Vec<Issue>> {
    validate_written(resource_type, resource, &resource.to_string())
}

/// The same of one that is written already, as this text.
///
/// # Errors
/// As [`validate`].
pub fn validate_written(resource_type: &str, resource: &Value, text: &str) -> Result<(), Vec<Issue>> {
    if resource.get("resourceType").and_then(Value::as_str) != Some(resource_type) {
        let detail = format!("This is not the resource type {resource_type}.");
        return Err(vec![Issue { expression: format!("{resource_type}.resourceType"), detail }]);
    }
    let mut issues = model_issues(resource_type, text);
    rules::check(resource_type, resource, &mut issues);
    let mut seen = std::collections::HashSet::new();
    issues.retain(|issue| seen.insert(issue.expression.clone()));
    if issues.is_empty() { Ok(()) } else { Err(issues) }
}

fn model_issues(resource_type: &str, text: &str) -> Vec<Issue> {
    match fhirkit::from_json::<Model>(text) {
        Ok((_, issues)) => issues
            .into_iter()
            .filter(|issue| issue.severity == fhirkit::Severity::Error)
            .map(|issue| Issue { expression: issue.path, detail: without_values(&issue.message) })
            .collect(),
        Err(_) => vec![Issue { expression: resource_type.to_owned(), detail: "This is not JSON that FHIR allows.".to_owned() }],
    }
}

/// fhirkit's sentence, but for the value in it.
fn without_values(message: &str) -> String {
    if let Some((_, rest)) = message.rsplit_once("\" is not a valid ") {
        return format!("This is not a valid {rest}.");
    }
    let number = |what: &str| message.contains(what);
    if number("is not a FHIR integer") || number("32-bit range") {
        return "This is not a whole number that FHIR allows (32 bits, no point).".to_owned();
    }
    if number("is not a positiveInt") {
        return "This must be 1 or more.".to_owned();
    }
    if number("is not an unsignedInt") {
        return "This must be 0 or more.".to_owned();
    }
    if number("is not a FHIR decimal") {
        return "This is not a decimal number that FHIR allows.".to_owned();
    }
    let known = [
        "the key appears more than once",
        "expected an object",
        "expected a string",
        "expected a single value",
        "expected an array",
        "expected a number",
        "expected a whole number",
        "expected true or false",
        "an empty ",
        "null is not allowed",
        "null with no extension",
        "has ",
        "only one type may be given",
        "unknown element",
        "required element missing",
        "needs at least",
        "a resource needs a resourceType",
    ];
    if known.iter().any(|start| message.starts_with(start)) {
        let mut sentence = message.to_owned();
        if let Some(first) = sentence.get(..1).map(str::to_uppercase) {
            sentence.replace_range(..1, &first);
        }
        return format!("{sentence}.");
    }
    "This is not valid in FHIR R4.".to_owned()
}

#[cfg(test)]
mod tests;
