//! From the nouns to what the API answers.

use super::answers::{
    AttemptAnswer, BriefAnswer, CandidateAnswer, DeliveryAnswer, LateAnswer, LinkAnswer, ObservationAnswer, PatientAnswer,
};
use model::patient::{LinkProblem, LinkState};
use model::{Attempt, Delivery, HeldReason, Observation, Patient, ResourceKey, State, Value as ObservationValue};
use serde_json::value::RawValue;

impl From<Patient> for PatientAnswer {
    fn from(patient: Patient) -> Self {
        let Patient { id, version, draft, link, last_sync_at, created_at, updated_at } = patient;
        Self {
            id: id.to_string(),
            name: draft.name,
            birth_date: draft.birth_date,
            gender: draft.gender.map(model::patient::Gender::code),
            phone: draft.phone,
            email: draft.email,
            cpf: draft.cpf.map(|cpf| cpf.digits().to_owned()),
            cns: draft.cns.map(|cns| cns.digits().to_owned()),
            external_id: draft.external_id,
            ehr_patient_id: link.ehr_id.map(String::from),
            last_sync_at: last_sync_at.map(|at| at.rfc3339()),
            link: LinkAnswer {
                state: match link.state {
                    LinkState::Unlinked => "unlinked",
                    LinkState::Linked => "linked",
                    LinkState::Held => "held",
                },
                by: link.by,
                at: link.at.map(|at| at.rfc3339()),
                problem: link.problem.map(problem_word),
                candidates: link
                    .candidates
                    .into_iter()
                    .map(|c| CandidateAnswer {
                        ehr_patient_id: c.ehr_id.into(),
                        name: c.name,
                        birth_date: c.birth_date,
                        evidence: c.evidence,
                    })
                    .collect(),
            },
            version,
            created_at: created_at.rfc3339(),
            updated_at: updated_at.rfc3339(),
        }
    }
}

impl From<Observation> for ObservationAnswer {
    fn from(observation: Observation) -> Self {
        let synced_to_ehr = observation.synced();
        let draft = observation.draft;
        let (value_quantity, unit, value_string) = match draft.value {
            Some(ObservationValue::Quantity { value, unit }) => (Some(value.number().clone()), unit, None),
            Some(ObservationValue::Text(text)) => (None, None, Some(text)),
            None => (None, None, None),
        };
        Self {
            id: observation.id.to_string(),
            patient_id: draft.patient_id.to_string(),
            code: draft.code,
            code_system: draft.code_system,
            display: draft.display,
            effective_date_time: draft.effective,
            value_quantity,
            unit,
            value_string,
            status: draft.status,
            message_id: draft.message_id,
            external_id: draft.external_id,
            fhir_resource_id: observation.ehr_id.map(String::from),
            synced_to_ehr,
            synced_at: observation.synced_at.filter(|_| synced_to_ehr).map(|at| at.rfc3339()),
            source: observation.source.word(),
            resource: observation
                .resource
                .and_then(|text| RawValue::from_string(text.trim_start_matches('\u{feff}').trim().to_owned()).ok()),
            interpreted: observation.interpreted,
            deleted: observation.deleted,
            delivery: observation.delivery.map(|brief| BriefAnswer {
                id: brief.id.to_string(),
                state: brief.state.word(),
                reason: held_reason(brief.state).map(|reason| reason.word().to_owned()),
            }),
            version: observation.version,
            created_at: observation.created_at.rfc3339(),
            updated_at: observation.updated_at.rfc3339(),
        }
    }
}

impl DeliveryAnswer {
    /// A delivery with its attempts.
    #[must_use]
    pub fn whole(delivery: Delivery) -> Self {
        let attempts = delivery.attempts.iter().cloned().map(AttemptAnswer::from).collect();
        Self { attempts: Some(attempts), ..Self::brief(delivery) }
    }

    /// A delivery without its attempts.
    #[must_use]
    pub fn brief(delivery: Delivery) -> Self {
        let whose_move = delivery.whose_move().word();
        let observation_id = match delivery.resource {
            ResourceKey::Observation(id) => Some(id.to_string()),
            ResourceKey::Patient(_) => None,
        };
        Self {
            id: delivery.id.to_string(),
            observation_id,
            patient_id: delivery.patient_id.to_string(),
            resource_type: delivery.resource.resource_type(),
            version: delivery.version,
            state: delivery.state.word(),
            reason: held_reason(delivery.state).map(|reason| reason.word().to_owned()).or_else(|| delivery.message.clone()),
            message: delivery.message,
            whose_move,
            next_attempt_at: delivery.next_attempt_at.map(|at| at.rfc3339()),
            ehr_id: delivery.ehr_id.map(String::from),
            ehr_version: delivery.ehr_version,
            created_at: delivery.created_at.rfc3339(),
            delivered_at: delivery.delivered_at.map(|at| at.rfc3339()),
            attempts: None,
        }
    }
}

impl From<Attempt> for AttemptAnswer {
    fn from(attempt: Attempt) -> Self {
        Self {
            at: attempt.at.rfc3339(),
            duration_ms: attempt.duration_ms,
            request: attempt.request,
            means: attempt.means.map(model::Means::word),
            status: attempt.status,
            class: attempt.class.map(model::Class::word),
            settle_until: attempt.settle_until.map(|at| at.rfc3339()),
            message: attempt.message,
            late: attempt.late.map(|late| LateAnswer {
                at: late.at.rfc3339(),
                status: late.status,
                ehr_id: late.ehr_id,
                ehr_version: late.ehr_version,
            }),
        }
    }
}

fn held_reason(state: State) -> Option<HeldReason> {
    match state {
        State::Held(reason) => Some(reason),
        _ => None,
    }
}

fn problem_word(problem: LinkProblem) -> &'static str {
    match problem {
        LinkProblem::Candidates => "candidates",
        LinkProblem::MultipleMatches => "multiple_matches",
        LinkProblem::BirthDateDiffers => "birth_date_differs",
        LinkProblem::NotFound => "not_found",
        LinkProblem::ReplacedBy => "replaced_by",
        LinkProblem::Inactive => "inactive",
        LinkProblem::IdDiffers => "id_differs",
        LinkProblem::IdentifierDiffers => "identifier_differs",
        LinkProblem::Gone => "gone",
        LinkProblem::AccessDenied => "access_denied",
        LinkProblem::NotInterpreted => "not_interpreted",
    }
}
