//! Codes: the few LOINC codes whose handling R4 fixes, and those that mean something else than their sender thinks.
//!
//! The project that Ponte replaces used three thermometers and two blood antibodies for nausea, vomiting, fatigue, dyspnea
//! and appetite. A row with such a code is stored and held, with the right code named (facts CODES-AND-BRAZIL §2).

use crate::mapping::unit;
use model::{ObservationDraft, Value};

/// LOINC's system, exactly so (R4 loinc).
pub const LOINC: &str = "http://loinc.org";

/// LOINC as an OID, as some EHRs write it.
const LOINC_OID: &str = "urn:oid:2.16.840.1.113883.6.1";

/// The notice that LOINC's licence asks for wherever its codes are shipped.
pub const LOINC_NOTICE: &str = "This material contains content from LOINC (http://loinc.org). LOINC is copyright © 1995-2024, \
Regenstrief Institute, Inc. and the Logical Observation Identifiers Names and Codes (LOINC) Committee and is available at no cost under \
the license at http://loinc.org/license. LOINC® is a registered United States trademark of Regenstrief Institute, Inc.";

/// A vital sign that R4 knows (R4 observation-vitalsigns; facts CODES-AND-BRAZIL §1a).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VitalSign {
    /// Its LOINC code.
    pub code: &'static str,
    /// LOINC's name for it, which alone may stand in `display`.
    pub name: &'static str,
    /// The code that R4 wants beside it, where it is a special case of that. Never the other way round: the general does
    /// not tell the special.
    pub beside: Option<&'static str>,
    /// Whether it is a body temperature.
    pub temperature: bool,
}

const fn vital(code: &'static str, name: &'static str, beside: Option<&'static str>) -> VitalSign {
    VitalSign { code, name, beside, temperature: false }
}

const fn thermometer(code: &'static str, name: &'static str, beside: Option<&'static str>) -> VitalSign {
    VitalSign { code, name, beside, temperature: true }
}

/// The vital signs.
pub const VITAL_SIGNS: &[VitalSign] = &[
    thermometer("8310-5", "Body temperature", None),
    thermometer("8331-1", "Oral temperature", Some("8310-5")),
    thermometer("8332-9", "Rectal temperature", Some("8310-5")),
    thermometer("8333-7", "Tympanic membrane temperature", Some("8310-5")),
    thermometer("8328-7", "Axillary temperature", Some("8310-5")),
    thermometer("75539-7", "Body temperature - Temporal artery", Some("8310-5")),
    thermometer("8329-5", "Body temperature - Core", Some("8310-5")),
    vital("8867-4", "Heart rate", None),
    vital("9279-1", "Respiratory rate", None),
    vital("2708-6", "Oxygen saturation in Arterial blood", None),
    vital("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry", Some("2708-6")),
    vital("85354-9", "Blood pressure panel with all children optional", None),
    vital("8480-6", "Systolic blood pressure", None),
    vital("8462-4", "Diastolic blood pressure", None),
    vital("8478-0", "Mean blood pressure", None),
    vital("29463-7", "Body weight", None),
    vital("3141-9", "Body weight Measured", Some("29463-7")),
    vital("8302-2", "Body height", None),
    vital("8306-3", "Body height --lying", Some("8302-2")),
    vital("39156-5", "Body mass index (BMI) [Ratio]", None),
    vital("9843-4", "Head Occipital-frontal circumference", None),
    vital("8287-5", "Head Occipital-frontal circumference by Tape measure", Some("9843-4")),
    vital("85353-1", "Vital signs, weight, height, head circumference, oxygen saturation and BMI panel", None),
];

/// Scores and answers: pain, ESAS-r and its total, PHQ-9, GAD-7, PEG, ECOG, Karnofsky, PROMIS, FACT-G, a symptom
/// (facts CODES-AND-BRAZIL §1b).
const SURVEY: &[&str] = &[
    "72514-3", "38208-5", "38214-3", "38221-8", "112503-8", "112493-2", "112494-0", "112495-7", "112496-5", "112497-3", "112498-1",
    "112499-9", "112500-4", "112501-2", "112502-0", "44249-1", "44261-6", "44260-8", "69737-5", "70274-6", "91148-7", "91147-9", "75893-8",
    "89247-1", "89243-0", "77864-7", "77865-4", "77860-5", "77862-1", "77861-3", "89676-1", "70495-7", "70406-4", "70561-6", "75325-1",
];

/// Codes that the replaced project misused: what it said, what LOINC says, what to use.
const MISUSED: &[(&str, &str, &str, &str)] = &[
    ("8331-1", "nausea", "Oral temperature", "112497-3 (ESAS-r nausea) if that was asked, or a code of your own system"),
    ("8332-9", "vomiting", "Rectal temperature", "a code of your own system (ESAS-r has no vomiting)"),
    ("8333-7", "fatigue", "Tympanic membrane temperature", "112495-7 (ESAS-r tiredness) if that was asked, or a code of your own system"),
    (
        "72522-6",
        "dyspnea",
        "p-ANCA antibody in blood",
        "112499-9 (ESAS-r shortness of breath) if that was asked, or a code of your own system",
    ),
    (
        "72523-4",
        "appetite",
        "Glutamate decarboxylase 65 antibody in blood",
        "112498-1 (ESAS-r lack of appetite) if that was asked, or a code of your own system",
    ),
];

/// A code that means something else than the row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misuse {
    /// The code as sent.
    pub code: String,
    /// What LOINC means by it.
    pub means: &'static str,
    /// What to send instead.
    pub use_instead: &'static str,
    /// Both in a sentence for whoever sent it; no value in it.
    pub sentence: String,
}

/// Whether a platform's observation carries a code that means something else: a body temperature without a unit of
/// temperature or outside 25–45 Cel, or one of the two antibodies. What is withdrawn (`entered-in-error`) is let through:
/// that is how a wrong row leaves the chart. On pull nothing is judged; there the codes mean what LOINC says.
#[must_use]
pub fn misused(draft: &ObservationDraft) -> Option<Misuse> {
    let code = draft.code.as_deref().filter(|_| is_loinc(draft.code_system.as_deref()))?;
    if draft.entered_in_error() {
        return None;
    }
    let known = MISUSED.iter().find(|(misused, ..)| *misused == code);
    let vital = VITAL_SIGNS.iter().find(|vital| vital.code == code && vital.temperature);
    let wrong = match vital {
        Some(_) => draft.value.as_ref().is_some_and(|value| !is_body_temperature(value)),
        None => known.is_some(),
    };
    if !wrong {
        return None;
    }
    let means = known.map_or_else(|| vital.map_or("something else", |vital| vital.name), |(_, _, means, _)| means);
    let instead = "a temperature in Cel (25 to 45) or [degF], or the code of what was really observed";
    let use_instead = known.map_or(instead, |(_, _, _, instead)| instead);
    let sentence = match known {
        Some((_, said, ..)) => format!("In LOINC {code} is not {said} but: {means}. Send a corrected version with {use_instead}."),
        None => {
            format!("In LOINC {code} is a body temperature ({means}), and this value is none. Send a corrected version with {use_instead}.")
        }
    };
    Some(Misuse { code: code.to_owned(), means, use_instead, sentence })
}

/// What a text is as a LOINC code (facts CODES-AND-BRAZIL §1d).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoincForm {
    /// Right form, right check digit.
    Good,
    /// Right form, but the check digit does not fit: probably mistyped. A warning, no more: LOINC has such codes.
    CheckDigit,
    /// An answer, an answer list or a part (`LA`, `LL`, `LP`): never the code of an Observation.
    NotACode,
    /// Not the form of a LOINC code.
    NotLoinc,
}

/// Looks at the form and the check digit (Luhn, modulo 10, over the digits before the hyphen).
#[must_use]
pub fn loinc_form(code: &str) -> LoincForm {
    /// Real codes whose check digit does not fit.
    const EXCEPTIONS: &[&str] = &[
        "11491-6", "11501-6", "5895-7", "5896-5", "5897-3", "5928-1", "6028-3", "6415-5", "6580-7", "6645-7", "6646-5", "6647-3", "6648-1",
        "6649-9",
    ];
    let (body, prefixed) = match ["LA", "LL", "LP"].into_iter().find_map(|prefix| code.strip_prefix(prefix)) {
        Some(rest) => (rest, true),
        None => (code, false),
    };
    let Some((number, check)) = body.split_once('-') else { return LoincForm::NotLoinc };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(number) || !digits(check) || check.len() != 1 || number.len() > 7 || number.starts_with('0') {
        return LoincForm::NotLoinc;
    }
    if prefixed {
        return LoincForm::NotACode;
    }
    let sum: u32 = number.bytes().rev().enumerate().map(|(at, b)| luhn(u32::from(b - b'0'), at % 2 == 0)).sum();
    let fits = check.parse() == Ok((10 - sum % 10) % 10);
    if fits || EXCEPTIONS.contains(&code) { LoincForm::Good } else { LoincForm::CheckDigit }
}

/// Whether a system is LOINC; the platform's default is, so none at all counts as it.
#[must_use]
pub fn is_loinc(system: Option<&str>) -> bool {
    system.is_none_or(|system| system == LOINC || system == LOINC_OID)
}

/// The vital sign of a LOINC code.
#[must_use]
pub fn vital_sign(code: &str) -> Option<&'static VitalSign> {
    VITAL_SIGNS.iter().find(|vital| vital.code == code)
}

/// Whether a LOINC code is a score or an answer.
#[must_use]
pub fn is_survey(code: &str) -> bool {
    SURVEY.contains(&code)
}

fn luhn(digit: u32, double: bool) -> u32 {
    match (double, digit * 2) {
        (false, _) => digit,
        (true, twice) if twice > 9 => twice - 9,
        (true, twice) => twice,
    }
}

fn is_body_temperature(value: &Value) -> bool {
    let Value::Quantity { value, unit } = value else { return false };
    let value = value.approximate();
    match unit.as_deref().and_then(unit::temperature) {
        Some("Cel") => (25.0..=45.0).contains(&value),
        Some(_) => (77.0..=113.0).contains(&value),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Decimal, PatientId};

    fn draft(code: &str, value: &str, unit: Option<&str>) -> ObservationDraft {
        ObservationDraft {
            patient_id: PatientId(uuid::Uuid::nil()),
            code: Some(code.into()),
            code_system: Some(LOINC.into()),
            display: None,
            effective: None,
            value: Some(Value::Quantity { value: Decimal::parse(value).unwrap(), unit: unit.map(str::to_owned) }),
            status: "final".into(),
            message_id: None,
            external_id: None,
        }
    }

    #[test]
    fn nausea_under_a_thermometers_code_is_held_and_the_right_code_named() {
        let misuse = misused(&draft("8331-1", "7", Some("{score}"))).unwrap();
        assert_eq!(misuse.means, "Oral temperature");
        let sentence = "In LOINC 8331-1 is not nausea but: Oral temperature. Send a corrected version with 112497-3 (ESAS-r nausea) if that was asked, or a code of your own system.";
        assert_eq!(misuse.sentence, sentence);
        for code in ["8331-1", "8332-9", "8333-7", "8310-5", "8328-7", "75539-7", "8329-5"] {
            assert!(misused(&draft(code, "7", None)).is_some(), "{code}");
            assert!(misused(&draft(code, "7", Some("Cel"))).is_some(), "{code}");
            assert!(misused(&draft(code, "36.5", None)).is_some(), "{code}");
        }
    }

    #[test]
    fn a_real_temperature_goes_through() {
        for (value, unit) in [("36.5", "Cel"), ("25", "Cel"), ("45.0", "Cel"), ("98.6", "[degF]"), ("37.2", "°C"), ("37", "C")] {
            assert_eq!(misused(&draft("8331-1", value, Some(unit))), None, "{value} {unit}");
        }
        for (value, unit) in [("24.9", "Cel"), ("45.1", "Cel"), ("36.5", "[degF]"), ("309", "K"), ("36.5", "%")] {
            assert!(misused(&draft("8310-5", value, Some(unit))).is_some(), "{value} {unit}");
        }
    }

    #[test]
    fn the_two_antibodies_are_held_whatever_their_value() {
        for code in ["72522-6", "72523-4"] {
            assert!(misused(&draft(code, "3", Some("{score}"))).is_some());
            assert!(misused(&draft(code, "3", Some("U/mL"))).is_some());
        }
    }

    #[test]
    fn a_wrong_row_may_be_withdrawn_and_other_systems_are_not_judged() {
        let mut withdrawn = draft("72522-6", "3", None);
        withdrawn.status = "entered-in-error".into();
        assert_eq!(misused(&withdrawn), None);
        let mut local = draft("8331-1", "7", None);
        local.code_system = Some("urn:clinic:codes".into());
        assert_eq!(misused(&local), None);
        assert_eq!(misused(&draft("72514-3", "7", Some("{score}"))), None);
        let mut defaulted = draft("8331-1", "7", None);
        defaulted.code_system = None;
        assert!(misused(&defaulted).is_some());
    }

    #[test]
    fn a_text_under_a_thermometers_code_is_misuse_too() {
        let mut text = draft("8332-9", "1", None);
        text.value = Some(Value::Text("vomitou duas vezes".into()));
        assert!(misused(&text).is_some_and(|misuse| !misuse.sentence.contains("vezes")));
    }

    #[test]
    fn loinc_codes_have_a_form_and_a_check_digit() {
        for code in VITAL_SIGNS.iter().map(|vital| vital.code).chain(SURVEY.iter().copied()).chain(MISUSED.iter().map(|m| m.0)) {
            assert_eq!(loinc_form(code), LoincForm::Good, "{code}");
        }
        assert_eq!(loinc_form("5895-7"), LoincForm::Good);
        assert_eq!(loinc_form("72514-4"), LoincForm::CheckDigit);
        assert_eq!(loinc_form("LA6568-5"), LoincForm::NotACode);
        for bad in ["", "72514", "072514-3", "72514-33", "abc-1", "12345678-1", "-1", "72514-x"] {
            assert_eq!(loinc_form(bad), LoincForm::NotLoinc, "{bad}");
        }
    }
}
