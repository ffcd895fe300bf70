//! The OpenAPI 3.1 document, made from the code, and a page to read and try it that loads nothing from elsewhere.

use crate::problem::{PROBLEM_JSON, Problem};
use crate::routes::{App, described};
use crate::schema::answers::{FieldAnswer, ProblemAnswer};
use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use std::sync::{Arc, LazyLock};
use utoipa::openapi::header::Header;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Info, OpenApi, Ref, RefOr, ResponseBuilder, SecurityRequirement, Tag};
use utoipa::{PartialSchema, ToSchema};

/// The OpenAPI document of all routes.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut document = described();
    document.info = Info::builder()
        .title("Ponte")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(utoipa::openapi::License::new("Apache-2.0")))
        .build();
    document.tags = Some(TAGS.iter().map(|(name, words)| Tag::builder().name(*name).description(Some(*words)).build()).collect());
    let components = document.components.get_or_insert_default();
    components.schemas.insert(ProblemAnswer::name().into_owned(), ProblemAnswer::schema());
    components.schemas.insert(FieldAnswer::name().into_owned(), FieldAnswer::schema());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    let bearer = bearer.description(Some("A JWT with `sub`, `tenantId`, `role` and `exp`; `ponte token` signs one.")).build();
    components.security_schemes.insert("token".to_owned(), RefOr::T(SecurityScheme::Http(bearer)));
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            complete(path, operation);
        }
    }
    document
}

/// The OpenAPI document.
#[utoipa::path(get, path = "/openapi.json", tag = "operation", operation_id = "openapi", security(()), responses((status = 200, description = "OpenAPI 3.1.", body = Object)))]
pub(crate) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// A page to read and try this API.
#[utoipa::path(get, path = "/docs", tag = "operation", operation_id = "docs", security(()), responses((status = 200, description = "HTML.", body = String, content_type = "text/html")))]
pub(crate) async fn page() -> Result<Response, Problem> {
    let file = file("index.html")?;
    // Relative to `/docs`, so that it also works behind a proxy's base path.
    let html = String::from_utf8_lossy(&file.bytes).replace("\"./", "\"docs/").replace("href=\"index.css\"", "href=\"docs/index.css\"");
    Ok(with_policy(([(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()))
}

/// What the page loads.
pub(crate) fn assets() -> Router<App> {
    Router::new().route("/docs/", get(|| async { Redirect::permanent("../docs") })).route("/docs/{*file}", get(asset))
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| openapi().to_json().unwrap_or_default());

const TAGS: [(&str, &str); 8] = [
    ("patients", "The platform's patients and their links to the EHR's Patients."),
    ("observations", "Observations of both sources."),
    ("sync", "Deliver now, pull now, and how it goes."),
    ("config", "The tenant's connection: ADMIN alone."),
    ("deliveries", "The effect ledger: every intended effect on the EHR, with its attempts."),
    ("dead letters", "What was refused for good."),
    ("status", "Is anything waiting, lost or stuck?"),
    ("operation", "Without a token."),
];

const DESCRIPTION: &str = "Carries clinical observations between a care platform and a hospital's EHR over FHIR R4, both ways, once.\n\n\
The tenant comes from the token alone; another tenant's id answers 404. Errors are `application/problem+json` (RFC 9457) with a stable `code`. \
POSTs take `Idempotency-Key`. Lists are newest first, with `limit` and `cursor`. Decimals are JSON numbers and keep their digits. \
Clients must ignore fields that they do not know: v1 only grows.";

/// Scripts and styles of our own alone; the page sets style attributes, and its icons are `data:` images.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

async fn asset(Path(name): Path<String>) -> Result<Response, Problem> {
    let file = file(&name)?;
    let kind = HeaderValue::from_str(&file.content_type).map_err(|_| Problem::internal())?;
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"))];
    Ok(with_policy((headers, file.bytes.into_owned()).into_response()))
}

fn file(name: &str) -> Result<utoipa_swagger_ui::SwaggerFile<'static>, Problem> {
    // `validator_url("none")`: the page would else show the document to a server of its makers.
    let config =
        utoipa_swagger_ui::Config::new(["openapi.json"]).validator_url("none").try_it_out_enabled(true).display_operation_id(false);
    utoipa_swagger_ui::serve(name, Arc::new(config)).ok().flatten().ok_or_else(Problem::not_found)
}

fn with_policy(mut response: Response) -> Response {
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Adds what every operation of its kind may answer.
fn complete(path: &str, operation: &mut Operation) {
    let behind_the_door = path.starts_with("/api/v1");
    let mut add = |status: &str, words: &str| {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem(words));
    };
    add("500", "`internal`: something of ours broke.");
    if behind_the_door {
        add("400", "`invalid_json`, `invalid_query`, `invalid_cursor`, `invalid_idempotency_key`: it cannot be read.");
        add("401", "`unauthorized`: no token, or one that is not trusted.");
        add("403", "`forbidden`: the token's role may not do this.");
        add("404", "`not_found`: nothing of this tenant is there.");
        add("422", "`invalid`, `unknown_field`, `unknown_parameter` …: a value will not do; `errors` names the fields.");
        add("429", "`rate_limited`: Retry-After says when to go on.");
        add("503", "`database_unavailable`, `keys_unavailable`: try again in a moment.");
        if operation.request_body.is_some() {
            let mut add = |status: &str, words: &str| {
                operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem(words));
            };
            add("408", "`body_too_slow`: a minute for the whole body.");
            add("413", "`body_too_large`: 1 MiB, a batch 16 MiB; or more than 100,000 values.");
            add("415", "`unsupported_media_type`: JSON only.");
        }
        if let Some(parameters) = &operation.parameters
            && parameters.iter().any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == "Idempotency-Key"))
        {
            operation
                .responses
                .responses
                .entry("409".to_owned())
                .or_insert_with(|| problem("`idempotency_in_progress`: the same request is being served right now."));
        }
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let text = Object::builder().schema_type(Type::String).build();
            response.headers.insert("X-Request-Id".to_owned(), RefOr::T(Header::new(text)));
        }
    }
}

fn problem(words: &str) -> RefOr<utoipa::openapi::Response> {
    let content = Content::new(Some(RefOr::<utoipa::openapi::Schema>::Ref(Ref::from_schema_name(ProblemAnswer::name()))));
    RefOr::T(ResponseBuilder::new().description(words).content(PROBLEM_JSON, content).build())
}
