//! Search: which rows a query finds, in which order, and the searchset it gives (FHIR R4 search.html).

use crate::call::{Answer, Call, Query};
use crate::fault::Fault;
use crate::filter::{Filter, Reading, clinical_date};
use crate::outcome::Refusal;
use crate::paging::{Cached, Page, Start, State, url};
use crate::quirks::UnknownParameter;
use crate::searchset::needs_subject;
use crate::twin::Twin;

/// A search as this server understood it.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) filters: Vec<Filter>,
    /// The parameters in use: the self link.
    pub(crate) used: Query,
    pub(crate) unknown: Vec<String>,
    sort: Vec<(Sort, bool)>,
    count: Option<usize>,
    pub(crate) count_only: bool,
    nothing: bool,
    pub(crate) identifier_ignored: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    LastUpdated,
    Date,
    Id,
}

/// What rows are ordered by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Number(i64),
    Text(String),
}

/// Parameters that steer the answer and filter nothing.
const CONTROLS: &[&str] =
    &["_format", "_pretty", "_total", "_offset", "_page", "_cursor", "_getpages", "_getpagesoffset", "_bundletype", "sessionID"];

impl Twin {
    /// A search of one type, its first page or a later one.
    pub(crate) fn search(&mut self, call: &Call, kind: &str, query: &Query) -> Result<Answer, Refusal> {
        let (kind, asked, places, from, token) = match self.start_of(call, query)? {
            Start::Fresh(from) => {
                let asked = self.ask(call, kind, query)?;
                if self.quirks.search_needs_subject {
                    needs_subject(kind, &asked)?;
                }
                let places = self.found(call, kind, &asked);
                let places = self.cached(call, kind, &asked, places);
                (kind.to_owned(), asked, places, from, None)
            }
            Start::Session(session) => match session.state {
                State::Fixed(places, from) => {
                    let token = query
                        .iter()
                        .find(|(name, _)| name == "sessionID" || name == "_getpages")
                        .map(|(_, value)| value.split('.').next().unwrap_or_default().to_owned());
                    (session.kind, session.asked, places, from, token)
                }
                State::After(keys, place) => {
                    let places = self.found(call, &session.kind, &session.asked);
                    let after = places
                        .iter()
                        .position(|own| self.order(&session.kind, &session.asked, (&keys, place), *own).is_lt())
                        .unwrap_or(places.len());
                    (session.kind, session.asked, places, after, None)
                }
            },
        };
        if asked.count_only {
            return Ok(Answer::with(200, self.searchset(call, &kind, &asked, Page { places: Vec::new(), next: None }, &places, query)));
        }
        let size = asked.count.unwrap_or_else(|| self.page_size()).clamp(1, self.quirks.max_page_size);
        let last = places.get(from + size - 1).copied().unwrap_or_default();
        let keys = self.keys(&kind, &asked, last);
        let page = self.next_of(&kind, &asked, (&places, from, size), (keys, last), token);
        Ok(Answer::with(200, self.searchset(call, &kind, &asked, page, &places, query)))
    }

    /// The rows that a condition matches (`If-None-Exist`, a conditional update, a conditional reference), or `None` if this
    /// server does not look at such a condition.
    pub(crate) fn matched(&mut self, call: &Call, kind: &str, query: &Query) -> Result<Option<Vec<usize>>, Refusal> {
        let mut asked = self.ask(call, kind, query)?;
        asked.nothing = false;
        if !asked.unknown.is_empty() && !asked.identifier_ignored {
            if self.quirks.condition_form == crate::quirks::ConditionForm::Ignored {
                return Ok(None);
            }
            return Err(Refusal::new(
                400,
                "not-supported",
                format!("The condition's parameter `{}` is not supported.", asked.unknown.join("`, `")),
            ));
        }
        Ok(Some(self.found(call, kind, &asked)))
    }

    /// Reads a query as this server does.
    fn ask(&mut self, call: &Call, kind: &str, query: &Query) -> Result<Asked, Refusal> {
        let reading = Reading {
            escapes: self.quirks.escapes,
            whole_seconds: self.quirks.whole_seconds,
            last_updated: !call.faults.has(Fault::NoLastUpdated),
        };
        let mut asked = Asked {
            filters: Vec::new(),
            used: Query::new(),
            unknown: Vec::new(),
            sort: Vec::new(),
            count: None,
            count_only: false,
            nothing: false,
            identifier_ignored: false,
        };
        for (name, value) in query {
            if CONTROLS.contains(&name.as_str()) {
                continue;
            }
            match name.as_str() {
                "_count" => {
                    let count: usize =
                        value.parse().map_err(|_| Refusal::new(400, "invalid", "The value of `_count` is not a whole number."))?;
                    asked.count = Some(count);
                    asked.count_only = count == 0;
                }
                "_summary" if value == "count" => asked.count_only = true,
                "_sort" => {
                    for key in value.split(',') {
                        let (key, down) = key.strip_prefix('-').map_or((key, false), |key| (key, true));
                        match key {
                            "_lastUpdated" if reading.last_updated => asked.sort.push((Sort::LastUpdated, down)),
                            "date" | "birthdate" => asked.sort.push((Sort::Date, down)),
                            "_id" => asked.sort.push((Sort::Id, down)),
                            _ => asked.unknown.push("_sort".to_owned()),
                        }
                    }
                    if asked.unknown.last().is_some_and(|last| last == "_sort") {
                        continue;
                    }
                }
                "identifier" if call.faults.has(Fault::IgnoreIdentifier) => {
                    self.show(Fault::IgnoreIdentifier);
                    asked.identifier_ignored = true;
                    continue;
                }
                "patient" | "subject" if self.quirks.ignores_patient => {}
                _ => match Filter::parse(kind, name, value, reading)? {
                    Some(filter) => asked.filters.push(filter),
                    None => {
                        asked.unknown.push(name.clone());
                        if self.quirks.unknown_parameter == UnknownParameter::NoRows {
                            asked.nothing = true;
                        } else {
                            continue;
                        }
                    }
                },
            }
            asked.used.push((name.clone(), value.clone()));
        }
        let refuses = self.quirks.unknown_parameter == UnknownParameter::Refused || (call.prefer.strict && self.quirks.strict_honoured);
        if refuses && !asked.unknown.is_empty() {
            return Err(Refusal::new(
                400,
                "not-supported",
                format!("The search parameter `{}` is not supported for {kind}.", asked.unknown.join("`, `")),
            ));
        }
        Ok(asked)
    }

    /// The places of the rows found, in order.
    fn found(&mut self, call: &Call, kind: &str, asked: &Asked) -> Vec<usize> {
        if asked.nothing {
            return Vec::new();
        }
        let now = self.now;
        let lag = i64::try_from(self.settings.search_lag_ms).unwrap_or(i64::MAX);
        let lagging = call.faults.has(Fault::SearchLag);
        let mut hidden = false;
        let Some(rows) = self.kind(kind) else {
            return Vec::new();
        };
        let mut places: Vec<usize> = rows
            .candidates(asked)
            .into_iter()
            .filter(|place| {
                let Some(row) = rows.rows.get(*place) else { return false };
                let Some(body) = row.body() else { return false };
                if !asked.filters.iter().all(|filter| filter.matches(row, body, now)) {
                    return false;
                }
                let fresh = lagging && row.versions.first().is_some_and(|first| now - first.at < lag);
                hidden |= fresh;
                !fresh
            })
            .collect();
        if hidden {
            self.show(Fault::SearchLag);
        }
        if !asked.sort.is_empty() || self.quirks.newest_first {
            let mut keyed: Vec<(Vec<Key>, usize)> = places.iter().map(|place| (self.keys(kind, asked, *place), *place)).collect();
            keyed.sort_by(|a, b| self.compare(asked, (&a.0, a.1), (&b.0, b.1)));
            places = keyed.into_iter().map(|(_, place)| place).collect();
        }
        places
    }

    /// The result of the same search a moment ago, where this server keeps those.
    fn cached(&mut self, call: &Call, kind: &str, asked: &Asked, fresh: Vec<usize>) -> Vec<usize> {
        if !call.faults.has(Fault::SearchCache) {
            return fresh;
        }
        let key = url("", kind, &asked.used);
        let life = i64::try_from(self.settings.search_cache_ms).unwrap_or(i64::MAX);
        if let Some(kept) = self.cache.get(&key)
            && !call.no_cache
            && self.now - kept.at < life
        {
            let kept: Vec<usize> = kept.places.clone();
            if kept != fresh {
                self.show(Fault::SearchCache);
            }
            return kept;
        }
        let (now, life) = (self.now, life);
        if self.cache.len() > 10_000 {
            self.cache.retain(|_, kept| now - kept.at < life);
        }
        self.cache.insert(key, Cached { at: now, places: fresh.clone() });
        fresh
    }

    fn keys(&self, kind: &str, asked: &Asked, place: usize) -> Vec<Key> {
        let Some(row) = self.kind(kind).and_then(|kind| kind.rows.get(place)) else {
            return Vec::new();
        };
        let updated = || Key::Number(row.current().map_or(0, |version| version.at));
        if asked.sort.is_empty() {
            return if self.quirks.newest_first { vec![updated()] } else { Vec::new() };
        }
        asked
            .sort
            .iter()
            .map(|(sort, _)| match sort {
                Sort::LastUpdated => updated(),
                Sort::Id => Key::Text(row.id.clone()),
                Sort::Date => Key::Number(row.body().and_then(|body| clinical_date(body)).map_or(i64::MAX, |date| date.low)),
            })
            .collect()
    }

    fn order(&self, kind: &str, asked: &Asked, a: (&[Key], usize), place: usize) -> std::cmp::Ordering {
        self.compare(asked, a, (&self.keys(kind, asked, place), place))
    }

    fn compare(&self, asked: &Asked, a: (&[Key], usize), b: (&[Key], usize)) -> std::cmp::Ordering {
        for (index, (one, other)) in a.0.iter().zip(b.0).enumerate() {
            let down = asked.sort.get(index).map_or(self.quirks.newest_first, |(_, down)| *down);
            let order = if down { other.cmp(one) } else { one.cmp(other) };
            if order.is_ne() {
                return order;
            }
        }
        a.1.cmp(&b.1)
    }
}

impl crate::twin::Kind {
    /// Rows that may match, by the narrowest index that the filters allow.
    fn candidates(&self, asked: &Asked) -> Vec<usize> {
        for filter in &asked.filters {
            match filter {
                Filter::Ids(ids) => return ids.iter().filter_map(|id| self.by_id.get(id).copied()).collect(),
                Filter::Identifiers(tokens) if tokens.iter().all(|token| token.value.is_some()) => {
                    return gather(tokens.iter().filter_map(|token| self.by_identifier.get(token.value.as_deref()?)));
                }
                _ => {}
            }
        }
        for filter in &asked.filters {
            if let Filter::Subjects { any, .. } = filter {
                // The types that `Observation.subject` may be of; a bare id may name any of them.
                let keys: Vec<String> = any
                    .iter()
                    .flat_map(|one| match one.contains('/') {
                        true => vec![crate::ledger::local(one)],
                        false => ["Patient", "Group", "Device", "Location"].iter().map(|kind| format!("{kind}/{one}")).collect(),
                    })
                    .collect();
                return gather(keys.iter().filter_map(|key| self.by_subject.get(key)));
            }
        }
        (0..self.rows.len()).collect()
    }
}

fn gather<'a>(sets: impl Iterator<Item = &'a std::collections::BTreeSet<usize>>) -> Vec<usize> {
    let mut places: Vec<usize> = sets.flatten().copied().collect();
    places.sort_unstable();
    places.dedup();
    places
}
