//! Phone numbers: E.164 where it is certain, else the text as it was given (facts CODES-AND-BRAZIL §8).

/// The number in E.164, where it is certain: a foreign one only with its `+`; a Brazilian one with area code, as a mobile
/// of nine digits beginning with 9 or a landline of eight beginning with 2 to 5. Without an area code, or as an old
/// mobile of eight digits, it is not certain.
#[must_use]
pub fn e164(text: &str) -> Option<String> {
    let text = text.trim();
    if !text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | ' ' | '(' | ')' | '-' | '.' | '/')) {
        return None;
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    match text.strip_prefix('+') {
        Some(rest) if rest.contains('+') => None,
        Some(_) if digits.starts_with("55") => digits.get(2..).and_then(brazilian),
        Some(_) => (8..=15).contains(&digits.len()).then(|| format!("+{digits}")),
        None if text.contains('+') => None,
        None => {
            let national = digits.strip_prefix('0').unwrap_or(&digits);
            let with_country = matches!(digits.len(), 12 | 13).then(|| digits.strip_prefix("55")).flatten();
            brazilian(national).or_else(|| with_country.and_then(brazilian))
        }
    }
}

/// Whether a number in E.164 is a Brazilian mobile.
#[must_use]
pub fn is_mobile(e164: &str) -> bool {
    e164.len() == 14 && e164.starts_with("+55") && e164.get(5..6) == Some("9")
}

/// Area code (two digits, neither 0) and number.
fn brazilian(national: &str) -> Option<String> {
    let (area, number) = national.split_at_checked(2)?;
    let area_good = area.bytes().all(|b| (b'1'..=b'9').contains(&b));
    let number_good = match number.len() {
        9 => number.starts_with('9'),
        8 => number.starts_with(['2', '3', '4', '5']),
        _ => false,
    };
    (area_good && number_good).then(|| format!("+55{national}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_becomes_e164() {
        let vectors = [
            ("+55 11 98765-4321", Some("+5511987654321")),
            ("0 11 98765 4321", Some("+5511987654321")),
            ("(11) 98765-4321", Some("+5511987654321")),
            ("5564984123456", Some("+5564984123456")),
            ("4532782153", Some("+554532782153")),
            ("554532782153", Some("+554532782153")),
            ("+1 415 555 2671", Some("+14155552671")),
            ("(64) 8412-3456", None),
            ("556484123456", None),
            ("98765-4321", None),
            ("+55 98765-4321", None),
            ("11 58765 4321", None),
            ("0055 11 98765-4321", None),
            ("ramal 12", None),
            ("", None),
            ("１１987654321", None),
        ];
        for (text, expected) in vectors {
            assert_eq!(e164(text).as_deref(), expected, "{text}");
        }
        assert!(is_mobile("+5511987654321") && !is_mobile("+554532782153") && !is_mobile("+14155552671"));
    }
}
