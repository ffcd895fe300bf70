//! The nodes that are killed, frozen and started again, and the platform's calls that go on until a living node has answered.

use crate::running::{Running, keyed, said};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// No call waits longer for a living node.
const ANSWERED: Duration = Duration::from_secs(120);

/// A node and the URL of its API.
type Node = (Running, String);

/// The nodes of one play.
#[derive(Debug)]
pub struct Stage {
    ponte: PathBuf,
    folder: PathBuf,
    database: String,
    settings: Vec<(&'static str, String)>,
    /// Where each listened first: it does so again.
    addresses: Vec<Mutex<String>>,
    nodes: Vec<Mutex<Option<Node>>>,
    client: reqwest::Client,
    kills: AtomicUsize,
    again: AtomicUsize,
    /// Keeps what each node says in the folder.
    pub logs: bool,
}

impl Stage {
    /// So many nodes on this database, none of which runs yet. A call is given up, and repeated, after `patience`.
    ///
    /// # Panics
    /// When there is no HTTP client.
    #[must_use]
    pub fn new(ponte: &Path, folder: &Path, database: &str, nodes: usize, patience: Duration) -> Self {
        Self {
            ponte: ponte.to_owned(),
            folder: folder.to_owned(),
            database: database.to_owned(),
            settings: vec![
                ("PONTE_EHR_ALLOW_LOCAL", "true".to_owned()),
                ("PONTE_LEASE_SECONDS", "5".to_owned()),
                ("PONTE_LOG", "error,ponte::verbs::serve=info".to_owned()),
            ],
            addresses: (0..nodes).map(|_| Mutex::new("127.0.0.1:0".to_owned())).collect(),
            nodes: (0..nodes).map(|_| Mutex::new(None)).collect(),
            client: reqwest::Client::builder().timeout(patience).build().unwrap(),
            kills: AtomicUsize::new(0),
            again: AtomicUsize::new(0),
            logs: false,
        }
    }

    /// The same with another setting.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_owned()));
        self
    }

    /// How many nodes there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// How often one was killed.
    pub fn kills(&self) -> usize {
        self.kills.load(Ordering::SeqCst)
    }

    /// How many calls were made again.
    pub fn again(&self) -> usize {
        self.again.load(Ordering::SeqCst)
    }

    /// Starts node `at`; waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(&self, at: usize) {
        self.try_start(at).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Starts node `at`, where it was before; waits until it listens.
    ///
    /// # Errors
    /// When it ends before that.
    ///
    /// # Panics
    /// When the binary cannot be run.
    pub fn try_start(&self, at: usize) -> Result<(), String> {
        let address = self.addresses[at].lock().unwrap().clone();
        let mut command = keyed(&self.ponte, &self.folder, &["serve", "--listen", &address]);
        command.env("PONTE_DATABASE_URL", &self.database);
        for (name, value) in &self.settings {
            command.env(name, value);
        }
        let log = self.logs.then(|| self.folder.join(format!("node-{at}.log")));
        let mut node = Running::start_with_log(&mut command, log.as_deref());
        let url = node.try_url("listening on")?;
        url.trim_start_matches("http://").clone_into(&mut self.addresses[at].lock().unwrap());
        *self.nodes[at].lock().unwrap() = Some((node, format!("{url}/api/v1")));
        Ok(())
    }

    /// kill -9.
    ///
    /// # Panics
    /// When there is no `kill`.
    pub fn kill(&self, at: usize) {
        if let Some((node, _)) = self.nodes[at].lock().unwrap().take() {
            node.signal("KILL");
        }
        self.kills.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether node `at` was started and has ended by itself.
    ///
    /// # Panics
    /// When another thread broke off while it looked.
    pub fn has_ended(&self, at: usize) -> bool {
        self.nodes[at].lock().unwrap().as_mut().is_some_and(|(node, _)| node.has_ended())
    }

    /// Sends a signal to node `at`, if it runs: `STOP`, `CONT`.
    ///
    /// # Panics
    /// When there is no `kill`.
    pub fn signal(&self, at: usize, name: &str) {
        if let Some((node, _)) = &*self.nodes[at].lock().unwrap() {
            node.signal(name);
        }
    }

    /// A token of an admin of this tenant.
    ///
    /// # Panics
    /// When none is signed.
    #[must_use]
    pub fn admin(self: &Arc<Self>, tenant: &str) -> Platform {
        let words = ["token", "--tenant", tenant, "--role", "ADMIN", "--sub", "crash", "--ttl", "6h"];
        let signed = said(&mut keyed(&self.ponte, &self.folder, &words));
        assert_eq!(signed.code, 0, "{}", signed.err);
        Platform { stage: self.clone(), token: signed.out.trim().to_owned() }
    }

    fn url(&self, nth: usize) -> Option<String> {
        self.nodes[nth % self.nodes.len()].lock().unwrap().as_ref().map(|(_, url)| url.clone())
    }
}

/// The platform, as one tenant's admin.
#[derive(Debug, Clone)]
pub struct Platform {
    stage: Arc<Stage>,
    token: String,
}

impl Platform {
    /// One call, repeated until a living node has answered it; a key makes a repeated POST harmless.
    ///
    /// # Panics
    /// When no node answers for two minutes.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>, key: Option<&str>) -> (u16, Value) {
        let started = Instant::now();
        for nth in 0.. {
            assert!(started.elapsed() < ANSWERED, "no node answers {method} {path}");
            match self.once(nth, &method, path, body, key).await {
                Some((status, answer)) if is_an_answer(status, &answer) => return (status, answer),
                _ => self.stage.again.fetch_add(1, Ordering::SeqCst),
            };
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

    /// A POST under this key.
    pub async fn post(&self, path: &str, body: &Value, key: &str) -> (u16, Value) {
        self.call(Method::POST, path, Some(body), Some(key)).await
    }

    /// A GET.
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
