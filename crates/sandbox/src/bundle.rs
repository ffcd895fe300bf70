//! Batch and transaction (FHIR R4 http.html#transaction).

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use rand::Rng;

use crate::call::{Answer, Call, Conditions, Query, Target, read_query};
use crate::fault::Fault;
use crate::instant;
use crate::json::{self, Json, items, object, str_at, string};
use crate::outcome::{Refusal, outcome};
use crate::twin::Twin;

type Judged = Result<Answer, Refusal>;

impl Twin {
    /// `POST [base]` with a Bundle.
    pub(crate) fn bundle(&mut self, call: &Call) -> Judged {
        if call.faults.has(Fault::NoBatch) {
            self.show(Fault::NoBatch);
            return Err(Refusal::new(400, "not-supported", "Batches and transactions are not supported."));
        }
        let Some(bundle) = &call.body else {
            return Err(Refusal::new(400, "invalid", "The request has no body."));
        };
        if str_at(bundle, "resourceType") != Some("Bundle") {
            return Err(Refusal::new(400, "invalid", "What is posted to the base has to be a Bundle."));
        }
        let whole = match str_at(bundle, "type") {
            Some("batch") => false,
            Some("transaction") => !self.quirks.transaction_is_batch,
            _ => return Err(Refusal::new(400, "invalid", "The Bundle's type has to be batch or transaction.")),
        };
        let asked_for = if str_at(bundle, "type") == Some("transaction") { "transaction-response" } else { "batch-response" };
        let entries = items(bundle, "entry");
        if call.faults.has(Fault::TooManyEntries413) && entries.len() > self.settings.max_entries {
            self.show(Fault::TooManyEntries413);
            return Err(Refusal::new(413, "too-long", format!("A Bundle may have {} entries.", self.settings.max_entries)));
        }
        let mut calls: Vec<Result<Call, Refusal>> = entries.iter().map(|entry| entry_call(call, entry)).collect();
        let failing = self.failing_entry(call, &calls);
        let answers = if whole {
            self.transaction(&mut calls, entries, failing)?
        } else {
            calls
                .iter()
                .enumerate()
                .map(|(index, entry)| match entry {
                    Err(refusal) => Err(refusal.clone()),
                    Ok(_) if failing == Some(index) => Err(self.entry_failure()),
                    Ok(entry) => self.may(entry).and_then(|()| self.execute(entry)),
                })
                .collect()
        };
        let mut responses: Vec<Json> = answers.into_iter().map(|answer| self.response(call, answer)).collect();
        self.spoil_responses(call, &mut responses);
        let body = object([
            ("resourceType", string("Bundle")),
            ("id", string(self.uuid())),
            ("type", string(asked_for)),
            ("entry", Json::Array(responses)),
        ]);
        Ok(Answer::with(200, body))
    }

    /// All or nothing: ids first, then references, then DELETE, POST, PUT, GET in this order (http.html#trules).
    fn transaction(
        &mut self,
        calls: &mut [Result<Call, Refusal>],
        entries: &[Json],
        failing: Option<usize>,
    ) -> Result<Vec<Judged>, Refusal> {
        for entry in calls.iter() {
            if let Err(refusal) = entry {
                return Err(refusal.clone());
            }
        }
        let mut names = HashMap::new();
        let mut conditions: HashMap<String, String> = HashMap::new();
        for (entry, raw) in calls.iter_mut().zip(entries) {
            let Ok(entry) = entry else { continue };
            let Some(id) = self.transaction_id(entry, &mut conditions)? else { continue };
            if let Some(full) = str_at(raw, "fullUrl") {
                names.insert(full.to_owned(), format!("{}/{id}", entry.target.label()));
            }
        }
        self.promised = names.values().cloned().collect();
        let begun = self.begin();
        let result = self.transaction_steps(calls, &names, failing);
        self.promised.clear();
        if result.is_ok() {
            self.keep();
        } else {
            self.take_back(begun);
        }
        result
    }

    fn transaction_steps(
        &mut self,
        calls: &mut [Result<Call, Refusal>],
        names: &HashMap<String, String>,
        failing: Option<usize>,
    ) -> Result<Vec<Judged>, Refusal> {
        let mut order: Vec<usize> = (0..calls.len()).collect();
        order.sort_by_key(|index| match calls[*index].as_ref().map(|entry| entry.method.as_str()) {
            Ok("DELETE") => 0,
            Ok("POST") => 1,
            Ok("PUT" | "PATCH") => 2,
            _ => 3,
        });
        let mut answers: Vec<Option<Judged>> = calls.iter().map(|_| None).collect();
        for index in order {
            let Ok(entry) = &mut calls[index] else { continue };
            if failing == Some(index) {
                return Err(self.entry_failure());
            }
            self.may(entry)?;
            self.resolve_references(entry, names)?;
            answers[index] = Some(Ok(self.execute(entry)?));
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Ok(Answer::default()))).collect())
    }

    /// The id that an entry's resource has or will have, so that others may refer to it.
    fn transaction_id(&mut self, entry: &mut Call, conditions: &mut HashMap<String, String>) -> Result<Option<String>, Refusal> {
        if let Target::Instance(_, id) = &entry.target {
            return Ok((entry.method == Method::PUT).then(|| id.clone()));
        }
        let (Target::Type(kind), true) = (entry.target.clone(), entry.method == Method::POST || entry.method == Method::PUT) else {
            return Ok(None);
        };
        let text = match &entry.conditions.if_none_exist {
            Some(text) => Some(text.clone()),
            None if entry.method == Method::PUT => Some(crate::call::write_query(&entry.query)),
            None => None,
        };
        if let Some(text) = text {
            let matches = self.condition(entry, &kind, &text)?;
            if let Some(first) = matches.as_deref().and_then(<[usize]>::first) {
                return Ok(self.kind(&kind).and_then(|kind| Some(kind.rows.get(*first)?.id.clone())));
            }
            if self.quirks.transaction_blind_to_itself {
                entry.looked_up = matches;
            } else if matches.is_some() {
                // The second entry of one condition is the first one's resource.
                if let Some(id) = conditions.get(&format!("{kind}?{text}")) {
                    return Ok(Some(id.clone()));
                }
                let id = self.new_id();
                conditions.insert(format!("{kind}?{text}"), id.clone());
                entry.given_id = Some(id.clone());
                return Ok(Some(id));
            }
        }
        let id = self.new_id();
        entry.given_id = Some(id.clone());
        Ok(Some(id))
    }

    /// Puts ids in place of the transaction's own names, and of `Type?query` references.
    fn resolve_references(&mut self, entry: &mut Call, names: &HashMap<String, String>) -> Result<(), Refusal> {
        let Some(body) = &entry.body else { return Ok(()) };
        let mut body = (**body).clone();
        let mut queries = Vec::new();
        json::walk_mut(&mut body, "", &mut |key, value| {
            let Json::String(text) = value else { return };
            let refers = matches!(key, "reference" | "uri" | "url" | "oid" | "uuid" | "valueUri" | "valueUrl" | "valueOid" | "valueUuid");
            if refers && let Some(name) = names.get(text.as_str()) {
                name.clone_into(text);
            } else if key == "div" {
                for (full, name) in names.iter().filter(|(full, _)| full.starts_with("urn:")) {
                    *text = text.replace(full.as_str(), name);
                }
            } else if key == "reference" && text.contains('?') {
                queries.push(text.clone());
            }
        });
        for reference in queries {
            let found = self.reference_by_query(entry, &reference)?;
            json::walk_mut(&mut body, "", &mut |key, value| {
                if key == "reference" && value.as_str() == Some(&reference) {
                    *value = string(found.clone());
                }
            });
        }
        entry.body = Some(Arc::new(body));
        Ok(())
    }

    fn reference_by_query(&mut self, entry: &Call, reference: &str) -> Result<String, Refusal> {
        let (kind, query) = reference.split_once('?').unwrap_or((reference, ""));
        let places = self.matched(entry, kind, &read_query(query))?.unwrap_or_default();
        match places.as_slice() {
            [one] => Ok(self.kind(kind).and_then(|rows| Some(format!("{kind}/{}", rows.rows.get(*one)?.id))).unwrap_or_default()),
            [] => Err(Refusal::new(400, "not-found", "A conditional reference matches nothing.")),
            _ => Err(Refusal::new(412, "multiple-matches", "A conditional reference matches several resources.")),
        }
    }

    fn failing_entry(&mut self, call: &Call, calls: &[Result<Call, Refusal>]) -> Option<usize> {
        if !call.faults.has(Fault::BatchEntryFails) {
            return None;
        }
        let writes: Vec<usize> = calls
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.as_ref().is_ok_and(|entry| entry.method != Method::GET))
            .map(|(index, _)| index)
            .collect();
        if writes.is_empty() {
            return None;
        }
        Some(writes[self.chance.random_range(0..writes.len())])
    }

    fn entry_failure(&mut self) -> Refusal {
        self.show(Fault::BatchEntryFails);
        self.entry_failures += 1;
        match self.entry_failures % 3 {
            1 => Refusal::new(500, "exception", "An internal error occurred while this entry was processed."),
            2 => Refusal::new(409, "lock-error", "Another process holds the resource."),
            _ => Refusal::new(422, "business-rule", "A rule of this hospital refuses the entry."),
        }
    }

    fn response(&mut self, call: &Call, answer: Judged) -> Json {
        match answer {
            Err(refusal) => {
                let mut response = object([("status", string(status_line(refusal.status)))]);
                if let Some(("location" | "etag", value)) = &refusal.header {
                    json::set(&mut response, refusal.header.as_ref().map_or("", |(name, _)| name), string(value.clone()));
                }
                json::set(&mut response, "outcome", outcome(&refusal.issues));
                object([("response", response)])
            }
            Ok(answer) => {
                let mut entry = object([]);
                let details = self.quirks.batch_entry_details;
                let reads = answer.location.is_none();
                if let Some(resource) = answer.resource.filter(|_| details || reads).or(answer.body.filter(|_| reads)) {
                    json::set(&mut entry, "resource", resource);
                }
                let mut response = object([("status", string(status_line(answer.status)))]);
                if let Some(location) = answer.location {
                    let relative = location.strip_prefix(&call.base).map_or(location.as_str(), |rest| rest.trim_start_matches('/'));
                    json::set(&mut response, "location", string(relative));
                }
                if let Some(etag) = answer.etag.filter(|_| details) {
                    json::set(&mut response, "etag", string(format!("W/\"{etag}\"")));
                }
                if let Some(at) = answer.last_modified {
                    json::set(&mut response, "lastModified", string(instant::format(at, self.quirks.whole_seconds)));
                }
                json::set(&mut entry, "response", response);
                entry
            }
        }
    }

    fn spoil_responses(&mut self, call: &Call, responses: &mut Vec<Json>) {
        if responses.is_empty() {
            return;
        }
        if call.faults.has(Fault::EntriesWithoutResource) {
            let mut taken = false;
            for entry in responses.iter_mut() {
                taken |= json::remove(entry, "resource").is_some();
            }
            if taken {
                self.show(Fault::EntriesWithoutResource);
            }
        }
        if call.faults.has(Fault::BatchStatusWithoutDigits) {
            let index = self.chance.random_range(0..responses.len());
            if let Some(response) = json::get_mut(&mut responses[index], "response") {
                json::set(response, "status", string("DELETE"));
                self.show(Fault::BatchStatusWithoutDigits);
            }
        }
        if call.faults.has(Fault::BatchWrongCount) {
            self.show(Fault::BatchWrongCount);
            let index = self.chance.random_range(0..responses.len());
            if self.chance.random_bool(0.5) {
                responses.remove(index);
            } else {
                responses.push(responses[index].clone());
            }
        }
    }
}

/// The interaction that an entry asks for.
fn entry_call(call: &Call, entry: &Json) -> Result<Call, Refusal> {
    let bad = |text: &str| Refusal::new(400, "invalid", text);
    let request = entry.get("request").ok_or_else(|| bad("Bundle.entry.request is missing (bdl-3)."))?;
    let method = match str_at(request, "method") {
        Some("GET") => Method::GET,
        Some("HEAD") => Method::HEAD,
        Some("POST") => Method::POST,
        Some("PUT") => Method::PUT,
        Some("DELETE") => Method::DELETE,
        Some("PATCH") => Method::PATCH,
        _ => return Err(bad("Bundle.entry.request.method is missing or unknown.")),
    };
    let url = str_at(request, "url").ok_or_else(|| bad("Bundle.entry.request.url is missing."))?;
    let url = url.strip_prefix(&call.base).unwrap_or(url);
    let (path, query): (&str, Query) = match url.split_once('?') {
        Some((path, query)) => (path, read_query(query)),
        None => (url, Query::new()),
    };
    let target = Target::parse(path);
    if target == Target::Root {
        return Err(bad("A Bundle's entry cannot be a Bundle to process."));
    }
    let body = entry.get("resource").cloned();
    if body.is_none() && (method == Method::POST || method == Method::PUT) {
        return Err(bad("A POST or PUT entry has to carry a resource."));
    }
    let own = |name: &str| str_at(request, name).map(str::to_owned);
    Ok(Call {
        method,
        target,
        query,
        conditions: Conditions { if_match: own("ifMatch"), if_none_match: own("ifNoneMatch"), if_none_exist: own("ifNoneExist") },
        body: body.map(Arc::new),
        bundled: true,
        looked_up: None,
        given_id: None,
        ..call.clone()
    })
}

/// `201 Created` and the like: three digits and a text (Bundle.entry.response.status).
fn status_line(status: u16) -> String {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|code| code.canonical_reason())
        .map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
}
