//! From the platform's call to the EHR's door, in realtime, on a node that has nothing else to do; and what such a node takes.

use crate::platform::{Api, body};
use crate::process::{Node, cpu_s, memory_mib};
use crate::site::Site;
use crate::table::{Table, percentile};
use crate::warm::Warm;
use reqwest::Method;
use std::time::{Duration, Instant};

/// Patients by turns.
const PATIENTS: usize = 50;

/// One observation at a time, from the call to its arrival at the EHR
#[derive(Debug, Clone, clap::Args)]
pub struct Wish {
    /// Observations
    #[arg(long, default_value_t = 300)]
    samples: usize,
    /// Milliseconds between two
    #[arg(long, default_value_t = 40)]
    gap: u64,
}

/// Runs it and prints a table.
pub async fn run(wish: &Wish) {
    let site = Site::start(0).await;
    let Warm { folder, store, ward, patients, client } = Warm::up(&site, &site.patients(PATIENTS), "info").await;
    store.close().await;

    let node = Node::start(folder.path(), &[], &[]).await;
    let rest = Duration::from_secs(10);
    let before = cpu_s(&node.pid);
    tokio::time::sleep(rest).await;
    let idle_cpu = (cpu_s(&node.pid) - before) / rest.as_secs_f64() * 100.0;
    let idle_mib = memory_mib(&node.pid, "VmRSS");

    let api = Api::of(&client, &node.url, &ward.id);
    site.watch(usize::MAX);
    let (mut ids, mut called, mut took) = (Vec::new(), Vec::new(), Vec::new());
    for k in 0..wish.samples {
        called.push(Instant::now());
        let (status, made) = api.call(Method::POST, "/observations", Some(&body(patients[k % PATIENTS].here, k))).await;
        assert_eq!(status, 201, "{made}");
        took.push(called[k].elapsed().as_secs_f64() * 1000.0);
        ids.push(made["id"].as_str().unwrap().to_owned());
        tokio::time::sleep(Duration::from_millis(wish.gap)).await;
    }
    while api.standing().await.0 > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut ponte = arrivals(&site, &ids, &called);
    node.stop();

    // The same resources, posted by their maker.
    site.watch(usize::MAX);
    let (mut words, mut called) = (Vec::new(), Vec::new());
    for k in 0..wish.samples {
        let word = uuid::Uuid::new_v4().to_string();
        let resource = serde_json::json!({"resourceType": "Observation", "status": "final",
            "identifier": [{"system": "urn:ponte:observation", "value": word}], "code": {"coding": [{"system": "http://loinc.org", "code": "72514-3"}]},
            "subject": {"reference": format!("Patient/p{}", k % PATIENTS)}, "valueQuantity": {"value": k % 11, "code": "{score}"}});
        called.push(Instant::now());
        let request = client.post(format!("{}/Observation", site.base)).header("content-type", "application/fhir+json");
        let request = request.header("if-none-exist", format!("identifier=urn:ponte:observation|{word}"));
        assert_eq!(request.body(resource.to_string()).send().await.unwrap().status(), 201);
        words.push(word);
        tokio::time::sleep(Duration::from_millis(wish.gap)).await;
    }
    let mut bare = arrivals(&site, &words, &called);

    let mut table = Table::new(&["", "p50 ms", "p99 ms"]);
    for (name, values) in [
        ("called → answered by Ponte's API", &mut took),
        ("called → at the EHR, Ponte", &mut ponte),
        ("called → at the EHR, bare", &mut bare),
    ] {
        table.row(&[name.to_owned(), format!("{:.1}", percentile(values, 50)), format!("{:.1}", percentile(values, 99))]);
    }
    table.print(&format!("{} observations, one at a time", wish.samples));
    println!(
        "\nAdded at p50: {:.1} ms. Idle: {idle_mib:.0} MiB, {idle_cpu:.1} % of a core.",
        percentile(&mut ponte, 50) - percentile(&mut bare, 50)
    );
}

/// Milliseconds from each call until its word was at the EHR.
fn arrivals(site: &Site, words: &[String], called: &[Instant]) -> Vec<f64> {
    let came = site.first(words);
    came.iter().zip(called).map(|(came, called)| came.map_or(f64::INFINITY, |at| (at - *called).as_secs_f64() * 1000.0)).collect()
}
