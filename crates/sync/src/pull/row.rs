//! An entry of a page: this patient's row, somebody else's, or one that cannot be read. Nothing is believed of a search
//! but what the row itself says (PRODUCT, law 8: every row's subject is checked).

use crate::found::{OurIdentifier, changed_by_somebody};
use fhir::bundle::PageEntry;
use fhir::identifier::version_mark;
use fhir::mapping::EhrObservation;
use fhir::reference::Reference;
use fhir::resource::Resource;
use fhir::search::location;
use model::{EhrId, ObservationDraft, ObservationId, PatientId, ResourceKey, Timestamp};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use store::PulledObservation;

/// What a row is read against.
pub(super) struct Reader {
    /// Ours.
    pub(super) patient: PatientId,
    /// The EHR's Patient that it is linked to.
    pub(super) ehr_id: EhrId,
    /// References that are absolute must name this server.
    pub(super) base_url: String,
    /// System of our identifier.
    pub(super) identifier_system: String,
}

/// What an entry is.
pub(super) enum Row {
    /// An Observation of this patient, and its `meta.lastUpdated`.
    Own { row: Box<PulledObservation>, last_updated: Option<Timestamp> },
    /// An Observation of somebody or something else; `ours`: it carries an identifier of our system.
    Foreign { ours: bool },
    /// Another resource type.
    Other,
    /// Its place without its content, or a part of it: to be read by id.
    Empty(EhrId),
    /// Nothing that can be filed.
    Unreadable,
}

impl Reader {
    /// Reads an entry of a page.
    pub(super) fn read(&self, entry: &PageEntry) -> Row {
        match (&entry.resource, entry.resource_type.as_deref()) {
            (Some(raw), Some("Observation")) => self.read_raw(raw.get(), None),
            (Some(_), Some(_)) => Row::Other,
            (Some(_), None) => Row::Unreadable,
            (None, _) => match entry.full_url.as_deref().and_then(location) {
                Some(at) if at.resource_type == "Observation" => Row::Empty(at.id),
                Some(_) => Row::Other,
                None => Row::Unreadable,
            },
        }
    }

    /// Reads an Observation; `asked`: the id by which it was read alone, where its content must be whole.
    pub(super) fn read_raw(&self, raw: &str, asked: Option<&EhrId>) -> Row {
        let Ok(resource) = Resource::parse(raw) else { return self.read_odd(raw) };
        let Ok(observation) = EhrObservation::from_fhir(&resource) else { return Row::Other };
        let Some(id) = observation.id.clone().filter(|id| asked.is_none_or(|asked| asked == id)) else { return Row::Unreadable };
        let ours = observation.identifier_in(&self.identifier_system).and_then(|value| Some((value, value.parse::<ObservationId>().ok()?)));
        if !observation.subject_is(&self.ehr_id, &self.base_url) {
            return Row::Foreign { ours: ours.is_some() };
        }
        if observation.subsetted {
            return if asked.is_none() { Row::Empty(id) } else { Row::Unreadable };
        }
        let draft = observation.draft(self.patient);
        let mark = ours.and_then(|(value, _)| version_mark(&resource, &self.identifier_system, value));
        let more = ours.is_some_and(|(_, id)| {
            let ours = OurIdentifier::of(ResourceKey::Observation(id), &self.identifier_system);
            changed_by_somebody(raw, mark.unwrap_or_default(), &draft, &ours, true)
        });
        let row = PulledObservation {
            ehr_id: id,
            ehr_version: observation.version.clone().unwrap_or_else(|| digest(raw)),
            ours: ours.map(|(_, id)| id),
            mark,
            draft,
            more,
            resource: observation.resource.clone(),
            interpreted: observation.interpreted(),
        };
        let last_updated = observation.last_updated.as_deref().and_then(Timestamp::from_rfc3339);
        Row::Own { row: Box::new(row), last_updated }
    }

    /// A resource that is no good FHIR (a name that stands twice in one object): kept as it came and not interpreted, if it
    /// can be told whose it is.
    fn read_odd(&self, raw: &str) -> Row {
        let Ok(value) = serde_json::from_str::<Value>(raw) else { return Row::Unreadable };
        let text = |at: &Value, name: &str| at.get(name).and_then(Value::as_str).map(str::to_owned);
        let meta = value.get("meta").cloned().unwrap_or_default();
        let Some(id) = text(&value, "id").and_then(|id| EhrId::new(id).ok()) else { return Row::Unreadable };
        if text(&value, "resourceType").as_deref() != Some("Observation") {
            return Row::Unreadable;
        }
        let subject = value.get("subject").and_then(Reference::read);
        if !subject.is_some_and(|subject| subject.is("Patient", &self.ehr_id, &self.base_url)) {
            return Row::Foreign { ours: false };
        }
        let row = PulledObservation {
            ehr_id: id,
            ehr_version: text(&meta, "versionId").unwrap_or_else(|| digest(raw)),
            ours: None,
            mark: None,
            draft: ObservationDraft {
                patient_id: self.patient,
                code: None,
                code_system: None,
                display: None,
                effective: None,
                value: None,
                status: text(&value, "status").unwrap_or_else(|| "unknown".to_owned()),
                message_id: None,
                external_id: None,
            },
            more: false,
            resource: raw.to_owned(),
            interpreted: false,
        };
        let last_updated = text(&meta, "lastUpdated").as_deref().and_then(Timestamp::from_rfc3339);
        Row::Own { row: Box::new(row), last_updated }
    }
}

/// A version for a server that tracks none: the content itself.
fn digest(raw: &str) -> String {
    let mut out = String::from("sha256-");
    for byte in Sha256::digest(raw.as_bytes()).iter().take(16) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests;
