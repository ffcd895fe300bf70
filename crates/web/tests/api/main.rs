//! The API as a caller sees it: through the router, over real stores of both engines.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

mod config;
mod cursors;
mod doors;
mod edge;
mod house;
mod idempotency;
mod ledger;
mod observations;
mod patients;
mod sync;
mod tokens;
mod worker;
