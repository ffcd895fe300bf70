//! Small servers on loopback for the tests of this crate, and the clock and connection that they share.

use crate::client::EhrPool;
use crate::guard::{AllowLocal, Guard};
use crate::transport::{HttpTransport, HttpTransportOptions, Request, Transport};
use axum::Router;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Method};
use model::{AuthConfig, Clock, Connection, Timestamp};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};

/// A clock that stands where a test puts it.
pub(crate) struct HandClock(pub(crate) AtomicI64);

impl HandClock {
    pub(crate) fn at(ms: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(ms)))
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Chance that counts.
#[derive(Default)]
pub(crate) struct Counting(AtomicU64);

impl model::Rng for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Serves a router; gives its address.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Serves raw connections; gives its address and how many came.
pub(crate) async fn serve_raw(handler: fn(TcpStream) -> BoxFuture<'static, ()>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(handler(stream));
        }
    });
    (address, count)
}

/// A transport that may dial local addresses.
pub(crate) fn transport(change: impl FnOnce(&mut HttpTransportOptions)) -> Arc<HttpTransport> {
    let mut options = HttpTransportOptions::new(Guard::new(AllowLocal::All));
    change(&mut options);
    Arc::new(HttpTransport::new(options).unwrap())
}

pub(crate) fn pool(clock: Arc<HandClock>) -> EhrPool {
    let transport: Arc<dyn Transport> = transport(|_| {});
    EhrPool::new(transport, clock)
}

pub(crate) fn request(method: Method, url: &str, body: &str) -> Request {
    Request {
        effect: method != Method::GET,
        method,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from(body.to_owned()),
        deadline_ms: 5000,
        max_bytes: 100_000,
        connect_only_if: None,
    }
}

pub(crate) fn connection(base_url: &str, auth: AuthConfig) -> Connection {
    let body = json!({"baseUrl": base_url, "authType": "basic", "authConfig": {"username": "u", "password": "p"}});
    let Value::Object(body) = body else { unreachable!("an object") };
    let built = Connection::build(&body, None).unwrap();
    Connection { auth, ..built.connection }
}

pub(crate) fn basic() -> AuthConfig {
    AuthConfig::Basic { username: "u".into(), password: "marker-password".into() }
}

pub(crate) fn oauth2(token_url: &str) -> AuthConfig {
    AuthConfig::OAuth2 {
        client_id: "client:1".into(),
        client_secret: "marker+secret/%:".into(),
        token_url: token_url.into(),
        scope: Some("system/Observation.crus".into()),
    }
}
