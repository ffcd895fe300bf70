//! The grammar of FHIR's primitive types, anchored and with the calendar (R4 datatypes; its regular expressions are
//! informative, unanchored, and let 30 February pass).
//!
//! A date's precision is information: `2024-05` is not 1 May, and nothing here makes it so.

use model::Timestamp;
use std::cmp::Ordering;

/// A FHIR `date`: a year, a month of it, or a day of that. No zone, never a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// 1 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: Option<u8>,
    /// 1 to 31, a real day of its month.
    pub day: Option<u8>,
}

/// A FHIR `time`: `hh:mm:ss`, with as many digits of a fraction as were written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TimeOfDay {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60: a leap second is allowed.
    pub second: u8,
    /// The digits behind the point.
    pub fraction: Option<String>,
}

/// A FHIR `dateTime`: a date of any precision, or a moment with its offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DateTime {
    /// The date as written, in its own offset.
    pub date: Date,
    /// The time and the minutes east of UTC, where there is a time.
    pub time: Option<(TimeOfDay, i16)>,
}

/// Reads a FHIR `date`: `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, and only days that exist.
#[must_use]
pub fn date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = parts.next().map(|m| digits(m, 2)).map_or(Some(None), |m| m.map(Some))?;
    let day = parts.next().map(|d| digits(d, 2)).map_or(Some(None), |d| d.map(Some))?;
    if parts.next().is_some() || year == 0 {
        return None;
    }
    let month = month.map(|m| u8::try_from(m).ok()).map_or(Some(None), |m| m.map(Some))?;
    let day = day.map(|d| u8::try_from(d).ok()).map_or(Some(None), |d| d.map(Some))?;
    let good = match (month, day) {
        (None, _) => day.is_none(),
        (Some(month), None) => (1..=12).contains(&month),
        (Some(month), Some(day)) => (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month),
    };
    good.then_some(Date { year, month, day })
}

/// Reads a FHIR `time`: `hh:mm:ss` and perhaps a fraction; no zone, no `24:00`.
#[must_use]
pub fn time(text: &str) -> Option<TimeOfDay> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    if fraction.is_some_and(|f| f.is_empty() || !f.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let mut parts = clock.split(':');
    let mut next = |most: u16| digits(parts.next()?, 2).filter(|n| *n <= most).and_then(|n| u8::try_from(n).ok());
    let (hour, minute, second) = (next(23)?, next(59)?, next(60)?);
    parts.next().is_none().then(|| TimeOfDay { hour, minute, second, fraction: fraction.map(str::to_owned) })
}

/// Reads a FHIR `dateTime`. A time needs seconds and a zone, and a time needs a whole date before it.
#[must_use]
pub fn date_time(text: &str) -> Option<DateTime> {
    let Some((day, rest)) = text.split_once('T') else {
        return Some(DateTime { date: date(text)?, time: None });
    };
    let date = date(day).filter(|d| d.day.is_some())?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (clock, zone) = rest.split_at_checked(zone_at)?;
    Some(DateTime { date, time: Some((time(clock)?, offset(zone)?)) })
}

/// Reads a FHIR `instant`: a moment, known at least to the second, with its offset.
#[must_use]
pub fn instant(text: &str) -> Option<DateTime> {
    date_time(text).filter(|at| at.time.is_some())
}

/// The moment in milliseconds, of an `instant` or a `dateTime` with a time. Rounded down; a leap second counts as the
/// last millisecond before it, so that a search from there on leaves nothing out.
#[must_use]
pub fn timestamp(text: &str) -> Option<Timestamp> {
    let (minute, second, fraction) = moment(&instant(text)?)?;
    if second == 60 {
        return Some(Timestamp(minute * 60_000 + 59_999));
    }
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    Some(Timestamp(minute * 60_000 + i64::from(second) * 1000 + millis.parse::<i64>().ok()?))
}

/// Which of two moments is earlier, whatever their offsets and however many digits they have; `None` where one of
/// them is no moment. A leap second lies between second 59 and the next minute.
#[must_use]
pub fn compare_instants(left: &str, right: &str) -> Option<Ordering> {
    Some(moment(&instant(left)?)?.cmp(&moment(&instant(right)?)?))
}

/// Whether a text is a FHIR `id`: 1 to 64 of `A-Z a-z 0-9 - .`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// Whether a text is a FHIR `code`: not empty, no space at either end, no two spaces together.
#[must_use]
pub fn is_code(text: &str) -> bool {
    let mut before_space = true;
    for c in text.chars() {
        let space = c.is_whitespace();
        if space && (before_space || c != ' ') {
            return false;
        }
        before_space = space;
    }
    !before_space
}

/// Whether a text is a FHIR `uri`: not empty and without spaces.
#[must_use]
pub fn is_uri(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_whitespace)
}

/// Whether a text is a FHIR `string`: up to 1,048,576 characters, not only spaces, no control characters but tab,
/// carriage return and line feed (R4 datatypes, `string`).
#[must_use]
pub fn is_string(text: &str) -> bool {
    text.chars().count() <= 1_048_576
        && text.chars().any(|c| !c.is_whitespace())
        && text.chars().all(|c| c >= ' ' || matches!(c, '\t' | '\r' | '\n'))
}

impl Date {
    /// Whether it names one day.
    #[must_use]
    pub fn is_day(self) -> bool {
        self.day.is_some()
    }
}

/// Minutes since 1970-01-01T00:00Z, the second, and the fraction without closing zeros.
fn moment(at: &DateTime) -> Option<(i64, u8, String)> {
    let (time, offset) = at.time.as_ref()?;
    let (month, day) = (at.date.month?, at.date.day?);
    let minutes =
        days_since_1970(at.date.year, month, day) * 1440 + i64::from(time.hour) * 60 + i64::from(time.minute) - i64::from(*offset);
    let fraction = time.fraction.as_deref().unwrap_or("").trim_end_matches('0');
    Some((minutes, time.second, fraction.to_owned()))
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar.
fn days_since_1970(year: u16, month: u8, day: u8) -> i64 {
    let before = i64::from(year) - 1;
    let leap_days = before / 4 - before / 100 + before / 400;
    let in_year: i64 = (1..month).map(|m| i64::from(days_in(year, m))).sum();
    before * 365 + leap_days + in_year + i64::from(day) - 1 - 719_162
}

fn days_in(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn offset(zone: &str) -> Option<i16> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('+') { 1 } else { -1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let minutes = digits(hours, 2)? * 60 + digits(minutes, 2).filter(|m| *m <= 59)?;
    (minutes <= 14 * 60).then_some(sign * i16::try_from(minutes).ok()?)
}

fn digits(text: &str, want: usize) -> Option<u16> {
    (text.len() == want && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_date_keeps_its_precision_and_must_exist() {
        assert_eq!(date("2024"), Some(Date { year: 2024, month: None, day: None }));
        assert_eq!(date("2024-05"), Some(Date { year: 2024, month: Some(5), day: None }));
        assert!(date("2024-02-29").is_some_and(Date::is_day));
        for bad in ["2023-02-29", "1900-02-29", "2024-02-30", "2024-04-31", "2024-13-01", "2024-00-01", "2024-01-00", "0000", "0000-01-01"]
        {
            assert_eq!(date(bad), None, "{bad}");
        }
        for bad in ["", "24", "02024", "2024-5-1", "2024-05-01-01", "2024/05/01", "01/05/2024", "2024-05-01Z", " 2024", "２０２４", "2024-"]
        {
            assert_eq!(date(bad), None, "{bad}");
        }
        assert!(date("2000-02-29").is_some());
    }

    #[test]
    fn a_time_needs_seconds_and_a_zone() {
        for good in
            ["2024-05-01T10:00:00Z", "2024-05-01T10:00:00.1234567-03:00", "2016-12-31T23:59:60Z", "2024-05-01T00:00:00+14:00", "2024-05"]
        {
            assert!(date_time(good).is_some(), "{good}");
        }
        for bad in [
            "2024-05-01T10:00Z",
            "2024-05-01T10:00:00",
            "2024-05-01T24:00:00Z",
            "2024-05-01T10:00:00+14:01",
            "2024-05-01T10:00:00-3:00",
            "2024-05T10:00:00Z",
            "2024-02-30T10:00:00Z",
            "2024-05-01 10:00:00Z",
            "2024-05-01T10:00:00.Z",
            "2024-05-01T10:00:00+",
            "2024-05-01T10:00:00−03:00",
            "2024-05-01T10:00:61Z",
        ] {
            assert!(date_time(bad).is_none(), "{bad}");
        }
        assert!(instant("2024-05-01").is_none() && instant("2024-05-01T10:00:00Z").is_some());
        assert!(time("10:00:00").is_some() && time("10:00").is_none() && time("10:00:00Z").is_none());
    }

    #[test]
    fn moments_compare_across_offsets_fractions_and_leap_seconds() {
        let cmp = |a, b| compare_instants(a, b);
        assert_eq!(cmp("2024-05-01T10:00:00-03:00", "2024-05-01T13:00:00Z"), Some(Ordering::Equal));
        assert_eq!(cmp("2024-05-01T10:00:00.10Z", "2024-05-01T10:00:00.1Z"), Some(Ordering::Equal));
        assert_eq!(cmp("2024-05-01T10:00:00.09Z", "2024-05-01T10:00:00.1Z"), Some(Ordering::Less));
        assert_eq!(cmp("2016-12-31T23:59:59.999Z", "2016-12-31T23:59:60Z"), Some(Ordering::Less));
        assert_eq!(cmp("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00Z"), Some(Ordering::Less));
        assert_eq!(cmp("2024-05-01", "2024-05-01T10:00:00Z"), None);
        assert_eq!(timestamp("2016-12-31T23:59:60Z"), timestamp("2016-12-31T23:59:59.999Z"));
        assert_eq!(timestamp("1970-01-01T00:00:00.0019999Z"), Some(Timestamp(1)));
    }

    #[test]
    fn ids_codes_uris_and_strings_have_their_own_grammar() {
        assert!(is_id("a-1.B") && !is_id("") && !is_id("a_b") && !is_id(&"x".repeat(65)) && !is_id("é"));
        assert!(
            is_code("final") && is_code("a b") && !is_code(" a") && !is_code("a ") && !is_code("a  b") && !is_code("") && !is_code("a\tb")
        );
        assert!(is_uri("urn:x") && !is_uri("") && !is_uri("a b"));
        assert!(is_string(" a ") && is_string("a\n") && !is_string(" \n") && !is_string("") && !is_string("a\u{0}"));
    }

    proptest! {
        #[test]
        fn our_moments_are_those_of_rfc_3339(ms in -62_000_000_000_000i64..250_000_000_000_000) {
            let text = Timestamp(ms).rfc3339();
            prop_assert_eq!(timestamp(&text), Some(Timestamp(ms)));
        }

        #[test]
        fn no_text_makes_it_fall(text in ".{0,40}") {
            let _ = (date(&text), time(&text), date_time(&text), timestamp(&text), is_id(&text), is_code(&text), is_string(&text));
        }
    }
}
