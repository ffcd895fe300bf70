//! A 200 to the first `PUT` of an id of ours: whose place was it?

use crate::world::{on_each, own_id};
use model::{HeldReason, State};
use sandbox::{Fault, Options, Profile, Quirks};
use serde_json::json;

/// A server that answers 200 to a `PUT` that creates (Medplum's router in memory does): its history shows that nothing was there.
#[tokio::test]
async fn a_200_on_a_first_put_is_a_create_where_the_history_has_only_what_we_sent() {
    let options = || Options { quirks: Some(Quirks { put_created_status: 200, ..Quirks::of(Profile::Plain) }), ..own_id() };
    on_each(options(), async |w| {
        let patient = w.patient().await;
        let (first, second) = (w.observe(patient, "3").await, w.observe(patient, "4").await);
        w.settle_down().await;
        for pain in [first, second] {
            w.is_delivered(pain).await;
            assert_eq!(w.effects(pain).len(), 1);
        }
        let third = w.observe(patient, "5").await;
        w.settle_down().await;
        w.is_delivered(third).await;
    })
    .await;
}

/// The same 200 where the history fails just then: what stands there is read, and nothing is sent again.
#[tokio::test]
async fn a_200_on_a_first_put_whose_history_fails_is_looked_at_again() {
    let options = || Options { quirks: Some(Quirks { put_created_status: 200, ..Quirks::of(Profile::Plain) }), ..own_id() };
    on_each(options(), async |w| {
        let patient = w.patient().await;
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::Status503, "GET", pain);
        w.settle_down().await;
        assert_eq!(w.ehr().shown(Fault::Status503), 1, "the history was not asked for");
        w.is_delivered(pain).await;
        assert_eq!(w.effects(pain).len(), 1);
    })
    .await;
}

/// The same 200 at an EHR that has no history: nothing but the status speaks, so a person must see it.
#[tokio::test]
async fn a_200_on_a_first_put_at_an_ehr_without_history_is_a_conflict() {
    let quirks = Quirks { put_created_status: 200, instance_history: false, ..Quirks::of(Profile::Plain) };
    on_each(Options { quirks: Some(quirks), ..own_id() }, async |w| {
        let patient = w.patient().await;
        w.settle_down().await;
        let all = w.listed(store::DeliveryFilter { patient_id: Some(patient), ..store::DeliveryFilter::default() }).await;
        assert_eq!(all.iter().map(|one| one.state).collect::<Vec<_>>(), [State::Held(HeldReason::Conflict)], "{all:?}");
        assert_eq!(w.ehr().requests.get("PUT Patient 200"), Some(&1), "it was sent again");
    })
    .await;
}

/// The same 200 where something was there: the history has what we wrote over, and a person must see it.
#[tokio::test]
async fn a_200_on_a_first_put_is_a_conflict_where_something_was_there() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        let there = json!({"resourceType": "Observation", "id": pain.to_string(), "status": "final", "code": {"text": "Dor"},
            "subject": {"reference": format!("Patient/{}", w.ehr_id(patient).await)}});
        w.ward.sandbox.put_resource(&there.to_string()).unwrap();
        w.settle_down().await;
        let delivery = w.delivery(pain).await;
        assert_eq!(delivery.state, State::Held(HeldReason::Conflict), "{delivery:?}");
    })
    .await;
}
