//! A house with everything in it: a fresh store, the router over it, tokens for whoever knocks.

use axum::Router;
use axum::body::Body;
use ehr::guard::AllowLocal;
use http::{HeaderMap, Method, Request, StatusCode};
use model::{Clock, Rng, TenantId, Timestamp};
use ponte_web::{Api, Role, TokenVerifier, sign_token};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::{KeyRing, Store};
use tower::ServiceExt;

pub const SECRET: &str = "a secret of at least thirty-two bytes";

pub struct House {
    pub store: Store,
    pub router: Router,
    _database: testing::Database,
}

pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(now.as_millis()).unwrap())
    }
}

struct OsChance;

impl Rng for OsChance {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

/// One house on each engine.
pub async fn houses() -> Vec<House> {
    houses_with(|_| {}).await
}

pub async fn houses_with(change: fn(&mut Api)) -> Vec<House> {
    let mut houses = Vec::new();
    for database in testing::databases().await {
        let keys = KeyRing::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let store = Store::open(database.url(), keys, Arc::new(OsChance)).await.unwrap();
        store.migrate().await.unwrap();
        store.come_home(WallClock.now()).await.unwrap();
        let verifier = TokenVerifier::hs256(&SECRET.into()).unwrap();
        let mut api = Api::new(store.clone(), verifier, AllowLocal::No, Arc::new(WallClock), SECRET.as_bytes());
        change(&mut api);
        houses.push(House { store, router: ponte_web::router(api), _database: database });
    }
    houses
}

pub fn token(tenant: &str, role: Role) -> String {
    sign_token(&SECRET.into(), &TenantId::new(tenant).unwrap(), role, "u-1", Duration::from_secs(600)).unwrap()
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// A problem of RFC 9457 with all its parts and this code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        let answer = self.is(status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:ponte:problem:{code}"));
        assert_eq!(problem["requestId"], answer.header("x-request-id"));
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        problem
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
    }

    #[track_caller]
    pub fn id(&self) -> String {
        self.json()["id"].as_str().unwrap_or_else(|| panic!("no id: {}", self.text)).to_owned()
    }
}

impl House {
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub fn as_role<'a>(&'a self, tenant: &'a str, role: Role) -> Caller<'a> {
        Caller { house: self, tenant, authorization: format!("Bearer {}", token(tenant, role)), headers: Vec::new() }
    }

    pub fn admin<'a>(&'a self, tenant: &'a str) -> Caller<'a> {
        self.as_role(tenant, Role::Admin)
    }

    pub fn nurse<'a>(&'a self, tenant: &'a str) -> Caller<'a> {
        self.as_role(tenant, Role::Nurse)
    }

    pub fn tenant(&self, name: &str) -> store::Tenant {
        self.store.tenant(&TenantId::new(name).unwrap())
    }
}

/// Somebody with a token.
#[derive(Clone)]
pub struct Caller<'a> {
    pub house: &'a House,
    pub tenant: &'a str,
    authorization: String,
    headers: Vec<(String, String)>,
}

impl Caller<'_> {
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<&str>) -> Answer {
        let mut headers = vec![("authorization", self.authorization.as_str())];
        if body.is_some() && !self.headers.iter().any(|(name, _)| name == "content-type") {
            headers.push(("content-type", "application/json"));
        }
        headers.extend(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let path = if path.starts_with("/api/") { path.to_owned() } else { format!("/api/v1{path}") };
        self.house.send(method, &path, &headers, body.map_or_else(Body::empty, |text| Body::from(text.to_owned()))).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(&body.to_string())).await
    }

    pub async fn post_text(&self, path: &str, body: &str) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    /// A POST without a body.
    pub async fn ask(&self, path: &str) -> Answer {
        self.call(Method::POST, path, None).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(&body.to_string())).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(&body.to_string())).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    /// A patient of this tenant; needs a delivery of its own.
    pub async fn patient(&self) -> String {
        self.post("/patients", json!({"name": "Ana Souza", "birthDate": "1961-04-02"})).await.is(201).id()
    }

    /// A patient that a person linked: observations go at once.
    pub async fn linked_patient(&self, ehr_id: &str) -> String {
        let admin = self.house.admin(self.tenant);
        admin.post("/patients", json!({"name": "Ana Souza", "birthDate": "1961-04-02", "ehrPatientId": ehr_id})).await.is(201).id()
    }

    pub async fn observation(&self, patient: &str) -> String {
        self.post("/observations", pain(patient)).await.is(201).id()
    }

    /// A connection in realtime.
    pub async fn connect(&self) {
        self.house.admin(self.tenant).post("/fhir/config", original_config()).await.is(201);
    }
}

pub fn pain(patient: &str) -> Value {
    json!({"patientId": patient, "code": "72514-3", "display": "Pain severity", "effectiveDateTime": "2026-11-20T09:30:00-03:00", "valueQuantity": 7, "unit": "{score}"})
}

/// The original's body, word for word.
pub fn original_config() -> Value {
    json!({
        "enabled": true, "baseUrl": "https://fhir.example.com/fhir", "authType": "oauth2",
        "authConfig": {"clientId": "your-client-id", "clientSecret": "your-client-secret", "tokenUrl": "https://fhir.example.com/oauth/token", "scope": "system/*.read system/*.write"},
        "syncDirection": "bidirectional", "syncFrequency": "realtime", "maxRetries": 3, "initialDelay": 1000, "maxDelay": 30000, "backoffMultiplier": 2.0
    })
}
