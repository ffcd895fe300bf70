//! Identifiers; and our own, with the mark of our version that tells which of our writes the EHR holds.
//!
//! PRODUCT, "How a create is made safe", rule 3; PROTOCOL §3 and §5. The mark is carried twice, for servers differ in
//! what they keep: as an extension of our identifier, and in `meta.source`.

use crate::resource::Resource;
use serde_json::{Map, Value, json};

/// System of our identifier on a Patient.
pub const PATIENT_SYSTEM: &str = "urn:ponte:patient";

/// URL of the extension on our identifier that carries our version.
pub const VERSION_EXTENSION: &str = "urn:ponte:version";

/// How `meta.source` begins when it carries our version.
const SOURCE_PREFIX: &str = "urn:ponte:version:";

/// A thin reading of an `Identifier` (R4 datatypes). Nothing in it is certain to be there.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Identifier {
    /// usual, official, temp, secondary, old.
    pub use_code: Option<String>,
    /// Codes of its type, of whatever system (HL7 v2-0203 as a rule).
    pub type_codes: Vec<String>,
    /// Namespace; case-sensitive.
    pub system: Option<String>,
    /// The value as it stands.
    pub value: Option<String>,
    /// Whether its period has an end.
    pub ended: bool,
    /// Our version, where this identifier carries our mark.
    pub version_mark: Option<i64>,
}

impl Identifier {
    /// Reads one; `None` where it is no object.
    #[must_use]
    pub fn read(element: &Value) -> Option<Self> {
        let element = element.as_object()?;
        let text = |name: &str| element.get(name).and_then(Value::as_str).map(str::to_owned);
        let codings = element.get("type").and_then(|t| t.get("coding")).and_then(Value::as_array);
        let type_codes = codings.into_iter().flatten().filter_map(|c| Some(c.get("code")?.as_str()?.to_owned()));
        Some(Self {
            use_code: text("use"),
            type_codes: type_codes.collect(),
            system: text("system"),
            value: text("value"),
            ended: element.get("period").is_some_and(|period| period.get("end").is_some()),
            version_mark: extension_mark(element),
        })
    }

    /// Whether it is exactly this one, byte for byte.
    #[must_use]
    pub fn is(&self, system: &str, value: &str) -> bool {
        self.system.as_deref() == Some(system) && self.value.as_deref() == Some(value)
    }

    /// Whether it still counts: neither `old` nor ended.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.use_code.as_deref() != Some("old") && !self.ended
    }

    /// All of a resource's own. `Bundle` and a few others have one instead of a list; both forms are read.
    pub(crate) fn read_all(fields: &Map<String, Value>) -> Vec<Self> {
        match fields.get("identifier") {
            Some(Value::Array(all)) => all.iter().filter_map(Self::read).collect(),
            Some(one) => Self::read(one).into_iter().collect(),
            None => Vec::new(),
        }
    }
}

impl std::fmt::Debug for Identifier {
    /// System and use: the value may be a CPF.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identifier").field("system", &self.system).field("use", &self.use_code).finish_non_exhaustive()
    }
}

/// Our identifier with the mark of this version, as it goes into `identifier[]`.
#[must_use]
pub fn ours(system: &str, value: &str, version: i64) -> Value {
    json!({
        "extension": [{"url": VERSION_EXTENSION, "valueString": version.to_string()}],
        "system": system,
        "value": value,
    })
}

/// The mark of this version, as it goes into `meta.source`.
#[must_use]
pub fn source(version: i64) -> String {
    format!("{SOURCE_PREFIX}{version}")
}

/// Whether the resource carries this identifier, byte for byte, in any place of `identifier[]`: the proof of a create.
#[must_use]
pub fn carries(resource: &Resource, system: &str, value: &str) -> bool {
    resource.identifiers().iter().any(|identifier| identifier.is(system, value))
}

/// Which of our versions the resource is: the extension of our identifier first, `meta.source` next (HAPI writes
/// `#requestId` behind it). `None` where it does not carry our identifier, where no mark survived, and where marks on
/// our identifier contradict each other (a server that merges lists on an update); then contents must be compared.
#[must_use]
pub fn version_mark(resource: &Resource, system: &str, value: &str) -> Option<i64> {
    let ours: Vec<Identifier> = resource.identifiers().into_iter().filter(|identifier| identifier.is(system, value)).collect();
    let mut marks = ours.iter().filter_map(|identifier| identifier.version_mark);
    match marks.next() {
        Some(first) => marks.all(|mark| mark == first).then_some(first),
        None if ours.is_empty() => None,
        None => resource.meta_source().and_then(source_mark),
    }
}

fn extension_mark(identifier: &Map<String, Value>) -> Option<i64> {
    let extensions = identifier.get("extension")?.as_array()?;
    let mut marks = extensions
        .iter()
        .filter(|extension| extension.get("url").and_then(Value::as_str) == Some(VERSION_EXTENSION))
        .map(|extension| extension.get("valueString").and_then(Value::as_str).and_then(version));
    let first = marks.next()??;
    marks.all(|mark| mark == Some(first)).then_some(first)
}

fn source_mark(source: &str) -> Option<i64> {
    let mark = source.strip_prefix(SOURCE_PREFIX)?;
    version(mark.split('#').next()?)
}

fn version(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str = "urn:ponte:observation";

    fn resource(identifiers: &Value, source: &str) -> Resource {
        let value = json!({"resourceType": "Observation", "meta": {"source": source}, "identifier": identifiers});
        Resource::parse(&value.to_string()).unwrap()
    }

    #[test]
    fn the_extension_tells_the_version_before_the_source_does() {
        let r = resource(&json!([{"system": "urn:x", "value": "a"}, ours(SYSTEM, "a", 7)]), "urn:ponte:version:6");
        assert_eq!(version_mark(&r, SYSTEM, "a"), Some(7));
    }

    #[test]
    fn the_source_tells_it_where_the_extension_was_dropped() {
        let plain = json!([{"system": SYSTEM, "value": "a"}]);
        assert_eq!(version_mark(&resource(&plain, "urn:ponte:version:3#Zk2aWq"), SYSTEM, "a"), Some(3));
        assert_eq!(version_mark(&resource(&plain, "urn:ponte:version:3"), SYSTEM, "a"), Some(3));
        for foreign in ["#Zk2aWq", "urn:ponte:version:", "urn:ponte:version:-1", "urn:ponte:version:3x", "urn:other:3"] {
            assert_eq!(version_mark(&resource(&plain, foreign), SYSTEM, "a"), None, "{foreign}");
        }
    }

    #[test]
    fn a_mark_counts_only_with_our_own_identifier_and_only_if_it_is_one() {
        let other = resource(&json!([ours(SYSTEM, "b", 7)]), "urn:ponte:version:7");
        assert_eq!(version_mark(&other, SYSTEM, "a"), None);
        let merged = resource(&json!([ours(SYSTEM, "a", 1), ours(SYSTEM, "a", 2)]), "urn:ponte:version:2");
        assert_eq!(version_mark(&merged, SYSTEM, "a"), None);
        let twice = json!([{"system": SYSTEM, "value": "a", "extension": [
            {"url": VERSION_EXTENSION, "valueString": "1"}, {"url": VERSION_EXTENSION, "valueString": "2"}]}]);
        assert_eq!(version_mark(&resource(&twice, "x"), SYSTEM, "a"), None);
    }

    #[test]
    fn an_identifier_is_ours_byte_for_byte_or_not_at_all() {
        let r = resource(&json!([{"system": SYSTEM, "value": "a-B"}, {"value": "c"}, {"system": SYSTEM}]), "");
        assert!(carries(&r, SYSTEM, "a-B"));
        for (system, value) in [(SYSTEM, "a-b"), ("URN:ponte:observation", "a-B"), (SYSTEM, "c"), (SYSTEM, ""), ("", "c")] {
            assert!(!carries(&r, system, value), "{system} {value}");
        }
    }

    #[test]
    fn an_identifier_is_not_printed_by_accident() {
        let cpf = Identifier { value: Some("52998224725".into()), ..Identifier::default() };
        assert!(!format!("{cpf:?}").contains("529"));
    }
}
