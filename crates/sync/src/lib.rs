//! The engine: claim, push, settle, ask, pull, schedule. It decides; `ehr` talks, `store` keeps.
//!
//! | file | idea |
//! |---|---|
//! | [`engine`] | claims what is due and works it, with slots or once at a time |
//! | `lane` | one turn of one lane |
//! | `turn` | whose turn it is: pure |
//! | `push` | sending singly and in batches |
//! | `settle` | an answer or none → the new standing: pure |
//! | `ask`, `found` | what became of an uncertain effect |
//! | `linking`, [`reading`] | our patient and the EHR's Patient |
//! | `breaker` | failures of a connection: pure |
//! | `probe` | who finds out whether a connection that failed works again |
//! | `places` | who may be at an EHR just now |
//! | `late`, `learn`, `denied` | late answers, what an EHR says of itself, 403s in a row |
//! | [`pull`] | the EHR's observations |
//! | [`schedule`] | sweeps and pulls by the clock |
//! | `check` | connection checks for api nodes |

mod ask;
mod breaker;
mod check;
mod denied;
pub mod engine;
mod found;
mod lane;
mod late;
mod learn;
mod linking;
mod places;
mod probe;
pub mod pull;
mod push;
pub mod reading;
pub mod schedule;
mod settle;
mod turn;

pub use engine::{Engine, Setup, Worked};
