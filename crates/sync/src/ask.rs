//! Asking what became of a delivery: a read by id, or a search by our identifier. A search result counts only if the row
//! itself carries the identifier (PRODUCT, effect ledger, rule 12).

use crate::found::{Judged, OurIdentifier, changed_by_somebody, judge_content, subject_is};
use crate::lane::{LaneTurn, limit_ms};
use crate::settle::{Ended, settle_asked, settle_no_way_to_ask, settle_not_asked};
use ehr::client::{Answer as EhrAnswer, Call, Next, SearchPage, Walk};
use ehr::reply::Outcome;
use fhir::search::Query;
use model::delivery::Found;
use model::{AttemptId, Class, EhrId, Means, PatientId, Proof, ResourceKey, State, Timestamp, What};
use std::collections::BTreeMap;
use store::{Begin, Error, Settlement, WorkRow};

/// A server that ignores the parameter sends its rows page by page; so many pages are walked to find out.
const MOST_PAGES: usize = 500;
/// A read that is answered with garbage is repeated so often (PRODUCT, outcome table, last row).
const READ_TWICE_MORE: usize = 3;
/// A question that the EHR forbids for this patient is asked again after this, ms.
const FORBIDDEN_MS: i64 = 3_600_000;

/// What a question came to.
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) judged: Option<Judged>,
}

/// How a row is asked about.
enum How {
    ById(EhrId),
    ByIdentifier,
}

fn how(row: &WorkRow) -> Option<How> {
    match (row.means, &row.ehr_id) {
        // A frozen sender may have created a second one: only a search shows two.
        (Some(Means::ConditionalCreate | Means::PlainCreate), _) => Some(How::ByIdentifier),
        (_, Some(id)) => Some(How::ById(id.clone())),
        (Some(Means::OwnId), None) => EhrId::new(row.resource.uuid().to_string()).ok().map(How::ById),
        (Some(Means::Update) | None, None) => Some(How::ByIdentifier),
    }
}

/// The question as an attempt.
pub(crate) fn begin(row: &WorkRow, attempt: AttemptId) -> Begin {
    let kind = row.resource.resource_type();
    let request = match how(row) {
        Some(How::ById(_)) => format!("GET {kind}/{{id}}"),
        _ => format!("GET {kind}?identifier"),
    };
    Begin { delivery: row.id, attempt, request, means: None, match_etag: None, subject: None }
}

/// Asks.
pub(crate) async fn ask(lane: &LaneTurn, row: &WorkRow) -> Answer {
    let ours = OurIdentifier::of(row.resource, &lane.stored.connection.identifier_system);
    let mut answer = once(lane, row, &ours).await;
    for _ in 1..READ_TWICE_MORE {
        if answer.outcome.class != Class::BadResponse {
            break;
        }
        answer = once(lane, row, &ours).await;
    }
    match answer.judged {
        Some(judged) => Answer { judged: Some(told_apart(lane, row, &ours, judged).await), ..answer },
        None => answer,
    }
}

/// A version of ours under an ETag that we do not know: is it as we wrote it, or did somebody change it since? Found under
/// an older mark it is then not written over; of a delivered row the ETag is not taken for ours, so that the next update
/// meets it (PRODUCT, outcome table, 409 / 412).
pub(crate) async fn told_apart(lane: &LaneTurn, row: &WorkRow, ours: &OurIdentifier, judged: Judged) -> Judged {
    let id = match row.resource {
        ResourceKey::Observation(id) => id,
        ResourceKey::Patient(patient) => return of_the_patient(lane, row, patient, judged).await,
    };
    let Found::Version { version, etag } = &judged.found else { return judged };
    if (row.ehr_version.is_some() && row.ehr_version == *etag) || *version > row.version {
        return judged;
    }
    let (Some(raw), Ok(Some(draft))) = (&judged.raw, lane.lane.tenant().observation_version(id, *version).await) else { return judged };
    let (to_be_overwritten, saved_since) = (*version < row.version, row.ehr_version.is_some());
    if !changed_by_somebody(raw, *version, &draft, ours, to_be_overwritten || saved_since)
        && !moved_to_another(lane, raw, draft.patient_id).await
    {
        return judged;
    }
    let found = match row.state {
        State::Delivered if *version == row.version => Found::Version { version: *version, etag: None },
        _ => Found::Changed { etag: etag.clone() },
    };
    Judged { found, ..judged }
}

/// The hospital has filed it with another patient, which our next `PUT` would undo.
async fn moved_to_another(lane: &LaneTurn, raw: &str, patient: PatientId) -> bool {
    let Ok(Some(patient)) = lane.lane.tenant().patient(patient).await else { return false };
    let link = patient.link;
    // After a person's link the row may stand where it was first written.
    !link.by_person() && link.ehr_id.is_some_and(|at| !subject_is(raw, &at, &lane.stored.connection.base_url))
}

/// A Patient that we created, read again after a person has linked another one: no longer this delivery's matter.
async fn of_the_patient(lane: &LaneTurn, row: &WorkRow, patient: PatientId, judged: Judged) -> Judged {
    if row.state != State::Delivered || matches!(judged.found, Found::Version { .. }) {
        return judged;
    }
    match lane.lane.tenant().patient(patient).await {
        Ok(Some(patient)) if patient.link.by_person() => Judged::bare(Found::Nothing { sent_at: lane.engine.now() }),
        _ => judged,
    }
}

/// The settlement of a question.
pub(crate) async fn settle(lane: &mut LaneTurn, row: &WorkRow, attempt: AttemptId, answer: Answer) -> Result<Settlement, Error> {
    let ended = ended(attempt, &answer.outcome);
    let terms = lane.terms();
    if let Some(judged) = &answer.judged {
        lane.connection_works().await?;
        if judged.found == Found::Several && row.means == Some(Means::ConditionalCreate) {
            lane.change_plan(|plan| plan.refute(What::ConditionalParallel)).await?;
        }
        return Ok(settle_asked(&terms, row, &ended, judged));
    }
    match ended.class {
        Class::AuthDenied => Ok(settle_not_asked(row, &ended, terms.now.plus_ms(FORBIDDEN_MS))),
        // The EHR does not take such a search, or its answer proves nothing.
        Class::Validation | Class::Gone | Class::MeansRefused | Class::Applied | Class::Exists | Class::TooLarge | Class::Mapping => {
            Ok(settle_no_way_to_ask(&terms, row, &ended))
        }
        Class::Conflict | Class::MultipleMatches | Class::Internal | Class::Uncertain => {
            Ok(settle_not_asked(row, &ended, terms.now.plus_ms(lane.stored.connection.retry.initial_delay_ms)))
        }
        Class::Unreachable
        | Class::Tls
        | Class::Unavailable
        | Class::RateLimited
        | Class::AuthToken
        | Class::Redirect
        | Class::BadResponse
        | Class::AddressRefused => lane.not_asked(row, &ended, &answer.outcome).await,
    }
}

/// An outcome as the end of an attempt.
pub(crate) fn ended(attempt: AttemptId, outcome: &Outcome) -> Ended {
    Ended {
        attempt,
        class: outcome.class,
        status: outcome.status,
        message: outcome.message.clone(),
        retry_after_ms: outcome.retry_after_ms,
    }
}

async fn once(lane: &LaneTurn, row: &WorkRow, ours: &OurIdentifier) -> Answer {
    let call = asking(lane);
    match how(row) {
        Some(How::ById(id)) => {
            let EhrAnswer { outcome, .. } = lane.ehr.read(ours.resource_type, &id, &call).await;
            let judged = judge_read(&outcome, ours, row, Some(&id));
            Answer { outcome, judged }
        }
        Some(How::ByIdentifier) if lane.runtime.plan.identifier_search == Proof::Refused => Answer {
            outcome: Outcome::ours(Class::MeansRefused, "This EHR does not keep our identifier, so a search cannot find it."),
            judged: None,
        },
        Some(How::ByIdentifier) => search(lane, row, ours).await,
        None => Answer { outcome: Outcome::ours(Class::Mapping, "There is nothing to ask by."), judged: None },
    }
}

fn asking(lane: &LaneTurn) -> Call {
    Call {
        request_id: Some(lane.engine.rng.uuid_v7(lane.engine.now()).to_string()),
        only_if: None,
        after_loss: true,
        strict: false,
        deadline_ms: Some(limit_ms(&lane.engine, &lane.stored)),
    }
}

/// What a read by id shows.
pub(crate) fn judge_read(outcome: &Outcome, ours: &OurIdentifier, row: &WorkRow, asked: Option<&EhrId>) -> Option<Judged> {
    match (outcome.class, outcome.status) {
        (Class::Applied, _) => {
            let judged = judge_content(outcome.resource.as_deref()?, ours, row);
            let same = asked.is_none() || judged.ehr_id.as_ref() == asked;
            Some(if same { judged } else { Judged::bare(Found::Foreign) })
        }
        (Class::Gone, Some(410)) => Some(Judged::bare(Found::Deleted)),
        (Class::Gone, _) => Some(Judged::bare(Found::Absent)),
        _ => None,
    }
}

/// Searches by our identifier, and walks on as long as the server sends rows that do not carry it: it ignores the parameter.
async fn search(lane: &LaneTurn, row: &WorkRow, ours: &OurIdentifier) -> Answer {
    let sent_at = lane.engine.now();
    // Another page size than the last time, for a server that repeats a cached result of the same query.
    let count = 5 + lane.engine.rng.next_u64() % 20;
    let query = Query::new().token("identifier", &ours.system, &ours.value).with("_count", count.to_string());
    let mut answer = lane.ehr.search(ours.resource_type, &query, &asking(lane)).await;
    let mut found: BTreeMap<String, Judged> = BTreeMap::new();
    let mut walk = Walk::new();
    for _ in 0..MOST_PAGES {
        let EhrAnswer { outcome, content, .. } = answer;
        let Some(SearchPage { page, next }) = content.filter(|_| outcome.class == Class::Applied) else {
            return Answer { outcome: garbage(outcome), judged: None };
        };
        let mut foreign = 0usize;
        for entry in page.entries.iter().filter(|entry| entry.resource_type.as_deref() == Some(ours.resource_type)) {
            let Some(raw) = &entry.resource else { continue };
            let judged = judge_content(raw.get(), ours, row);
            match (&judged.found, &judged.ehr_id) {
                (Found::Foreign, _) | (_, None) => foreign += 1,
                (_, Some(id)) => {
                    found.insert(id.as_str().to_owned(), judged);
                }
            }
        }
        if page.unreadable > 0 || page.outcomes.iter().any(withholds) {
            return Answer { outcome: Outcome::ours(Class::Applied, "The EHR withheld a part of the search result."), judged: None };
        }
        let obeyed = foreign == 0;
        match next {
            Next::Page(url) if !obeyed || page.entries.is_empty() || found.is_empty() => {
                if !walk.visit(&url) {
                    return Answer { outcome: Outcome::ours(Class::Applied, "The EHR's pages lead round in a circle."), judged: None };
                }
                answer = lane.ehr.next_page(&url, &asking(lane)).await;
            }
            Next::Refused(_) if found.is_empty() => {
                return Answer {
                    outcome: Outcome::ours(Class::Applied, "The EHR's next page lies on another server, where our credentials do not go."),
                    judged: None,
                };
            }
            Next::Page(_) | Next::Refused(_) | Next::End => {
                let judged = verdict(found, sent_at);
                return Answer { outcome, judged: Some(judged) };
            }
        }
    }
    Answer {
        outcome: Outcome::ours(Class::Applied, "The EHR ignores the search parameter and holds too many rows to look through."),
        judged: None,
    }
}

/// An `outcome` entry that says that rows were left out, or that something went wrong.
fn withholds(outcome: &fhir::operation_outcome::OperationOutcome) -> bool {
    outcome.withholds()
}

fn verdict(found: BTreeMap<String, Judged>, sent_at: Timestamp) -> Judged {
    let mut all = found.into_values();
    match (all.next(), all.next()) {
        (None, _) => Judged::bare(Found::Nothing { sent_at }),
        (Some(one), None) => one,
        (Some(_), Some(_)) => Judged::bare(Found::Several),
    }
}

/// A 2xx whose page cannot be read is garbage.
fn garbage(mut outcome: Outcome) -> Outcome {
    if matches!(outcome.class, Class::Applied | Class::Exists) {
        outcome.class = Class::BadResponse;
    }
    outcome
}
