//! A tenant's configuration: one that is taken is taken again over itself, and changes nothing.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]

use libfuzzer_sys::fuzz_target;
use model::Connection;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let Ok(Value::Object(body)) = serde_json::from_str(text) else { return };
    let built = match Connection::build(&body, None) {
        Ok(built) => built.connection,
        Err(errors) => return assert!(!errors.is_empty() && errors.iter().all(|error| error.pointer.starts_with('/'))),
    };
    let again = Connection::build(&body, Some(&built)).unwrap();
    assert!(!again.moved, "a secret that is given counts as new, a base URL that is the same does not");
    assert_eq!(format!("{built:?}"), format!("{:?}", again.connection));
    let empty = serde_json::Map::new();
    let kept = Connection::build(&empty, Some(&built)).unwrap();
    assert!(!kept.moved && !kept.secret_changed);
    assert_eq!(format!("{built:?}"), format!("{:?}", kept.connection));
    assert!(built.retry.max_delay_ms >= built.retry.initial_delay_ms);
});
