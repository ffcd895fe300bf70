//! What a resource at the EHR says of our effect: ours or not, and which version of ours (PRODUCT, effect ledger, rules 3 and 12).

use fhir::compare::Kind;
use fhir::identifier::{PATIENT_SYSTEM, carries, version_mark};
use fhir::mapping::observation::EhrObservation;
use fhir::mapping::observation::{ToFhir, to_fhir};
use fhir::mapping::patient::EhrPatient;
use fhir::resource::Resource;
use model::delivery::Found;
use model::{ObservationDraft, ResourceKey, Timestamp};
use serde_json::{Map, Value};

/// The identifier under which a resource is ours.
#[derive(Debug, Clone)]
pub(crate) struct OurIdentifier {
    pub(crate) system: String,
    pub(crate) value: String,
    pub(crate) resource_type: &'static str,
}

impl OurIdentifier {
    pub(crate) fn of(resource: ResourceKey, observation_system: &str) -> Self {
        let system = match resource {
            ResourceKey::Patient(_) => PATIENT_SYSTEM.to_owned(),
            ResourceKey::Observation(_) => observation_system.to_owned(),
        };
        Self { system, value: resource.uuid().to_string(), resource_type: resource.resource_type() }
    }

    /// The value of `If-None-Exist`, exactly so (PRODUCT, means 3).
    pub(crate) fn condition(&self) -> String {
        format!("identifier={}|{}", self.system, self.value)
    }
}

/// Judges one resource, given as raw JSON.
pub(crate) fn judge(raw: &str, ours: &OurIdentifier) -> Judged {
    let Ok(resource) = Resource::parse(raw) else {
        return Judged::bare(Found::Foreign);
    };
    Judged { found: found_in(&resource, ours), ehr_id: resource.id(), raw: Some(resource.into_raw()) }
}

/// What one resource is to us.
pub(crate) fn found_in(resource: &Resource, ours: &OurIdentifier) -> Found {
    if resource.resource_type() != ours.resource_type || !carries(resource, &ours.system, &ours.value) {
        return Found::Foreign;
    }
    let etag = resource.version_id().map(ToOwned::to_owned);
    match version_mark(resource, &ours.system, &ours.value) {
        Some(version) => Found::Version { version, etag },
        None => Found::Changed { etag },
    }
}

/// A judged resource.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) found: Found,
    pub(crate) ehr_id: Option<model::EhrId>,
    /// It itself, verbatim.
    pub(crate) raw: Option<String>,
}

impl Judged {
    /// Without a resource.
    pub(crate) fn bare(found: Found) -> Self {
        Self { found, ehr_id: None, raw: None }
    }
}

/// Like [`judge`]; where the server kept our identifier but neither mark of our version, the contents are compared, and
/// "equal" counts only if the version is not the one that we knew before (PROTOCOL §3, "Equality of content").
pub(crate) fn judge_content(raw: &str, ours: &OurIdentifier, row: &store::WorkRow) -> Judged {
    let judged = judge(raw, ours);
    let Found::Changed { etag } = &judged.found else { return judged };
    if !same_content(raw, &row.content) {
        return judged;
    }
    let known = row.ehr_version.is_some() && row.ehr_version == *etag;
    let version = if known { row.synced_version.unwrap_or(row.version) } else { row.version };
    Judged { found: Found::Version { version, etag: etag.clone() }, ..judged }
}

fn same_content(raw: &str, content: &store::Content) -> bool {
    let Ok(resource) = Resource::parse(raw) else { return false };
    match content {
        store::Content::Observation(draft) => EhrObservation::from_fhir(&resource).is_ok_and(|there| {
            let same_value = match (&there.value, &draft.value) {
                (Some(model::Value::Quantity { value: a, .. }), Some(model::Value::Quantity { value: b, .. })) => a.same_value(b),
                (a, b) => a == b,
            };
            let same_time = there.effective_text() == draft.effective.as_deref();
            there.status.as_deref() == Some(draft.status.as_str()) && there.code == draft.code && same_time && same_value
        }),
        store::Content::Patient(draft) => {
            EhrPatient::from_fhir(&resource).is_ok_and(|there| there.birth_date.as_deref() == Some(draft.birth_date.as_str()))
        }
    }
}

/// Whether somebody changed one of our versions at the EHR although the mark is still on it: a person who corrects a value
/// in the EHR leaves the identifiers alone. What an EHR drops, rounds or adds by itself is not taken for a change; but
/// where a newer version is about to be written over it, or it was saved again since we knew it, whatever was added counts:
/// a `PUT` would destroy it.
pub(crate) fn changed_by_somebody(raw: &str, version: i64, draft: &ObservationDraft, ours: &OurIdentifier, additions_count: bool) -> bool {
    let Ok(stored) = serde_json::from_str::<Map<String, Value>>(raw.trim_start_matches('\u{feff}')) else { return true };
    let (Ok(observation), Ok(nobody)) = (ours.value.parse(), model::EhrId::new("nobody")) else { return true };
    let with = ToFhir {
        observation,
        version,
        identifier_system: &ours.system,
        patient: &nobody,
        score_category: "",
        id: None,
        issued: Timestamp(0),
    };
    let sent = to_fhir(draft, &with);
    let says =
        |path: &str| ["status", "code", "effective", "value"].iter().any(|element| path.starts_with(&format!("Observation.{element}")));
    let differs = fhir::compare::differences(&sent, &stored)
        .iter()
        .any(|one| says(&one.path) && (one.kind == Kind::Differs || (one.kind == Kind::Missing && one.path.matches('.').count() == 1)));
    let added = |key: &String| sent.get(key).is_none() && !OF_THE_SERVER.contains(&key.as_str());
    differs || (additions_count && stored.keys().any(added))
}

/// Elements that a server writes by itself, and those of ours that [`changed_by_somebody`] leaves out.
const OF_THE_SERVER: [&str; 9] = ["id", "meta", "text", "language", "implicitRules", "contained", "extension", "category", "performer"];

/// Whether an Observation's subject is this Patient of this EHR.
pub(crate) fn subject_is(raw: &str, patient: &model::EhrId, base_url: &str) -> bool {
    Resource::parse(raw).and_then(|resource| EhrObservation::from_fhir(&resource)).is_ok_and(|there| there.subject_is(patient, base_url))
}
