//! Create, update and delete, with their conditions (FHIR R4 http.html#create, #update, #delete, #ccreate, #cond-update, #concurrency).

use crate::call::{Answer, Call, Wants, read_query};
use crate::fault::Fault;
use crate::json::{self, Json, str_at};
use crate::ledger::Condition;
use crate::outcome::{Refusal, all_well};
use crate::quirks::ConditionForm;
use crate::twin::{Twin, Write, identifiers, subject};
use crate::validate;

impl Twin {
    /// `POST [type]`, also with `If-None-Exist`.
    pub(crate) fn create(&mut self, call: &Call, kind: &str) -> Result<Answer, Refusal> {
        let body = content(call, kind)?;
        let mut condition = Condition::None;
        if let Some(text) = &call.conditions.if_none_exist {
            match self.condition(call, kind, text)? {
                None => condition = Condition::Ignored,
                Some(now) => {
                    let seen = call.looked_up.as_ref().unwrap_or(&now);
                    match seen.as_slice() {
                        [] => condition = self.unmatched(call, &now),
                        [one] => return self.exists(call, kind, *one),
                        many => return Err(too_many(many.len())),
                    }
                }
            }
        }
        if call.faults.has(Fault::Redirect303)
            && let Some(place) = self.twin_of(kind, &body)
        {
            return self.exists(call, kind, place);
        }
        self.judge(call, kind, &body)?;
        let kept = str_at(&body, "id").filter(|id| self.quirks.keeps_posted_id && crate::types::is_id(id));
        let id = match (&call.given_id, kept) {
            (Some(id), _) => id.clone(),
            (None, Some(id)) => id.to_owned(),
            (None, None) => self.new_id(),
        };
        let place = self.commit(call, Write { kind, id, method: "POST", body: Some(body), condition });
        Ok(self.written(call, kind, place, 201))
    }

    /// `PUT [type]/[id]`.
    pub(crate) fn update(&mut self, call: &Call, kind: &str, id: &str) -> Result<Answer, Refusal> {
        self.put(call, kind, id, Condition::None)
    }

    /// `PUT [type]?query`.
    pub(crate) fn conditional_update(&mut self, call: &Call, kind: &str) -> Result<Answer, Refusal> {
        self.may_update(kind)?;
        self.refuse_conditions(call)?;
        let body = content(call, kind)?;
        if call.query.is_empty() {
            return Err(Refusal::new(400, "invalid", "A PUT names a resource by its id or by a query."));
        }
        let now = self.matched(call, kind, &call.query)?.unwrap_or_default();
        let seen = call.looked_up.as_ref().unwrap_or(&now);
        let own = str_at(&body, "id");
        match seen.as_slice() {
            [] => {
                let condition = self.unmatched(call, &now);
                match own {
                    Some(own) => self.put(call, kind, own, condition),
                    None => {
                        self.judge(call, kind, &body)?;
                        let id = call.given_id.clone().unwrap_or_else(|| self.new_id());
                        let place = self.commit(call, Write { kind, id, method: "PUT", body: Some(body), condition });
                        Ok(self.written(call, kind, place, 201))
                    }
                }
            }
            [one] => {
                let id = self.kind(kind).and_then(|kind| Some(kind.rows.get(*one)?.id.clone())).unwrap_or_default();
                if own.is_some_and(|own| own != id) {
                    return Err(Refusal::new(400, "invalid", "The id in the body is not that of the resource that the query matches."));
                }
                let mut named = call.clone();
                let mut body = body;
                json::set_at(&mut body, "id", json::string(id.clone()), 1);
                named.body = Some(std::sync::Arc::new(body));
                self.put(&named, kind, &id, Condition::OneMatch)
            }
            many => Err(too_many(many.len())),
        }
    }

    /// `DELETE [type]/[id]`.
    pub(crate) fn delete(&mut self, call: &Call, kind: &str, id: &str) -> Result<Answer, Refusal> {
        if !self.quirks.deletes {
            return Err(Refusal::new(405, "not-supported", "This server deletes nothing.").with_header("allow", "GET, PUT, POST"));
        }
        let Some(row) = self.row(kind, id) else {
            return Err(Refusal::new(404, "not-found", format!("{kind}/{id} is not known here.")));
        };
        let version = row.current().map(|version| version.id.clone());
        if row.body().is_none() {
            return match self.quirks.delete_again_status {
                404 => Err(Refusal::new(404, "not-found", format!("{kind}/{id} is deleted already."))),
                status => Ok(gone(status)),
            };
        }
        self.check_match(call, version.as_deref())?;
        let referred = kind == "Patient"
            && self.quirks.check_subject
            && self.kinds.values().any(|kind| kind.by_subject.contains_key(&format!("Patient/{id}")));
        if referred {
            return Err(Refusal::new(409, "conflict", "The Patient cannot be deleted: other resources refer to it."));
        }
        self.commit(call, Write { kind, id: id.to_owned(), method: "DELETE", body: None, condition: Condition::None });
        Ok(gone(self.quirks.delete_status))
    }

    /// What `If-None-Exist` matches; `None` where this server does not look at it.
    pub(crate) fn condition(&mut self, call: &Call, kind: &str, text: &str) -> Result<Option<Vec<usize>>, Refusal> {
        self.refuse_conditions(call)?;
        if call.faults.has(Fault::IgnoreIfNoneExist) {
            if call.looked_up.is_none() {
                self.show(Fault::IgnoreIfNoneExist);
            }
            return Ok(None);
        }
        let typed = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix('?'));
        let marked = text.strip_prefix('?');
        let bare = match (self.quirks.condition_form, typed, marked) {
            (_, None, None) => text,
            (ConditionForm::Lenient, Some(query), _) | (ConditionForm::Lenient, None, Some(query)) => query,
            (ConditionForm::Ignored, ..) => return Ok(None),
            (ConditionForm::Medplum, None, Some(_)) => return Err(too_many(2)),
            _ => {
                return Err(Refusal::new(
                    400,
                    "invalid",
                    "If-None-Exist holds what would follow the `?` of a search, without type and `?`.",
                ));
            }
        };
        let query = read_query(bare);
        if query.is_empty() {
            return Err(Refusal::new(400, "invalid", "If-None-Exist holds no search parameter."));
        }
        self.matched(call, kind, &query)
    }

    /// Refuses what does not pass this server's checks.
    pub(crate) fn judge(&mut self, call: &Call, kind: &str, body: &Json) -> Result<(), Refusal> {
        if let Some(longest) = self.quirks.longest_identifier
            && identifiers(body).iter().any(|one| one.value.len() > longest)
        {
            return Err(Refusal::new(500, "exception", "value too long for type character varying"));
        }
        let depth = if call.bundled { self.quirks.batch_validation } else { self.quirks.validation };
        let issues = validate::issues(kind, body, depth);
        if !issues.is_empty() {
            return Err(Refusal::of(self.quirks.invalid_status, issues));
        }
        if self.quirks.check_subject
            && kind == "Observation"
            && let Some(reference) = subject(body)
            && !self.is_living_patient(reference)
        {
            let mut refusal = Refusal::new(
                self.quirks.invalid_status,
                "not-found",
                "Observation.subject: the resource that it refers to does not exist here.",
            );
            if let Some(issue) = refusal.issues.first_mut() {
                issue.expression = Some("Observation.subject".to_owned());
            }
            return Err(refusal);
        }
        Ok(())
    }

    /// The answer to a write that happened.
    pub(crate) fn written(&mut self, call: &Call, kind: &str, place: usize, status: u16) -> Answer {
        let Some((id, version, at, body)) = self.kind(kind).and_then(|kind| {
            let row = kind.rows.get(place)?;
            let version = row.current()?;
            Some((row.id.clone(), version.id.clone(), version.at, version.body.clone()?))
        }) else {
            return Answer { status, ..Answer::default() };
        };
        let location = if self.quirks.location_with_version {
            format!("{}/{kind}/{id}/_history/{version}", call.base)
        } else {
            format!("{}/{kind}/{id}", call.base)
        };
        let view = self.view(call, &body);
        let wants = call.prefer.wants.filter(|_| self.quirks.prefer_honoured);
        let shown = match wants {
            Some(Wants::Minimal) => None,
            Some(Wants::Outcome) => Some(all_well("Done.")),
            Some(Wants::Representation) => Some(view.clone()),
            None => self.quirks.answers_with_body.then(|| view.clone()),
        };
        Answer {
            status,
            body: shown,
            location: Some(location),
            etag: Some(version),
            last_modified: Some(at),
            resource: (wants != Some(Wants::Minimal)).then_some(view),
        }
    }

    fn put(&mut self, call: &Call, kind: &str, id: &str, condition: Condition) -> Result<Answer, Refusal> {
        self.may_update(kind)?;
        let body = content(call, kind)?;
        match str_at(&body, "id") {
            Some(own) if own == id => {}
            Some(_) => return Err(Refusal::new(400, "invalid", "The id in the body is not the id in the URL.")),
            None => return Err(Refusal::new(400, "invalid", "An update's body has to carry its id.")),
        }
        let row = self.row(kind, id);
        let version = row.and_then(|row| row.current()).map(|version| version.id.clone());
        let old = row.and_then(|row| row.body().cloned());
        self.check_match(call, version.as_deref().filter(|_| old.is_some()))?;
        if call.conditions.if_none_match.as_deref() == Some("*") && old.is_some() && self.quirks.if_none_match_honoured {
            return Err(Refusal::new(412, "conflict", "The resource exists already."));
        }
        if old.is_none() {
            self.may_create_by_id(call, id, version.is_some())?;
        }
        self.judge(call, kind, &body)?;
        if let Some(old) = &old
            && self.quirks.same_content_keeps_version
            && same_content(old, &body, call.faults.has(Fault::DecimalsRounded))
            && let Some(place) = self.kind(kind).and_then(|kind| kind.by_id.get(id).copied())
        {
            return Ok(self.written(call, kind, place, 200));
        }
        let status = if old.is_some() { 200 } else { self.quirks.put_created_status };
        let place = self.commit(call, Write { kind, id: id.to_owned(), method: "PUT", body: Some(body), condition });
        Ok(self.written(call, kind, place, status))
    }

    fn may_update(&self, kind: &str) -> Result<(), Refusal> {
        if self.quirks.updatable.is_empty() || self.quirks.updatable.contains(&kind) {
            return Ok(());
        }
        Err(Refusal::new(405, "not-supported", format!("A {kind} cannot be updated here.")).with_header("allow", "GET, POST"))
    }

    fn may_create_by_id(&mut self, call: &Call, id: &str, deleted: bool) -> Result<(), Refusal> {
        if call.faults.has(Fault::NoUpdateCreate) {
            self.show(Fault::NoUpdateCreate);
            let status = match self.settings.no_update_create_status {
                0 if deleted => 410,
                0 if uuid::Uuid::parse_str(id).is_ok() => 404,
                0 => 400,
                status => status,
            };
            let code = match status {
                404 => "not-found",
                410 => "deleted",
                400 => "invalid",
                _ => "not-supported",
            };
            return Err(Refusal::new(status, code, "This server gives the ids itself: a PUT has to name a resource that exists."));
        }
        if self.quirks.refuses_numeric_ids && id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::new(400, "processing", "Can not create resource: an id that a client assigns must contain a letter."));
        }
        Ok(())
    }

    /// `If-Match` against the current version (none: there is nothing living).
    fn check_match(&mut self, call: &Call, version: Option<&str>) -> Result<(), Refusal> {
        let Some(asked) = &call.conditions.if_match else { return Ok(()) };
        let fits = version.is_some_and(|version| asked.split(',').any(|tag| tag.trim() == "*" || opaque(tag) == version));
        if fits {
            return Ok(());
        }
        if call.faults.has(Fault::IfMatchIgnored) {
            self.show(Fault::IfMatchIgnored);
            return Ok(());
        }
        let status = if call.faults.has(Fault::Precondition409) {
            self.show(Fault::Precondition409);
            409
        } else {
            412
        };
        Err(Refusal::new(status, "conflict", "The resource has another version than If-Match names."))
    }

    fn refuse_conditions(&mut self, call: &Call) -> Result<(), Refusal> {
        if call.faults.has(Fault::NoConditionalCreate) {
            self.show(Fault::NoConditionalCreate);
            return Err(Refusal::new(400, "not-supported", "Conditional creates and updates are not supported."));
        }
        Ok(())
    }

    /// Nothing matched when it looked; what is there by now tells whether it raced.
    fn unmatched(&mut self, call: &Call, now: &[usize]) -> Condition {
        if now.is_empty() {
            return Condition::NoMatch;
        }
        if call.faults.has(Fault::ConditionalCreateRace) {
            self.show(Fault::ConditionalCreateRace);
        }
        Condition::Raced
    }

    /// The answer to a create that found its resource.
    fn exists(&mut self, call: &Call, kind: &str, place: usize) -> Result<Answer, Refusal> {
        if self.quirks.match_with_tags_fails && !call.bundled && self.is_tagged(kind, place) {
            return Err(Refusal::new(500, "processing", "failed to lazily initialize a collection of role: ResourceTable.myTags"));
        }
        let mut answer = self.written(call, kind, place, 200);
        if call.faults.has(Fault::Redirect303) && !call.bundled {
            self.show(Fault::Redirect303);
            return Err(
                Refusal::new(303, "duplicate", "The resource exists already.").with_header("location", answer.location.unwrap_or_default())
            );
        }
        if !self.quirks.location_on_match && !call.bundled {
            answer.location = None;
        }
        Ok(answer)
    }

    fn is_tagged(&self, kind: &str, place: usize) -> bool {
        let meta = self.kind(kind).and_then(|kind| kind.rows.get(place)?.body()?.get("meta"));
        meta.is_some_and(|meta| ["tag", "security"].iter().any(|name| meta.get(name).is_some()))
    }

    /// A living resource that carries one of the body's identifiers.
    fn twin_of(&self, kind: &str, body: &Json) -> Option<usize> {
        let rows = self.kind(kind)?;
        let wanted = identifiers(body);
        wanted.iter().find_map(|one| {
            rows.by_identifier
                .get(&one.value)?
                .iter()
                .copied()
                .find(|place| rows.rows.get(*place).and_then(|row| row.body()).is_some_and(|other| identifiers(other).contains(one)))
        })
    }

    fn is_living_patient(&self, reference: &str) -> bool {
        let reference = crate::ledger::local(reference);
        if self.promised.contains(&reference) {
            return true;
        }
        match reference.split_once('/') {
            Some(("Patient", id)) => self.row("Patient", id).is_some_and(|row| row.body().is_some()),
            // Group, Device and Location may be subjects too; contained and logical references are not resolved.
            _ => true,
        }
    }
}

/// The body, which has to be a resource of this type.
fn content(call: &Call, kind: &str) -> Result<Json, Refusal> {
    let Some(body) = &call.body else {
        return Err(Refusal::new(400, "invalid", "The request has no body."));
    };
    match str_at(body, "resourceType") {
        Some(own) if own == kind => Ok((**body).clone()),
        Some(own) => Err(Refusal::new(400, "invalid", format!("The body is a {own}, the URL names {kind}."))),
        None => Err(Refusal::new(400, "structure", "The body has no resourceType.")),
    }
}

fn gone(status: u16) -> Answer {
    Answer { status, body: (status == 200).then(|| all_well("Deleted.")), ..Answer::default() }
}

fn too_many(found: usize) -> Refusal {
    Refusal::new(412, "multiple-matches", format!("The condition matches {found} resources; it may match one at most."))
}

/// The version inside `W/"x"`, `"x"` or `x`.
fn opaque(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}

/// Equal but for what the server itself sets.
fn same_content(old: &Json, new: &Json, rounded: bool) -> bool {
    let bare = |body: &Json| {
        let mut body = body.clone();
        if let Some(meta) = json::get_mut(&mut body, "meta") {
            for name in ["versionId", "lastUpdated"] {
                json::remove(meta, name);
            }
            let source = str_at(meta, "source").map(|source| source.split('#').next().unwrap_or_default().to_owned());
            match source {
                Some(source) if source.is_empty() => {
                    json::remove(meta, "source");
                }
                Some(source) => json::set(meta, "source", json::string(source)),
                None => {}
            }
        }
        if body.get("meta").and_then(Json::as_object).is_some_and(<[_]>::is_empty) {
            json::remove(&mut body, "meta");
        }
        if rounded {
            json::round_decimals(&mut body);
        }
        body
    };
    bare(old).same_as(&bare(new))
}
