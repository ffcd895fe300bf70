//! Real HTTP: a cut closes the connection without a word, a hang never answers, and a request that has been read whole is carried
//! out even if its client has gone, as real servers do.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::{Hang, Sandbox, Severed};

/// How often late commits are looked for.
const LATE_LOOK: Duration = Duration::from_millis(20);

/// Serves until the future is dropped; then its connections close too.
pub(crate) async fn serve(sandbox: Sandbox, listener: TcpListener) -> io::Result<()> {
    let router = sandbox.router();
    let mut look = tokio::time::interval(LATE_LOOK);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(router.clone(), stream, peer));
                }
                // A client that is gone already, or too many open files: the listener itself still stands.
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(LATE_LOOK).await;
                }
            },
            _ = look.tick() => sandbox.settle_due(),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(router: Router, stream: TcpStream, peer: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(router.clone(), request, peer));
    // Ends with an error whenever a fault has cut the line: that is the fault, not a failure.
    let _ = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service).await;
}

/// The line is to be cut.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

async fn answer(router: Router, request: Request<Incoming>, peer: SocketAddr) -> Result<Response, Cut> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let work = tokio::spawn(router.oneshot(request));
    let response: Response = match work.await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never as Infallible {},
        Err(_) => return Err(Cut),
    };
    if response.extensions().get::<Severed>().is_some() {
        return Err(Cut);
    }
    if let Some(hang) = response.extensions().get::<Hang>() {
        tokio::time::sleep(Duration::from_millis(hang.ms)).await;
        return Err(Cut);
    }
    Ok(response)
}
