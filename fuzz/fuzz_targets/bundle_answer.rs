//! A Bundle that an EHR answers, as a page and as the answer to a batch: every entry is counted, and what is given out stands in
//! the answer word for word.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]

use fhir::bundle::{batch_response, page, resource_head};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let _ = resource_head(body);
    for asked in 0..4 {
        if let Ok(entries) = batch_response(body, asked) {
            assert_eq!(entries.len(), asked);
        }
    }
    let Ok(page) = page(body) else { return };
    // What nobody reads may be no UTF-8; what is given out is.
    for resource in page.entries.iter().filter_map(|entry| entry.resource.as_ref()) {
        assert!(body.windows(resource.get().len()).any(|part| part == resource.get().as_bytes()));
    }
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok(whole) = serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')) else { return };
    let given = whole["entry"].as_array().map_or(0, Vec::len);
    assert_eq!(page.entries.len() + page.outcomes.len() + page.unreadable, given);
});
