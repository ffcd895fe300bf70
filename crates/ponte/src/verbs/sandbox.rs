//! `ponte sandbox`: the sandbox EHR alone, to try Ponte or any other FHIR client against.

use super::serve::Ends;
use crate::exit::{Exit, Failure};
use crate::talk;
use clap::Args;
use sandbox::{Auth, Fault, FaultPlan, Options, Profile, Sandbox};
use tokio::net::TcpListener;

/// The sandbox EHR alone.
#[derive(Debug, Args)]
#[command(
    after_help = "FHIR at /fhir, token at /oauth/token, control at /_sandbox/{faults,ledger,resources,reset} (from this machine only).\n\
    Everything is kept in memory. `ponte sandbox --list-faults` names the faults."
)]
pub struct SandboxVerb {
    /// Where it listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    listen: String,
    /// The real server whose manners it takes on: plain, epic, hapi, helios, medplum, medplum-router or wso2
    #[arg(long, default_value = "plain", value_name = "PROFILE")]
    like: Profile,
    /// A way in: open, oauth2:CLIENT:SECRET, basic:USER:PASSWORD, api-key:HEADER:KEY; repeatable. These are toys, not secrets
    #[arg(long, value_name = "WAY")]
    auth: Vec<Auth>,
    /// A fault: NAME (always) or NAME=RATE (chance per request, 0 to 1); repeatable
    #[arg(long, value_name = "NAME[=RATE]", value_parser = fault)]
    fault: Vec<(Fault, Option<f64>)>,
    /// From which all chance and all ids come: same seed, same requests, same answers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds from the cut to the commit of late_commit
    #[arg(long, value_name = "MS")]
    late_commit_ms: Option<u64>,
    /// Name the faults, with what each does, and end
    #[arg(long)]
    list_faults: bool,
}

impl SandboxVerb {
    /// Serves until it is told to end.
    pub(super) async fn run(self, json: bool) -> Result<Exit, Failure> {
        if self.list_faults {
            list(json);
            return Ok(Exit::Ok);
        }
        let mut end = Ends::listen()?;
        let listener = TcpListener::bind(&self.listen).await.map_err(|why| {
            Failure::failed(format!("The sandbox cannot listen on {}: {why}. Choose another address with --listen.", self.listen))
        })?;
        let at = listener.local_addr()?;
        let (base, token, control) = (format!("http://{at}/fhir"), format!("http://{at}/oauth/token"), format!("http://{at}/_sandbox"));
        let sandbox = Sandbox::new(self.options());
        let server = tokio::spawn(sandbox.serve(listener));
        if json {
            talk::data(serde_json::json!({"baseUrl": base, "tokenUrl": token, "controlUrl": control}).to_string());
        } else {
            talk::data(&base);
        }
        talk::say(format!(
            "The sandbox EHR ({}, seed {}) is up. Tokens: {token} · control: {control}/faults, {control}/ledger · Ctrl-C ends it.",
            self.like, self.seed
        ));
        tokio::select! {
            () = end.next() => Ok(Exit::Ok),
            _ = server => Err(Failure::failed("The sandbox ended without being told to.")),
        }
    }

    fn options(&self) -> Options {
        let faults = self.fault.iter().fold(FaultPlan::none(), |plan, (fault, rate)| match rate {
            Some(rate) => plan.rate(*fault, *rate),
            None => plan.always(*fault),
        });
        let mut options = Options { profile: self.like, auth: self.auth.clone(), seed: self.seed, faults, ..Options::default() };
        if let Some(ms) = self.late_commit_ms {
            options.settings.late_commit_ms = ms;
        }
        options
    }
}

/// Reads `NAME` or `NAME=RATE`; a name that nobody knows is answered with the nearest.
fn fault(text: &str) -> Result<(Fault, Option<f64>), String> {
    let (name, rate) = text.split_once('=').map_or((text, None), |(name, rate)| (name, Some(rate)));
    let fault = name.parse::<Fault>().map_err(|_| {
        let alike = |fault: &&Fault| strsim::jaro_winkler(name, fault.name());
        let nearest = Fault::ALL.iter().max_by(|a, b| alike(a).total_cmp(&alike(b))).map_or("", |fault| fault.name());
        format!("there is no fault `{name}`; did you mean `{nearest}`? --list-faults names them all")
    })?;
    let chance = |text: &str| {
        text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate)).ok_or_else(|| format!("`{text}` is not a chance from 0 to 1"))
    };
    Ok((fault, rate.map(chance).transpose()?))
}

fn list(json: bool) {
    for fault in Fault::ALL {
        talk::data(if json {
            serde_json::json!({"name": fault.name(), "does": fault.describe()}).to_string()
        } else {
            format!("{} {}", talk::pad(fault.name(), 28), fault.describe())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_always_on_or_has_a_chance() {
        assert_eq!(fault("cut_after_commit"), Ok((Fault::CutAfterCommit, None)));
        assert_eq!(fault("status-503=0.25"), Ok((Fault::Status503, Some(0.25))));
        assert!(fault("status_503=2").unwrap_err().contains("0 to 1"));
        assert!(fault("cut_after_comit").unwrap_err().contains("`cut_after_commit`"));
    }
}
