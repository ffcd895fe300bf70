//! What every scene has: the EHR and its line, nodes, tenants and their load; and how it ends, at rest and judged.

use crate::Given;
use crate::tally::Tally;
use line::{Fate, Proxy, Weather};
use ponte_processes::judge::Verdict;
use ponte_processes::load::Load;
use ponte_processes::rest::settle;
use ponte_processes::stage::{Platform, Stage};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sandbox::{Auth, OAuth2, Options, Quirks, Sandbox};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What every node is told.
pub const LEASE: Duration = Duration::from_secs(5);
/// A request of Ponte's is given up after this.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1500);
/// No sender sleeps longer. With what the line may hold a request, and less what is left of a lease when a request is sent, it
/// is within [`SETTLE`]: beyond that no client can promise anything.
pub const LONGEST_FREEZE: Duration = Duration::from_secs(8);
/// `settleTime` of every connection.
const SETTLE: Duration = Duration::from_secs(12);
/// Nothing may stay open for longer than this after the storm.
const TO_REST: Duration = Duration::from_secs(240);
/// The platform gives a call up, and makes it again elsewhere, after this.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a scene is set up.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub nodes: usize,
    pub tenants: usize,
    pub patients: u64,
    pub batch: usize,
    pub pooled: bool,
}

impl Plan {
    /// Three tenants of six patients.
    pub fn of(nodes: usize) -> Self {
        Self { nodes, tenants: 3, patients: 6, batch: 10, pooled: false }
    }
}

/// One scene being played.
pub struct Play {
    pub sandbox: Sandbox,
    pub line: Arc<Proxy>,
    pub stage: Arc<Stage>,
    pub load: Load,
    dice: StdRng,
}

impl Play {
    /// Everything is up, the line is calm.
    pub async fn begin(given: &Given, folder: &Path, database: &str, plan: Plan) -> Result<Self, String> {
        let auth = vec![Auth::OAuth2(OAuth2::new("ponte", "toy"))];
        // Small pages, so that a pull has something to walk.
        let quirks = Quirks { max_page_size: 8, ..Quirks::of(sandbox::Profile::Plain) };
        let sandbox =
            Sandbox::new(Options { auth, quirks: Some(quirks), seed: given.seed, check_subject: Some(false), ..Options::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|why| why.to_string())?;
        let address = listener.local_addr().map_err(|why| why.to_string())?;
        tokio::spawn(sandbox.clone().serve(listener));
        let line = Proxy::before(address, REQUEST_TIMEOUT + Duration::from_secs(1), given.seed)?;
        let mut stage = Stage::new(&given.ponte, folder, database, plan.nodes, PATIENCE)
            .with("PONTE_LEASE_SECONDS", &LEASE.as_secs().to_string())
            .with("PONTE_DATABASE_POOLED", &plan.pooled.to_string());
        stage.logs = given.keep;
        let stage = Arc::new(stage);
        for at in 0..plan.nodes {
            let stage = stage.clone();
            blocking(move || stage.try_start(at)).await??;
        }
        let origin = format!("http://127.0.0.1:{}", line.port());
        let mut tenants = Vec::new();
        for n in 0..plan.tenants {
            tenants.push(tenant(&stage, n, &origin, plan.batch).await?);
        }
        let load = Load::begin(tenants, plan.patients, given.seed).await;
        Ok(Self { sandbox, line: Arc::new(line), stage, load, dice: StdRng::seed_from_u64(given.seed ^ 0x10ad) })
    }

    /// Observations are accepted, corrected and withdrawn until the storm is over.
    pub async fn work_until(&mut self, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            let few = self.dice.random_range(1..8);
            self.load.some(self.load.taken_now() + few).await;
            // As fast as people write, not as fast as a machine could.
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(50..400))).await;
        }
    }

    /// Calm; comes to rest; is judged.
    pub async fn end(self, tally: &mut Tally) -> Result<(), String> {
        self.line.set(Weather::Calm);
        let calm = Instant::now();
        let replayed = settle(&self.load.tenants, &self.sandbox, true, TO_REST).await?;
        tally.measured.push(format!("at rest {:.1} s after the storm", calm.elapsed().as_secs_f64()));
        tally.verdict = Verdict::of(&self.load.tenants, &self.sandbox.ledger(), &self.load.taken).await;
        for id in replayed {
            tally.verdict.say("needed a person", id);
        }
        tally.add("nodes killed with -9", self.stage.kills() as u64);
        tally.add("calls of the platform made again", self.stage.again() as u64);
        for (fate, times) in self.line.shown() {
            if fate != Fate::Whole {
                tally.add(&format!("line: {}", fate.word()), times);
            }
        }
        Ok(())
    }
}

async fn tenant(stage: &Arc<Stage>, n: usize, origin: &str, batch: usize) -> Result<Platform, String> {
    let tenant = stage.admin(&format!("ward-{n}"));
    let config = json!({"enabled": true, "baseUrl": format!("{origin}/fhir"), "authType": "oauth2",
        "authConfig": {"clientId": "ponte", "clientSecret": "toy", "tokenUrl": format!("{origin}/oauth/token"), "scope": "system/*.cruds"},
        "syncFrequency": "realtime", "maxRetries": 20, "initialDelay": 50, "maxDelay": 1000, "batchSize": batch,
        "requestTimeout": millis(REQUEST_TIMEOUT), "settleTime": millis(SETTLE)});
    let (status, answer) = tenant.post("/fhir/config", &config, "config").await;
    if matches!(status, 200 | 201) { Ok(tenant) } else { Err(format!("The connection is refused: {status} {answer}")) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Starts a node again, as an orchestrator does: until it runs.
pub fn start_again(stage: &Stage, at: usize) -> Result<(), String> {
    let started = Instant::now();
    loop {
        match stage.try_start(at) {
            Ok(()) => return Ok(()),
            Err(why) if started.elapsed() > Duration::from_secs(120) => return Err(format!("A node does not come up again: {why}")),
            Err(_) => pause(200),
        }
    }
}

/// The moment of an accident is chance, not an event that could be waited for.
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Runs what blocks beside the load.
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(f).await.map_err(|why| why.to_string())
}

/// A folder that PostgreSQL's user may enter.
pub fn folder(given: &Given) -> Result<tempfile::TempDir, String> {
    let mut folder = tempfile::Builder::new().prefix("ponte-processes-").tempdir().map_err(|why| why.to_string())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).map_err(|why| why.to_string())?;
    }
    if given.keep {
        folder.disable_cleanup(true);
        println!("  what the nodes say: {}", folder.path().display());
    }
    Ok(folder)
}
