//! The table of one server, as Markdown.

use super::race::{ROUNDS, Race};
use super::scenario::Done;
use super::verdict::Verdict;
use line::Fate;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that is told of one server.
#[derive(Debug)]
pub struct Told<'a> {
    /// Its name here.
    pub name: &'a str,
    /// Its CapabilityStatement.
    pub claims: &'a Value,
    /// What was done.
    pub done: &'a Done,
    /// What came of it.
    pub verdict: &'a Verdict,
    /// Each delivery with its attempts.
    pub deliveries: &'a [Value],
    /// What the line did.
    pub shown: &'a BTreeMap<Fate, u64>,
    /// Conditional creates at once, and `PUT`s of a new id at once.
    pub races: (Race, Race),
    /// Until it answered.
    pub ready: Duration,
    /// From then to the end.
    pub took: Duration,
}

/// Prints it.
pub fn print(told: &Told) {
    let software = &told.claims["software"];
    let title = [&software["name"], &software["version"]].map(|word| word.as_str().unwrap_or("?"));
    println!("\n### {}: {} {}\n", told.name, title[0], title[1]);
    let verdict = told.verdict;
    println!("| of {} observations pushed | |\n|---|---|", verdict.pushed);
    println!("| there once, newest version, right patient and content | {} |", verdict.once);
    println!("| withdrawn before they were sent, never there | {} |", verdict.never_sent);
    for (name, list) in verdict.lists() {
        println!("| {name} | {} |", list.len());
    }
    println!("| of the hospital's own rows, pulled | {} of {} |", verdict.own.saturating_sub(verdict.not_pulled.len()), verdict.own);
    println!("| version histories read, each in order unless said above | {} |", verdict.histories);
    println!("| values whose last noughts the server dropped | {} |", verdict.digits_lost);
    let shown: Vec<String> = told.shown.iter().map(|(fate, times)| format!("{} {times}", fate.word())).collect();
    println!("| requests, by what the line did to them | {} |", shown.join(", "));
    println!("| attempts, by what their outcome meant | {} |", counted(told.deliveries, "class"));
    println!("| writes, by means | {} |", counted(told.deliveries, "means"));
    let in_batches =
        attempts(told.deliveries).filter(|one| one["request"].as_str().is_some_and(|request| request.contains("batch"))).count();
    println!("| of them in batches | {in_batches} |");

    println!("\n| means | it says | Ponte found | measured here without Ponte |\n|---|---|---|---|");
    let plan = &told.done.check["plan"];
    let (conditional, own_id) = &told.races;
    row("PUT of our own id", &claim(told.claims, "updateCreate"), &plan["observationUpdateCreate"], &race(own_id));
    row("If-None-Exist", &claim(told.claims, "conditionalCreate"), &plan["conditionalCreate"], &race(conditional));
    row("batch", &interaction(told.claims, "batch"), &plan["batch"], "");
    row("If-Match", &claim(told.claims, "versioning"), &plan["ifMatch"], "");
    row("identifier search", &parameter(told.claims, "identifier"), &plan["identifierSearch"], "");
    row("_lastUpdated", &parameter(told.claims, "_lastUpdated"), &plan["lastUpdated"], "");
    row("POST _search", "", &plan["postSearch"], "");
    let findings = plan["probe"]["findings"].as_array().cloned().unwrap_or_default();
    let saw: Vec<String> = findings.iter().map(finding).collect();
    println!("\nThe write probe saw: {}.", saw.join(", "));
    println!(
        "\nReady after {:.1} s; pushed and at rest after {:.1} s; pulled in {:.1} s; a write {}; in all {:.0} s.",
        told.ready.as_secs_f64(),
        told.done.pushing.as_secs_f64(),
        told.done.pulling.as_secs_f64(),
        durations(told.deliveries),
        told.took.as_secs_f64()
    );
    for (name, list) in verdict.lists() {
        for sentence in list {
            println!("{name}: {sentence}");
        }
    }
}

/// `conditional_parallel refused (5)`: what, what came of it, how many were stored.
fn finding(finding: &Value) -> String {
    let word = |name: &str| finding[name].as_str().unwrap_or("unknown");
    let count = finding["count"].as_u64().map(|count| format!(" ({count})")).unwrap_or_default();
    format!("{} {}{count}", word("what"), word("seen"))
}

fn row(means: &str, claimed: &str, proof: &Value, measured: &str) {
    println!("| {means} | {claimed} | {} | {measured} |", proof.as_str().unwrap_or("unknown"));
}

fn race(race: &Race) -> String {
    let statuses: Vec<String> = race.statuses.iter().map(|(status, times)| format!("{status} × {times}")).collect();
    format!("12 at once, {ROUNDS} rounds: {} doubled (worst {}); {}", race.doubled, race.worst, statuses.join(", "))
}

fn observation(claims: &Value) -> Value {
    let kinds = claims["rest"][0]["resource"].as_array().cloned().unwrap_or_default();
    kinds.into_iter().find(|kind| kind["type"] == "Observation").unwrap_or(Value::Null)
}

fn claim(claims: &Value, name: &str) -> String {
    match &observation(claims)[name] {
        Value::Null => "nothing".to_owned(),
        Value::String(word) => word.clone(),
        other => other.to_string(),
    }
}

fn interaction(claims: &Value, code: &str) -> String {
    let all = claims["rest"][0]["interaction"].as_array().cloned().unwrap_or_default();
    if all.iter().any(|one| one["code"] == code) { "yes".to_owned() } else { "nothing".to_owned() }
}

fn parameter(claims: &Value, name: &str) -> String {
    let kind = observation(claims);
    let own = kind["searchParam"].as_array().cloned().unwrap_or_default();
    let all = claims["rest"][0]["searchParam"].as_array().cloned().unwrap_or_default();
    if own.iter().chain(&all).any(|one| one["name"] == name) { "yes".to_owned() } else { "nothing".to_owned() }
}

fn attempts(deliveries: &[Value]) -> impl Iterator<Item = &Value> {
    deliveries.iter().filter_map(|delivery| delivery["attempts"].as_array()).flatten()
}

fn counted(deliveries: &[Value], field: &str) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in attempts(deliveries).filter_map(|attempt| attempt[field].as_str()) {
        *counts.entry(word).or_default() += 1;
    }
    let all: Vec<String> = counts.iter().map(|(word, times)| format!("{word} {times}")).collect();
    all.join(", ")
}

fn durations(deliveries: &[Value]) -> String {
    let mut all: Vec<i64> = attempts(deliveries)
        .filter(|one| one["class"] == "delivered" && !one["means"].is_null())
        .filter_map(|one| one["durationMs"].as_i64())
        .collect();
    all.sort_unstable();
    match (all.get(all.len() / 2), all.last()) {
        (Some(median), Some(longest)) => format!("{median} ms in the median, {longest} ms at most"),
        _ => "never went well".to_owned(),
    }
}
