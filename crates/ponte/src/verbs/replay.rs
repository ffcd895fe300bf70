//! `ponte replay`: sends dead letters again, one or all of a tenant, straight from the database; a running service does the work.

use crate::clock::SystemClock;
use crate::exit::{Exit, Failure};
use crate::settings::DatabaseFlags;
use crate::{open, talk};
use clap::Args;
use model::{Clock, DeliveryId, PatientId, State, TenantId, Timestamp};
use serde_json::json;
use store::{Replayed, Tenant};

/// Who stands in the audit.
const ACTOR: &str = "ponte-cli";

/// Sends dead letters again.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["delivery", "all_dead"]))]
pub struct Replay {
    /// Tenant whose deliveries they are
    #[arg(long, value_parser = super::tenant)]
    tenant: TenantId,
    /// This one
    #[arg(long, value_name = "ID")]
    delivery: Option<DeliveryId>,
    /// All dead letters of the tenant
    #[arg(long)]
    all_dead: bool,
    /// With --all-dead: only those of this patient
    #[arg(long, value_name = "ID", requires = "all_dead")]
    patient: Option<PatientId>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    database: DatabaseFlags,
}

impl Replay {
    /// Makes them due again.
    pub(super) async fn run(self, json: bool) -> Result<Exit, Failure> {
        let settings = super::settings(self.database.given()?)?;
        let store = open::database(&settings).await?;
        open::tenants(&store, Some(&self.tenant)).await?;
        let (tenant, now) = (store.tenant(&self.tenant), SystemClock::new().now());
        match self.delivery {
            Some(id) => self.one(&tenant, now, id, json).await,
            None => self.all(&tenant, now, json).await,
        }
    }

    async fn one(&self, tenant: &Tenant, now: Timestamp, id: DeliveryId, json: bool) -> Result<Exit, Failure> {
        let unknown = || Failure::not_found(format!("Tenant {} has no delivery {id}.", self.tenant));
        let delivery = tenant.delivery(now, id).await?.ok_or_else(unknown)?;
        let (word, sentence) = if self.dry_run {
            match delivery.state {
                State::Delivered | State::Superseded | State::Canceled | State::InFlight => return Err(not_dead(id, delivery.state)),
                _ => ("would_replay", format!("{id} would be sent again ({} now).", delivery.state)),
            }
        } else {
            self.agree(&format!("Send {id} again?"))?;
            match tenant.replay(now, id, ACTOR).await? {
                Replayed::Again => {
                    ("replayed", format!("{id} is on its way again; where it may have been applied, the EHR is asked first."))
                }
                Replayed::Superseded => ("superseded", format!("A newer version of what {id} brings exists; that one goes instead.")),
                Replayed::NotDead => return Err(not_dead(id, delivery.state)),
                Replayed::Unknown => return Err(unknown()),
            }
        };
        report(json, &json!({"deliveryId": id.to_string(), "result": word}), &sentence);
        Ok(Exit::Ok)
    }

    async fn all(&self, tenant: &Tenant, now: Timestamp, json: bool) -> Result<Exit, Failure> {
        let plan = tenant.replay_dead(now, self.patient, ACTOR, true).await?;
        let total = plan.progress.total;
        if self.dry_run || total == 0 {
            report(json, &json!({"dryRun": self.dry_run, "total": total}), &format!("{total} dead letters would be sent again."));
            return Ok(Exit::Ok);
        }
        self.agree(&format!("Send {total} dead letters of tenant {} again?", self.tenant))?;
        let run = tenant.replay_dead(now, self.patient, ACTOR, false).await?;
        let sentence = format!(
            "{} dead letters are on their way again as run {}; `ponte status` shows what becomes of them.",
            run.progress.total, run.id
        );
        report(json, &json!({"runId": run.id.to_string(), "total": run.progress.total}), &sentence);
        Ok(Exit::Ok)
    }

    fn agree(&self, question: &str) -> Result<(), Failure> {
        match (self.yes, (!self.yes).then(|| talk::ask(question)).flatten()) {
            (true, _) | (_, Some(true)) => Ok(()),
            (_, Some(false)) => Err(Failure::conflict("Nothing was changed.")),
            (_, None) => Err(Failure::usage("There is nobody to ask. Say --yes, or --dry-run to see what would be done.")),
        }
    }
}

fn not_dead(id: DeliveryId, state: State) -> Failure {
    Failure::conflict(format!("{id} is {state}; only what is dead, held or waiting can be sent again."))
}

fn report(json: bool, data: &serde_json::Value, sentence: &str) {
    if json {
        talk::data(data.to_string());
    } else {
        talk::say(sentence);
    }
}
