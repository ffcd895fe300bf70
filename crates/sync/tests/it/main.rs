//! The engine's behaviour, played against the sandbox EHR over real HTTP on each database, and judged by the EHR's own ledger.
//!
//! `world.rs` is the stage, `gate.rs` the line that stops and kills nodes, `judge.rs` the judge.
//!
//! | laws and rules | where |
//! |---|---|
//! | PRODUCT, the laws | `laws.rs` |
//! | PRODUCT, "What an outcome means", row by row | `outcomes.rs`; batches and 413: `poison.rs`; 429 and 401: `retry.rs` |
//! | PRODUCT, "Retry" | `retry.rs` |
//! | PRODUCT, law 6 | `poison.rs`, `fairness.rs` |
//! | `maxConcurrency` | `places.rs` |
//! | PRODUCT, "Patients" | `linking.rs` |
//! | PRODUCT, law 8 and "Pull" | `pull.rs`, `pull_trouble.rs` |
//! | PRODUCT, "A moved hospital, a restored database" | `homes.rs` |
//! | PRODUCT, "How a create is made safe": the probe and its grade | `grades.rs` |
//! | PROTOCOL §4, traces 1-3, 5, 9, 10, 12-17 | `traces.rs` |
//! | PROTOCOL §4, traces 4-8, 11, 18, and §6 | `traces_create.rs` |
//!
//! FHIR.md §14, "What a sync client must never assume":
//!
//! | row | assumption | test |
//! |---|---|---|
//! | 1 | `If-None-Exist` prevents duplicates | `assumptions::row_01_…` |
//! | 2 | 200 on a conditional create: ours is there | `assumptions::row_02_…`, `outcomes::a_200_…`, `traces_create::trace_18_…` |
//! | 3 | a search filter was applied | `assumptions::row_03_…`, `linking::a_search_that_returns_everybody_…` |
//! | 4 | zero hits: absent | `assumptions::row_04_…`, `traces_create::trace_06_…`, `trace_07_…` |
//! | 5 | `total`, `_count` | `assumptions::row_05_…` |
//! | 6 | `next` belongs to our origin | `assumptions::row_06_…` |
//! | 7 | `_lastUpdated` never skips | `assumptions::row_07_…` |
//! | 8 | deletions show up | `assumptions::row_08_…` |
//! | 9 | batch 200 is success | `poison::one_failing_entry_…`, `poison::a_batch_answer_that_cannot_be_matched_…` |
//! | 10 | `response.status` is a number | `poison::a_batch_answer_that_cannot_be_matched_…` |
//! | 11 | versionIds grow | `assumptions::row_11_…` |
//! | 12 | what we sent is stored | `assumptions::row_12_…`, `laws::what_the_ehr_stored_otherwise_…` |
//! | 13 | `PUT` changes only my fields | `outcomes::what_the_hospital_changed_…`, `linking::only_a_patient_that_we_created_…` |
//! | 14 | CapabilityStatement is behaviour | `assumptions::row_14_…` |
//! | 15 | 4xx is the row's fault, 5xx the server's | `outcomes::a_404_of_the_base_…`, `outcomes::a_400_or_422_…`, `outcomes::every_way_to_lose_…` |
//! | 16 | a Patient id is for ever | `linking::a_merged_patient_…`, `an_inactive_patient_…`, `another_id_in_the_body_…` |
//! | 17 | subject of a result | `assumptions::row_17_…`, `laws::no_observation_lands_…` |
//! | 18 | a date is a moment, a number a double | `laws::digits_and_offsets_…`, `assumptions::row_19_…` |
//! | 19 | `final` never changes | `assumptions::row_19_…` |
//! | 20 | a notification is complete and once | `assumptions::row_20_…` |
//! | 21 | `expires_in` and the like as asked | `assumptions::row_21_…`, `retry::a_401_…` |
//! | 22 | errors are OperationOutcomes | `assumptions::row_22_…` |
//! | 23 | identifiers come back as sent | `assumptions::row_23_…` |
#![allow(missing_docs, reason = "a test binary")]
#![allow(clippy::unwrap_used, reason = "a test binary")]

mod assumptions;
mod fairness;
mod first_put;
mod gate;
mod grades;
mod homes;
mod judge;
mod laws;
mod linking;
mod outcomes;
mod places;
mod poison;
mod pull;
mod pull_trouble;
mod retry;
mod traces;
mod traces_create;
mod world;
