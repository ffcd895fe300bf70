//! One HTTP exchange with a total deadline: what was sent, what came back, or that nobody knows.
//!
//! A lost reply is a value ([`Sent::Lost`]), not an error: after it the EHR may or may not have done what was asked.

mod http_transport;
mod late;
mod tls;

pub use http_transport::{HttpTransport, HttpTransportOptions, SetUpError};
pub use late::LateReply;
pub use tls::{PeerCertificate, TlsProbe};

use crate::guard::Refusal;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Method};
use model::Class;
use std::fmt;
use std::sync::Arc;
use url::Url;

/// The most that is read of an answer, in bytes after decompression, unless a request says otherwise.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The last check before bytes leave: `false` withholds the request (PROTOCOL §1: send only if the lease still lasts).
pub type LastCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// A way to exchange one request for one answer.
pub trait Transport: Send + Sync {
    /// Sends once; never repeats, never follows a redirect.
    fn send(&self, request: Request) -> BoxFuture<'_, Sent>;

    /// Whether this URL may be dialled, as far as that can be said without resolving its name.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, url: &str) -> Result<Url, Refusal>;
}

/// What is to be sent.
#[derive(Clone)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers; credentials among them are marked sensitive.
    pub headers: HeaderMap,
    /// Body; may be empty.
    pub body: Bytes,
    /// Total time limit, connection and whole answer included, ms.
    pub deadline_ms: i64,
    /// The most that is read of the answer, in bytes after decompression.
    pub max_bytes: usize,
    /// Whether it may change something at the EHR. Then the socket is kept a while after the deadline.
    pub effect: bool,
    /// Asked when the connection is up and the body is about to leave; directly before the start where there is no body.
    pub connect_only_if: Option<LastCheck>,
}

/// What became of it.
#[derive(Debug)]
pub enum Sent {
    /// A whole answer.
    Reply(Reply),
    /// Not one byte of the body left, so the EHR certainly did nothing.
    NotSent {
        /// Unreachable, Tls, AddressRefused, or Internal.
        class: Class,
        /// A sentence without any secret.
        detail: String,
        /// Our own last check said no.
        withheld: bool,
    },
    /// Sent at least in part, and no whole answer.
    Lost {
        /// How it was lost.
        cause: LostCause,
        /// A sentence without any secret.
        detail: String,
        /// The answer, if it still comes.
        late: Option<LateReply>,
    },
}

/// How an answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostCause {
    /// The deadline passed.
    Timeout,
    /// The line was cut, or what came was not HTTP.
    Cut,
    /// The answer was larger than the limit.
    TooLarge,
}

/// A whole answer.
#[derive(Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, decompressed.
    pub body: Bytes,
    /// From the start to the last byte, ms.
    pub elapsed_ms: i64,
}

impl Reply {
    /// A header as text, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for Request {
    /// Without query, headers and body: a CPF or a secret may stand there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .field("body_bytes", &self.body.len())
            .field("deadline_ms", &self.deadline_ms)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Reply {
    /// Without headers and body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .field("elapsed_ms", &self.elapsed_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
