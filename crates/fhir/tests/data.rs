//! Every JSON file of the collected real data, where it stands (`PONTE_SHARED_DATA`, or `shared/data` beside the
//! workspace): each is read or refused with a sentence, Observations and Patients map in, alone and in Bundles, and
//! nothing is lost. Skipped, and said so, where the data is absent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod reading;

use ponte_fhir::Resource;
use ponte_fhir::mapping::{EhrObservation, EhrPatient};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("PONTE_SHARED_DATA").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: the collected data is not at {}", folder.display());
    None
}

#[test]
fn every_collected_file_is_read_or_refused_with_a_sentence_and_nothing_is_lost() {
    let Some(folder) = folder() else { return };
    let (mut seen, mut refused) = (BTreeMap::<String, usize>::new(), Vec::new());
    for path in reading::json_files(&folder) {
        let bytes = fs::read(&path).unwrap();
        match Resource::parse_bytes(&bytes) {
            Ok(resource) => {
                reading::nothing_is_lost(&bytes, &resource);
                *seen.entry(resource.resource_type().to_owned()).or_default() += 1;
                if resource.resource_type() == "Bundle" {
                    rows_of(&bytes, &mut seen);
                }
            }
            Err(error) => {
                let sentence = error.to_string();
                assert!(sentence.len() > 20 && sentence.is_ascii(), "{}: {sentence}", path.display());
                refused.push(format!("{}: {sentence}", path.strip_prefix(&folder).unwrap().display()));
            }
        }
    }
    println!("read: {seen:?}\nrefused: {refused:#?}");
    assert!(seen.get("Observation").is_some_and(|n| *n >= 885) && seen.get("Patient").is_some_and(|n| *n >= 174), "{seen:?}");
    assert!(seen.keys().any(|kind| kind == "Observation in a Bundle") && seen.keys().any(|kind| kind == "Patient in a Bundle"));
    assert!(refused.iter().any(|line| line.contains("PatientMissingResourceType")), "{refused:?}");
}

/// Rows of a Bundle keep their text byte for byte, and map in like any other.
fn rows_of(bytes: &[u8], seen: &mut BTreeMap<String, usize>) {
    let text = std::str::from_utf8(bytes).unwrap().trim_start_matches('\u{feff}');
    let bundle: BTreeMap<&str, &RawValue> = serde_json::from_str(text).unwrap();
    let Some(entries) = bundle.get("entry") else { return };
    let entries: Vec<BTreeMap<&str, &RawValue>> = serde_json::from_str(entries.get()).unwrap();
    for raw in entries.iter().filter_map(|entry| entry.get("resource")) {
        assert!(text.contains(raw.get()), "a row is not the text that came");
        let Ok(resource) = Resource::parse(raw.get()) else {
            *seen.entry("refused in a Bundle".to_owned()).or_default() += 1;
            continue;
        };
        reading::nothing_is_lost(raw.get().as_bytes(), &resource);
        *seen.entry(format!("{} in a Bundle", resource.resource_type())).or_default() += 1;
    }
}

#[test]
fn what_the_mapping_reads_from_real_data_is_what_stands_there() {
    let Some(folder) = folder() else { return };
    let (mut values, mut codes, mut people, mut numbers) = (0, 0, 0, 0);
    for path in reading::json_files(&folder) {
        let Ok(resource) = Resource::parse_bytes(&fs::read(&path).unwrap()) else { continue };
        if let Ok(observation) = EhrObservation::from_fhir(&resource) {
            if let Some(model::Value::Quantity { value, .. }) = &observation.value {
                let written = resource.get("valueQuantity").unwrap().get("value").unwrap().to_string();
                assert_eq!(value.to_string(), written, "{}", path.display());
                values += 1;
            }
            codes += usize::from(observation.code.is_some() || observation.display.is_some());
        }
        if let Ok(patient) = EhrPatient::from_fhir(&resource) {
            people += usize::from(patient.shown_name().is_some());
            numbers += patient.numbers.cpf.len() + patient.numbers.cns.len();
        }
    }
    println!("quantities {values}, codes {codes}, named people {people}, CPF and CNS {numbers}");
    assert!(values > 590 && codes > 870 && people > 165 && numbers >= 4, "{values} {codes} {people} {numbers}");
}

#[test]
fn the_validity_check_agrees_with_the_index_of_the_collected_data() {
    let Some(folder) = folder() else { return };
    let index = fs::read_to_string(folder.join("INDEX.tsv")).unwrap();
    let (mut checked, mut disagree) = (0, Vec::new());
    for line in index.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [file, kind, ..] = columns[..] else { continue };
        if !matches!(kind, "Observation" | "Patient") || columns.get(8) == Some(&"faulty") {
            continue;
        }
        let Ok(bytes) = fs::read(folder.join(file)) else { continue };
        let Ok(resource) = Resource::parse_bytes(&bytes) else { continue };
        checked += 1;
        let verdict = ponte_fhir::validate(kind, &serde_json::Value::Object(resource.fields().clone()));
        if verdict.is_ok() != (columns.get(7) == Some(&"yes")) {
            disagree.push(format!("{file}: index {:?}, we {verdict:?}", columns.get(7)));
        }
    }
    println!("checked {checked}, disagree {}: {disagree:#?}", disagree.len());
    assert!(checked > 1000 && disagree.is_empty(), "{disagree:#?}");
}
