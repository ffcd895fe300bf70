//! Every file of `tests/examples`, all of our own making: the shapes that real EHRs send, and those that the collected
//! data lacks. `broken-` cannot be read, `invalid-` is read and kept although R4 forbids it, the others are valid R4.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod reading;

use model::{Decimal, Value};
use ponte_fhir::mapping::observation::{Effective, ValueKind};
use ponte_fhir::mapping::{EhrObservation, EhrPatient};
use ponte_fhir::{NotInterpreted, ParseError, Resource, identifier};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/examples")
}

fn example(name: &str) -> Resource {
    Resource::parse_bytes(&fs::read(folder().join(format!("{name}.json"))).unwrap()).unwrap()
}

fn observation(name: &str) -> EhrObservation {
    EhrObservation::from_fhir(&example(name)).unwrap()
}

#[test]
fn every_example_is_what_its_name_says_and_nothing_of_it_is_lost() {
    let files = reading::json_files(&folder());
    assert!(files.len() > 50, "only {} examples", files.len());
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        match Resource::parse_bytes(&bytes) {
            Err(error) => {
                assert!(name.starts_with("broken-"), "{name}: {error}");
                assert!(error.to_string().len() > 20 && !error.to_string().contains("Jo"), "{name}: {error}");
            }
            Ok(resource) => {
                assert!(!name.starts_with("broken-"), "{name} was read");
                reading::nothing_is_lost(&bytes, &resource);
                let verdict = ponte_fhir::validate(resource.resource_type(), &serde_json::Value::Object(resource.fields().clone()));
                assert_eq!(verdict.is_err(), name.starts_with("invalid-"), "{name}: {verdict:?}");
            }
        }
    }
}

#[test]
fn all_eleven_value_types_are_among_the_examples() {
    let kinds: BTreeSet<String> = reading::json_files(&folder())
        .iter()
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("value-"))
        .filter_map(|path| Resource::parse_bytes(&fs::read(path).unwrap()).ok())
        .filter_map(|resource| EhrObservation::from_fhir(&resource).unwrap().value_kind)
        .map(|kind| format!("{kind:?}"))
        .collect();
    assert_eq!(kinds.len(), ValueKind::ALL.len(), "{kinds:?}");
}

#[test]
fn own_fields_hold_what_is_certain_and_only_that() {
    let quantity = |value: &str, unit: &str| Some(Value::Quantity { value: Decimal::parse(value).unwrap(), unit: Some(unit.into()) });
    assert_eq!(observation("value-quantity").value, quantity("1.10", "mg/dL"));
    assert_eq!(observation("decimal-of-33-digits").value, quantity("123456789012345678901.123456789012", "{copies}/mL"));
    assert_eq!(observation("value-string").value, Some(Value::Text("  enjoo leve,\nmelhor à noite  ".into())));
    for name in [
        "comparator",
        "value-ratio",
        "value-integer",
        "value-with-only-an-extension",
        "data-absent-reason",
        "blood-pressure",
        "implicit-rules",
    ] {
        assert_eq!(observation(name).value, None, "{name}");
    }
    assert_eq!(observation("value-with-only-an-extension").value_kind, Some(ValueKind::String));
    assert_eq!(observation("effective-instant").effective_text(), Some("2016-12-31T23:59:60.1234567+00:00"));
    assert_eq!(observation("effective-timing").effective, Some(Effective::Timing));
    assert_eq!(observation("blood-pressure").components, 2);
    assert_eq!((observation("text-only-code").code, observation("text-only-code").display.as_deref()), (None, Some("Glicemia capilar")));
    assert!(observation("subsetted").subsetted && !observation("registered").subsetted);
}

#[test]
fn what_may_not_be_judged_is_said() {
    let why = |name: &str| example(name).not_interpreted();
    assert_eq!(why("implicit-rules"), Some(NotInterpreted::ImplicitRules));
    assert_eq!(why("modifier-extension"), Some(NotInterpreted::ModifierExtension("Observation.modifierExtension".into())));
    let component = "Observation.component[0].modifierExtension";
    assert_eq!(why("modifier-extension-in-component"), Some(NotInterpreted::ModifierExtension(component.into())));
    assert_eq!(why("contained"), None);
    assert_eq!(observation("modifier-extension").value, None);
}

#[test]
fn our_own_version_is_read_back_from_a_server_that_changed_the_source() {
    assert_eq!(identifier::version_mark(&example("ours-after-hapi"), "urn:ponte:observation", "0199-a"), Some(4));
}

#[test]
fn a_brazilian_patient_is_read_with_both_numbers_and_a_partial_birth_date() {
    let patient = EhrPatient::from_fhir(&example("patient-brazil")).unwrap();
    assert_eq!((patient.numbers.cpfs().count(), patient.numbers.cnss().count()), (1, 2));
    assert_eq!((patient.birth_date.as_deref(), patient.shown_name().as_deref()), (Some("1958-03"), Some("Zeca")));
    assert!(!EhrPatient::from_fhir(&example("patient-merged")).unwrap().is_current());
    let masked = EhrPatient::from_fhir(&example("primitive-extensions")).unwrap();
    assert_eq!((masked.birth_date, masked.names[0].given.clone()), (None, vec!["Ana".to_owned(), "Beatriz".to_owned()]));
}

#[test]
fn each_broken_file_has_its_own_reason() {
    let error = |name: &str| Resource::parse_bytes(&fs::read(folder().join(format!("broken-{name}.json"))).unwrap()).unwrap_err();
    assert_eq!(error("cut-off"), ParseError::CutOff { line: 1 });
    assert_eq!(error("duplicate-name"), ParseError::DuplicateName { path: "status".into() });
    assert_eq!(error("without-type"), ParseError::NoResourceType);
    assert_eq!(error("array"), ParseError::NotAnObject { found: "an array" });
    assert_eq!(error("empty"), ParseError::Empty);
    assert!(matches!(error("latin-1"), ParseError::NotUtf8 { .. }));
    for name in ["html", "leading-zero", "bare-fraction", "nan"] {
        assert!(matches!(error(name), ParseError::NotJson { .. }), "{name}");
    }
}
