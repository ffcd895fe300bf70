//! A decimal that keeps its digits: `1.10` stays `1.10` (FHIR R4 datatypes, `decimal`: precision is meaning).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A JSON number kept as it was written, but that `1e3` is written `1e+3`. Never goes through a binary float.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decimal(serde_json::Number);

impl Decimal {
    /// Reads a decimal by FHIR's grammar `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`, which is JSON's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str::<serde_json::Number>(text).ok().map(Self)
    }

    /// The JSON number.
    #[must_use]
    pub fn number(&self) -> &serde_json::Number {
        &self.0
    }

    /// Whether both stand for the same number, whatever their digits: `1.10` and `1.1`, `1e3` and `1000`.
    #[must_use]
    pub fn same_value(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.0.to_string(), other.0.to_string());
        match (normal(&ours), normal(&theirs)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            // A power of ten beyond all counting: equal if written alike.
            _ => ours == theirs,
        }
    }

    /// The number as an `f64`, for thresholds only; never to be sent on.
    #[must_use]
    pub fn approximate(&self) -> f64 {
        self.0.to_string().parse().unwrap_or(f64::NAN)
    }
}

impl From<serde_json::Number> for Decimal {
    fn from(number: serde_json::Number) -> Self {
        Self(number)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Sign, significant digits without zeros at either end, and the power of ten of the last of them; `None` where that power
/// is beyond an `i64`.
fn normal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let fraction_len = i64::try_from(fraction.len()).unwrap_or(0);
    let trimmed = digits.trim_start_matches('0');
    let significant = trimmed.trim_end_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let exponent = exponent.map_or(Some(0), |text| text.parse::<i64>().ok())?;
    let dropped = i64::try_from(trimmed.len() - significant.len()).unwrap_or(0);
    Some((negative, significant.to_owned(), exponent.checked_sub(fraction_len)?.checked_add(dropped)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_survive_and_values_compare() {
        for text in ["1.10", "0.010", "-0.0", "123456789012345678901234567890.123"] {
            let decimal = Decimal::parse(text).unwrap();
            assert_eq!(serde_json::to_string(&decimal).unwrap(), text);
        }
        let same = |a: &str, b: &str| Decimal::parse(a).unwrap().same_value(&Decimal::parse(b).unwrap());
        assert!(same("1.10", "1.1") && same("1e3", "1000") && same("100.00", "1E2") && same("-0.0", "0"));
        // Powers of ten beyond an i64: not one of them is 1.
        assert!(!same("1e99999999999999999999", "1") && !same("1e99999999999999999999", "1e-99999999999999999999"));
        assert!(same("2e99999999999999999999", "2e99999999999999999999") && same("0e99999999999999999999", "0"));
        assert!(!same("1e9223372036854775807", "10e9223372036854775807"));
        assert!(!same("1.10", "1.01") && !same("-1", "1") && !same("10", "1"));
    }

    #[test]
    fn what_json_refuses_is_no_decimal() {
        for text in ["+1", ".5", "5.", "01", "NaN", "1,5", "", " "] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }
}
