//! A Patient as it comes from the EHR: what identifies a person, and what forbids to use the record.

use crate::identifier::Identifier;
use crate::national::PersonNumbers;
use crate::primitive;
use crate::reference::Reference;
use crate::resource::{NotInterpreted, ParseError, Resource};
use model::EhrId;
use serde_json::{Map, Value};

/// A `HumanName` (R4 datatypes), as it stands.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Name {
    /// usual (in Brazil the nome social), official, temp, nickname, anonymous, old, maiden.
    pub use_code: Option<String>,
    /// The whole name.
    pub text: Option<String>,
    /// Surname.
    pub family: Option<String>,
    /// Given names; a place that holds only an extension is left out.
    pub given: Vec<String>,
    /// Suffixes.
    pub suffix: Vec<String>,
}

/// A `ContactPoint` (R4 datatypes), as it stands.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Telecom {
    /// phone, email …
    pub system: Option<String>,
    /// The value.
    pub value: Option<String>,
    /// home, work, temp, old, mobile.
    pub use_code: Option<String>,
}

/// What we read of an EHR's Patient.
#[derive(Clone)]
pub struct EhrPatient {
    /// The EHR's id.
    pub id: Option<EhrId>,
    /// The EHR's `meta.versionId`.
    pub version: Option<String>,
    /// Its names, in order.
    pub names: Vec<Name>,
    /// FHIR `date` as it stands, perhaps only a year or a month; `None` where it is absent or no date.
    pub birth_date: Option<String>,
    /// Administrative gender as it stands.
    pub gender: Option<String>,
    /// How to reach the person.
    pub telecom: Vec<Telecom>,
    /// CPF and CNS.
    pub numbers: PersonNumbers,
    /// All identifiers.
    pub identifiers: Vec<Identifier>,
    /// As it stands; absent is generally taken for "yes" (R4 patient).
    pub active: Option<bool>,
    /// Whether the EHR says that the person died; absent is no statement. A date of death says "yes".
    pub deceased: Option<bool>,
    /// Records that replace this one: it must no longer be used.
    pub replaced_by: Vec<Reference>,
    /// Records that this one replaces.
    pub replaces: Vec<Reference>,
    /// Why we may not judge it, if so.
    pub not_interpreted: Option<NotInterpreted>,
}

impl EhrPatient {
    /// Whether the record is current: neither inactive nor replaced.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.active != Some(false) && self.replaced_by.is_empty()
    }

    /// The name to show to people: the usual one (nome social) first, then the official, then any that is not old.
    #[must_use]
    pub fn shown_name(&self) -> Option<String> {
        let of = |wanted: &str| self.names.iter().find(|name| name.use_code.as_deref() == Some(wanted)).and_then(Name::whole);
        let any = || self.names.iter().filter(|name| !matches!(name.use_code.as_deref(), Some("old" | "maiden"))).find_map(Name::whole);
        of("usual").or_else(|| of("official")).or_else(any).or_else(|| self.names.iter().find_map(Name::whole))
    }

    /// Ids of Patients of the same server that replace this one; empty where they cannot be read, although
    /// [`Self::replaced_by`] is not.
    #[must_use]
    pub fn replaced_by_ids(&self) -> Vec<EhrId> {
        patient_ids(&self.replaced_by)
    }

    /// Ids of Patients that this one replaces.
    #[must_use]
    pub fn replaces_ids(&self) -> Vec<EhrId> {
        patient_ids(&self.replaces)
    }

    /// Reads a Patient.
    ///
    /// # Errors
    /// When it is another resource type.
    pub fn from_fhir(resource: &Resource) -> Result<Self, ParseError> {
        if resource.resource_type() != "Patient" {
            return Err(ParseError::WrongType { expected: "Patient" });
        }
        let fields = resource.fields();
        let identifiers = resource.identifiers();
        Ok(Self {
            id: resource.id(),
            version: resource.version_id().map(str::to_owned),
            names: objects(fields, "name").map(name).collect(),
            birth_date: text(fields, "birthDate").filter(|date| primitive::date(date).is_some()),
            gender: text(fields, "gender"),
            telecom: objects(fields, "telecom").map(telecom).collect(),
            numbers: PersonNumbers::read(&identifiers),
            identifiers,
            active: fields.get("active").and_then(Value::as_bool),
            deceased: deceased(fields),
            replaced_by: links(fields, "replaced-by"),
            replaces: links(fields, "replaces"),
            not_interpreted: resource.not_interpreted(),
        })
    }
}

impl Name {
    /// The whole name: its text, else its parts in order.
    #[must_use]
    pub fn whole(&self) -> Option<String> {
        self.text.clone().or_else(|| {
            let parts: Vec<&str> =
                self.given.iter().map(String::as_str).chain(self.family.as_deref()).chain(self.suffix.iter().map(String::as_str)).collect();
            (!parts.is_empty()).then(|| parts.join(" "))
        })
    }
}

impl std::fmt::Debug for EhrPatient {
    /// Id and version: who it is is nobody's in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EhrPatient").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Name").field("use", &self.use_code).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Telecom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telecom").field("system", &self.system).finish_non_exhaustive()
    }
}

fn name(fields: &Map<String, Value>) -> Name {
    Name {
        use_code: text(fields, "use"),
        text: text(fields, "text"),
        family: text(fields, "family"),
        given: texts(fields, "given"),
        suffix: texts(fields, "suffix"),
    }
}

fn telecom(fields: &Map<String, Value>) -> Telecom {
    Telecom { system: text(fields, "system"), value: text(fields, "value"), use_code: text(fields, "use") }
}

fn deceased(fields: &Map<String, Value>) -> Option<bool> {
    let dated = fields.contains_key("deceasedDateTime") || fields.contains_key("_deceasedDateTime");
    if dated { Some(true) } else { fields.get("deceasedBoolean").and_then(Value::as_bool) }
}

fn links(fields: &Map<String, Value>, kind: &str) -> Vec<Reference> {
    objects(fields, "link")
        .filter(|link| link.get("type").and_then(Value::as_str) == Some(kind))
        .map(|link| link.get("other").and_then(Reference::read).unwrap_or(Reference::Other))
        .collect()
}

fn patient_ids(references: &[Reference]) -> Vec<EhrId> {
    references.iter().filter_map(Reference::target).filter(|to| to.resource_type == "Patient").map(|to| to.id.clone()).collect()
}

fn objects<'a>(fields: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
    fields.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn text(fields: &Map<String, Value>, key: &str) -> Option<String> {
    fields.get(key)?.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

fn texts(fields: &Map<String, Value>, key: &str) -> Vec<String> {
    let all = fields.get(key).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).filter(|text| !text.trim().is_empty()).map(str::to_owned).collect()
}
