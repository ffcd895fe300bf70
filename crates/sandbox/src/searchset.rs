//! The searchset that a search gives: rows, total, links, notes, and what faults make of them (FHIR R4 search.html, http.html#paging).

use rand::Rng;

use crate::call::{Call, Query};
use crate::fault::Fault;
use crate::filter::Filter;
use crate::json::{self, Json, object, string, whole};
use crate::ledger::{Author, Condition};
use crate::outcome::{Issue, Refusal, outcome};
use crate::paging::{Page, url};
use crate::quirks::UnknownParameter;
use crate::search::Asked;
use crate::twin::{Twin, Write};

impl Twin {
    /// A resource as this server shows it now.
    pub(crate) fn view(&mut self, call: &Call, body: &Json) -> Json {
        let mut view = body.clone();
        if call.faults.has(Fault::NoLastUpdated)
            && let Some(meta) = json::get_mut(&mut view, "meta")
            && json::remove(meta, "lastUpdated").is_some()
        {
            self.show(Fault::NoLastUpdated);
        }
        if call.faults.has(Fault::Subsetted)
            && let Json::Object(members) = &mut view
        {
            members.retain(|(name, _)| ["resourceType", "id", "meta", "identifier", "status", "code", "subject"].contains(&name.as_str()));
            if let Some(meta) = json::get_mut(&mut view, "meta") {
                let tag = object([
                    ("system", string("http://terminology.hl7.org/CodeSystem/v3-ObservationValue")),
                    ("code", string("SUBSETTED")),
                ]);
                json::set(meta, "tag", Json::Array(vec![tag]));
            }
            self.show(Fault::Subsetted);
        }
        view
    }

    pub(crate) fn searchset(&mut self, call: &Call, kind: &str, asked: &Asked, mut page: Page, all: &[usize], query: &Query) -> Json {
        let mut total = all.len();
        if self.quirks.total_is_page_length && !asked.count_only {
            total = page.places.len();
        }
        let mut notes = Vec::new();
        if self.quirks.unknown_parameter == UnknownParameter::Reported {
            for name in &asked.unknown {
                notes.push(Issue {
                    severity: "information",
                    code: "invalid",
                    text: format!("Unknown parameter: {}. Parameter has been ignored.", name.to_uppercase()),
                    expression: None,
                });
            }
        }
        if call.faults.has(Fault::EmptySearch) {
            self.show(Fault::EmptySearch);
            page = Page { places: Vec::new(), next: None };
            total = 0;
        }
        if call.faults.has(Fault::PartialSearch) && page.places.pop().is_some() {
            self.show(Fault::PartialSearch);
            notes.push(Issue {
                severity: "warning",
                code: "suppressed",
                text: "Some results were withheld and will not be returned.".to_owned(),
                expression: None,
            });
        }
        if call.faults.has(Fault::DuplicatePageRows)
            && let Some(first) = page.places.first().copied()
        {
            self.show(Fault::DuplicatePageRows);
            page.places.push(first);
        }
        if call.faults.has(Fault::WrongPatientRow)
            && let Some(stranger) = self.stranger(kind, asked)
        {
            self.show(Fault::WrongPatientRow);
            page.places.push(stranger);
        }
        if call.faults.has(Fault::TotalLies) {
            self.show(Fault::TotalLies);
            total = if page.places.len() == total { total + 7 } else { page.places.len() };
        }
        let mut links = vec![link("self", url(&call.base, kind, &asked.used))];
        if let Some(next) = self.next_link(call, kind, &page, query) {
            links.push(link("next", next));
            self.touch(call, kind, all);
        }
        let mut entries: Vec<Json> = Vec::with_capacity(page.places.len() + 1);
        for place in &page.places {
            let Some((id, body)) = self.kind(kind).and_then(|kind| {
                let row = kind.rows.get(*place)?;
                Some((row.id.clone(), row.body()?.clone()))
            }) else {
                continue;
            };
            let resource = self.view(call, &body);
            entries.push(object([
                ("fullUrl", string(format!("{}/{kind}/{id}", call.base))),
                ("resource", resource),
                ("search", object([("mode", string("match"))])),
            ]));
        }
        if !notes.is_empty() {
            entries.push(object([("resource", outcome(&notes)), ("search", object([("mode", string("outcome"))]))]));
        }
        let mut bundle = object([
            ("resourceType", string("Bundle")),
            ("id", string(self.uuid())),
            ("type", string("searchset")),
            ("total", whole(i128::try_from(total).unwrap_or_default())),
            ("link", Json::Array(links)),
        ]);
        if !entries.is_empty() {
            json::set(&mut bundle, "entry", Json::Array(entries));
        }
        bundle
    }

    /// A row that the search did not ask for.
    fn stranger(&self, kind: &str, asked: &Asked) -> Option<usize> {
        let narrowing: Vec<&Filter> = asked
            .filters
            .iter()
            .filter(|filter| match filter {
                Filter::Subjects { .. } => true,
                _ => kind == "Patient",
            })
            .collect();
        if narrowing.is_empty() {
            return None;
        }
        self.kind(kind)?
            .rows
            .iter()
            .position(|row| row.body().is_some_and(|body| !narrowing.iter().any(|filter| filter.matches(row, body, self.now))))
    }

    fn next_link(&mut self, call: &Call, kind: &str, page: &Page, query: &Query) -> Option<String> {
        let (next, at_base) = page.next.as_ref()?;
        let path = if *at_base { "" } else { kind };
        if call.faults.has(Fault::PageLoop) {
            self.show(Fault::PageLoop);
            let path = if query.iter().any(|(name, _)| name == "_getpages") { "" } else { kind };
            return Some(url(&call.base, path, query));
        }
        if call.faults.has(Fault::RelativeNext) {
            self.show(Fault::RelativeNext);
            return Some(url("", path, next).trim_start_matches('/').to_owned());
        }
        if call.faults.has(Fault::ForeignNext) {
            self.show(Fault::ForeignNext);
            let base = format!("{}/fhir", self.settings.foreign_origin.trim_end_matches('/'));
            return Some(url(&base, path, next));
        }
        Some(url(&call.base, path, next))
    }

    /// Somebody at the hospital saves a few of the rows while they are being paged.
    fn touch(&mut self, call: &Call, kind: &str, all: &[usize]) {
        if !call.faults.has(Fault::RowsChangeWhilePaged) || all.is_empty() {
            return;
        }
        self.show(Fault::RowsChangeWhilePaged);
        let mut hospital = call.clone();
        hospital.by = Author::Hospital;
        hospital.request_id = None;
        for _ in 0..3 {
            let place = all[self.chance.random_range(0..all.len())];
            let Some((id, body)) = self.kind(kind).and_then(|kind| {
                let row = kind.rows.get(place)?;
                Some((row.id.clone(), row.body()?.clone()))
            }) else {
                continue;
            };
            self.commit(&hospital, Write { kind, id, method: "PUT", body: Some((*body).clone()), condition: Condition::None });
        }
    }
}

/// Epic: "This resource requires demographics or _id parameter for searching."
pub(crate) fn needs_subject(kind: &str, asked: &Asked) -> Result<(), Refusal> {
    let enough = asked.identifier_ignored
        || asked.filters.iter().any(|filter| match filter {
            Filter::Ids(_) | Filter::Identifiers(_) | Filter::Subjects { .. } => true,
            Filter::Texts { .. } => true,
            Filter::Dates { stamp: false, .. } => kind == "Patient",
            _ => false,
        });
    if enough {
        return Ok(());
    }
    let what = if kind == "Patient" { "demographics or _id" } else { "patient, subject, identifier or _id" };
    let mut issues: Vec<Issue> = asked
        .unknown
        .iter()
        .map(|name| Issue {
            severity: "information",
            code: "invalid",
            text: format!("Unknown parameter: {}. Parameter has been ignored.", name.to_uppercase()),
            expression: None,
        })
        .collect();
    let mut fatal = Issue::error("business-rule", format!("This resource requires {what} parameter for searching."));
    fatal.severity = "fatal";
    issues.push(fatal);
    Err(Refusal::of(400, issues))
}

fn link(relation: &str, url: String) -> Json {
    object([("relation", string(relation)), ("url", string(url))])
}
