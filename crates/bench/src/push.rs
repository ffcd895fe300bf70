//! A backlog is pushed: Ponte and the bare loop, one after the other, against the same EHR with the same rows.

use crate::bare::{self, Done};
use crate::platform::{Accepted, Api, Patient};
use crate::process::{Node, cpu_s, memory_mib};
use crate::site::Site;
use crate::table::Table;
use crate::warm::Warm;
use std::time::{Duration, Instant};

/// Pushes a backlog at each latency of the EHR, by Ponte and by a bare loop
#[derive(Debug, Clone, clap::Args)]
pub struct Wish {
    /// Observations that wait
    #[arg(long, default_value_t = 20_000)]
    rows: usize,
    /// Patients whose they are
    #[arg(long, default_value_t = 1000)]
    patients: usize,
    /// Milliseconds before each answer of the EHR
    #[arg(long, value_delimiter = ',', default_values_t = [0, 5, 50])]
    latency: Vec<u64>,
    /// Keep the folder of the databases, and say where it is
    #[arg(long)]
    keep: bool,
    /// What is logged
    #[arg(long, default_value = "info")]
    log: String,
}

/// Runs it and prints a table.
pub async fn run(wish: &Wish) {
    let mut table = Table::new(&["EHR answers after", "Ponte obs/s", "bare obs/s", "ratio", "CPU s/1000", "bare", "peak MiB", "bare"]);
    for latency in &wish.latency {
        let (ponte, bare) = beside(wish, *latency).await;
        table.row(&[
            format!("{latency} ms"),
            format!("{:.0}", ponte.rate()),
            format!("{:.0}", bare.rate()),
            format!("{:.2}", ponte.rate() / bare.rate()),
            format!("{:.2}", ponte.cpu_for_1000()),
            format!("{:.2}", bare.cpu_for_1000()),
            format!("{:.0}", ponte.peak_mib),
            format!("{:.0}", bare.peak_mib),
        ]);
    }
    table.print(&format!("Backlog of {} observations of {} patients", wish.rows, wish.patients));
}

async fn beside(wish: &Wish, latency: u64) -> (Done, Done) {
    let site = Site::start(0).await;
    let theirs = site.patients(wish.patients);
    let Warm { folder, store, ward, patients, client } = Warm::up(&site, &theirs, &wish.log).await;
    let rows = ward.accept(&patients, wish.rows).await;
    store.close().await;
    site.latency(latency);

    let file = folder.path().join("bare.db");
    bare::lay_down(&file, &with_theirs(&rows, &patients)).await;
    let bare = bare::run_beside(&file, &site.base, None).await.unwrap();
    // The same rows anew: what the bare loop has brought is forgotten, as are the conditions that it would meet.
    let site_writes = site.writes();
    site.sandbox.reset();
    theirs.iter().for_each(|id| site.patient(id));

    let node = Node::start(folder.path(), &[("PONTE_LOG", &wish.log)], &[]).await;
    let api = Api::of(&client, &node.url, &ward.id);
    let ponte = drain(&node, &api, &site, site_writes, wish.rows).await;
    node.stop();
    if wish.keep {
        println!("{}", folder.keep().display());
    }
    (ponte, bare)
}

/// From the first write at the EHR until nothing is open any more.
async fn drain(node: &Node, api: &Api, site: &Site, before: u64, rows: usize) -> Done {
    let begin = tokio::time::timeout(Duration::from_secs(30), async {
        while site.writes() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    begin.await.unwrap();
    let (began, cpu_before) = (Instant::now(), cpu_s(&node.pid));
    while api.standing().await.0 > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    Done { rows, seconds, cpu_s: cpu_s(&node.pid) - cpu_before, peak_mib: memory_mib(&node.pid, "VmHWM") }
}

/// Each row with the EHR's id of its patient.
pub fn with_theirs(rows: &[Accepted], patients: &[Patient]) -> Vec<(Accepted, model::EhrId)> {
    let of: std::collections::HashMap<_, _> = patients.iter().map(|patient| (patient.here, patient.there.clone())).collect();
    rows.iter().map(|row| (row.clone(), of[&row.draft.patient_id].clone())).collect()
}
