//! The report of a connection test: overall verdict, JSON, Markdown for the hospital's ticket.

use super::{Step, Verdict};
use model::grade::guarantee;
use model::{Guarantee, MeansPlan, Sentence, Timestamp, WhoseMove};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;

/// How a connection test went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `ok`, `warn` or `failed`.
    pub overall: Verdict,
    /// When it began.
    pub at: Timestamp,
    /// All steps, in order.
    pub steps: Vec<Step>,
    /// What is known of the EHR's means now.
    pub plan: MeansPlan,
    /// What is guaranteed there, and what is not.
    pub guarantee: Guarantee,
}

/// The language of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Brazilian Portuguese.
    PtBr,
    /// English.
    En,
}

impl Report {
    pub(super) fn new(steps: Vec<Step>, plan: MeansPlan, at: Timestamp) -> Self {
        let any = |verdict: Verdict| steps.iter().any(|step| step.verdict == verdict);
        let overall = match (any(Verdict::Failed), any(Verdict::Warn)) {
            (true, _) => Verdict::Failed,
            (false, true) => Verdict::Warn,
            (false, false) => Verdict::Ok,
        };
        let guarantee = guarantee(&plan, at);
        Self { overall, at, steps, plan, guarantee }
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// As Markdown, to paste into a ticket.
    #[must_use]
    pub fn to_markdown(&self, language: Language) -> String {
        let pt = language == Language::PtBr;
        let mut out = String::new();
        let title = if pt { "Teste da conexão FHIR" } else { "Test of the FHIR connection" };
        let _ = writeln!(out, "# {title}\n\n{} · **{}**\n", self.at, word(self.overall, pt));
        let _ = writeln!(
            out,
            "{}",
            if pt { "| passo | resultado | ms | o que vimos | quem age |" } else { "| step | result | ms | what was seen | whose move |" }
        );
        let _ = writeln!(out, "|---|---|---|---|---|");
        for step in &self.steps {
            let sentence = if pt { &step.sentence.pt_br } else { &step.sentence.en };
            let sentence = sentence.replace('|', "\\|").replace('\n', " ");
            let whose = step.whose_move.map_or("", |whose| whose_word(whose, pt));
            let _ = writeln!(out, "| {} | {} | {} | {sentence} | {whose} |", step.step.word(), word(step.verdict, pt), step.ms);
        }
        let _ = write!(out, "\n{}", self.guarantee_lines(language).join("\n"));
        out
    }

    /// The guarantee as lines of text: the grade, then a list of what holds and one of what does not.
    #[must_use]
    pub fn guarantee_lines(&self, language: Language) -> Vec<String> {
        let pt = language == Language::PtBr;
        let said = |sentence: &Sentence| if pt { sentence.pt_br.clone() } else { sentence.en.clone() };
        let guarantee = &self.guarantee;
        let (title, holds, not) =
            if pt { ("Garantia", "Garantido:", "Não garantido:") } else { ("Guarantee", "Guaranteed:", "Not guaranteed:") };
        let mut lines = vec![format!("{title}: **{}** · {}", guarantee.grade, said(&guarantee.sentence))];
        for (title, list) in [(holds, &guarantee.guaranteed), (not, &guarantee.not_guaranteed)] {
            if !list.is_empty() {
                lines.extend([String::new(), title.to_owned(), String::new()]);
                lines.extend(list.iter().map(|sentence| format!("- {}", said(sentence))));
            }
        }
        if let Some(next) = &guarantee.next {
            lines.extend([String::new(), said(next)]);
        }
        lines.push(String::new());
        lines
    }
}

fn word(verdict: Verdict, pt: bool) -> &'static str {
    match (verdict, pt) {
        (Verdict::Ok, _) => "ok",
        (Verdict::Warn, true) => "aviso",
        (Verdict::Warn, false) => "warning",
        (Verdict::Failed, true) => "falhou",
        (Verdict::Failed, false) => "failed",
        (Verdict::Skipped, true) => "pulado",
        (Verdict::Skipped, false) => "skipped",
    }
}

fn whose_word(whose: WhoseMove, pt: bool) -> &'static str {
    match (whose, pt) {
        (WhoseMove::Ponte, _) => "Ponte",
        (WhoseMove::Hospital, true) => "TI do hospital",
        (WhoseMove::Hospital, false) => "hospital IT",
        (WhoseMove::You, true) => "administrador da conexão",
        (WhoseMove::You, false) => "connection's admin",
    }
}
