//! A sandbox on a port of its own, and a plain client for it.
#![allow(dead_code)] // each test file uses its own part

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use reqwest::{Method, RequestBuilder, Response};
use sandbox::{FaultPlan, Options, Profile, Sandbox};
use serde_json::{Value, json};

pub struct Ward {
    pub sandbox: Sandbox,
    pub origin: String,
    pub client: reqwest::Client,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Ward {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A clock that tests move.
#[derive(Clone)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    pub fn new() -> Hand {
        Hand(Arc::new(AtomicI64::new(1_700_000_000_000)))
    }

    pub fn forward(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn clock(&self) -> Arc<dyn Fn() -> i64 + Send + Sync> {
        let hand = self.0.clone();
        Arc::new(move || hand.load(Ordering::SeqCst))
    }
}

pub async fn ward(options: Options) -> Ward {
    let sandbox = Sandbox::new(options);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(sandbox.clone().serve(listener));
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    Ward { sandbox, origin, client, server }
}

pub async fn plain() -> Ward {
    ward(Options::default()).await
}

pub async fn like(profile: Profile) -> Ward {
    ward(Options { profile, ..Options::default() }).await
}

pub async fn with(faults: FaultPlan) -> Ward {
    ward(Options { faults, ..Options::default() }).await
}

impl Ward {
    pub fn url(&self, path: &str) -> String {
        format!("{}/fhir/{path}", self.origin)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub fn send(&self, method: Method, path: &str, body: &Value) -> RequestBuilder {
        self.request(method, path).header("content-type", "application/fhir+json").body(body.to_string())
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.send(Method::POST, path, body).send().await.unwrap()
    }

    pub async fn put(&self, path: &str, body: &Value) -> Response {
        self.send(Method::PUT, path, body).send().await.unwrap()
    }

    /// Creates unless it is there, by identifier.
    pub fn create_once(&self, value: &str) -> RequestBuilder {
        self.send(Method::POST, "Observation", &observation(value)).header("if-none-exist", format!("identifier=urn:t|{value}"))
    }

    pub fn patient(&self, id: &str) {
        let json = json!({"resourceType": "Patient", "id": id, "name": [{"family": "Teste"}]});
        self.sandbox.put_resource(&json.to_string()).unwrap();
    }

    pub async fn search(&self, path: &str) -> Value {
        body(self.get(path).await).await
    }

    pub fn held(&self, value: &str) -> usize {
        self.sandbox.ledger().by_identifier("urn:t", value).len()
    }

    pub async fn control(&self, method: Method, path: &str, body: Value) -> Response {
        self.client.request(method, format!("{}/_sandbox/{path}", self.origin)).body(body.to_string()).send().await.unwrap()
    }
}

/// An Observation of nobody, with an identifier of `urn:t`.
pub fn observation(value: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "identifier": [{"system": "urn:t", "value": value}],
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "effectiveDateTime": "2024-01-01T10:00:00-03:00",
        "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    })
}

pub fn observation_of(value: &str, patient: &str) -> Value {
    let mut body = observation(value);
    body["subject"] = json!({"reference": format!("Patient/{patient}")});
    body
}

pub fn with_id(mut body: Value, id: &str) -> Value {
    body["id"] = json!(id);
    body
}

pub async fn body(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

pub fn status(response: &Response) -> u16 {
    response.status().as_u16()
}

pub fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

pub fn ids(bundle: &Value) -> Vec<String> {
    bundle["entry"]
        .as_array()
        .map(|entries| {
            entries
                .iter()
                .filter(|entry| entry["search"]["mode"] != "outcome")
                .map(|entry| entry["resource"]["id"].as_str().unwrap_or("").to_owned())
                .collect()
        })
        .unwrap_or_default()
}

pub fn next(bundle: &Value) -> Option<String> {
    bundle["link"].as_array()?.iter().find(|link| link["relation"] == "next").map(|link| link["url"].as_str().unwrap().to_owned())
}

pub fn batch(kind: &str, entries: Vec<Value>) -> Value {
    json!({"resourceType": "Bundle", "type": kind, "entry": entries})
}

pub fn post_entry(body: Value) -> Value {
    json!({"resource": body, "request": {"method": "POST", "url": "Observation"}})
}

pub fn statuses(bundle: &Value) -> Vec<String> {
    bundle["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["response"]["status"].as_str().unwrap().chars().take(3).collect())
        .collect()
}
