//! Dates, times and decimals: what is read is what is written, digit for digit.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]

use fhir::primitive::{compare_instants, date, date_time, instant, time, timestamp};
use libfuzzer_sys::fuzz_target;
use model::{Decimal, Timestamp};
use std::cmp::Ordering;

fuzz_target!(|text: &str| {
    if let Some(read) = date(text) {
        let written = [Some(format!("{:04}", read.year)), read.month.map(|m| format!("{m:02}")), read.day.map(|d| format!("{d:02}"))];
        assert_eq!(written.into_iter().flatten().collect::<Vec<_>>().join("-"), text);
    }
    if let Some(read) = time(text) {
        let fraction = read.fraction.map(|digits| format!(".{digits}")).unwrap_or_default();
        assert_eq!(format!("{:02}:{:02}:{:02}{fraction}", read.hour, read.minute, read.second), text);
    }
    assert!(instant(text).is_none() || date_time(text).is_some());
    if let Some(at) = timestamp(text) {
        assert_eq!(compare_instants(text, text), Some(Ordering::Equal));
        let written = at.rfc3339();
        // Years outside of 1 to 9999 can be reached by an offset; RFC 3339 cannot write them.
        if instant(&written).is_some() {
            assert_eq!((timestamp(&written), Timestamp::from_rfc3339(&written)), (Some(at), Some(at)), "{text} {written}");
        }
    }
    let (left, right) = text.split_once(' ').unwrap_or((text, "1"));
    if let (Some(here), Some(there)) = (compare_instants(left, right), compare_instants(right, left)) {
        assert_eq!(here, there.reverse());
    }
    let (Some(left), Some(right)) = (Decimal::parse(left), Decimal::parse(right)) else { return };
    let written = left.to_string();
    let again = Decimal::parse(&written).unwrap();
    assert!(again == left && again.to_string() == written);
    assert_eq!(serde_json::to_string(&left).unwrap(), written);
    assert!(left.same_value(&again));
    assert_eq!(left.same_value(&right), right.same_value(&left));
    // The same number read by another: two that are the same round to the same float.
    if left.same_value(&right) {
        assert!(left.approximate() == right.approximate() || left.approximate().is_nan());
    }
});
