//! The nodes that are killed and started again, and the platform's calls that go on until a living node has answered.

use crate::running::{Running, keyed};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// No call waits longer for a living node.
const ANSWERED: Duration = Duration::from_secs(120);

/// A node and the URL of its API.
type Node = (Running, String);

/// The nodes of one play.
pub struct Stage {
    pub folder: PathBuf,
    pub database: String,
    pub nodes: Vec<Mutex<Option<Node>>>,
    pub client: reqwest::Client,
    pub kills: AtomicUsize,
}

impl Stage {
    /// Starts node `at`; waits until it listens.
    pub fn start(&self, at: usize) {
        let mut command = keyed(&self.folder, &["serve", "--listen", "127.0.0.1:0"]);
        command
            .env("PONTE_DATABASE_URL", &self.database)
            .env("PONTE_EHR_ALLOW_LOCAL", "true")
            .env("PONTE_LEASE_SECONDS", "5")
            .env("PONTE_LOG", "error,ponte::verbs::serve=info");
        let mut node = Running::start(&mut command);
        let url = node.url("listening on");
        *self.nodes[at].lock().unwrap() = Some((node, format!("{url}/api/v1")));
    }

    /// kill -9.
    pub fn kill(&self, at: usize) {
        if let Some((node, _)) = self.nodes[at].lock().unwrap().take() {
            node.signal("KILL");
        }
        self.kills.fetch_add(1, Ordering::SeqCst);
    }

    fn url(&self, nth: usize) -> Option<String> {
        self.nodes[nth % self.nodes.len()].lock().unwrap().as_ref().map(|(_, url)| url.clone())
    }
}

/// The platform, as one tenant's admin.
#[derive(Clone)]
pub struct Platform {
    pub stage: std::sync::Arc<Stage>,
    pub token: String,
}

impl Platform {
    /// One call, repeated until a living node has answered it; a key makes a repeated POST harmless.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>, key: Option<&str>) -> (u16, Value) {
        let started = Instant::now();
        for nth in 0.. {
            assert!(started.elapsed() < ANSWERED, "no node answers {method} {path}");
            let again = match self.once(nth, &method, path, body, key).await {
                Some((status, answer)) if is_an_answer(status, &answer) => return (status, answer),
                Some((status, answer)) => format!("{status} {answer}"),
                None => continue,
            };
            println!("{method} {path}: {again}");
        }
        unreachable!("the loop ends by an answer or by its limit")
    }

    /// None: nobody was there, or went down before it had answered.
    async fn once(&self, nth: usize, method: &Method, path: &str, body: Option<&Value>, key: Option<&str>) -> Option<(u16, Value)> {
        let sent = async {
            let mut request = self.stage.client.request(method.clone(), format!("{}{path}", self.stage.url(nth)?)).bearer_auth(&self.token);
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(key) = key {
                request = request.header("Idempotency-Key", key);
            }
            let answer = request.send().await.ok()?;
            let status = answer.status().as_u16();
            Some((status, serde_json::from_str(&answer.text().await.ok()?).unwrap_or(Value::Null)))
        }
        .await;
        if sent.as_ref().is_none_or(|(status, answer)| !is_an_answer(*status, answer)) {
            // A node that comes up again is no event that a caller could wait for.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        sent
    }

    /// One try, whatever comes of it.
    pub async fn try_once(&self, method: Method, path: &str, body: &Value) {
        self.once(0, &method, path, Some(body), None).await;
    }

    pub async fn post(&self, path: &str, body: &Value, key: &str) -> (u16, Value) {
        self.call(Method::POST, path, Some(body), Some(key)).await
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, None, None).await.1
    }

    /// Everything of the tenant is due again.
    pub async fn sync_all(&self) {
        self.call(Method::POST, "/fhir/observations/sync-all", Some(&json!({})), None).await;
    }
}

/// What the node itself says; everything else is a node in trouble, or the first try of a key that is still being answered.
fn is_an_answer(status: u16, answer: &Value) -> bool {
    match status {
        409 => answer["code"] != "idempotency_in_progress",
        429 => false,
        500.. => answer["code"] == "pull_incomplete",
        _ => true,
    }
}
