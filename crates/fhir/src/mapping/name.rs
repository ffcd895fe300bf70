//! Names of people: how one is split for FHIR, and how two are compared to show candidates.
//!
//! A split is a guess; the whole name always goes as text (facts CODES-AND-BRAZIL §8).

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A name's parts. Never an empty text among them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Parts {
    /// All given names, in order.
    pub given: Vec<String>,
    /// The last surname with the particles before it.
    pub family: Option<String>,
    /// Filho, Neto, Júnior …
    pub suffix: Option<String>,
}

const SUFFIXES: &[&str] = &["FILHO", "FILHA", "NETO", "NETA", "JUNIOR", "JR", "SOBRINHO", "SOBRINHA", "BISNETO", "BISNETA", "SEGUNDO"];
const PARTICLES: &[&str] = &["DA", "DE", "DO", "DAS", "DOS", "DI", "DEL", "D"];
const DROPPED: &[&str] = &["DA", "DE", "DO", "DAS", "DOS", "E"];

/// Splits a name: the suffix off the end, the family name as the last word with the particles before it (`e` joins two
/// surnames), the rest is given. One word is a given name. A placeholder is not split at all.
#[must_use]
pub fn split(name: &str) -> Parts {
    let mut words: Vec<&str> = name.split_whitespace().collect();
    if is_placeholder(name) {
        return Parts::default();
    }
    let suffix = match words.last() {
        Some(last) if words.len() > 2 && SUFFIXES.contains(&folded_word(last).as_str()) => words.pop(),
        _ => None,
    };
    let mut at = words.len().saturating_sub(1);
    while at > 1 {
        let before = words.get(at - 1).map(|word| folded_word(word)).unwrap_or_default();
        if PARTICLES.contains(&before.as_str()) {
            at -= 1;
        } else if before == "E" && at > 2 {
            at -= 2;
        } else {
            break;
        }
    }
    let (given, family) = words.split_at_checked(at.max(1)).unwrap_or((&words, &[]));
    let family = (!family.is_empty()).then(|| family.join(" "));
    Parts { given: given.iter().map(|word| (*word).to_owned()).collect(), family, suffix: suffix.map(str::to_owned) }
}

/// A name as it is compared: without accents, case, apostrophes, particles and other signs. Two names that fold to
/// the same text may be one person's; that makes a candidate, never a link.
#[must_use]
pub fn folded(name: &str) -> String {
    // Before the decomposition: it takes the acute accent that stands for an apostrophe apart into a space and a mark.
    let letters: String = name
        .chars()
        .filter(|c| !matches!(c, '’' | '\'' | '´' | '`' | '‘'))
        .nfkd()
        .filter(|c| !is_combining_mark(*c))
        .flat_map(char::to_uppercase)
        .map(|c| if c.is_alphabetic() { c } else { ' ' })
        .collect();
    let words: Vec<&str> = letters.split_whitespace().filter(|word| !DROPPED.contains(word)).collect();
    words.join(" ")
}

/// Whether two names are the same but for writing. Placeholders and empty names are like nobody's.
#[must_use]
pub fn same(left: &str, right: &str) -> bool {
    let folded_left = folded(left);
    !folded_left.is_empty() && folded_left == folded(right) && !is_placeholder(left) && !is_placeholder(right)
}

/// Whether a name stands for "nobody knows": a newborn under the mother's name (`RN DE …`), an unidentified person, a
/// test.
#[must_use]
pub fn is_placeholder(name: &str) -> bool {
    let words: Vec<String> = name.split_whitespace().map(folded_word).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        ["RN", ..] | ["RECEM", "NASCIDO", ..] | ["RECEMNASCIDO", ..] => true,
        [.., "TESTE"] | ["TESTE", ..] => true,
        all => {
            all.contains(&"IGNORADO")
                || all.contains(&"IGNORADA")
                || all.windows(2).any(|pair| matches!(pair, ["NAO", "IDENTIFICADO" | "IDENTIFICADA"]))
        }
    }
}

/// Whether a birth date stands for "nobody knows": 1 January 1900, or of the year 1.
#[must_use]
pub fn is_placeholder_date(birth_date: &str) -> bool {
    matches!(birth_date, "1900-01-01" | "0001-01-01" | "1901-01-01")
}

fn folded_word(word: &str) -> String {
    word.nfkd().filter(|c| c.is_alphabetic() && !is_combining_mark(*c)).flat_map(char::to_uppercase).collect()
}

impl std::fmt::Debug for Parts {
    /// How many parts, not which.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts({} given)", self.given.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(name: &str) -> (String, String, String) {
        let parts = split(name);
        (parts.given.join("|"), parts.family.unwrap_or_default(), parts.suffix.unwrap_or_default())
    }

    #[test]
    fn names_are_split_as_brazilians_write_them() {
        let vectors = [
            ("José Pereira da Silva Neto", ("José|Pereira", "da Silva", "Neto")),
            ("Maria da Conceição Santos", ("Maria|da|Conceição", "Santos", "")),
            ("João da Silva", ("João", "da Silva", "")),
            ("Ana Alcântara e Souza", ("Ana", "Alcântara e Souza", "")),
            ("Pedro d'Ávila", ("Pedro", "d'Ávila", "")),
            ("Carlos Souza Jr.", ("Carlos", "Souza", "Jr.")),
            ("Maria", ("Maria", "", "")),
            ("Maria Neto", ("Maria", "Neto", "")),
            ("  Ana   Lima ", ("Ana", "Lima", "")),
            ("da Silva", ("da", "Silva", "")),
            ("", ("", "", "")),
        ];
        for (name, (given, family, suffix)) in vectors {
            assert_eq!(parts(name), (given.to_owned(), family.to_owned(), suffix.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_placeholder_is_not_split_and_is_like_nobody() {
        for name in
            ["RN DE MARIA SOUZA", "rn Maria", "NÃO IDENTIFICADO", "Ignorado", "PACIENTE TESTE", "Recém-nascido de Ana", "Recém nascido"]
        {
            assert!(is_placeholder(name), "{name}");
            assert_eq!(split(name), Parts::default());
            assert!(!same(name, name), "{name}");
        }
        assert!(!is_placeholder("Renato Nunes") && !is_placeholder("Maria Testemunha"));
        assert!(is_placeholder_date("1900-01-01") && !is_placeholder_date("1980-01-01"));
    }

    #[test]
    fn names_compare_without_accents_case_and_particles() {
        assert_eq!(folded("João da Silva"), "JOAO SILVA");
        assert_eq!(folded("D’Ávila"), "DAVILA");
        assert!(same("JOAO SILVA", "João da Silva") && same("Ana D'Avila", "ANA D´ÁVILA") && same("Conceic\u{327}a\u{303}o", "Conceição"));
        assert!(!same("Luísa Lima", "Luiza Lima") && !same("Sant'Anna", "Santana") && !same("", ""));
        assert!(!same("Maria Silva", "Maria Silva Souza"));
    }

    proptest! {
        #[test]
        fn a_split_loses_no_word_and_makes_no_empty_one(name in "\\PC{0,40}") {
            let parts = split(&name);
            prop_assert!(parts.given.iter().chain(&parts.family).chain(&parts.suffix).all(|part| !part.trim().is_empty()));
            if !is_placeholder(&name) {
                let all: Vec<String> = parts.given.into_iter().chain(parts.family).chain(parts.suffix).collect();
                prop_assert_eq!(all.join(" "), name.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
}
