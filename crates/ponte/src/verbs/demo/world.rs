//! The demo's world: a sandbox EHR, a service on SQLite, a tenant, and a platform's client of the API.

use super::Demo;
use super::api::Api;
use super::people::{Person, people};
use crate::exit::Failure;
use crate::settings::{Layers, Settings};
use crate::{open, wire};
use model::{Clock, TenantId, Timestamp};
use sandbox::{Auth, Fault, FaultPlan, OAuth2, Options, Sandbox};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The tenant's name.
const TENANT: &str = "hospital-demo";
/// How long the token holds.
const TOKEN_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// How long the engine may take to end.
const DRAIN: Duration = Duration::from_secs(4);
/// Workers: enough for one tenant.
const WORKERS: usize = 8;

/// All that runs.
pub struct World {
    /// The EHR.
    pub sandbox: Sandbox,
    /// The platform's client.
    pub api: Api,
    /// The tenant's data, for the view.
    pub tenant: store::Tenant,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The people, in the order of `patients`.
    pub people: Vec<Person>,
    /// Their ids at the platform.
    pub patients: Vec<String>,
    api_base: String,
    ehr_base: String,
    token: String,
    scratch: TempDir,
    parts: JoinSet<()>,
    shutdown: CancellationToken,
}

impl World {
    /// Starts everything and makes the tenant: its connection and its patients, some of whom the hospital knows already.
    ///
    /// # Errors
    /// What could not be started.
    pub async fn start(demo: &Demo) -> Result<Self, Failure> {
        let people = people();
        let (sandbox, ehr_base, client_secret, mut parts) = hospital(demo, &people).await?;
        let scratch = tempfile::Builder::new().prefix("ponte-demo-").tempdir()?;
        let secret = SecretString::from(open::random_key());
        let settings = settings(&scratch, &secret)?;
        let store = open::connect(&settings, settings.keys()?).await?;
        store.migrate().await?;
        let clock = wire::clock();
        store.come_home(clock.now()).await?;

        let shutdown = CancellationToken::new();
        let listener = listener(demo).await?;
        let api_base = format!("http://{}", listener.local_addr()?);
        let router = wire::api(&store, &settings, clock.clone(), crate::telemetry::metrics())?;
        let ends = shutdown.clone().cancelled_owned();
        parts.spawn(async move {
            web::serve(listener, router, web::HEAD_TIME, ends).await;
        });
        let engine = wire::engine(&store, &settings.allow_local, clock.clone(), settings.lease_ms)?;
        parts.spawn(wire::work(engine, settings.workers, wire::schedules(&settings)?, shutdown.clone()));

        let tenant_id = TenantId::new(TENANT).map_err(|bad| Failure::failed(bad.to_string()))?;
        let token = wire::sign(&secret, &tenant_id, "ADMIN", "demo", TOKEN_LIFE)?;
        std::fs::write(scratch.path().join("token"), &token)?;
        let api = Api::new(&api_base, &token)?;
        let mut world = Self {
            sandbox,
            api,
            tenant: store.tenant(&tenant_id),
            clock,
            people,
            patients: Vec::new(),
            api_base,
            ehr_base,
            token,
            scratch,
            parts,
            shutdown,
        };
        world.settle_in(&client_secret).await?;
        Ok(world)
    }

    /// Now, as a clinician in São Paulo would write it.
    pub fn written_now(&self) -> String {
        let local = Timestamp(self.clock.now().0 - 3 * 3_600_000).rfc3339();
        format!("{}-03:00", local.get(..19).unwrap_or(&local))
    }

    /// What is where, and what to try.
    pub fn intro(&self) -> String {
        let Self { api_base, ehr_base, token, .. } = self;
        let (file, control) = (self.token_file(), ehr_base.replace("/fhir", "/_sandbox"));
        let patient = self.patients.first().map_or("", String::as_str);
        let at = self.written_now();
        format!(
            "Ponte demo. All of it runs in this process and is gone when it ends (Ctrl-C).\n\n  \
             API      {api_base}/api/v1   to read and try it: {api_base}/docs\n  \
             EHR      {ehr_base}   the sandbox; what really happened there: {control}/ledger?summary=true\n  \
             tenant   {TENANT}, role ADMIN; the token holds for 12 h and stands in {file}:\n\n{token}\n\n\
             Try, in another terminal:\n\n  \
             export TOKEN=$(cat {file})\n  \
             curl -s -H \"Authorization: Bearer $TOKEN\" {api_base}/api/v1/fhir/status\n  \
             curl -s -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{{\"patientId\":\"{patient}\",\"code\":\"8310-5\",\
             \"display\":\"Body temperature\",\"valueQuantity\":37.10,\"unit\":\"Cel\",\"effectiveDateTime\":\"{at}\"}}' {api_base}/api/v1/observations\n  \
             curl -s -H \"Authorization: Bearer $TOKEN\" '{api_base}/api/v1/fhir/deliveries?limit=5'\n"
        )
    }

    /// The same for a script.
    pub fn intro_json(&self) -> Value {
        json!({
            "event": "ready", "apiUrl": format!("{}/api/v1", self.api_base), "ehrUrl": self.ehr_base, "tenantId": TENANT, "role": "ADMIN",
            "token": self.token, "patients": self.patients,
        })
    }

    /// Ends everything in order and throws the scratch folder away.
    pub async fn end(mut self) {
        self.shutdown.cancel();
        let _ = tokio::time::timeout(DRAIN, async {
            // The hospital never ends by itself.
            while self.parts.len() > 1 && self.parts.join_next().await.is_some() {}
        })
        .await;
        self.parts.abort_all();
        let _ = self.scratch.close();
    }

    fn token_file(&self) -> String {
        self.scratch.path().join("token").display().to_string()
    }

    async fn settle_in(&mut self, client_secret: &str) -> Result<(), Failure> {
        let config = json!({
            "enabled": true,
            "baseUrl": self.ehr_base,
            "authType": "oauth2",
            "authConfig": {
                "clientId": "ponte-demo",
                "clientSecret": client_secret,
                "tokenUrl": self.ehr_base.replace("/fhir", "/oauth/token"),
                "scope": "system/*.read system/*.write",
            },
            "syncDirection": "bidirectional",
            "syncFrequency": "realtime",
            // Short, so that one sees it happen: a hospital would have minutes here.
            "maxRetries": 10, "initialDelay": 200, "maxDelay": 2000, "backoffMultiplier": 2,
            "requestTimeout": 2000, "settleTime": 1500,
        });
        self.api.post("/fhir/config", &config, None).await?.expect_status(&[200, 201])?;
        for person in &self.people {
            let made = self.api.post("/patients", &person.patient, None).await?.expect_status(&[201])?;
            let id = made.get("id").and_then(Value::as_str).ok_or_else(|| Failure::failed("Ponte's own API gave a patient no id."))?;
            self.patients.push(id.to_owned());
        }
        Ok(())
    }
}

async fn hospital(demo: &Demo, people: &[Person]) -> Result<(Sandbox, String, String, JoinSet<()>), Failure> {
    let secret = open::random_key();
    let mut options = Options {
        profile: demo.like,
        auth: vec![Auth::OAuth2(OAuth2::new("ponte-demo", &secret))],
        seed: demo.seed,
        faults: if demo.no_faults { FaultPlan::none() } else { faults() },
        ..Options::default()
    };
    options.settings.late_commit_ms = 600;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}/fhir", listener.local_addr()?);
    let sandbox = Sandbox::new(options);
    for person in people.iter().filter(|person| person.at_hospital) {
        sandbox.put_resource(&person.resource.to_string()).map_err(|why| Failure::failed(why.to_string()))?;
    }
    let mut parts = JoinSet::new();
    let server = sandbox.clone().serve(listener);
    parts.spawn(async move { drop(server.await) });
    Ok((sandbox, base, secret, parts))
}

/// Some of everything that hurts: lost before, lost after, applied late, refused, throttled, broken.
fn faults() -> FaultPlan {
    FaultPlan::none()
        .rate(Fault::CutAfterCommit, 0.06)
        .rate(Fault::LateCommit, 0.03)
        .rate(Fault::CutBeforeCommit, 0.03)
        .rate(Fault::Status503, 0.02)
        .rate(Fault::Status503RetryAfter, 0.02)
        .rate(Fault::Status500, 0.02)
        .rate(Fault::Status429, 0.02)
        .rate(Fault::TruncatedJson, 0.02)
        .rate(Fault::Html502, 0.01)
        .rate(Fault::TokenRevoked, 0.01)
        .rate(Fault::BatchEntryFails, 0.05)
}

fn settings(scratch: &TempDir, secret: &SecretString) -> Result<Settings, Failure> {
    use secrecy::ExposeSecret;
    let given = [
        ("database_url", format!("sqlite://{}", scratch.path().join("ponte.db").display())),
        ("jwt_secret", secret.expose_secret().to_owned()),
        ("encryption_key", open::random_key()),
        ("ehr_allow_local", "127.0.0.0/8".to_owned()),
        ("workers", WORKERS.to_string()),
    ];
    let given: BTreeMap<String, String> = given.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Settings::of(&Layers::new(given, BTreeMap::new(), None)?)
}

/// Where the person wants it; else at 8080, as in every text about it; else anywhere.
async fn listener(demo: &Demo) -> Result<TcpListener, Failure> {
    let wanted = demo.listen.as_deref();
    if let Some(address) = wanted {
        let refused = |why| Failure::failed(format!("The demo cannot listen on {address}: {why}. Choose another address with --listen."));
        return TcpListener::bind(address).await.map_err(refused);
    }
    if !demo.once
        && let Ok(listener) = TcpListener::bind("127.0.0.1:8080").await
    {
        return Ok(listener);
    }
    Ok(TcpListener::bind("127.0.0.1:0").await?)
}
