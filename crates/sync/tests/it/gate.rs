//! A gate in the line between an engine and its EHR: it stops a node before or after a request, and answers in the EHR's
//! place what only a proxy says. What passes goes over real HTTP.

use bytes::Bytes;
use ehr::guard::Refusal;
use ehr::transport::{HttpTransport, LastCheck, Reply, Request, Sent, Transport};
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method};
use model::{Class, Timestamp};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;
use url::Url;

use crate::world::Hand;

/// Where a node stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Before the last check of its lease.
    BeforeTheCheck,
    /// Between the check and the sending: nothing can fence it there.
    AfterTheCheck,
    /// The EHR has answered, and nothing of it is written down yet.
    AfterTheAnswer,
    /// As `AfterTheCheck`, and the node dies of it: whatever the EHR says, nobody hears it.
    LastBreath,
}

/// Which request: method, and a part of path, query or body.
#[derive(Debug, Clone)]
pub struct Which {
    method: Method,
    part: String,
    /// So many that match pass first.
    skip: u32,
}

/// The headers of an answer in FHIR's JSON.
pub const FHIR: &[(&str, &str)] = &[("content-type", "application/fhir+json")];

/// An EHR's words.
pub fn outcome(code: &str, text: &str) -> String {
    serde_json::json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code, "details": {"text": text}}]})
        .to_string()
}

impl Which {
    pub fn new(method: &str, part: impl ToString) -> Self {
        Self { method: method.parse().unwrap(), part: part.to_string(), skip: 0 }
    }

    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    fn is(&self, request: &Request) -> bool {
        request.method == self.method
            && (request.url.as_str().contains(&self.part) || String::from_utf8_lossy(&request.body).contains(&self.part))
    }
}

/// A node that stands still (or will).
pub struct Frozen {
    reached: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Frozen {
    /// Waits until it stands there.
    pub async fn stands(&mut self) {
        (&mut self.reached).await.expect("the node never came to the gate");
    }

    /// It goes on.
    pub fn wake(self) {
        let _ = self.go.send(());
    }
}

enum Rule {
    Stop { stop: Stop, reached: oneshot::Sender<()>, go: oneshot::Receiver<()> },
    Answer(Reply),
    NotSent(Class),
    Alter(Arc<dyn Fn(&str) -> String + Send + Sync>),
}

/// What passed, and when by the test's clock.
#[derive(Debug, Clone)]
pub struct Passed {
    pub at: Timestamp,
    pub method: Method,
    pub path: String,
    pub body: Bytes,
}

pub struct Gate {
    line: Arc<HttpTransport>,
    clock: Hand,
    rules: Mutex<Vec<(Which, Option<Rule>, u32)>>,
    passed: Mutex<Vec<Passed>>,
    /// Requests between node and EHR just now.
    there: AtomicUsize,
    most_there: AtomicUsize,
}

/// A request between node and EHR, until it is answered or given up.
struct There<'a>(&'a AtomicUsize);

impl Drop for There<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gate {
    pub fn new(line: Arc<HttpTransport>, clock: Hand) -> Arc<Self> {
        Arc::new(Self {
            line,
            clock,
            rules: Mutex::default(),
            passed: Mutex::default(),
            there: AtomicUsize::new(0),
            most_there: AtomicUsize::new(0),
        })
    }

    /// The next such request stops its node.
    pub fn freeze(&self, which: Which, stop: Stop) -> Frozen {
        let (reached, stands) = oneshot::channel();
        let (go, woken) = oneshot::channel();
        self.rules.lock().unwrap().push((which, Some(Rule::Stop { stop, reached, go: woken }), 1));
        Frozen { reached: stands, go }
    }

    /// The next `times` such requests never reach the EHR; a proxy answers.
    pub fn answer(&self, which: Which, times: u32, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers = headers.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect();
        let reply = Reply { status, headers, body: Bytes::copy_from_slice(body.as_bytes()), elapsed_ms: 1 };
        self.rules.lock().unwrap().push((which, Some(Rule::Answer(reply)), times));
    }

    /// The next `times` such requests find nobody at the address.
    pub fn nobody_there(&self, which: Which, times: u32, class: Class) {
        self.rules.lock().unwrap().push((which, Some(Rule::NotSent(class)), times));
    }

    /// The answer to the next `times` such requests is another one than the EHR's.
    pub fn alter(&self, which: Which, times: u32, alter: impl Fn(&str) -> String + Send + Sync + 'static) {
        self.rules.lock().unwrap().push((which, Some(Rule::Alter(Arc::new(alter))), times));
    }

    /// Everything passes again.
    pub fn open(&self) {
        self.rules.lock().unwrap().clear();
    }

    /// What the engine sent, in order, proxies' answers included.
    pub fn passed(&self) -> Vec<Passed> {
        self.passed.lock().unwrap().clone()
    }

    /// The last requests, for a panic's message.
    pub fn last(&self, n: usize) -> Vec<String> {
        let passed = self.passed.lock().unwrap();
        passed.iter().rev().take(n).map(|p| format!("{} {} {} {}", p.at.0, p.method, p.path, String::from_utf8_lossy(&p.body))).collect()
    }

    /// How many requests with this method and this part in path or body.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.passed().iter().filter(|p| p.is(method, part)).count()
    }

    /// How many requests were there at once since this was asked last.
    pub fn most_at_once(&self) -> usize {
        self.most_there.swap(0, Ordering::SeqCst)
    }

    /// When they were sent.
    pub fn times(&self, method: &str, part: &str) -> Vec<Timestamp> {
        self.passed().iter().filter(|p| p.is(method, part)).map(|p| p.at).collect()
    }

    fn rule(&self, request: &Request) -> Option<Rule> {
        let mut rules = self.rules.lock().unwrap();
        let at = rules.iter_mut().position(|(which, _, _)| {
            if !which.is(request) {
                return false;
            }
            if which.skip > 0 {
                which.skip -= 1;
                return false;
            }
            true
        })?;
        let (_, rule, times) = &mut rules[at];
        *times -= 1;
        let taken = match rule {
            Some(Rule::Answer(reply)) => Some(Rule::Answer(reply.clone())),
            Some(Rule::NotSent(class)) => Some(Rule::NotSent(*class)),
            Some(Rule::Alter(alter)) => Some(Rule::Alter(alter.clone())),
            Some(Rule::Stop { .. }) | None => rule.take(),
        };
        if rules[at].2 == 0 {
            rules.remove(at);
        }
        taken
    }
}

impl Passed {
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method.as_str() == method && (self.path.contains(part) || String::from_utf8_lossy(&self.body).contains(part))
    }
}

impl Transport for Gate {
    fn send(&self, request: Request) -> BoxFuture<'_, Sent> {
        Box::pin(async move {
            let now_there = self.there.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_there.fetch_max(now_there, Ordering::SeqCst);
            let _there = There(&self.there);
            let path = request.url.path().to_owned() + &request.url.query().map(|q| format!("?{q}")).unwrap_or_default();
            let passing = Passed { at: self.clock.now(), method: request.method.clone(), path, body: request.body.clone() };
            let rule = self.rule(&request);
            let pass = || self.passed.lock().unwrap().push(Passed { at: self.clock.now(), ..passing.clone() });
            match rule {
                None => {
                    pass();
                    self.line.send(request).await
                }
                Some(Rule::Answer(reply)) => {
                    pass();
                    Sent::Reply(reply)
                }
                Some(Rule::NotSent(class)) => Sent::NotSent { class, detail: "Nobody is there.".to_owned(), withheld: false },
                Some(Rule::Alter(alter)) => {
                    pass();
                    match self.line.send(request).await {
                        Sent::Reply(reply) => {
                            let body = alter(&String::from_utf8_lossy(&reply.body));
                            Sent::Reply(Reply { body: Bytes::from(body), ..reply })
                        }
                        other => other,
                    }
                }
                Some(Rule::Stop { stop: Stop::BeforeTheCheck, reached, go }) => {
                    let _ = reached.send(());
                    let _ = go.await;
                    pass();
                    self.line.send(request).await
                }
                Some(Rule::Stop { stop: stop @ (Stop::AfterTheCheck | Stop::LastBreath), reached, go }) => {
                    assert!(may(request.connect_only_if.as_ref()), "the last check said no");
                    let _ = reached.send(());
                    let _ = go.await;
                    pass();
                    let sent = self.line.send(Request { connect_only_if: None, ..request }).await;
                    if stop == Stop::LastBreath { std::future::pending().await } else { sent }
                }
                Some(Rule::Stop { stop: Stop::AfterTheAnswer, reached, go }) => {
                    pass();
                    let sent = self.line.send(request).await;
                    let _ = reached.send(());
                    let _ = go.await;
                    sent
                }
            }
        })
    }

    fn admit(&self, url: &str) -> Result<Url, Refusal> {
        self.line.admit(url)
    }
}

fn may(check: Option<&LastCheck>) -> bool {
    check.is_none_or(|check| check())
}
