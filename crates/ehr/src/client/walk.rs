//! Walking pages: where a `next` link leads, and when a walk goes round in circles.

use crate::guard::{Refusal, same_origin};
use crate::transport::Transport;
use fhir::bundle::Page;
use std::collections::HashSet;
use url::Url;

/// A page and where the next one is.
#[derive(Debug, Clone)]
pub struct SearchPage {
    /// The page.
    pub page: Page,
    /// Where the walk goes on.
    pub next: Next,
}

/// Where a walk goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nowhere: this was the last page. Only the absence of a link says so (FHIR.md §4).
    End,
    /// There, on the connection's own origin.
    Page(Url),
    /// The server sends us where our credentials do not go: the walk cannot be finished.
    Refused(Refusal),
}

/// The pages of one walk, remembered, so that a link that leads back ends it as an error.
#[derive(Debug, Default)]
pub struct Walk {
    seen: HashSet<String>,
}

impl Walk {
    /// A new walk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether this page was not visited yet in this walk; remembers it.
    pub fn visit(&mut self, url: &Url) -> bool {
        self.seen.insert(url.as_str().to_owned())
    }
}

/// Resolves a `next` link against the page that held it and keeps it to the connection's origin.
pub(super) fn next(link: Option<&str>, asked: &Url, base: &Url, transport: &dyn Transport) -> Next {
    let Some(link) = link else { return Next::End };
    let Ok(mut url) = asked.join(link.trim()) else { return Next::Refused(Refusal::NotAUrl) };
    url.set_fragment(None);
    // A server behind a TLS proxy often writes http links to itself; they mean the same server.
    if base.scheme() == "https" && url.scheme() == "http" && url.port().is_none() && url.host() == base.host() {
        let mut upgraded = url.clone();
        if upgraded.set_scheme("https").is_ok() && upgraded.set_port(base.port()).is_ok() {
            url = upgraded;
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Next::Refused(Refusal::UserInfo);
    }
    if !same_origin(&url, base) {
        return Next::Refused(Refusal::OtherOrigin);
    }
    match transport.admit(url.as_str()) {
        Ok(url) => Next::Page(url),
        Err(refusal) => Next::Refused(refusal),
    }
}
