//! The CapabilityStatement and the SMART configuration: what the server claims, truly or not (FHIR R4 capabilitystatement.html).

use crate::call::Call;
use crate::fault::Fault;
use crate::instant;
use crate::json::{Json, from_serde, object, string};
use crate::options::Auth;
use crate::quirks::{Claims, Quirks};
use crate::twin::Twin;

impl Twin {
    pub(crate) fn capability(&self, call: &Call) -> Json {
        let quirks = &self.quirks;
        let mut rest = object([("mode", string("server"))]);
        crate::json::set(&mut rest, "security", self.security(call));
        let resources = ["Patient", "Observation"].map(|kind| resource(quirks, kind)).to_vec();
        crate::json::set(&mut rest, "resource", Json::Array(resources));
        let system: Vec<Json> = [(quirks.claims.batch, "batch"), (quirks.claims.transaction, "transaction")]
            .into_iter()
            .filter(|(claimed, _)| *claimed)
            .map(|(_, code)| coded(code))
            .collect();
        if !system.is_empty() {
            crate::json::set(&mut rest, "interaction", Json::Array(system));
        }
        object([
            ("resourceType", string("CapabilityStatement")),
            ("status", string("active")),
            ("date", string(instant::format(self.started, false))),
            ("kind", string("instance")),
            (
                "software",
                object([("name", string(format!("Sandbox EHR, like {}", self.profile))), ("version", string(env!("CARGO_PKG_VERSION")))]),
            ),
            ("implementation", object([("description", string("A FHIR R4 EHR for tests")), ("url", string(call.base.clone()))])),
            ("fhirVersion", string("4.0.1")),
            ("format", Json::Array(vec![string("json"), string("application/fhir+json")])),
            ("rest", Json::Array(vec![rest])),
        ])
    }

    pub(crate) fn smart_configuration(&self, call: &Call) -> Json {
        let mut methods = Vec::new();
        let mut scopes: Vec<Json> = Vec::new();
        for auth in &self.auth {
            if let Auth::OAuth2(client) = auth {
                if client.accepts_basic {
                    methods.push(string("client_secret_basic"));
                }
                if client.accepts_post {
                    methods.push(string("client_secret_post"));
                }
                scopes.extend(client.scopes.iter().map(string));
            }
        }
        object([
            ("token_endpoint", string(token_endpoint(&call.base))),
            ("grant_types_supported", Json::Array(vec![string("client_credentials")])),
            ("token_endpoint_auth_methods_supported", Json::Array(methods)),
            ("scopes_supported", Json::Array(scopes)),
            ("capabilities", Json::Array(vec![string("client-confidential-symmetric"), string("permission-v1"), string("permission-v2")])),
        ])
    }

    fn security(&self, call: &Call) -> Json {
        let services: Vec<Json> = self
            .auth
            .iter()
            .filter_map(|auth| match auth {
                Auth::OAuth2(_) => Some("SMART-on-FHIR"),
                Auth::Basic { .. } => Some("Basic"),
                Auth::Open | Auth::ApiKey { .. } => None,
            })
            .map(|code| {
                let coding =
                    object([("system", string("http://terminology.hl7.org/CodeSystem/restful-security-service")), ("code", string(code))]);
                object([("coding", Json::Array(vec![coding])), ("text", string(code))])
            })
            .collect();
        let mut security = object([("cors", Json::Bool(false))]);
        if !services.is_empty() {
            crate::json::set(&mut security, "service", Json::Array(services));
        }
        if self.auth.iter().any(|auth| matches!(auth, Auth::OAuth2(_))) {
            let token = from_serde(&serde_json::json!([{
                "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                "extension": [{"url": "token", "valueUri": token_endpoint(&call.base)}]
            }]));
            crate::json::set(&mut security, "extension", token);
        }
        security
    }
}

fn token_endpoint(base: &str) -> String {
    format!("{}/oauth/token", base.strip_suffix("/fhir").unwrap_or(base))
}

fn coded(code: &str) -> Json {
    object([("code", string(code))])
}

fn resource(quirks: &Quirks, kind: &str) -> Json {
    let Claims { conditional_create, conditional_update, update_create, last_updated, .. } = quirks.claims;
    let updates = quirks.updatable.is_empty() || quirks.updatable.contains(&kind);
    let interactions = [
        (true, "create"),
        (true, "read"),
        (true, "search-type"),
        (updates, "update"),
        (quirks.instance_history, "vread"),
        (quirks.instance_history, "history-instance"),
        (quirks.type_history, "history-type"),
        (quirks.deletes, "delete"),
    ];
    let mut value = object([
        ("type", string(kind)),
        ("interaction", Json::Array(interactions.iter().filter(|(has, _)| *has).map(|(_, code)| coded(code)).collect())),
    ]);
    let mut set = |name: &str, new: Json| crate::json::set(&mut value, name, new);
    if !quirks.always.contains(&Fault::NoLastUpdated) {
        set("versioning", string("versioned"));
    }
    set("readHistory", Json::Bool(quirks.instance_history));
    for (name, claim) in
        [("updateCreate", update_create), ("conditionalCreate", conditional_create), ("conditionalUpdate", conditional_update)]
    {
        if let Some(claim) = claim {
            set(name, Json::Bool(claim));
        }
    }
    set("conditionalDelete", string("not-supported"));
    let common = [("_id", "token"), ("identifier", "token")];
    let own: &[(&str, &str)] = match kind {
        "Patient" => &[
            ("name", "string"),
            ("family", "string"),
            ("given", "string"),
            ("birthdate", "date"),
            ("gender", "token"),
            ("telecom", "token"),
            ("active", "token"),
        ],
        _ => &[
            ("patient", "reference"),
            ("subject", "reference"),
            ("code", "token"),
            ("category", "token"),
            ("status", "token"),
            ("date", "date"),
        ],
    };
    let dated: &[(&str, &str)] = if last_updated { &[("_lastUpdated", "date")] } else { &[] };
    let parameters = common.iter().chain(own).chain(dated);
    set("searchParam", Json::Array(parameters.map(|(name, kind)| object([("name", string(*name)), ("type", string(*kind))])).collect()));
    value
}
