//! The one list of routes: the router is made of it, and so is the OpenAPI document.

use crate::rate::Rate;
use crate::{
    Api, auth, batch, check, config, dead_letters, deliveries, docs, edge, health, metrics, observations, patients, pull, runs, status,
    sync,
};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What every handler shares.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) api: Arc<Api>,
    pub(crate) rate: Arc<Rate>,
}

/// The whole HTTP side of an installation: `/api/v1` behind its door; health, metrics and documents outside.
pub fn router(api: Api) -> Router {
    let rate = Arc::new(Rate::new(api.requests_per_second));
    let app = App { api: Arc::new(api), rate };
    let (behind_the_door, _) = api_routes().split_for_parts();
    let (open, _) = open_routes().split_for_parts();
    Router::new()
        .nest("/api/v1", behind_the_door.route_layer(from_fn_with_state(app.clone(), auth::door)))
        .merge(open)
        .merge(docs::assets())
        .fallback(|| async { crate::Problem::not_found() })
        .layer(from_fn(edge::edge))
        .with_state(app)
}

/// The same list as [`router`], as a document.
pub(crate) fn described() -> utoipa::openapi::OpenApi {
    OpenApiRouter::new().nest("/api/v1", api_routes()).merge(open_routes()).into_openapi()
}

fn api_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(patients::create, patients::list))
        .routes(routes!(patients::get, patients::change))
        .routes(routes!(patients::search))
        .routes(routes!(observations::create, observations::list))
        .routes(routes!(batch::create))
        .routes(routes!(observations::unsynced))
        .routes(routes!(observations::get, observations::correct, observations::withdraw))
        .routes(routes!(sync::observation))
        .routes(routes!(sync::all))
        .routes(routes!(sync::patient))
        .routes(routes!(pull::patient))
        .routes(routes!(runs::get))
        .routes(routes!(config::get, config::create, config::change, config::delete))
        .routes(routes!(check::test))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::get))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::replay))
        .routes(routes!(dead_letters::replay_all))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(status::get))
}

fn open_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::get))
        .routes(routes!(docs::document))
        .routes(routes!(docs::page))
}
