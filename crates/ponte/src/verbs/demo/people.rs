//! Synthetic people and what is observed of them. Names are made up, CPFs have right check digits and belong to nobody we know of.

use model::Cpf;
use serde_json::{Value, json};

/// System of the CPF (Brazil's Ministry of Health).
const CPF: &str = "https://saude.gov.br/fhir/sid/cpf";

/// Name, birth date, gender, and whether the hospital knows this person already.
const PEOPLE: [(&str, &str, &str, bool); 12] = [
    ("Ana Sintética Lima", "1961-03-14", "female", true),
    ("Bruno Fictício Rocha", "1974-11-02", "male", true),
    ("Carla Exemplo Souza", "1988-07-29", "female", true),
    ("Davi Modelo Nunes", "1955-01-19", "male", true),
    ("Elisa Amostra Prado", "1993-05-08", "female", true),
    ("Fábio Ensaio Moraes", "1969-09-23", "male", true),
    ("Gilda Teste Ferraz", "1947-12-30", "female", true),
    ("Heitor Prova Camargo", "1980-04-17", "male", true),
    ("Íris Rascunho Teles", "1971-08-05", "female", false),
    ("João Esboço Barros", "1990-02-11", "male", false),
    ("Kátia Maquete Reis", "1966-06-26", "female", false),
    ("Luís Croqui Aguiar", "1984-10-21", "male", false),
];

/// One synthetic patient.
pub struct Person {
    /// Whether the hospital has a record of this person before Ponte comes.
    pub at_hospital: bool,
    /// The hospital's id, if so.
    pub ehr_id: String,
    /// Body of `POST /patients`.
    pub patient: Value,
    /// The hospital's Patient.
    pub resource: Value,
}

/// All of them.
pub fn people() -> Vec<Person> {
    PEOPLE
        .iter()
        .zip(1u32..)
        .filter_map(|((name, birth_date, gender, at_hospital), number)| {
            let cpf = Cpf::beginning_with(&format!("98700{:04}", number * 37)).ok()?;
            let (family, given) = name.rsplit_once(' ').map_or((*name, ""), |(given, family)| (family, given));
            let ehr_id = format!("hosp-{number:02}");
            Some(Person {
                at_hospital: *at_hospital,
                patient: json!({
                    "name": name, "birthDate": birth_date, "gender": gender, "cpf": cpf.digits(),
                    "phone": format!("+55 11 90000-{number:04}"), "email": format!("pessoa{number}@example.org"),
                    "externalId": format!("demo-{number}"),
                }),
                resource: json!({
                    "resourceType": "Patient", "id": ehr_id, "active": true,
                    "identifier": [{"system": CPF, "value": cpf.digits()}],
                    "name": [{"text": name, "family": family, "given": given.split(' ').collect::<Vec<_>>()}],
                    "gender": gender, "birthDate": birth_date,
                }),
                ehr_id,
            })
        })
        .collect()
}

/// What may be observed: LOINC code, words, UCUM unit, and values with the digits that an instrument gives.
const KINDS: [(&str, &str, &str, [&str; 6]); 5] = [
    ("72514-3", "Pain severity - 0-10 verbal numeric rating [Score] - Reported", "{score}", ["0", "2", "3", "5", "7", "8"]),
    ("8310-5", "Body temperature", "Cel", ["36.50", "36.8", "37.10", "38.40", "36.0", "39.05"]),
    ("8867-4", "Heart rate", "/min", ["58", "64", "72", "88", "101", "117"]),
    ("29463-7", "Body weight", "kg", ["48.20", "61.0", "70.450", "83.90", "95.00", "102.35"]),
    ("9279-1", "Respiratory rate", "/min", ["12", "14", "16", "18", "22", "26"]),
];

/// Body of `POST /observations`, chosen by `number`.
pub fn observation(patient_id: &str, number: u64, at: &str) -> Value {
    let (code, display, unit, value) = pick(number);
    json!({"patientId": patient_id, "code": code, "display": display, "valueQuantity": digits(value), "unit": unit, "effectiveDateTime": at})
}

/// What the hospital itself writes down about its Patient, chosen by `number`.
pub fn hospital_observation(ehr_patient_id: &str, number: u64, at: &str) -> Value {
    let (code, display, unit, value) = pick(number);
    json!({
        "resourceType": "Observation", "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}], "text": display},
        "subject": {"reference": format!("Patient/{ehr_patient_id}")},
        "effectiveDateTime": at,
        "valueQuantity": {"value": digits(value), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        "note": [{"text": "written by the hospital"}],
    })
}

/// Another value of the same kind, for a correction of what [`observation`] made of `number`.
pub fn corrected(number: u64) -> Value {
    digits(pick(number + KINDS.len() as u64).3)
}

fn pick(number: u64) -> (&'static str, &'static str, &'static str, &'static str) {
    let len = KINDS.len() as u64;
    let kind = usize::try_from(number % len).unwrap_or(0);
    let (code, display, unit, values) = KINDS[kind];
    let value = usize::try_from((number / len) % values.len() as u64).unwrap_or(0);
    (code, display, unit, values[value])
}

/// A JSON number with exactly these digits.
fn digits(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dozen_people_have_a_dozen_valid_cpfs() {
        let people = people();
        let mut cpfs: Vec<String> = people.iter().map(|person| person.patient["cpf"].as_str().unwrap().to_owned()).collect();
        assert!(cpfs.iter().all(|cpf| Cpf::parse(cpf).is_ok()));
        cpfs.sort();
        cpfs.dedup();
        assert_eq!(cpfs.len(), 12);
    }

    #[test]
    fn a_correction_is_another_value_of_the_same_kind() {
        for number in 0..30 {
            let before = observation("p", number, "")["valueQuantity"].to_string();
            let after = corrected(number).to_string();
            assert_ne!(before, after);
            assert!(
                KINDS.iter().any(|(_, _, _, values)| values.contains(&before.as_str()) && values.contains(&after.as_str())),
                "{before} {after}"
            );
        }
    }

    #[test]
    fn values_keep_the_digits_of_the_instrument() {
        assert_eq!(observation("p", 1, "2026-01-01T00:00:00Z")["valueQuantity"].to_string(), "36.50");
        assert_eq!(hospital_observation("p", 13, "2026-01-01T00:00:00Z")["valueQuantity"]["value"].to_string(), "70.450");
    }
}
