//! Whether a resource is valid R4: fhirkit for elements, types and cardinalities, and our own eyes for required codes and invariants.

use fhirkit::r4::{Observation, Patient};
use fhirkit::{FhirJson, Severity};

use crate::json::{Json, items, str_at};
use crate::outcome::Issue;
use crate::quirks::Validation;

/// What is wrong with this resource, as far as this server looks. Types other than Observation and Patient are stored as they are.
pub(crate) fn issues(kind: &str, body: &Json, depth: Validation) -> Vec<Issue> {
    match (depth, kind) {
        (Validation::None, _) => Vec::new(),
        (Validation::Presence, "Observation") => absent(body),
        (Validation::Shape, "Observation") => {
            let mut found = shape::<Observation>(body);
            // A second value[x] is not looked at; fhirkit says so twice, the second time of the element that it did not read.
            if found.iter().any(|issue| issue.text.contains("only one type")) {
                found.retain(|issue| !issue.expression.as_deref().is_some_and(|path| path.starts_with("Observation.value")));
            }
            found
        }
        (Validation::Strict, "Observation") => {
            let mut found = shape::<Observation>(body);
            observation(body, &mut found);
            found
        }
        (Validation::Shape, "Patient") => shape::<Patient>(body),
        (Validation::Strict, "Patient") => {
            let mut found = shape::<Patient>(body);
            patient(body, &mut found);
            found
        }
        _ => Vec::new(),
    }
}

/// `Observation.status` (required binding, valueset-observation-status.html).
const STATUSES: &[&str] = &["registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"];
const GENDERS: &[&str] = &["male", "female", "other", "unknown"];
const COMPARATORS: &[&str] = &["<", "<=", ">=", ">"];
const CONTACTS: &[&str] = &["phone", "fax", "email", "pager", "url", "sms", "other"];
const IDENTIFIER_USES: &[&str] = &["usual", "official", "temp", "secondary", "old"];

fn absent(body: &Json) -> Vec<Issue> {
    ["status", "code"]
        .into_iter()
        .filter(|name| body.get(name).is_none())
        .map(|name| {
            Issue::error("required", format!("Observation.{name}: minimum required is 1, found 0.")).at(format!("Observation.{name}"))
        })
        .collect()
}

fn shape<T: FhirJson>(body: &Json) -> Vec<Issue> {
    let (_, found) = fhirkit::decode_json::<T>(body);
    found
        .into_iter()
        .filter(|issue| issue.severity == Severity::Error)
        .map(|issue| {
            let code = if issue.message.contains("required") {
                "required"
            } else if issue.message.contains("unknown") {
                "structure"
            } else {
                "value"
            };
            Issue::error(code, format!("{}: {}", issue.path, issue.message)).at(issue.path)
        })
        .collect()
}

fn observation(body: &Json, found: &mut Vec<Issue>) {
    bound(body, "status", "Observation", STATUSES, found);
    identifiers(body, "Observation", found);
    valued(body, "Observation", found);
    for (index, component) in items(body, "component").iter().enumerate() {
        let path = format!("Observation.component[{index}]");
        valued(component, &path, found);
        if value_name(body).is_some() && same_code(body.get("code"), component.get("code")) {
            found.push(
                Issue::error(
                    "invariant",
                    "obs-7: If Observation.code is the same as an Observation.component.code then the value element associated with the code SHALL NOT be present.",
                )
                .at("Observation.value[x]"),
            );
        }
    }
}

/// What Observation and its components have in common: value and reason, comparator, reference ranges.
fn valued(element: &Json, path: &str, found: &mut Vec<Issue>) {
    if value_name(element).is_some() && element.get("dataAbsentReason").is_some() {
        found.push(
            Issue::error("invariant", "obs-6: dataAbsentReason SHALL only be present if value[x] is not present.")
                .at(format!("{path}.dataAbsentReason")),
        );
    }
    if let Some(quantity) = element.get("valueQuantity") {
        bound(quantity, "comparator", &format!("{path}.valueQuantity"), COMPARATORS, found);
        if quantity.get("code").is_some() && quantity.get("system").is_none() {
            found.push(
                Issue::error("invariant", "qty-3: If a code for the unit is present, the system SHALL also be present.")
                    .at(format!("{path}.valueQuantity")),
            );
        }
    }
    for (index, range) in items(element, "referenceRange").iter().enumerate() {
        if ["low", "high", "text"].iter().all(|name| range.get(name).is_none()) {
            found.push(
                Issue::error("invariant", "obs-3: Must have at least a low or a high or text.")
                    .at(format!("{path}.referenceRange[{index}]")),
            );
        }
    }
}

fn patient(body: &Json, found: &mut Vec<Issue>) {
    bound(body, "gender", "Patient", GENDERS, found);
    identifiers(body, "Patient", found);
    for (index, telecom) in items(body, "telecom").iter().enumerate() {
        let path = format!("Patient.telecom[{index}]");
        bound(telecom, "system", &path, CONTACTS, found);
        if telecom.get("value").is_some() && telecom.get("system").is_none() {
            found.push(Issue::error("invariant", "cpt-2: A system is required if a value is provided.").at(path));
        }
    }
}

fn identifiers(body: &Json, root: &str, found: &mut Vec<Issue>) {
    for (index, identifier) in items(body, "identifier").iter().enumerate() {
        bound(identifier, "use", &format!("{root}.identifier[{index}]"), IDENTIFIER_USES, found);
    }
}

fn bound(element: &Json, name: &str, path: &str, codes: &[&str], found: &mut Vec<Issue>) {
    if let Some(code) = str_at(element, name)
        && !codes.contains(&code)
    {
        found.push(
            Issue::error("code-invalid", format!("{path}.{name}: the code is not in the required value set ({}).", codes.join(", ")))
                .at(format!("{path}.{name}")),
        );
    }
}

fn value_name(element: &Json) -> Option<&str> {
    element
        .as_object()?
        .iter()
        .map(|(name, _)| name.as_str())
        .find(|name| name.strip_prefix("value").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_uppercase())))
}

fn same_code(one: Option<&Json>, other: Option<&Json>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    items(one, "coding").iter().any(|a| {
        str_at(a, "code").is_some()
            && items(other, "coding").iter().any(|b| str_at(a, "code") == str_at(b, "code") && str_at(a, "system") == str_at(b, "system"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(kind: &str, json: &str, depth: Validation) -> Vec<String> {
        issues(kind, &Json::parse(json).unwrap(), depth).into_iter().filter_map(|issue| issue.expression).collect()
    }

    #[test]
    fn a_refusal_names_the_element() {
        for (json, path) in [
            (r#"{"resourceType":"Observation","code":{"text":"x"}}"#, "Observation.status"),
            (r#"{"resourceType":"Observation","status":"final"}"#, "Observation.code"),
            (r#"{"resourceType":"Observation","status":"done","code":{"text":"x"}}"#, "Observation.status"),
            (r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"colour":"red"}"#, "Observation.colour"),
            (
                r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueString":"a","valueBoolean":true}"#,
                "Observation.value[x]",
            ),
            (
                r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueString":"a","dataAbsentReason":{"text":"y"}}"#,
                "Observation.dataAbsentReason",
            ),
            (
                r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"effectiveDateTime":"yesterday"}"#,
                "Observation.effectiveDateTime",
            ),
        ] {
            assert!(paths("Observation", json, Validation::Strict).iter().any(|found| found.starts_with(path)), "{json}");
        }
        assert_eq!(paths("Patient", r#"{"resourceType":"Patient","gender":"m"}"#, Validation::Strict), ["Patient.gender"]);
    }

    #[test]
    fn a_value_beside_a_component_of_the_same_code_breaks_obs_7() {
        let code = r#"{"coding":[{"system":"s","code":"c"}]}"#;
        let json = format!(
            r#"{{"resourceType":"Observation","status":"final","code":{code},"valueString":"a","component":[{{"code":{code},"valueString":"b"}}]}}"#
        );
        assert_eq!(paths("Observation", &json, Validation::Strict), ["Observation.value[x]"]);
    }

    #[test]
    fn each_depth_sees_less_than_the_next() {
        let bad_code = r#"{"resourceType":"Observation","status":"done","code":{"text":"x"}}"#;
        assert!(paths("Observation", bad_code, Validation::Shape).is_empty());
        let two_values = r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueString":"a","valueBoolean":true}"#;
        assert_eq!(paths("Observation", two_values, Validation::Shape), Vec::<String>::new());
        assert_eq!(paths("Observation", r#"{"resourceType":"Observation"}"#, Validation::Presence).len(), 2);
        assert!(paths("Observation", r#"{"resourceType":"Observation"}"#, Validation::None).is_empty());
    }

    #[test]
    fn a_good_observation_passes() {
        let json = r#"{"resourceType":"Observation","identifier":[{"system":"urn:x","value":"1"}],"status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"Patient/1"},"effectiveDateTime":"2024-01-01T10:00:00-03:00","valueQuantity":{"value":72.50,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}"#;
        assert!(paths("Observation", json, Validation::Strict).is_empty());
    }
}
