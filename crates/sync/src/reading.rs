//! What reading the linked Patient shows: it agrees, or this patient is held (PRODUCT, "Patients"; FHIR.md §8).
//!
//! Read before each pull, and before a push if the last reading is older than ten minutes. A merge is only proposed: the
//! survivor is looked for and shown as a candidate, and a person confirms. A person's link is not undone by rules: it is
//! held only where the EHR itself says that this record is gone, replaced, inactive or not for us.

use ehr::client::{Call, Ehr};
use ehr::reply::Outcome;
use fhir::identifier::{PATIENT_SYSTEM, version_mark};
use fhir::mapping::EhrPatient;
use fhir::resource::Resource;
use model::patient::{Candidate, LinkProblem};
use model::{Class, EhrId, Link, LinkState, Patient, Timestamp};
use std::collections::BTreeSet;
use store::LinkChange;

/// How far a chain of replaced records is followed, only to propose its end.
const MOST_HOPS: usize = 5;
/// A read that is answered with garbage is made so often in all (PRODUCT, outcome table, last row).
const READS: usize = 3;

/// What a reading showed.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// It is the same person's live record.
    Good {
        /// Its `meta.versionId`.
        etag: Option<String>,
    },
    /// A person, or the hospital, has to do something.
    Problem {
        /// What is wrong.
        problem: LinkProblem,
        /// Whom a person may choose from.
        candidates: Vec<Candidate>,
    },
    /// Nothing was learnt about this patient: the connection, or the EHR at this moment.
    NotRead {
        /// Why.
        class: Class,
    },
}

impl Reading {
    /// The link as it stands after this reading, or `None` where nothing was learnt.
    #[must_use]
    pub fn link(&self, patient: &Patient, now: Timestamp) -> Option<LinkChange> {
        let link = patient.link.clone();
        match self {
            Self::Good { etag } => {
                let (problem, candidates) = (None, Vec::new());
                let link =
                    Link { state: LinkState::Linked, problem, candidates, verified_at: Some(now), ehr_version: etag.clone(), ..link };
                Some(LinkChange::judged(patient, link, false))
            }
            Self::Problem { problem, candidates } => {
                let link =
                    Link { state: LinkState::Held, problem: Some(*problem), candidates: candidates.clone(), verified_at: None, ..link };
                Some(LinkChange::judged(patient, link, true))
            }
            Self::NotRead { .. } => None,
        }
    }
}

/// Judges what came back when the linked Patient `asked` was read. Pure. A 404 is taken at its word: [`read_patient`] reads
/// the base first.
#[must_use]
pub fn judge_patient(patient: &Patient, asked: &EhrId, read: &Outcome) -> Reading {
    let problem = |problem| Reading::Problem { problem, candidates: Vec::new() };
    match read.class {
        Class::Applied | Class::Exists => match read.resource.as_deref().map(Resource::parse) {
            Some(Ok(resource)) => judge_resource(patient, asked, &resource),
            Some(Err(_)) | None => Reading::NotRead { class: Class::BadResponse },
        },
        Class::Gone => problem(LinkProblem::Gone),
        Class::AuthDenied => problem(LinkProblem::AccessDenied),
        class => Reading::NotRead { class },
    }
}

/// Reads the linked Patient and judges it; on a 404 reads the base first, on a merge looks for the survivor.
pub async fn read_patient(ehr: &Ehr, patient: &Patient, asked: &EhrId, call: &(impl Fn() -> Call + Sync)) -> (Reading, Outcome) {
    let outcome = read(ehr, asked, call).await;
    let reading = judge_patient(patient, asked, &outcome);
    match &reading {
        Reading::Problem { problem: LinkProblem::Gone, .. } if outcome.status != Some(410) => {
            let base = ehr.capabilities(&call()).await;
            if base.content.is_some() {
                return (reading, outcome);
            }
            // Not this patient: the address is wrong, or the EHR is not itself.
            (Reading::NotRead { class: base.outcome.class }, base.outcome)
        }
        Reading::Problem { problem: problem @ (LinkProblem::ReplacedBy | LinkProblem::IdDiffers), candidates } => {
            let ids = candidates.iter().map(|candidate| candidate.ehr_id.clone()).collect();
            let candidates = survivors(ehr, asked, ids, call).await;
            (Reading::Problem { problem: *problem, candidates }, outcome)
        }
        Reading::Good { .. } | Reading::Problem { .. } | Reading::NotRead { .. } => (reading, outcome),
    }
}

/// A sentence for the tenant: what is wrong with the link and whose move it is.
#[must_use]
pub fn sentence(problem: LinkProblem) -> &'static str {
    match problem {
        LinkProblem::Candidates => {
            "Somebody of the same name and birth date is at the EHR, without a national identifier that proves it. Link the patient by hand."
        }
        LinkProblem::MultipleMatches => "More than one Patient at the EHR carries this identifier. Link the right one by hand.",
        LinkProblem::BirthDateDiffers => {
            "The EHR's Patient has another birth date than ours. Correct one of them, or link the patient by hand."
        }
        LinkProblem::NotFound => "The EHR does not know this patient. Create the Patient there, or link it by hand.",
        LinkProblem::ReplacedBy => "The EHR says that another record replaces the linked Patient. Confirm the survivor.",
        LinkProblem::Inactive => "The EHR's Patient is inactive. The hospital says which record is the right one; link it by hand.",
        LinkProblem::IdDiffers => "The EHR answered with another Patient than asked for, as after a merge. Link the right one by hand.",
        LinkProblem::IdentifierDiffers => {
            "The linked Patient's national identifiers no longer agree with ours. Correct one of them, or link another."
        }
        LinkProblem::Gone => "The linked Patient no longer exists at the EHR. Link the right one by hand.",
        LinkProblem::AccessDenied => "The EHR denies us this Patient. The hospital grants access; we look again by ourselves.",
        LinkProblem::NotInterpreted => {
            "The EHR's Patient carries a modifier that Ponte may not judge. A person must look at it and link by hand."
        }
    }
}

fn judge_resource(patient: &Patient, asked: &EhrId, resource: &Resource) -> Reading {
    let Ok(there) = EhrPatient::from_fhir(resource) else { return Reading::NotRead { class: Class::BadResponse } };
    let problem = |problem, candidates| Reading::Problem { problem, candidates };
    match resource.id() {
        Some(id) if id == *asked => {}
        Some(id) => return problem(LinkProblem::IdDiffers, vec![candidate(id, Some(&there))]),
        None => return Reading::NotRead { class: Class::BadResponse },
    }
    if !there.replaced_by.is_empty() {
        return problem(LinkProblem::ReplacedBy, there.replaced_by_ids().into_iter().map(|id| candidate(id, None)).collect());
    }
    if there.active == Some(false) {
        return problem(LinkProblem::Inactive, Vec::new());
    }
    if !patient.link.by_person() {
        if there.not_interpreted.is_some() {
            return problem(LinkProblem::NotInterpreted, Vec::new());
        }
        if let Some(differs) = differs(patient, resource, &there) {
            return problem(differs, Vec::new());
        }
    }
    Reading::Good { etag: resource.version_id().map(str::to_owned) }
}

/// Whether what linked them no longer agrees. A number that stands on one side only is no contradiction; several CNS per
/// person are the rule, so a CNS speaks only where no CPF does (CODES-AND-BRAZIL §9).
fn differs(patient: &Patient, resource: &Resource, there: &EhrPatient) -> Option<LinkProblem> {
    if patient.link.created_by_us() {
        // What we wrote may be older than what we mean by now; only against our newest version is a difference the hospital's.
        let mark = version_mark(resource, PATIENT_SYSTEM, &patient.id.to_string());
        if mark != Some(patient.version) {
            return None;
        }
    }
    let draft = &patient.draft;
    let cpf = draft.cpf.as_ref().and_then(|ours| agrees(ours, there.numbers.cpfs()));
    let cns = draft.cns.as_ref().and_then(|ours| agrees(ours, there.numbers.cnss()));
    let number = cpf.or(cns);
    if number == Some(false) {
        return Some(LinkProblem::IdentifierDiffers);
    }
    let whole = |date: &&str| date.len() == 10;
    match there.birth_date.as_deref().filter(whole) {
        Some(date) if date != draft.birth_date => Some(LinkProblem::BirthDateDiffers),
        Some(_) | None => None,
    }
}

/// Whether one of theirs is ours; `None` where there is none.
fn agrees<'a, N: PartialEq + 'a>(ours: &N, theirs: impl Iterator<Item = &'a N>) -> Option<bool> {
    let mut any = false;
    for number in theirs {
        if number == ours {
            return Some(true);
        }
        any = true;
    }
    any.then_some(false)
}

fn candidate(id: EhrId, there: Option<&EhrPatient>) -> Candidate {
    Candidate {
        ehr_id: id,
        name: there.and_then(EhrPatient::shown_name),
        birth_date: there.and_then(|there| there.birth_date.clone()),
        evidence: "replaces".to_owned(),
    }
}

/// The ends of chains of replaced records; a record that cannot be read is proposed as it stands.
async fn survivors(ehr: &Ehr, asked: &EhrId, first: Vec<EhrId>, call: &(impl Fn() -> Call + Sync)) -> Vec<Candidate> {
    let mut seen = BTreeSet::from([asked.clone()]);
    let mut open = first;
    let mut ends = Vec::new();
    for _ in 0..MOST_HOPS {
        let Some(id) = open.pop() else { break };
        if !seen.insert(id.clone()) {
            continue;
        }
        let outcome = read(ehr, &id, call).await;
        let resource = outcome.resource.as_deref().and_then(|raw| Resource::parse(raw).ok());
        match resource.filter(|resource| resource.id().as_ref() == Some(&id)).and_then(|resource| EhrPatient::from_fhir(&resource).ok()) {
            Some(there) if there.replaced_by.is_empty() => ends.push(candidate(id, Some(&there))),
            Some(there) => open.extend(there.replaced_by_ids()),
            None => ends.push(candidate(id, None)),
        }
    }
    ends
}

async fn read(ehr: &Ehr, id: &EhrId, call: &(impl Fn() -> Call + Sync)) -> Outcome {
    let mut outcome = ehr.read("Patient", id, &call()).await.outcome;
    for _ in 1..READS {
        if outcome.class != Class::BadResponse {
            break;
        }
        outcome = ehr.read("Patient", id, &call()).await.outcome;
    }
    outcome
}

#[cfg(test)]
mod tests;
