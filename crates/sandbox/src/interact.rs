//! One interaction from its call to its answer: which of the server's abilities is asked for, and reading.

use std::sync::Arc;

use http::Method;

use crate::call::{Answer, Call, Target};
use crate::fault::Fault;
use crate::json::{Json, str_at};
use crate::outcome::{Refusal, all_well, outcome};
use crate::quirks::{UnknownType, Validation};
use crate::twin::Twin;
use crate::validate;

impl Twin {
    /// Does what the call asks.
    pub(crate) fn execute(&mut self, call: &Call) -> Result<Answer, Refusal> {
        let head = call.method == Method::HEAD;
        if head && !self.quirks.head {
            return Err(not_allowed("GET"));
        }
        let get = head || call.method == Method::GET;
        let method = if head { &Method::GET } else { &call.method };
        match (method.as_str(), &call.target) {
            ("GET", Target::Metadata) => Ok(Answer::with(200, self.capability(call))),
            ("GET", Target::Smart) => Ok(Answer::with(200, self.smart_configuration(call))),
            ("POST", Target::Root) => self.bundle(call),
            ("GET", Target::Root) if call.query.iter().any(|(name, _)| name == "_getpages") => self.search(call, "Resource", &call.query),
            (_, Target::UnknownType) => self.unknown_type(get),
            (_, Target::Nothing | Target::Root) => Err(Refusal::new(404, "not-found", "There is nothing at this address.")),
            ("GET", Target::Type(kind)) => self.search(call, kind, &call.query),
            ("POST", Target::Search(kind)) => self.search(call, kind, &call.query),
            ("GET", Target::Compartment(patient, kind)) => {
                let mut query = call.query.clone();
                query.insert(0, ("patient".to_owned(), patient.clone()));
                self.search(call, kind, &query)
            }
            ("POST", Target::Type(kind)) => self.create(call, kind),
            ("PUT", Target::Type(kind)) => self.conditional_update(call, kind),
            ("PUT", Target::Instance(kind, id)) => self.update(call, kind, id),
            ("DELETE", Target::Instance(kind, id)) => self.delete(call, kind, id),
            ("GET", Target::Instance(kind, id)) => self.read(call, kind, id),
            ("GET", Target::Version(kind, id, version)) => self.read_version(call, kind, id, version),
            ("GET", Target::InstanceHistory(kind, id)) => self.instance_history(call, kind, id),
            ("GET", Target::TypeHistory(kind)) => self.type_history(call, Some(kind)),
            ("GET", Target::SystemHistory) => self.type_history(call, None),
            ("POST", Target::Validate(kind)) => self.validate(call, kind),
            (_, target) => Err(not_allowed(allowed(target))),
        }
    }

    /// `GET [type]/[id]` (http.html#read).
    fn read(&mut self, call: &Call, kind: &str, id: &str) -> Result<Answer, Refusal> {
        let Some(row) = self.row(kind, id) else {
            return Err(Refusal::new(404, "not-found", format!("{kind}/{id} is not known here.")));
        };
        let Some((version, at, body)) = row.current().map(|version| (version.id.clone(), version.at, version.body.clone())) else {
            return Err(Refusal::new(404, "not-found", format!("{kind}/{id} is not known here.")));
        };
        let Some(body) = body else {
            return Err(self.deleted(call, kind, id, &version));
        };
        let unchanged = call
            .conditions
            .if_none_match
            .as_deref()
            .is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == version));
        if unchanged {
            return Ok(Answer { status: 304, etag: Some(version), last_modified: Some(at), ..Answer::default() });
        }
        Ok(self.shown(call, &version, at, &body))
    }

    /// `GET [type]/[id]/_history/[version]` (http.html#vread).
    fn read_version(&mut self, call: &Call, kind: &str, id: &str, wanted: &str) -> Result<Answer, Refusal> {
        let found = self.row(kind, id).filter(|_| self.quirks.instance_history).and_then(|row| {
            let version = row.versions.iter().find(|version| version.id == wanted)?;
            Some((version.id.clone(), version.at, version.body.clone()))
        });
        match found {
            None => Err(Refusal::new(404, "not-found", format!("There is no version of {kind}/{id} of this name."))),
            Some((version, _, None)) => Err(self.deleted(call, kind, id, &version)),
            Some((version, at, Some(body))) => Ok(self.shown(call, &version, at, &body)),
        }
    }

    fn shown(&mut self, call: &Call, version: &str, at: i64, body: &Arc<Json>) -> Answer {
        let view = self.view(call, body);
        Answer {
            status: 200,
            resource: call.bundled.then(|| view.clone()),
            body: Some(view),
            etag: Some(version.to_owned()),
            last_modified: Some(at),
            location: None,
        }
    }

    fn deleted(&mut self, call: &Call, kind: &str, id: &str, version: &str) -> Refusal {
        if call.faults.has(Fault::DeleteAs404) {
            self.show(Fault::DeleteAs404);
            return Refusal::new(404, "not-found", format!("{kind}/{id} is not known here."));
        }
        Refusal::new(410, "deleted", format!("{kind}/{id} was deleted.")).with_header("etag", format!("W/\"{version}\""))
    }

    fn unknown_type(&self, get: bool) -> Result<Answer, Refusal> {
        let text = "FHIR R4 has no resource type of this name.";
        match self.quirks.unknown_type {
            UnknownType::NotFound => Err(Refusal::new(404, "not-supported", text)),
            UnknownType::Refused => Err(Refusal::new(400, "not-supported", text)),
            UnknownType::NotFoundPage => Err(Refusal::page(404, "text/html; charset=iso-8859-1", crate::reply::NOT_FOUND_PAGE)),
            UnknownType::EmptySearch if get => Ok(Answer::with(
                200,
                crate::json::object([
                    ("resourceType", crate::json::string("Bundle")),
                    ("type", crate::json::string("searchset")),
                    ("total", crate::json::whole(0)),
                ]),
            )),
            UnknownType::EmptySearch => Err(Refusal::new(404, "not-supported", text)),
        }
    }

    /// `POST [type]/$validate`: the resource itself or a Parameters with `resource`; always as strictly as R4 is.
    fn validate(&mut self, call: &Call, kind: &str) -> Result<Answer, Refusal> {
        let Some(body) = &call.body else {
            return Err(Refusal::new(400, "invalid", "The request has no body."));
        };
        let inner = crate::json::items(body, "parameter")
            .iter()
            .find(|parameter| str_at(parameter, "name") == Some("resource"))
            .and_then(|parameter| parameter.get("resource"));
        let resource = inner.unwrap_or(body);
        if str_at(resource, "resourceType") != Some(kind) {
            return Err(Refusal::new(400, "invalid", format!("What is to be validated is no {kind}.")));
        }
        let found = validate::issues(kind, resource, Validation::Strict);
        Ok(Answer::with(200, if found.is_empty() { all_well("No issues.") } else { outcome(&found) }))
    }
}

fn allowed(target: &Target) -> &'static str {
    match target {
        Target::Instance(..) => "GET, HEAD, PUT, DELETE",
        Target::Type(_) => "GET, HEAD, POST, PUT",
        Target::Search(_) | Target::Validate(_) => "POST",
        _ => "GET, HEAD",
    }
}

fn not_allowed(allow: &'static str) -> Refusal {
    Refusal::new(405, "not-supported", format!("This address takes {allow} only.")).with_header("allow", allow)
}
