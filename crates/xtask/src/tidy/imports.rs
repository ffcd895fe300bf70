//! Imports go one way (ARCHITECTURE, "who may import whom"): read from the manifests.

use std::path::Path;

/// Each crate and what of ours it may stand on.
const MAY: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("fhir", &["model"]),
    ("ehr", &["model", "fhir"]),
    ("store", &["model"]),
    ("sync", &["model", "fhir", "ehr", "store"]),
    ("web", &["model", "fhir", "ehr", "store", "sync"]),
    // The judge shares no code with the judged.
    ("sandbox", &[]),
    ("ponte", &["model", "fhir", "ehr", "store", "sync", "web", "sandbox"]),
    ("line", &[]),
    ("processes", &["model", "line", "sandbox", "testing"]),
    ("sim", &["model", "ehr", "store", "sync", "sandbox"]),
    // The real engine runs as a process of its own beside it.
    ("bench", &["model", "fhir", "store", "web", "sandbox"]),
];

pub(super) fn check(root: &Path, found: &mut Vec<String>) {
    for (name, may) in MAY {
        let path = format!("crates/{name}/Cargo.toml");
        let manifest = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
        let Ok(table) = manifest.parse::<toml::Table>() else {
            found.push(format!("{path}: cannot be read."));
            continue;
        };
        let dependencies = table.get("dependencies").and_then(toml::Value::as_table);
        let ours = dependencies.into_iter().flat_map(toml::Table::keys).filter(|key| MAY.iter().any(|(ours, _)| ours == key));
        for key in ours.filter(|key| !may.contains(&key.as_str())) {
            found.push(format!("{path}: {name} must not import {key}."));
        }
    }
}
