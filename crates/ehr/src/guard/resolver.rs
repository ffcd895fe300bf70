//! Name resolution behind the guard: the client dials only addresses that came out of here, at every connect anew.

use super::{Guard, Refusal};
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// How a name becomes addresses. A door of its own, so that a test can change its answer (DNS rebinding).
pub trait Lookup: Send + Sync {
    /// The addresses of `host`; ports do not matter.
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })
    }
}

/// A resolver for reqwest that gives out only addresses that the guard lets pass.
#[derive(Clone)]
pub struct GuardedResolver {
    guard: Guard,
    lookup: Arc<dyn Lookup>,
    plain: bool,
}

impl GuardedResolver {
    /// `plain` for a client that speaks http without TLS: then only allowed local addresses pass.
    #[must_use]
    pub fn new(guard: Guard, lookup: Arc<dyn Lookup>, plain: bool) -> Self {
        Self { guard, lookup, plain }
    }

    /// The addresses of `host` that may be dialled.
    ///
    /// # Errors
    /// When the name has no address, or none that may be dialled.
    pub async fn resolve_host(&self, host: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = self.lookup.lookup(host.to_owned()).await.map_err(|_| ResolveError::Unknown)?;
        if found.is_empty() {
            return Err(ResolveError::Unknown);
        }
        self.guard.filter(found, self.plain).map_err(ResolveError::Refused)
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let good = this.resolve_host(name.as_str()).await?;
            let addresses: Addrs = Box::new(good.into_iter());
            Ok(addresses)
        })
    }
}

/// Why a name gives no address to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name is not known here.
    #[error("The name of the EHR's server is not known from here.")]
    Unknown,
    /// It is known, and the guard refuses every address of it.
    #[error(transparent)]
    Refused(Refusal),
}
