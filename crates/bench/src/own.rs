//! The same against an EHR of yours: its *test* system, for this writes. Some Patients are made there, then the same number of
//! observations is brought by Ponte and by the bare loop.

use crate::bare::{self, Done};
use crate::platform::{Api, Ward, store};
use crate::process::{Node, cpu_s, memory_mib};
use crate::push::with_theirs;
use crate::table::Table;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longer than this nothing is waited for.
const LIMIT: Duration = Duration::from_secs(600);

/// The bench against your own EHR's TEST system: it WRITES Patients and Observations there
#[derive(Debug, Clone, clap::Args)]
pub struct Wish {
    /// Its FHIR base
    #[arg(long)]
    url: String,
    /// A file with the rest of the connection as `PUT /fhir/config` takes it: `authType`, `authConfig`, …; without it Basic with an empty
    /// test account is sent
    #[arg(long)]
    config: Option<PathBuf>,
    /// Observations, each once by Ponte and once by the bare loop
    #[arg(long, default_value_t = 500)]
    observations: usize,
    /// Patients that are made for them
    #[arg(long, default_value_t = 50)]
    patients: usize,
    /// Yes: this is a test system, and it may be written to
    #[arg(long)]
    writes_to_this_test_system: bool,
}

/// Runs it and prints a table.
pub async fn run(wish: &Wish) -> Result<(), String> {
    println!(
        "This makes {} Patients and {} Observations at {}. They are marked (identifier systems urn:ponte:bench and urn:ponte:observation) and stay there.",
        wish.patients,
        wish.observations * 2,
        wish.url
    );
    if !wish.writes_to_this_test_system {
        return Err("Nothing was sent. If it is a test system that may be written to, say so: --writes-to-this-test-system.".to_owned());
    }
    let mut config = match &wish.config {
        Some(file) => serde_json::from_str(&std::fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))?)
            .map_err(|why| format!("{}: {why}", file.display()))?,
        None => json!({"authType": "basic", "authConfig": {"username": "ponte", "password": "bench"}}),
    };
    config["baseUrl"] = json!(wish.url);
    config["enabled"] = json!(true);
    config["syncDirection"] = json!("push");
    config["syncFrequency"] = json!("realtime");
    let client = Client::new();
    let authorization = authorization(&client, &config).await?;
    let theirs = patients(&client, wish, authorization.as_deref()).await?;

    let folder = tempfile::Builder::new().prefix("ponte-bench-").tempdir().map_err(|why| why.to_string())?;
    let store = store(folder.path()).await;
    let ward = Ward::open(&store, "hospital", &config).await;
    let linked = ward.patients(&theirs).await;
    let rows = ward.accept(&linked, wish.observations).await;
    // The bare loop brings rows of its own, not those of Ponte a second time.
    let others = rows
        .iter()
        .map(|row| crate::platform::Accepted { id: model::ObservationId(uuid::Uuid::now_v7()), ..row.clone() })
        .collect::<Vec<_>>();
    store.close().await;
    let file = folder.path().join("bare.db");
    bare::lay_down(&file, &with_theirs(&others, &linked)).await;
    let bare = bare::run_beside(&file, &wish.url, authorization.as_deref()).await?;

    let node = Node::start(folder.path(), &[], &[]).await;
    let (api, began, cpu) = (Api::of(&client, &node.url, &ward.id), Instant::now(), cpu_s(&node.pid));
    while api.standing().await.0 > 0 {
        if began.elapsed() > LIMIT {
            return Err(format!("Not all were delivered in {} s; see what `ponte status` says.", LIMIT.as_secs()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let ponte = Done { rows: rows.len(), seconds, cpu_s: cpu_s(&node.pid) - cpu, peak_mib: memory_mib(&node.pid, "VmHWM") };
    node.stop();
    let mut table = Table::new(&["", "obs/s", "CPU s/1000", "peak MiB"]);
    for (name, done) in [("Ponte", ponte), ("bare", bare)] {
        table.row(&[
            name.to_owned(),
            format!("{:.0}", done.rate()),
            format!("{:.2}", done.cpu_for_1000()),
            format!("{:.0}", done.peak_mib),
        ]);
    }
    table.print(&format!("{} observations of {} patients, at {}", rows.len(), wish.patients, wish.url));
    println!(
        "\nOf the bare loop: {:.2}. Ponte's includes the first look at the EHR and a reading of each Patient.",
        ponte.rate() / bare.rate()
    );
    Ok(())
}

/// The `Authorization` header of the bare loop; a token of OAuth2 is fetched once.
async fn authorization(client: &Client, config: &Value) -> Result<Option<String>, String> {
    let auth = &config["authConfig"];
    let text = |name: &str| auth[name].as_str().unwrap_or_default().to_owned();
    match config["authType"].as_str() {
        Some("basic") => Ok(Some(format!("Basic {}", STANDARD.encode(format!("{}:{}", text("username"), text("password")))))),
        Some("oauth2") => {
            let form = [
                ("grant_type", "client_credentials".to_owned()),
                ("client_id", text("clientId")),
                ("client_secret", text("clientSecret")),
                ("scope", text("scope")),
            ];
            let answer = client.post(text("tokenUrl")).form(&form).send().await.map_err(|why| why.to_string())?;
            let answer: Value =
                serde_json::from_str(&answer.text().await.map_err(|why| why.to_string())?).map_err(|why| why.to_string())?;
            let token = answer["access_token"].as_str().ok_or("the token endpoint gave no access_token")?;
            Ok(Some(format!("Bearer {token}")))
        }
        _ => Err("the bare loop knows authType basic and oauth2 only".to_owned()),
    }
}

/// Makes the Patients; their ids at the EHR.
async fn patients(client: &Client, wish: &Wish, authorization: Option<&str>) -> Result<Vec<String>, String> {
    let mut ids = Vec::new();
    for n in 0..wish.patients {
        let patient = json!({"resourceType": "Patient", "active": true, "birthDate": "1960-02-03",
            "name": [{"use": "official", "text": format!("Ponte Bench {n}"), "family": "Bench", "given": ["Ponte", n.to_string()]}],
            "identifier": [{"system": "urn:ponte:bench", "value": uuid::Uuid::new_v4().to_string()}]});
        let mut request = client.post(format!("{}/Patient", wish.url)).header("content-type", "application/fhir+json");
        request = request.header("prefer", "return=representation");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = request.body(patient.to_string()).send().await.map_err(|why| why.to_string())?;
        let (status, location) = (answer.status(), answer.headers().get("location").and_then(|at| at.to_str().ok()).map(str::to_owned));
        let body: Value = serde_json::from_str(&answer.text().await.map_err(|why| why.to_string())?).unwrap_or(Value::Null);
        let of_location = || location?.split("Patient/").nth(1)?.split('/').next().map(str::to_owned);
        let id = body["id"].as_str().map(str::to_owned).or_else(of_location);
        ids.push(id.filter(|_| status.is_success()).ok_or_else(|| format!("A Patient could not be made: {status}"))?);
    }
    Ok(ids)
}
