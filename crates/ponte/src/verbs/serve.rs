//! `ponte serve`: the service. API, workers, schedules; an orderly end on SIGTERM and SIGINT.

use crate::exit::{Exit, Failure};
use crate::settings::{ServeFlags, Settings, Verify};
use crate::{open, telemetry, wire};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use clap::{Args, ValueEnum};
use std::time::Duration;
use store::{Home, Store};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long what is under way may take to end. Orchestrators kill after 30 s.
const DRAIN: Duration = Duration::from_secs(25);

/// The service.
#[derive(Debug, Args)]
pub struct Serve {
    /// What this node does; several nodes may share one PostgreSQL. An api node never calls an EHR
    #[arg(long, value_enum, default_value = "all")]
    role: RoleOfNode,
    /// Do not bring the database up to date; refuse to start if it is not
    #[arg(long)]
    no_migrate: bool,
    #[command(flatten)]
    settings: ServeFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleOfNode {
    /// API, workers, schedules
    All,
    /// API only
    Api,
    /// Workers and schedules; health and metrics too if PONTE_LISTEN is set
    Worker,
}

impl Serve {
    /// Serves until it is told to end.
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let settings = Settings::load(self.settings.given()?)?;
        let (answers, works) = (self.role != RoleOfNode::Worker, self.role != RoleOfNode::Api);
        settings.may_serve(answers)?;
        telemetry::log(settings.log.clone());
        let mut end = Ends::listen()?;
        let store = if self.no_migrate { open::database(&settings).await? } else { migrated(&settings).await? };
        come_home(&store).await?;

        let shutdown = CancellationToken::new();
        let mut parts = JoinSet::new();
        let recorder = telemetry::metrics();
        if let Some(recorder) = recorder.clone() {
            tokio::spawn(telemetry::keep_up(recorder));
        }
        let clock = wire::clock();
        if let Some(listener) = listener(&settings, answers).await? {
            let api = wire::api(&store, &settings, clock.clone(), recorder)?;
            let router = if answers { api } else { api.layer(from_fn(health_only)) };
            announce(&listener, answers)?;
            parts.spawn(serve(listener, router, shutdown.clone()));
        }
        if works {
            let engine = wire::engine(&store, &settings.allow_local, clock, settings.lease_ms)?;
            parts.spawn(wire::work(engine, settings.workers, wire::schedules(&settings)?, shutdown.clone()));
        }
        warn_of(&settings);
        tracing::info!(role = ?self.role, version = env!("CARGO_PKG_VERSION"), "Ponte is up");
        end.wait_or_fail(&mut parts).await?;
        drain(parts, shutdown, end, &store).await
    }
}

async fn migrated(settings: &Settings) -> Result<Store, Failure> {
    let store = open::connect(settings, settings.keys()?).await?;
    store.migrate().await?;
    store.ready().await?;
    Ok(store)
}

async fn come_home(store: &Store) -> Result<(), Failure> {
    if store.come_home(wire::clock().now()).await? == Home::Elsewhere || !store.may_send().await? {
        tracing::warn!(
            event = "paused",
            "this database was found in another place than the one it remembers, or is a copy: nothing is sent to any EHR until somebody says \
             what it is: `ponte adopt moved`, `ponte adopt copy` or `ponte adopt restored`"
        );
    }
    Ok(())
}

/// Where the node listens. A worker does so only if somebody chose where, and goes on without.
async fn listener(settings: &Settings, answers: bool) -> Result<Option<TcpListener>, Failure> {
    if !answers && !settings.listen_is_given {
        return Ok(None);
    }
    match TcpListener::bind(&settings.listen).await {
        Ok(listener) => Ok(Some(listener)),
        Err(why) if answers => Err(Failure::failed(format!(
            "Ponte cannot listen on {}: {why}. Choose another address with --listen or PONTE_LISTEN; port 0 takes a free one.",
            settings.listen
        ))),
        Err(why) => {
            tracing::warn!(listen = settings.listen, error = %why, "this worker shows neither health nor metrics: it cannot listen");
            Ok(None)
        }
    }
}

fn announce(listener: &TcpListener, answers: bool) -> Result<(), Failure> {
    let address = listener.local_addr()?;
    if answers {
        tracing::info!(event = "listening", listen = %address, "listening on http://{address}");
    } else {
        tracing::info!(event = "listening", listen = %address, "health and metrics on http://{address}");
    }
    Ok(())
}

async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    web::serve(listener, router, web::HEAD_TIME, shutdown.cancelled_owned()).await;
}

/// A worker answers no caller.
async fn health_only(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path.starts_with("/health/") || path == "/metrics" { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
}

fn warn_of(settings: &Settings) {
    if matches!(settings.verify, Some(Verify::Secret(_))) && settings.issuer_is_given {
        tracing::warn!(
            "PONTE_JWT_ISSUER and PONTE_JWT_AUDIENCE hold only with PONTE_JWKS_URL; tokens signed with PONTE_JWT_SECRET are not checked for them"
        );
    }
}

/// What is under way ends, for 25 s at most; a second signal ends it at once. What is cut off is taken over when its lease has
/// run out, and asked about before it is sent again.
async fn drain(mut parts: JoinSet<()>, shutdown: CancellationToken, mut end: Ends, store: &Store) -> Result<Exit, Failure> {
    tracing::info!(event = "draining", "told to end: no new work is begun, what is under way ends");
    shutdown.cancel();
    let all = async {
        while parts.join_next().await.is_some() {}
        store.close().await;
    };
    tokio::select! {
        done = tokio::time::timeout(DRAIN, all) => {
            if done.is_ok() {
                tracing::info!(event = "down", "Ponte has ended in order");
            } else {
                tracing::warn!(event = "down", "some work did not end within 25 s; whoever takes it over asks the EHR before anything is sent again");
            }
            Ok(Exit::Ok)
        }
        () = end.next() => Err(Failure { exit: Exit::Interrupted, sentence: "Ended at once, as told twice.".to_owned() }),
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Ends {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Ends {
    /// Begins to listen; from now on neither ends the process by itself.
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of them.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// Waits for a signal; a part that ends before it is a failure of the whole, so that an orchestrator starts it anew.
    async fn wait_or_fail(&mut self, parts: &mut JoinSet<()>) -> Result<(), Failure> {
        tokio::select! {
            () = self.next() => Ok(()),
            Some(ended) = parts.join_next() => {
                let how = if ended.is_err() { "broke" } else { "ended" };
                Err(Failure::failed(format!("A part of the service {how} without being told to; see the log. Ponte ends, so that it may be started anew.")))
            }
        }
    }
}
