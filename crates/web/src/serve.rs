//! The API over TCP: HTTP/1.1, and no caller who takes longer than it may to say what it wants.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long the head of a request may take, and how long a line without any may stay open: longer than the idle time of the
/// usual proxies (60 s), so that it is they who close it and no request meets a line that is just being closed.
pub const HEAD_TIME: Duration = Duration::from_secs(75);

/// How long nothing is accepted when the machine has no file handle left.
const EXHAUSTED: Duration = Duration::from_secs(1);

/// Serves until `end`, then takes no new connection and returns when those that are open have answered.
pub async fn serve(listener: TcpListener, router: Router, head_time: Duration, end: impl Future<Output = ()>) {
    let open = GracefulShutdown::new();
    let mut end = pin!(end);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(head_time);
                let service = TowerToHyperService::new(router.clone());
                let connection = open.watch(http.serve_connection(TokioIo::new(stream), service));
                // How one caller's line ends is nothing that anybody else needs to know.
                tokio::spawn(async move { drop(connection.await) });
            }
            Err(why) if matches!(why.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(why) => {
                tracing::error!(error = %why, "no connection can be accepted for the moment");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
    drop(listener);
    open.shutdown().await;
}
