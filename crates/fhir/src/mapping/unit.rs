//! Units: which texts may leave as UCUM codes. Nothing is converted, nothing corrected (PRODUCT, law 7).
//!
//! A text that UCUM's grammar accepts may be the wrong unit all the same: `C` is coulomb, `u/L` atomic mass per litre,
//! `K/uL` kelvin per microlitre, `Mg` megagram (facts CODES-AND-BRAZIL §3). So a unit is a code only if each of its parts
//! stands in the table below. This material uses UCUM codes; UCUM is copyright Regenstrief Institute, Inc.

/// UCUM's code system (R4 ucum), without a closing slash.
pub const UCUM: &str = "http://unitsofmeasure.org";

/// What a unit's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A UCUM code that means what it says.
    Code,
    /// No code, but often written for this one: to be named in a warning, never sent in its place.
    LooksLike(&'static str),
    /// Not understood: it goes as words.
    Words,
}

/// Parts that a code may be made of.
const PARTS: &[&str] = &[
    "%", "1", "10*3", "10*6", "10*9", "10*12", "10^3", "10^6", "10^9", "10^12", "Cel", "[degF]", "K", "kg", "g", "mg", "ug", "ng", "pg",
    "L", "l", "dL", "dl", "mL", "ml", "uL", "ul", "nL", "fL", "pL", "m", "cm", "mm", "um", "km", "m2", "cm2", "mm2", "m3", "cm3", "mm3",
    "[in_i]", "[ft_i]", "[lb_av]", "[oz_av]", "mol", "mmol", "umol", "nmol", "pmol", "eq", "meq", "ueq", "osm", "mosm", "U", "mU", "kU",
    "uU", "[IU]", "m[IU]", "k[IU]", "u[IU]", "kat", "nkat", "ukat", "mm[Hg]", "m[Hg]", "cm[H2O]", "kPa", "Pa", "bar", "s", "ms", "us",
    "min", "h", "d", "wk", "mo", "a", "Hz", "kHz", "V", "mV", "uV", "A", "mA", "Ohm", "W", "J", "kJ", "cal", "kcal", "[pH]", "deg", "dB",
    "[diop]", "[CFU]", "Gy", "cGy", "mGy", "Sv", "mSv", "Bq", "kBq", "MBq", "Ci", "mCi", "[drp]", "[arb'U]", "[ppm]", "[ppth]",
];

/// Codes that are right only as they stand here: `K` is a kelvin, and `K/uL` is not thousands.
const ALONE: &[&str] = &["K", "A", "a", "1", "[degF]", "Cel"];

/// What is often written for a code.
const WILD: &[(&str, &str)] = &[
    ("C", "Cel"),
    ("°C", "Cel"),
    ("ºC", "Cel"),
    ("degC", "Cel"),
    ("cel", "Cel"),
    ("celsius", "Cel"),
    ("degrees C", "Cel"),
    ("F", "[degF]"),
    ("°F", "[degF]"),
    ("ºF", "[degF]"),
    ("degF", "[degF]"),
    ("bpm", "/min"),
    ("beats/min", "/min"),
    ("beats/minute", "/min"),
    ("rpm", "/min"),
    ("irpm", "/min"),
    ("breaths per minute", "/min"),
    ("mmHg", "mm[Hg]"),
    ("mm Hg", "mm[Hg]"),
    ("mm(Hg)", "mm[Hg]"),
    ("Kg", "kg"),
    ("KG", "kg"),
    ("lb", "[lb_av]"),
    ("lbs", "[lb_av]"),
    ("in", "[in_i]"),
    ("%O2", "%"),
    ("kg/m^2", "kg/m2"),
    ("kg/m²", "kg/m2"),
    ("mil/mm³", "10*3/uL"),
    ("x10³/µL", "10*3/uL"),
    ("x10E3/uL", "10*3/uL"),
    ("10^3/mcL", "10*3/uL"),
    ("K/uL", "10*3/uL"),
    ("M/uL", "10*6/uL"),
    ("µg/L", "ug/L"),
    ("mcg/L", "ug/L"),
    ("µg", "ug"),
    ("mcg", "ug"),
    ("mEq/L", "meq/L"),
    ("UI/L", "[IU]/L"),
    ("IU/L", "[IU]/L"),
    ("u/L", "U/L"),
    ("mL/min/1.73m2", "mL/min/{1.73_m2}"),
    ("pontos", "{score}"),
    ("score", "{score}"),
    ("pontuação", "{score}"),
    ("{pontuação}", "{score}"),
    ("dias", "d"),
    ("horas", "h"),
    ("sec", "s"),
    ("hr", "h"),
];

/// Judges a unit's text. Case counts.
#[must_use]
pub fn judge(text: &str) -> Unit {
    if is_code(text) {
        return Unit::Code;
    }
    WILD.iter().find(|(wild, _)| *wild == text).map_or(Unit::Words, |(_, code)| Unit::LooksLike(code))
}

/// Whether a unit says that a number is a score: an annotation alone, such as `{score}` or `{T-score}`.
#[must_use]
pub fn is_score(text: &str) -> bool {
    matches!(text, "{score}" | "{T-score}" | "{Tscore}" | "{#}") || matches!(judge(text), Unit::LooksLike("{score}"))
}

/// The temperature scale that a text names, `Cel` or `[degF]`, however it is written.
#[must_use]
pub fn temperature(text: &str) -> Option<&'static str> {
    match (text, judge(text)) {
        ("Cel", _) | (_, Unit::LooksLike("Cel")) => Some("Cel"),
        ("[degF]", _) | (_, Unit::LooksLike("[degF]")) => Some("[degF]"),
        _ => None,
    }
}

fn is_code(text: &str) -> bool {
    if text.is_empty() || text.len() > 100 || !text.is_ascii() {
        return false;
    }
    let body = text.strip_prefix('/').unwrap_or(text);
    let Some(terms) = terms(body) else { return false };
    let several = terms.len() > 1 || body.len() != text.len();
    terms.iter().all(|term| is_term(term, several))
}

/// Splits at `.` and `/`, but not inside brackets or braces.
fn terms(body: &str) -> Option<Vec<&str>> {
    let (mut terms, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, c) in body.char_indices() {
        match c {
            '{' | '[' if inside => return None,
            '{' | '[' => inside = true,
            '}' | ']' => inside = false,
            '.' | '/' if !inside => {
                terms.push(body.get(start..at)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(body.get(start..)?);
    (!inside).then_some(terms)
}

/// A part of the table, an annotation of printable ASCII, or the one behind the other.
fn is_term(term: &str, several: bool) -> bool {
    let (part, note) = term.find('{').and_then(|at| term.split_at_checked(at)).unwrap_or((term, ""));
    let inner = note.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let note_good = note.is_empty()
        || inner.is_some_and(|inner| !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_graphic() && !b"{}".contains(&b)));
    let part_good = PARTS.contains(&part) && !(several && ALONE.contains(&part) && part != "a" && part != "1");
    note_good && (part_good || part.is_empty() && !note.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_the_table_are_codes() {
        for code in [
            "{score}",
            "{T-score}",
            "Cel",
            "[degF]",
            "/min",
            "{beats}/min",
            "mm[Hg]",
            "kg",
            "g",
            "cm",
            "m",
            "%",
            "10*3/uL",
            "10*9/L",
            "/nL",
            "10*6/uL",
            "10^3/uL",
            "g/dL",
            "g/dl",
            "mg/dL",
            "mg/L",
            "ng/mL",
            "ug/L",
            "umol/L",
            "mmol/L",
            "meq/L",
            "U/L",
            "[IU]/L",
            "U/mL",
            "k[IU]/L",
            "kU/L",
            "mL/min/{1.73_m2}",
            "kg/m2",
            "[lb_av]",
            "[in_i]",
            "m[IU]/L",
            "{cells}/uL",
            "/mm3",
            "s",
            "min",
            "h",
            "d",
            "wk",
            "mo",
            "a",
            "1",
        ] {
            assert_eq!(judge(code), Unit::Code, "{code}");
        }
    }

    #[test]
    fn what_is_invalid_or_means_something_else_is_no_code() {
        for wild in [
            "mmHg",
            "bpm",
            "lb",
            "degF",
            "IU/L",
            "µg",
            "{pontuação}",
            "C",
            "F",
            "K/uL",
            "u/L",
            "Mg",
            "kg/m^2",
            "mL/min/1.73m2",
            "g%",
            "mg%",
            "mm Hg",
            "",
            " kg",
            "kg ",
            "mg//dL",
            "/",
            "{",
            "}",
            "{}",
            "mg{",
            "KG",
            "CEL",
            "[degF",
            "sec",
            "{a}{b}",
            "{a b}",
        ] {
            assert_ne!(judge(wild), Unit::Code, "{wild}");
        }
        assert_eq!(judge("mmHg"), Unit::LooksLike("mm[Hg]"));
        assert_eq!(judge("Mg"), Unit::Words);
    }

    #[test]
    fn a_score_and_a_temperature_are_known_however_they_are_written() {
        assert!(is_score("{score}") && is_score("pontos") && !is_score("mg") && !is_score("{beats}/min"));
        assert_eq!(temperature("°C"), Some("Cel"));
        assert_eq!(temperature("F"), Some("[degF]"));
        assert_eq!(temperature("{score}"), None);
        assert_eq!(temperature("K"), None);
    }

    #[test]
    fn whatever_looks_like_a_code_looks_like_a_real_one() {
        for (wild, code) in WILD {
            assert_eq!(judge(code), Unit::Code, "{code}");
            assert_ne!(judge(wild), Unit::Code, "{wild}");
        }
    }
}
