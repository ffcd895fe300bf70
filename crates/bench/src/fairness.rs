//! One tenant has a great backlog, many small ones send now and then: how long does a fresh observation of a small one wait?

use crate::platform::{Api, Ward, body, config, store};
use crate::process::Node;
use crate::site::Site;
use crate::table::{Table, percentile};
use reqwest::{Client, Method};
use std::time::{Duration, Instant};

/// No single write is longer, bytes; the backlog's Bundles are, and need not be looked through.
const SINGLE: usize = 16 * 1024;

/// A fresh observation of a small tenant beside a great backlog of another
#[derive(Debug, Clone, clap::Args)]
pub struct Wish {
    /// Observations of the one tenant that wait
    #[arg(long, default_value_t = 300_000)]
    rows: usize,
    /// Its patients
    #[arg(long, default_value_t = 2000)]
    patients: usize,
    /// Small tenants
    #[arg(long, default_value_t = 199)]
    tenants: usize,
    /// Lanes that the node works at once
    #[arg(long, default_value_t = 16)]
    slots: usize,
    /// Milliseconds before each answer of the EHR
    #[arg(long, default_value_t = 100)]
    latency: u64,
    /// Fresh observations
    #[arg(long, default_value_t = 600)]
    samples: usize,
    /// Milliseconds between two
    #[arg(long, default_value_t = 50)]
    gap: u64,
}

/// Runs it and prints a table.
pub async fn run(wish: &Wish) {
    let site = Site::start(0).await;
    let theirs = site.patients(wish.patients.max(wish.tenants));
    let folder = tempfile::Builder::new().prefix("ponte-bench-").tempdir().unwrap();
    let store = store(folder.path()).await;
    let client = Client::new();
    let great = Ward::open(&store, "great", &config(&site.base)).await;
    let patients = great.patients(&theirs[..wish.patients]).await;
    let mut small = Vec::new();
    for n in 0..wish.tenants {
        let ward = Ward::open(&store, &format!("small-{n}"), &config(&site.base)).await;
        let patient = ward.patients(&theirs[n..=n]).await.remove(0);
        ward.accept(std::slice::from_ref(&patient), 1).await;
        small.push((ward, patient));
    }
    crate::warm::warm(folder.path(), &great, &patients, &client, "info").await;
    let began = Instant::now();
    great.accept(&patients, wish.rows).await;
    println!("{} rows accepted by the store in {:.0} s", wish.rows, began.elapsed().as_secs_f64());
    store.close().await;

    site.latency(wish.latency);
    site.watch(SINGLE);
    let slots = wish.slots.to_string();
    let node = Node::start(folder.path(), &[("PONTE_WORKERS", slots.as_str())], &[]).await;
    let before = Api::of(&client, &node.url, &great.id).standing().await.1;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (mut ids, mut called, began) = (Vec::new(), Vec::new(), Instant::now());
    for k in 0..wish.samples {
        let (ward, patient) = &small[k % small.len()];
        let api = Api::of(&client, &node.url, &ward.id);
        called.push(Instant::now());
        let (status, made) = api.call(Method::POST, "/observations", Some(&body(patient.here, k))).await;
        assert_eq!(status, 201, "{made}");
        ids.push(made["id"].as_str().unwrap().to_owned());
        tokio::time::sleep(Duration::from_millis(wish.gap)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let (left, after) = Api::of(&client, &node.url, &great.id).standing().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let came = site.first(&ids);
    node.stop();
    let mut waits: Vec<f64> =
        came.iter().zip(&called).map(|(came, called)| came.map_or(f64::INFINITY, |at| (at - *called).as_secs_f64() * 1000.0)).collect();
    let mut table = Table::new(&["called → first sent", "ms"]);
    for (name, percent) in [("p50", 50), ("p90", 90), ("p99", 99), ("most", 100)] {
        table.row(&[name.to_owned(), format!("{:.0}", percentile(&mut waits, percent))]);
    }
    table.print(&format!(
        "{} fresh observations of {} small tenants, while {left} of {} rows of one tenant wait ({} slots, an EHR of {} ms)",
        wish.samples, wish.tenants, wish.rows, wish.slots, wish.latency
    ));
    #[allow(clippy::cast_precision_loss, reason = "rows of a measurement")]
    let rate = (after - before) as f64 / seconds;
    println!("\nThe great tenant's own backlog meanwhile: {rate:.0} observations a second.");
}
