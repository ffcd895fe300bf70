//! References: what a `Reference.reference` names, and whether it means a certain resource of a certain server.

use crate::search::{Location, location};
use model::EhrId;
use serde_json::Value;

/// A thin reading of a `Reference` (R4 references): its literal form only. A logical reference (an identifier or a
/// display alone) names nothing that we may rely on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `Patient/1`, perhaps with `/_history/2`: relative to the base that the resource came from.
    Relative(Location),
    /// The same behind a base URL, which stands here without a closing slash.
    Absolute {
        /// The base URL.
        base: String,
        /// Type, id and version.
        to: Location,
    },
    /// `#id`: inside the same resource.
    Contained(String),
    /// Anything else: `urn:uuid:…`, a conditional reference, an identifier or a display alone.
    Other,
}

impl Reference {
    /// Reads a `Reference` element; `None` where it is no object.
    #[must_use]
    pub fn read(element: &Value) -> Option<Self> {
        let element = element.as_object()?;
        Some(element.get("reference").and_then(Value::as_str).map_or(Self::Other, Self::parse))
    }

    /// Reads the text of `Reference.reference`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if let Some(inner) = text.strip_prefix('#') {
            return Self::Contained(inner.to_owned());
        }
        if text.contains(['?', '#']) || text.starts_with('/') {
            return Self::Other;
        }
        let Some(to) = location(text) else { return Self::Other };
        let tail = match &to.version {
            Some(version) => format!("{}/{}/_history/{version}", to.resource_type, to.id),
            None => format!("{}/{}", to.resource_type, to.id),
        };
        match text.strip_suffix(tail.as_str()) {
            Some("") => Self::Relative(to),
            Some(base) if is_http(base) => Self::Absolute { base: base.trim_end_matches('/').to_owned(), to },
            _ => Self::Other,
        }
    }

    /// Type and id, where it names a resource outside its own.
    #[must_use]
    pub fn target(&self) -> Option<&Location> {
        match self {
            Self::Relative(to) | Self::Absolute { to, .. } => Some(to),
            Self::Contained(_) | Self::Other => None,
        }
    }

    /// Whether it means this resource of the server at `base_url`. A relative one is relative to that server; an
    /// absolute one must have the same base, http and https being one (R4 http#root). Anything else is "no".
    #[must_use]
    pub fn is(&self, resource_type: &str, id: &EhrId, base_url: &str) -> bool {
        let same = |to: &Location| to.resource_type == resource_type && to.id == *id;
        match self {
            Self::Relative(to) => same(to),
            Self::Absolute { base, to } => same(to) && same_base(base, base_url),
            Self::Contained(_) | Self::Other => false,
        }
    }
}

fn is_http(base: &str) -> bool {
    base.ends_with('/') && base.split_once("://").is_some_and(|(scheme, rest)| is_http_scheme(scheme) && !rest.starts_with('/'))
}

fn is_http_scheme(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// Same host and port without regard to case, same path with regard to it, whatever of http and https.
fn same_base(left: &str, right: &str) -> bool {
    match (host_and_path(left), host_and_path(right)) {
        (Some(left), Some(right)) => left == right,
        _ => false,
    }
}

fn host_and_path(base: &str) -> Option<(String, &str)> {
    let (scheme, rest) = base.trim_end_matches('/').split_once("://")?;
    if !is_http_scheme(scheme) {
        return None;
    }
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(at)?;
    Some((host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_p1(text: &str) -> bool {
        Reference::parse(text).is("Patient", &EhrId::new("p1").unwrap(), "https://ehr.example/fhir")
    }

    #[test]
    fn a_reference_means_our_patient_only_on_the_same_server() {
        for yes in [
            "Patient/p1",
            "Patient/p1/_history/3",
            "https://ehr.example/fhir/Patient/p1",
            "http://EHR.example/fhir/Patient/p1",
            "https://ehr.example:443/fhir/Patient/p1",
        ] {
            assert!(is_p1(yes), "{yes}");
        }
        for no in [
            "Patient/p2",
            "Patient/P1",
            "Group/p1",
            "https://other.example/fhir/Patient/p1",
            "https://ehr.example:8443/fhir/Patient/p1",
            "https://ehr.example/FHIR/Patient/p1",
            "https://ehr.example/fhir/tenant-b/Patient/p1",
            "#p1",
            "urn:uuid:p1",
            "Patient?identifier=p1",
            "/Patient/p1",
            "x/Patient/p1",
            "p1",
            "",
        ] {
            assert!(!is_p1(no), "{no}");
        }
    }

    #[test]
    fn a_logical_reference_names_nothing() {
        let logical = serde_json::json!({"identifier": {"value": "1"}, "display": "somebody"});
        assert_eq!(Reference::read(&logical), Some(Reference::Other));
        assert_eq!(Reference::read(&serde_json::json!("Patient/1")), None);
    }
}
