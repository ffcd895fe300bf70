//! The way of a request through the sandbox: faults that come before, admission, the work itself, and faults that come after.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Method, Request};

use crate::Sandbox;
use crate::call::{Answer, Call, Conditions, Interaction, Prefer, Query, Target, header, read_query};
use crate::chance::{Head, Met};
use crate::fault::Fault;
use crate::instant::http_date;
use crate::json::{self, Json};
use crate::ledger::Author;
use crate::outcome::{Issue, Refusal, outcome};
use crate::quirks::Quirks;
use crate::reply::{self, GATEWAY_PAGE, LOGIN_PAGE, NOT_FOUND_PAGE, Reply};
use crate::twin::{Late, Twin};

/// Bytes that a request's body may have.
const BODY_LIMIT: usize = 32 * 1024 * 1024;

/// What comes of a request.
enum Fate {
    Reply(Reply),
    Severed(bool),
    Hang(bool),
}

/// Everything below `/fhir`.
pub(crate) async fn fhir(sandbox: Sandbox, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let target = Target::parse(path.strip_prefix("/fhir").unwrap_or(&path));
    let interaction = Interaction::of(&parts.method, &target);
    let head = Head { method: &parts.method, path: &path, interaction };
    let mut met = sandbox.lock().draw(&head);
    let fate = if met.ending == Some(Fault::Refuse) {
        sandbox.lock().show(Fault::Refuse);
        Fate::Severed(false)
    } else {
        match axum::body::to_bytes(body, BODY_LIMIT).await {
            Err(_) => Fate::Reply(Reply::refusal(Refusal::new(
                413,
                "too-long",
                "The body is longer than this server reads, or did not arrive whole.",
            ))),
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let decoded: String =
                    read_query(parts.uri.query().unwrap_or_default()).into_iter().map(|(name, value)| format!("{name}={value}&")).collect();
                let condition = header(&parts.headers, "if-none-exist").unwrap_or_default();
                sandbox.lock().spend(&head, Some(&[path.as_str(), &decoded, &condition, &text]), &mut met);
                inside(&sandbox, &parts, target.clone(), interaction, met, &text).await
            }
        }
    };
    let mut twin = sandbox.lock();
    let outcome = match &fate {
        Fate::Reply(reply) => reply.status.to_string(),
        Fate::Severed(_) => "severed".to_owned(),
        Fate::Hang(_) => "hang".to_owned(),
    };
    let count = format!("{} {} {outcome}", parts.method, target.label());
    *twin.requests.entry(count).or_default() += 1;
    match fate {
        Fate::Severed(committed) => reply::severed(committed),
        Fate::Hang(committed) => reply::hang(committed, twin.settings.hang_ms),
        Fate::Reply(reply) => finish(&mut twin, &parts, met, reply),
    }
}

/// `POST /oauth/token`; only scripts that name this path reach it.
pub(crate) async fn token(sandbox: Sandbox, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return Reply::page(413, "text/plain", "too long").into_response(None);
    };
    let mut twin = sandbox.lock();
    let mut met = Met::default();
    let named = twin.plan.scripts.iter().any(|script| script.path.as_deref().is_some_and(|path| path.starts_with("/oauth")));
    if named {
        let head = Head { method: &parts.method, path: "/oauth/token", interaction: Interaction::Other };
        twin.spend(&head, None, &mut met);
    }
    if let Some(fate) = met.ending.and_then(|ending| twin.end_before(ending)) {
        *twin.requests.entry("POST token fault".to_owned()).or_default() += 1;
        return match fate {
            Fate::Reply(reply) => reply.into_response(None),
            Fate::Severed(committed) => reply::severed(committed),
            Fate::Hang(committed) => reply::hang(committed, twin.settings.hang_ms),
        };
    }
    let answer = twin.token(&parts.headers, &String::from_utf8_lossy(&bytes));
    *twin.requests.entry(format!("POST token {}", answer.status)).or_default() += 1;
    let mut reply = Reply::page(answer.status, "application/json", answer.body.to_string())
        .with_header("cache-control", "no-store")
        .with_header("date", http_date(twin.now));
    if answer.challenge {
        reply = reply.with_header("www-authenticate", "Basic realm=\"token\"");
    }
    reply.into_response(None)
}

/// From the whole request to its fate.
async fn inside(sandbox: &Sandbox, parts: &Parts, target: Target, interaction: Interaction, met: Met, text: &str) -> Fate {
    let mut call = {
        let mut twin = sandbox.lock();
        if let Some(fate) = met.ending.and_then(|ending| twin.end_before(ending)) {
            return fate;
        }
        let scopes = match twin.admit(&parts.headers, &target, interaction, met.manners) {
            Ok(scopes) => scopes,
            Err(refusal) => return Fate::Reply(Reply::refusal(refusal)),
        };
        let call = match read_call(sandbox, &twin.quirks, parts, target, met, text) {
            Ok(call) => Call { scopes, ..call },
            Err(refusal) => return Fate::Reply(Reply::refusal(refusal)),
        };
        if met.ending == Some(Fault::LateCommit) {
            twin.show(Fault::LateCommit);
            let delay = i64::try_from(twin.settings.late_commit_ms).unwrap_or(i64::MAX);
            let due = twin.now.saturating_add(delay);
            twin.late.push(Late { due, call });
            return Fate::Severed(false);
        }
        call
    };
    if call.faults.has(Fault::ConditionalCreateRace) {
        let (seen, delay) = {
            let mut twin = sandbox.lock();
            (twin.look_up(&call), twin.settings.race_delay_ms)
        };
        if seen.is_some() {
            call.looked_up = seen;
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
    }
    let mut twin = sandbox.lock();
    let before = twin.effects.len();
    let result = twin.execute(&call);
    let committed = twin.effects.len() > before;
    match result {
        Err(refusal) => Fate::Reply(Reply::refusal(refusal)),
        Ok(answer) => twin.end_after(met.ending, interaction, answer, committed),
    }
}

impl Twin {
    /// What the condition of a create or update matches at first sight; `None` where there is no condition to look up.
    fn look_up(&mut self, call: &Call) -> Option<Vec<usize>> {
        let Target::Type(kind) = &call.target else { return None };
        if call.method == Method::POST {
            let text = call.conditions.if_none_exist.as_ref()?;
            // What goes wrong here goes wrong again, and is said, when the request is executed.
            let shown = self.shown.clone();
            let seen = self.condition(call, kind, text).ok().flatten();
            self.shown = shown;
            return seen;
        }
        if call.method == Method::PUT {
            return self.matched(call, kind, &call.query).ok().flatten();
        }
        None
    }

    /// The fate of a request that never gets to its work.
    fn end_before(&mut self, ending: Fault) -> Option<Fate> {
        let retry = self.settings.retry_after_s.to_string();
        let transient = |code: &'static str, text: &str| outcome(&[Issue::error(code, text)]).to_compact();
        let fate = match ending {
            Fault::Refuse | Fault::CutBeforeCommit => Fate::Severed(false),
            Fault::Hang => Fate::Hang(false),
            Fault::Status500 => Fate::Reply(Reply::page(500, "text/plain; charset=utf-8", "Internal Server Error")),
            Fault::Status502 => Fate::Reply(Reply::page(502, "text/html", GATEWAY_PAGE)),
            Fault::Status503 => Fate::Reply(Reply::page(503, "", "")),
            Fault::Status503RetryAfter => {
                Fate::Reply(Reply::page(503, "text/plain", "Service Unavailable").with_header("retry-after", retry))
            }
            Fault::Status503Outcome => {
                Fate::Reply(Reply::page(503, reply::FHIR_JSON, transient("transient", "The server is busy; try again later.")))
            }
            Fault::Status429 => Fate::Reply(
                Reply::page(429, reply::FHIR_JSON, transient("throttled", "Too many requests; slow down."))
                    .with_header("retry-after", retry),
            ),
            Fault::Html200 if !self.settings.html_commits => Fate::Reply(Reply::page(200, "text/html", LOGIN_PAGE)),
            Fault::Html502 if !self.settings.html_commits => Fate::Reply(Reply::page(502, "text/html", GATEWAY_PAGE)),
            Fault::Html404 => Fate::Reply(Reply::page(404, "text/html", NOT_FOUND_PAGE)),
            _ => return None,
        };
        self.show(ending);
        Some(fate)
    }

    /// The fate of a request whose work is done and well.
    fn end_after(&mut self, ending: Option<Fault>, interaction: Interaction, answer: Answer, committed: bool) -> Fate {
        let mut reply = Reply::answer(answer);
        let Some(ending) = ending else { return Fate::Reply(reply) };
        let fate = match ending {
            Fault::CutAfterCommit => Fate::Severed(committed),
            Fault::HangAfterCommit => Fate::Hang(committed),
            Fault::GatewayTimeout504 => Fate::Reply(Reply::page(504, "text/html", GATEWAY_PAGE)),
            Fault::Html200 => Fate::Reply(Reply::page(200, "text/html", LOGIN_PAGE)),
            Fault::Html502 => Fate::Reply(Reply::page(502, "text/html", GATEWAY_PAGE)),
            Fault::TruncatedJson if reply.body.len() > 2 => {
                let mut half = reply.body.len() / 2;
                while !reply.body.is_char_boundary(half) {
                    half -= 1;
                }
                reply.body.truncate(half);
                Fate::Reply(reply)
            }
            Fault::EmptyBody if matches!(interaction, Interaction::Create | Interaction::Update) && !reply.body.is_empty() => {
                reply.body.clear();
                Fate::Reply(reply)
            }
            _ => return Fate::Reply(reply),
        };
        self.show(ending);
        fate
    }
}

/// The faults of the wire, and the headers that every answer has.
fn finish(twin: &mut Twin, parts: &Parts, met: Met, mut reply: Reply) -> Response {
    let mut date = twin.now;
    if met.manners.has(Fault::ClockSkew) {
        twin.show(Fault::ClockSkew);
        date = date.saturating_add(twin.settings.clock_skew_ms);
    }
    reply.headers.push(("date", http_date(date)));
    if let Some(id) = header(&parts.headers, "x-request-id").filter(|_| twin.quirks.echoes_request_id) {
        reply.headers.push(("x-request-id", id));
    }
    if parts.method == Method::HEAD {
        reply.body.clear();
    }
    let mut drip = None;
    if !reply.body.is_empty() {
        if met.manners.has(Fault::ByteOrderMark) {
            twin.show(Fault::ByteOrderMark);
            reply.body.insert(0, '\u{feff}');
        }
        if met.manners.has(Fault::SlowBody) {
            twin.show(Fault::SlowBody);
            drip = Some(twin.settings.slow_body_ms);
        }
    }
    reply.into_response(drip)
}

fn read_call(sandbox: &Sandbox, quirks: &Quirks, parts: &Parts, target: Target, met: Met, text: &str) -> Result<Call, Refusal> {
    let mut query: Query = read_query(parts.uri.query().unwrap_or_default());
    acceptable(&parts.headers, &query)?;
    let content_type =
        header(&parts.headers, "content-type").map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    if parts.headers.contains_key("content-encoding") {
        return Err(Refusal::new(415, "not-supported", "This server reads no encoded bodies."));
    }
    let mut body = None;
    let takes_body = parts.method == Method::POST || parts.method == Method::PUT || parts.method == Method::PATCH;
    if matches!(target, Target::Search(_)) && parts.method == Method::POST {
        match content_type.as_deref() {
            Some("application/x-www-form-urlencoded") => query.extend(read_query(text)),
            None if text.is_empty() => {}
            _ => return Err(Refusal::new(415, "not-supported", "A search is posted as application/x-www-form-urlencoded.")),
        }
    } else if takes_body && !text.is_empty() {
        match content_type.as_deref() {
            Some("application/fhir+json" | "application/json" | "application/json+fhir" | "text/json") => {}
            None if quirks.content_type_optional => {}
            None => return Err(Refusal::new(400, "invalid", "The request has no Content-Type.")),
            Some(_) if quirks.content_type_optional => {
                return Err(Refusal::new(415, "not-supported", "This server reads application/fhir+json."));
            }
            Some(_) => return Err(Refusal::new(400, "not-supported", "This server reads application/fhir+json.")),
        }
        body = Some(Arc::new(read_json(text)?));
    }
    Ok(Call {
        method: parts.method.clone(),
        target,
        query,
        conditions: Conditions::of(&parts.headers),
        prefer: Prefer::of(&parts.headers),
        body,
        base: base(sandbox, parts),
        faults: met.manners,
        request_id: header(&parts.headers, "x-request-id"),
        no_cache: header(&parts.headers, "cache-control").is_some_and(|text| text.contains("no-cache") || text.contains("no-store")),
        late: false,
        by: Author::Client,
        bundled: false,
        looked_up: None,
        scopes: None,
        given_id: None,
    })
}

/// Reads a resource: JSON, an object, unique names (json.html).
pub(crate) fn read_json(text: &str) -> Result<Json, Refusal> {
    let body = Json::parse(text).map_err(|error| Refusal::new(400, "structure", format!("The body is not JSON: {error}.")))?;
    if body.as_object().is_none() {
        return Err(Refusal::new(400, "structure", "The body is not a JSON object."));
    }
    if let Some(name) = json::repeated_name(&body) {
        return Err(Refusal::new(400, "structure", format!("The member `{name}` stands twice in one object.")));
    }
    Ok(body)
}

fn acceptable(headers: &HeaderMap, query: &Query) -> Result<(), Refusal> {
    let refused = || Refusal::new(406, "not-supported", "This server answers in application/fhir+json only.");
    if let Some((_, format)) = query.iter().find(|(name, _)| name == "_format") {
        return if format.contains("json") { Ok(()) } else { Err(refused()) };
    }
    let Some(accept) = header(headers, "accept") else { return Ok(()) };
    let fits = accept.split(',').any(|one| {
        let kind = one.split(';').next().unwrap_or_default().trim();
        kind.contains("json") || kind == "*/*" || kind == "application/*" || kind.is_empty()
    });
    if fits { Ok(()) } else { Err(refused()) }
}

fn base(sandbox: &Sandbox, parts: &Parts) -> String {
    if let Some(base) = &sandbox.options().base_url {
        return base.trim_end_matches('/').to_owned();
    }
    let host = header(&parts.headers, "host").or_else(|| parts.uri.authority().map(ToString::to_string));
    format!("http://{}/fhir", host.as_deref().unwrap_or("sandbox.invalid"))
}
