//! A CapabilityStatement: what it claims is taken into a plan once; taken in again it changes nothing.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]

use fhir::capability_statement::Claims;
use libfuzzer_sys::fuzz_target;
use model::{MeansPlan, Timestamp};

fuzz_target!(|body: &[u8]| {
    let Some(claims) = Claims::parse(body) else { return };
    for name in ["_lastUpdated", "_id", "identifier", "patient", "_sort"] {
        let _ = claims.search_parameter("Observation", name);
    }
    let _ = claims.interaction("Observation", "update");
    let plan = claims.update_plan(&MeansPlan::default(), Timestamp(7));
    assert!(claims.update_plan(&plan, Timestamp(7)) == plan);
    assert!(Claims::parse(body).is_some_and(|again| again.update_plan(&MeansPlan::default(), Timestamp(7)) == plan));
});
