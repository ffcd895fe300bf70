//! Instants and partial dates: the sandbox's stamps, and the intervals that FHIR dates stand for in a search (search.html#date).

use time::format_description::well_known::Rfc2822;
use time::{Date, Duration, Month, OffsetDateTime, Time, UtcOffset};

/// Milliseconds since 1970 as a FHIR instant in UTC, with milliseconds (`whole_seconds`: without).
pub(crate) fn format(ms: i64, whole_seconds: bool) -> String {
    let moment = moment(ms);
    let (date, time) = (moment.date(), moment.time());
    let fraction = if whole_seconds { String::new() } else { format!(".{:03}", time.millisecond()) };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// An HTTP date (RFC 9110 §5.6.7).
pub(crate) fn http_date(ms: i64) -> String {
    let text = moment(ms).format(&Rfc2822).unwrap_or_default();
    text.replace("+0000", "GMT")
}

/// A half-open interval of milliseconds: what a date of some precision covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

impl Interval {
    /// One millisecond.
    pub(crate) fn at(ms: i64) -> Interval {
        Interval { low: ms, high: ms.saturating_add(1) }
    }
}

/// Reads `YYYY[-MM[-DD[Thh:mm[:ss[.f]][zone]]]]`; without a zone, UTC (the server's own, search.html#date).
pub(crate) fn parse(text: &str) -> Option<Interval> {
    let (day, clock) = match text.split_once(['T', ' ']) {
        Some((day, clock)) => (day, Some(clock)),
        None => (text, None),
    };
    let mut parts = day.split('-');
    let year: i32 = digits(parts.next()?, 4)?;
    let month = parts.next().map(|part| digits(part, 2));
    let date_of = parts.next().map(|part| digits(part, 2));
    if parts.next().is_some() {
        return None;
    }
    let (Some(month), Some(date_of)) = (month, date_of) else {
        if clock.is_some() {
            return None;
        }
        return match month {
            None => Some(Interval { low: midnight(year, 1, 1)?, high: midnight(year + 1, 1, 1)? }),
            Some(month) => {
                let month = month?;
                let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                Some(Interval { low: midnight(year, month, 1)?, high: midnight(next_year, next_month, 1)? })
            }
        };
    };
    let start = midnight(year, month?, date_of?)?;
    let Some(clock) = clock else {
        return Some(Interval { low: start, high: start + 86_400_000 });
    };
    let (clock, offset_minutes) = zone(clock)?;
    let (within, length) = time_of_day(clock)?;
    let low = start + within - offset_minutes * 60_000;
    Some(Interval { low, high: low + length })
}

fn moment(ms: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH.checked_add(Duration::milliseconds(ms)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn digits<T: std::str::FromStr>(text: &str, length: usize) -> Option<T> {
    (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn midnight(year: i32, month: u8, day: u8) -> Option<i64> {
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    Some(date.with_time(Time::MIDNIGHT).assume_offset(UtcOffset::UTC).unix_timestamp() * 1000)
}

fn zone(clock: &str) -> Option<(&str, i64)> {
    if let Some(rest) = clock.strip_suffix('Z') {
        return Some((rest, 0));
    }
    match clock.rfind(['+', '-']) {
        None => Some((clock, 0)),
        Some(place) => {
            let (rest, zone) = clock.split_at(place);
            let (hours, minutes) = zone[1..].split_once(':')?;
            let minutes = digits::<i64>(hours, 2)? * 60 + digits::<i64>(minutes, 2)?;
            Some((rest, if zone.starts_with('-') { -minutes } else { minutes }))
        }
    }
}

/// Milliseconds since midnight, and how long the stated precision lasts.
fn time_of_day(clock: &str) -> Option<(i64, i64)> {
    let mut parts = clock.split(':');
    let hours: i64 = digits(parts.next()?, 2)?;
    let minutes: i64 = digits(parts.next()?, 2)?;
    let seconds = parts.next();
    if parts.next().is_some() || hours > 23 || minutes > 59 {
        return None;
    }
    let base = (hours * 60 + minutes) * 60_000;
    let Some(seconds) = seconds else {
        return Some((base, 60_000));
    };
    let (whole, fraction) = match seconds.split_once('.') {
        None => (seconds, None),
        Some((whole, fraction)) => (whole, Some(fraction)),
    };
    let whole: i64 = digits(whole, 2)?;
    if whole > 60 {
        return None;
    }
    let base = base + whole * 1000;
    match fraction {
        None => Some((base, 1000)),
        Some(fraction) => {
            if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let padded: String = fraction.chars().chain("000".chars()).take(3).collect();
            let length = 10_i64.pow(3 - fraction.len().min(3) as u32);
            Some((base + padded.parse::<i64>().ok()?, length))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_as_its_own_millisecond() {
        let ms = 1_700_000_000_123;
        assert_eq!(format(ms, false), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse(&format(ms, false)), Some(Interval::at(ms)));
        assert_eq!(format(ms, true), "2023-11-14T22:13:20Z");
        assert_eq!(http_date(ms), "Tue, 14 Nov 2023 22:13:20 GMT");
    }

    #[test]
    fn a_date_covers_as_much_as_its_precision_leaves_open() {
        let day = 86_400_000;
        let year = parse("2024").unwrap();
        assert_eq!(year.high - year.low, 366 * day);
        let month = parse("2023-12").unwrap();
        assert_eq!(month.high - month.low, 31 * day);
        let date = parse("2024-02-29").unwrap();
        assert_eq!(date.high - date.low, day);
        assert_eq!(parse("2023-02-29"), None);
        assert_eq!(parse("2024-01-01T10"), None);
    }

    #[test]
    fn offsets_move_the_moment() {
        assert_eq!(parse("2024-01-01T00:00:00-03:00").unwrap().low, parse("2024-01-01T03:00:00Z").unwrap().low);
    }
}
