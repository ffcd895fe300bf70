//! The references in `docs/reference` are made from the code, and compared with it by tests.

use std::path::PathBuf;

/// Compares a reference with what the code says; `PONTE_TEST_BLESS=1` writes it.
pub fn compare(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var_os("PONTE_TEST_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "docs/reference/{name} is not what the code says; PONTE_TEST_BLESS=1 cargo test -p ponte reference writes it");
}
