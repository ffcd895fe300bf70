//! An observation's body: read over what is known already, with every field that will not do named.

use crate::fields::{Fields, Given};
use model::{Decimal, FieldError, ObservationDraft, PatientId, Value as ObservationValue};
use serde_json::{Map, Value};

/// The fields of a request.
pub(crate) const FIELDS: &[&str] = &[
    "patientId",
    "code",
    "codeSystem",
    "display",
    "effectiveDateTime",
    "valueQuantity",
    "unit",
    "valueString",
    "status",
    "messageId",
    "externalId",
];
/// What an answer shows besides: taken and ignored.
pub(crate) const READ_ONLY: &[&str] = &[
    "id",
    "fhirResourceId",
    "syncedToEHR",
    "syncedAt",
    "source",
    "resource",
    "interpreted",
    "deleted",
    "delivery",
    "version",
    "createdAt",
    "updatedAt",
];
/// FHIR R4 observation-status.
const STATUSES: [&str; 8] = ["registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"];
const LOINC: &str = "http://loinc.org";
const TEXT_BYTES: usize = 32 * 1024;
/// More digits than any instrument gives; a number stays a number that others can read.
const NUMBER_BYTES: usize = 128;
const EXPONENT: i64 = 300;

/// The patient that a body names, as far as it names one: looked at before everything else.
pub(crate) fn patient_of(object: &Map<String, Value>) -> Option<PatientId> {
    object.get("patientId").and_then(Value::as_str).and_then(crate::call::uuid).map(PatientId)
}

/// Reads a body, over what was said before where a field is left out. `base` is where the object stands in the body.
pub(crate) fn read(
    object: &Map<String, Value>,
    base: &str,
    before: Option<&ObservationDraft>,
) -> Result<ObservationDraft, Vec<FieldError>> {
    let mut fields = Fields::new(object, base, FIELDS, READ_ONLY);
    let patient_id = fields.read("patientId", 64, |text| {
        crate::call::uuid(text).map(PatientId).ok_or(("not_a_uuid", "patientId is the UUID of one of your patients.".to_owned()))
    });
    let patient_id = fields.required("patientId", patient_id, before.map(|b| b.patient_id));
    if before.is_some_and(|b| patient_id.is_some_and(|id| id != b.patient_id)) {
        fields.wrong("patientId", "immutable", "An observation cannot move to another patient; withdraw it and create a new one.");
    }
    let code = fields.read("code", 256, |text| {
        if fhir::primitive::is_code(text) {
            Ok(text.to_owned())
        } else {
            Err(("not_a_code", "code holds spaces where a FHIR code has none.".to_owned()))
        }
    });
    let code = fields.required("code", code, before.and_then(|b| b.code.clone()));
    let code_system = fields.read("codeSystem", 512, |text| {
        let good = fhir::primitive::is_uri(text) && text.contains(':');
        if good { Ok(text.to_owned()) } else { Err(("not_a_uri", "codeSystem is an absolute URI, such as http://loinc.org.".to_owned())) }
    });
    let display = fields.text("display", 1000);
    let display = fields.required("display", display, before.and_then(|b| b.display.clone()));
    let effective = fields.read("effectiveDateTime", 64, |text| {
        let good = fhir::primitive::date_time(text).is_some();
        let sentence = "effectiveDateTime is a FHIR dateTime: YYYY, YYYY-MM, YYYY-MM-DD, or a time with seconds and offset such as 2026-11-25T09:30:00-03:00.";
        if good { Ok(text.to_owned()) } else { Err(("not_a_date_time", sentence.to_owned())) }
    });
    let effective = fields.required("effectiveDateTime", effective, before.and_then(|b| b.effective.clone()));
    let value = value(&mut fields, before.and_then(|b| b.value.as_ref()));
    let status = fields.read("status", 32, |text| {
        if STATUSES.contains(&text) {
            Ok(text.to_owned())
        } else {
            Err(("not_allowed", format!("status is one of {}.", STATUSES.join(", "))))
        }
    });
    let message_id = fields.text("messageId", 256);
    let external_id = fields.text("externalId", 256);
    let draft = patient_id.map(|patient_id| ObservationDraft {
        patient_id,
        code,
        code_system: code_system.over(before.and_then(|b| b.code_system.clone())).or_else(|| Some(LOINC.to_owned())),
        display,
        effective,
        value,
        status: status.given().unwrap_or_else(|| before.map_or_else(|| "final".to_owned(), |b| b.status.clone())),
        message_id: message_id.over(before.and_then(|b| b.message_id.clone())),
        external_id: external_id.over(before.and_then(|b| b.external_id.clone())),
    });
    let errors = fields.errors();
    match draft {
        Some(draft) if errors.is_empty() => Ok(draft),
        _ => Err(errors),
    }
}

/// Exactly one of `valueQuantity` and `valueString`; giving one takes the place of the other.
fn value(fields: &mut Fields<'_>, before: Option<&ObservationValue>) -> Option<ObservationValue> {
    let quantity = quantity(fields);
    let text = fields.text("valueString", TEXT_BYTES);
    let unit = fields.text("unit", 128);
    if fields.complained_of("valueQuantity") || fields.complained_of("valueString") || fields.complained_of("unit") {
        return None;
    }
    let (old_number, old_unit, old_text) = match before {
        Some(ObservationValue::Quantity { value, unit }) => (Some(value.clone()), unit.clone(), None),
        Some(ObservationValue::Text(text)) => (None, None, Some(text.clone())),
        None => (None, None, None),
    };
    let old_number = old_number.filter(|_| !matches!(text, Given::Is(_)));
    let old_text = old_text.filter(|_| !matches!(quantity, Given::Is(_)));
    let unit_given = matches!(unit, Given::Is(_));
    match (quantity.over(old_number), text.over(old_text)) {
        (Some(_), Some(_)) => {
            fields.wrong("valueString", "one_value", "An observation has one value: valueQuantity or valueString.");
            None
        }
        (None, None) => {
            fields.wrong("valueQuantity", "required", "An observation needs a value: valueQuantity (a number) or valueString.");
            None
        }
        (Some(value), None) => Some(ObservationValue::Quantity { value, unit: unit.over(old_unit) }),
        (None, Some(_)) if unit_given => {
            fields.wrong("unit", "not_allowed", "A unit goes with valueQuantity, not with valueString.");
            None
        }
        (None, Some(text)) => Some(ObservationValue::Text(text)),
    }
}

fn quantity(fields: &mut Fields<'_>) -> Given<Decimal> {
    match fields.value("valueQuantity") {
        None => Given::Absent,
        Some(Value::Null) => Given::Null,
        Some(Value::Number(number)) => {
            let text = number.to_string();
            let exponent = text.split_once(['e', 'E']).map_or(Some(0), |(_, exponent)| exponent.parse::<i64>().ok());
            if text.len() <= NUMBER_BYTES && exponent.is_some_and(|e| (-EXPONENT..=EXPONENT).contains(&e)) {
                return Given::Is(Decimal::from(number.clone()));
            }
            fields.wrong("valueQuantity", "out_of_range", "valueQuantity has more digits or a larger exponent than can be passed on.");
            Given::Absent
        }
        Some(_) => {
            fields.wrong("valueQuantity", "wrong_type", "valueQuantity is a JSON number, not a text; the unit goes into unit.");
            Given::Absent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    const GOOD: &str = r#"{"patientId":"019ab000-0000-7000-8000-000000000001","code":"72514-3","display":"Pain","effectiveDateTime":"2026-11-25T09:30:00-03:00","valueQuantity":1.10,"unit":"{score}"}"#;

    #[test]
    fn digits_offset_and_defaults_are_kept() {
        let draft = read(&parse(GOOD), "", None).unwrap();
        assert_eq!(draft.effective.as_deref(), Some("2026-11-25T09:30:00-03:00"));
        assert_eq!((draft.status.as_str(), draft.code_system.as_deref()), ("final", Some("http://loinc.org")));
        match draft.value {
            Some(ObservationValue::Quantity { value, unit }) => {
                assert_eq!((value.to_string().as_str(), unit.as_deref()), ("1.10", Some("{score}")))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_field_that_will_not_do_is_named_where_it_stands() {
        let body = r#"{"patientId":"x","code":" a","codeSystem":"loinc","effectiveDateTime":"2026-11-25T09:30","valueQuantity":"7","status":"done","note":"x"}"#;
        let errors = read(&parse(body), "/observations/3", None).unwrap_err();
        let got: Vec<(&str, &str)> = errors.iter().map(|e| (e.pointer.as_str(), e.code)).collect();
        for want in [
            ("/observations/3/note", "unknown_field"),
            ("/observations/3/patientId", "not_a_uuid"),
            ("/observations/3/code", "not_a_code"),
            ("/observations/3/codeSystem", "not_a_uri"),
            ("/observations/3/display", "required"),
            ("/observations/3/effectiveDateTime", "not_a_date_time"),
            ("/observations/3/valueQuantity", "wrong_type"),
            ("/observations/3/status", "not_allowed"),
        ] {
            assert!(got.contains(&want), "{want:?} not in {got:?}");
        }
        assert_eq!(got.len(), 8);
    }

    #[test]
    fn one_value_and_only_one() {
        let code = |change: &str| {
            let mut body = parse(GOOD);
            body.extend(parse(change));
            read(&body, "", None).err().map(|errors| errors[0].code)
        };
        assert_eq!(code(r#"{"valueString":"x"}"#), Some("one_value"));
        assert_eq!(code(r#"{"valueQuantity":null}"#), Some("required"));
        assert_eq!(code(r#"{"valueQuantity":null,"valueString":"x"}"#), Some("not_allowed"));
        assert_eq!(code(r#"{"valueQuantity":null,"valueString":"x","unit":null}"#), None);
        assert_eq!(code(r#"{"valueQuantity":1e999}"#), Some("out_of_range"));
        assert_eq!(code(r#"{"valueString":"a\u0000b","valueQuantity":null,"unit":null}"#), Some("control_character"));
    }

    #[test]
    fn a_patch_changes_what_it_names_and_never_the_patient() {
        let before = read(&parse(GOOD), "", None).unwrap();
        let after = read(&parse(r#"{"valueString":"none"}"#), "", Some(&before)).unwrap();
        assert_eq!(after.value, Some(ObservationValue::Text("none".to_owned())));
        let after = read(&parse(r#"{"unit":null}"#), "", Some(&before)).unwrap();
        assert!(matches!(after.value, Some(ObservationValue::Quantity { unit: None, .. })));
        let errors = read(&parse(r#"{"patientId":"019ab000-0000-7000-8000-000000000002"}"#), "", Some(&before)).unwrap_err();
        assert_eq!(errors[0].code, "immutable");
    }
}
