//! TCP lines that break. [`Proxy`] stands before an HTTP server and spoils requests and answers; [`Forwarder`] stands before a
//! database and can be turned to another one.

mod forwarder;
mod proxy;

pub use forwarder::Forwarder;
pub use proxy::{Fate, Proxy, Weather};
