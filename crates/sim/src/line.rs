//! The line of a node to the EHRs, in process: it takes time, freezes its node, loses answers, and writes everything down.

use crate::chance::Senses;
use axum::body::Body;
use ehr::guard::{AllowLocal, Guard, Refusal};
use ehr::transport::{LostCause, Reply, Request, Sent, Transport};
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use model::Class;
use sandbox::{Hang, Sandbox, Severed};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};
use tower::ServiceExt;
use url::Url;

/// Everything that was said on all lines of a world.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    hash: Sha256,
    requests: u64,
    last: std::collections::VecDeque<String>,
}

/// So many lines are kept for a failed world's story.
const KEPT: usize = 60_000;

impl Log {
    pub fn say(&self, line: String) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.hash.update(line.as_bytes());
        if said.last.len() == KEPT {
            said.last.pop_front();
        }
        said.last.push_back(line);
    }

    fn request(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).requests += 1;
    }

    pub fn requests(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).requests
    }

    /// Of everything said so far.
    pub fn hash(&self) -> String {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.hash.clone().finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The lines that speak of something.
    pub fn about(&self, what: &str) -> Vec<String> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.last.iter().filter(|line| line.contains(what)).cloned().collect()
    }
}

/// Where a node freezes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    /// Before the last check of its lease.
    BeforeTheCheck,
    /// Between the check and the sending: nothing can fence it there.
    AfterTheCheck,
    /// The EHR has answered, and nothing of it is written down yet.
    AfterTheAnswer,
}

pub struct Line {
    pub name: String,
    senses: Senses,
    pub wards: Arc<BTreeMap<String, Sandbox>>,
    pub log: Log,
    /// The chance that a request freezes its node.
    pub freezes: Mutex<f64>,
    /// Rings when the node stands still.
    pub stands: Arc<Notify>,
    frozen: Mutex<Option<(Freeze, oneshot::Sender<()>)>>,
}

impl Line {
    pub fn new(name: String, senses: Senses, wards: Arc<BTreeMap<String, Sandbox>>, log: Log) -> Arc<Self> {
        let (freezes, stands, frozen) = (Mutex::new(0.0), Arc::default(), Mutex::default());
        Arc::new(Self { name, senses, wards, log, freezes, stands, frozen })
    }

    /// Where the node stands, and how to wake it.
    pub fn frozen(&self) -> Option<(Freeze, oneshot::Sender<()>)> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn freeze(&self, here: Freeze, meant: Option<Freeze>) {
        if meant != Some(here) {
            return;
        }
        let (go, woken) = oneshot::channel();
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = Some((here, go));
        self.stands.notify_one();
        let _ = woken.await;
    }

    fn draw_freeze(&self) -> Option<Freeze> {
        let mut chance = self.freezes.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.senses.dice.happens(*chance) {
            return None;
        }
        // One at a time: a node stands or it does not.
        *chance = 0.0;
        Some(*self.senses.dice.one_of(&[Freeze::BeforeTheCheck, Freeze::AfterTheCheck, Freeze::AfterTheAnswer]))
    }

    async fn exchange(&self, ward: &Sandbox, request: &Request) -> Sent {
        let lost = |cause| Sent::Lost { cause, detail: "No answer came.".to_owned(), late: None };
        let mut asked = http::Request::builder().method(request.method.clone()).uri(request.url.as_str());
        if let Some(headers) = asked.headers_mut() {
            *headers = request.headers.clone();
        }
        let took = self.senses.dice.between(1, 40);
        self.senses.hand.forward(took);
        let Ok(answer) = ward.router().oneshot(asked.body(Body::from(request.body.clone())).unwrap()).await;
        if answer.extensions().get::<Severed>().is_some() {
            return lost(LostCause::Cut);
        }
        if answer.extensions().get::<Hang>().is_some() {
            self.senses.hand.forward(request.deadline_ms);
            return lost(LostCause::Timeout);
        }
        let (parts, body) = answer.into_parts();
        match body.collect().await.map(http_body_util::Collected::to_bytes) {
            Err(_) => lost(LostCause::Cut),
            Ok(body) if body.len() > request.max_bytes => lost(LostCause::TooLarge),
            Ok(body) => Sent::Reply(Reply { status: parts.status.as_u16(), headers: parts.headers, body, elapsed_ms: took }),
        }
    }
}

impl Transport for Line {
    fn send(&self, request: Request) -> BoxFuture<'_, Sent> {
        Box::pin(async move {
            self.senses.heart.beat();
            let meant = self.draw_freeze();
            self.freeze(Freeze::BeforeTheCheck, meant).await;
            if request.connect_only_if.as_ref().is_some_and(|check| !check()) {
                return Sent::NotSent { class: Class::Unreachable, detail: "The lease is over.".to_owned(), withheld: true };
            }
            self.freeze(Freeze::AfterTheCheck, meant).await;
            let place = format!("{} {} {}", self.name, request.method, request.url);
            let Some(ward) = self.wards.get(request.url.host_str().unwrap_or_default()) else {
                return Sent::NotSent { class: Class::Unreachable, detail: "Nobody is there.".to_owned(), withheld: false };
            };
            self.log.request();
            let began = self.senses.hand.now().0;
            let sent = self.exchange(ward, &request).await;
            let came = match &sent {
                Sent::Reply(reply) => format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body)),
                other => format!("{other:?}"),
            };
            self.log.say(format!("{began} {place} {} → {came}", String::from_utf8_lossy(&request.body)));
            self.freeze(Freeze::AfterTheAnswer, meant).await;
            self.senses.heart.beat();
            sent
        })
    }

    fn admit(&self, url: &str) -> Result<Url, Refusal> {
        Guard::new(AllowLocal::All).check_url(url)
    }
}
