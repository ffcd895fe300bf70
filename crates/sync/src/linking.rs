//! Our patient and the EHR's Patient: looked for, linked, created, read again (PRODUCT, law 3 and "Patients").
//!
//! A link is exact or a person's decision; a person's decision always wins. Nobody is linked by guess.

use crate::ask::ended;
use crate::breaker::sentence;
use crate::found::{Judged, OurIdentifier, judge};
use crate::lane::{LaneTurn, limit_ms};
use crate::learn;
use crate::push::{Planned, call, send_one};
use crate::reading::{self, Reading, read_patient};
use crate::settle::{Ended, Written, settle_refused_by_us, settle_write};
use ehr::client::{Call, Next, SearchPage, Walk};
use ehr::reply::Outcome;
use fhir::identifier::PATIENT_SYSTEM;
use fhir::mapping::evidence::{Doubt, Evidence, evidence};
use fhir::mapping::patient::EhrPatient;
use fhir::national::{NumberKind, search_values};
use fhir::resource::Resource;
use fhir::search::Query;
use model::delivery::Found;
use model::failure::Scope;
use model::patient::{Candidate, LinkProblem};
use model::{AttemptId, Class, EhrId, HeldReason, Link, LinkState, Patient, PatientId, Proof, ResourceKey, State};
use std::collections::BTreeMap;
use store::{Content, Error, LinkChange, PatientWork, Settlement, WorkRow};

/// Pages of one look-up; more hits than that are a person's case anyway.
const MOST_PAGES: usize = 20;

/// A reading of a linked Patient.
pub(crate) struct ReadPatient {
    reading: Reading,
    outcome: Outcome,
}

/// Reads the linked Patient.
pub(crate) async fn read_linked(lane: &LaneTurn, patient: &Patient) -> ReadPatient {
    let Some(asked) = &patient.link.ehr_id else {
        let outcome = Outcome::ours(Class::Mapping, "The patient is not linked.");
        return ReadPatient { reading: Reading::NotRead { class: Class::Mapping }, outcome };
    };
    let (reading, outcome) = read_patient(&lane.ehr, patient, asked, &|| reading_call(lane)).await;
    ReadPatient { reading, outcome }
}

/// Acts on a reading; true when observations of this patient may go.
pub(crate) async fn judge_reading(lane: &mut LaneTurn, work: &mut PatientWork, read: ReadPatient) -> Result<bool, Error> {
    let patient = &work.patient;
    if let Reading::Problem { problem, .. } = &read.reading {
        tracing::warn!(tenant = %lane.lane.tenant().id(), patient = %patient.id, problem = ?problem, "a linked Patient no longer agrees; its deliveries are held");
    }
    match (read.reading.link(patient, lane.engine.now()), &read.reading) {
        (Some(change), _) => {
            let ready = !change.blocked;
            work.patient.link = change.link.clone();
            lane.settle_link(work.patient.id, change, None).await?;
            Ok(ready && !lane.lost)
        }
        // Nothing was learnt about this patient, so it is not the patient's matter, whatever the class.
        (None, Reading::NotRead { class }) if !read.outcome.withheld && *class != Class::Mapping => {
            lane.connection_failed(&read.outcome, *class).await?;
            Ok(false)
        }
        (None, _) => Ok(false),
    }
}

/// The delivery of a Patient: nothing to do where it is linked, else looked for, else created.
pub(crate) async fn deliver_patient(lane: &mut LaneTurn, work: &PatientWork, row: &WorkRow) -> Result<(), Error> {
    learn::learn(lane).await?;
    if lane.stopped() {
        return Ok(());
    }
    let link = &work.patient.link;
    if link.ehr_id.is_some() && link.state == LinkState::Linked {
        // Ponte never updates a Patient that it did not create.
        if link.created_by_us() && row.synced_version.is_none_or(|synced| synced < row.version) && row.ehr_id.is_some() {
            return match crate::push::write_patient(lane, work, row) {
                Ok(planned) => send_one(lane, planned).await,
                Err(message) => lane.settle(vec![settle_refused_by_us(&lane.terms(), row, message)]).await,
            };
        }
        let settlement = done(lane, row, link.ehr_id.clone(), link.ehr_version.clone());
        return lane.settle(vec![settlement]).await;
    }
    let Content::Patient(draft) = &row.content else { return Ok(()) };
    if !lane.enter_to_ask().await? {
        return Ok(());
    }
    let found = look_up(lane, work).await;
    if !matches!(found, LookUp::Failed(_)) {
        lane.answered();
    }
    match found {
        LookUp::Exact { by, id, etag } => {
            let now = lane.engine.now();
            let link = Link {
                state: LinkState::Linked,
                ehr_id: Some(id.clone()),
                by: Some(by.to_owned()),
                at: Some(now),
                problem: None,
                candidates: Vec::new(),
                verified_at: Some(now),
                ehr_version: etag.clone(),
            };
            let settlement = done(lane, row, Some(id), etag);
            lane.connection_works().await?;
            lane.settle_link(work.patient.id, LinkChange::judged(&work.patient, link, false), Some(settlement)).await
        }
        LookUp::Person { problem, candidates } => hold(lane, work, row, problem, candidates).await,
        LookUp::Nobody => {
            let national = draft.cpf.is_some() || draft.cns.is_some();
            if !lane.stored.connection.patient_create {
                return hold(lane, work, row, LinkProblem::NotFound, Vec::new()).await;
            }
            if !national {
                match look_by_name(lane, work).await {
                    LookUp::Nobody => {}
                    LookUp::Person { problem, candidates } => return hold(lane, work, row, problem, candidates).await,
                    LookUp::Failed(outcome) => return failed(lane, row, outcome).await,
                    LookUp::Exact { id, .. } => {
                        let candidate = Candidate { ehr_id: id, name: None, birth_date: None, evidence: "name_and_birth_date".to_owned() };
                        return hold(lane, work, row, LinkProblem::Candidates, vec![candidate]).await;
                    }
                }
            }
            match crate::push::write_patient(lane, work, row) {
                Ok(planned) => send_one(lane, planned).await,
                Err(message) => lane.settle(vec![settle_refused_by_us(&lane.terms(), row, message)]).await,
            }
        }
        LookUp::Failed(outcome) => failed(lane, row, outcome).await,
    }
}

/// The link that a delivered create of a Patient makes.
pub(crate) fn created(lane: &LaneTurn, planned: &Planned, settlement: &Settlement) -> Option<LinkChange> {
    matches!(planned.row.resource, ResourceKey::Patient(_)).then(|| created_link(lane, settlement)).flatten()
}

/// The same where a question found it.
pub(crate) fn found_created(lane: &LaneTurn, row: &WorkRow, settlement: &Settlement) -> Option<(PatientId, LinkChange)> {
    match row.resource {
        ResourceKey::Patient(id) if row.state == State::Uncertain => created_link(lane, settlement).map(|change| (id, change)),
        ResourceKey::Patient(_) | ResourceKey::Observation(_) => None,
    }
}

fn created_link(lane: &LaneTurn, settlement: &Settlement) -> Option<LinkChange> {
    let now = lane.engine.now();
    let id = settlement.ehr_id.clone().filter(|_| settlement.state == State::Delivered)?;
    let link = Link {
        state: LinkState::Linked,
        ehr_id: Some(id),
        by: Some("created".to_owned()),
        at: Some(now),
        problem: None,
        candidates: Vec::new(),
        verified_at: Some(now),
        ehr_version: settlement.ehr_version.clone(),
    };
    Some(LinkChange { link, blocked: false, judged_from: None })
}

enum LookUp {
    Exact { by: &'static str, id: EhrId, etag: Option<String> },
    Person { problem: LinkProblem, candidates: Vec<Candidate> },
    Nobody,
    Failed(Outcome),
}

/// One hit with its own identifiers compared.
struct Hit {
    id: EhrId,
    etag: Option<String>,
    there: EhrPatient,
    evidence: Evidence,
    ours: bool,
}

/// By CPF, then CNS, then our own identifier (PRODUCT, "Patients").
async fn look_up(lane: &LaneTurn, work: &PatientWork) -> LookUp {
    let draft = &work.patient.draft;
    let cpf = draft.cpf.as_ref().map(|cpf| tokens(NumberKind::Cpf, &search_values(cpf))).unwrap_or_default();
    let cns = draft.cns.as_ref().map(|cns| tokens(NumberKind::Cns, &[cns.digits().to_owned()])).unwrap_or_default();
    let own = vec![(PATIENT_SYSTEM.to_owned(), work.patient.id.to_string())];
    for tokens in [cpf, cns, own] {
        if tokens.is_empty() {
            continue;
        }
        let query = Query::new().tokens("identifier", tokens.iter().map(|(system, value)| (system.as_str(), value.as_str())));
        let hits = match hits(lane, work, query, true).await {
            Ok(hits) => hits,
            Err(outcome) => return LookUp::Failed(*outcome),
        };
        match decide(hits) {
            LookUp::Nobody => {}
            decided => return decided,
        }
    }
    LookUp::Nobody
}

/// Every system under which EHRs know such a number, and the number without any; what comes back is compared all the same.
fn tokens(kind: NumberKind, values: &[String]) -> Vec<(String, String)> {
    kind.search_systems()
        .map(ToOwned::to_owned)
        .flat_map(|system| values.iter().map(move |value| (system.clone(), value.clone())).collect::<Vec<_>>())
        .collect()
}

/// Somebody of the same birth date and name, for a patient without a national identifier.
async fn look_by_name(lane: &LaneTurn, work: &PatientWork) -> LookUp {
    let query = Query::new().with("birthdate", work.patient.draft.birth_date.clone());
    let hits = match hits(lane, work, query, false).await {
        Ok(hits) => hits,
        Err(outcome) => return LookUp::Failed(*outcome),
    };
    match decide(hits) {
        LookUp::Exact { id, .. } => {
            let candidate = Candidate { ehr_id: id, name: None, birth_date: None, evidence: "name_and_birth_date".to_owned() };
            LookUp::Person { problem: LinkProblem::Candidates, candidates: vec![candidate] }
        }
        other => other,
    }
}

fn decide(hits: BTreeMap<String, Hit>) -> LookUp {
    let candidate = |hit: &Hit, word: &str| Candidate {
        ehr_id: hit.id.clone(),
        name: hit.there.shown_name(),
        birth_date: hit.there.birth_date.clone(),
        evidence: word.to_owned(),
    };
    let living: Vec<&Hit> = hits.values().filter(|hit| hit.there.replaced_by.is_empty()).collect();
    let ours: Vec<&&Hit> = living.iter().filter(|hit| hit.ours).collect();
    if ours.len() > 1 {
        return LookUp::Person {
            problem: LinkProblem::MultipleMatches,
            candidates: ours.iter().map(|hit| candidate(hit, "identifier")).collect(),
        };
    }
    if let [hit] = ours[..] {
        return LookUp::Exact { by: "created", id: hit.id.clone(), etag: hit.etag.clone() };
    }
    let exact: Vec<(&Hit, &'static str)> = living
        .iter()
        .filter_map(|hit| match hit.evidence {
            Evidence::Exact(NumberKind::Cpf) => Some((*hit, "cpf")),
            Evidence::Exact(NumberKind::Cns) => Some((*hit, "cns")),
            Evidence::PersonDecides { .. } | Evidence::CpfDiffers | Evidence::NameAndBirthDate | Evidence::None => None,
        })
        .collect();
    let mut birth_date = false;
    let differing: Vec<Candidate> = living
        .iter()
        .filter_map(|hit| match hit.evidence {
            Evidence::PersonDecides { by, because } => {
                birth_date |= because == Doubt::BirthDateDiffers;
                Some(candidate(hit, if by == NumberKind::Cpf { "cpf" } else { "cns" }))
            }
            Evidence::Exact(_) | Evidence::CpfDiffers | Evidence::NameAndBirthDate | Evidence::None => None,
        })
        .collect();
    match (&exact[..], differing.is_empty()) {
        ([(hit, by)], true) if hit.there.not_interpreted.is_some() => {
            LookUp::Person { problem: LinkProblem::NotInterpreted, candidates: vec![candidate(hit, by)] }
        }
        ([(hit, by)], true) if !hit.there.is_current() => {
            LookUp::Person { problem: LinkProblem::Inactive, candidates: vec![candidate(hit, by)] }
        }
        ([(hit, by)], true) => LookUp::Exact { by, id: hit.id.clone(), etag: hit.etag.clone() },
        ([], false) => {
            let problem = if birth_date { LinkProblem::BirthDateDiffers } else { LinkProblem::Candidates };
            LookUp::Person { problem, candidates: differing }
        }
        ([], true) => {
            let candidates: Vec<Candidate> = living
                .iter()
                .filter(|hit| matches!(hit.evidence, Evidence::NameAndBirthDate))
                .map(|hit| candidate(hit, "name_and_birth_date"))
                .collect();
            if candidates.is_empty() { LookUp::Nobody } else { LookUp::Person { problem: LinkProblem::Candidates, candidates } }
        }
        (several, _) => {
            let mut candidates: Vec<Candidate> = several.iter().map(|(hit, by)| candidate(hit, by)).collect();
            candidates.extend(differing);
            LookUp::Person { problem: LinkProblem::MultipleMatches, candidates }
        }
    }
}

/// All hits of a search, page by page; only those whose own identifiers (or name) speak for them count.
async fn hits(lane: &LaneTurn, work: &PatientWork, query: Query, sensitive: bool) -> Result<BTreeMap<String, Hit>, Box<Outcome>> {
    let call = reading_call(lane);
    let query = query.with("_count", "50");
    let mut answer = if sensitive && lane.runtime.plan.post_search != Proof::Refused {
        let posted = lane.ehr.post_search("Patient", &query, &call).await;
        match posted.outcome.status {
            // Several servers do not take `_search` by POST, though they shall (FHIR.md §4).
            Some(404 | 405 | 415 | 501) => lane.ehr.search("Patient", &query, &call).await,
            _ => posted,
        }
    } else {
        lane.ehr.search("Patient", &query, &call).await
    };
    let mut found = BTreeMap::new();
    let mut walk = Walk::new();
    for _ in 0..MOST_PAGES {
        let Some(SearchPage { page, next }) = answer.content.take().filter(|_| answer.outcome.class == Class::Applied) else {
            return Err(Box::new(answer.outcome));
        };
        let ours = OurIdentifier::of(ResourceKey::Patient(work.patient.id), PATIENT_SYSTEM);
        for raw in page.entries.iter().filter(|e| e.resource_type.as_deref() == Some("Patient")).filter_map(|e| e.resource.as_ref()) {
            let Ok(resource) = Resource::parse(raw.get()) else { continue };
            let Some(id) = resource.id() else { continue };
            let Ok(there) = EhrPatient::from_fhir(&resource) else { continue };
            let evidence = evidence(&work.patient.draft, &there);
            let is_ours = judge(raw.get(), &ours).found != Found::Foreign;
            let etag = resource.version_id().map(ToOwned::to_owned);
            found.insert(id.as_str().to_owned(), Hit { id, etag, there, evidence, ours: is_ours });
        }
        match next {
            Next::Page(url) if walk.visit(&url) => answer = lane.ehr.next_page(&url, &call).await,
            Next::Page(_) | Next::Refused(_) => {
                return Err(Box::new(Outcome::ours(
                    Class::BadResponse,
                    "The EHR's pages of a Patient search cannot be followed to their end.",
                )));
            }
            Next::End => return Ok(found),
        }
    }
    // It ignores the parameter and holds more Patients than can be looked through: nothing is concluded from what was seen.
    Err(Box::new(Outcome::ours(Class::Validation, "The EHR ignores the search for this patient's identifier and answers with everybody.")))
}

fn reading_call(lane: &LaneTurn) -> Call {
    Call { only_if: None, after_loss: true, deadline_ms: Some(limit_ms(&lane.engine, &lane.stored)), ..call(lane) }
}

/// A person must decide: the patient is blocked, with the candidates.
async fn hold(
    lane: &mut LaneTurn,
    work: &PatientWork,
    row: &WorkRow,
    problem: LinkProblem,
    candidates: Vec<Candidate>,
) -> Result<(), Error> {
    lane.connection_works().await?;
    let link = Link { state: LinkState::Held, problem: Some(problem), candidates, ..Link::default() };
    let settlement = Settlement {
        delivery: row.id,
        outcome: None,
        state: State::Held(HeldReason::PatientUnlinked),
        due_at: None,
        counts_try: false,
        new_round: false,
        proven_not_applied: None,
        ehr_id: None,
        ehr_version: None,
        synced: false,
        audit: None,
        message: Some(reading::sentence(problem).to_owned()),
        works: false,
    };
    lane.settle_link(work.patient.id, LinkChange::judged(&work.patient, link, true), Some(settlement)).await
}

/// A look-up that could not be made: the connection's matter, or this patient's.
async fn failed(lane: &mut LaneTurn, row: &WorkRow, outcome: Outcome) -> Result<(), Error> {
    let attempt = lane.new_attempt();
    let begin = store::Begin {
        delivery: row.id,
        attempt,
        request: "POST Patient/_search".to_owned(),
        means: None,
        match_etag: None,
        subject: None,
    };
    if !lane.begin(vec![begin]).await? {
        return Ok(());
    }
    let class = if outcome.class == Class::Uncertain { Class::BadResponse } else { outcome.class };
    let end = Ended { class, ..ended(attempt, &outcome) };
    let third = class == Class::AuthDenied && lane.engine.denied.note(lane.lane.tenant().id(), row_patient(row));
    let settlement = if class.scope() == Scope::Connection || third {
        let next = lane.connection_failed(&outcome, class).await?;
        settle_write(&lane.terms(), row, &end, &Written::Failed { connection_next: Some(next) })
    } else if matches!(class, Class::Validation | Class::Gone | Class::Conflict) {
        // The search itself is refused here: looked for again at the next sweep, and visible until then.
        Settlement {
            due_at: None,
            ..settle_write(
                &lane.terms(),
                row,
                &Ended { class: Class::Unavailable, ..end.clone() },
                &Written::Failed { connection_next: None },
            )
        }
    } else {
        settle_write(&lane.terms(), row, &end, &Written::Failed { connection_next: None })
    };
    let message = settlement.message.clone().or_else(|| Some(sentence(class).to_owned()));
    lane.settle(vec![Settlement { message, ..settlement }]).await
}

fn row_patient(row: &WorkRow) -> PatientId {
    match row.resource {
        ResourceKey::Patient(id) => id,
        ResourceKey::Observation(id) => PatientId(id.0),
    }
}

/// The Patient is there already: delivered without a write.
fn done(lane: &LaneTurn, row: &WorkRow, ehr_id: Option<EhrId>, etag: Option<String>) -> Settlement {
    let judged = Judged { found: Found::Version { version: row.version, etag }, ehr_id, raw: None };
    let end = Ended { attempt: AttemptId(row.id.0), class: Class::Exists, status: None, message: None, retry_after_ms: None };
    Settlement { outcome: None, ..settle_write(&lane.terms(), row, &end, &Written::Applied(judged)) }
}
