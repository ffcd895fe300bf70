//! The simulator: the real engine over the real store, with the sandbox EHR in process, driven step by step by a seed.
//!
//! Time is a number that the seed moves, chance comes from the seed, and one thing happens at a time: the same seed gives
//! the same requests, the same commits and the same hash. Nodes are killed wherever they look at the clock, draw a number or
//! speak to the EHR; they freeze before and after their last check; the EHR shows its faults. What the EHR's own ledger holds
//! at the end is judged against what was accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a world that cannot go on has to end with its seed")]
#![allow(missing_docs, reason = "a tool of ours, not a library")]

pub mod chance;
pub mod judge;
pub mod line;
pub mod node;
pub mod people;
pub mod weather;
pub mod world;
