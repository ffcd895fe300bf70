//! The bare loop: what somebody would write who only wants the rows over there. It reads a table of waiting rows, posts them as
//! the same Bundles with `ifNoneExist` over a few connections, and writes the results into the same SQLite with
//! `synchronous=FULL`. It orders nothing, seals nothing, records no attempt and knows one tenant.

use crate::platform::Accepted;
use crate::process::{cpu_s, memory_mib};
use fhir::mapping::observation::{ToFhir, to_fhir};
use model::EhrId;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What a loop has done.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Done {
    pub rows: usize,
    pub seconds: f64,
    pub cpu_s: f64,
    pub peak_mib: f64,
}

impl Done {
    /// Rows a second.
    #[allow(clippy::cast_precision_loss, reason = "rows of a measurement")]
    pub fn rate(&self) -> f64 {
        self.rows as f64 / self.seconds
    }

    /// Processor seconds for a thousand rows.
    #[allow(clippy::cast_precision_loss, reason = "rows of a measurement")]
    pub fn cpu_for_1000(&self) -> f64 {
        self.cpu_s / self.rows as f64 * 1000.0
    }
}

/// How the loop is run.
#[derive(Debug, Clone, clap::Args)]
pub struct Wish {
    /// Its SQLite file.
    #[arg(long)]
    file: PathBuf,
    /// The EHR.
    #[arg(long)]
    base: String,
    /// Connections at once.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Entries in one Bundle.
    #[arg(long, default_value_t = 100)]
    batch: usize,
}

/// A SQLite that is durable, as Ponte's own is.
pub async fn durable(file: &Path, connections: u32) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10));
    SqlitePoolOptions::new().max_connections(connections).connect_with(options).await.unwrap()
}

/// Lays down what waits, each as the resource that Ponte would send.
pub async fn lay_down(file: &Path, rows: &[(Accepted, EhrId)]) {
    let pool = durable(file, 1).await;
    let table =
        "CREATE TABLE waiting (n INTEGER PRIMARY KEY, id TEXT NOT NULL, resource TEXT NOT NULL, status TEXT, location TEXT, etag TEXT)";
    sqlx::query(table).execute(&pool).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    for (row, there) in rows {
        let with = ToFhir {
            observation: row.id,
            version: 1,
            identifier_system: "urn:ponte:observation",
            patient: there,
            score_category: "survey",
            id: None,
            issued: row.at,
        };
        let resource = to_fhir(&row.draft, &with).to_string();
        sqlx::query("INSERT INTO waiting (id, resource) VALUES ($1, $2)")
            .bind(row.id.to_string())
            .bind(resource)
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    pool.close().await;
}

/// Runs the loop as a process of its own, as Ponte is one, and gives what it says of itself; in a sentence, why it broke off.
pub async fn run_beside(file: &Path, base: &str, authorization: Option<&str>) -> Result<Done, String> {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.arg("bare").arg("--file").arg(file).arg("--base").arg(base).stdin(Stdio::null());
    if let Some(authorization) = authorization {
        command.env("PONTE_BENCH_AUTHORIZATION", authorization);
    }
    let output = command.output().await.unwrap();
    if !output.status.success() {
        return Err(format!("The bare loop broke off. {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// The loop itself; what it has done goes to stdout.
pub async fn run(wish: Wish) -> Result<(), String> {
    let pool = durable(&wish.file, u32::try_from(wish.connections).unwrap()).await;
    let client = reqwest::Client::new();
    let authorization = std::env::var("PONTE_BENCH_AUTHORIZATION").ok();
    let began = Instant::now();
    let lanes: Vec<_> = (0..wish.connections)
        .map(|lane| {
            let (pool, client, wish, authorization) = (pool.clone(), client.clone(), wish.clone(), authorization.clone());
            tokio::spawn(async move { carry(&pool, &client, &wish, lane, authorization.as_deref()).await })
        })
        .collect();
    let mut rows = 0;
    for lane in lanes {
        rows += lane.await.unwrap()?;
    }
    let done = Done { rows, seconds: began.elapsed().as_secs_f64(), cpu_s: cpu_s("self"), peak_mib: memory_mib("self", "VmHWM") };
    println!("{}", serde_json::to_string(&done).unwrap());
    Ok(())
}

#[derive(Deserialize)]
struct Answer {
    entry: Vec<AnswerEntry>,
}

#[derive(Deserialize)]
struct AnswerEntry {
    response: AnswerOfOne,
}

#[derive(Deserialize)]
struct AnswerOfOne {
    status: String,
    location: Option<String>,
    etag: Option<String>,
}

/// One connection's share: every n-th row.
async fn carry(
    pool: &SqlitePool,
    client: &reqwest::Client,
    wish: &Wish,
    lane: usize,
    authorization: Option<&str>,
) -> Result<usize, String> {
    let (of, lane, batch) = (i64::try_from(wish.connections).unwrap(), i64::try_from(lane).unwrap(), i64::try_from(wish.batch).unwrap());
    let (mut carried, mut after) = (0, 0_i64);
    loop {
        let sql = "SELECT n, id, resource FROM waiting WHERE n > $1 AND n % $2 = $3 AND status IS NULL ORDER BY n LIMIT $4";
        let rows: Vec<(i64, String, String)> =
            sqlx::query_as(sql).bind(after).bind(of).bind(lane).bind(batch).fetch_all(pool).await.unwrap();
        let Some((last, ..)) = rows.last() else { return Ok(carried) };
        after = *last;
        let mut bundle = String::from(r#"{"resourceType":"Bundle","type":"batch","entry":["#);
        for (at, (_, id, resource)) in rows.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            bundle.push_str(&format!(
                r#"{comma}{{"fullUrl":"urn:uuid:{id}","resource":{resource},"request":{{"method":"POST","url":"Observation","ifNoneExist":"identifier=urn:ponte:observation|{id}"}}}}"#
            ));
        }
        bundle.push_str("]}");
        let mut request = client.post(&wish.base).header("content-type", "application/fhir+json").header("prefer", "return=representation");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = request.body(bundle).send().await.map_err(|why| format!("The EHR did not answer: {why}."))?;
        let http = answer.status();
        let answer = answer.bytes().await.map_err(|why| format!("The EHR's answer ended early: {why}."))?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| format!("The EHR answered a batch with {http} and no Bundle."))?;
        if answer.entry.len() != rows.len() {
            return Err(format!("The EHR answered {} entries of {}.", answer.entry.len(), rows.len()));
        }
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        for ((n, ..), entry) in rows.iter().zip(answer.entry) {
            let AnswerOfOne { status, location, etag } = entry.response;
            if !status.starts_with('2') {
                return Err(format!("The EHR answered an entry with {status}."));
            }
            let sql = "UPDATE waiting SET status = $2, location = $3, etag = $4 WHERE n = $1";
            sqlx::query(sql).bind(n).bind(status).bind(location).bind(etag).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
        carried += rows.len();
    }
}
