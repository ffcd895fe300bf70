//! History of one resource, a type, or everything (FHIR R4 http.html#history).

use crate::call::{Answer, Call, Query};
use crate::instant;
use crate::json::{self, Json, object, string, whole};
use crate::outcome::Refusal;
use crate::paging::url;
use crate::twin::{Row, Twin};

/// One version, as history shows it.
struct Past {
    kind: String,
    id: String,
    version: String,
    at: i64,
    method: &'static str,
    body: Option<std::sync::Arc<Json>>,
}

impl Twin {
    pub(crate) fn instance_history(&mut self, call: &Call, kind: &str, id: &str) -> Result<Answer, Refusal> {
        if !self.quirks.instance_history {
            return Err(Refusal::new(404, "not-supported", "This server keeps no history."));
        }
        let Some(row) = self.row(kind, id) else {
            return Err(Refusal::new(404, "not-found", format!("{kind}/{id} is not known here.")));
        };
        let past = row.past(kind);
        self.history(call, past, &format!("{kind}/{id}/_history"))
    }

    /// Of one type, or of all.
    pub(crate) fn type_history(&mut self, call: &Call, kind: Option<&String>) -> Result<Answer, Refusal> {
        if !self.quirks.type_history {
            return Err(Refusal::new(404, "not-supported", "This server keeps no history of types."));
        }
        let past: Vec<Past> = self
            .kinds
            .iter()
            .filter(|(name, _)| kind.is_none_or(|kind| kind == *name))
            .flat_map(|(name, kind)| kind.rows.iter().flat_map(|row| row.past(name)))
            .collect();
        let path = kind.map_or_else(|| "_history".to_owned(), |kind| format!("{kind}/_history"));
        self.history(call, past, &path)
    }

    fn history(&mut self, call: &Call, mut past: Vec<Past>, path: &str) -> Result<Answer, Refusal> {
        let (mut count, mut page, mut used) = (usize::MAX, 1_usize, Query::new());
        for (name, value) in &call.query {
            let bad = || Refusal::new(400, "invalid", format!("The value of `{name}` cannot be read."));
            match name.as_str() {
                "_since" => {
                    let since = instant::parse(value).ok_or_else(bad)?.low;
                    past.retain(|one| one.at >= since);
                    used.push((name.clone(), value.clone()));
                }
                "_count" => {
                    count = value.parse::<usize>().map_err(|_| bad())?.max(1);
                    used.push((name.clone(), value.clone()));
                }
                "_page" => page = value.parse::<usize>().map_err(|_| bad())?.max(1),
                _ => {}
            }
        }
        // Newest first; within one millisecond, the later version of a resource first.
        past.reverse();
        past.sort_by_key(|one| std::cmp::Reverse(one.at));
        let total = past.len();
        let from = (page - 1).saturating_mul(count);
        let mut links = vec![object([("relation", string("self")), ("url", string(url(&call.base, path, &used)))])];
        if from.saturating_add(count) < total {
            used.push(("_page".to_owned(), (page + 1).to_string()));
            links.push(object([("relation", string("next")), ("url", string(url(&call.base, path, &used)))]));
        }
        let shown: Vec<Past> = past.into_iter().skip(from).take(count).collect();
        let entries: Vec<Json> = shown.into_iter().map(|one| self.history_entry(call, &one)).collect();
        let mut bundle = object([
            ("resourceType", string("Bundle")),
            ("id", string(self.uuid())),
            ("type", string("history")),
            ("total", whole(i128::try_from(total).unwrap_or_default())),
            ("link", Json::Array(links)),
        ]);
        if !entries.is_empty() {
            json::set(&mut bundle, "entry", Json::Array(entries));
        }
        Ok(Answer::with(200, bundle))
    }

    fn history_entry(&mut self, call: &Call, past: &Past) -> Json {
        let own = format!("{}/{}", past.kind, past.id);
        let (method, place) = match past.method {
            _ if self.quirks.history_says_get => ("GET", own.clone()),
            "POST" => ("POST", past.kind.clone()),
            method => (method, own.clone()),
        };
        let status = match past.method {
            "POST" => "201",
            "DELETE" => "204",
            _ => "200",
        };
        let mut entry = object([("fullUrl", string(format!("{}/{own}", call.base)))]);
        if let Some(body) = &past.body {
            let view = self.view(call, body);
            json::set(&mut entry, "resource", view);
        }
        json::set(&mut entry, "request", object([("method", string(method)), ("url", string(place))]));
        json::set(
            &mut entry,
            "response",
            object([
                ("status", string(status)),
                ("etag", string(format!("W/\"{}\"", past.version))),
                ("lastModified", string(instant::format(past.at, self.quirks.whole_seconds))),
            ]),
        );
        entry
    }
}

impl Row {
    /// Oldest first.
    fn past(&self, kind: &str) -> Vec<Past> {
        self.versions
            .iter()
            .map(|version| Past {
                kind: kind.to_owned(),
                id: self.id.clone(),
                version: version.id.clone(),
                at: version.at,
                method: version.method,
                body: version.body.clone(),
            })
            .collect()
    }
}
