//! CPF and CNS as EHRs know them: under two official systems each, several wild ones, or none at all.
//!
//! A known system tells what a number is, else its type code, else its length and check digits; the last makes a
//! candidate that is shown to a person and never linked (facts CODES-AND-BRAZIL §6, §9).

use crate::identifier::Identifier;
use model::brazil::BadNumber;
use model::{Cns, Cpf};

/// Which of the two national numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NumberKind {
    /// Cadastro de Pessoas Físicas, 11 digits, one per person.
    Cpf,
    /// Cartão Nacional de Saúde, 15 digits, several per person.
    Cns,
}

/// The strings under which one number is known.
#[derive(Debug)]
pub struct Systems {
    /// What we send and what BR Core fixes (NamingSystem of the Ministry's terminology guide, `preferred`).
    pub preferred: &'static str,
    /// The second URI of the same NamingSystem: RNDS and most public code.
    pub official_alias: &'static str,
    /// Others that were seen.
    pub wild: &'static [&'static str],
    /// HL7 v2-0203 code of its type.
    pub type_code: &'static str,
    /// How many digits it has.
    pub digits: usize,
}

/// CPF.
pub const CPF: Systems = Systems {
    preferred: "https://saude.gov.br/fhir/sid/cpf",
    official_alias: "http://rnds.saude.gov.br/fhir/r4/NamingSystem/cpf",
    wild: &[
        "https://rnds.saude.gov.br/fhir/r4/NamingSystem/cpf",
        "http://www.saude.gov.br/fhir/r4/NamingSystem/cpf",
        "https://rnds-fhir.saude.gov.br/NamingSystem/cpf",
        "urn:oid:2.16.840.1.113883.13.237",
        "http://www.brazil.gov.br/cpf",
    ],
    type_code: "TAX",
    digits: 11,
};

/// CNS.
pub const CNS: Systems = Systems {
    preferred: "https://saude.gov.br/fhir/sid/cns",
    official_alias: "http://rnds.saude.gov.br/fhir/r4/NamingSystem/cns",
    wild: &[
        "http://www.saude.gov.br/fhir/r4/NamingSystem/cns",
        "urn:oid:2.16.840.1.113883.13.236",
        "https://saude.gov.br/sid/cns",
        "http://www.saude.gov.br/fhir/r4/StructureDefinition/BRIndividuo-1.0",
    ],
    type_code: "HC",
    digits: 15,
};

/// Systems that are known to hold something else, whatever type code stands beside them: CNPJ is a TAX number too.
const OTHERS: &[&str] = &[
    "https://saude.gov.br/fhir/sid/cnpj",
    "http://rnds.saude.gov.br/fhir/r4/NamingSystem/cnpj",
    "https://saude.gov.br/fhir/sid/cnes",
    "http://rnds.saude.gov.br/fhir/r4/NamingSystem/cnes",
    "https://saude.gov.br/fhir/sid/rne",
    "https://saude.gov.br/sid/rne",
    "http://hl7.org/fhir/sid/passport-BRA",
    "http://hl7.org/fhir/sid/us-ssn",
    "urn:oid:2.16.840.1.113883.13.243",
];

impl NumberKind {
    /// The strings under which it is known.
    #[must_use]
    pub fn systems(self) -> &'static Systems {
        match self {
            Self::Cpf => &CPF,
            Self::Cns => &CNS,
        }
    }

    /// Systems to ask an EHR about, best first. After all of them the bare value may be asked for; and whatever comes
    /// back, its own identifiers are compared, for many servers ignore what they do not know.
    pub fn search_systems(self) -> impl Iterator<Item = &'static str> {
        let systems = self.systems();
        [systems.preferred, systems.official_alias].into_iter().chain(systems.wild.iter().copied())
    }

    /// Which number a system holds.
    #[must_use]
    pub fn of_system(system: &str) -> Option<Self> {
        [Self::Cpf, Self::Cns].into_iter().find(|kind| kind.search_systems().any(|known| same_system(known, system)))
    }
}

/// How a number is written in a search: digits first, its mask next, for some EHRs keep it with the mask.
#[must_use]
pub fn search_values(cpf: &Cpf) -> [String; 2] {
    let d = cpf.digits();
    let part = |from: usize, to: usize| d.get(from..to).unwrap_or_default();
    [d.to_owned(), format!("{}.{}.{}-{}", part(0, 3), part(3, 6), part(6, 9), part(9, 11))]
}

/// How we know what a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// Only by its length and check digits: a candidate, shown, never linked.
    Shape,
    /// By its type code.
    Type,
    /// By its system.
    System,
}

/// A number that an EHR's Patient carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<N> {
    /// The number, if its check digits hold; else why not. A bad one is kept by the EHR and flagged, never dropped.
    pub number: Result<N, BadNumber>,
    /// How we know what it is.
    pub told: Told,
    /// Neither `old` nor with an end.
    pub in_use: bool,
}

/// The national numbers of a Patient.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PersonNumbers {
    /// CPFs: one, if all is well.
    pub cpf: Vec<Found<Cpf>>,
    /// CNSs: often several.
    pub cns: Vec<Found<Cns>>,
}

impl PersonNumbers {
    /// Reads them from all of a Patient's identifiers.
    #[must_use]
    pub fn read(identifiers: &[Identifier]) -> Self {
        let mut numbers = Self::default();
        for identifier in identifiers {
            let Some(value) = identifier.value.as_deref() else { continue };
            let in_use = identifier.in_use();
            match kind(identifier, value) {
                Some((NumberKind::Cpf, told)) => numbers.cpf.push(Found { number: Cpf::parse(value), told, in_use }),
                Some((NumberKind::Cns, told)) => numbers.cns.push(Found { number: Cns::parse(value), told, in_use }),
                None => {}
            }
        }
        numbers
    }

    /// The CPFs that count as evidence: known as such, in use, with right check digits.
    pub fn cpfs(&self) -> impl Iterator<Item = &Cpf> {
        self.cpf.iter().filter(|found| found.in_use && found.told > Told::Shape).filter_map(|found| found.number.as_ref().ok())
    }

    /// The CNSs that count as evidence.
    pub fn cnss(&self) -> impl Iterator<Item = &Cns> {
        self.cns.iter().filter(|found| found.in_use && found.told > Told::Shape).filter_map(|found| found.number.as_ref().ok())
    }

    /// Whether a number stands there whose check digits do not hold: to be flagged to the EHR's people.
    #[must_use]
    pub fn has_bad_numbers(&self) -> bool {
        self.cpf.iter().any(|found| found.number.is_err()) || self.cns.iter().any(|found| found.number.is_err())
    }
}

/// What an identifier's value is and how we know. A type code alone is believed only for the right count of digits:
/// TAX may be a CNPJ, and both types exist in other countries.
fn kind(identifier: &Identifier, value: &str) -> Option<(NumberKind, Told)> {
    if let Some(system) = identifier.system.as_deref() {
        if let Some(kind) = NumberKind::of_system(system) {
            return Some((kind, Told::System));
        }
        if OTHERS.iter().any(|other| same_system(other, system)) {
            return None;
        }
    }
    let digits = value.chars().filter(char::is_ascii_digit).count();
    let kinds = [NumberKind::Cpf, NumberKind::Cns];
    let typed =
        |kind: &NumberKind| identifier.type_codes.iter().any(|code| code == kind.systems().type_code) && digits == kind.systems().digits;
    if let Some(kind) = kinds.into_iter().find(typed) {
        return Some((kind, Told::Type));
    }
    let shaped = (identifier.system.is_none() && identifier.type_codes.is_empty())
        .then(|| if Cpf::parse(value).is_ok() { Some(NumberKind::Cpf) } else { Cns::parse(value).ok().map(|_| NumberKind::Cns) });
    Some((shaped??, Told::Shape))
}

/// Same system, scheme and host without regard to case, whatever of a closing slash.
fn same_system(known: &str, seen: &str) -> bool {
    normal(known) == normal(seen)
}

fn normal(system: &str) -> String {
    let system = system.trim().trim_end_matches('/');
    match system.split_once("://") {
        Some((scheme, rest)) => {
            let at = rest.find('/').unwrap_or(rest.len());
            let (host, path) = rest.split_at_checked(at).unwrap_or((rest, ""));
            format!("{}://{}{path}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase())
        }
        None => system.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn numbers(identifiers: &Value) -> PersonNumbers {
        let all: Vec<Identifier> = identifiers.as_array().unwrap().iter().filter_map(Identifier::read).collect();
        PersonNumbers::read(&all)
    }

    fn typed(code: &str) -> Value {
        json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": code}]})
    }

    #[test]
    fn a_cpf_is_read_under_every_alias_with_or_without_its_mask() {
        for system in NumberKind::Cpf.search_systems() {
            for value in ["52998224725", "529.982.247-25", " 529 982 247 25 "] {
                let read = numbers(&json!([{"system": system, "value": value}]));
                assert_eq!(read.cpfs().map(Cpf::digits).collect::<Vec<_>>(), ["52998224725"], "{system}");
            }
        }
        for system in NumberKind::Cns.search_systems() {
            let read = numbers(&json!([{"system": system, "value": "700 5005 7275 2652"}]));
            assert_eq!(read.cnss().map(Cns::digits).collect::<Vec<_>>(), ["700500572752652"], "{system}");
        }
    }

    #[test]
    fn a_system_is_known_whatever_the_case_of_its_host_or_a_closing_slash() {
        assert_eq!(NumberKind::of_system("HTTPS://Saude.gov.BR/fhir/sid/cpf/"), Some(NumberKind::Cpf));
        assert_eq!(NumberKind::of_system("https://saude.gov.br/FHIR/sid/cpf"), None);
        assert_eq!(NumberKind::of_system("https://terminologia.saude.gov.br/fhir/NamingSystem/cpf"), None);
    }

    #[test]
    fn without_a_system_the_type_tells_and_without_a_type_it_is_a_candidate_only() {
        let read = numbers(&json!([{"type": typed("TAX"), "value": "52998224725"}, {"type": typed("HC"), "value": "700500572752652"}]));
        assert_eq!((read.cpfs().count(), read.cnss().count()), (1, 1));
        let shape = numbers(&json!([{"value": "52998224725"}, {"value": "700500572752652"}, {"value": "12345"}]));
        assert_eq!((shape.cpf.len(), shape.cns.len()), (1, 1));
        assert_eq!((shape.cpfs().count(), shape.cnss().count()), (0, 0));
    }

    #[test]
    fn what_is_not_a_persons_number_is_not_taken_for_one() {
        let others = json!([
            {"system": "https://saude.gov.br/fhir/sid/cnpj", "type": typed("TAX"), "value": "11222333000181"},
            {"type": typed("TAX"), "value": "11222333000181"},
            {"system": "urn:oid:2.16.840.1.113883.13.243", "value": "52998224725"},
            {"system": "urn:hospital:mrn", "value": "52998224725"},
            {"type": typed("MR"), "value": "52998224725"},
            {"system": "https://saude.gov.br/fhir/sid/cpf"},
        ]);
        assert_eq!(numbers(&others), PersonNumbers::default());
    }

    #[test]
    fn a_bad_check_digit_is_kept_and_flagged_and_an_old_number_does_not_count() {
        let bad = numbers(&json!([{"system": CPF.preferred, "value": "34567890123"}]));
        assert!(bad.has_bad_numbers() && bad.cpf.len() == 1 && bad.cpfs().count() == 0);
        let old = json!([
            {"system": CPF.preferred, "value": "52998224725", "use": "old"},
            {"system": CPF.preferred, "value": "11144477735", "period": {"end": "2020"}},
        ]);
        let old = numbers(&old);
        assert!(old.cpf.len() == 2 && old.cpfs().count() == 0 && !old.has_bad_numbers());
    }

    #[test]
    fn a_cpf_is_asked_for_in_both_forms() {
        assert_eq!(search_values(&Cpf::parse("52998224725").unwrap()), ["52998224725", "529.982.247-25"]);
    }
}
