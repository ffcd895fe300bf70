//! A row → the request that brings it about: means, target, precondition, body. Checked before it is sent.

use crate::found::OurIdentifier;
use crate::lane::LaneTurn;
use fhir::mapping::{observation, patient};
use model::{AttemptId, EhrId, Means, PatientId, ResourceKey};
use store::{Content, PatientWork, WorkRow};

/// A request about to be made.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) row: WorkRow,
    pub(crate) patient: PatientId,
    pub(crate) attempt: AttemptId,
    pub(crate) ours: OurIdentifier,
    pub(crate) means: Means,
    /// The means is not proven here: it goes by itself.
    pub(crate) alone: bool,
    pub(crate) target: Target,
    /// The ETag to match; a repeat carries the same as the first.
    pub(crate) match_etag: Option<String>,
    pub(crate) body: String,
    /// The same as a value.
    pub(crate) resource: serde_json::Value,
    /// The EHR's Patient that it names, for an observation.
    pub(crate) subject: Option<EhrId>,
    /// Method and path template.
    pub(crate) request: String,
}

/// Where it goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// `PUT [type]/[id]`.
    Put(EhrId),
    /// `POST [type]`.
    Post,
}

/// An observation's next write.
pub(crate) fn write_observation(lane: &LaneTurn, work: &PatientWork, row: &WorkRow) -> Result<Planned, String> {
    let (means, alone) = match &row.ehr_id {
        Some(_) => (Means::Update, false),
        None => lane.runtime.plan.for_create("Observation"),
    };
    build(lane, work, row, means, alone && means == Means::OwnId, row.ehr_version.clone())
}

/// A Patient's next write: its create, or the update of one that we created.
pub(crate) fn write_patient(lane: &LaneTurn, work: &PatientWork, row: &WorkRow) -> Result<Planned, String> {
    let (means, alone) = match &row.ehr_id {
        Some(_) => (Means::Update, false),
        None => lane.runtime.plan.for_create("Patient"),
    };
    build(lane, work, row, means, alone && means == Means::OwnId, row.ehr_version.clone())
}

/// The same request as last time, same precondition.
pub(crate) fn again(lane: &LaneTurn, work: &PatientWork, row: &WorkRow) -> Result<Planned, String> {
    let means = row.means.ok_or("It was never sent.")?;
    build(lane, work, row, means, false, row.match_etag.clone())
}

fn build(
    lane: &LaneTurn,
    work: &PatientWork,
    row: &WorkRow,
    means: Means,
    alone: bool,
    match_etag: Option<String>,
) -> Result<Planned, String> {
    let connection = &lane.stored.connection;
    let ours = OurIdentifier::of(row.resource, &connection.identifier_system);
    let own = || EhrId::new(row.resource.uuid().to_string()).map_err(|e| e.to_string());
    let target = match (means, &row.ehr_id) {
        (Means::Update, Some(id)) => Target::Put(id.clone()),
        (Means::Update, None) => return Err("The EHR's id is not known.".to_owned()),
        (Means::OwnId, _) => Target::Put(own()?),
        (Means::ConditionalCreate | Means::PlainCreate, _) => Target::Post,
    };
    let put_id = match &target {
        Target::Put(id) => Some(id),
        Target::Post => None,
    };
    let resource = match (&row.content, row.resource) {
        (Content::Observation(draft), ResourceKey::Observation(observation)) => {
            if let Some(misuse) = fhir::mapping::codes::misused(draft) {
                return Err(misuse.sentence);
            }
            let patient = work.patient.link.ehr_id.as_ref().ok_or("The patient is not linked.")?;
            let with = observation::ToFhir {
                observation,
                version: row.version,
                identifier_system: &connection.identifier_system,
                patient,
                score_category: &connection.score_category,
                id: put_id,
                issued: row.created_at,
            };
            observation::to_fhir(draft, &with)
        }
        (Content::Patient(draft), ResourceKey::Patient(patient)) => {
            patient::to_fhir(draft, &patient::ToFhir { patient, version: row.version, id: put_id })
        }
        _ => return Err("Its content is of another kind than its resource.".to_owned()),
    };
    let body = serde_json::to_string(&resource).map_err(|_| "It cannot be written as JSON.".to_owned())?;
    if let Err(issues) = fhir::validate_written(ours.resource_type, &resource, &body) {
        let named: Vec<String> = issues.iter().take(3).map(ToString::to_string).collect();
        return Err(format!("It is no valid R4 {} and was not sent. {}", ours.resource_type, named.join(" ")));
    }
    let kind = ours.resource_type;
    let request = match (&target, means) {
        (Target::Put(_), _) => format!("PUT {kind}/{{id}}"),
        (Target::Post, Means::ConditionalCreate) => format!("POST {kind} (If-None-Exist)"),
        (Target::Post, _) => format!("POST {kind}"),
    };
    Ok(Planned {
        row: row.clone(),
        patient: work.patient.id,
        attempt: lane.new_attempt(),
        ours,
        means,
        alone,
        target,
        match_etag: if means == Means::Update { match_etag } else { None },
        body,
        subject: matches!(row.content, Content::Observation(_)).then(|| work.patient.link.ehr_id.clone()).flatten(),
        resource,
        request,
    })
}
