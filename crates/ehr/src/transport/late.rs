//! The gate in front of a body, and the answer that comes after its deadline.

use super::{LastCheck, Reply};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// An answer that may still come, for a bounded time, after its request was given up.
pub struct LateReply(pub(super) oneshot::Receiver<Reply>);

impl LateReply {
    /// Waits for it; `None` when the time is over or the line broke.
    pub async fn wait(self) -> Option<Reply> {
        self.0.await.ok()
    }
}

impl fmt::Debug for LateReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LateReply")
    }
}

const WAITING: u8 = 0;
const GONE: u8 = 1;
const WITHHELD: u8 = 2;
const CLOSED: u8 = 3;

/// Whether a body has left. The one witness of "not one byte was taken".
#[derive(Debug, Clone, Default)]
pub(super) struct Gate(Arc<AtomicU8>);

impl Gate {
    /// Shuts it, unless the body is gone already. True: the body will never leave.
    pub(super) fn close(&self) -> bool {
        self.0.compare_exchange(WAITING, CLOSED, Ordering::SeqCst, Ordering::SeqCst).is_ok() || self.0.load(Ordering::SeqCst) != GONE
    }

    pub(super) fn gone(&self) -> bool {
        self.0.load(Ordering::SeqCst) == GONE
    }

    pub(super) fn withheld(&self) -> bool {
        self.0.load(Ordering::SeqCst) == WITHHELD
    }

    /// Asks the last check and opens or shuts for good.
    pub(super) fn pass(&self, check: Option<&LastCheck>) -> bool {
        let next = if check.is_none_or(|check| check()) { GONE } else { WITHHELD };
        self.0.compare_exchange(WAITING, next, Ordering::SeqCst, Ordering::SeqCst).is_ok() && next == GONE
    }
}

/// A body that asks the last check when its first byte is wanted: that is when the connection is up. HTTP/1 writes head
/// and body in one go after that, HTTP/2 resets the stream; in either case a withheld request is never whole.
pub(super) struct GatedBody {
    bytes: Option<Bytes>,
    gate: Gate,
    check: Option<LastCheck>,
}

impl GatedBody {
    pub(super) fn new(bytes: Bytes, gate: Gate, check: Option<LastCheck>) -> Self {
        Self { bytes: Some(bytes), gate, check }
    }
}

/// Why a body did not leave.
#[derive(Debug, thiserror::Error)]
#[error("withheld by the last check")]
pub(super) struct Withheld;

impl Body for GatedBody {
    type Data = Bytes;
    type Error = Withheld;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Withheld>>> {
        if self.bytes.is_some() && !self.gate.pass(self.check.as_ref()) {
            return Poll::Ready(Some(Err(Withheld)));
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
