//! What a killed or frozen node leaves behind: the other patients of its lanes are served again within lease and five seconds,
//! by the moments in the EHR's ledger (CONTRACT, `PONTE_LEASE_SECONDS`).

use crate::Given;
use crate::cluster::Server;
use crate::play::{LEASE, LONGEST_FREEZE, Plan, Play, blocking, folder, start_again};
use crate::tally::Tally;
use line::Weather;
use ponte_processes::judge::{SYSTEM, Taken};
use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the contract gives on top of the lease.
const GRACE: Duration = Duration::from_secs(5);

pub async fn play(given: Given) -> Result<Tally, String> {
    let folder = folder(&given)?;
    let server = Server::fresh(folder.path())?;
    // One patient at a time under way in a lane, so that the lane has others.
    let plan = Plan { tenants: 2, patients: 24, batch: 1, ..Plan::of(2) };
    let mut play = Play::begin(&given, folder.path(), &server.url(), plan).await?;
    let mut tally = Tally::default();
    let mut slowest: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    let begun = Instant::now();
    for round in 0.. {
        if round >= 2 && begun.elapsed() > given.storm {
            break;
        }
        // Every request takes its time: whoever is struck is struck in the middle.
        play.line.set(Weather::Slow);
        let everybody = play.load.patients.clone();
        write(&mut play, &everybody).await?;
        let how = if round % 2 == 0 { "KILL" } else { "STOP" };
        let struck = strike(&mut play, &server, how).await?;
        play.line.set(Weather::Calm);
        let written = write(&mut play, &struck.others).await?;
        let (late, alive) = served(&play, &server, &written, struck.at_ms).await?;
        let orphaned: BTreeSet<_> = struck.lanes.iter().filter(|lane| !alive.contains(&lane.owner)).collect();
        let word = if how == "KILL" { "lanes of a killed node" } else { "lanes of a frozen node" };
        tally.add(word, orphaned.len() as u64);
        for (one, ms) in late {
            if ms.is_none_or(|ms| ms > millis(LEASE + GRACE)) {
                let ward = &play.load.tenants[one.tenant];
                let all = ward.get(&format!("/fhir/deliveries?patientId={}&limit=3", one.patient)).await;
                tally.verdict.say("not served within lease and 5 s", format!("{}: {ms:?} ms after the {how}: {all}", one.id));
            } else if orphaned.iter().any(|lane| lane.patients.contains(&one.patient)) {
                slowest.entry(word).or_default().extend(ms);
            }
        }
        if how == "STOP" {
            let (stage, slept) = (play.stage.clone(), struck.since.elapsed());
            tokio::time::sleep((LONGEST_FREEZE + Duration::from_secs(2)).saturating_sub(slept)).await;
            stage.signal(VICTIM, "CONT");
        } else {
            let stage = play.stage.clone();
            blocking(move || start_again(&stage, VICTIM)).await??;
        }
    }
    let late = std::mem::take(&mut tally.verdict.wrong);
    play.end(&mut tally).await?;
    tally.verdict.wrong.extend(late);
    for (word, mut all) in slowest {
        all.sort_unstable();
        let (middle, last) = (all[all.len() / 2], all[all.len() - 1]);
        tally.measured.push(format!("{word}: others served again after {middle} ms (median), {last} ms (slowest of {})", all.len()));
    }
    Ok(tally)
}

/// Node 0 answers the platform and works on.
const VICTIM: usize = 1;

/// A lane that somebody held when a node was struck.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    owner: String,
    patients: BTreeSet<String>,
}

/// A node was struck down.
struct Struck {
    since: Instant,
    at_ms: i64,
    lanes: Vec<Held>,
    /// Patients of whom nothing was under way.
    others: Vec<(usize, String)>,
}

/// Waits until all nodes are in the middle of something, and strikes one.
async fn strike(play: &mut Play, server: &Server, how: &str) -> Result<Struck, String> {
    let mut conn = server.connect().await?;
    let (started, mut written) = (Instant::now(), Instant::now());
    while holders(&mut conn, 0).await?.len() < play.stage.size() {
        if written.elapsed() > Duration::from_secs(5) {
            let everybody = play.load.patients.clone();
            write(play, &everybody).await?;
            written = Instant::now();
        }
        if started.elapsed() > Duration::from_secs(60) {
            return Err("The lanes do not come to all nodes.".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (since, at_ms) = (Instant::now(), now_ms());
    if how == "KILL" {
        play.stage.kill(VICTIM)
    } else {
        play.stage.signal(VICTIM, how)
    }
    let held = "SELECT l.owner, string_agg(s.patient_id, ' ') AS patients FROM lanes l JOIN streams s ON s.tenant_id = l.tenant_id AND s.shard = l.shard \
         WHERE l.lease_until > $1 GROUP BY l.owner, l.tenant_id, l.shard";
    let held = sqlx::query(held).bind(at_ms).fetch_all(&mut conn).await.map_err(|why| why.to_string())?;
    let words = |row: &PgRow| row.get::<String, _>("patients").split(' ').map(str::to_owned).collect();
    let lanes = held.iter().map(|row| Held { owner: row.get("owner"), patients: words(row) }).collect();
    // What the struck node had committed last may reach the server after the blow: looked at now and a moment later.
    let query = "SELECT COALESCE(string_agg(patient_id, ' '), '') AS patients FROM deliveries WHERE state IN ('in_flight', 'uncertain')";
    let mut flying = BTreeSet::new();
    for wait in [Duration::ZERO, Duration::from_millis(500)] {
        tokio::time::sleep(wait).await;
        flying.extend::<BTreeSet<String>>(words(&sqlx::query(query).fetch_one(&mut conn).await.map_err(|why| why.to_string())?));
    }
    let others = play.load.patients.iter().filter(|(_, id)| !flying.contains(id)).cloned().collect();
    Ok(Struck { since, at_ms, lanes, others })
}

/// Whose leases end after this moment.
async fn holders(conn: &mut sqlx::PgConnection, after_ms: i64) -> Result<BTreeSet<String>, String> {
    let query = sqlx::query("SELECT DISTINCT owner FROM lanes WHERE owner IS NOT NULL AND lease_until > $1").bind(after_ms);
    let rows = query.fetch_all(conn).await.map_err(|why| why.to_string())?;
    Ok(rows.iter().map(|row| row.get("owner")).collect())
}

/// One new observation of each, in one call a tenant: what is measured is not how long the platform writes.
async fn write(play: &mut Play, patients: &[(usize, String)]) -> Result<Vec<Taken>, String> {
    let mut written = Vec::new();
    for (at, tenant) in play.load.tenants.iter().enumerate() {
        let observation = |patient: &String| {
            json!({"patientId": patient, "code": "72514-3", "display": "Pain severity", "effectiveDateTime": "2026-11-25T08:30:00-03:00",
                "valueQuantity": 4, "unit": "{score}"})
        };
        let theirs: Vec<Value> = patients.iter().filter(|(of, _)| *of == at).map(|(_, patient)| observation(patient)).collect();
        if theirs.is_empty() {
            continue;
        }
        let key = format!("lanes-{}", play.load.taken.len() + written.len());
        let (status, answer) = tenant.post("/observations/batch", &json!({"observations": theirs}), &key).await;
        if status != 207 {
            return Err(format!("{status} {answer}"));
        }
        written.extend(answer["items"].as_array().into_iter().flatten().map(|item| Taken::of(at, &item["observation"])));
    }
    play.load.adopt(&written);
    Ok(written)
}

/// When each of them reached the EHR, ms after that moment (none: not even long after the deadline); and who lived meanwhile:
/// a lease that ends later than one of before can was given since.
async fn served(
    play: &Play,
    server: &Server,
    written: &[Taken],
    at_ms: i64,
) -> Result<(Vec<(Taken, Option<i64>)>, BTreeSet<String>), String> {
    let deadline = at_ms + millis(LEASE + GRACE + Duration::from_secs(5));
    let (mut conn, mut alive) = (server.connect().await?, BTreeSet::new());
    loop {
        alive.extend(holders(&mut conn, at_ms + millis(LEASE) + 100).await?);
        let ledger = play.sandbox.ledger();
        let when = |one: &Taken| ledger.effects_by_identifier(SYSTEM, &one.id).first().map(|effect| effect.at_ms - at_ms);
        let all: Vec<_> = written.iter().map(|one| (one.clone(), when(one))).collect();
        if now_ms() > deadline || all.iter().all(|(_, ms)| ms.is_some()) {
            return Ok((all, alive));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}
