//! What the EHR really holds, by its own ledger, against what the API took.

use crate::others::{Hand, Hospital};
use processes::judge::{SYSTEM, Taken, judge_one, judge_order};
use processes::stage::Platform;
use sandbox::{Author, Sandbox};
use std::collections::BTreeSet;

/// Once, newest wins, order per patient, nothing silent. `replayed`: whom a person sent again, out of the order.
pub async fn judge(tenants: &[Platform], sandbox: &Sandbox, taken: &[Taken], replayed: &BTreeSet<String>) {
    let ledger = sandbox.ledger();
    assert_eq!(ledger.late_pending, 0, "the test ended before the EHR had");
    let mut wrong = Vec::new();
    let ids: BTreeSet<(usize, &str)> = taken.iter().map(|one| (one.tenant, one.id.as_str())).collect();
    for (tenant, id) in &ids {
        let here = tenants[*tenant].get(&format!("/observations/{id}")).await;
        wrong.extend(judge_one(&ledger, id, &here));
    }
    for (one, overtaken, sentence) in judge_order(&ledger, taken, replayed) {
        let list = tenants[one.tenant].get(&format!("/fhir/deliveries?observationId={overtaken}&limit=200")).await;
        let first = list["items"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap();
        wrong.push(format!("{sentence}: {}", tenants[one.tenant].get(&format!("/fhir/deliveries/{first}")).await));
    }
    let patients: Vec<_> =
        ledger.doubled().into_iter().filter(|(identifier, _)| identifier.system.as_deref() == Some("urn:ponte:patient")).collect();
    assert!(patients.is_empty(), "a Patient was created twice: {patients:?}");
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), ids.len(), &wrong[..wrong.len().min(10)]);
}

/// What the hospital's people wrote or deleted stays so; everything else is there once, or behind what a person has to see.
pub async fn judge_with_hospital(tenants: &[Platform], sandbox: &Sandbox, taken: &[Taken], hospital: &Hospital) {
    let ledger = sandbox.ledger();
    let mut wrong: Vec<String> = judge_order(&ledger, taken, &BTreeSet::new()).into_iter().map(|(_, _, sentence)| sentence).collect();
    let ids: BTreeSet<(usize, &str)> = taken.iter().map(|one| (one.tenant, one.id.as_str())).collect();
    let mut waiting = 0;
    for (tenant, id) in &ids {
        let here = tenants[*tenant].get(&format!("/observations/{id}")).await;
        let touched = hospital.touched.get(*id).filter(|(hand, _)| *hand != Hand::Resaved);
        if let Some((hand, after)) = touched {
            let effects = ledger.effects_by_identifier(SYSTEM, id);
            if let Some(later) = effects.iter().find(|effect| effect.seq > *after && effect.by == Author::Client) {
                let list = tenants[*tenant].get(&format!("/fhir/deliveries?observationId={id}&limit=200")).await;
                let newest = list["items"][0]["id"].as_str().unwrap();
                let told = tenants[*tenant].get(&format!("/fhir/deliveries/{newest}")).await;
                wrong.push(format!(
                    "{id} was {hand:?} by the hospital, and then written over at {}{}: {told}",
                    later.at,
                    if later.late { " (late)" } else { "" }
                ));
            }
        }
        let state = here["delivery"]["state"].as_str().unwrap_or_default();
        if matches!(state, "held" | "dead" | "pending" | "canceled") {
            waiting += 1;
            let held = ledger.by_identifier(SYSTEM, id).len();
            wrong.extend((held > 1 || here["syncedToEHR"] == true).then(|| format!("{id} is held {held} times: {here}")));
        } else if touched.is_none() {
            wrong.extend(judge_one(&ledger, id, &here));
        }
    }
    println!("{} observations, {waiting} wait for a person or behind one that does; touched {}", ids.len(), hospital.touched.len());
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), ids.len(), &wrong[..wrong.len().min(10)]);
}

/// Where the EHR loses or hides our identifier: nobody sees two, and whatever is not known to be there is shown to a person.
pub async fn judge_without_identifier(tenants: &[Platform], sandbox: &Sandbox, taken: &[Taken]) {
    let ledger = sandbox.ledger();
    let ids: BTreeSet<(usize, &str)> = taken.iter().map(|one| (one.tenant, one.id.as_str())).collect();
    let living: Vec<_> = ledger.resources.iter().filter(|held| held.resource_type == "Observation" && !held.deleted).collect();
    for held in &living {
        assert!(ids.iter().any(|(_, id)| *id == held.id), "one too many: {held:?}");
    }
    let mut shown = 0;
    for (tenant, id) in &ids {
        let here = tenants[*tenant].get(&format!("/observations/{id}")).await;
        let there = living.iter().any(|held| held.id == *id);
        if here["syncedToEHR"] == true {
            if !there {
                let delivery = here["delivery"]["id"].as_str().unwrap();
                let told = tenants[*tenant].get(&format!("/fhir/deliveries/{delivery}")).await;
                let effects = ledger.effects_by_identifier(SYSTEM, id);
                panic!("{id} is said to be synced: {here}\nits delivery: {told}\nat the EHR: {effects:#?}");
            }
        } else {
            let state = here["delivery"]["state"].as_str().unwrap_or_default();
            assert!(matches!(state, "held" | "dead" | "canceled"), "{id} is neither there nor shown to anybody: {here}");
            shown += usize::from(state != "canceled");
        }
    }
    println!("{} observations, {shown} shown to a person", ids.len());
}
