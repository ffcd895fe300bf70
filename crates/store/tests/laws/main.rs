//! The store's laws about lanes, leases, counters, wakes and pulls, each said by a test of its own on both engines. What a
//! random sequence seldom meets stands here; what any sequence has to keep stands in `tests/reference`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

mod beginning;
mod claims;
mod counters;
mod fencing;
#[path = "../house/mod.rs"]
mod house;
mod order;
mod pulls;
mod takeover;
mod tenants;
mod wakes;
mod ward;
