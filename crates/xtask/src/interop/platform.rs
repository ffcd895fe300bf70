//! The platform's side: the built `ponte`, started as an operator would, and its API.

use super::child::Running;
use super::web::Web;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Base64 of 32 bytes.
const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
/// Long enough for HS256.
const SECRET: &str = "a secret for servers of others, long enough for HS256";
/// A request of Ponte's is given up after this.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// Longer than the longest request of any of these servers.
const SETTLE_TIME: Duration = Duration::from_secs(8);

/// `ponte serve` and a tenant's admin.
#[derive(Debug)]
pub struct Platform {
    /// Its API.
    pub api: Web,
    _service: Running,
}

/// Builds the binary that is driven; where it lies.
///
/// # Errors
/// When it does not build.
pub fn build(root: &Path) -> Result<PathBuf, String> {
    let mut cargo = crate::cargo();
    let built = cargo.current_dir(root).args(["build", "--locked", "--quiet", "-p", "ponte"]).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("ponte does not build.".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("debug/ponte"))
}

impl Platform {
    /// Starts it on a fresh database in `home`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(binary: &Path, home: &Path) -> Result<Self, String> {
        let _ = std::fs::remove_dir_all(home);
        std::fs::create_dir_all(home).map_err(|why| format!("{}: {why}", home.display()))?;
        let mut serve = ponte(binary, home);
        serve.args(["serve", "--listen", "127.0.0.1:0"]).env("PONTE_LOG", "warn,ponte::verbs::serve=info");
        let mut service = Running::start(&mut serve, &home.join("ponte.log"))?;
        let line = service.line("listening on", Duration::from_secs(60))?;
        let url = line.find("http://").map(|from| &line[from..]).and_then(|rest| rest.split(['"', ' ']).next());
        let url = url.ok_or_else(|| format!("No URL in `{line}`."))?.to_owned();
        let token =
            ponte(binary, home).args(["token", "--tenant", "interop", "--role", "ADMIN", "--sub", "interop", "--ttl", "2h"]).output();
        let token = token.map_err(|why| why.to_string())?;
        let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
        Ok(Self { api: Web::platform(&format!("{url}/api/v1"), &token), _service: service })
    }

    /// Connects it to this FHIR base.
    ///
    /// # Errors
    /// When it refuses.
    pub fn connect(&self, base: &str) -> Result<(), String> {
        let config = json!({"enabled": true, "baseUrl": base, "authType": "basic", "authConfig": {"username": "ponte", "password": "any"},
            "syncFrequency": "realtime", "maxRetries": 20, "initialDelay": 100, "maxDelay": 1000, "batchSize": 10,
            "requestTimeout": millis(REQUEST_TIMEOUT), "settleTime": millis(SETTLE_TIME)});
        self.api.must("POST", "/fhir/config", Some(&config)).map(drop)
    }

    /// The connection test with its write probe on this test patient.
    ///
    /// # Errors
    /// When there is no report.
    pub fn check(&self, test_patient: &str) -> Result<Value, String> {
        let body = json!({"writeProbe": true, "testPatientId": test_patient});
        let report = self.api.with("Prefer", "wait=50").must("POST", "/fhir/config/test", Some(&body))?;
        if report["plan"].is_object() { Ok(report) } else { Err(format!("The check did not end in time: {report}")) }
    }

    /// Waits until nothing moves any more: no delivery waits for Ponte. Says what is left with a person.
    ///
    /// # Errors
    /// When it does not come to rest.
    pub fn rest(&self, limit: Duration) -> Result<Value, String> {
        let started = Instant::now();
        loop {
            let status = self.api.get("/fhir/status")?;
            let open: i64 = ["in_flight", "retry_scheduled", "uncertain"].iter().filter_map(|word| status["counts"][word].as_i64()).sum();
            if open == 0 && self.nothing_pends(&status)? {
                return Ok(status);
            }
            if started.elapsed() > limit {
                return Err(format!("Not at rest after {} s: {status} {}", limit.as_secs(), self.open_ones()?));
            }
            self.api.send("POST", "/fhir/observations/sync-all", Some(&json!({})))?;
            // The engine's own pace; there is no event for "at rest".
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Whether all that waits does so for a person, or stands behind what does.
    fn nothing_pends(&self, status: &Value) -> Result<bool, String> {
        if status["counts"]["pending"] == 0 && status["counts"]["held"] == 0 {
            return Ok(true);
        }
        let held = self.api.get("/fhir/deliveries?state=held&limit=200")?;
        let pending = self.api.get("/fhir/deliveries?state=pending&limit=200")?;
        let (for_ponte, for_people): (Vec<&Value>, Vec<&Value>) =
            items(&held).iter().chain(items(&pending)).partition(|delivery| delivery["whoseMove"] == "ponte");
        Ok(for_ponte.iter().all(|one| for_people.iter().any(|front| front["patientId"] == one["patientId"])))
    }

    fn open_ones(&self) -> Result<Value, String> {
        let mut open = Vec::new();
        for state in ["uncertain", "in_flight", "retry_scheduled", "pending", "held", "dead"] {
            let list = self.api.get(&format!("/fhir/deliveries?state={state}&limit=1"))?;
            if let Some(id) = list["items"][0]["id"].as_str() {
                open.push(self.api.get(&format!("/fhir/deliveries/{id}"))?);
            }
        }
        Ok(Value::from(open))
    }

    /// Every delivery with its attempts.
    ///
    /// # Errors
    /// When the API does not answer.
    pub fn deliveries(&self) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        let mut path = "/fhir/deliveries?limit=200".to_owned();
        loop {
            let page = self.api.get(&path)?;
            for id in items(&page).iter().filter_map(|one| one["id"].as_str()) {
                all.push(self.api.get(&format!("/fhir/deliveries/{id}"))?);
            }
            let Some(cursor) = page["nextCursor"].as_str() else { return Ok(all) };
            path = format!("/fhir/deliveries?limit=200&cursor={cursor}");
        }
    }

    /// Every observation of a patient.
    ///
    /// # Errors
    /// When the API does not answer.
    pub fn observations(&self, patient: &str) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        let mut path = format!("/observations?patientId={patient}&limit=200");
        loop {
            let page = self.api.get(&path)?;
            all.extend(items(&page).iter().cloned());
            let Some(cursor) = page["nextCursor"].as_str() else { return Ok(all) };
            path = format!("/observations?patientId={patient}&limit=200&cursor={cursor}");
        }
    }

    /// Pulls a patient until it is complete.
    ///
    /// # Errors
    /// When it never is.
    pub fn pull(&self, patient: &str, limit: Duration) -> Result<Value, String> {
        let started = Instant::now();
        let path = format!("/fhir/patients/{patient}/pull");
        loop {
            let answer = self.api.with("Prefer", "wait=50").send("POST", &path, Some(&json!({})))?;
            if answer.status == 200 {
                return Ok(answer.json);
            }
            if started.elapsed() > limit {
                return Err(format!("The pull is not complete after {} s: {} {}", limit.as_secs(), answer.status, answer.json));
            }
            // The circuit or the pull's own wait goes on meanwhile.
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

/// The rows of a list.
pub fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn ponte(binary: &Path, home: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PONTE_")) {
        command.env_remove(name);
    }
    command.current_dir(home).env("PONTE_ENCRYPTION_KEY", KEY).env("PONTE_JWT_SECRET", SECRET).env("PONTE_EHR_ALLOW_LOCAL", "true");
    command
}
