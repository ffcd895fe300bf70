//! What an EHR holds is pulled: Ponte, patient by patient over its API, and a bare loop that follows next links and stores what it reads.

use crate::bare::{Done, durable};
use crate::platform::{Api, Ward, config, store};
use crate::process::{Node, cpu_s, memory_mib};
use crate::site::Site;
use crate::table::Table;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// Patients that are asked about at once.
const AT_ONCE: usize = 4;

/// Pulls what an EHR holds, by Ponte and by a bare loop
#[derive(Debug, Clone, clap::Args)]
pub struct Wish {
    /// Patients of the EHR
    #[arg(long, default_value_t = 50)]
    patients: usize,
    /// Observations of each
    #[arg(long, default_value_t = 200)]
    each: usize,
    /// Milliseconds before each answer of the EHR
    #[arg(long, default_value_t = 5)]
    latency: u64,
}

/// Runs it and prints a table.
pub async fn run(wish: &Wish) {
    let site = Site::start(0).await;
    let theirs = site.patients(wish.patients);
    for id in &theirs {
        for k in 0..wish.each {
            let observation = json!({"resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{id}")},
                "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "effectiveDateTime": "2026-11-25T08:30:00-03:00",
                "valueQuantity": {"value": 60 + k % 40, "unit": "beats/minute", "system": "http://unitsofmeasure.org", "code": "/min"}});
            site.sandbox.put_resource(&observation.to_string()).unwrap();
        }
    }
    site.latency(wish.latency);
    let folder = tempfile::Builder::new().prefix("ponte-bench-").tempdir().unwrap();
    let bare = bare(wish, &site, &theirs, &folder.path().join("bare.db")).await;

    let store = store(folder.path()).await;
    let mut asked = config(&site.base);
    asked["syncDirection"] = json!("pull");
    let ward = Ward::open(&store, "hospital", &asked).await;
    let patients = ward.patients(&theirs).await;
    store.close().await;
    let node = Node::start(folder.path(), &[], &[]).await;
    let client = Client::new();
    let (began, cpu) = (Instant::now(), cpu_s(&node.pid));
    let pulling = (0..AT_ONCE).map(|caller| {
        let (api, patients) = (Api::of(&client, &node.url, &ward.id), &patients);
        async move {
            let mut rows = 0;
            for patient in patients.iter().skip(caller).step_by(AT_ONCE) {
                let (status, answer) = api.call(Method::POST, &format!("/fhir/patients/{}/pull", patient.here), Some(&json!({}))).await;
                assert_eq!(status, 200, "{answer}");
                rows += answer["observationsCreated"].as_u64().unwrap();
            }
            usize::try_from(rows).unwrap()
        }
    });
    let rows = futures::future::join_all(pulling).await.into_iter().sum();
    let seconds = began.elapsed().as_secs_f64();
    let ponte = Done { rows, seconds, cpu_s: cpu_s(&node.pid) - cpu, peak_mib: memory_mib(&node.pid, "VmHWM") };
    node.stop();
    assert_eq!(ponte.rows, bare.rows);
    let mut table = Table::new(&["", "obs/s", "CPU s/1000"]);
    table.row(&["Ponte".to_owned(), format!("{:.0}", ponte.rate()), format!("{:.2}", ponte.cpu_for_1000())]);
    table.row(&["bare".to_owned(), format!("{:.0}", bare.rate()), "".to_owned()]);
    table.print(&format!("{} observations of {} patients pulled, an EHR of {} ms", ponte.rows, wish.patients, wish.latency));
    println!("\nOf the bare loop: {:.2}.", ponte.rate() / bare.rate());
}

/// Follows the next links of each patient's list and stores each page in one transaction.
async fn bare(wish: &Wish, site: &Site, theirs: &[String], file: &Path) -> Done {
    let pool = durable(file, 4).await;
    sqlx::query("CREATE TABLE pulled (id TEXT PRIMARY KEY, resource TEXT NOT NULL)").execute(&pool).await.unwrap();
    let (client, began) = (Client::new(), Instant::now());
    let pulling = (0..AT_ONCE).map(|caller| {
        let (pool, client) = (&pool, &client);
        async move {
            let mut rows = 0;
            for id in theirs.iter().skip(caller).step_by(AT_ONCE) {
                let mut next = Some(format!("{}/Observation?patient={id}&_count=100", site.base));
                while let Some(url) = next.take() {
                    let page: Value = serde_json::from_slice(&client.get(url).send().await.unwrap().bytes().await.unwrap()).unwrap();
                    let links = page["link"].as_array().into_iter().flatten();
                    next = links.filter(|link| link["relation"] == "next").find_map(|link| link["url"].as_str().map(str::to_owned));
                    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
                    for entry in page["entry"].as_array().into_iter().flatten() {
                        let (id, resource) = (entry["resource"]["id"].as_str().unwrap(), entry["resource"].to_string());
                        let sql = "INSERT OR REPLACE INTO pulled (id, resource) VALUES ($1, $2)";
                        sqlx::query(sql).bind(id).bind(resource).execute(&mut *tx).await.unwrap();
                        rows += 1;
                    }
                    tx.commit().await.unwrap();
                }
            }
            rows
        }
    });
    let rows = futures::future::join_all(pulling).await.into_iter().sum();
    assert_eq!(rows, wish.patients * wish.each);
    Done { rows, seconds: began.elapsed().as_secs_f64(), cpu_s: f64::NAN, peak_mib: f64::NAN }
}
