//! CPF and CNS: Brazil's two national identifiers of a person, with their check digits.
//!
//! A check digit proves typing, never identity. Sources: Receita Federal's modulo 11 for the CPF, e-SUS APS
//! `algoritmo_CNS` for the CNS.

use std::fmt;

/// A CPF with right check digits: 11 ASCII digits, no mask. It cannot be printed whole by accident:
/// `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cpf(String);

/// A CNS with a right checksum: 15 ASCII digits. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cns(String);

/// Why a text is not a CPF or CNS, as a sentence for whoever typed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNumber {
    /// Something else than digits and the usual `.`, `-`, `/` and spaces.
    #[error("it may hold only digits, dots, hyphens and spaces")]
    NotDigits,
    /// Too short: usually a leading zero that a spreadsheet ate.
    #[error("it has too few digits; did a spreadsheet drop leading zeros?")]
    TooShort,
    /// Too long.
    #[error("it has too many digits")]
    TooLong,
    /// All digits equal, or a first digit that is never issued.
    #[error("this number is never issued")]
    NeverIssued,
    /// The check digits do not fit.
    #[error("its check digits do not fit: one digit is probably mistyped")]
    CheckDigit,
}

impl Cpf {
    /// Reads a CPF, with or without its mask.
    ///
    /// # Errors
    /// When it is not one; the sentence says why.
    pub fn parse(text: &str) -> Result<Self, BadNumber> {
        let digits = digits(text, 11)?;
        if digits.windows(2).all(|pair| pair[0] == pair[1]) {
            return Err(BadNumber::NeverIssued);
        }
        if digits[9..] == cpf_tail(&digits[..9]) { Ok(Self(text_of(&digits))) } else { Err(BadNumber::CheckDigit) }
    }

    /// The CPF that begins with these nine digits, for people who do not exist.
    ///
    /// # Errors
    /// When they are not nine digits, or all equal.
    pub fn beginning_with(nine: &str) -> Result<Self, BadNumber> {
        let mut digits = digits(nine, 9)?;
        digits.extend(cpf_tail(&digits));
        Self::parse(&text_of(&digits))
    }

    /// The 11 digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }
}

impl Cns {
    /// Reads a CNS.
    ///
    /// # Errors
    /// When it is not one; the sentence says why.
    pub fn parse(text: &str) -> Result<Self, BadNumber> {
        let digits = digits(text, 15)?;
        let fits = match digits[0] {
            1 | 2 => definitive_tail(&digits[..11]) == digits[11..],
            7..=9 => weighted_sum(&digits).is_multiple_of(11),
            _ => return Err(BadNumber::NeverIssued),
        };
        if digits.windows(2).all(|pair| pair[0] == pair[1]) {
            return Err(BadNumber::NeverIssued);
        }
        if fits { Ok(Self(text_of(&digits))) } else { Err(BadNumber::CheckDigit) }
    }

    /// The 15 digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cpf(***)")
    }
}

impl fmt::Debug for Cns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cns(***)")
    }
}

/// The two check digits behind the first nine.
fn cpf_tail(nine: &[u8]) -> [u8; 2] {
    let check = |digits: &[u8]| {
        let sum: u32 = digits.iter().rev().zip(2..).map(|(&d, w)| u32::from(d) * w).sum();
        let rest = sum % 11;
        if rest < 2 { 0 } else { (11 - rest) as u8 }
    };
    let first = check(nine);
    [first, check(&[nine, &[first]].concat())]
}

fn digits(text: &str, want: usize) -> Result<Vec<u8>, BadNumber> {
    let mut digits = Vec::with_capacity(want);
    for c in text.trim().chars() {
        match c {
            '0'..='9' => digits.push(c as u8 - b'0'),
            '.' | '-' | ' ' | '/' => {}
            _ => return Err(BadNumber::NotDigits),
        }
    }
    match digits.len().cmp(&want) {
        std::cmp::Ordering::Less => Err(BadNumber::TooShort),
        std::cmp::Ordering::Greater => Err(BadNumber::TooLong),
        std::cmp::Ordering::Equal => Ok(digits),
    }
}

fn text_of(digits: &[u8]) -> String {
    digits.iter().map(|d| char::from(b'0' + d)).collect()
}

fn weighted_sum(digits: &[u8]) -> u32 {
    digits.iter().zip((1..=15u32).rev()).map(|(&d, w)| u32::from(d) * w).sum()
}

/// The four digits behind a definitive CNS's PIS number.
fn definitive_tail(pis: &[u8]) -> [u8; 4] {
    let sum = weighted_sum(pis);
    let check = |sum: u32| match 11 - sum % 11 {
        11 => 0,
        other => other as u8,
    };
    match check(sum) {
        10 => [0, 0, 1, check(sum + 2)],
        digit => [0, 0, 0, digit],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cpf_vectors() {
        for good in ["52998224725", "529.982.247-25", "11144477735", "12345678909", "98765432100", "00000000191"] {
            assert!(Cpf::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["52998224726", "52998224752", "11111111111", "00000000000", "12345678901", "1234567890", "123456789012", "５２９98224725"]
        {
            assert!(Cpf::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nine_digits_get_their_check_digits() {
        for whole in ["52998224725", "11144477735", "98765432100", "00000000191"] {
            assert_eq!(Cpf::beginning_with(&whole[..9]).unwrap().digits(), whole);
        }
        for bad in ["111111111", "12345678", "1234567890", "12345678x"] {
            assert!(Cpf::beginning_with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cns_vectors() {
        for good in [
            "123456789010000",
            "100000000060018",
            "200000000000003",
            "700000000000005",
            "700500572752652",
            "898000000043208",
            "900000000000008",
        ] {
            assert!(Cns::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "700500572752653",
            "298765432100006",
            "201115198760008",
            "765432109876543",
            "987654321098765",
            "300000000000000",
            "000000000000000",
            "777777777777777",
        ] {
            assert!(Cns::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn one_wrong_digit_of_a_cpf_is_seen(at in 0usize..11, by in 1u8..10) {
            let mut digits: Vec<u8> = "52998224725".bytes().collect();
            digits[at] = b'0' + (digits[at] - b'0' + by) % 10;
            prop_assert!(Cpf::parse(&String::from_utf8(digits).unwrap()).is_err());
        }
    }
}
