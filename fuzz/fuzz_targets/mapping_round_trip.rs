//! An Observation or Patient as an EHR has it, read, written as we write it, and read again: the value keeps its digits, the time
//! its offset, and after one round nothing changes any more.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]

use fhir::mapping::observation::{self, EhrObservation};
use fhir::mapping::patient::{self, EhrPatient};
use fhir::resource::Resource;
use libfuzzer_sys::fuzz_target;
use model::patient::Gender;
use model::{EhrId, ObservationDraft, ObservationId, PatientDraft, PatientId, Timestamp, Value};
use uuid::Uuid;

fuzz_target!(|bytes: &[u8]| {
    let Ok(resource) = Resource::parse_bytes(bytes) else { return };
    if let Ok(read) = EhrObservation::from_fhir(&resource) {
        let draft = read.draft(PatientId(Uuid::nil()));
        let once = there_and_back(&draft);
        if let (Some(Value::Quantity { value, .. }), Some(Value::Quantity { value: after, .. })) = (&draft.value, &once.value) {
            assert_eq!(value.to_string(), after.to_string());
        }
        assert_eq!(draft.value.is_some(), once.value.is_some());
        assert_eq!((&draft.effective, &draft.status, &draft.code), (&once.effective, &once.status, &once.code));
        assert!(there_and_back(&once) == once);
    }
    if let Ok(read) = EhrPatient::from_fhir(&resource) {
        let draft = draft_of(&read);
        let with = patient::ToFhir { patient: PatientId(Uuid::nil()), version: 1, id: None };
        let text = patient::to_fhir(&draft, &with).to_string();
        let again = EhrPatient::from_fhir(&Resource::parse(&text).unwrap()).unwrap();
        assert!(draft_of(&again) == draft, "{draft:?} {text}");
    }
});

fn there_and_back(draft: &ObservationDraft) -> ObservationDraft {
    let with = observation::ToFhir {
        observation: ObservationId(Uuid::nil()),
        version: 1,
        identifier_system: "urn:ponte:observation",
        patient: &EhrId::new("p-1").unwrap(),
        score_category: "survey",
        id: None,
        issued: Timestamp(0),
    };
    let text = observation::to_fhir(draft, &with).to_string();
    EhrObservation::from_fhir(&Resource::parse(&text).unwrap()).unwrap().draft(draft.patient_id)
}

fn draft_of(read: &EhrPatient) -> PatientDraft {
    PatientDraft {
        name: read.shown_name().unwrap_or_default().trim().to_owned(),
        birth_date: read.birth_date.clone().unwrap_or_default(),
        gender: read.gender.as_deref().and_then(Gender::parse),
        phone: None,
        email: None,
        cpf: read.numbers.cpfs().next().cloned(),
        cns: read.numbers.cnss().next().cloned(),
        external_id: None,
    }
}
