//! The sandbox EHR: a FHIR R4 server in memory, with seeded faults and a ledger of what really happened.
//!
//! It stands on the other side of the wire from the engine and shares no code with it, so that it may judge. It is good enough to test any
//! FHIR client: FHIR at `/fhir`, tokens at `/oauth/token`, control at `/_sandbox` (loopback only).
//!
//! # In a Rust test
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! use sandbox::{Fault, FaultPlan, Options, Profile, Sandbox};
//!
//! let sandbox = Sandbox::new(Options {
//!     profile: Profile::Helios,
//!     seed: 7,
//!     faults: FaultPlan::none().next(Fault::CutAfterCommit, 1).rate(Fault::Status503, 0.05),
//!     ..Options::default()
//! });
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let base = format!("http://{}/fhir", listener.local_addr()?);
//! let server = tokio::spawn(sandbox.clone().serve(listener));
//! // … point a client at `base` …
//! assert!(sandbox.ledger().doubled().is_empty());
//! # server.abort(); let _ = base; Ok(()) }
//! ```
//! Without HTTP, call [`Sandbox::router`] as a tower service. A lost reply is then a response with the extension [`Severed`] or [`Hang`]; treat
//! it as no answer at all. With a clock of your own ([`Options::clock`]) late commits become due by that clock and are carried out by
//! whatever comes next: a request, a look at the ledger, or [`Sandbox::settle_due`].
//!
//! # Control over HTTP
//! ```text
//! # always on; by chance; for the next two creates whose text has this identifier; with other figures
//! curl -X POST localhost:PORT/_sandbox/faults -H 'content-type: application/json' -d '{
//!   "on": ["search_lag"], "off": [], "rates": {"status_503": 0.05, "late_commit": 0.02},
//!   "scripts": [{"fault": "cut_after_commit", "next": 2, "method": "POST", "path": "/fhir/Observation", "identifier": "0190"}],
//!   "settings": {"lateCommitMs": 3000, "searchLagMs": 500}}'
//! curl        localhost:PORT/_sandbox/faults               # the plan, the figures, what was shown, every name with what it does
//! curl -X PUT localhost:PORT/_sandbox/faults -d '{}'       # replaces the whole plan; DELETE clears it (the profile's own faults stay)
//! curl        localhost:PORT/_sandbox/ledger               # effects, resources, faults shown, requests, tokens
//! curl       'localhost:PORT/_sandbox/ledger?since=120&type=Observation'
//! curl       'localhost:PORT/_sandbox/ledger?summary=true' # counts only
//! curl -X POST localhost:PORT/_sandbox/resources -d '{"resourceType": "Patient", "id": "p1"}'   # the hospital writes
//! curl -X DELETE localhost:PORT/_sandbox/resources/Patient/p1
//! curl -X POST localhost:PORT/_sandbox/reset               # as at the start, the seed too
//! ```
//! A fault is *on* (always), *rated* (chance per request that it concerns) or *scripted* (the next N matching requests). At most one fault ends
//! a request; a script goes before chance. Each fault is counted, by name, when it really shows. An effect is one committed write:
//! `seq, at, atMs, method, resourceType, id, versionId, identifiers` (as sent), `subject, source, content` (as stored, digit for
//! digit), `requestId` (`X-Request-Id`), `late`, `by` (`client` or `hospital`), `condition` (`none`, `noMatch`, `oneMatch`, `ignored`, `raced`).
//!
//! # What it does not do
//! XML, PATCH, `_include`, subscriptions, bulk export and compressed bodies.

mod bundle;
mod call;
mod capability;
mod chance;
mod control;
mod fault;
mod filter;
mod gate;
mod history;
mod instant;
mod interact;
mod json;
mod ledger;
mod oauth;
mod options;
mod outcome;
mod paging;
mod plan;
mod quirks;
mod reply;
mod search;
mod searchset;
mod serve;
mod twin;
mod types;
mod validate;
mod write;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{any, post};
use tokio::net::TcpListener;

pub use fault::{Fault, UnknownFault};
pub use ledger::{Author, Condition, Effect, Held, Identifier, Ledger};
pub use options::{Auth, OAuth2, Options, Profile, Settings, UnknownName};
pub use plan::{BadFlag, FaultPlan, Script};
pub use quirks::{Claims, ConditionForm, IdStyle, Paging, Quirks, UnknownParameter, UnknownType, Validation, VersionStyle};

use call::{Call, Conditions, Prefer, Query, Target};
use fault::FaultSet;
use twin::{Twin, Write};

/// Response extension: the line was cut; the client has no answer. Over real HTTP the connection closes instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Severed {
    /// Whether something was committed before the cut. A `late_commit` says false: it commits later.
    pub committed: bool,
}

/// Response extension: the answer never comes. Over real HTTP the connection stays open without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hang {
    /// Whether something was committed before.
    pub committed: bool,
    /// Milliseconds until the connection closes at last.
    pub ms: u64,
}

/// Why the hospital's own write could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Not JSON, not an object, or a name twice.
    #[error("the resource cannot be read: {0}")]
    Unreadable(String),
    /// No `resourceType`, or one that R4 does not have; or an id that FHIR does not allow.
    #[error("the resource needs a resourceType of FHIR R4, and an id of letters, digits, `-` and `.` if it has one")]
    Unnamed,
}

/// A FHIR R4 server in memory. Clones share one state.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    twin: Mutex<Twin>,
}

impl Sandbox {
    /// A sandbox with nothing in it.
    pub fn new(options: Options) -> Sandbox {
        let twin = Mutex::new(Twin::new(&options));
        Sandbox { shared: Arc::new(Shared { options, twin }) }
    }

    /// The whole server as a router: `/fhir`, `/oauth/token`, `/_sandbox`.
    pub fn router(&self) -> Router {
        let (fhir, token, control) = (self.clone(), self.clone(), self.clone());
        let fhir = any(move |request: Request<Body>| gate::fhir(fhir.clone(), request));
        Router::new()
            .route("/fhir", fhir.clone())
            .route("/fhir/", fhir.clone())
            .route("/fhir/{*path}", fhir)
            .route("/oauth/token", post(move |request: Request<Body>| gate::token(token.clone(), request)))
            .route("/_sandbox/{*path}", any(move |request: Request<Body>| control::control(control.clone(), request)))
    }

    /// Serves real HTTP/1.1 on this listener until the future is dropped.
    ///
    /// # Errors
    /// None today; the type leaves room.
    pub fn serve(self, listener: TcpListener) -> impl Future<Output = io::Result<()>> + Send + 'static {
        serve::serve(self, listener)
    }

    /// What happened and what there is, late commits that are due included.
    pub fn ledger(&self) -> Ledger {
        self.ledger_since(0)
    }

    /// The same, without the effects up to and including number `since`.
    pub fn ledger_since(&self, since: u64) -> Ledger {
        self.lock().ledger(since)
    }

    /// Requests whose line was cut and that are still to commit: the ledger's [`Ledger::late_pending`], without the rest.
    pub fn late_pending(&self) -> u64 {
        self.lock().late_pending()
    }

    /// Whether a request whose line was cut, and whose body has this text in it (an identifier's value), is still to commit.
    pub fn late_pending_with(&self, text: &str) -> bool {
        self.lock().late_pending_with(text)
    }

    /// Replaces the plan of faults; the profile's own stay unless the plan has them `off`.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.lock().plan = plan;
    }

    /// Changes the figures behind the faults.
    pub fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.lock().settings);
    }

    /// Commits what was cut before and is due by now.
    pub fn settle_due(&self) {
        drop(self.lock());
    }

    /// As at the start: empty, same seed, same faults and figures as in [`Options`].
    pub fn reset(&self) {
        let fresh = Twin::new(&self.shared.options);
        *self.raw_lock() = fresh;
    }

    /// The hospital's own people create or change a resource, unchecked; in the ledger `by` is `hospital`. Without an id one is given.
    /// Gives back type and id.
    ///
    /// # Errors
    /// If the text is not a resource of FHIR R4.
    pub fn put_resource(&self, json: &str) -> Result<(String, String), PutError> {
        let body = gate::read_json(json)
            .map_err(|refusal| PutError::Unreadable(refusal.issues.into_iter().map(|issue| issue.text).collect::<Vec<_>>().join(" ")))?;
        let kind = json::str_at(&body, "resourceType").filter(|kind| types::is_resource_type(kind)).ok_or(PutError::Unnamed)?.to_owned();
        let id = json::str_at(&body, "id").map(str::to_owned);
        if id.as_deref().is_some_and(|id| !types::is_id(id)) {
            return Err(PutError::Unnamed);
        }
        let mut twin = self.lock();
        let id = id.unwrap_or_else(|| twin.new_id());
        let method = if twin.row(&kind, &id).is_some() { "PUT" } else { "POST" };
        twin.commit(&hospital(), Write { kind: &kind, id: id.clone(), method, body: Some(body), condition: Condition::None });
        Ok((kind, id))
    }

    /// The hospital's own people delete a resource; false if there is none alive.
    pub fn delete(&self, kind: &str, id: &str) -> bool {
        let mut twin = self.lock();
        if twin.row(kind, id).is_none_or(|row| row.body().is_none()) {
            return false;
        }
        twin.commit(&hospital(), Write { kind, id: id.to_owned(), method: "DELETE", body: None, condition: Condition::None });
        true
    }

    /// A living resource as it is stored, digit for digit; `None` if there is none.
    pub fn resource(&self, kind: &str, id: &str) -> Option<String> {
        Some(self.lock().row(kind, id)?.body()?.to_compact())
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    /// The state at this moment, with everything committed that is due.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Twin> {
        let mut twin = self.raw_lock();
        twin.now = (self.shared.options.clock)();
        twin.settle();
        twin
    }

    fn raw_lock(&self) -> MutexGuard<'_, Twin> {
        // A panic under the lock is a defect of one request; the others still get their answers.
        self.shared.twin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Twin {
    /// Commits what was cut earlier and is due, in the order in which it became due, at the moment at which it did.
    fn settle(&mut self) {
        let now = self.now;
        while let Some(place) =
            self.late.iter().enumerate().filter(|(_, late)| late.due <= now).min_by_key(|(_, late)| late.due).map(|(place, _)| place)
        {
            let late = self.late.remove(place);
            self.now = late.due;
            let call = Call { late: true, ..late.call };
            // Whether it is refused now is the server's own affair: nobody is there to hear it.
            let _ = self.execute(&call);
        }
        self.now = now;
    }
}

fn hospital() -> Call {
    Call {
        method: http::Method::PUT,
        target: Target::Nothing,
        query: Query::new(),
        conditions: Conditions::default(),
        prefer: Prefer::default(),
        body: None,
        base: String::new(),
        faults: FaultSet::default(),
        request_id: None,
        no_cache: false,
        late: false,
        by: Author::Hospital,
        bundled: false,
        looked_up: None,
        scopes: None,
        given_id: None,
    }
}
