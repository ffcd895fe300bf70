//! Licence expressions (SPDX 2.3, annex D), as far as crates use them: names, `AND`, `OR`, `WITH`, brackets, and the old slash.

use std::iter::Peekable;
use std::vec::IntoIter;

/// Whether the expression can be met by allowed licences alone.
///
/// # Errors
/// When it cannot be read.
pub fn allowed(expression: &str, allow: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<String> = spaced.split_whitespace().map(str::to_owned).collect();
    let mut words = words.into_iter().peekable();
    let good = either(&mut words, allow)?;
    match words.next() {
        None => Ok(good),
        Some(word) => Err(format!("`{word}` is unexpected in `{expression}`")),
    }
}

fn either(words: &mut Peekable<IntoIter<String>>, allow: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut good = both(words, allow)?;
    while words.next_if(|word| word == "OR").is_some() {
        good |= both(words, allow)?;
    }
    Ok(good)
}

fn both(words: &mut Peekable<IntoIter<String>>, allow: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut good = one(words, allow)?;
    while words.next_if(|word| word == "AND").is_some() {
        good &= one(words, allow)?;
    }
    Ok(good)
}

fn one(words: &mut Peekable<IntoIter<String>>, allow: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let word = words.next().ok_or("a licence is missing")?;
    if word == "(" {
        let good = either(words, allow)?;
        return words.next_if(|word| word == ")").map(|_| good).ok_or_else(|| "a bracket is not closed".to_owned());
    }
    if words.next_if(|word| word == "WITH").is_some() {
        let exception = words.next().ok_or("an exception is missing")?;
        return Ok(allow(&format!("{word} WITH {exception}")) || allow(&word));
    }
    Ok(allow(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_met_by_one_side_of_or_and_by_both_of_and() {
        let allow = |name: &str| ["MIT", "ISC"].contains(&name);
        for (text, good) in [
            ("MIT", true),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("(GPL-3.0 OR MIT) AND ISC", true),
            ("Apache-2.0 WITH LLVM-exception OR MIT", true),
            ("GPL-3.0", false),
        ] {
            assert_eq!(allowed(text, &allow), Ok(good), "{text}");
        }
        assert!(allowed("(MIT", &allow).is_err());
        assert!(allowed("MIT ISC", &allow).is_err());
    }
}
