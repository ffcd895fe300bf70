//! What an outcome means: the one table of PRODUCT, as one function.
//!
//! In goes what was asked and what became of it; out comes a class and what the answer names. When in doubt a write is
//! `uncertain`, never refused and never done. A read leaves nothing behind, so it is never uncertain.

use crate::transport::{LostCause, Reply, Sent};
use fhir::bundle::{EntryResponse, resource_head};
use fhir::json::is_bounded;
use fhir::operation_outcome::{BodyKind, OperationOutcome, kind_of, sentence};
use fhir::search::{Location, etag, http_date, location, retry_after_ms};
use model::{Class, EhrId, Timestamp};
use std::fmt;

/// What was asked, as far as the meaning of the answer depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interaction {
    /// `PUT` of an id that we chose, to create (means 2).
    OwnIdCreate {
        /// Resource type.
        resource_type: String,
        /// Our id.
        id: EhrId,
        /// Whether this EHR is not proven yet to take such a `PUT`: then a 400, 404 or 405 may speak of the means.
        first: bool,
    },
    /// `POST` with `If-None-Exist` (means 3).
    ConditionalCreate {
        /// Resource type.
        resource_type: String,
        /// Whether conditional creates are not proven here yet.
        first: bool,
    },
    /// `POST` (means 4).
    PlainCreate {
        /// Resource type.
        resource_type: String,
    },
    /// `PUT` of a known id.
    Update {
        /// Resource type.
        resource_type: String,
        /// The EHR's id.
        id: EhrId,
    },
    /// `GET` by id.
    Read {
        /// Resource type.
        resource_type: String,
    },
    /// A search by `GET`, or one of its pages.
    Search,
    /// A search by `POST _search`.
    PostSearch,
    /// A batch Bundle; its entries are judged one by one.
    Batch,
    /// `/metadata`.
    Capabilities,
    /// JSON that is not FHIR: discovery.
    Discovery,
}

impl Interaction {
    /// Whether it may change something at the EHR.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(
            self,
            Self::OwnIdCreate { .. } | Self::ConditionalCreate { .. } | Self::PlainCreate { .. } | Self::Update { .. } | Self::Batch
        )
    }

    fn creates(&self) -> bool {
        matches!(self, Self::OwnIdCreate { .. } | Self::ConditionalCreate { .. } | Self::PlainCreate { .. })
    }

    fn resource_type(&self) -> Option<&str> {
        match self {
            Self::OwnIdCreate { resource_type, .. }
            | Self::ConditionalCreate { resource_type, .. }
            | Self::PlainCreate { resource_type }
            | Self::Update { resource_type, .. }
            | Self::Read { resource_type } => Some(resource_type),
            Self::Capabilities => Some("CapabilityStatement"),
            Self::Search | Self::PostSearch | Self::Batch => Some("Bundle"),
            Self::Discovery => None,
        }
    }

    /// The id in the URL of a `PUT`.
    fn own_id(&self) -> Option<&EhrId> {
        match self {
            Self::OwnIdCreate { id, .. } | Self::Update { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// What became of an interaction.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it means. `Exists` on a create: somebody carries the condition; the caller checks identifier, subject and mark.
    pub class: Class,
    /// HTTP status, if one came. A `PUT` of our own id that answers 200 instead of 201 found something there.
    pub status: Option<u16>,
    /// The id that the answer names.
    pub ehr_id: Option<EhrId>,
    /// The version that the answer names.
    pub ehr_version: Option<String>,
    /// The resource in the answer, verbatim; only if it is whole and of the type asked for.
    pub resource: Option<String>,
    /// How long the EHR asks us to wait, ms, uncapped.
    pub retry_after_ms: Option<i64>,
    /// The EHR's own words or ours. May hold patient data: sealed by the caller, shown to the tenant alone.
    pub message: Option<String>,
    /// What groups equal failures: codes and paths, no text.
    pub fingerprint: Option<String>,
    /// The EHR's clock (`Date`).
    pub server_date: Option<Timestamp>,
    /// Our own last check kept it from being sent.
    pub withheld: bool,
}

impl Outcome {
    /// An outcome of ours, without any answer.
    #[must_use]
    pub fn ours(class: Class, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::bare(class) }
    }

    /// Whether it went well.
    #[must_use]
    pub fn ok(&self) -> bool {
        matches!(self.class, Class::Applied | Class::Exists)
    }

    fn bare(class: Class) -> Self {
        Self {
            class,
            status: None,
            ehr_id: None,
            ehr_version: None,
            resource: None,
            retry_after_ms: None,
            message: None,
            fingerprint: None,
            server_date: None,
            withheld: false,
        }
    }
}

impl fmt::Debug for Outcome {
    /// Without ids, words and resource.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("class", &self.class)
            .field("status", &self.status)
            .field("fingerprint", &self.fingerprint)
            .field("withheld", &self.withheld)
            .finish_non_exhaustive()
    }
}

/// The table. `now` is our clock, for a `Retry-After` date from a server that sends no `Date`.
#[must_use]
pub fn classify(interaction: &Interaction, sent: &Sent, now: Timestamp) -> Outcome {
    match sent {
        Sent::NotSent { class, detail, withheld } => Outcome { withheld: *withheld, ..Outcome::ours(*class, detail.clone()) },
        Sent::Lost { cause, detail, .. } => {
            let class = match (interaction.writes(), cause) {
                (true, _) => Class::Uncertain,
                (false, LostCause::TooLarge) => Class::BadResponse,
                (false, LostCause::Timeout | LostCause::Cut) => Class::Unreachable,
            };
            Outcome::ours(class, detail.clone())
        }
        Sent::Reply(reply) => of_reply(interaction, reply, now),
    }
}

/// The same table for one entry of a batch answer. Throttling and refusals happen inside entries too.
#[must_use]
pub fn classify_entry(interaction: &Interaction, entry: &EntryResponse) -> Outcome {
    let Some(status) = entry.status else {
        return Outcome::ours(Class::Uncertain, "The EHR's answer to this entry has no status that can be read.");
    };
    let body = entry.resource.as_ref().map(|raw| raw.get());
    let seen = Seen {
        status,
        location: entry.location.clone(),
        etag: entry.etag.clone(),
        retry_after: None,
        kind: if body.is_some() { BodyKind::Json } else { BodyKind::Empty },
        head: body.and_then(|text| resource_head(text.as_bytes())),
        body,
        outcome: entry.outcome.clone(),
        // An entry's own status is the EHR's word, not a proxy's, and an entry may come without resource and etag.
        entry: true,
    };
    let mut outcome = judge(interaction, &seen);
    if !outcome.ok() && outcome.message.is_none() {
        outcome.message = Some(format!("The EHR answered {status} to this entry without saying why."));
    }
    outcome
}

/// What counts of an answer.
struct Seen<'a> {
    status: u16,
    location: Option<Location>,
    etag: Option<String>,
    retry_after: Option<i64>,
    kind: BodyKind,
    /// Type, id and version, where the body is a resource.
    head: Option<(String, Option<String>, Option<String>)>,
    body: Option<&'a str>,
    outcome: Option<OperationOutcome>,
    entry: bool,
}

fn of_reply(interaction: &Interaction, reply: &Reply, now: Timestamp) -> Outcome {
    let server_date = reply.header("date").and_then(http_date);
    let body = reply.body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&reply.body);
    let header_location = reply.header("location").or_else(|| reply.header("content-location"));
    let text = std::str::from_utf8(body).ok();
    let head = text.and_then(|text| resource_head(text.as_bytes()));
    let is_outcome = head.as_ref().is_some_and(|(found, ..)| found == "OperationOutcome");
    let seen = Seen {
        status: reply.status,
        location: header_location.and_then(location),
        etag: reply.header("etag").and_then(etag),
        retry_after: reply.header("retry-after").and_then(|text| retry_after_ms(text, server_date.unwrap_or(now))),
        kind: if head.is_some() { BodyKind::Json } else { kind_of(body) },
        // A page may be large: it is read as an OperationOutcome only if it is one.
        outcome: if is_outcome { OperationOutcome::parse(body) } else { None },
        head,
        body: text,
        entry: false,
    };
    let mut outcome = judge(interaction, &seen);
    outcome.server_date = server_date;
    outcome.retry_after_ms = seen.retry_after;
    if !outcome.ok() {
        outcome.message = outcome.message.or_else(|| Some(sentence(reply.status, body)));
        outcome.fingerprint = Some(fhir::operation_outcome::fingerprint(Some(reply.status), body));
    }
    outcome
}

fn judge(interaction: &Interaction, seen: &Seen<'_>) -> Outcome {
    let mut outcome = match seen.status {
        200..=299 => success(interaction, seen),
        300..=399 => redirect(interaction, seen),
        _ => Outcome::bare(failure(interaction, seen)),
    };
    if outcome.class == Class::Exists && outcome.ehr_id.is_none() {
        outcome.ehr_id = seen.location.as_ref().map(|l| l.id.clone());
    }
    outcome.status = Some(seen.status);
    outcome.message = outcome.message.or_else(|| seen.outcome.as_ref().and_then(OperationOutcome::sentence));
    outcome.fingerprint = seen.outcome.as_ref().map(|words| words.fingerprint(Some(seen.status)));
    outcome
}

/// 2xx: done, if the answer names what was done. A page, a broken answer or silence proves nothing.
fn success(interaction: &Interaction, seen: &Seen<'_>) -> Outcome {
    let unusable = |why: &str| Outcome::ours(if interaction.writes() { Class::Uncertain } else { Class::BadResponse }, why);
    // A Bundle is read entry by entry; anything else becomes values in memory sooner or later.
    if interaction.resource_type() != Some("Bundle") && !seen.body.is_none_or(|text| is_bounded(text.as_bytes())) {
        return unusable("The EHR's answer holds more values than Ponte reads.");
    }
    if *interaction == Interaction::Discovery {
        return if seen.kind == BodyKind::Json {
            Outcome { resource: seen.body.map(str::to_owned), ..Outcome::bare(Class::Applied) }
        } else {
            unusable("The answer is not JSON.")
        };
    }
    let Some(wanted) = interaction.resource_type() else { return unusable("The answer cannot be read.") };
    let shown = seen.head.as_ref().is_some_and(|(found, ..)| found == wanted);
    let (id, version) = match &seen.head {
        Some((_, id, version)) if shown => (id.as_ref().and_then(|id| EhrId::new(id.as_str()).ok()), version.clone()),
        // `return=OperationOutcome`: what was done stands in the headers. An error in it contradicts the status.
        Some((found, ..)) if found == "OperationOutcome" && interaction.writes() && *interaction != Interaction::Batch => {
            // One that cannot be read may hold an error too.
            if seen.outcome.as_ref().is_none_or(OperationOutcome::has_error) {
                return unusable("The EHR answered with success and an error at once.");
            }
            (None, None)
        }
        Some(_) => return unusable("The EHR answered with another kind of resource than asked for."),
        None if seen.kind == BodyKind::Empty && interaction.writes() => (None, None),
        None => return unusable(&sentence(seen.status, seen.body.unwrap_or("\u{fffd}").as_bytes())),
    };
    if !interaction.writes() || *interaction == Interaction::Batch {
        if *interaction == Interaction::Batch && seen.kind == BodyKind::Empty {
            return unusable("The EHR answered the batch without a body.");
        }
        // Pages and batch answers are read by their own readers, straight from the reply.
        let resource = seen.body.filter(|_| wanted != "Bundle").map(str::to_owned);
        return Outcome { ehr_id: id, ehr_version: version, resource, ..Outcome::bare(Class::Applied) };
    }
    let place = seen.location.as_ref().filter(|l| l.resource_type == wanted);
    // A `PUT` names its id itself, but a success that shows no trace of the resource may be a proxy's.
    let own = interaction.own_id().filter(|_| shown || place.is_some() || seen.etag.is_some() || seen.entry);
    let Some(ehr_id) = id.or_else(|| place.map(|l| l.id.clone())).or_else(|| own.cloned()) else {
        return unusable("The EHR answered with success but named no resource.");
    };
    if let Interaction::Update { id, .. } = interaction
        && *id != ehr_id
    {
        return Outcome::ours(Class::Conflict, "The EHR answered the update of one resource with another.");
    }
    let exists = matches!(interaction, Interaction::ConditionalCreate { .. }) && seen.status != 201;
    Outcome {
        ehr_id: Some(ehr_id),
        ehr_version: version.or_else(|| place.and_then(|l| l.version.clone())).or_else(|| seen.etag.clone()),
        resource: seen.body.filter(|_| shown).map(str::to_owned),
        ..Outcome::bare(if exists { Class::Exists } else { Class::Applied })
    }
}

/// 303 on a create names what is there already; nothing else is ever followed.
fn redirect(interaction: &Interaction, seen: &Seen<'_>) -> Outcome {
    let place = seen.location.as_ref().filter(|l| Some(l.resource_type.as_str()) == interaction.resource_type());
    match place {
        Some(place) if seen.status == 303 && interaction.creates() => {
            Outcome { ehr_id: Some(place.id.clone()), ehr_version: place.version.clone(), ..Outcome::bare(Class::Exists) }
        }
        _ => Outcome::ours(
            Class::Redirect,
            format!(
                "The EHR answered {} and points elsewhere; Ponte follows no redirect. Set the address it points to as baseUrl.",
                seen.status
            ),
        ),
    }
}

fn failure(interaction: &Interaction, seen: &Seen<'_>) -> Class {
    use Interaction::{Batch, ConditionalCreate, OwnIdCreate, PostSearch};
    let says = |code: &str| seen.outcome.as_ref().is_some_and(|words| words.has_code(code));
    let about_content = seen.outcome.as_ref().is_some_and(OperationOutcome::names_an_element) && !says("not-supported");
    let writes = interaction.writes();
    let asks = matches!(interaction, Interaction::Read { .. } | Interaction::Search | PostSearch);
    let page = !matches!(seen.kind, BodyKind::Json | BodyKind::Empty);
    match seen.status {
        401 => Class::AuthToken,
        403 => Class::AuthDenied,
        404 | 405 if matches!(interaction, OwnIdCreate { first: true, .. }) => Class::MeansRefused,
        404 | 405 if matches!(interaction, Batch | PostSearch) => Class::MeansRefused,
        // A page in place of FHIR speaks of what stands in between, never of the row.
        400 | 404 | 405 | 409 | 412 | 422 if asks && page => Class::BadResponse,
        404 | 410 => Class::Gone,
        405 if matches!(interaction, ConditionalCreate { .. } | OwnIdCreate { .. }) => Class::MeansRefused,
        400 | 409 | 412 if interaction.creates() && says("multiple-matches") => Class::MultipleMatches,
        // A unique index answers so, and names what is there (FHIR.md §1).
        409 | 422 if interaction.creates() && says("duplicate") && seen.location.is_some() => Class::Exists,
        400 if matches!(interaction, OwnIdCreate { first: true, .. } | ConditionalCreate { first: true, .. }) && !about_content => {
            Class::MeansRefused
        }
        400 if matches!(interaction, Batch | PostSearch) && says("not-supported") => Class::MeansRefused,
        412 if matches!(interaction, ConditionalCreate { .. }) => Class::MultipleMatches,
        // 423 locked and 428 precondition required are of the same kind: read first.
        409 | 412 | 423 | 428 => Class::Conflict,
        413 => Class::TooLarge,
        429 => Class::RateLimited,
        501 if matches!(interaction, OwnIdCreate { .. } | ConditionalCreate { .. } | Batch | PostSearch) => Class::MeansRefused,
        503 if seen.retry_after.is_some() || seen.outcome.is_some() || seen.entry || !writes => Class::Unavailable,
        // The way to the EHR is wrong, not the row: proxies, media types, versions of HTTP.
        402 | 406 | 407 | 415 | 421 | 425 | 426 | 431 | 451 | 501 => Class::Unavailable,
        408 | 500..=599 if writes => Class::Uncertain,
        408 | 500..=599 => Class::Unavailable,
        400..=499 => Class::Validation,
        // 1xx or beyond 599: not HTTP as we know it.
        _ if writes => Class::Uncertain,
        _ => Class::BadResponse,
    }
}

#[cfg(test)]
mod tests;
