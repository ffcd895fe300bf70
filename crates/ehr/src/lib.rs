//! One EHR: transport, address guard, auth, requests, replies, capabilities, connection check.
//!
//! It knows no tenant and no database. What it says of an exchange is a [`reply::Outcome`]; who acts on it is the engine.
//!
//! | file | idea |
//! |---|---|
//! | [`guard`] | which addresses may be dialled |
//! | [`transport`] | one exchange: a reply, not sent, or lost |
//! | [`auth`], [`token`] | how we prove who we are |
//! | [`reply`] | what an outcome means: the one table |
//! | [`client`] | the verbs of one EHR |
//! | [`check`] | the connection test, step by step |

pub mod auth;
pub mod check;
pub mod client;
pub mod guard;
pub mod reply;
pub mod token;
pub mod transport;

#[cfg(test)]
mod testing;

pub use client::{Answer, Call, Ehr, EhrPool, Entry, Next, Put, SearchPage, SmartConfiguration, Walk};
pub use guard::{AllowLocal, Guard, Refusal};
pub use reply::{Interaction, Outcome, classify};
pub use transport::{HttpTransport, HttpTransportOptions, LastCheck, LateReply, LostCause, Reply, Request, Sent, Transport};
