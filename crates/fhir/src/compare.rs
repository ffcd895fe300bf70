//! What the EHR stored against what we sent (PRODUCT, law 7): a difference is reported, not hidden.
//!
//! Only what we sent is looked for; what the server adds is its own. Paths only, never a value.

use crate::primitive;
use model::Decimal;
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::fmt;

/// One element that came out otherwise than it went in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// FHIRPath of the element as we sent it: `Observation.valueQuantity.unit`.
    pub path: String,
    /// In what way.
    pub kind: Kind,
}

/// In what way an element differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is not there any more.
    Missing,
    /// It says something else.
    Differs,
    /// It is the same moment in another offset or precision: the local time of the patient is lost.
    Rewritten,
}

/// Elements of the top level that are the server's own, or ours only as a mark.
const IGNORED: &[&str] = &["meta", "id", "text", "resourceType", "implicitRules", "language"];

/// What differs between what was sent and what is stored. Decimals are compared by value, lists without regard to
/// their order, `issued` as a moment (we make it in UTC).
#[must_use]
pub fn differences(sent: &Value, stored: &Map<String, Value>) -> Vec<Difference> {
    let root = Path::Root(sent.get("resourceType").and_then(Value::as_str).unwrap_or("Resource"));
    let mut found = Vec::new();
    for (key, value) in sent.as_object().into_iter().flatten().filter(|(key, _)| !IGNORED.contains(&key.as_str())) {
        element(value, stored.get(key), &Path::Field(&root, key), key, &mut found);
    }
    found
}

/// Where an element is; written out only where something differs.
enum Path<'a> {
    Root(&'a str),
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Field(of, name) => write!(f, "{of}.{name}"),
            Self::Item(of, index) => write!(f, "{of}[{index}]"),
        }
    }
}

fn element(sent: &Value, stored: Option<&Value>, path: &Path<'_>, key: &str, found: &mut Vec<Difference>) {
    let mut push = |kind| found.push(Difference { path: path.to_string(), kind });
    match (sent, stored) {
        (Value::Null, _) => {}
        (_, None | Some(Value::Null)) => push(Kind::Missing),
        (Value::Object(sent), Some(Value::Object(stored))) => object(sent, stored, path, found),
        (Value::Array(sent), Some(Value::Array(stored))) => list(sent, stored, path, key, found),
        (Value::Number(sent), Some(Value::Number(stored))) if same_number(sent, stored) => {}
        (Value::String(sent), Some(Value::String(stored))) if sent != stored => match primitive::compare_instants(sent, stored) {
            Some(Ordering::Equal) if key == "issued" => {}
            Some(Ordering::Equal) => push(Kind::Rewritten),
            _ => push(Kind::Differs),
        },
        (sent, Some(stored)) if sent != stored => push(Kind::Differs),
        _ => {}
    }
}

fn same_number(sent: &serde_json::Number, stored: &serde_json::Number) -> bool {
    sent == stored || Decimal::from(sent.clone()).same_value(&Decimal::from(stored.clone()))
}

fn object(sent: &Map<String, Value>, stored: &Map<String, Value>, path: &Path<'_>, found: &mut Vec<Difference>) {
    for (key, value) in sent {
        element(value, stored.get(key), &Path::Field(path, key), key, found);
    }
}

/// Each sent item is looked for anywhere in the stored list, and no stored item answers for two. One that is nowhere
/// whole is compared with the free item that is nearest to it, so that the report names the element, not the list.
fn list(sent: &[Value], stored: &[Value], path: &Path<'_>, key: &str, found: &mut Vec<Difference>) {
    let mut free: Vec<&Value> = stored.iter().collect();
    let mut left = Vec::new();
    for (index, item) in sent.iter().enumerate() {
        match free.iter().position(|other| between(item, other, path, key).is_empty()) {
            Some(at) => {
                free.remove(at);
            }
            None => left.push((index, item)),
        }
    }
    for (index, item) in left {
        let place = Path::Item(path, index);
        let path = place.to_string();
        let nearest = free
            .iter()
            .enumerate()
            .map(|(at, other)| (at, between(item, other, &place, key)))
            .filter(|(_, differences)| differences.iter().all(|difference| difference.path != path))
            .min_by_key(|(_, differences)| differences.len());
        match nearest {
            Some((at, differences)) if shares_something(item, &differences) => {
                free.remove(at);
                found.extend(differences);
            }
            _ => found.push(Difference { path, kind: Kind::Missing }),
        }
    }
}

fn between(sent: &Value, stored: &Value, path: &Path<'_>, key: &str) -> Vec<Difference> {
    let mut found = Vec::new();
    element(sent, Some(stored), path, key, &mut found);
    found
}

/// Whether anything of an item is the same in its counterpart.
fn shares_something(item: &Value, differences: &[Difference]) -> bool {
    leaves(item) > differences.len()
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.values().map(leaves).sum(),
        Value::Array(all) => all.iter().map(leaves).sum(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(sent: &str, stored: &str) -> Vec<(String, Kind)> {
        let (sent, stored) = (serde_json::from_str(sent).unwrap(), serde_json::from_str(stored).unwrap());
        differences(&sent, &stored).into_iter().map(|difference| (difference.path, difference.kind)).collect()
    }

    const SENT: &str = r#"{"resourceType":"Observation","meta":{"source":"urn:ponte:version:1"},"status":"final",
        "identifier":[{"system":"urn:ponte:observation","value":"a"}],"code":{"coding":[{"system":"http://loinc.org","code":"1"},
        {"system":"http://loinc.org","code":"2"}]},"effectiveDateTime":"2026-11-25T10:00:00-03:00","issued":"2026-11-25T13:00:00.000Z",
        "valueQuantity":{"value":1.10,"unit":"mg"}}"#;

    #[test]
    fn what_the_server_adds_or_reorders_is_no_difference() {
        let stored = r##"{"resourceType":"Observation","id":"9","meta":{"versionId":"1","source":"#x"},"text":{"status":"generated"},
            "status":"final","identifier":[{"system":"urn:ehr","value":"7"},{"use":"usual","system":"urn:ponte:observation","value":"a"}],
            "code":{"text":"x","coding":[{"system":"http://loinc.org","code":"2"},{"system":"http://loinc.org","code":"1"}]},
            "effectiveDateTime":"2026-11-25T10:00:00-03:00","issued":"2026-11-25T13:00:00+00:00",
            "valueQuantity":{"value":1.1,"unit":"mg","code":"mg"},"note":[{"text":"n"}]}"##;
        assert_eq!(paths(SENT, stored), []);
        assert_eq!(paths(SENT, SENT), []);
    }

    #[test]
    fn each_loss_is_named_by_its_path() {
        let stored = r#"{"resourceType":"Observation","status":"amended","identifier":[{"system":"urn:ponte:observation","value":"A"}],
            "code":{"coding":[{"system":"http://loinc.org","code":"1"}]},"effectiveDateTime":"2026-11-25T13:00:00Z",
            "issued":"2026-11-25T13:00:01Z","valueQuantity":{"value":1.2}}"#;
        let expected = [
            ("Observation.status", Kind::Differs),
            ("Observation.identifier[0].value", Kind::Differs),
            ("Observation.code.coding[1]", Kind::Missing),
            ("Observation.effectiveDateTime", Kind::Rewritten),
            ("Observation.issued", Kind::Differs),
            ("Observation.valueQuantity.value", Kind::Differs),
            ("Observation.valueQuantity.unit", Kind::Missing),
        ];
        assert_eq!(paths(SENT, stored), expected.map(|(path, kind)| (path.to_owned(), kind)));
    }

    #[test]
    fn a_list_that_lost_one_of_two_equals_is_seen() {
        let given = |all: &str| format!(r#"{{"resourceType":"Patient","name":[{{"given":{all}}}]}}"#);
        assert_eq!(paths(&given(r#"["Ana","Ana"]"#), &given(r#"["Ana"]"#)), [("Patient.name[0].given[1]".to_owned(), Kind::Missing)]);
    }
}
