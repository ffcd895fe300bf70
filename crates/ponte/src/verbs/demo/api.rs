//! A small client of Ponte's own API, as a platform would have one.

use crate::exit::Failure;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// Longer than any wait that the API offers.
const LIMIT: Duration = Duration::from_secs(45);

/// The API of one service, for one token.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    token: String,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body; null where there is none.
    pub body: Value,
}

impl Api {
    /// A client; `base` without `/api/v1`.
    ///
    /// # Errors
    /// When the machine's TLS will not start.
    pub fn new(base: &str, token: &str) -> Result<Self, Failure> {
        let client = reqwest::Client::builder().timeout(LIMIT).no_proxy().build();
        let client = client.map_err(|_| Failure::failed("The HTTP client could not be set up on this machine."))?;
        Ok(Self { client, base: format!("{base}/api/v1"), token: token.to_owned() })
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::GET, path, None, None).await
    }

    /// `POST`; `wait` becomes `Prefer: wait=N`, seconds.
    pub async fn post(&self, path: &str, body: &Value, wait: Option<u32>) -> Result<Answer, Failure> {
        self.call(Method::POST, path, Some(body), wait).await
    }

    /// `PATCH`.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.call(Method::PATCH, path, Some(body), None).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::DELETE, path, None, None).await
    }

    /// Every row of a list, newest first.
    pub async fn all(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut url = format!("{path}{}limit=200", if path.contains('?') { "&" } else { "?" });
            if let Some(cursor) = &cursor {
                url.push_str("&cursor=");
                url.extend(url::form_urlencoded::byte_serialize(cursor.as_bytes()));
            }
            let mut page = self.get(&url).await?.expect_status(&[200])?;
            if let Some(Value::Array(rows)) = page.get_mut("items").map(Value::take) {
                items.extend(rows);
            }
            match page.get("nextCursor").and_then(Value::as_str) {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>, wait: Option<u32>) -> Result<Answer, Failure> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(seconds) = wait {
            request = request.header("Prefer", format!("wait={seconds}"));
        }
        let failed = |why: reqwest::Error| Failure::failed(format!("Ponte's own API did not answer: {}.", why.without_url()));
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(failed)?;
        let body = if bytes.is_empty() || status == StatusCode::NO_CONTENT { Value::Null } else { serde_json::from_slice(&bytes)? };
        Ok(Answer { status: status.as_u16(), body })
    }
}

impl Answer {
    /// The body, if the status is one of these.
    ///
    /// # Errors
    /// The problem's own words otherwise.
    pub fn expect_status(self, good: &[u16]) -> Result<Value, Failure> {
        if good.contains(&self.status) {
            return Ok(self.body);
        }
        let word = |name: &str| self.body.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        Err(Failure::failed(format!("Ponte's own API answered {} {}: {}", self.status, word("code"), word("detail"))))
    }
}
