//! JSON over HTTP to one origin: the server's own API, and the platform's.

use serde_json::Value;
use std::time::Duration;
use ureq::http::Request;

/// Nothing here takes longer: a cold server's first search is the slowest.
const LIMIT: Duration = Duration::from_secs(90);

/// A base URL and what every request to it carries.
#[derive(Debug, Clone)]
pub struct Web {
    agent: ureq::Agent,
    base: String,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body; null where it is no JSON.
    pub json: Value,
}

impl Web {
    /// A FHIR base.
    pub fn fhir(base: &str) -> Self {
        Self::new(base, "application/fhir+json", Vec::new())
    }

    /// Ponte's API, with a token.
    pub fn platform(base: &str, token: &str) -> Self {
        Self::new(base, "application/json", vec![("Authorization", format!("Bearer {token}"))])
    }

    fn new(base: &str, content_type: &'static str, headers: Vec<(&'static str, String)>) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(LIMIT)).http_status_as_error(false).build();
        Self { agent: config.into(), base: base.trim_end_matches('/').to_owned(), content_type, headers }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut one = self.clone();
        one.headers.push((name, value.to_owned()));
        one
    }

    /// One request; `path` may be a whole URL of this origin.
    ///
    /// # Errors
    /// When no answer came.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let failed = |why: String| format!("{method} {url}: {why}");
        let mut request = Request::builder().method(method).uri(&url).header("Accept", self.content_type);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let answer = match body {
            Some(body) => {
                let request = request.header("Content-Type", self.content_type).body(body.to_string());
                request.map_err(|why| failed(why.to_string())).and_then(|r| self.agent.run(r).map_err(|why| failed(why.to_string())))
            }
            None => request
                .body(())
                .map_err(|why| failed(why.to_string()))
                .and_then(|r| self.agent.run(r).map_err(|why| failed(why.to_string()))),
        }?;
        let status = answer.status().as_u16();
        let text = answer.into_body().read_to_string().map_err(|why| failed(why.to_string()))?;
        Ok(Answer { status, json: serde_json::from_str(&text).unwrap_or(Value::Null) })
    }

    /// One request that must go well.
    ///
    /// # Errors
    /// When it does not answer 2xx.
    pub fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let answer = self.send(method, path, body)?;
        if (200..300).contains(&answer.status) {
            Ok(answer.json)
        } else {
            Err(format!("{method} {path}: {} {}", answer.status, answer.json))
        }
    }

    /// A GET that must go well.
    ///
    /// # Errors
    /// When it does not answer 2xx.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        self.must("GET", path, None)
    }
}
