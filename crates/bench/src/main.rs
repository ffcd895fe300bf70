//! `ponte-bench NAME`: how fast Ponte is, the built binary as its users run it, and beside it, in the same run, what it is compared
//! with. Nothing here passes or fails: it measures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a tool that cannot go on has to end")]

mod accept;
mod bare;
mod fairness;
mod latency;
mod own;
mod pgbench;
mod platform;
mod process;
mod pull;
mod push;
mod scale;
mod site;
mod table;
mod warm;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measures Ponte beside what it is compared with.
#[derive(Debug, Parser)]
struct Wish {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Pushes a backlog at each latency of the EHR, by Ponte and by a bare loop
    Push(push::Wish),
    /// One observation at a time, from the call to its arrival at the EHR; and what an idle node takes
    Latency(latency::Wish),
    /// A fresh observation of a small tenant beside a great backlog of another
    Fairness(fairness::Wish),
    /// What the API accepts in a second, beside a bare writer and pgbench
    Accept(accept::Wish),
    /// Pulls what an EHR holds, by Ponte and by a bare loop
    Pull(pull::Wish),
    /// The bench against your own EHR's TEST system: it WRITES Patients and Observations there
    Ehr(own::Wish),
    /// The cost of one observation by the length of the backlog and by the number of tenants
    Scale(scale::Wish),
    #[command(hide = true)]
    Bare(bare::Wish),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Wish::parse().what {
        What::Push(wish) => push::run(&wish).await,
        What::Latency(wish) => latency::run(&wish).await,
        What::Fairness(wish) => fairness::run(&wish).await,
        What::Accept(wish) => accept::run(&wish).await,
        What::Pull(wish) => pull::run(&wish).await,
        What::Ehr(wish) => return ended(own::run(&wish).await),
        What::Scale(wish) => scale::run(&wish).await,
        What::Bare(wish) => return ended(bare::run(wish).await),
    }
    ExitCode::SUCCESS
}

fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}
