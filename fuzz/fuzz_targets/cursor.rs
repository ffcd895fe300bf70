//! A cursor: one of ours opens for its tenant and list alone, and there is one way only to write it.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]

use libfuzzer_sys::fuzz_target;
use model::TenantId;
use std::sync::LazyLock;
use uuid::Uuid;
use web::CursorKey;

static KEY: LazyLock<CursorKey> = LazyLock::new(|| CursorKey::from_secret(b"a secret that the fuzzer does not look at"));

fuzz_target!(|input: (u128, &str, &str, u8)| {
    let (id, list, text, at) = input;
    let (ours, theirs) = (TenantId::new("ours").unwrap(), TenantId::new("theirs").unwrap());
    if let Ok(id) = KEY.open(&ours, list, text) {
        assert_eq!(KEY.seal(&ours, list, id), text);
    }
    let id = Uuid::from_u128(id);
    let cursor = KEY.seal(&ours, list, id);
    assert_eq!(KEY.open(&ours, list, &cursor).unwrap(), id);
    assert!(KEY.open(&theirs, list, &cursor).is_err());
    assert!(KEY.open(&ours, &format!("{list}x"), &cursor).is_err());
    assert!(CursorKey::from_secret(b"another").open(&ours, list, &cursor).is_err());
    let mut other = cursor.into_bytes();
    let at = usize::from(at) % other.len();
    other[at] = if other[at] == b'A' { b'B' } else { b'A' };
    assert!(KEY.open(&ours, list, std::str::from_utf8(&other).unwrap()).is_err());
});
