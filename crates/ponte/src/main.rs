//! The binary: one verb per file in [`verbs`], settings, wiring, telemetry.

mod clock;
mod exit;
mod open;
mod settings;
mod talk;
mod telemetry;
mod verbs;
mod wire;

use clap::Parser;
use exit::Exit;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let cli = verbs::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            talk::say(format!("The system gives Ponte no threads to run on: {why}."));
            return Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(verbs::run(cli)).unwrap_or_else(|failure| {
        talk::say(failure.to_string());
        failure.exit
    });
    // Whatever still runs is bounded by leases; nobody waits for it.
    runtime.shutdown_timeout(Duration::from_millis(200));
    exit.into()
}
