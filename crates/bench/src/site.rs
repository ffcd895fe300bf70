//! The EHR of a measurement: the sandbox over real HTTP, with a latency before every answer, and who came when.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sandbox::{Fault, Options, Profile, Quirks, Sandbox, Validation};
use serde_json::json;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// No request of a measurement is longer, bytes.
const LONGEST: usize = 64 * 1024 * 1024;

/// A sandbox that listens.
#[derive(Clone)]
pub struct Site {
    pub sandbox: Sandbox,
    /// Its FHIR base.
    pub base: String,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    latency_ms: AtomicU64,
    watched: AtomicUsize,
    writes: AtomicU64,
    creates: AtomicU64,
    came: Mutex<Vec<(Instant, Bytes)>>,
}

impl Site {
    /// Starts one. It takes no `PUT` of an id that the client chose, so that both loops send the same `POST` with `ifNoneExist`,
    /// and validates nothing, so that it takes the less of the machine.
    pub async fn start(latency_ms: u64) -> Self {
        let quirks = Quirks {
            validation: Validation::None,
            batch_validation: Validation::None,
            always: vec![Fault::NoUpdateCreate],
            max_page_size: 1000,
            ..Quirks::of(Profile::Plain)
        };
        let sandbox = Sandbox::new(Options { quirks: Some(quirks), check_subject: Some(false), ..Options::default() });
        let gate = Arc::new(Gate::default());
        gate.latency_ms.store(latency_ms, Ordering::Relaxed);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/fhir", listener.local_addr().unwrap());
        let router = sandbox.router().layer(from_fn_with_state(gate.clone(), pass));
        tokio::spawn(async move {
            axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))), router).await
        });
        Self { sandbox, base, gate }
    }

    /// From now on every answer comes so much later.
    pub fn latency(&self, ms: u64) {
        self.gate.latency_ms.store(ms, Ordering::Relaxed);
    }

    /// So many writes have come since the start.
    pub fn writes(&self) -> u64 {
        self.gate.writes.load(Ordering::Relaxed)
    }

    /// So many creates have come since the start, in bundles or alone.
    pub fn creates(&self) -> u64 {
        self.gate.creates.load(Ordering::Relaxed)
    }

    /// From now on keeps the body of every write of at most so many bytes, with its moment.
    pub fn watch(&self, longest: usize) {
        self.gate.watched.store(longest, Ordering::Relaxed);
        self.gate.came.lock().unwrap().clear();
    }

    /// When a write with each of these words in it came first.
    pub fn first(&self, words: &[String]) -> Vec<Option<Instant>> {
        let came = self.gate.came.lock().unwrap();
        let texts: Vec<(Instant, &str)> = came.iter().map(|(at, body)| (*at, std::str::from_utf8(body).unwrap_or(""))).collect();
        words.iter().map(|word| texts.iter().find(|(_, text)| text.contains(word.as_str())).map(|(at, _)| *at)).collect()
    }

    /// A Patient of the hospital's.
    pub fn patient(&self, id: &str) {
        self.sandbox.put_resource(&json!({"resourceType": "Patient", "id": id, "active": true}).to_string()).unwrap();
    }

    /// So many, and their ids.
    pub fn patients(&self, count: usize) -> Vec<String> {
        let ids: Vec<String> = (0..count).map(|n| format!("p{n}")).collect();
        ids.iter().for_each(|id| self.patient(id));
        ids
    }
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let at = Instant::now();
    let writes = request.method() != "GET";
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, LONGEST).await else { return axum::http::StatusCode::BAD_REQUEST.into_response() };
    if writes {
        gate.writes.fetch_add(1, Ordering::Relaxed);
        let in_bundle = std::str::from_utf8(&bytes).map_or(0, |text| text.matches(r#""ifNoneExist""#).count());
        gate.creates.fetch_add(in_bundle.max(1) as u64, Ordering::Relaxed);
        if bytes.len() <= gate.watched.load(Ordering::Relaxed) {
            gate.came.lock().unwrap().push((at, bytes.clone()));
        }
    }
    match gate.latency_ms.load(Ordering::Relaxed) {
        0 => {}
        ms => tokio::time::sleep(Duration::from_millis(ms)).await,
    }
    next.run(Request::from_parts(parts, Body::from(bytes))).await
}
