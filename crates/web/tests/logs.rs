//! What is logged, in a process of its own: a subscriber of one thread and the loggers of others would get in each other's way.
#![allow(clippy::unwrap_used, dead_code, reason = "a test; the house and its worker are shared with the other tests of the API")]

#[path = "api/house.rs"]
mod house;
#[path = "api/secrets.rs"]
mod secrets;
#[path = "api/worker.rs"]
mod worker;
