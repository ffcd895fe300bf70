//! TCP lines that break. [`Proxy`] stands before an HTTP server and spoils requests and answers; [`Forwarder`] stands before a
//! database and can be turned to another one.

mod forwarder;
mod proxy;

pub use forwarder::Forwarder;
pub use proxy::{Fate, Proxy, Weather};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A thread that died with the lock has left nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
