//! What one observation costs does not depend on how many wait, nor on how many tenants there are.

use crate::platform::{Api, Ward, body, config, store};
use crate::process::{Node, cpu_s, memory_mib};
use crate::site::Site;
use crate::table::Table;
use crate::warm::Warm;
use reqwest::{Client, Method};
use std::time::{Duration, Instant};

/// Patients of the one tenant.
const PATIENTS: usize = 500;

/// The cost of one observation by the length of the backlog and by the number of tenants
#[derive(Debug, Clone, clap::Args)]
pub struct Wish {
    /// Lengths of the backlog
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 100_000])]
    backlog: Vec<usize>,
    /// Numbers of tenants
    #[arg(long, value_delimiter = ',', default_values_t = [10, 10_000])]
    tenants: Vec<usize>,
    /// Observations that are measured, of each
    #[arg(long, default_value_t = 1000)]
    measured: usize,
}

/// Runs it and prints two tables.
#[allow(clippy::cast_precision_loss, reason = "rows of a measurement")]
pub async fn run(wish: &Wish) {
    let mut table = Table::new(&["waiting", "obs/s", "CPU s/1000", "peak MiB"]);
    for rows in &wish.backlog {
        let (seconds, cpu, mib) = backlog(*rows, wish.measured.min(*rows)).await;
        let measured = wish.measured.min(*rows) as f64;
        table.row(&[
            rows.to_string(),
            format!("{:.0}", measured / seconds),
            format!("{:.2}", cpu / measured * 1000.0),
            format!("{mib:.0}"),
        ]);
    }
    table.print(&format!("The first {} observations of a backlog, an EHR of 5 ms", wish.measured));
    let mut table = Table::new(&["tenants", "obs/s", "CPU s/1000", "EHR writes", "peak MiB"]);
    for tenants in &wish.tenants {
        let (seconds, cpu, writes, mib) = many(*tenants, wish.measured).await;
        let measured = wish.measured as f64;
        table.row(&[
            tenants.to_string(),
            format!("{:.0}", measured / seconds),
            format!("{:.2}", cpu / measured * 1000.0),
            writes.to_string(),
            format!("{mib:.0}"),
        ]);
    }
    table.print(&format!("{} observations in realtime, four callers, each for the next tenant, an EHR of 5 ms", wish.measured));
}

async fn backlog(rows: usize, measured: usize) -> (f64, f64, f64) {
    let site = Site::start(0).await;
    let Warm { folder, store, ward, patients, client } = Warm::up(&site, &site.patients(PATIENTS), "info").await;
    ward.accept(&patients, rows).await;
    store.close().await;
    site.latency(5);
    let node = Node::start(folder.path(), &[], &[]).await;
    let api = Api::of(&client, &node.url, &ward.id);
    let (before, cpu) = (i64::try_from(PATIENTS).unwrap(), cpu_s(&node.pid));
    let (began, wanted) = (Instant::now(), before + i64::try_from(measured).unwrap());
    while api.standing().await.1 < wanted {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = (began.elapsed().as_secs_f64(), cpu_s(&node.pid) - cpu, memory_mib(&node.pid, "VmHWM"));
    drop(node);
    found
}

/// Seconds, processor seconds, writes that the EHR was sent (fewer where observations of one tenant wait together), memory.
async fn many(tenants: usize, measured: usize) -> (f64, f64, u64, f64) {
    let site = Site::start(0).await;
    site.patient("p");
    let folder = tempfile::Builder::new().prefix("ponte-bench-").tempdir().unwrap();
    let store = store(folder.path()).await;
    let client = Client::new();
    let mut wards = Vec::with_capacity(tenants);
    let numbers: Vec<usize> = (0..tenants).collect();
    for some in numbers.chunks(200) {
        let opening = some.iter().map(|n| {
            let (store, site) = (&store, &site);
            async move {
                let ward = Ward::open(store, &format!("tenant-{n}"), &config(&site.base)).await;
                let patient = ward.patients(&["p".to_owned()]).await.remove(0);
                ward.accept(std::slice::from_ref(&patient), 1).await;
                (ward, patient)
            }
        });
        wards.extend(futures::future::join_all(opening).await);
    }
    store.close().await;
    let node = Node::start(folder.path(), &[], &[]).await;
    let began = Instant::now();
    // Each tenant's first: its EHR is learnt, its patient read. The EHR has counted them all when nothing more comes.
    let apis: Vec<Api> = wards.iter().map(|(ward, _)| Api::of(&client, &node.url, &ward.id)).collect();
    for api in &apis {
        while api.standing().await.0 > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    println!("{tenants} tenants, each with its first observation: {:.1} s", began.elapsed().as_secs_f64());
    site.latency(5);
    // By the EHR's count: asking ten thousand tenants how they stand would be most of the cost.
    let (wanted, writes) = (site.creates() + measured as u64, site.writes());
    let (began, cpu) = (Instant::now(), cpu_s(&node.pid));
    let calling = (0..4).map(|caller| {
        let (apis, wards) = (&apis, &wards);
        async move {
            for k in (caller..measured).step_by(4) {
                // A stride that meets tenants far apart.
                let at = (k * 7919) % tenants;
                let (status, made) = apis[at].call(Method::POST, "/observations", Some(&body(wards[at].1.here, k))).await;
                assert_eq!(status, 201, "{made}");
            }
        }
    });
    futures::future::join_all(calling).await;
    while site.creates() < wanted {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let found = (began.elapsed().as_secs_f64(), cpu_s(&node.pid) - cpu, site.writes() - writes, memory_mib(&node.pid, "VmHWM"));
    for k in 0..measured.min(tenants) {
        while apis[(k * 7919) % tenants].standing().await.0 > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    node.stop();
    found
}
