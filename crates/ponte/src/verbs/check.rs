//! `ponte check`: tests a connection step by step, of a tenant's or from a file, with or without a running service.

use crate::clock::OsRng;
use crate::exit::{Exit, Failure};
use crate::settings::CheckFlags;
use crate::{open, talk, wire};
use clap::{Args, ValueEnum};
use ehr::check::{CheckInput, Language, Report, Step, Verdict, check};
use model::connection::Connection;
use model::{EhrId, MeansPlan, TenantId};
use serde_json::Value;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tests a connection step by step.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["tenant", "config_file"]))]
pub struct Check {
    /// The connection of this tenant, from the database
    #[arg(long, value_parser = super::tenant)]
    tenant: Option<TenantId>,
    /// The connection in this JSON file (or -, stdin): the body of POST /api/v1/fhir/config
    #[arg(long, value_name = "FILE")]
    config_file: Option<String>,
    /// Write test Observations on the test patient, to prove by what means a create is safe there, and withdraw them
    #[arg(long, requires = "test_patient")]
    write_probe: bool,
    /// The EHR's id of a Patient that is nobody: made for tests
    #[arg(long, value_name = "ID", value_parser = ehr_id)]
    test_patient: Option<EhrId>,
    /// Language of the sentences
    #[arg(long, value_enum, default_value = "en")]
    lang: Lang,
    /// The report as Markdown, to paste into the hospital's ticket
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    #[command(flatten)]
    settings: CheckFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lang {
    /// Brazilian Portuguese
    #[value(name = "pt-BR", aliases = ["pt", "pt-br"])]
    PtBr,
    /// English
    En,
}

impl Check {
    /// Whether it writes at the EHR.
    pub(super) fn probes(&self) -> bool {
        self.write_probe
    }

    /// Tests; each step is shown as soon as it is done.
    pub(super) async fn run(self, json: bool) -> Result<Exit, Failure> {
        let settings = super::settings(self.settings.given()?)?;
        let (connection, plan, kept_by) = match (&self.tenant, &self.config_file) {
            (Some(id), _) => {
                let store = open::database(&settings).await?;
                open::tenants(&store, Some(id)).await?;
                let tenant = store.tenant(id);
                let stored = tenant.connection().await?.ok_or_else(|| Failure::not_found(format!("Tenant {id} has no connection yet.")))?;
                let plan = tenant.runtime().await?.plan;
                (stored.connection.as_ref().clone(), plan, Some((tenant, stored.generation)))
            }
            (None, Some(path)) => (from_file(path)?, MeansPlan::default(), None),
            (None, None) => return Err(Failure::usage("Say which connection: --tenant or --config-file.")),
        };
        let interrupted = Arc::new(AtomicBool::new(false));
        let input = CheckInput {
            test_patient_id: self.test_patient,
            write_probe: self.write_probe,
            go_on: {
                let interrupted = interrupted.clone();
                Arc::new(move || !interrupted.load(Ordering::SeqCst))
            },
            ..CheckInput::reading(connection, plan.clone())
        };
        let (lang, live) = (self.lang, !json && !self.markdown);
        let mut show = |step: &Step| {
            if live {
                talk::data(step_line(step, lang));
                if let Some(words) = step.ehr_words.as_ref().filter(|_| talk::data_is_seen()) {
                    talk::say(format!("           {words}"));
                }
            }
        };
        let checking = check(wire::transport(&settings.allow_local)?, wire::clock(), &OsRng, input, &mut show);
        let report = if self.write_probe { in_order(checking, &interrupted).await? } else { checking.await };
        if let Some((tenant, generation)) = kept_by.filter(|_| self.write_probe) {
            let after = report.plan.clone();
            tenant.change_plan(generation, Box::new(move |now| now.take_over(&plan, &after))).await?;
        }
        if json {
            talk::data(report.to_json().to_string());
        } else if self.markdown {
            let language = if lang == Lang::PtBr { Language::PtBr } else { Language::En };
            talk::data(report.to_markdown(language).trim_end());
        } else {
            let language = if lang == Lang::PtBr { Language::PtBr } else { Language::En };
            talk::data(format!("\n{}", report.guarantee_lines(language).join("\n").replace("**", "").trim_end()));
        }
        if interrupted.load(Ordering::SeqCst) {
            return Ok(Exit::Interrupted);
        }
        Ok(if report.overall == Verdict::Failed { Exit::CheckFailed } else { Exit::Ok })
    }
}

/// The first Ctrl-C cuts the probe short, and what it wrote is withdrawn; the second ends at once.
async fn in_order(checking: impl Future<Output = Report>, interrupted: &AtomicBool) -> Result<Report, Failure> {
    let mut checking = std::pin::pin!(checking);
    tokio::select! {
        report = &mut checking => return Ok(report),
        _ = tokio::signal::ctrl_c() => {}
    }
    interrupted.store(true, Ordering::SeqCst);
    talk::say("Interrupted: the test records are being withdrawn. Ctrl-C again ends at once and leaves them.");
    tokio::select! {
        report = checking => Ok(report),
        _ = tokio::signal::ctrl_c() => Err(Failure { exit: Exit::Interrupted, sentence: "Interrupted; test records may be left.".to_owned() }),
    }
}

fn from_file(path: &str) -> Result<Connection, Failure> {
    let mut text = String::new();
    let read = if path == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|all| text = all)
    };
    read.map_err(|why| Failure::usage(format!("{path} cannot be read: {why}.")))?;
    let Value::Object(body) = serde_json::from_str(text.trim_start_matches('\u{feff}'))? else {
        return Err(Failure::usage(format!("{path} does not hold a JSON object: the body of POST /api/v1/fhir/config.")));
    };
    let built = Connection::build(&body, None).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(|field| format!("{path}: {} {}", field.pointer, field.detail)).collect();
        Failure::usage(lines.join("\n"))
    })?;
    Ok(built.connection)
}

fn step_line(step: &Step, lang: Lang) -> String {
    let pt = lang == Lang::PtBr;
    let (word, paint) = match (step.verdict, pt) {
        (Verdict::Ok, _) => ("ok", "32"),
        (Verdict::Warn, true) => ("aviso", "33"),
        (Verdict::Warn, false) => ("warn", "33"),
        (Verdict::Failed, true) => ("falhou", "31"),
        (Verdict::Failed, false) => ("failed", "31"),
        (Verdict::Skipped, true) => ("pulado", "2"),
        (Verdict::Skipped, false) => ("skipped", "2"),
    };
    let sentence = if pt { &step.sentence.pt_br } else { &step.sentence.en };
    let word = talk::pad(word, 8);
    let word = if talk::colour(talk::data_is_seen()) { format!("\x1b[{paint}m{word}\x1b[0m") } else { word };
    format!("{word} {} {} ms  {sentence}", talk::pad(step.step.word(), 26), step.ms)
}

fn ehr_id(text: &str) -> Result<EhrId, String> {
    EhrId::new(text).map_err(|bad| bad.to_string())
}
