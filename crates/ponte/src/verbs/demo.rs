//! `ponte demo`: everything at once in one process: the service on SQLite in a scratch folder, the sandbox EHR, one tenant with
//! synthetic patients, observations that flow both ways, some faults, and a live view of it.

mod api;
mod compare;
mod life;
mod once;
mod people;
mod screen;
mod watch;
mod world;

use super::serve::Ends;
use crate::exit::{Exit, Failure};
use crate::{talk, telemetry};
use clap::Args;
use sandbox::Profile;
use std::io::IsTerminal;
use world::World;

/// Everything at once, no set-up.
#[derive(Debug, Args)]
pub struct Demo {
    /// One bounded round: push, correct, withdraw, pull; then compare what the platform holds with what the EHR holds. Exits 0 only if they agree
    #[arg(long)]
    once: bool,
    /// Where the API listens; port 0 takes a free one [default: 127.0.0.1:8080, or a free port if that one is taken]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The real server whose manners the sandbox EHR takes on: plain, epic, hapi, helios, medplum, medplum-router or wso2
    #[arg(long, default_value = "plain", value_name = "PROFILE")]
    like: Profile,
    /// From which the sandbox takes its chance: which requests fail, and how
    #[arg(long, default_value_t = 20)]
    seed: u64,
    /// No faults: the EHR behaves
    #[arg(long)]
    no_faults: bool,
    /// What is logged to stderr
    #[arg(long, value_name = "LEVEL", default_value = "error", value_parser = telemetry::Verbosity::parse)]
    log: telemetry::Verbosity,
}

impl Demo {
    /// Starts the world and shows it until Ctrl-C, or runs one round.
    pub(super) async fn run(self, json: bool) -> Result<Exit, Failure> {
        telemetry::log(self.log.clone());
        let mut end = Ends::listen()?;
        let world = World::start(&self).await?;
        let done = tokio::select! {
            result = async { if self.once { once::run(&world, json).await } else { live(&world, json).await } } => result,
            () = end.next() => if self.once { Err(interrupted()) } else { Ok(Exit::Ok) },
        };
        if !self.once {
            talk::say("\nThe demo ends; nothing of it is kept.");
        }
        world.end().await;
        done
    }
}

async fn live(world: &World, json: bool) -> Result<Exit, Failure> {
    if json {
        talk::data(world.intro_json().to_string());
    } else {
        talk::data(world.intro());
    }
    let seen = !json && std::io::stdout().is_terminal();
    let (events, received) = tokio::sync::mpsc::channel(1_000);
    let show = screen::run(world, received, json, seen);
    let (lived, watched, shown) = tokio::join!(life::run(world, events.clone()), watch::run(world, events), show);
    lived.and(watched).and(shown).map(|()| Exit::Ok)
}

fn interrupted() -> Failure {
    Failure { exit: Exit::Interrupted, sentence: "Interrupted.".to_owned() }
}
