//! PRODUCT, "What an outcome means": each row of the table.

use crate::gate::{FHIR, Which, outcome};
use crate::judge::SYSTEM;
use crate::pull::{asks, complete};
use crate::world::{DAY, HOUR, MINUTE, SECOND, SETTLE, bare, conditional, every_means, lacking, on_each, on_each_with, own_id};
use model::{Class, EhrId, HeldReason, State};
use sandbox::{Fault, FaultPlan};
use serde_json::json;

/// 2xx with id; an empty body is read from `Location` and `ETag`.
#[tokio::test]
async fn a_success_records_id_and_version_and_an_empty_body_is_read_from_its_headers() {
    for (means, options) in every_means() {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            let method = if means == "own id" { "PUT" } else { "POST" };
            w.next(1, Fault::EmptyBody, method, pain);
            w.settle_down().await;
            assert_eq!(w.ehr().shown(Fault::EmptyBody), 1, "{means}");
            let (held, here) = (w.at_ehr(pain), w.observation(pain).await);
            assert_eq!(here.ehr_id.unwrap().as_str(), held[0].id, "{means}");
            assert_eq!(here.ehr_version.as_deref(), Some(held[0].version_id.as_str()), "{means}");
            w.is_delivered(pain).await;
            assert_eq!(w.effects(pain).len(), 1, "{means}");
        })
        .await;
    }
}

/// 200 on a conditional create: delivered only if the resource carries our identifier and subject.
#[tokio::test]
async fn a_200_on_a_conditional_create_counts_only_with_our_identifier_and_subject() {
    on_each(conditional(), async |w| {
        let patient = w.known_patient().await;
        let other = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        // The hospital has filed it with somebody else.
        let there = json!({"resourceType": "Observation", "status": "final", "code": {"text": "Dor"},
            "subject": {"reference": format!("Patient/{}", w.ehr_id(other).await)}, "identifier": [{"system": SYSTEM, "value": pain.to_string()}]});
        w.ward.sandbox.put_resource(&there.to_string()).unwrap();
        w.settle_down().await;
        let delivery = w.delivery(pain).await;
        assert_eq!(delivery.state, State::Held(HeldReason::Conflict), "{delivery:?}");
        assert_eq!(w.effects(pain).len(), 1, "nothing was written over it");
    })
    .await;
}

/// The same where it shows our very version: it is still somebody else's.
#[tokio::test]
async fn a_200_on_a_conditional_create_that_shows_our_version_at_another_patient_is_a_conflict() {
    on_each(conditional(), async |w| {
        let patient = w.known_patient().await;
        w.ward.sandbox.put_resource(r#"{"resourceType":"Patient","id":"hospital-1","active":true}"#).unwrap();
        w.tenant.link_by_person(w.clock.now(), patient, Some(EhrId::new("hospital-1").unwrap()), "ana").await.unwrap().unwrap();
        let other = w.known_patient().await;
        let like_it = w.observe(other, "3").await;
        w.settle_down().await;
        let pain = w.observe(patient, "3").await;
        let there = w.stored(like_it).unwrap().to_string().replace(&like_it.to_string(), &pain.to_string());
        let mut there: serde_json::Value = serde_json::from_str(&there).unwrap();
        there.as_object_mut().unwrap().remove("id");
        w.ward.sandbox.put_resource(&there.to_string()).unwrap();
        w.settle_down().await;
        let delivery = w.delivery(pain).await;
        assert_eq!(delivery.state, State::Held(HeldReason::Conflict), "{delivery:?}");
        assert_eq!(w.effects(pain).len(), 1, "nothing was written over it");
    })
    .await;
}

#[tokio::test]
async fn a_200_on_a_conditional_create_that_shows_our_own_version_is_delivered() {
    on_each(conditional(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        // Its answer is lost, and the search does not show it: the second conditional create finds it.
        w.next(1, Fault::CutAfterCommit, "POST", pain);
        w.work().await;
        w.faults(FaultPlan::none().script(crate::world::script(9, Fault::EmptySearch, "GET", pain)));
        w.settle_down().await;
        assert_eq!(w.effects(pain).len(), 1);
        w.is_delivered(pain).await;
    })
    .await;
}

/// 303 on a create is read, never followed with POST; other 3xx hold the connection.
#[tokio::test]
async fn a_303_on_a_create_is_read_and_found_ours() {
    for options in [
        lacking(&[Fault::NoUpdateCreate, Fault::Redirect303]),
        lacking(&[Fault::NoUpdateCreate, Fault::NoConditionalCreate, Fault::Redirect303]),
    ] {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            w.next(1, Fault::CutAfterCommit, "POST", pain);
            w.work().await;
            w.faults(FaultPlan::none().script(crate::world::script(9, Fault::EmptySearch, "GET", pain)));
            w.settle_down().await;
            assert_eq!(w.ehr().shown(Fault::Redirect303), 1);
            assert_eq!(w.effects(pain).len(), 1);
            w.is_delivered(pain).await;
        })
        .await;
    }
}

#[tokio::test]
async fn another_redirect_holds_the_connection_and_is_not_followed() {
    for status in [301, 302, 307, 308] {
        on_each(own_id(), async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            let elsewhere = format!("{}/Observation/{pain}", w.ward.base);
            w.node.gate.answer(Which::new("PUT", pain), 1, status, &[("location", &elsewhere)], "");
            w.work().await;
            let runtime = w.tenant.runtime().await.unwrap();
            assert_eq!((runtime.failures, runtime.last_class), (1, Some(Class::Redirect)), "{status}");
            assert_eq!(w.node.gate.count("PUT", &pain.to_string()), 1);
            w.settle_down().await;
            w.holds(pain, "3");
        })
        .await;
    }
}

/// Timeout, reset, 408, 500, 502, 504, a bare 503, HTML, a broken answer: uncertain, by every means, and delivered once.
#[tokio::test]
async fn every_way_to_lose_an_answer_is_uncertain_first_and_delivered_once_in_the_end() {
    let ways = [
        Fault::Hang,
        Fault::HangAfterCommit,
        Fault::CutBeforeCommit,
        Fault::CutAfterCommit,
        Fault::Status500,
        Fault::Status502,
        Fault::GatewayTimeout504,
        Fault::Status503,
        Fault::Html200,
        Fault::Html502,
        Fault::TruncatedJson,
    ];
    for (means, options) in every_means() {
        on_each_with(options, json!({"requestTimeout": 400}), async |w| {
            let patient = w.known_patient().await;
            w.ward.sandbox.change_settings(|s| s.hang_ms = 2_000);
            for way in ways {
                for commits in [false, true] {
                    if commits && !matches!(way, Fault::Html200 | Fault::Html502) {
                        continue;
                    }
                    w.ward.sandbox.change_settings(|s| s.html_commits = commits);
                    let pain = w.observe(patient, "3").await;
                    w.next(1, way, if means == "own id" { "PUT" } else { "POST" }, pain);
                    w.work().await;
                    let delivery = w.delivery(pain).await;
                    assert_eq!(delivery.state, State::Uncertain, "{means}, {way}: {delivery:?}");
                    w.settle_down().await;
                    assert_eq!(w.at_ehr(pain).len(), 1, "{means}, {way}");
                    w.is_delivered(pain).await;
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_408_is_uncertain() {
    on_each(bare(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        w.node.gate.answer(Which::new("POST", pain), 1, 408, &[], "");
        w.work().await;
        assert_eq!(w.delivery(pain).await.state, State::Uncertain);
        w.settle_down().await;
        w.holds(pain, "3");
    })
    .await;
}

/// Refused connection, DNS, TLS; the EHR's own 503: not applied, the connection backs off, the row is untouched.
#[tokio::test]
async fn what_was_certainly_not_applied_is_the_connections_matter() {
    on_each(bare(), async |w| {
        let patient = w.known_patient().await;
        type Way<'a> = (&'a str, &'a dyn Fn(&str));
        let ways: [Way<'_>; 4] = [
            ("refused", &|pain| w.node.gate.nobody_there(Which::new("POST", pain), 1, Class::Unreachable)),
            ("tls", &|pain| w.node.gate.nobody_there(Which::new("POST", pain), 1, Class::Tls)),
            ("503 with Retry-After", &|pain| w.next(1, Fault::Status503RetryAfter, "POST", pain)),
            ("503 with an OperationOutcome", &|pain| w.next(1, Fault::Status503Outcome, "POST", pain)),
        ];
        for (way, play) in ways {
            let pain = w.observe(patient, "3").await;
            play(&pain.to_string());
            w.work().await;
            let delivery = w.delivery(pain).await;
            assert!(!matches!(delivery.state, State::Uncertain | State::Dead), "{way}: {delivery:?}");
            assert_eq!(w.tenant.runtime().await.unwrap().failures, 1, "{way}");
            // No settle time: it goes again as soon as the connection may be used.
            w.go_on_for(5 * SECOND).await;
            w.holds(pain, "3");
            w.is_delivered(pain).await;
            assert_eq!(w.tenant.runtime().await.unwrap().failures, 0, "{way}");
        }
    })
    .await;
}

/// 403: that patient is held; the connection only with the third patient in a row.
#[tokio::test]
async fn a_403_holds_one_patient_and_three_in_a_row_hold_the_connection() {
    on_each(own_id(), async |w| {
        let patients = w.known_patients(4).await;
        let refused = w.observe(patients[0], "3").await;
        w.node.gate.answer(Which::new("PUT", refused), 1, 403, FHIR, &outcome("forbidden", "Not this one."));
        w.settle_down().await;
        let delivery = w.delivery(refused).await;
        assert_eq!(delivery.state, State::Held(HeldReason::AccessDenied), "{delivery:?}");
        let other = w.observe(patients[1], "4").await;
        w.settle_down().await;
        w.holds(other, "4");
        w.node.gate.answer(Which::new("PUT", "/fhir/Observation/"), 40, 403, FHIR, &outcome("forbidden", "Nobody."));
        for patient in &patients[1..] {
            w.observe(*patient, "5").await;
            w.work().await;
        }
        let runtime = w.tenant.runtime().await.unwrap();
        assert!(runtime.auth_refused, "{runtime:?}");
        w.node.gate.open();
        let waiting = w.observe(patients[3], "6").await;
        w.go_on_for(HOUR).await;
        w.holds(waiting, "6");
    })
    .await;
}

/// 409 / 412: read again; unchanged but for the server's own meta, PUT again.
#[tokio::test]
async fn a_new_version_that_changed_nothing_is_written_over() {
    for always in [vec![], vec![Fault::Precondition409]] {
        on_each(lacking(&always), async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            w.settle_down().await;
            let there = w.stored(pain).unwrap();
            w.ward.sandbox.put_resource(&there.to_string()).unwrap();
            w.correct(pain, "8").await;
            w.settle_down().await;
            w.holds(pain, "8");
            w.is_delivered(pain).await;
        })
        .await;
    }
}

/// … changed by somebody: held, and what they wrote stays.
#[tokio::test]
async fn what_the_hospital_changed_is_never_written_over() {
    for keeps_marks in [true, false] {
        for (means, options) in every_means() {
            on_each(options, async |w| {
                let patient = w.known_patient().await;
                let pain = w.observe(patient, "3").await;
                w.settle_down().await;
                let mut there = w.stored(pain).unwrap();
                there["valueQuantity"]["value"] = json!(1);
                there["note"] = json!([{"text": "Corrigido na enfermaria."}]);
                if !keeps_marks {
                    there["meta"].as_object_mut().unwrap().remove("source");
                    there["identifier"][0].as_object_mut().unwrap().remove("extension");
                }
                w.ward.sandbox.put_resource(&there.to_string()).unwrap();
                w.correct(pain, "8").await;
                w.settle_down().await;
                w.holds(pain, "1");
                let delivery = w.delivery(pain).await;
                assert_eq!(delivery.state, State::Held(HeldReason::Conflict), "{means}, marks kept: {keeps_marks}: {delivery:?}");
            })
            .await;
        }
    }
}

/// What the hospital adds to a delivered row or changes in it stays, also if the row was read or pulled before the platform corrects it.
#[tokio::test]
async fn a_note_that_the_hospital_added_is_never_written_over() {
    for (read_by, value) in [("nobody", "3"), ("the audits", "3"), ("a pull", "3"), ("a pull", "1")] {
        for (means, options) in every_means() {
            on_each(options, async |w| {
                let patient = w.known_patient().await;
                let pain = w.observe(patient, "3").await;
                w.next(1, Fault::CutAfterCommit, if means == "own id" { "PUT" } else { "POST" }, pain);
                // Delivered, with audits to come.
                w.settle_down().await;
                w.is_delivered(pain).await;
                let mut there = w.stored(pain).unwrap();
                there["note"] = json!([{"text": "Corrigido na enfermaria."}]);
                there["valueQuantity"]["value"] = value.parse().unwrap();
                w.clock.forward(MINUTE);
                w.ward.sandbox.put_resource(&there.to_string()).unwrap();
                w.clock.forward(MINUTE);
                match read_by {
                    "nobody" => {}
                    "a pull" => {
                        complete(&asks(w, patient).await);
                        let shown = w.observation(pain).await;
                        assert!(shown.resource.is_some_and(|resource| resource.contains("Corrigido na enfermaria.")), "{means}");
                    }
                    _ => w.go_on_for(2 * DAY).await,
                }
                w.correct(pain, "8").await;
                w.settle_down().await;
                w.holds(pain, value);
                let delivery = w.delivery(pain).await;
                assert_eq!(delivery.state, State::Held(HeldReason::Conflict), "{means}, read by {read_by}: {delivery:?}");
            })
            .await;
        }
    }
}

/// The audits of a first version come after the second was delivered: what is known of the second stays.
#[tokio::test]
async fn an_audit_of_an_older_version_sets_nothing_back() {
    for (means, options) in every_means() {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            w.next(1, Fault::CutAfterCommit, if means == "own id" { "PUT" } else { "POST" }, pain);
            w.settle_down().await;
            w.correct(pain, "8").await;
            w.settle_down().await;
            let reads = w.node.gate.count("GET", &pain.to_string());
            w.go_on_for(2 * DAY).await;
            assert!(means != "own id" || w.node.gate.count("GET", &pain.to_string()) > reads, "nothing was audited");
            w.holds(pain, "8");
            w.is_delivered(pain).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_row_that_the_hospital_moved_to_another_patient_is_not_moved_back() {
    for (means, options) in every_means() {
        on_each(options, async |w| {
            let (patient, other) = (w.known_patient().await, w.known_patient().await);
            let pain = w.observe(patient, "3").await;
            w.next(1, Fault::CutAfterCommit, if means == "own id" { "PUT" } else { "POST" }, pain);
            w.settle_down().await;
            w.is_delivered(pain).await;
            let moved = format!("Patient/{}", w.ehr_id(other).await);
            let mut there = w.stored(pain).unwrap();
            there["subject"]["reference"] = json!(moved);
            w.ward.sandbox.put_resource(&there.to_string()).unwrap();
            w.go_on_for(2 * DAY).await;
            w.correct(pain, "8").await;
            w.settle_down().await;
            assert_eq!(w.stored(pain).unwrap()["subject"]["reference"], moved);
            let delivery = w.delivery(pain).await;
            assert_eq!(delivery.state, State::Held(HeldReason::Conflict), "{means}: {delivery:?}");
        })
        .await;
    }
}

/// More than one match: a person's decision.
#[tokio::test]
async fn two_resources_under_our_identifier_are_a_persons_case() {
    for options in [conditional(), bare()] {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            for _ in 0..2 {
                let there = json!({"resourceType": "Observation", "status": "final", "code": {"text": "Dor"},
                    "subject": {"reference": format!("Patient/{}", w.ehr_id(patient).await)}, "identifier": [{"system": SYSTEM, "value": pain.to_string()}]});
                w.ward.sandbox.put_resource(&there.to_string()).unwrap();
            }
            w.next(1, Fault::CutBeforeCommit, "POST", pain);
            w.settle_down().await;
            let delivery = w.delivery(pain).await;
            assert_eq!(delivery.state, State::Held(HeldReason::MultipleMatches), "{delivery:?}");
            assert_eq!(w.effects(pain).len(), 2, "nothing of ours was added");
            w.observed.lock().unwrap().retain(|(id, _)| *id != pain);
            for held in w.at_ehr(pain) {
                w.ward.sandbox.delete("Observation", &held.id);
            }
        })
        .await;
    }
}

/// 400 / 422: dead at once, with the EHR's words.
#[tokio::test]
async fn a_400_or_422_is_dead_at_once_with_the_ehrs_words() {
    for (means, options) in every_means() {
        for status in [400, 422] {
            on_each(options.clone(), async |w| {
                let patient = w.known_patient().await;
                let pain = w.observe(patient, "3").await;
                let words = outcome("invalid", "The score is not one of this ward's.");
                w.node.gate.answer(Which::new(if means == "own id" { "PUT" } else { "POST" }, pain), 1, status, FHIR, &words);
                w.work().await;
                let delivery = w.delivery(pain).await;
                assert_eq!(delivery.state, State::Dead, "{means}, {status}: {delivery:?}");
                assert!(delivery.message.unwrap().contains("The score is not one of this ward's."), "{means}, {status}");
                let behind = w.observe(patient, "4").await;
                w.settle_down().await;
                w.holds(behind, "4");
                // A person sends it again.
                w.tenant.replay(w.clock.now(), delivery.id, "admin").await.unwrap();
                w.settle_down().await;
                w.holds(pain, "3");
            })
            .await;
        }
    }
}

/// Sent again, a version that a newer one has overtaken gives way to it.
#[tokio::test]
async fn a_replayed_dead_letter_gives_way_to_the_newer_version_that_was_delivered() {
    for (means, options) in every_means() {
        on_each(options.clone(), async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            let words = outcome("invalid", "The score is not one of this ward's.");
            w.node.gate.answer(Which::new(if means == "own id" { "PUT" } else { "POST" }, pain), 1, 422, FHIR, &words);
            w.work().await;
            let dead = w.delivery(pain).await;
            assert_eq!(dead.state, State::Dead, "{means}: {dead:?}");
            w.correct(pain, "4").await;
            w.settle_down().await;
            w.holds(pain, "4");
            w.tenant.replay(w.clock.now(), dead.id, "admin").await.unwrap();
            w.settle_down().await;
            w.holds(pain, "4");
            let old = w.tenant.delivery(w.clock.now(), dead.id).await.unwrap().unwrap();
            assert_eq!(old.state, State::Canceled, "{means}: {old:?}");
        })
        .await;
    }
}

/// One answer to a question that proves nothing may be a slip; a person is asked only when the round is used up.
#[tokio::test]
async fn a_question_is_asked_again_before_a_person_is() {
    for slip in [Fault::PartialSearch, Fault::Html404] {
        on_each(bare(), async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            w.next(1, Fault::CutAfterCommit, "POST", pain);
            w.work().await;
            assert_eq!(w.delivery(pain).await.state, State::Uncertain);
            // After the settle time an answer decides.
            w.clock.to(w.clock.now().plus_ms(HOUR));
            w.next(1, slip, "GET", pain);
            w.work().await;
            let after_the_slip = w.delivery(pain).await.state;
            assert!(!matches!(after_the_slip, State::Held(_)), "{slip}: {after_the_slip:?}");
            w.settle_down().await;
            w.is_delivered(pain).await;
            w.holds(pain, "3");
            assert_eq!(w.ehr().shown(slip), 1, "{slip}");
        })
        .await;
    }
}

/// 404 / 410: the base and the Patient are read first.
#[tokio::test]
async fn a_404_of_the_base_holds_the_connection_and_buries_nothing() {
    on_each(bare(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        w.faults(FaultPlan::none().always(Fault::Html404));
        w.go_on_for(HOUR).await;
        let delivery = w.delivery(pain).await;
        assert!(!delivery.state.is_final(), "{delivery:?}");
        assert!(w.tenant.runtime().await.unwrap().failures > 0);
        w.well();
        w.go_on_for(HOUR).await;
        w.holds(pain, "3");
    })
    .await;
}

#[tokio::test]
async fn a_patient_that_is_gone_is_held_and_nobody_else() {
    on_each(own_id(), async |w| {
        let (gone, there) = (w.known_patient().await, w.known_patient().await);
        let id = w.ehr_id(gone).await;
        w.ward.sandbox.delete("Patient", &id);
        w.clock.forward(11 * MINUTE);
        let (waits, goes) = (w.observe(gone, "3").await, w.observe(there, "4").await);
        w.settle_down().await;
        w.holds_nothing(waits);
        assert_eq!(w.delivery(waits).await.state, State::Held(HeldReason::PatientUnlinked));
        w.holds(goes, "4");
    })
    .await;
}

#[tokio::test]
async fn an_observation_that_the_hospital_deleted_stays_deleted() {
    for delete_as in [None, Some(Fault::DeleteAs404)] {
        on_each(lacking(&delete_as.into_iter().collect::<Vec<_>>()), async |w| {
            let patient = w.known_patient().await;
            let pain = w.observe(patient, "3").await;
            w.settle_down().await;
            w.ward.sandbox.delete("Observation", &w.at_ehr(pain)[0].id);
            w.correct(pain, "8").await;
            w.settle_down().await;
            assert_eq!(w.at_ehr(pain).len(), 0, "it lives again");
            let delivery = w.delivery(pain).await;
            assert_eq!(delivery.state, State::Held(HeldReason::GoneAtEhr), "{delivery:?}");
        })
        .await;
    }
}

/// … also where nothing newer waits, and it is only read once more: then nobody says that the EHR holds it.
#[tokio::test]
async fn an_observation_that_is_found_deleted_is_held_and_not_called_synced() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::CutBeforeCommit, "PUT", pain);
        w.work().await;
        w.well();
        w.go_on_for(2 * SECOND).await;
        w.is_delivered(pain).await;
        assert!(w.observation(pain).await.synced());
        w.ward.sandbox.delete("Observation", &w.at_ehr(pain)[0].id);
        w.settle_down().await;
        let delivery = w.delivery(pain).await;
        assert_eq!(delivery.state, State::Held(HeldReason::GoneAtEhr), "{delivery:?}");
        assert!(!w.observation(pain).await.synced());
        w.tenant.sync_all(w.clock.now(), "admin").await.unwrap();
        w.settle_down().await;
        assert_eq!(w.at_ehr(pain).len(), 0, "it lives again");
        w.nothing_is_silent().await;
    })
    .await;
}

/// HTML or garbage on a read: twice more, then the connection backs off.
#[tokio::test]
async fn garbage_on_a_read_is_read_twice_more_and_then_the_connections_matter() {
    on_each(bare(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::CutAfterCommit, "POST", pain);
        w.work().await;
        w.next(2, Fault::Html200, "GET", pain);
        w.go_on_for(2 * SECOND).await;
        assert_eq!(w.tenant.runtime().await.unwrap().failures, 0, "two pages of HTML are not yet the connection's failure");
        w.is_delivered(pain).await;
        let next = w.observe(patient, "4").await;
        w.next(1, Fault::CutAfterCommit, "POST", next);
        w.work().await;
        w.next(3, Fault::Html200, "GET", next);
        w.clock.forward(2 * SECOND);
        w.work().await;
        assert_eq!(w.tenant.runtime().await.unwrap().failures, 1);
        w.go_on_for(SETTLE + MINUTE).await;
        w.holds(next, "4");
        assert_eq!(w.effects(next).len(), 1);
    })
    .await;
}
