//! The hospital's side: the server's own API, asked without Ponte and without the proxy.

use super::web::Web;
use serde_json::{Value, json};

/// The system of our observations' identifiers.
pub const OURS: &str = "urn:ponte:observation";
/// The system of our Patients' identifiers.
pub const OUR_PATIENTS: &str = "urn:ponte:patient";
/// No list here is longer, in pages.
const PAGES: usize = 50;

/// Its people and their own programs.
#[derive(Debug, Clone)]
pub struct Hospital {
    fhir: Web,
}

impl Hospital {
    /// At this FHIR base.
    pub fn at(base: &str) -> Self {
        Self { fhir: Web::fhir(base) }
    }

    /// Its API.
    pub fn api(&self) -> &Web {
        &self.fhir
    }

    /// Registers a patient, with a CPF if there is one; the server's id.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn register(&self, name: &str, birth_date: &str, cpf: Option<&str>) -> Result<String, String> {
        let identifiers: Vec<Value> = cpf.iter().map(|cpf| json!({"system": "https://saude.gov.br/fhir/sid/cpf", "value": cpf})).collect();
        let mut body =
            json!({"resourceType": "Patient", "active": true, "name": [{"text": name, "family": "Interop"}], "birthDate": birth_date});
        if !identifiers.is_empty() {
            body["identifier"] = Value::from(identifiers);
        }
        id_of(&self.fhir.must("POST", "/Patient", Some(&body))?)
    }

    /// Measures something itself; the server's id.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn observe(&self, patient: &str, value: usize) -> Result<String, String> {
        id_of(&self.fhir.must("POST", "/Observation", Some(&heart_rate(patient, value)))?)
    }

    /// Corrects what it measured.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn correct(&self, patient: &str, id: &str, value: usize) -> Result<(), String> {
        let mut body = heart_rate(patient, value);
        body["id"] = id.into();
        body["status"] = "corrected".into();
        self.fhir.must("PUT", &format!("/Observation/{id}"), Some(&body)).map(drop)
    }

    /// A person of the hospital adds a note to a row of ours.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn annotate(&self, id: &str) -> Result<(), String> {
        let mut body = self.fhir.get(&format!("/Observation/{id}"))?;
        body["note"] = json!([{"text": "Seen by the nurse on duty."}]);
        self.fhir.must("PUT", &format!("/Observation/{id}"), Some(&body)).map(drop)
    }

    /// Every Observation of a patient, all pages.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub fn list(&self, patient: &str) -> Result<Vec<Value>, String> {
        let all = self.all(&format!("/Observation?subject=Patient/{patient}&_count=200"))?;
        // A server may ignore a filter; whose a row is, it says itself.
        let whose = format!("Patient/{patient}");
        Ok(all.into_iter().filter(|row| row["subject"]["reference"].as_str().is_some_and(|subject| subject.ends_with(&whose))).collect())
    }

    /// Every Observation under our identifier of this value.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub fn under_our_identifier(&self, value: &str) -> Result<Vec<Value>, String> {
        self.all(&format!("/Observation?identifier={OURS}%7C{value}"))
    }

    /// Every Patient that we made for this patient of ours.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub fn patients_of_ours(&self, value: &str) -> Result<Vec<Value>, String> {
        self.all(&format!("/Patient?identifier={OUR_PATIENTS}%7C{value}"))
    }

    /// The marks of our versions in an Observation's history, oldest first; none where the server has no history.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn marks(&self, id: &str) -> Result<Vec<i64>, String> {
        let history = self.fhir.send("GET", &format!("/Observation/{id}/_history"), None)?;
        let mut marks: Vec<i64> = rows(&history.json).iter().filter_map(mark).collect();
        marks.reverse();
        Ok(marks)
    }

    fn all(&self, path: &str) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        let mut next = path.to_owned();
        // A fresh look: HAPI answers a search it has seen within a minute from its cache.
        let fresh = self.fhir.with("Cache-Control", "no-cache");
        for _ in 0..PAGES {
            let page = fresh.get(&next)?;
            found.extend(rows(&page));
            let links = page["link"].as_array().cloned().unwrap_or_default();
            match links.iter().find(|link| link["relation"] == "next").and_then(|link| link["url"].as_str()) {
                Some(url) => url.clone_into(&mut next),
                None => return Ok(found),
            }
        }
        Err(format!("{path} has no end."))
    }
}

fn heart_rate(patient: &str, value: usize) -> Value {
    json!({"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": "Heart rate"},
        "subject": {"reference": format!("Patient/{patient}")}, "effectiveDateTime": "2026-11-24T07:00:00-03:00",
        "valueQuantity": {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}})
}

fn id_of(resource: &Value) -> Result<String, String> {
    resource["id"].as_str().map(ToOwned::to_owned).ok_or_else(|| format!("No id in {resource}"))
}

/// The resources of a Bundle.
pub fn rows(bundle: &Value) -> Vec<Value> {
    let entries = bundle["entry"].as_array().map_or(&[][..], Vec::as_slice);
    entries
        .iter()
        .filter(|entry| entry["search"]["mode"] != "outcome")
        .map(|entry| entry["resource"].clone())
        .filter(Value::is_object)
        .collect()
}

/// Our identifier's value on a resource.
pub fn our_value(resource: &Value) -> Option<&str> {
    resource["identifier"].as_array()?.iter().find(|one| one["system"] == OURS)?["value"].as_str()
}

/// The version of ours that a resource carries, read without the product's own reader: a judge shares no code with the judged.
pub fn mark(resource: &Value) -> Option<i64> {
    let source = resource["meta"]["source"].as_str();
    let of_source = source.and_then(|source| source.strip_prefix("urn:ponte:version:")?.split('#').next()?.parse().ok());
    of_source.or_else(|| {
        let ours = resource["identifier"].as_array()?.iter().find(|one| one["system"] == OURS)?;
        ours["extension"][0]["valueString"].as_str()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_from_either_place() {
        assert_eq!(mark(&json!({"meta": {"source": "urn:ponte:version:3#Zk2a"}})), Some(3));
        let kept =
            json!({"meta": {"source": "#Zk2a"}, "identifier": [{"system": OURS, "value": "a", "extension": [{"valueString": "4"}]}]});
        assert_eq!(mark(&kept), Some(4));
        assert_eq!(mark(&json!({"identifier": [{"system": "urn:x", "value": "a"}]})), None);
    }
}
