//! The pull, against an EHR over real HTTP: all rows, each once, through changes, lies, cuts, kills and merges.

use crate::gate::Which;
use crate::world::{DAY, HOUR, MINUTE, SECOND, World, on_each, own_id};
use model::{EhrId, Observation, PatientId, Proof, Source, Value as OwnValue};
use sandbox::{Fault, FaultPlan, Options, Profile, Quirks};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use store::idempotency::Once;
use store::{NewPatient, ObservationFilter, PageRequest, PullState};

/// An EHR whose pages hold twenty rows, whatever is asked for.
pub fn small_pages(always: &[Fault]) -> Options {
    let quirks = Quirks { page_size: 20, max_page_size: 20, always: always.to_vec(), ..Quirks::of(Profile::Plain) };
    Options { quirks: Some(quirks), ..Options::default() }
}

/// A patient of the EHR's, linked by a person; nothing of theirs is to be sent.
pub async fn linked(w: &World, ehr_id: &str) -> PatientId {
    hospital_patient(w, &json!({"resourceType": "Patient", "id": ehr_id, "active": true}));
    let new = NewPatient { draft: w.somebody(), link: Some((EhrId::new(ehr_id).unwrap(), "ana".to_owned())) };
    match w.tenant.create_patient(w.clock.now(), new, None).await.unwrap().unwrap() {
        Once::Done(patient) => patient.id,
        other => panic!("not accepted: {other:?}"),
    }
}

pub fn hospital_patient(w: &World, patient: &Value) {
    w.ward.sandbox.put_resource(&patient.to_string()).unwrap();
}

pub fn observation(patient: &str, id: &str, digits: &str) -> String {
    format!(
        r#"{{"resourceType":"Observation","id":"{id}","status":"final","code":{{"coding":[{{"system":"http://loinc.org","code":"8867-4"}}]}},"subject":{{"reference":"Patient/{patient}"}},"effectiveDateTime":"2026-11-20T10:00:00-03:00","valueQuantity":{{"value":{digits},"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}}}"#
    )
}

/// The hospital writes a row.
pub fn writes(w: &World, patient: &str, id: &str, digits: &str) {
    w.ward.sandbox.put_resource(&observation(patient, id, digits)).unwrap();
}

/// The hospital writes `n` rows, each at a moment of its own.
pub fn writes_many(w: &World, patient: &str, n: usize) {
    for at in 0..n {
        writes(w, patient, &format!("o{at:03}"), "72");
        w.clock.forward(700);
    }
    w.clock.forward(2 * SECOND);
}

/// Everything that we hold of a patient.
pub async fn held(w: &World, patient: PatientId) -> Vec<Observation> {
    let filter = ObservationFilter { patient_id: Some(patient), deleted: true, ..ObservationFilter::default() };
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = w.tenant.observations(w.clock.now(), &filter, &PageRequest { limit: 200, before }).await.unwrap();
        all.extend(page.items);
        before = page.next;
        if before.is_none() {
            return all;
        }
    }
}

/// The EHR's rows that we hold and that are not gone: id → version.
pub async fn current(w: &World, patient: PatientId) -> BTreeMap<String, String> {
    let rows = held(w, patient).await;
    let living: Vec<_> = rows.into_iter().filter(|row| row.source == Source::Ehr && !row.deleted).collect();
    let map: BTreeMap<String, String> =
        living.iter().map(|row| (row.ehr_id.clone().unwrap().to_string(), row.ehr_version.clone().unwrap_or_default())).collect();
    assert_eq!(map.len(), living.len(), "an EHR row is held twice");
    map
}

/// What the EHR holds of a patient: id → version.
pub fn there(w: &World, patient: &str) -> BTreeMap<String, String> {
    let ledger = w.ehr();
    let all = ledger.resources.iter().filter(|row| row.resource_type == "Observation" && !row.deleted);
    let of_patient = all.filter(|row| row.subject.as_deref().is_some_and(|s| s.ends_with(&format!("Patient/{patient}"))));
    of_patient.map(|row| (row.id.clone(), row.version_id.clone())).collect()
}

pub async fn asks(w: &World, patient: PatientId) -> PullState {
    w.tenant.request_pull(w.clock.now(), patient).await.unwrap().unwrap();
    w.work().await;
    state(w, patient).await
}

pub async fn state(w: &World, patient: PatientId) -> PullState {
    w.tenant.pull_state(patient).await.unwrap().unwrap()
}

#[track_caller]
pub fn complete(state: &PullState) {
    assert_eq!(state.outcome.as_deref(), Some("complete"), "{:?}", state.message);
}

pub fn counts(state: &PullState) -> (u64, u64, u64) {
    (state.created, state.updated, state.unchanged)
}

pub fn searches(w: &World) -> Vec<String> {
    w.node.gate.passed().iter().filter(|p| p.path.contains("/Observation?")).map(|p| p.path.clone()).collect()
}

#[tokio::test]
async fn three_hundred_rows_that_change_while_they_are_paged_all_arrive_and_none_twice() {
    on_each(small_pages(&[]), async |w| {
        let patient = linked(w, "p1").await;
        writes_many(w, "p1", 300);
        w.faults(FaultPlan::none().always(Fault::RowsChangeWhilePaged));
        let first = asks(w, patient).await;
        complete(&first);
        assert!(w.ehr().shown(Fault::RowsChangeWhilePaged) >= 15);
        assert_eq!(first.created, 300);
        w.well();
        w.clock.forward(SECOND);
        let second = asks(w, patient).await;
        complete(&second);
        assert_eq!(second.created, 0);
        assert_eq!(current(w, patient).await, there(w, "p1"));
    })
    .await;
}

#[tokio::test]
async fn a_second_pull_begins_at_the_watermark_and_creates_nothing() {
    on_each(small_pages(&[]), async |w| {
        let patient = linked(w, "p1").await;
        writes_many(w, "p1", 100);
        w.clock.forward(HOUR);
        writes(w, "p1", "late", "80");
        w.clock.forward(SECOND);
        assert_eq!(counts(&asks(w, patient).await), (101, 0, 0));
        let before = searches(w).len();
        w.clock.forward(MINUTE);
        writes(w, "p1", "o007", "81");
        w.clock.forward(SECOND);
        let again = asks(w, patient).await;
        complete(&again);
        assert_eq!(counts(&again), (0, 1, 1));
        let asked = searches(w)[before..].to_vec();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(asked[0].contains("_lastUpdated=ge") && asked[0].contains("_sort=_lastUpdated"));
        assert_eq!(counts(&asks(w, patient).await), (0, 0, 2));
        assert_eq!(w.tenant.runtime().await.unwrap().plan.last_updated, Proof::Proven);
    })
    .await;
}

#[tokio::test]
async fn pages_that_lie_about_totals_repeat_rows_or_link_oddly_lose_nothing() {
    let odd = [Fault::TotalLies, Fault::DuplicatePageRows, Fault::RelativeNext, Fault::ByteOrderMark, Fault::ClockSkew, Fault::LinksExpire];
    for fault in odd {
        on_each(small_pages(&[fault]), async |w| {
            let patient = linked(w, "p1").await;
            writes_many(w, "p1", 70);
            let first = asks(w, patient).await;
            complete(&first);
            assert_eq!(current(w, patient).await, there(w, "p1"), "{fault}");
            assert_eq!(first.created, 70, "{fault}");
            assert_eq!(asks(w, patient).await.created, 0, "{fault}");
        })
        .await;
    }
}

/// Fifty rows of one stamp, as an import leaves them, on pages of twenty: the next links must be followed.
#[tokio::test]
async fn a_bulk_of_one_stamp_is_read_whole_and_links_that_lead_astray_never_pass_for_an_end() {
    for (fault, ends) in
        [(None, true), (Some(Fault::PageLoop), false), (Some(Fault::ForeignNext), false), (Some(Fault::LinksExpire), false)]
    {
        on_each(small_pages(&[]), async |w| {
            let patient = linked(w, "p1").await;
            for n in 0..50 {
                writes(w, "p1", &format!("o{n:02}"), "72");
            }
            w.clock.forward(HOUR);
            if let Some(fault) = fault {
                w.faults(FaultPlan::none().always(fault));
            }
            let first = asks(w, patient).await;
            assert_eq!(first.outcome.as_deref() == Some("complete"), ends, "{fault:?}: {:?}", first.message);
            assert!(w.node.gate.passed().iter().all(|p| !p.path.contains("ehr.invalid")));
            if !ends {
                assert_eq!(first.outcome.as_deref(), Some("pull_incomplete"));
                assert!(first.message.is_some() && first.watermark.is_none());
                // What was read is kept, and the rest comes by itself when the EHR is well again.
                assert_eq!(current(w, patient).await.len(), 20);
                w.well();
                w.go_on_for(HOUR).await;
            }
            complete(&state(w, patient).await);
            assert_eq!(current(w, patient).await, there(w, "p1"), "{fault:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn rows_of_other_patients_are_left_out() {
    on_each(small_pages(&[Fault::WrongPatientRow]), async |w| {
        let (one, two) = (linked(w, "p1").await, linked(w, "p2").await);
        writes_many(w, "p1", 45);
        writes(w, "p2", "theirs", "60");
        w.clock.forward(SECOND);
        complete(&asks(w, one).await);
        assert!(w.ehr().shown(Fault::WrongPatientRow) > 0);
        assert_eq!(current(w, one).await, there(w, "p1"));
        assert!(current(w, two).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn without_last_updated_the_list_is_read_whole_each_time() {
    on_each(small_pages(&[Fault::NoLastUpdated]), async |w| {
        let patient = linked(w, "p1").await;
        writes_many(w, "p1", 70);
        let first = asks(w, patient).await;
        complete(&first);
        assert_eq!(first.created, 70);
        assert!(first.last_full_at.is_some());
        writes(w, "p1", "o003", "99.90");
        w.ward.sandbox.delete("Observation", "o004");
        w.clock.forward(SECOND);
        let second = asks(w, patient).await;
        complete(&second);
        assert_eq!(counts(&second), (0, 1, 68));
        assert_eq!(current(w, patient).await, there(w, "p1"));
    })
    .await;
}

#[tokio::test]
async fn a_search_without_the_filter_that_was_asked_for_is_noticed() {
    on_each(small_pages(&[]), async |w| {
        let patient = linked(w, "p1").await;
        writes_many(w, "p1", 30);
        complete(&asks(w, patient).await);
        w.clock.forward(DAY);
        writes(w, "p1", "o001", "80");
        w.clock.forward(SECOND);
        // A server of before `_lastUpdated`: it ignores what it does not know.
        let everything: Vec<Value> = there(w, "p1")
            .into_iter()
            .map(|(id, version)| {
                let mut row: Value = serde_json::from_str(&w.ward.sandbox.resource("Observation", &id).unwrap()).unwrap();
                row["meta"] = json!({"versionId": version, "lastUpdated": "2026-01-01T00:00:00Z"});
                row
            })
            .collect();
        let bundle = json!({"resourceType": "Bundle", "type": "searchset",
            "entry": everything.into_iter().map(|resource| json!({"resource": resource})).collect::<Vec<_>>()});
        w.node.gate.answer(Which::new("GET", "_lastUpdated=ge"), 1, 200, &[], &bundle.to_string());
        let state = asks(w, patient).await;
        complete(&state);
        assert_eq!(state.updated, 1);
        assert_eq!(w.tenant.runtime().await.unwrap().plan.last_updated, Proof::Refused);
        assert_eq!(current(w, patient).await, there(w, "p1"));
    })
    .await;
}

#[tokio::test]
async fn deletes_are_found_by_the_weekly_whole_read_and_by_nothing_less_than_the_ehrs_word() {
    for always in [vec![], vec![Fault::DeleteAs404]] {
        on_each(small_pages(&always), async |w| {
            let patient = linked(w, "p1").await;
            writes_many(w, "p1", 45);
            complete(&asks(w, patient).await);
            w.ward.sandbox.delete("Observation", "o007");
            w.clock.forward(DAY);
            complete(&asks(w, patient).await);
            assert_eq!(current(w, patient).await.len(), 45, "a search never shows a delete");
            w.clock.forward(7 * DAY);
            let whole = asks(w, patient).await;
            complete(&whole);
            assert_eq!(current(w, patient).await, there(w, "p1"));
            let gone: Vec<_> = held(w, patient).await.into_iter().filter(|row| row.deleted).collect();
            assert_eq!(gone.len(), 1);
            // A search that shows nothing is no delete: the rows themselves say that they are there.
            w.clock.forward(8 * DAY);
            w.faults(FaultPlan::none().always(Fault::EmptySearch));
            asks(w, patient).await;
            assert_eq!(current(w, patient).await, there(w, "p1"));
        })
        .await;
    }
}

#[tokio::test]
async fn digits_offsets_and_unknown_elements_come_and_stay_as_they_are() {
    on_each(own_id(), async |w| {
        let patient = linked(w, "p1").await;
        let text = r#"{"resourceType":"Observation","id":"exact","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p1"},"effectiveDateTime":"2026-11-20T10:00:00.1200-03:00","valueQuantity":{"value":1.10,"unit":"mg"},"component":[{"code":{"text":"y"},"valueQuantity":{"value":123456789012345678901234567890.123,"unit":"mg"}}],"extension":[{"url":"urn:x","valueDecimal":100.00}]}"#;
        w.ward.sandbox.put_resource(text).unwrap();
        w.ward.sandbox.put_resource(&text.replace("exact", "odd").replace(r#""extension""#, r#""modifierExtension""#)).unwrap();
        w.clock.forward(SECOND);
        complete(&asks(w, patient).await);
        for row in held(w, patient).await {
            let resource = row.resource.unwrap();
            for digits in [":1.10,", ":123456789012345678901234567890.123,", ":100.00}", "10:00:00.1200-03:00"] {
                assert!(resource.contains(digits), "{digits} is not in it any more");
            }
            if row.ehr_id.unwrap().as_str() == "exact" {
                let Some(OwnValue::Quantity { value, .. }) = row.draft.value else { panic!("no value") };
                assert_eq!(value.to_string(), "1.10");
                assert!(row.interpreted);
            } else {
                assert!(!row.interpreted && row.draft.value.is_none());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn our_own_pushes_never_come_back_as_new_rows_and_what_the_hospital_made_of_them_does() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "7.10").await;
        w.settle_down().await;
        for _ in 0..2 {
            let state = asks(w, patient).await;
            complete(&state);
            assert_eq!((state.created, state.updated), (0, 0));
        }
        let ours = held(w, patient).await.len();
        let ehr_id = w.observation(pain).await.ehr_id.unwrap();
        let mut changed: Value = serde_json::from_str(&w.ward.sandbox.resource("Observation", ehr_id.as_str()).unwrap()).unwrap();
        changed["status"] = json!("entered-in-error");
        w.clock.forward(MINUTE);
        w.ward.sandbox.put_resource(&changed.to_string()).unwrap();
        w.clock.forward(SECOND);
        let state = asks(w, patient).await;
        complete(&state);
        assert_eq!((state.created, state.updated), (0, 1));
        assert_eq!(held(w, patient).await.len(), ours);
        assert_eq!(w.observation(pain).await.draft.status, "entered-in-error");
    })
    .await;
}

#[tokio::test]
async fn entries_without_content_and_subsets_are_read_by_themselves() {
    on_each(own_id(), async |w| {
        let patient = linked(w, "p1").await;
        writes_many(w, "p1", 6);
        let base = w.ward.base.clone();
        w.node.gate.alter(Which::new("GET", "/Observation?"), 1, move |body| {
            let mut bundle: Value = serde_json::from_str(body).unwrap();
            for entry in bundle["entry"].as_array_mut().unwrap().iter_mut().take(2) {
                let id = entry["resource"]["id"].as_str().unwrap().to_owned();
                *entry = json!({"fullUrl": format!("{base}/Observation/{id}")});
            }
            bundle.to_string()
        });
        complete(&asks(w, patient).await);
        assert_eq!(current(w, patient).await, there(w, "p1"));
        // An entry that cannot be told at all makes the pull incomplete; the others are taken.
        writes(w, "p1", "o9", "72");
        w.clock.forward(SECOND);
        w.node.gate.alter(Which::new("GET", "/Observation?"), 1, |body| {
            let mut bundle: Value = serde_json::from_str(body).unwrap();
            bundle["entry"].as_array_mut().unwrap().insert(0, json!({"resource": {"resourceType": "Observation", "id": "!"}}));
            bundle.to_string()
        });
        let state = asks(w, patient).await;
        assert_eq!(state.outcome.as_deref(), Some("pull_incomplete"));
        assert_eq!(current(w, patient).await, there(w, "p1"));
    })
    .await;
}

#[tokio::test]
async fn a_page_that_is_too_large_is_asked_for_smaller() {
    on_each(own_id(), async |w| {
        let patient = linked(w, "p1").await;
        writes_many(w, "p1", 60);
        w.node.gate.answer(Which::new("GET", "_count=100"), 1, 413, &[], "");
        complete(&asks(w, patient).await);
        assert_eq!(current(w, patient).await, there(w, "p1"));
        assert!(searches(w)[1..].iter().all(|path| path.contains("_count=25")));
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_server_is_read_to_its_end_and_read_again_without_doubles() {
    for profile in Profile::ALL {
        on_each(Options { profile: *profile, ..Options::default() }, async |w| {
            let patient = linked(w, "p1").await;
            writes_many(w, "p1", 130);
            for n in 130..160 {
                writes(w, "p1", &format!("o{n}"), "72.10");
            }
            hospital_patient(w, &json!({"resourceType": "Patient", "id": "p2", "active": true}));
            for n in 0..30 {
                writes(w, "p2", &format!("x{n}"), "90");
            }
            w.clock.forward(2 * MINUTE);
            let first = asks(w, patient).await;
            complete(&first);
            assert_eq!(first.created, 160, "{profile}");
            writes(w, "p1", "o010", "80");
            w.clock.forward(2 * MINUTE);
            let second = asks(w, patient).await;
            complete(&second);
            assert_eq!((second.created, second.updated), (0, 1), "{profile}");
            let ids: BTreeSet<String> = current(w, patient).await.into_keys().collect();
            assert_eq!(ids, there(w, "p1").into_keys().collect(), "{profile}");
        })
        .await;
    }
}
