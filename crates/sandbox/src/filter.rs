//! Search parameters: reading them, and judging a stored resource by them (FHIR R4 search.html).

use crate::instant::{self, Interval};
use crate::json::{Json, items, str_at};
use crate::ledger::local;
use crate::outcome::Refusal;
use crate::twin::{Row, subjects};

/// One search parameter with its values, any of which will do.
#[derive(Debug, Clone)]
pub(crate) enum Filter {
    Ids(Vec<String>),
    Identifiers(Vec<Token>),
    Codes { element: &'static str, any: Vec<Token>, not: bool },
    Subjects { any: Vec<String>, patients_only: bool },
    Dates { stamp: bool, any: Vec<(Prefix, Interval)> },
    Texts { parameter: Text, any: Vec<String>, mode: Mode },
    Missing { element: &'static str, missing: bool },
}

/// `system|value` in its four forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// None: any; empty: none at all.
    system: Option<String>,
    /// None: any.
    pub(crate) value: Option<String>,
}

/// The comparison in front of a date (search.html#prefix).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    Sa,
    Eb,
    Ap,
}

/// The string parameters of Patient, and its telecoms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    Name,
    Family,
    Given,
    Telecom(Option<&'static str>),
}

/// How a string has to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Begins,
    Contains,
    Exact,
}

/// How this server reads values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) escapes: bool,
    /// A stamp with whole seconds is compared as the very instant, so that `gt` gives its own second again.
    pub(crate) whole_seconds: bool,
    pub(crate) last_updated: bool,
}

impl Filter {
    /// Reads a parameter of this resource type; `None` where the type has no such parameter.
    pub(crate) fn parse(kind: &str, parameter: &str, value: &str, reading: Reading) -> Result<Option<Filter>, Refusal> {
        let (name, modifier) = match parameter.split_once(':') {
            Some((name, modifier)) => (name, Some(modifier)),
            None => (parameter, None),
        };
        let patient = kind == "Patient";
        let tokens = || -> Vec<Token> { split(value, ',', reading.escapes).iter().map(|one| Token::parse(one, reading.escapes)).collect() };
        let texts = || -> Vec<String> { split(value, ',', reading.escapes).iter().map(|one| unescape(one, reading.escapes)).collect() };
        let filter = match (name, modifier) {
            ("identifier" | "code" | "status" | "category" | "gender" | "birthdate" | "date", Some("missing")) => {
                Filter::Missing { element: element_of(kind, name), missing: value == "true" }
            }
            ("_id", None) => Filter::Ids(texts()),
            ("identifier", None) => Filter::Identifiers(tokens()),
            ("_lastUpdated", None) if reading.last_updated => {
                Filter::Dates { stamp: true, any: dates(parameter, value, reading.whole_seconds)? }
            }
            ("birthdate", None) if patient => Filter::Dates { stamp: false, any: dates(parameter, value, false)? },
            ("name" | "family" | "given" | "telecom" | "phone" | "email", modifier) if patient => Filter::Texts {
                parameter: match name {
                    "name" => Text::Name,
                    "family" => Text::Family,
                    "given" => Text::Given,
                    "phone" => Text::Telecom(Some("phone")),
                    "email" => Text::Telecom(Some("email")),
                    _ => Text::Telecom(None),
                },
                any: texts(),
                mode: match modifier {
                    None => Mode::Begins,
                    Some("contains") => Mode::Contains,
                    Some("exact") => Mode::Exact,
                    Some(other) => return Err(bad_modifier(name, other)),
                },
            },
            ("gender" | "active", None | Some("not")) if patient => {
                Filter::Codes { element: element_of(kind, name), any: tokens(), not: modifier.is_some() }
            }
            ("code" | "category" | "status", None | Some("not")) if !patient => {
                Filter::Codes { element: element_of(kind, name), any: tokens(), not: modifier.is_some() }
            }
            ("date", None) if !patient => Filter::Dates { stamp: false, any: dates(parameter, value, false)? },
            ("patient", None) | ("subject", None | Some("Patient")) if !patient => {
                Filter::Subjects { any: texts(), patients_only: name == "patient" || modifier.is_some() }
            }
            (
                "_id" | "identifier" | "_lastUpdated" | "code" | "category" | "status" | "date" | "patient" | "subject" | "birthdate"
                | "gender" | "active",
                Some(other),
            ) => {
                return Err(bad_modifier(name, other));
            }
            _ => return Ok(None),
        };
        Ok(Some(filter))
    }

    pub(crate) fn matches(&self, row: &Row, body: &Json, now: i64) -> bool {
        match self {
            Filter::Ids(any) => any.contains(&row.id),
            Filter::Identifiers(any) => {
                items(body, "identifier").iter().any(|one| any.iter().any(|token| token.fits(str_at(one, "system"), str_at(one, "value"))))
            }
            Filter::Codes { element, any, not } => code_matches(body, element, any) != *not,
            Filter::Subjects { any, patients_only } => subjects(body).any(|reference| {
                let reference = local(reference);
                let patient = reference.strip_prefix("Patient/");
                any.iter().any(|wanted| match wanted.contains('/') {
                    true => local(wanted) == reference,
                    false if *patients_only => patient == Some(wanted),
                    false => reference.rsplit('/').next() == Some(wanted),
                })
            }),
            Filter::Dates { stamp: true, any } => {
                row.current().is_some_and(|version| any.iter().any(|(prefix, asked)| prefix.fits(*asked, Interval::at(version.at), now)))
            }
            Filter::Dates { any, .. } => {
                clinical_date(body).is_some_and(|own| any.iter().any(|(prefix, asked)| prefix.fits(*asked, own, now)))
            }
            Filter::Texts { parameter, any, mode } => {
                let own = parameter.values(body);
                any.iter().any(|wanted| own.iter().any(|text| mode.fits(text, wanted, *parameter)))
            }
            Filter::Missing { element, missing } => {
                let there = match *element {
                    "effective" => clinical_date(body).is_some(),
                    element => body.get(element).is_some(),
                };
                there != *missing
            }
        }
    }
}

impl Token {
    fn parse(text: &str, escapes: bool) -> Token {
        let parts = split(text, '|', escapes);
        let read = |part: &String| unescape(part, escapes);
        match parts.as_slice() {
            [value] => Token { system: None, value: Some(read(value)) },
            [system, rest @ ..] => {
                let value = rest.iter().map(read).collect::<Vec<_>>().join("|");
                Token { system: Some(read(system)), value: (!value.is_empty()).then_some(value) }
            }
            [] => Token { system: None, value: None },
        }
    }

    fn fits(&self, system: Option<&str>, value: Option<&str>) -> bool {
        let system_fits = match &self.system {
            None => true,
            Some(wanted) => wanted == system.unwrap_or(""),
        };
        system_fits
            && match &self.value {
                None => value.is_some(),
                Some(wanted) => Some(wanted.as_str()) == value,
            }
    }
}

impl Prefix {
    /// Compares the asked interval with the stored one (search.html#prefix).
    fn fits(self, asked: Interval, own: Interval, now: i64) -> bool {
        let inside = own.low >= asked.low && own.high <= asked.high;
        match self {
            Prefix::Eq => inside,
            Prefix::Ne => !inside,
            Prefix::Gt => own.high > asked.high,
            Prefix::Lt => own.low < asked.low,
            Prefix::Ge => own.high > asked.high || inside,
            Prefix::Le => own.low < asked.low || inside,
            Prefix::Sa => own.low >= asked.high,
            Prefix::Eb => own.high <= asked.low,
            // "10% of the gap between now and the date" is the specification's own recommendation.
            Prefix::Ap => {
                let slack = (now - asked.low).abs() / 10;
                own.low < asked.high.saturating_add(slack) && own.high > asked.low.saturating_sub(slack)
            }
        }
    }
}

impl Text {
    fn values(self, body: &Json) -> Vec<&str> {
        match self {
            Text::Telecom(system) => items(body, "telecom")
                .iter()
                .filter(|one| system.is_none() || str_at(one, "system") == system)
                .filter_map(|one| str_at(one, "value"))
                .collect(),
            Text::Name | Text::Family | Text::Given => {
                let mut values = Vec::new();
                for name in items(body, "name") {
                    if self != Text::Given {
                        values.extend(str_at(name, "family"));
                    }
                    if self != Text::Family {
                        values.extend(items(name, "given").iter().filter_map(Json::as_str));
                    }
                    if self == Text::Name {
                        values.extend(str_at(name, "text"));
                    }
                }
                values
            }
        }
    }
}

impl Mode {
    fn fits(self, own: &str, wanted: &str, parameter: Text) -> bool {
        if self == Mode::Exact || matches!(parameter, Text::Telecom(_)) {
            return own == wanted;
        }
        let (own, wanted) = (own.to_lowercase(), wanted.to_lowercase());
        match self {
            Mode::Contains => own.contains(&wanted),
            _ => own.starts_with(&wanted) || own.split_whitespace().any(|word| word.starts_with(&wanted)),
        }
    }
}

/// The clinically relevant time: `effective[x]`, or what stands for it in other types; Patient: `birthDate`.
pub(crate) fn clinical_date(body: &Json) -> Option<Interval> {
    for name in [
        "effectiveDateTime",
        "effectiveInstant",
        "date",
        "occurrenceDateTime",
        "performedDateTime",
        "recordedDate",
        "birthDate",
        "authoredOn",
    ] {
        if let Some(text) = str_at(body, name) {
            return instant::parse(text);
        }
    }
    for name in ["effectivePeriod", "period", "occurrencePeriod", "performedPeriod"] {
        if let Some(period) = body.get(name) {
            return Some(Interval {
                low: str_at(period, "start").and_then(instant::parse).map_or(i64::MIN, |start| start.low),
                high: str_at(period, "end").and_then(instant::parse).map_or(i64::MAX, |end| end.high),
            });
        }
    }
    let events: Vec<Interval> =
        items(body.get("effectiveTiming")?, "event").iter().filter_map(|event| instant::parse(event.as_str()?)).collect();
    Some(Interval { low: events.iter().map(|event| event.low).min()?, high: events.iter().map(|event| event.high).max()? })
}

fn element_of(kind: &str, parameter: &str) -> &'static str {
    match (kind, parameter) {
        (_, "identifier") => "identifier",
        ("Condition", "status") => "clinicalStatus",
        ("Encounter", "code" | "category") => "type",
        (_, "status") => "status",
        (_, "category") => "category",
        (_, "gender") => "gender",
        (_, "active") => "active",
        (_, "birthdate") => "birthDate",
        (_, "date") => "effective",
        _ => "code",
    }
}

fn code_matches(body: &Json, element: &str, any: &[Token]) -> bool {
    items(body, element).iter().any(|one| match one {
        Json::String(code) => any.iter().any(|token| token.value.as_deref() == Some(code)),
        Json::Bool(flag) => any.iter().any(|token| token.value.as_deref() == Some(if *flag { "true" } else { "false" })),
        concept => items(concept, "coding")
            .iter()
            .any(|coding| any.iter().any(|token| token.fits(str_at(coding, "system"), str_at(coding, "code")))),
    })
}

fn dates(parameter: &str, value: &str, whole_seconds: bool) -> Result<Vec<(Prefix, Interval)>, Refusal> {
    value
        .split(',')
        .map(|one| {
            let (prefix, text) = split_prefix(one);
            let mut interval =
                instant::parse(text).ok_or_else(|| Refusal::new(400, "invalid", format!("The value of `{parameter}` is not a date.")))?;
            if whole_seconds && text.contains('T') {
                interval = Interval::at(interval.low);
            }
            Ok((prefix, interval))
        })
        .collect()
}

fn split_prefix(text: &str) -> (Prefix, &str) {
    let named = [
        ("eq", Prefix::Eq),
        ("ne", Prefix::Ne),
        ("gt", Prefix::Gt),
        ("lt", Prefix::Lt),
        ("ge", Prefix::Ge),
        ("le", Prefix::Le),
        ("sa", Prefix::Sa),
        ("eb", Prefix::Eb),
        ("ap", Prefix::Ap),
    ];
    named.into_iter().find_map(|(name, prefix)| Some((prefix, text.strip_prefix(name)?))).unwrap_or((Prefix::Eq, text))
}

fn bad_modifier(name: &str, modifier: &str) -> Refusal {
    Refusal::new(400, "not-supported", format!("The modifier `:{modifier}` of `{name}` is not supported."))
}

/// Splits at each separator that no backslash stands before; escapes stay for [`unescape`].
fn split(text: &str, separator: char, escapes: bool) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for letter in text.chars() {
        if letter == separator && !escaped {
            parts.push(String::new());
            continue;
        }
        if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
        escaped = escapes && letter == '\\' && !escaped;
    }
    parts
}

fn unescape(text: &str, escapes: bool) -> String {
    if !escapes || !text.contains('\\') {
        return text.to_owned();
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '\\' {
            plain.extend(letters.next());
        } else {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests;
