//! CapabilityStatement: what a server claims, read leniently, and what that makes of a [`MeansPlan`] (FHIR.md §5).
//!
//! A claim orders the probes and proves nothing; an absent flag says nothing; nothing here overwrites what was proven.

use model::{MeansPlan, Proof, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a CapabilityStatement says, as far as we use it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// `fhirVersion`, for example `4.0.1`.
    pub fhir_version: Option<String>,
    /// `instance`, `capability` or `requirements`; a live server is an instance.
    pub kind: Option<String>,
    /// `software.name` and `software.version`.
    pub software: Option<String>,
    /// The server's own idea of its base.
    pub implementation_url: Option<String>,
    /// `format`.
    pub formats: Vec<String>,
    /// `rest.security.service` codes or texts.
    pub security: Vec<String>,
    /// Token endpoint of the older `oauth-uris` extension.
    pub token_url: Option<String>,
    /// `rest.interaction` codes.
    pub system_interactions: BTreeSet<String>,
    /// `rest.searchParam` names.
    pub system_search: BTreeSet<String>,
    /// By resource type.
    pub resources: BTreeMap<String, ResourceClaims>,
}

/// What it says of one resource type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceClaims {
    /// `interaction` codes; may be left out in a summary.
    pub interactions: BTreeSet<String>,
    /// `no-version`, `versioned` or `versioned-update`.
    pub versioning: Option<String>,
    /// Whether `PUT` of a new id creates.
    pub update_create: Option<bool>,
    /// Whether `If-None-Exist` is taken.
    pub conditional_create: Option<bool>,
    /// Whether history is kept.
    pub read_history: Option<bool>,
    /// `searchParam` names.
    pub search: BTreeSet<String>,
    /// Profiles that it names.
    pub profiles: Vec<String>,
}

impl Claims {
    /// Reads a CapabilityStatement; `None` for anything else, and for one of more than [`crate::json::VALUES_MAX`] values.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        Self::from_value(&crate::json::bounded(body)?)
    }

    /// Reads it from JSON that is parsed already.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        if text(value, "/resourceType")? != "CapabilityStatement" {
            return None;
        }
        let rests = list(value, "rest");
        let server = rests.iter().find(|rest| text(rest, "/mode").as_deref() == Some("server")).or(rests.first());
        let name = text(value, "/software/name");
        let version = text(value, "/software/version");
        let mut claims = Self {
            fhir_version: text(value, "/fhirVersion"),
            kind: text(value, "/kind"),
            software: name.map(|name| match version {
                Some(version) => clip(&format!("{name} {version}")),
                None => clip(&name),
            }),
            implementation_url: text(value, "/implementation/url"),
            formats: list(value, "format").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            ..Self::default()
        };
        if let Some(rest) = server {
            claims.read_rest(rest);
        }
        Some(claims)
    }

    /// What it says of a resource type, if it lists it.
    #[must_use]
    pub fn resource(&self, resource_type: &str) -> Option<&ResourceClaims> {
        self.resources.get(resource_type)
    }

    /// Whether it claims an interaction of a type; `None` where it lists no interactions at all.
    #[must_use]
    pub fn interaction(&self, resource_type: &str, code: &str) -> Option<bool> {
        let resource = self.resources.get(resource_type)?;
        if resource.interactions.is_empty() { None } else { Some(resource.interactions.contains(code)) }
    }

    /// Whether a type may be searched by this parameter.
    #[must_use]
    pub fn search_parameter(&self, resource_type: &str, name: &str) -> Proof {
        let Some(resource) = self.resources.get(resource_type) else { return Proof::Unknown };
        if resource.search.contains(name) || self.system_search.contains(name) {
            return Proof::Claimed;
        }
        // `_sort`, `_count` and their like are often not listed at all; who lists one of them lists them on purpose.
        let comparable = |listed: &String| !name.starts_with('_') || listed.starts_with('_');
        if resource.search.iter().chain(&self.system_search).any(comparable) { Proof::Denied } else { Proof::Unknown }
    }

    /// `plan` with these claims in it. What was proven or refused by trying stays.
    #[must_use]
    pub fn update_plan(&self, plan: &MeansPlan, read_at: Timestamp) -> MeansPlan {
        let mut next = plan.clone();
        claim(&mut next.observation_update_create, self.update_create("Observation"));
        claim(&mut next.patient_update_create, self.update_create("Patient"));
        let conditional = self.resource("Observation").and_then(|r| r.conditional_create).map_or(Proof::Unknown, said);
        claim(&mut next.conditional_create, conditional);
        claim(&mut next.batch, self.batch());
        claim(&mut next.last_updated, self.search_parameter("Observation", "_lastUpdated"));
        claim(&mut next.identifier_search, self.search_parameter("Observation", "identifier"));
        let versioning = self.resource("Observation").and_then(|r| r.versioning.as_deref());
        let if_match = match versioning {
            Some("versioned-update") => Proof::Claimed,
            Some("no-version") => Proof::Denied,
            _ => Proof::Unknown,
        };
        claim(&mut next.if_match, if_match);
        next.capabilities_read_at = Some(read_at.rfc3339());
        next.software = self.software.clone().or(next.software);
        next
    }

    fn update_create(&self, resource_type: &str) -> Proof {
        if self.interaction(resource_type, "update") == Some(false) {
            return Proof::Denied;
        }
        self.resource(resource_type).and_then(|r| r.update_create).map_or(Proof::Unknown, said)
    }

    /// Servers that list `transaction` only are often able to do both, so that says nothing.
    fn batch(&self) -> Proof {
        if self.system_interactions.contains("batch") {
            Proof::Claimed
        } else if self.system_interactions.is_empty() || self.system_interactions.contains("transaction") {
            Proof::Unknown
        } else {
            Proof::Denied
        }
    }

    fn read_rest(&mut self, rest: &Value) {
        self.system_interactions = codes(rest, "interaction", "code");
        self.system_search = codes(rest, "searchParam", "name");
        for service in rest.pointer("/security/service").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
            self.security.extend(text(service, "/coding/0/code").or_else(|| text(service, "/text")));
        }
        let extensions = rest.pointer("/security/extension").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        self.token_url = extensions
            .iter()
            .filter(|e| text(e, "/url").is_some_and(|url| url.ends_with("/oauth-uris")))
            .flat_map(|e| list(e, "extension"))
            .find(|e| text(e, "/url").as_deref() == Some("token"))
            .and_then(|e| text(e, "/valueUri"));
        for resource in list(rest, "resource") {
            let Some(resource_type) = text(resource, "/type") else { continue };
            let flag = |key: &str| resource.get(key).and_then(Value::as_bool);
            let mut profiles: Vec<String> = text(resource, "/profile").into_iter().collect();
            profiles.extend(list(resource, "supportedProfile").iter().filter_map(Value::as_str).map(str::to_owned));
            let claims = ResourceClaims {
                interactions: codes(resource, "interaction", "code"),
                versioning: text(resource, "/versioning"),
                update_create: flag("updateCreate"),
                conditional_create: flag("conditionalCreate"),
                read_history: flag("readHistory"),
                search: codes(resource, "searchParam", "name"),
                profiles,
            };
            self.resources.insert(resource_type, claims);
        }
    }
}

/// A new claim takes the place of an old claim, never of what was tried.
fn claim(slot: &mut Proof, new: Proof) {
    if !matches!(slot, Proof::Proven | Proof::Refused) {
        *slot = new;
    }
}

fn said(yes: bool) -> Proof {
    if yes { Proof::Claimed } else { Proof::Denied }
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn codes(value: &Value, list_key: &str, key: &str) -> BTreeSet<String> {
    list(value, list_key).iter().filter_map(|item| item.get(key).and_then(Value::as_str)).map(str::to_owned).collect()
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: Timestamp = Timestamp(1_795_579_200_000);

    fn claims(observation: &str, rest: &str) -> Claims {
        let json = format!(
            r#"{{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1","kind":"instance","software":{{"name":"EHR","version":"7"}},
            "rest":[{{"mode":"client"}},{{"mode":"server"{rest},"resource":[{{"type":"Observation"{observation}}}]}}]}}"#
        );
        Claims::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn claims_order_the_means_and_absence_says_nothing() {
        let silent = claims("", "").update_plan(&MeansPlan::default(), AT);
        assert_eq!(silent.observation_update_create, Proof::Unknown);
        assert_eq!((silent.conditional_create, silent.batch, silent.last_updated), (Proof::Unknown, Proof::Unknown, Proof::Unknown));
        assert_eq!(silent.software.as_deref(), Some("EHR 7"));
        assert_eq!(silent.capabilities_read_at, Some(AT.rfc3339()));
        let loud = claims(
            r#","updateCreate":true,"conditionalCreate":false,"versioning":"versioned-update","searchParam":[{"name":"identifier"},{"name":"_lastUpdated"}]"#,
            r#","interaction":[{"code":"batch"}]"#,
        )
        .update_plan(&MeansPlan::default(), AT);
        assert_eq!((loud.observation_update_create, loud.conditional_create), (Proof::Claimed, Proof::Denied));
        assert_eq!(
            (loud.batch, loud.last_updated, loud.identifier_search, loud.if_match),
            (Proof::Claimed, Proof::Claimed, Proof::Claimed, Proof::Claimed)
        );
    }

    #[test]
    fn epics_statement_denies_what_it_leaves_out_of_its_lists() {
        let epic = claims(
            r#","interaction":[{"code":"create"},{"code":"read"},{"code":"search-type"}],"updateCreate":true,
               "searchParam":[{"name":"_id"},{"name":"_count"},{"name":"patient"}]"#,
            "",
        );
        let plan = epic.update_plan(&MeansPlan::default(), AT);
        assert_eq!((plan.observation_update_create, plan.last_updated), (Proof::Denied, Proof::Denied));
        assert_eq!((plan.identifier_search, plan.batch), (Proof::Denied, Proof::Unknown));
    }

    #[test]
    fn a_list_with_transaction_only_leaves_batch_open() {
        assert_eq!(claims("", r#","interaction":[{"code":"transaction"}]"#).batch(), Proof::Unknown);
        assert_eq!(claims("", r#","interaction":[{"code":"search-system"}]"#).batch(), Proof::Denied);
    }

    #[test]
    fn what_was_tried_outlives_every_claim() {
        let plan = MeansPlan { conditional_create: Proof::Refused, observation_update_create: Proof::Proven, ..MeansPlan::default() };
        let next = claims(r#","updateCreate":false,"conditionalCreate":true"#, "").update_plan(&plan, AT);
        assert_eq!((next.conditional_create, next.observation_update_create), (Proof::Refused, Proof::Proven));
    }

    #[test]
    fn security_and_the_older_token_address_are_read() {
        let read = claims(
            "",
            r#","security":{"service":[{"coding":[{"code":"OAuth"}]},{"text":"Basic"}],"extension":[{"url":"http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
               "extension":[{"url":"authorize","valueUri":"https://h/a"},{"url":"token","valueUri":"https://h/t"}]}]}"#,
        );
        assert_eq!((read.security, read.token_url.as_deref()), (vec!["OAuth".to_owned(), "Basic".to_owned()], Some("https://h/t")));
    }

    #[test]
    fn another_resource_or_a_page_is_no_statement() {
        for bad in [&b"<html>"[..], b"", b"{}", br#"{"resourceType":"OperationOutcome"}"#, br#"{"resourceType":7}"#] {
            assert_eq!(Claims::parse(bad), None);
        }
        assert!(Claims::parse(br#"{"resourceType":"CapabilityStatement","rest":7,"format":{}}"#).is_some());
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Claims::parse(&bytes);
        }
    }
}
