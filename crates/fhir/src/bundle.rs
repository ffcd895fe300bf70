//! Bundle: building a batch, reading its answer entry by entry, reading pages of a search or a history.
//!
//! Resources pass through as raw text (`RawValue`), so that no digit and no unknown element is lost. An entry that cannot
//! be read spoils only itself; a Bundle that cannot be read is an error, never an empty one.

mod fields;

use crate::json::is_bounded;
use crate::operation_outcome::OperationOutcome;
use crate::search::{Location, etag, is_type_name, location};
use fields::{Fields, RawList};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::fmt;

/// The most entries that are read of one Bundle: a hundred times what we ever ask for. An entry takes 300 bytes in memory and
/// three in a text (`{},`).
pub const ENTRIES_MAX: usize = 20_000;
/// The most OperationOutcomes that are read of one page.
const OUTCOMES_MAX: usize = 100;

/// One entry of a batch to be sent.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchEntry {
    /// `urn:uuid:…` for a POST, absolute URL or `urn:uuid:…` for a PUT. Each entry should have one (FHIR.md §3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_url: Option<String>,
    /// The resource, for POST and PUT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Box<RawValue>>,
    /// What is asked.
    pub request: BatchRequest,
}

/// `Bundle.entry.request`.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchRequest {
    /// `POST`, `PUT` or `GET`.
    pub method: &'static str,
    /// Relative to the base, without a leading `/`.
    pub url: String,
    /// `W/"3"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// `*`: only if nothing is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_none_match: Option<&'static str>,
    /// The bare query of a conditional create.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_none_exist: Option<String>,
}

impl BatchEntry {
    /// A create by `POST`, conditional if `if_none_exist` says so.
    #[must_use]
    pub fn post(full_url: String, resource_type: &str, resource: Box<RawValue>, if_none_exist: Option<String>) -> Self {
        let request = BatchRequest { method: "POST", url: resource_type.to_owned(), if_match: None, if_none_match: None, if_none_exist };
        Self { full_url: Some(full_url), resource: Some(resource), request }
    }

    /// An update, or a create of our own id, by `PUT`.
    #[must_use]
    pub fn put(full_url: String, resource_type: &str, id: &str, resource: Box<RawValue>, if_match: Option<String>) -> Self {
        let request =
            BatchRequest { method: "PUT", url: format!("{resource_type}/{id}"), if_match, if_none_match: None, if_none_exist: None };
        Self { full_url: Some(full_url), resource: Some(resource), request }
    }

    /// A read or search.
    #[must_use]
    pub fn get(url: String) -> Self {
        Self {
            full_url: None,
            resource: None,
            request: BatchRequest { method: "GET", url, if_match: None, if_none_match: None, if_none_exist: None },
        }
    }

    /// The same with `ifNoneMatch: *`: only if nothing is there (R4 http#concurrency).
    #[must_use]
    pub fn unless_there(mut self) -> Self {
        self.request.if_none_match = Some("*");
        self
    }
}

impl fmt::Debug for BatchEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchEntry").field("method", &self.request.method).finish_non_exhaustive()
    }
}

/// Why a Bundle will not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// One Bundle never holds two versions of a resource or one identifier twice (PROTOCOL §3).
    #[error("two entries of the batch concern the same resource; they must not travel together")]
    SameResourceTwice,
    /// Nothing to send.
    #[error("a batch needs at least one entry")]
    NoEntry,
    /// Our own JSON could not be written.
    #[error("the batch could not be written as JSON")]
    Unwritable,
    /// Not JSON, or JSON that breaks off.
    #[error("the answer is not whole JSON")]
    NotJson,
    /// JSON, but no Bundle.
    #[error("the answer is not a Bundle")]
    NotABundle,
    /// A Bundle of another type than asked for.
    #[error("the answer is a Bundle of another type")]
    OtherType,
    /// More entries than anybody asked for.
    #[error("the answer has more entries than Ponte reads of one page")]
    TooManyEntries,
    /// Entries are paired by order alone, so their number must agree (R4 http#transaction-response).
    #[error("the answer has {got} entries for {asked} requests, so none can be paired")]
    OtherCount {
        /// Requests sent.
        asked: usize,
        /// Entries that came.
        got: usize,
    },
}

/// Writes a Bundle of type `batch`.
///
/// # Errors
/// When it is empty or when two entries concern the same resource.
pub fn batch(entries: &[BatchEntry]) -> Result<String, BundleError> {
    #[derive(Serialize)]
    struct Batch<'a> {
        #[serde(rename = "resourceType")]
        resource_type: &'static str,
        r#type: &'static str,
        entry: &'a [BatchEntry],
    }
    if entries.is_empty() {
        return Err(BundleError::NoEntry);
    }
    let mut seen = BTreeSet::new();
    for entry in entries {
        let put = (entry.request.method == "PUT").then(|| format!("PUT {}", entry.request.url));
        let conditional = entry.request.if_none_exist.as_ref().map(|query| format!("{}?{query}", entry.request.url));
        let full_url = entry.full_url.clone();
        for key in [put, conditional, full_url].into_iter().flatten() {
            if !seen.insert(key) {
                return Err(BundleError::SameResourceTwice);
            }
        }
    }
    serde_json::to_string(&Batch { resource_type: "Bundle", r#type: "batch", entry: entries }).map_err(|_| BundleError::Unwritable)
}

/// One entry of a `batch-response`.
#[derive(Clone, Default)]
pub struct EntryResponse {
    /// From `^\d{3}` of `response.status`; `None` is uncertain, never success.
    pub status: Option<u16>,
    /// What `response.location` names.
    pub location: Option<Location>,
    /// Version from `response.etag`.
    pub etag: Option<String>,
    /// `response.lastModified`.
    pub last_modified: Option<String>,
    /// The resource, verbatim; never an OperationOutcome.
    pub resource: Option<Box<RawValue>>,
    /// From `response.outcome`, else an OperationOutcome in `resource`.
    pub outcome: Option<OperationOutcome>,
}

impl fmt::Debug for EntryResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryResponse").field("status", &self.status).field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

/// Reads the answer to a batch of `asked` entries.
///
/// # Errors
/// When it is no `batch-response` (or `transaction-response`) of as many entries: then every entry is uncertain.
pub fn batch_response(body: &[u8], asked: usize) -> Result<Vec<EntryResponse>, BundleError> {
    let bundle = object(body)?;
    match text(&bundle, "type").as_deref() {
        Some("batch-response" | "transaction-response") => {}
        _ => return Err(BundleError::OtherType),
    }
    let entries = raw_list(&bundle, "entry")?;
    if entries.len() != asked {
        return Err(BundleError::OtherCount { asked, got: entries.len() });
    }
    Ok(entries.into_iter().map(entry_response).collect())
}

/// A page of a search or of a history.
#[derive(Clone, Default)]
pub struct Page {
    /// Its entries, in order, OperationOutcomes excepted.
    pub entries: Vec<PageEntry>,
    /// The OperationOutcomes among its entries: warnings such as `suppressed` make a pull incomplete.
    pub outcomes: Vec<OperationOutcome>,
    /// The parameters that the server really used (R4 search#conformance).
    pub self_link: Option<String>,
    /// The next page; opaque. Only its absence ends a walk.
    pub next_link: Option<String>,
    /// `total`: optional, an estimate, or the page size. Never decides anything.
    pub total: Option<u64>,
    /// Entries that were no JSON objects, or more than we read, counted.
    pub unreadable: usize,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("entries", &self.entries.len())
            .field("outcomes", &self.outcomes)
            .field("next", &self.next_link.is_some())
            .field("unreadable", &self.unreadable)
            .finish_non_exhaustive()
    }
}

/// One entry of a page.
#[derive(Clone, Default)]
pub struct PageEntry {
    /// Where the server says that it stands; may be another server.
    pub full_url: Option<String>,
    /// `search.mode`; may be absent.
    pub mode: Option<String>,
    /// Type of the resource.
    pub resource_type: Option<String>,
    /// Logical id in the resource, unchecked text.
    pub id: Option<String>,
    /// `meta.versionId`.
    pub version: Option<String>,
    /// `meta.lastUpdated`, as it stands.
    pub last_updated: Option<String>,
    /// The resource, verbatim. Absent on a delete of a history.
    pub resource: Option<Box<RawValue>>,
    /// `request.method` of a history entry.
    pub method: Option<String>,
    /// `request.url` of a history entry.
    pub request_url: Option<String>,
    /// `response.lastModified` of a history entry.
    pub last_modified: Option<String>,
}

impl fmt::Debug for PageEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageEntry").field("resource_type", &self.resource_type).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// Reads a `searchset` or `history` Bundle.
///
/// # Errors
/// When it is anything else. An empty list is a Bundle without entries, nothing less.
pub fn page(body: &[u8]) -> Result<Page, BundleError> {
    let bundle = object(body)?;
    match text(&bundle, "type").as_deref() {
        Some("searchset" | "history") => {}
        _ => return Err(BundleError::OtherType),
    }
    let mut page = Page { total: bundle.get("total").and_then(|raw| raw.get().parse().ok()), ..Page::default() };
    for link in raw_list(&bundle, "link")?.into_iter().filter_map(fields) {
        let slot = match text(&link, "relation").as_deref() {
            Some("self") => &mut page.self_link,
            Some("next") => &mut page.next_link,
            _ => continue,
        };
        if slot.is_none() {
            *slot = text(&link, "url").filter(|url| !url.trim().is_empty());
        }
    }
    for raw in raw_list(&bundle, "entry")? {
        match fields(raw) {
            None => page.unreadable += 1,
            Some(entry) => {
                let entry = page_entry(&entry);
                match &entry.resource {
                    Some(raw) if !is_bounded(raw.get().as_bytes()) => page.unreadable += 1,
                    Some(raw) if entry.resource_type.as_deref() == Some("OperationOutcome") => {
                        match OperationOutcome::parse(raw.get().as_bytes()) {
                            Some(outcome) if page.outcomes.len() < OUTCOMES_MAX => page.outcomes.push(outcome),
                            _ => page.unreadable += 1,
                        }
                    }
                    _ => page.entries.push(entry),
                }
            }
        }
    }
    Ok(page)
}

/// Type, id and version of a resource, whatever else it holds. `None` when it is no JSON object of a resource type.
#[must_use]
pub fn resource_head(body: &[u8]) -> Option<(String, Option<String>, Option<String>)> {
    let resource = object_of_any_type(body)?;
    let resource_type = text(&resource, "resourceType").filter(|t| is_type_name(t))?;
    let version = resource.get("meta").and_then(fields).and_then(|meta| text(&meta, "versionId"));
    Some((resource_type, text(&resource, "id"), version))
}

fn object(body: &[u8]) -> Result<Fields<'_>, BundleError> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
        return Err(BundleError::NotJson);
    }
    let bundle: Fields<'_> = serde_json::from_slice(body).map_err(|_| BundleError::NotABundle)?;
    if text(&bundle, "resourceType").as_deref() == Some("Bundle") { Ok(bundle) } else { Err(BundleError::NotABundle) }
}

fn object_of_any_type(body: &[u8]) -> Option<Fields<'_>> {
    serde_json::from_slice(body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)).ok()
}

fn fields(raw: &RawValue) -> Option<Fields<'_>> {
    serde_json::from_str(raw.get()).ok()
}

/// A list, empty where there is none.
fn raw_list<'a>(object: &Fields<'a>, key: &str) -> Result<Vec<&'a RawValue>, BundleError> {
    let list: RawList<'a> = object.get(key).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    if list.0.len() > ENTRIES_MAX { Err(BundleError::TooManyEntries) } else { Ok(list.0) }
}

fn text(object: &Fields<'_>, key: &str) -> Option<String> {
    object.get(key).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

fn entry_response(raw: &RawValue) -> EntryResponse {
    let Some(entry) = fields(raw) else { return EntryResponse::default() };
    let response = entry.get("response").and_then(fields).unwrap_or_default();
    let outcome_at = |raw: &RawValue| OperationOutcome::parse(raw.get().as_bytes());
    let resource = entry.get("resource");
    let unbounded = |raw: &RawValue| !is_bounded(raw.get().as_bytes());
    if resource.is_some_and(unbounded) || response.get("outcome").is_some_and(unbounded) {
        return EntryResponse::default();
    }
    let is_outcome = |raw: &&RawValue| fields(raw).is_some_and(|head| text(&head, "resourceType").as_deref() == Some("OperationOutcome"));
    let in_resource = resource.filter(is_outcome).and_then(outcome_at);
    EntryResponse {
        status: response.get("status").and_then(|raw| leading_status(raw.get())),
        location: text(&response, "location").as_deref().and_then(location),
        etag: text(&response, "etag").as_deref().and_then(etag),
        last_modified: text(&response, "lastModified"),
        resource: resource.filter(|raw| in_resource.is_none() && raw.get().starts_with('{')).map(RawValue::to_owned),
        outcome: response.get("outcome").and_then(outcome_at).or(in_resource),
    }
}

/// `^\d{3}` of a status, given as text or, wrongly, as a number.
fn leading_status(json: &str) -> Option<u16> {
    let digits = json.strip_prefix('"').unwrap_or(json).get(..3)?;
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok().filter(|status| (100..600).contains(status)) } else { None }
}

fn page_entry(entry: &Fields<'_>) -> PageEntry {
    let inner = |key: &str| entry.get(key).and_then(fields).unwrap_or_default();
    let resource = entry.get("resource").filter(|raw| raw.get().starts_with('{'));
    let head = resource.and_then(fields).unwrap_or_default();
    let meta = head.get("meta").and_then(fields).unwrap_or_default();
    let (request, response) = (inner("request"), inner("response"));
    PageEntry {
        full_url: text(entry, "fullUrl"),
        mode: text(&inner("search"), "mode"),
        resource_type: text(&head, "resourceType"),
        id: text(&head, "id"),
        version: text(&meta, "versionId"),
        last_updated: text(&meta, "lastUpdated"),
        resource: resource.map(RawValue::to_owned),
        method: text(&request, "method"),
        request_url: text(&request, "url"),
        last_modified: text(&response, "lastModified"),
    }
}

#[cfg(test)]
mod tests;
