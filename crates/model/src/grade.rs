//! What is guaranteed at one EHR, and what is not: one function of the plan, in words that the hospital's people read.
//!
//! PRODUCT, "How a create is made safe"; PROTOCOL §2 and §6. It never says more than was seen: a claim of the
//! CapabilityStatement gives no grade, and a race that was not met gives no lock.

use crate::clock::Timestamp;
use crate::failure::{WhoseMove, words};
use crate::means::{Means, MeansPlan, Proof};
use crate::probe::{Probe, Seen, What};
use crate::sentence::Sentence;
use serde::Serialize;

/// A proof older than this is out of date, days.
const PROOF_DAYS: i64 = 90;
const DAY_MS: i64 = 86_400_000;

words!(
    /// By what a create is kept from doubling at one EHR, best first.
    Grade {
        /// Our id, and the EHR refuses a second create of it (PROTOCOL 2a).
        Lock = "lock",
        /// Our id: a repeat meets the same resource (2b).
        OwnId = "own_id",
        /// A conditional create, and a search after a lost answer (3b).
        Conditional = "conditional",
        /// A plain create, and a search after a lost answer (4).
        Search = "search",
        /// Nothing: after a lost answer a person decides (5).
        Person = "person",
        /// Claimed or unknown, not proven.
        Unproven = "unproven",
    }
);

words!(
    /// What the grade rests on.
    Basis {
        /// What the EHR says of itself, or nothing.
        Claim = "claim",
        /// What ordinary writes showed.
        Use = "use",
        /// A write probe on a test patient.
        Probe = "probe",
    }
);

words!(
    /// Why a probe is to be made again.
    OutOfDate {
        /// The CapabilityStatement names another software or version since.
        SoftwareChanged = "software_changed",
        /// It is older than 90 days.
        TooOld = "too_old",
    }
);

/// What is guaranteed at one EHR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Guarantee {
    /// The grade.
    pub grade: Grade,
    /// What it rests on.
    pub basis: Basis,
    /// The means by which the next Observation is created.
    pub means: Means,
    /// The grade in one sentence.
    pub sentence: Sentence,
    /// What holds there.
    pub guaranteed: Vec<Sentence>,
    /// What does not, or was not shown.
    pub not_guaranteed: Vec<Sentence>,
    /// When the last write probe began.
    pub probed_at: Option<Timestamp>,
    /// The software that was probed.
    pub probed_software: Option<String>,
    /// Why the probe counts no longer as present.
    pub out_of_date: Option<OutOfDate>,
    /// What somebody has to do.
    pub next: Option<Sentence>,
    /// Who.
    pub whose_move: Option<WhoseMove>,
}

/// The guarantee of a connection by what is known of it.
#[must_use]
pub fn guarantee(plan: &MeansPlan, now: Timestamp) -> Guarantee {
    let (grade, probe) = (grade(plan), plan.probe.as_ref());
    let out_of_date = probe.and_then(|probe| out_of_date(plan, probe, now));
    let next = next(grade, probe, out_of_date);
    Guarantee {
        grade,
        basis: match probe {
            Some(_) => Basis::Probe,
            None if grade == Grade::Unproven => Basis::Claim,
            None => Basis::Use,
        },
        means: plan.for_create("Observation").0,
        sentence: in_one_sentence(grade, plan),
        guaranteed: guaranteed(grade),
        not_guaranteed: not_guaranteed(grade, plan),
        probed_at: probe.map(|probe| probe.at),
        probed_software: probe.and_then(|probe| probe.software.clone()),
        out_of_date,
        whose_move: next.is_some().then_some(WhoseMove::You),
        next,
    }
}

/// The grade by the plan alone: what a probe or ordinary writes proved stands in it, and whatever disproved it since.
fn grade(plan: &MeansPlan) -> Grade {
    match plan.for_create("Observation") {
        (Means::OwnId, false) => {
            let everywhere = plan.if_none_match == Proof::Proven && (plan.if_none_match_in_batch == Proof::Proven || !plan.batch.may_try());
            if everywhere { Grade::Lock } else { Grade::OwnId }
        }
        // Without a search nobody can tell whether a create whose answer was lost was applied.
        (Means::ConditionalCreate | Means::PlainCreate, _) if plan.identifier_search == Proof::Refused => Grade::Person,
        (Means::ConditionalCreate, false) => Grade::Conditional,
        (Means::PlainCreate, _) if plan.identifier_search == Proof::Proven => Grade::Search,
        _ => Grade::Unproven,
    }
}

fn out_of_date(plan: &MeansPlan, probe: &Probe, now: Timestamp) -> Option<OutOfDate> {
    if plan.software != probe.software {
        Some(OutOfDate::SoftwareChanged)
    } else if now.ms_since(probe.at) > PROOF_DAYS * DAY_MS {
        Some(OutOfDate::TooOld)
    } else {
        None
    }
}

fn next(grade: Grade, probe: Option<&Probe>, out_of_date: Option<OutOfDate>) -> Option<Sentence> {
    let how = [
        "peça ao hospital um paciente de teste e rode `ponte check --tenant … --write-probe --test-patient ID`, ou POST /api/v1/fhir/config/test com writeProbe e testPatientId.",
        "ask the hospital for a test patient and run `ponte check --tenant … --write-probe --test-patient ID`, or POST /api/v1/fhir/config/test with writeProbe and testPatientId.",
    ];
    let [why_pt, why_en] = match (out_of_date, probe) {
        (Some(OutOfDate::SoftwareChanged), _) => {
            ["O software do EHR mudou desde a prova: prove de novo;", "The EHR's software has changed since the proof: prove it again;"]
        }
        (Some(OutOfDate::TooOld), _) => ["A prova tem mais de 90 dias: prove de novo;", "The proof is older than 90 days: prove it again;"],
        (None, None) if grade == Grade::Unproven => ["Para provar:", "To prove it:"],
        (None, None) => ["Visto apenas no uso diário; para uma prova inteira:", "Seen in ordinary use only; for a whole proof:"],
        (None, Some(probe)) if !probe.whole => {
            ["A prova não chegou ao fim; para repetir:", "The probe did not reach its end; to repeat it:"]
        }
        (None, Some(_)) => return None,
    };
    Some(Sentence::new(format!("{why_pt} {}", how[0]), format!("{why_en} {}", how[1])))
}

fn in_one_sentence(grade: Grade, plan: &MeansPlan) -> Sentence {
    match grade {
        Grade::Lock => Sentence::new(
            "Criação com trava: o EHR aceita o nosso id e recusa uma segunda criação dele.",
            "A locked create: the EHR takes our id and refuses a second create of it.",
        ),
        Grade::OwnId => Sentence::new(
            "Criação com o nosso id: um pedido repetido encontra o mesmo registro.",
            "A create under our id: a request that is repeated meets the same resource.",
        ),
        Grade::Conditional => Sentence::new(
            "Criação condicional, uma por vez; depois de uma resposta perdida Ponte espera e busca antes de reenviar.",
            "A conditional create, one at a time; after a lost answer Ponte waits and searches before it sends again.",
        ),
        Grade::Search => Sentence::new(
            "Criação simples; depois de uma resposta perdida Ponte espera e busca pelo nosso identificador antes de reenviar.",
            "A plain create; after a lost answer Ponte waits and searches by our identifier before it sends again.",
        ),
        Grade::Person => Sentence::new(
            "Este EHR não permite saber se uma criação sem resposta foi gravada: nesses casos uma pessoa decide.",
            "This EHR offers no way to find out whether a create without an answer was stored: in such cases a person decides.",
        ),
        Grade::Unproven => {
            let (pt, en) = match plan.for_create("Observation").0 {
                Means::OwnId => ("uma criação com o nosso id, sozinha, e lida de volta", "a create under our id, alone, and read back"),
                Means::ConditionalCreate => ("uma criação condicional, uma por vez", "a conditional create, one at a time"),
                Means::PlainCreate | Means::Update => (
                    "uma criação simples, com espera e busca depois de uma resposta perdida",
                    "a plain create, with a wait and a search after a lost answer",
                ),
            };
            Sentence::new(
                format!("Declarado, não provado. O que será usado primeiro: {pt}."),
                format!("Claimed, not proven. What will be used first: {en}."),
            )
        }
    }
}

fn guaranteed(grade: Grade) -> Vec<Sentence> {
    match grade {
        Grade::Lock => vec![Sentence::new(
            "Uma criação repetida ou atrasada não duplica nem sobrescreve: o EHR a recusa.",
            "A create that is repeated or comes late neither doubles nor overwrites: the EHR refuses it.",
        )],
        Grade::OwnId => vec![Sentence::new(
            "Uma criação repetida não duplica: é o mesmo id.",
            "A create that is repeated does not double: it is the same id.",
        )],
        Grade::Conditional | Grade::Search => vec![Sentence::new(
            "Enquanto o EHR decide dentro de settleTime, uma criação sem resposta não é reenviada antes que uma busca mostre que não está lá.",
            "As long as the EHR decides within settleTime, a create without an answer is not sent again before a search shows that it is not there.",
        )],
        Grade::Person => vec![Sentence::new(
            "Uma criação sem resposta nunca é reenviada às cegas: fica retida (no_safe_means).",
            "A create without an answer is never sent again blind: it is held (no_safe_means).",
        )],
        Grade::Unproven => Vec::new(),
    }
}

fn not_guaranteed(grade: Grade, plan: &MeansPlan) -> Vec<Sentence> {
    let mut not = Vec::new();
    let mut say = |pt: &str, en: &str| not.push(Sentence::new(pt, en));
    let seen = |what: What| plan.probe.as_ref().map_or(Seen::NotTried, |probe| probe.seen(what));
    match grade {
        Grade::Lock => {}
        Grade::OwnId => say(
            "Uma criação muito atrasada (além de settleTime) pode pôr uma versão antiga sobre uma nova; Ponte confere depois de settleTime, de uma hora e de um dia.",
            "A create that comes very late (beyond settleTime) may put an old version over a newer one; Ponte looks again after settleTime, an hour and a day.",
        ),
        Grade::Conditional | Grade::Search => say(
            "Uma criação gravada depois de settleTime, ou por um remetente que ficou parado, pode duplicar; duas ficam retidas para uma pessoa.",
            "A create that is stored after settleTime, or by a sender that stood still, may double; two are held for a person.",
        ),
        Grade::Person => say(
            "Depois de uma resposta perdida nada é decidido sem uma pessoa.",
            "After a lost answer nothing is decided without a person.",
        ),
        Grade::Unproven => say("Nada foi provado ainda por este EHR.", "Nothing is proven of this EHR yet."),
    }
    if let Some(parallel) =
        plan.probe.as_ref().and_then(|probe| probe.finding(What::ConditionalParallel)).filter(|_| grade == Grade::Conditional)
    {
        not.push(parallel.sentence());
    }
    let mut say = |pt: &str, en: &str| not.push(Sentence::new(pt, en));
    match plan.if_match {
        Proof::Proven => {}
        Proof::Refused => say(
            "Uma correção pode sobrescrever uma mudança do hospital: o EHR aceita um If-Match vencido.",
            "A correction may overwrite a change of the hospital: the EHR takes a stale If-Match.",
        ),
        Proof::Unknown | Proof::Claimed | Proof::Denied => say(
            "Não está provado que uma correção nunca sobrescreve uma mudança do hospital (If-Match).",
            "It is not proven that a correction never overwrites a change of the hospital (If-Match).",
        ),
    }
    if plan.patient_update_create != Proof::Proven {
        say(
            "A prova grava só observações; a criação de um paciente é provada pela primeira que for real.",
            "The probe writes observations only; the create of a Patient is proven by the first real one.",
        );
    }
    for what in [What::IdentifierKept, What::VersionMark, What::Digits, What::SearchFinds, What::IdentifierObeyed, What::Batch] {
        if seen(what) == Seen::Refused
            && let Some(finding) = plan.probe.as_ref().and_then(|probe| probe.finding(what))
        {
            not.push(finding.sentence());
        }
    }
    not
}

#[cfg(test)]
mod tests;
