//! What the EHRs hold, by their own ledgers, against what was accepted: lost, doubled, overtaken, overwritten, misfiled, silent.

use crate::line::Log;
use crate::people::{SYSTEM, Ward};
use model::{ObservationId, PatientId, Source, State};
use sandbox::{Author, Ledger};
use std::collections::{BTreeMap, BTreeSet};
use store::{ObservationFilter, PageRequest};

/// Every law over one ward; what is wrong, in sentences.
pub async fn judge(ward: &Ward, others: &BTreeSet<String>, log: &Log) -> Vec<String> {
    let ledger = ward.sandbox.ledger();
    let mut wrong = Vec::new();
    for id in ward.taken.iter().map(|taken| taken.id).collect::<BTreeSet<_>>() {
        for sentence in one(ward, &ledger, id).await {
            wrong.push(format!("{sentence}\n{}", log.about(&id.to_string()).join("\n")));
        }
    }
    wrong.extend(order(ward, &ledger));
    wrong.extend(patients(&ledger));
    wrong.extend(tenants(&ledger, others));
    wrong.extend(deliveries(ward, &ledger).await);
    for patient in &ward.patients {
        wrong.extend(pulled(ward, &ledger, *patient).await);
    }
    wrong
}

async fn one(ward: &Ward, ledger: &Ledger, id: ObservationId) -> Vec<String> {
    let here = ward.observation(id).await;
    let held = ledger.by_identifier(SYSTEM, &id.to_string());
    let marks: Vec<i64> = marks(ledger, id).into_iter().map(|(_, mark)| mark).collect();
    if here.draft.status == "entered-in-error" && held.is_empty() && marks.is_empty() {
        // Withdrawn before a byte of it was sent.
        return Vec::new();
    }
    let mut wrong = Vec::new();
    if held.len() != 1 {
        wrong.push(format!("{id} is held {} times: {here:?}", held.len()));
    }
    if ward.relinked.contains(&here.draft.patient_id) {
        return wrong;
    }
    if !marks.is_sorted() {
        wrong.push(format!("{id}: an older version over a newer one: {marks:?}"));
    }
    if marks.last() != Some(&here.version) || !here.synced() {
        wrong.push(format!("{id}: the EHR has versions {marks:?}, synced {}: {here:?}", here.synced()));
    }
    let right = ward.linked(here.draft.patient_id).await.map(|at| format!("Patient/{at}"));
    for held in held {
        if right.as_ref().is_none_or(|right| !held.subject.as_deref().unwrap_or_default().ends_with(right.as_str())) {
            wrong.push(format!("{id} is {:?}'s at the EHR, and {right:?}'s here", held.subject));
        }
    }
    wrong
}

/// What was accepted earlier of a patient reached the EHR earlier.
fn order(ward: &Ward, ledger: &Ledger) -> Vec<String> {
    let mut last: BTreeMap<PatientId, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for taken in ward.taken.iter().filter(|taken| !ward.replayed.contains(&taken.id) && !ward.relinked.contains(&taken.patient)) {
        let Some((seq, _)) = marks(ledger, taken.id).into_iter().find(|(_, mark)| *mark == taken.version) else { continue };
        if last.insert(taken.patient, seq).is_some_and(|before| before > seq) {
            wrong.push(format!("{} version {} overtook an earlier one of its patient", taken.id, taken.version));
        }
    }
    wrong
}

fn patients(ledger: &Ledger) -> Vec<String> {
    let ours = ledger.doubled().into_iter().filter(|(identifier, _)| identifier.system.as_deref() == Some("urn:ponte:patient"));
    ours.map(|(identifier, held)| format!("a Patient was created {} times: {identifier:?}", held.len())).collect()
}

/// Nothing of another tenant's is here.
fn tenants(ledger: &Ledger, others: &BTreeSet<String>) -> Vec<String> {
    let identifiers = ledger.effects.iter().flat_map(|effect| effect.identifiers.iter());
    identifiers.filter(|identifier| others.contains(&identifier.value)).map(|one| format!("another tenant's: {one:?}")).collect()
}

/// Every delivery's last state is what the EHR's ledger says.
async fn deliveries(ward: &Ward, ledger: &Ledger) -> Vec<String> {
    let mut wrong = Vec::new();
    for delivery in ward.everything().await {
        let model::ResourceKey::Observation(id) = delivery.resource else { continue };
        let there = marks(ledger, id).iter().any(|(_, mark)| *mark == delivery.version);
        let right = match delivery.state {
            State::Delivered => there,
            State::Superseded | State::Canceled => !there,
            _ => false,
        };
        if !right {
            wrong.push(format!("its version is {}at the EHR: {delivery:?}", if there { "" } else { "not " }));
        }
    }
    wrong
}

/// What the hospital holds of a patient is here: each row once, in its present version.
async fn pulled(ward: &Ward, ledger: &Ledger, patient: PatientId) -> Vec<String> {
    let Some(at) = ward.linked(patient).await else { return Vec::new() };
    let theirs = |held: &&sandbox::Held| {
        let ours = held.sent_identifiers.iter().any(|identifier| identifier.system.as_deref() == Some(SYSTEM));
        held.resource_type == "Observation" && !held.deleted && !ours && held.subject.as_deref() == Some(&format!("Patient/{at}"))
    };
    let there: BTreeSet<String> = ledger.resources.iter().filter(theirs).map(|held| held.id.clone()).collect();
    let filter = ObservationFilter { patient_id: Some(patient), ..ObservationFilter::default() };
    let mut here = Vec::new();
    let mut page = PageRequest { limit: 200, before: None };
    loop {
        let listed = ward.tenant.observations(ward.now(), &filter, &page).await.unwrap();
        here.extend(listed.items.into_iter().filter(|row| row.source == Source::Ehr && !row.deleted));
        page.before = listed.next;
        if page.before.is_none() {
            break;
        }
    }
    let mut wrong = Vec::new();
    let ids: BTreeSet<String> = here.iter().filter_map(|row| Some(row.ehr_id.clone()?.to_string())).collect();
    if ids.len() != here.len() {
        wrong.push(format!("a row of the EHR is here twice, of {patient}"));
    }
    if ids != there {
        wrong.push(format!("pulled of {patient}: {ids:?}, the EHR has {there:?}; {:?}", ward.tenant.pull_state(patient).await.unwrap()));
    }
    for row in here {
        let id = row.ehr_id.clone().unwrap().to_string();
        let last = ledger.effects.iter().rev().find(|effect| effect.id == id && effect.resource_type == "Observation");
        let value = last.and_then(|effect| serde_json::from_str::<serde_json::Value>(effect.content.as_ref()?.get()).ok());
        let kept: serde_json::Value = row.resource.as_deref().map(|kept| serde_json::from_str(kept).unwrap()).unwrap_or_default();
        if last.is_some_and(|effect| effect.by == Author::Hospital)
            && value.is_some_and(|value| value["valueQuantity"] != kept["valueQuantity"])
        {
            wrong.push(format!("an old version of the EHR's {id} is shown"));
        }
    }
    wrong
}

/// The versions of an observation that the EHR took from us, in order.
fn marks(ledger: &Ledger, id: ObservationId) -> Vec<(u64, i64)> {
    let effects = ledger.effects_by_identifier(SYSTEM, &id.to_string()).into_iter().filter(|effect| effect.by == Author::Client);
    effects.map(|effect| (effect.seq, testing::mark(effect).unwrap_or(-1))).collect()
}
