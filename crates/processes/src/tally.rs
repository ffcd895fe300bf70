//! What was done in a scene, what came of it, and whether it was right.

use ponte_processes::judge::Verdict;
use std::collections::BTreeMap;
use std::time::Duration;

/// Sentences shown of each kind.
const SHOWN: usize = 5;

/// One scene.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often what was done: kills, freezes, cuts …
    pub done: BTreeMap<String, u64>,
    /// What else was measured.
    pub measured: Vec<String>,
    /// The judgement.
    pub verdict: Verdict,
}

impl Tally {
    /// A scene that could not be played to its end.
    pub fn broken(why: String) -> Self {
        let mut tally = Self::default();
        tally.verdict.say("not played to its end", why);
        tally
    }

    /// It happened once more.
    pub fn did(&mut self, what: &str) {
        self.add(what, 1);
    }

    /// It happened so many times more.
    pub fn add(&mut self, what: &str, times: u64) {
        *self.done.entry(what.to_owned()).or_default() += times;
    }

    /// How much is wrong.
    pub fn findings(&self) -> usize {
        self.verdict.findings()
    }

    /// What is wrong, in one line.
    pub fn sentence(&self) -> String {
        let kinds: Vec<String> = self.verdict.wrong.iter().map(|(name, list)| format!("{} {name}", list.len())).collect();
        kinds.join(", ")
    }

    /// As a table.
    pub fn print(&self, took: Duration) {
        for (what, times) in &self.done {
            println!("  {what:<34}{times:>7}");
        }
        let verdict = &self.verdict;
        println!("  {:<34}{:>7}", "observations accepted", verdict.observations);
        println!("  {:<34}{:>7}", "versions of them", verdict.versions);
        println!("  {:<34}{:>7}", "deliveries compared", verdict.deliveries);
        for line in &self.measured {
            println!("  {line}");
        }
        let named = Verdict::NAMES.iter().map(|name| (*name, verdict.wrong.get(name).map_or(0, Vec::len)));
        let others = verdict.wrong.iter().filter(|(name, _)| !Verdict::NAMES.contains(name)).map(|(name, list)| (*name, list.len()));
        for (name, findings) in named.chain(others) {
            println!("  {name:<34}{findings:>7}");
            for sentence in verdict.wrong.get(name).into_iter().flatten().take(SHOWN) {
                println!("      {sentence}");
            }
        }
        println!("  {:<34}{:>5.0} s", "took", took.as_secs_f64());
    }
}
