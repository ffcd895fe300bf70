//! `cargo xtask supply`: licences, bans and sources of every dependency, by the lists of `deny.toml`, for where cargo-deny is not
//! installed. Advisories need the network and are cargo-deny's matter.

use crate::spdx;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Checks the whole graph as it is locked.
///
/// # Errors
/// Every package that will not do.
pub fn run(root: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(root.join("deny.toml")).map_err(|why| format!("deny.toml cannot be read: {why}"))?;
    let rules: Rules = toml::from_str(&text).map_err(|why| format!("deny.toml: {why}"))?;
    let out = crate::cargo()
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .map_err(|why| format!("cargo cannot be started: {why}"))?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let graph: Metadata = serde_json::from_slice(&out.stdout).map_err(|why| format!("cargo metadata: {why}"))?;
    let found: Vec<String> = graph.packages.iter().flat_map(|package| rules.judge(package)).collect();
    if found.is_empty() {
        println!("{} packages: licences, bans and sources are in order.", graph.packages.len());
        Ok(())
    } else {
        Err(format!("{}\n{} packages will not do.", found.join("\n"), found.len()))
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    #[serde(default)]
    deny: Vec<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

impl Rules {
    fn judge(&self, package: &Package) -> Vec<String> {
        let name = format!("{} {}", package.name, package.version);
        let mut found = Vec::new();
        let excepted = self.licenses.exceptions.iter().find(|exception| exception.name == package.name);
        let allow = |licence: &str| {
            let by = |list: &[String]| list.iter().any(|one| one == licence);
            by(&self.licenses.allow) || excepted.is_some_and(|exception| by(&exception.allow))
        };
        match package.license.as_deref().map(|text| spdx::allowed(text, &allow)) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => found.push(format!("{name}: its licence {} is not allowed.", package.license.as_deref().unwrap_or(""))),
            Some(Err(why)) => found.push(format!("{name}: its licence cannot be read: {why}.")),
            None => found.push(format!("{name}: names no licence.")),
        }
        if self.bans.deny.iter().any(|ban| ban.get("crate").or(ban.get("name")).is_some_and(|banned| *banned == package.name)) {
            found.push(format!("{name}: is banned."));
        }
        // Packages of the workspace have no source.
        let known = |source: &String| self.sources.allow_registry.iter().any(|registry| source.trim_start_matches("registry+") == registry);
        if let Some(source) = package.source.as_ref().filter(|source| !known(source)) {
            found.push(format!("{name}: comes from {source}."));
        }
        found
    }
}
