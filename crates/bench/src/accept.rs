//! What the API takes in a second, durably, from callers who all call at once; beside it the databases alone: a bare writer that
//! commits whatever waits together, and `pgbench` with one insert a transaction.

use crate::bare::durable;
use crate::platform::{Api, Ward, body, config, store};
use crate::process::{Node, cpu_s};
use crate::table::Table;
use reqwest::{Client, Method};
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Tenants: what one may call in a second is limited.
const TENANTS: usize = 8;
/// Patients of each.
const PATIENTS: usize = 50;
/// Observations in one batch of the API.
const BATCH: usize = 100;
/// Writes in one commit of the bare writer, at most.
const GROUP: usize = 256;
/// A row of the bare writer and of `pgbench` is as long as an observation's draft, bytes.
const ROW: usize = 300;

/// What the API accepts in a second, beside a bare writer and pgbench
#[derive(Debug, Clone, clap::Args)]
pub struct Wish {
    /// Seconds of each
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Callers at once
    #[arg(long, default_value_t = 32)]
    callers: usize,
}

/// Runs it and prints a table.
#[allow(clippy::cast_precision_loss, reason = "rows of a measurement")]
pub async fn run(wish: &Wish) {
    let folder = tempfile::Builder::new().prefix("ponte-bench-").tempdir().unwrap();
    let (single, single_cpu, batch, batch_cpu) = api(wish, folder.path()).await;
    let sqlite = group_commit(wish, &folder.path().join("bare.db")).await;
    let mut table = Table::new(&["", "rows/s", "CPU s/1000"]);
    table.row(&["Ponte's API, one at a time".to_owned(), format!("{single:.0}"), format!("{single_cpu:.2}")]);
    table.row(&[format!("Ponte's API, batches of {BATCH}"), format!("{batch:.0}"), format!("{batch_cpu:.2}")]);
    table.row(&["SQLite alone, one writer that commits together".to_owned(), format!("{sqlite:.0}"), String::new()]);
    match crate::pgbench::inserts(wish.seconds, wish.callers, ROW) {
        Ok(postgres) => table.row(&["PostgreSQL alone, pgbench".to_owned(), format!("{postgres:.0}"), String::new()]),
        Err(why) => println!("pgbench is not measured: {why}"),
    }
    table.print(&format!("{} callers for {} s, every row durable before it is acknowledged", wish.callers, wish.seconds));
    println!("\nOf SQLite alone: {:.2} one at a time, {:.2} in batches.", single / sqlite, batch / sqlite);
}

/// Observations a second and processor seconds for a thousand: single, and in batches.
async fn api(wish: &Wish, folder: &Path) -> (f64, f64, f64, f64) {
    let store = store(folder).await;
    let mut wards = Vec::new();
    for n in 0..TENANTS {
        let ward = Ward::open(&store, &format!("tenant-{n}"), &config("http://127.0.0.1:9/fhir")).await;
        let patients = ward.patients(&(0..PATIENTS).map(|n| format!("p{n}")).collect::<Vec<_>>()).await;
        wards.push((ward, patients));
    }
    store.close().await;
    let node = Node::start(folder, &[], &["--role", "api"]).await;
    let client = Client::new();
    let (mut found, mut shapes) = ((0.0, 0.0, 0.0, 0.0), [(1, wish.callers), (BATCH, wish.callers.min(8))].into_iter());
    for (rate, cost) in [(&mut found.0, &mut found.1), (&mut found.2, &mut found.3)] {
        let Some((rows, callers)) = shapes.next() else { break };
        let (taken, until) = (AtomicUsize::new(0), Instant::now() + Duration::from_secs(wish.seconds));
        let (began, cpu) = (Instant::now(), cpu_s(&node.pid));
        let calling = (0..callers).map(|caller| {
            let (client, node, taken, (ward, patients)) = (&client, &node, &taken, &wards[caller % TENANTS]);
            async move {
                let api = Api::of(client, &node.url, &ward.id);
                for k in (caller..).step_by(callers) {
                    if Instant::now() >= until {
                        return;
                    }
                    let all: Vec<_> = (0..rows).map(|n| body(patients[(k + n) % PATIENTS].here, n)).collect();
                    let (status, answer) = match rows {
                        1 => api.call(Method::POST, "/observations", Some(&all[0])).await,
                        _ => api.call(Method::POST, "/observations/batch", Some(&json!({"observations": all}))).await,
                    };
                    assert!(matches!(status, 201 | 207), "{status} {answer}");
                    taken.fetch_add(rows, Ordering::Relaxed);
                }
            }
        });
        futures::future::join_all(calling).await;
        #[allow(clippy::cast_precision_loss, reason = "rows of a measurement")]
        let taken = taken.load(Ordering::Relaxed) as f64;
        (*rate, *cost) = (taken / began.elapsed().as_secs_f64(), (cpu_s(&node.pid) - cpu) / taken * 1000.0);
    }
    node.stop();
    found
}

type Job = (String, oneshot::Sender<()>);

/// Rows a second of a writer that takes whatever waits, commits it together and then answers everybody.
async fn group_commit(wish: &Wish, file: &Path) -> f64 {
    let pool = durable(file, 1).await;
    sqlx::query("CREATE TABLE rows (id TEXT PRIMARY KEY, body BLOB NOT NULL)").execute(&pool).await.unwrap();
    let (send, mut jobs) = mpsc::channel::<Job>(1024);
    let writer = tokio::spawn(async move {
        let mut group = Vec::with_capacity(GROUP);
        while jobs.recv_many(&mut group, GROUP).await > 0 {
            let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            for (id, _) in &group {
                sqlx::query("INSERT INTO rows (id, body) VALUES ($1, $2)").bind(id).bind(vec![7_u8; ROW]).execute(&mut *tx).await.unwrap();
            }
            tx.commit().await.unwrap();
            group.drain(..).for_each(|(_, answer)| {
                let _ = answer.send(());
            });
        }
    });
    let (taken, began) = (AtomicUsize::new(0), Instant::now());
    let until = began + Duration::from_secs(wish.seconds);
    let calling = (0..wish.callers).map(|_| {
        let (send, taken) = (send.clone(), &taken);
        async move {
            while Instant::now() < until {
                let (answer, answered) = oneshot::channel();
                send.send((uuid::Uuid::now_v7().to_string(), answer)).await.unwrap();
                answered.await.unwrap();
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    futures::future::join_all(calling).await;
    let seconds = began.elapsed().as_secs_f64();
    drop(send);
    writer.await.unwrap();
    #[allow(clippy::cast_precision_loss, reason = "rows of a measurement")]
    let taken = taken.load(Ordering::Relaxed) as f64;
    taken / seconds
}
