//! The real transport: reqwest behind the guard, one deadline over everything, a cap on what is read.
//!
//! No redirects, no proxies from the environment, no repetition. Only what is certain is called not sent: no connection,
//! or a body whose first byte was never asked for. All else is lost.

use super::late::{Gate, GatedBody, LateReply};
use super::tls::{TlsProbe, Trust, connect_problem, tls_problem};
use super::{LastCheck, LostCause, Reply, Request, Sent, Transport};
use crate::guard::{Guard, GuardedResolver, Lookup, Refusal, ResolveError, SystemLookup};
use futures::future::BoxFuture;
use model::Class;
use rustls::pki_types::CertificateDer;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use url::Url;

/// What a transport is made of.
pub struct HttpTransportOptions {
    /// The address guard.
    pub guard: Guard,
    /// How names become addresses.
    pub lookup: Arc<dyn Lookup>,
    /// Certificates that are trusted beside the machine's own.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// How long the socket of a write is kept after its deadline, ms.
    pub late_ms: i64,
    /// How many such sockets are kept at once.
    pub late_limit: usize,
}

impl HttpTransportOptions {
    /// With this guard, the system's resolver and the usual limits: 60 s, 64 sockets.
    #[must_use]
    pub fn new(guard: Guard) -> Self {
        Self { guard, lookup: Arc::new(SystemLookup), extra_roots: Vec::new(), late_ms: 60_000, late_limit: 64 }
    }
}

/// Why there is no transport.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be set up on this machine")]
pub struct SetUpError;

/// HTTP over the network.
pub struct HttpTransport {
    guard: Guard,
    lookup: Arc<dyn Lookup>,
    trust: Trust,
    tls: reqwest::Client,
    plain: reqwest::Client,
    late: Duration,
    late_permits: Arc<Semaphore>,
}

impl HttpTransport {
    /// Sets up the clients.
    ///
    /// # Errors
    /// When the machine's TLS will not start.
    pub fn new(options: HttpTransportOptions) -> Result<Self, SetUpError> {
        let trust = Trust::new(options.extra_roots);
        let client = |plain: bool| {
            let resolver = GuardedResolver::new(options.guard.clone(), Arc::clone(&options.lookup), plain);
            reqwest::Client::builder()
                .tls_backend_preconfigured(trust.config(None).map_err(|_| SetUpError)?)
                .dns_resolver(Arc::new(resolver))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .referer(false)
                .gzip(true)
                .https_only(!plain)
                .connect_timeout(Duration::from_secs(10))
                // Many servers drop an idle line after five seconds; a write into a dying line would be lost for nothing.
                .pool_idle_timeout(Duration::from_secs(4))
                .user_agent(concat!("ponte/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|_| SetUpError)
        };
        Ok(Self {
            tls: client(false)?,
            plain: client(true)?,
            guard: options.guard,
            lookup: options.lookup,
            trust,
            late: Duration::from_millis(options.late_ms.max(0).unsigned_abs()),
            late_permits: Arc::new(Semaphore::new(options.late_limit)),
        })
    }

    /// The addresses of a URL's host that may be dialled.
    ///
    /// # Errors
    /// When there are none.
    pub async fn resolve(&self, url: &Url) -> Result<Vec<std::net::SocketAddr>, ResolveError> {
        let plain = url.scheme() == "http";
        let port = url.port_or_known_default().unwrap_or(443);
        let found = match url.host() {
            Some(url::Host::Domain(name)) => {
                GuardedResolver::new(self.guard.clone(), Arc::clone(&self.lookup), plain).resolve_host(name).await?
            }
            Some(url::Host::Ipv4(ip)) => self.guard.filter([(ip, port).into()], plain).map_err(ResolveError::Refused)?,
            Some(url::Host::Ipv6(ip)) => self.guard.filter([(ip, port).into()], plain).map_err(ResolveError::Refused)?,
            None => return Err(ResolveError::Refused(Refusal::Host)),
        };
        Ok(found.into_iter().map(|address| (address.ip(), port).into()).collect())
    }

    /// Connects to one address and, for https, shakes hands as `host`.
    pub async fn probe(&self, address: std::net::SocketAddr, url: &Url) -> TlsProbe {
        if self.guard.check_ip(address.ip(), url.scheme() == "http").is_err() {
            return TlsProbe { problem: Some(Refusal::Local.to_string()), ..TlsProbe::default() };
        }
        if url.scheme() == "http" {
            return match tokio::net::TcpStream::connect(address).await {
                Ok(_) => TlsProbe { connected: true, ..TlsProbe::default() },
                Err(error) => TlsProbe { problem: Some(connect_problem(&error).to_owned()), ..TlsProbe::default() },
            };
        }
        self.trust.probe(address, url.host_str().unwrap_or_default()).await
    }

    async fn read(&self, exchange: Exchange) -> Sent {
        let deadline = exchange.deadline;
        match timeout(deadline, exchange.run()).await {
            Ok(sent) => sent,
            Err(_) => timed_out(deadline, None),
        }
    }

    /// A write goes on by itself: giving up waiting is not giving up the request, for the EHR does not notice.
    async fn write(&self, exchange: Exchange) -> Sent {
        let (deadline, gate) = (exchange.deadline, exchange.gate.clone());
        let whole = deadline.saturating_add(self.late);
        let (sender, mut receiver) = oneshot::channel();
        let task = AbortOnDrop(Some(tokio::spawn(async move {
            if let Ok(sent) = timeout(whole, exchange.run()).await {
                let _ = sender.send(sent);
            }
        })));
        match timeout(deadline, &mut receiver).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(_)) => lost(LostCause::Cut, "The request ended without an answer."),
            Err(_) if gate.close() => not_sent(
                Class::Unreachable,
                format!("No connection to the EHR's server came up within {} ms; nothing was sent.", deadline.as_millis()),
            ),
            Err(_) => match Arc::clone(&self.late_permits).try_acquire_owned() {
                Err(_) => timed_out(deadline, None),
                Ok(permit) => {
                    task.release();
                    let (late, reply) = oneshot::channel();
                    tokio::spawn(async move {
                        if let Ok(Sent::Reply(reply)) = receiver.await {
                            let _ = late.send(reply);
                        }
                        drop(permit);
                    });
                    timed_out(deadline, Some(LateReply(reply)))
                }
            },
        }
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: Request) -> BoxFuture<'_, Sent> {
        Box::pin(async move {
            if let Err(refusal) = self.guard.check(&request.url) {
                return not_sent(Class::AddressRefused, refusal.to_string());
            }
            let client = if request.url.scheme() == "http" { &self.plain } else { &self.tls };
            let (effect, exchange) = (request.effect, Exchange::new(client, request));
            if effect { self.write(exchange).await } else { self.read(exchange).await }
        })
    }

    fn admit(&self, url: &str) -> Result<Url, Refusal> {
        self.guard.check_url(url)
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("guard", &self.guard).finish_non_exhaustive()
    }
}

/// One exchange, free of any borrow, so that it can outlive its caller.
struct Exchange {
    client: reqwest::Client,
    request: reqwest::Request,
    gate: Gate,
    check: Option<LastCheck>,
    gated: bool,
    deadline: Duration,
    max_bytes: usize,
}

impl Exchange {
    fn new(client: &reqwest::Client, request: Request) -> Self {
        let mut ready = reqwest::Request::new(request.method, request.url);
        *ready.headers_mut() = request.headers;
        let gate = Gate::default();
        let gated = !request.body.is_empty();
        if gated {
            *ready.body_mut() = Some(reqwest::Body::wrap(GatedBody::new(request.body, gate.clone(), request.connect_only_if.clone())));
        }
        Self {
            client: client.clone(),
            request: ready,
            gate,
            check: request.connect_only_if,
            gated,
            deadline: Duration::from_millis(request.deadline_ms.max(1).unsigned_abs()),
            max_bytes: request.max_bytes,
        }
    }

    async fn run(self) -> Sent {
        let started = Instant::now();
        if !self.gated && !self.gate.pass(self.check.as_ref()) {
            return withheld();
        }
        let mut response = match self.client.execute(self.request).await {
            Ok(response) => response,
            Err(error) => return failed(&error, &self.gate),
        };
        let too_large = || lost(LostCause::TooLarge, "The EHR's answer is larger than Ponte reads; ask for smaller pages.");
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) > self.max_bytes => return too_large(),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(_) => return lost(LostCause::Cut, "The EHR's answer broke off before its end."),
            }
        }
        Sent::Reply(Reply {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body: body.into(),
            elapsed_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
        })
    }
}

/// Ends a task whose caller went away, unless it was released.
struct AbortOnDrop(Option<tokio::task::JoinHandle<()>>);

impl AbortOnDrop {
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

fn not_sent(class: Class, detail: String) -> Sent {
    Sent::NotSent { class, detail, withheld: false }
}

fn withheld() -> Sent {
    let detail = "The lease on this work would not have lasted long enough, so nothing was sent.".to_owned();
    Sent::NotSent { class: Class::Internal, detail, withheld: true }
}

fn lost(cause: LostCause, detail: &str) -> Sent {
    Sent::Lost { cause, detail: detail.to_owned(), late: None }
}

fn timed_out(deadline: Duration, late: Option<LateReply>) -> Sent {
    let detail = format!("The EHR did not answer within {} ms.", deadline.as_millis());
    Sent::Lost { cause: LostCause::Timeout, detail, late }
}

fn failed(error: &reqwest::Error, gate: &Gate) -> Sent {
    if gate.withheld() {
        return withheld();
    }
    if let Some(resolve) = find::<ResolveError>(error) {
        let class = if matches!(resolve, ResolveError::Refused(_)) { Class::AddressRefused } else { Class::Unreachable };
        return not_sent(class, resolve.to_string());
    }
    if error.is_builder() {
        return not_sent(Class::Internal, "The request could not be written; nothing was sent.".to_owned());
    }
    if error.is_connect() {
        if let Some(tls) = find::<rustls::Error>(error) {
            return not_sent(Class::Tls, tls_problem(tls));
        }
        let detail = find::<std::io::Error>(error).map_or("The EHR's server did not answer the connection in time.", connect_problem);
        return not_sent(Class::Unreachable, detail.to_owned());
    }
    if gate.gone() {
        return lost(LostCause::Cut, "The line to the EHR broke before its answer was whole.");
    }
    not_sent(Class::Unreachable, "The EHR's server closed the line before anything was sent.".to_owned())
}

/// The first error of this kind in a chain; an I/O error hides its content from `source`, so it is asked as well.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)
            && let Some(found) = find::<T>(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}
