//! What fhirkit leaves out: required bindings (R4 terminologies#required), days that do not exist, blank texts, and the
//! invariants of the elements that we map.

use super::Issue;
use crate::primitive;
use model::Decimal;
use serde_json::{Map, Value};

/// Codes of `observation-status` (R4 valueset-observation-status).
pub(crate) const OBSERVATION_STATUS: &[&str] =
    &["registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"];

const GENDER: &[&str] = &["male", "female", "other", "unknown"];
const LINK_TYPE: &[&str] = &["replaced-by", "replaces", "refer", "seealso"];
const IDENTIFIER_USE: &[&str] = &["usual", "official", "temp", "secondary", "old"];
const NAME_USE: &[&str] = &["usual", "official", "temp", "nickname", "anonymous", "old", "maiden"];
const CONTACT_USE: &[&str] = &["home", "work", "temp", "old", "mobile"];
const CONTACT_SYSTEM: &[&str] = &["phone", "fax", "email", "pager", "url", "sms", "other"];
const ADDRESS_USE: &[&str] = &["home", "work", "temp", "old", "billing"];
const ADDRESS_TYPE: &[&str] = &["postal", "physical", "both"];
const COMPARATOR: &[&str] = &["<", "<=", ">=", ">"];
const NARRATIVE_STATUS: &[&str] = &["generated", "extensions", "additional", "empty"];

/// Which codes an element may hold: by its resource type where that matters, its parent's name, and its own.
const BINDINGS: &[(&str, &str, &str, &[&str])] = &[
    ("Observation", "Observation", "status", OBSERVATION_STATUS),
    ("Patient", "Patient", "gender", GENDER),
    ("Patient", "contact", "gender", GENDER),
    ("Patient", "link", "type", LINK_TYPE),
    ("", "identifier", "use", IDENTIFIER_USE),
    ("", "name", "use", NAME_USE),
    ("", "telecom", "use", CONTACT_USE),
    ("", "telecom", "system", CONTACT_SYSTEM),
    ("", "address", "use", ADDRESS_USE),
    ("", "address", "type", ADDRESS_TYPE),
    ("", "text", "status", NARRATIVE_STATUS),
    ("", "valueQuantity", "comparator", COMPARATOR),
    ("", "low", "comparator", &[]),
    ("", "high", "comparator", &[]),
];

/// Adds what is wrong.
pub(super) fn check(resource_type: &str, resource: &Value, issues: &mut Vec<Issue>) {
    let Some(fields) = resource.as_object() else { return };
    let mut walk = Walk { resource_type, issues };
    walk.object(fields, resource_type, resource_type);
    if let Some(id) = fields.get("id").and_then(Value::as_str)
        && !primitive::is_id(id)
    {
        walk.wrong(&format!("{resource_type}.id"), "An id is 1 to 64 of A-Z a-z 0-9 - and the point.");
    }
    if resource_type == "Observation" {
        walk.observation(fields);
    }
}

struct Walk<'a> {
    resource_type: &'a str,
    issues: &'a mut Vec<Issue>,
}

impl Walk<'_> {
    fn wrong(&mut self, path: &str, detail: &str) {
        self.issues.push(Issue { expression: path.to_owned(), detail: detail.to_owned() });
    }

    fn object(&mut self, fields: &Map<String, Value>, path: &str, name: &str) {
        self.invariants(fields, path, name);
        for (key, value) in fields {
            let path = format!("{path}.{key}");
            match value {
                Value::Object(inner) => self.object(inner, &path, key),
                // A contained resource is somebody else's; we make none.
                Value::Array(_) if key == "contained" => {}
                Value::Array(all) => {
                    for (index, value) in all.iter().enumerate() {
                        let path = format!("{path}[{index}]");
                        match value {
                            Value::Object(inner) => self.object(inner, &path, key),
                            Value::String(text) => self.text(text, &path, key, name),
                            _ => {}
                        }
                    }
                }
                Value::String(text) => self.text(text, &path, key, name),
                _ => {}
            }
        }
    }

    fn text(&mut self, text: &str, path: &str, key: &str, parent: &str) {
        if !primitive::is_string(text) {
            self.wrong(path, "This text is blank, too long, or holds control characters.");
        }
        if is_time_element(key, parent) && primitive::date_time(text).is_none() && primitive::time(text).is_none() {
            self.wrong(path, "This date or time is not one that exists, or it has a time without seconds and a zone.");
        }
        for (resource_type, in_parent, element, codes) in BINDINGS {
            let here = resource_type.is_empty() || *resource_type == self.resource_type;
            if here && *in_parent == parent && *element == key && !codes.contains(&text) {
                self.wrong(path, "This code is not one of those that R4 requires here.");
            }
        }
    }

    fn invariants(&mut self, fields: &Map<String, Value>, path: &str, name: &str) {
        let has = |key: &str| fields.contains_key(key) || fields.contains_key(&format!("_{key}"));
        if fields.is_empty() {
            self.wrong(path, "An object must not be empty (ele-1).");
        }
        if is_quantity(name) && has("code") && !has("system") {
            self.wrong(path, "A unit's code needs its system (qty-3).");
        }
        if name == "telecom" && has("value") && !has("system") {
            self.wrong(path, "A contact's value needs its system (cpt-2).");
        }
        if name == "referenceRange" && !has("low") && !has("high") && !has("text") {
            self.wrong(path, "A reference range needs low, high or text (obs-3).");
        }
        if name == "valueRatio" && has("numerator") != has("denominator") {
            self.wrong(path, "A ratio has both a numerator and a denominator, or neither (rat-1).");
        }
        if name == "extension" || name == "modifierExtension" {
            let valued = fields.keys().any(|key| key.strip_prefix('_').unwrap_or(key).starts_with("value"));
            if valued == fields.contains_key("extension") {
                self.wrong(path, "An extension has either a value or extensions of its own (ext-1).");
            }
        }
        if name == "contact" && self.resource_type == "Patient" && !["name", "telecom", "address", "organization"].into_iter().any(has) {
            self.wrong(path, "A contact needs a name, a telecom, an address or an organization (pat-1).");
        }
        if let (Some(start), Some(end)) = (text_of(fields, "start"), text_of(fields, "end"))
            && primitive::compare_instants(start, end) == Some(std::cmp::Ordering::Greater)
        {
            self.wrong(path, "A period ends before it starts (per-1).");
        }
        if name == "valueRange" && low_above_high(fields) {
            self.wrong(path, "A range's low is above its high (rng-2).");
        }
    }

    fn observation(&mut self, fields: &Map<String, Value>) {
        if has_value(fields) && fields.contains_key("dataAbsentReason") {
            self.wrong("Observation.dataAbsentReason", "A reason for a missing value stands beside a value (obs-6).");
        }
        for (index, component) in fields.get("component").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let Some(component) = component.as_object() else { continue };
            if has_value(component) && component.contains_key("dataAbsentReason") {
                let path = format!("Observation.component[{index}].dataAbsentReason");
                self.wrong(&path, "A reason for a missing value stands beside a value.");
            }
            if has_value(fields) && shares_a_code(fields, component) {
                let path = format!("Observation.component[{index}].code");
                self.wrong(&path, "A component has the Observation's own code, so the Observation must have no value (obs-7).");
            }
        }
    }
}

/// Whether an object holds a value of one of the eleven types, or a primitive's extension in its place.
pub(crate) fn has_value(fields: &Map<String, Value>) -> bool {
    fields.keys().any(|key| {
        let key = key.strip_prefix('_').unwrap_or(key);
        key.strip_prefix("value").is_some_and(|kind| kind.starts_with(|c: char| c.is_ascii_uppercase()))
    })
}

fn shares_a_code(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let codes = |fields: &Map<String, Value>| -> Vec<(String, String)> {
        let codings = fields.get("code").and_then(|code| code.get("coding")).and_then(Value::as_array);
        let text = |coding: &Value, name: &str| coding.get(name).and_then(Value::as_str).map(str::to_owned);
        codings.into_iter().flatten().filter_map(|c| Some((text(c, "system").unwrap_or_default(), text(c, "code")?))).collect()
    };
    let of_one = codes(one);
    codes(other).iter().any(|code| of_one.contains(code))
}

fn is_quantity(name: &str) -> bool {
    matches!(name, "valueQuantity" | "low" | "high" | "numerator" | "denominator" | "origin")
}

fn is_time_element(key: &str, parent: &str) -> bool {
    let dated = matches!(key, "birthDate" | "issued" | "lastUpdated" | "valueDate" | "valueTime") || key.ends_with("DateTime");
    dated || key.ends_with("Instant") || matches!((parent, key), (_, "start" | "end")) || matches!((parent, key), ("note", "time"))
}

fn text_of<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key).and_then(Value::as_str)
}

fn low_above_high(fields: &Map<String, Value>) -> bool {
    let bound = |name: &str| match fields.get(name)?.get("value")? {
        Value::Number(number) => Some(Decimal::from(number.clone()).approximate()),
        _ => None,
    };
    let unit = |name: &str| fields.get(name).and_then(|quantity| quantity.get("code")).cloned();
    matches!((bound("low"), bound("high")), (Some(low), Some(high)) if low > high) && unit("low") == unit("high")
}
