//! An OperationOutcome: its sentence and fingerprint are bounded and the same however the JSON is laid out.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]

use fhir::operation_outcome::{OperationOutcome, fingerprint, kind_of, sentence};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let _ = kind_of(body);
    assert!(!sentence(422, body).is_empty());
    assert!(fingerprint(Some(422), body).starts_with("422|"));
    let Some(outcome) = OperationOutcome::parse(body) else { return };
    if let Some(words) = outcome.sentence() {
        assert!(words.chars().count() <= 1001, "{}", words.chars().count());
    }
    let json = serde_json::from_slice(body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)).unwrap();
    let again = OperationOutcome::from_value(&json).unwrap();
    assert!(again == outcome);
    assert_eq!(again.fingerprint(Some(422)), outcome.fingerprint(Some(422)));
    assert!(!outcome.is_transient() || outcome.worst().is_some());
});
