//! What both runs over files ask of a resource: that nothing of it is lost.

use ponte_fhir::Resource;
use ponte_fhir::mapping::{EhrObservation, EhrPatient};
use std::fs;
use std::path::{Path, PathBuf};

/// All JSON files under a folder, in order.
pub fn json_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "json") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The text is kept byte for byte, every number digit for digit, and the mapping in keeps the text too.
pub fn nothing_is_lost(bytes: &[u8], resource: &Resource) {
    let without_mark = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    assert_eq!(resource.raw().as_bytes(), without_mark);
    let written = serde_json::to_string(resource.fields()).unwrap();
    assert_eq!(numbers(&written), numbers(resource.raw()));
    match resource.resource_type() {
        "Observation" => assert_eq!(EhrObservation::from_fhir(resource).unwrap().resource, resource.raw()),
        "Patient" => {
            let patient = EhrPatient::from_fhir(resource).unwrap();
            let names = resource.get("name").and_then(|names| names.as_array()).map_or(0, Vec::len);
            assert_eq!(patient.names.len(), names);
        }
        _ => {}
    }
}

/// The numbers of a JSON text as they are written, in order. serde_json writes `1e3` and `1E3` as `1e+3`.
pub fn numbers(json: &str) -> Vec<String> {
    let bytes = json.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let start = at;
                while at < bytes.len() && matches!(bytes[at], b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') {
                    at += 1;
                }
                found.push(with_sign(&json[start..at]));
            }
            _ => at += 1,
        }
    }
    found
}

fn with_sign(number: &str) -> String {
    match number.to_ascii_lowercase().split_once('e') {
        Some((mantissa, exponent)) if !exponent.starts_with(['+', '-']) => format!("{mantissa}e+{exponent}"),
        _ => number.to_ascii_lowercase(),
    }
}
