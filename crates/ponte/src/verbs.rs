//! The verbs of the command line (CONTRACT, "Command line"; UX §7).

mod adopt;
mod check;
mod demo;
mod migrate;
#[cfg(test)]
pub(crate) mod reference;
mod replay;
mod rotate_key;
mod sandbox;
mod serve;
mod status;
mod token;
mod trace;

use crate::exit::{Exit, Failure};
use crate::settings::{Given, Settings};
use crate::telemetry;
use clap::{Parser, Subcommand};

/// Carries clinical observations between a care platform and the EHRs of its hospitals, over FHIR R4, both ways, exactly once.
#[derive(Debug, Parser)]
#[command(name = "ponte", version, about, max_term_width = 120)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 auth, 5 conflict, 6 a step of a check failed, 7 partial, 130 interrupted.\n\
    Data goes to stdout, talk to stderr. NO_COLOR is honoured. Secrets come from files, stdin or the environment, never as arguments."
)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Data as JSON: one object, lists one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Everything at once, no set-up: the service, a sandbox EHR, a tenant with synthetic patients, live observations and some faults
    Demo(Box<demo::Demo>),
    /// The service: API, workers, schedules
    Serve(Box<serve::Serve>),
    /// The sandbox EHR alone: a FHIR R4 server in memory that can show faults
    Sandbox(sandbox::SandboxVerb),
    /// Brings the database up to date
    Migrate(migrate::Migrate),
    /// Tests a connection step by step; writes nothing at the EHR without --write-probe
    Check(check::Check),
    /// Signs a token for a tenant and role with the configured secret, for development and scripts
    Token(token::Token),
    /// Re-wraps the tenants' keys with the first key of the ring
    RotateKey(rotate_key::RotateKey),
    /// Sends dead letters again
    Replay(replay::Replay),
    /// What happened to one delivery or observation
    Trace(trace::Trace),
    /// Is anything waiting, lost or stuck?
    Status(status::StatusVerb),
    /// Says what a database that was found in another place is, so that it may go on (or never push)
    Adopt(adopt::Adopt),
}

/// Runs what the command line asks for.
///
/// # Errors
/// The sentence and the code with which the process ends.
pub async fn run(cli: Cli) -> Result<Exit, Failure> {
    let json = cli.json;
    match cli.verb {
        // These end by themselves when they are interrupted, and in order.
        Verb::Demo(demo) => demo.run(json).await,
        Verb::Serve(serve) => serve.run().await,
        Verb::Sandbox(sandbox) => sandbox.run(json).await,
        Verb::Migrate(verb) => until_interrupted(verb.run(json)).await,
        // A probe withdraws what it wrote before it ends.
        Verb::Check(verb) if verb.probes() => verb.run(json).await,
        Verb::Check(verb) => until_interrupted(verb.run(json)).await,
        Verb::Token(verb) => until_interrupted(verb.run(json)).await,
        Verb::RotateKey(verb) => until_interrupted(verb.run(json)).await,
        Verb::Replay(verb) => until_interrupted(verb.run(json)).await,
        Verb::Trace(verb) => until_interrupted(verb.run(json)).await,
        Verb::Status(verb) => until_interrupted(verb.run(json)).await,
        Verb::Adopt(verb) => until_interrupted(verb.run(json)).await,
    }
}

/// Settings of a short verb; it logs warnings only, unless told otherwise.
fn settings(given: Given) -> Result<Settings, Failure> {
    let told = given.values.contains_key("log") || std::env::var_os("PONTE_LOG").is_some();
    let settings = Settings::load(given)?;
    let quiet = telemetry::Verbosity::parse("warn").map_err(Failure::failed)?;
    telemetry::log(if told { settings.log.clone() } else { quiet });
    Ok(settings)
}

/// A tenant as given on the command line.
fn tenant(text: &str) -> Result<model::TenantId, String> {
    model::TenantId::new(text).map_err(|bad| bad.to_string())
}

async fn until_interrupted(verb: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    tokio::select! {
        result = verb => result,
        _ = tokio::signal::ctrl_c() => Err(Failure { exit: Exit::Interrupted, sentence: "Interrupted.".to_owned() }),
    }
}

#[cfg(test)]
mod tests;
