//! Patients: accepted, read, searched by body, changed; links by a person.

use crate::call::{Call, answer, located, path_id};
use crate::fields::{Fields, Given};
use crate::idempotency;
use crate::patient_body::{self, PatientWish};
use crate::problem::Problem;
use crate::query::Query;
use crate::schema::answers::{List, PatientAnswer, ProblemAnswer};
use crate::schema::{PatientBody, PatientSearch};
use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use model::{Cns, Cpf, EhrId, LinkState, Patient, PatientId};
use store::idempotency::Once;
use store::patients::{NewPatient, PatientKey, PatientRefused};

/// Accepts a patient and, in the same transaction, the intent to bring it to the EHR.
#[utoipa::path(post, path = "/patients", tag = "patients", operation_id = "createPatient", request_body = PatientBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "One request, one effect, for 7 days.")),
    responses((status = 201, description = "Accepted.", body = PatientAnswer, headers(("Location" = String))),
        (status = 409, description = "`patient_exists`: another patient of the tenant has this CPF, CNS or externalId; `patientId` says which. `idempotency_in_progress`.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn create(call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.json(body).await?;
    let PatientWish { draft, link } = patient_body::read(&body.object, None, call.now()).map_err(Problem::fields)?;
    let link = link.given();
    if link.is_some() {
        call.who.must_be_admin()?;
    }
    let key = idempotency::key_of(&call, &body.bytes)?;
    let new = NewPatient { draft, link: link.map(|id| (id, call.who.sub.clone())) };
    match call.tenant().create_patient(call.now(), new, key.as_ref()).await? {
        Ok(Once::Done(patient)) => created(patient),
        Ok(Once::Before(patient)) => created(patient).map(idempotency::replayed),
        Ok(Once::OtherRequest) => Err(idempotency::other_request()),
        Err(refused) => Err(refusal(refused)),
    }
}

/// All patients, newest first.
#[utoipa::path(get, path = "/patients", tag = "patients", operation_id = "listPatients",
    params(("limit" = Option<u32>, Query, description = "1 to 200; 50 where left out."), ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before.")),
    responses((status = 200, description = "A page.", body = List<PatientAnswer>)))]
pub(crate) async fn list(call: Call) -> Result<Response, Problem> {
    let query = Query::read(&call, "patients", &[])?;
    let page = call.tenant().patients(&query.page(&call)?).await?;
    let next_cursor = query.next(&call, &page);
    answer(StatusCode::OK, &List { items: page.items.into_iter().map(PatientAnswer::from).collect(), next_cursor })
}

/// One patient.
#[utoipa::path(get, path = "/patients/{id}", tag = "patients", operation_id = "getPatient", params(("id" = String, Path, format = Uuid)),
    responses((status = 200, description = "The patient.", body = PatientAnswer)))]
pub(crate) async fn get(call: Call, Path(id): Path<String>) -> Result<Response, Problem> {
    let patient = known(&call, path_id(&id, PatientId)?).await?;
    answer(StatusCode::OK, &PatientAnswer::from(patient))
}

/// Changes the fields that are given. `ehrPatientId` links (or unlinks, by `null`): ADMIN alone.
#[utoipa::path(patch, path = "/patients/{id}", tag = "patients", operation_id = "changePatient", params(("id" = String, Path, format = Uuid)),
    request_body(content = PatientBody, description = "Any of the fields."),
    responses((status = 200, description = "As it is now.", body = PatientAnswer),
        (status = 409, description = "`patient_exists`, or `changed_meanwhile`.", body = ProblemAnswer, content_type = "application/problem+json")))]
pub(crate) async fn change(call: Call, Path(id): Path<String>, body: Body) -> Result<Response, Problem> {
    let id = path_id(&id, PatientId)?;
    let mut patient = known(&call, id).await?;
    let body = call.json(body).await?;
    let tenant = call.tenant();
    for _ in 0..TRIES {
        let PatientWish { draft, link } = patient_body::read(&body.object, Some(&patient.draft), call.now()).map_err(Problem::fields)?;
        let link = link_change(&patient, link);
        if link.is_some() {
            call.who.must_be_admin()?;
        }
        if draft != patient.draft {
            match tenant.update_patient(call.now(), id, patient.version, draft).await? {
                Ok(changed) => patient = changed,
                Err(PatientRefused::Changed) => {
                    patient = known(&call, id).await?;
                    continue;
                }
                Err(refused) => return Err(refusal(refused)),
            }
        }
        if let Some(link) = link {
            patient = tenant.link_by_person(call.now(), id, link, &call.who.sub).await?.map_err(refusal)?;
        }
        return answer(StatusCode::OK, &PatientAnswer::from(patient));
    }
    Err(changed_meanwhile())
}

/// Looks for patients by what must never stand in a URL.
#[utoipa::path(post, path = "/patients/search", tag = "patients", operation_id = "searchPatients", request_body = PatientSearch,
    responses((status = 200, description = "Who fits; nobody is an empty list.", body = List<PatientAnswer>)))]
pub(crate) async fn search(call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.json(body).await?;
    // Nothing is changed, so a key needs no keeping; one that is none is refused all the same.
    idempotency::key_of(&call, &body.bytes)?;
    let mut fields = Fields::new(&body.object, "", &["cpf", "cns", "externalId", "ehrPatientId"], &[]);
    let cpf = fields.read("cpf", 64, |text| Cpf::parse(text).map_err(|bad| ("invalid_cpf", format!("cpf will not do: {bad}.")))).given();
    let cns = fields.read("cns", 64, |text| Cns::parse(text).map_err(|bad| ("invalid_cns", format!("cns will not do: {bad}.")))).given();
    let external_id = fields.text("externalId", 256).given();
    let ehr_id = fields.read("ehrPatientId", 200, patient_body::ehr_id).given();
    let errors = fields.errors();
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    let mut keys = Vec::new();
    keys.extend(cpf.map(PatientKey::Cpf));
    keys.extend(cns.map(PatientKey::Cns));
    keys.extend(external_id.map(PatientKey::ExternalId));
    keys.extend(ehr_id.map(PatientKey::EhrId));
    let Some(first) = keys.first() else {
        return Err(Problem::field("", "required", "Say by what to look: cpf, cns, externalId or ehrPatientId."));
    };
    let found = call.tenant().find_patient(first).await?;
    let items = found.filter(|patient| keys.iter().all(|key| fits(patient, key))).map(PatientAnswer::from).into_iter().collect();
    answer(StatusCode::OK, &List::<PatientAnswer> { items, next_cursor: None })
}

/// The patient of this tenant, or 404.
pub(crate) async fn known(call: &Call, id: PatientId) -> Result<Patient, Problem> {
    call.tenant().patient(id).await?.ok_or_else(Problem::not_found)
}

/// A row was changed again and again while this request tried.
pub(crate) fn changed_meanwhile() -> Problem {
    Problem::conflict("changed_meanwhile", "It was changed by somebody else at the same moment; read it again and decide.")
        .retry_after_ms(1000)
}

/// How often a change is tried over a row that others change too.
pub(crate) const TRIES: usize = 5;

fn created(patient: Patient) -> Result<Response, Problem> {
    let path = format!("/api/v1/patients/{}", patient.id);
    located(answer(StatusCode::CREATED, &PatientAnswer::from(patient))?, &path)
}

fn refusal(refused: PatientRefused) -> Problem {
    match refused {
        PatientRefused::Exists { pointer, id } => Problem::conflict(
            "patient_exists",
            "Another patient of yours has this identifier; `patientId` says which. Use that one, or correct the identifier.",
        )
        .with("patientId", id.to_string())
        .with_errors(vec![model::FieldError::new(pointer, "taken", "Another patient has this one.")]),
        PatientRefused::Changed => changed_meanwhile(),
        PatientRefused::Unknown => Problem::not_found(),
    }
}

/// The link that a body asks for, where it is another than the present one.
fn link_change(patient: &Patient, given: Given<EhrId>) -> Option<Option<EhrId>> {
    let linked = patient.link.state == LinkState::Linked;
    match given {
        Given::Absent => None,
        Given::Null => patient.link.ehr_id.is_some().then_some(None),
        Given::Is(id) if linked && patient.link.ehr_id.as_ref() == Some(&id) => None,
        Given::Is(id) => Some(Some(id)),
    }
}

fn fits(patient: &Patient, key: &PatientKey) -> bool {
    match key {
        PatientKey::Cpf(cpf) => patient.draft.cpf.as_ref() == Some(cpf),
        PatientKey::Cns(cns) => patient.draft.cns.as_ref() == Some(cns),
        PatientKey::ExternalId(id) => patient.draft.external_id.as_ref() == Some(id),
        PatientKey::EhrId(id) => patient.link.ehr_id.as_ref() == Some(id),
    }
}
