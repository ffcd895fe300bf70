//! What plays with real processes share: nodes that are killed and frozen, the platform's load, rest, and the judge by the
//! EHR's own ledger. The crash tests use it with the sandbox's faults; the binary (`cargo xtask processes`) breaks lines and databases.
#![allow(clippy::unwrap_used, reason = "a play that cannot go on has to end")]

pub mod judge;
pub mod load;
pub mod rest;
pub mod running;
pub mod stage;
