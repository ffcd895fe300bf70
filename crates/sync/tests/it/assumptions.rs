//! FHIR.md §14: what a sync client must never assume. Each test lets the EHR play the other case. Those that other files
//! hold stand in the table of `main.rs`.

use crate::gate::Which;
use crate::judge::SYSTEM;
use crate::world::{HOUR, MINUTE, SECOND, SETTLE, World, bare, conditional, every_means, lacking, on_each, own_id};
use model::{HeldReason, PatientId, Proof, State};
use sandbox::{Auth, Fault, FaultPlan, OAuth2, Options, Profile, Quirks, VersionStyle};
use serde_json::{Value, json};
use store::{ObservationFilter, PageRequest};

/// The hospital observes something itself.
fn hospital_observes(w: &World, patient: &str, id: &str, score: &str) {
    let text = format!(
        r#"{{"resourceType":"Observation","id":"{id}","status":"final","code":{{"coding":[{{"system":"http://loinc.org","code":"8867-4"}}]}},"subject":{{"reference":"Patient/{patient}"}},"effectiveDateTime":"2026-11-20T10:00:00-03:00","valueQuantity":{{"value":{score},"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}}}"#
    );
    w.ward.sandbox.put_resource(&text).unwrap();
}

/// What the platform holds of the EHR's own: (EHR id, digits, deleted).
async fn pulled(w: &World, patient: PatientId) -> Vec<(String, String, bool)> {
    let filter = ObservationFilter { patient_id: Some(patient), deleted: true, ..ObservationFilter::default() };
    let page = w.tenant.observations(w.clock.now(), &filter, &PageRequest { limit: 200, before: None }).await.unwrap();
    assert!(page.next.is_none());
    let of_ehr = page.items.into_iter().filter(|o| o.source == model::Source::Ehr);
    let mut rows: Vec<_> = of_ehr
        .map(|o| {
            let resource: Value = serde_json::from_str(o.resource.as_deref().unwrap_or("null")).unwrap();
            (o.ehr_id.map(|id| id.to_string()).unwrap_or_default(), resource["valueQuantity"]["value"].to_string(), o.deleted)
        })
        .collect();
    rows.sort();
    rows
}

async fn pull(w: &World, patient: PatientId) {
    w.tenant.request_pull(w.clock.now(), patient).await.unwrap().unwrap();
    w.settle_down().await;
}

/// Row 1: `If-None-Exist` prevents no duplicates.
#[tokio::test]
async fn row_01_a_conditional_create_that_is_ignored_or_no_lock_doubles_nothing() {
    for fault in [Fault::IgnoreIfNoneExist, Fault::ConditionalCreateRace] {
        on_each(lacking(&[Fault::NoUpdateCreate, fault]), async |w| {
            let patient = w.known_patient().await;
            for way in [Fault::CutAfterCommit, Fault::LateCommit, Fault::CutBeforeCommit] {
                let pain = w.observe(patient, "3").await;
                w.next(1, way, "POST", pain);
                w.settle_down().await;
                assert_eq!(w.effects(pain).len(), 1, "{fault}, {way}");
                w.is_delivered(pain).await;
            }
        })
        .await;
    }
}

/// Row 2: 200 on a conditional create is not "ours is there"; the body may be empty.
#[tokio::test]
async fn row_02_an_empty_200_on_a_conditional_create_is_read_before_it_counts() {
    on_each(conditional(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        // Somebody else's resource carries our identifier, and the 200 shows nothing of it.
        let there = json!({"resourceType": "Observation", "status": "final", "code": {"text": "Peso"}, "identifier": [{"system": SYSTEM, "value": pain.to_string()}]});
        w.ward.sandbox.put_resource(&there.to_string()).unwrap();
        w.next(1, Fault::EmptyBody, "POST", pain);
        w.settle_down().await;
        assert_eq!(w.ehr().shown(Fault::EmptyBody), 1);
        assert_eq!(w.delivery(pain).await.state, State::Held(HeldReason::Conflict));
        assert_eq!(w.effects(pain).len(), 1);
    })
    .await;
}

/// Row 3: a search filter was not applied.
#[tokio::test]
async fn row_03_a_search_that_ignores_the_identifier_finds_only_what_carries_it() {
    on_each(lacking(&[Fault::NoUpdateCreate, Fault::NoConditionalCreate, Fault::IgnoreIdentifier]), async |w| {
        let patients = w.known_patients(3).await;
        for patient in &patients {
            for way in [Fault::CutBeforeCommit, Fault::CutAfterCommit] {
                let pain = w.observe(*patient, "3").await;
                w.next(1, way, "POST", pain);
                w.settle_down().await;
                w.holds(pain, "3");
                w.is_delivered(pain).await;
                assert_eq!(w.effects(pain).len(), 1, "{way}");
            }
        }
    })
    .await;
}

/// Row 4: zero hits is not "absent": lag, or somebody who may not see it.
#[tokio::test]
async fn row_04_an_empty_search_before_the_settle_time_creates_nothing() {
    for options in [conditional(), bare()] {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            w.next(1, Fault::CutAfterCommit, "POST", pain);
            w.work().await;
            w.faults(FaultPlan::none().always(Fault::EmptySearch));
            w.go_on_for(SETTLE - 2 * SECOND).await;
            assert!(w.ehr().shown(Fault::EmptySearch) > 0);
            assert_eq!(w.delivery(pain).await.state, State::Uncertain);
            w.well();
            w.settle_down().await;
            assert_eq!(w.effects(pain).len(), 1);
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// Row 5: `total` is not the number of matches, `_count` not the page length.
#[tokio::test]
async fn row_05_a_total_that_lies_loses_no_rows() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let id = w.ehr_id(patient).await;
        w.ward.sandbox.change_settings(|s| s.page_size = 3);
        w.faults(FaultPlan::none().always(Fault::TotalLies).always(Fault::DuplicatePageRows));
        for n in 0..20 {
            hospital_observes(w, &id, &format!("o{n:02}"), "72.0");
        }
        pull(w, patient).await;
        assert_eq!(pulled(w, patient).await.len(), 20);
    })
    .await;
}

/// Row 6: a next link is followed as given, and never with our credentials to another origin.
#[tokio::test]
async fn row_06_a_foreign_or_circular_next_link_is_not_followed_and_the_pull_is_not_complete() {
    for fault in [Fault::ForeignNext, Fault::PageLoop] {
        on_each(own_id(), async |w| {
            let patient = w.known_patient().await;
            let id = w.ehr_id(patient).await;
            for n in 0..180 {
                hospital_observes(w, &id, &format!("o{n:03}"), "72.0");
            }
            w.faults(FaultPlan::none().always(fault));
            w.tenant.request_pull(w.clock.now(), patient).await.unwrap().unwrap();
            w.work().await;
            let state = w.tenant.pull_state(patient).await.unwrap().unwrap();
            assert!(w.node.gate.passed().iter().all(|p| !p.path.contains("ehr.invalid")));
            assert!(state.outcome.as_deref() != Some("complete") || pulled(w, patient).await.len() == 180, "{fault}: {state:?}");
            w.well();
            w.go_on_for(HOUR).await;
            pull(w, patient).await;
            assert_eq!(pulled(w, patient).await.len(), 180, "{fault}");
        })
        .await;
    }
}

/// Row 7: `_lastUpdated` skips.
#[tokio::test]
async fn row_07_rows_that_change_while_they_are_paged_are_not_lost() {
    for always in [vec![Fault::RowsChangeWhilePaged], vec![Fault::NoLastUpdated]] {
        on_each(lacking(&always), async |w| {
            let patient = w.known_patient().await;
            let id = w.ehr_id(patient).await;
            for n in 0..150 {
                hospital_observes(w, &id, &format!("o{n:03}"), "72.0");
                w.clock.forward(7);
            }
            // Whole before the pull begins, by a `Date` of whole seconds; what is written in that second is the next test's.
            w.clock.forward(2 * SECOND);
            pull(w, patient).await;
            assert_eq!(pulled(w, patient).await.len(), 150);
            w.clock.forward(MINUTE);
            hospital_observes(w, &id, "o000", "80.10");
            pull(w, patient).await;
            let rows = pulled(w, patient).await;
            assert_eq!(rows.len(), 150);
            assert!(rows.contains(&("o000".to_owned(), "80.10".to_owned(), false)));
        })
        .await;
    }
}

/// Row 7, in the very second in which the pull begins: a `Date` cannot tell these rows from those that change later. The pull
/// may leave them to the next one, which must bring each.
#[tokio::test]
async fn row_07_rows_that_change_in_the_second_of_the_pull_come_with_the_next() {
    for within in [0, 330, 690, 730, 930] {
        on_each(lacking(&[Fault::RowsChangeWhilePaged]), async |w| {
            let patient = w.known_patient().await;
            let id = w.ehr_id(patient).await;
            w.clock.forward(2 * SECOND - w.clock.now().0 % SECOND + within);
            for n in 0..150 {
                hospital_observes(w, &id, &format!("o{n:03}"), "72.0");
                w.clock.forward(7);
            }
            pull(w, patient).await;
            w.clock.forward(MINUTE);
            pull(w, patient).await;
            assert_eq!(pulled(w, patient).await.len(), 150, "begun {within} ms into its second");
        })
        .await;
    }
}

/// Row 8: deletions do not show up in a search.
#[tokio::test]
async fn row_08_what_the_hospital_deleted_is_noticed_by_the_whole_read() {
    for always in [vec![], vec![Fault::DeleteAs404]] {
        on_each(lacking(&always), async |w| {
            let patient = w.known_patient().await;
            let id = w.ehr_id(patient).await;
            for n in 0..3 {
                hospital_observes(w, &id, &format!("o{n}"), "72.0");
            }
            pull(w, patient).await;
            w.ward.sandbox.delete("Observation", "o1");
            w.go_on_for(8 * crate::world::DAY).await;
            pull(w, patient).await;
            let gone: Vec<_> = pulled(w, patient).await.into_iter().filter(|row| row.2).map(|row| row.0).collect();
            assert_eq!(gone, ["o1"]);
        })
        .await;
    }
}

/// Row 11: versions are opaque, ETags weak.
#[tokio::test]
async fn row_11_versions_that_are_no_numbers_are_compared_and_given_back_as_they_came() {
    let quirks = Quirks { versions: VersionStyle::Uuids, ..Quirks::of(Profile::Plain) };
    on_each(Options { quirks: Some(quirks), ..Options::default() }, async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        for score in ["4", "5", "6"] {
            w.settle_down().await;
            w.correct(pain, score).await;
            w.next(1, Fault::CutAfterCommit, "PUT", pain);
        }
        w.settle_down().await;
        w.holds(pain, "6");
        assert_eq!(w.versions(pain), [1, 2, 3, 4]);
    })
    .await;
}

/// Row 12: what we sent is not what is stored.
#[tokio::test]
async fn row_12_an_ehr_that_drops_and_rounds_is_still_recognised_and_updated() {
    for fault in [Fault::DecimalsRounded, Fault::DropExtensions] {
        for (means, options) in every_means() {
            on_each(options, async |w| {
                w.faults(FaultPlan::none().always(fault));
                let patient = w.known_patient().await;
                let pain = w.observe(patient, "1.10").await;
                w.faults(FaultPlan::none().always(fault).script(crate::world::script(
                    1,
                    Fault::CutAfterCommit,
                    if means == "own id" { "PUT" } else { "POST" },
                    pain,
                )));
                w.settle_down().await;
                assert_eq!(w.at_ehr(pain).len(), 1, "{means}, {fault}");
                w.is_delivered(pain).await;
                w.correct(pain, "2.50").await;
                w.settle_down().await;
                w.is_delivered(pain).await;
                assert_eq!(w.versions(pain).last(), Some(&2), "{means}, {fault}");
            })
            .await;
        }
    }
}

/// Row 14: the CapabilityStatement is not the behaviour.
#[tokio::test]
async fn row_14_an_ehr_that_promises_what_it_refuses_gets_everything_all_the_same() {
    for refused in [vec![Fault::NoUpdateCreate], vec![Fault::NoUpdateCreate, Fault::NoConditionalCreate], vec![Fault::NoBatch]] {
        for status in [400, 404, 405] {
            on_each(lacking(&refused), async |w| {
                w.ward.sandbox.change_settings(|s| s.no_update_create_status = status);
                let patients = w.known_patients(3).await;
                for patient in &patients {
                    w.observe(*patient, "3").await;
                    w.observe(*patient, "4").await;
                }
                w.settle_down().await;
                for (id, _) in w.all_observed() {
                    assert_eq!(w.effects(id).len(), 1, "{refused:?}, {status}");
                    w.is_delivered(id).await;
                }
                let plan = w.tenant.runtime().await.unwrap().plan;
                assert_eq!(plan.observation_update_create == Proof::Refused, refused.contains(&Fault::NoUpdateCreate));
            })
            .await;
        }
    }
}

/// Row 17: a row may be another patient's.
#[tokio::test]
async fn row_17_a_row_of_another_patient_is_not_filed_with_this_one() {
    on_each(own_id(), async |w| {
        let (one, two) = (w.known_patient().await, w.known_patient().await);
        let (id, other) = (w.ehr_id(one).await, w.ehr_id(two).await);
        hospital_observes(w, &id, "mine", "72.0");
        hospital_observes(w, &other, "theirs", "60.0");
        w.faults(FaultPlan::none().always(Fault::WrongPatientRow));
        pull(w, one).await;
        assert!(w.ehr().shown(Fault::WrongPatientRow) > 0);
        assert_eq!(pulled(w, one).await.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["mine"]);
        // Nor with the one whose it is: it was read by a search for somebody else.
        assert_eq!(pulled(w, two).await, []);
        w.well();
        pull(w, two).await;
        pull(w, one).await;
        assert_eq!(pulled(w, two).await.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["theirs"]);
        assert_eq!(pulled(w, one).await.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["mine"]);
    })
    .await;
}

/// Row 19: `final` changes.
#[tokio::test]
async fn row_19_a_final_row_that_changes_is_updated_here() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let id = w.ehr_id(patient).await;
        hospital_observes(w, &id, "o1", "72.0");
        pull(w, patient).await;
        w.clock.forward(MINUTE);
        hospital_observes(w, &id, "o1", "72.00");
        pull(w, patient).await;
        assert_eq!(pulled(w, patient).await, [("o1".to_owned(), "72.00".to_owned(), false)]);
    })
    .await;
}

/// Row 20: a notification is a hint to pull: asked for twice at once, it brings each row once, and never our own push.
#[tokio::test]
async fn row_20_asking_for_a_pull_twice_brings_each_row_once_and_never_our_own() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let id = w.ehr_id(patient).await;
        hospital_observes(w, &id, "o1", "72.0");
        for _ in 0..3 {
            w.tenant.request_pull(w.clock.now(), patient).await.unwrap().unwrap();
            w.work().await;
        }
        w.settle_down().await;
        assert_eq!(pulled(w, patient).await, [("o1".to_owned(), "72.0".to_owned(), false)]);
    })
    .await;
}

/// Row 21: `expires_in` may be missing, tokens shorter than told.
#[tokio::test]
async fn row_21_a_token_without_a_life_span_is_renewed_when_it_is_refused() {
    for tells in [true, false] {
        for db in testing::databases().await {
            let mut client = OAuth2::new("ponte", "right");
            client.tells_expiry = tells;
            client.expires_in = 60;
            let mut w = World::begin(db, own_id(), json!({})).await;
            w.ward = crate::world::Ward::open(Options { auth: vec![Auth::OAuth2(client)], ..own_id() }, &w.clock).await;
            let token_url = w.ward.base.replace("/fhir", "/oauth/token");
            let settings =
                json!({"authType": "oauth2", "authConfig": {"clientId": "ponte", "clientSecret": "right", "tokenUrl": token_url}});
            w.configure(&w.tenant, &w.ward.base, settings).await;
            let patient = w.known_patient().await;
            for n in 0..5 {
                w.clock.forward(7 * MINUTE);
                w.observe(patient, &n.to_string()).await;
                w.settle_down().await;
            }
            for (id, _) in w.all_observed() {
                assert_eq!(w.effects(id).len(), 1);
                w.is_delivered(id).await;
            }
            w.judge().await;
        }
    }
}

/// Row 22: errors are not always OperationOutcomes in JSON.
#[tokio::test]
async fn row_22_a_refusal_in_any_clothes_is_kept_with_its_words() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        for (kind, body) in [
            ("text/html", "<html><body>Erro de valida\u{e7}\u{e3}o</body></html>"),
            ("text/plain", "Erro de valida\u{e7}\u{e3}o"),
            ("application/json", "{\"mensagem\""),
            ("", ""),
        ] {
            let pain = w.observe(patient, "3").await;
            w.node.gate.answer(Which::new("PUT", pain), 1, 422, &[("content-type", kind)], body);
            w.work().await;
            let delivery = w.delivery(pain).await;
            assert_eq!(delivery.state, State::Dead, "{kind}: {delivery:?}");
            assert_eq!(delivery.attempts.iter().filter_map(|a| a.status).next_back(), Some(422));
            assert!(delivery.message.is_some_and(|m| !m.is_empty()), "{kind}");
        }
    })
    .await;
}

/// Row 23: identifiers come back otherwise than sent. Without proof of a delivery a person decides; nothing is doubled.
#[tokio::test]
async fn row_23_an_ehr_that_drops_or_recases_our_identifier_doubles_nothing() {
    for fault in [Fault::DropIdentifier, Fault::IdentifierRecased] {
        for options in [own_id(), bare()] {
            on_each(options, async |w| {
                let patient = w.known_patient().await;
                w.faults(FaultPlan::none().always(fault));
                let fine = w.observe(patient, "3").await;
                w.settle_down().await;
                assert_eq!(w.effects(fine).len(), 1, "{fault}");
                let pain = w.observe(patient, "4").await;
                let mut plan = FaultPlan::none().always(fault);
                for method in ["PUT", "POST"] {
                    plan = plan.script(crate::world::script(1, Fault::CutAfterCommit, method, pain));
                }
                w.faults(plan);
                w.go_on_for(HOUR).await;
                assert_eq!(w.effects(pain).iter().filter(|e| e.version_id == "1").count(), 1, "{fault}: created twice");
                w.nothing_is_silent().await;
            })
            .await;
        }
    }
}
