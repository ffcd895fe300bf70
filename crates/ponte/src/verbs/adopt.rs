//! `ponte adopt`: a person says what a database is that was found elsewhere (PRODUCT, "A moved hospital, a restored database").

use crate::clock::SystemClock;
use crate::exit::{Exit, Failure};
use crate::settings::DatabaseFlags;
use crate::{open, talk};
use clap::{Args, ValueEnum};
use model::Clock;

/// Says what this database is.
#[derive(Debug, Args)]
pub struct Adopt {
    /// What it is
    what: What,
    #[command(flatten)]
    database: DatabaseFlags,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Moved here, and nothing runs on it elsewhere: go on
    Moved,
    /// A copy, the original lives on: never push from here
    Copy,
    /// Restored from a backup: all that may have happened since is settled with the EHR first
    Restored,
}

impl Adopt {
    /// Records the person's word.
    pub(super) async fn run(self, json: bool) -> Result<Exit, Failure> {
        let settings = super::settings(self.database.given()?)?;
        let store = open::database(&settings).await?;
        let (adopt, word, outcome) = match self.what {
            What::Moved => (store::installation::Adopt::Moved, "moved", "Ponte goes on here. Nothing else may run on the old place."),
            What::Copy => (store::installation::Adopt::Copy, "copy", "This database never pushes. It may be read."),
            What::Restored => (
                store::installation::Adopt::Restored,
                "restored",
                "Whatever was open at the time of the backup, or may have happened since, is asked about at the EHR before anything is sent again.",
            ),
        };
        if !self.yes {
            let question = format!("{outcome} Is that what this database is ({word})?");
            match talk::ask(&question) {
                Some(true) => {}
                Some(false) => return Err(Failure::conflict("Nothing was changed.")),
                None => return Err(Failure::usage(format!("There is nobody to ask. Say `ponte adopt {word} --yes` if it is so."))),
            }
        }
        store.adopt(SystemClock::new().now(), adopt, longest_settle_ms(&store).await?).await?;
        if json {
            talk::data(serde_json::json!({"adopted": word}).to_string());
        } else {
            talk::say(outcome);
        }
        Ok(Exit::Ok)
    }
}

/// The longest settle time of all connections: an attempt of before the backup may be under way for so long.
async fn longest_settle_ms(store: &store::Store) -> Result<i64, Failure> {
    let mut longest = 60_000;
    for id in store.fleet().tenants().await? {
        if let Some(stored) = store.tenant(&id).connection().await? {
            longest = longest.max(stored.connection.settle_time_ms);
        }
    }
    Ok(longest)
}
