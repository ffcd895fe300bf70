//! What a killed or frozen node leaves behind: the other patients of its lanes are served again within lease and five seconds,
//! by the moments in the EHR's ledger (CONTRACT, `PONTE_LEASE_SECONDS`).

use crate::Given;
use crate::cluster::Server;
use crate::play::{LEASE, LONGEST_FREEZE, Plan, Play, blocking, folder, start_again};
use crate::tally::Tally;
use line::Weather;
use ponte_processes::judge::{SYSTEM, Taken};
use reqwest::Method;
use serde_json::json;
use sqlx::Row as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the contract gives on top of the lease.
const GRACE: Duration = Duration::from_secs(5);

pub async fn play(given: Given) -> Result<Tally, String> {
    let folder = folder(&given)?;
    let server = Server::fresh(folder.path())?;
    // One patient at a time under way in a lane, so that the lane has others.
    let plan = Plan { tenants: 2, patients: 24, batch: 1, ..Plan::of(3) };
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
        let (victim, how) = (1 + round % 2, if (round / 2) % 2 == 0 { "KILL" } else { "STOP" });
        let how = if round == 1 { "STOP" } else { how };
        let struck = strike(&mut play, &server, victim, how).await?;
        play.line.set(Weather::Calm);
        let written = write(&mut play, &struck.others).await?;
        let late = served(&play, &written, struck.at_ms).await;
        let word = if how == "KILL" { "lanes of a killed node" } else { "lanes of a frozen node" };
        tally.add(word, struck.lanes as u64);
        tally.add("other patients of those lanes", struck.others.len() as u64);
        for (id, ms) in late {
            match ms {
                Some(ms) if ms <= millis(LEASE + GRACE) => slowest.entry(word).or_default().push(ms),
                _ => tally.verdict.say("not served within lease and 5 s", format!("{id}: {ms:?} ms after the {how}")),
            }
        }
        if how == "STOP" {
            let (stage, slept) = (play.stage.clone(), struck.since.elapsed());
            tokio::time::sleep((LONGEST_FREEZE + Duration::from_secs(2)).saturating_sub(slept)).await;
            stage.signal(victim, "CONT");
        } else {
            let stage = play.stage.clone();
            blocking(move || start_again(&stage, victim)).await??;
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

/// A node was struck down.
struct Struck {
    since: Instant,
    at_ms: i64,
    /// Patients of its lanes of whom nothing was under way.
    others: Vec<(usize, String)>,
    lanes: usize,
}

/// Waits until a node is in the middle of something, and strikes it. Which lanes were its own is seen when their lease is no
/// longer renewed: two nodes never share an owner's name.
async fn strike(play: &mut Play, server: &Server, victim: usize, how: &str) -> Result<Struck, String> {
    let mut conn = server.connect().await?;
    let query = "SELECT l.tenant_id, l.shard, l.owner, l.lease_until, (SELECT string_agg(d.patient_id, ' ') FROM deliveries d WHERE d.tenant_id = l.tenant_id \
         AND d.shard = l.shard AND d.state IN ('in_flight', 'uncertain')) AS flying FROM lanes l WHERE l.owner IS NOT NULL AND l.lease_until IS NOT NULL";
    let lanes = async |conn: &mut sqlx::PgConnection| sqlx::query(query).fetch_all(conn).await.map_err(|why| why.to_string());
    let started = Instant::now();
    let owners = |rows: &[sqlx::postgres::PgRow]| rows.iter().map(|row| row.get::<String, _>("owner")).collect::<BTreeSet<_>>();
    // All nodes are at work.
    while owners(&lanes(&mut conn).await?).len() < play.stage.size() {
        if started.elapsed() > Duration::from_secs(10) {
            let everybody = play.load.patients.clone();
            write(play, &everybody).await?;
        }
        if started.elapsed() > Duration::from_secs(60) {
            return Err("The lanes do not come to all nodes.".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (since, at_ms) = (Instant::now(), now_ms());
    if how == "KILL" {
        play.stage.kill(victim)
    } else {
        play.stage.signal(victim, how)
    }
    let before = lanes(&mut conn).await?;
    // The living renew their lanes, or give them up, within half a lease.
    tokio::time::sleep(LEASE / 2).await;
    let after = lanes(&mut conn).await?;
    let of = |row: &sqlx::postgres::PgRow| {
        (row.get::<String, _>("tenant_id"), row.get::<i64, _>("shard"), row.get::<String, _>("owner"), row.get::<i64, _>("lease_until"))
    };
    let orphaned: Vec<_> = before.iter().filter(|row| after.iter().any(|later| of(later) == of(row))).collect();
    let names: BTreeSet<String> = orphaned.iter().map(|row| row.get::<String, _>("owner")).collect();
    if names.len() > 1 {
        return Err(format!("Lanes of {} nodes are no longer renewed.", names.len()));
    }
    let mut others = Vec::new();
    for row in &orphaned {
        let (tenant, shard, ..) = of(row);
        let flying = row.get::<Option<String>, _>("flying").unwrap_or_default();
        let patients = sqlx::query("SELECT patient_id FROM streams WHERE tenant_id = $1 AND shard = $2").bind(&tenant).bind(shard);
        for patient in patients.fetch_all(&mut conn).await.map_err(|why| why.to_string())? {
            let patient: String = patient.get("patient_id");
            if !flying.contains(&patient) {
                others.extend(play.load.patients.iter().find(|(_, id)| *id == patient).cloned());
            }
        }
    }
    Ok(Struck { since, at_ms, others, lanes: orphaned.len() })
}

/// One new observation of each.
async fn write(play: &mut Play, patients: &[(usize, String)]) -> Result<Vec<Taken>, String> {
    let mut written = Vec::new();
    for (at, patient) in patients {
        let body = json!({"patientId": patient, "code": "72514-3", "display": "Pain severity", "effectiveDateTime": "2026-11-25T08:30:00-03:00",
            "valueQuantity": 4, "unit": "{score}"});
        let key = format!("lanes-{}", play.load.taken.len() + written.len());
        let (status, answer) = play.load.tenants[*at].call(Method::POST, "/observations", Some(&body), Some(&key)).await;
        if status != 201 {
            return Err(format!("{status} {answer}"));
        }
        written.push(Taken::of(*at, &answer));
    }
    play.load.adopt(&written);
    Ok(written)
}

/// When each of them reached the EHR, ms after that moment; none: not even long after the deadline.
async fn served(play: &Play, written: &[Taken], at_ms: i64) -> Vec<(String, Option<i64>)> {
    let deadline = at_ms + millis(LEASE + GRACE + Duration::from_secs(5));
    loop {
        let ledger = play.sandbox.ledger();
        let when = |one: &Taken| ledger.effects_by_identifier(SYSTEM, &one.id).first().map(|effect| effect.at_ms - at_ms);
        let all: Vec<_> = written.iter().map(|one| (one.id.clone(), when(one))).collect();
        if now_ms() > deadline || all.iter().all(|(_, ms)| ms.is_some()) {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}
