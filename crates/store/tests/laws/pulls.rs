//! Pulls: a watermark moves only at a complete end, a note is kept through deaths, and an old owner stores nothing.

use crate::house::{self, NOW, reading};
use crate::ward::{LEASE, Ward, all, on_each};
use model::{EhrId, PatientId};
use ponte_store::lane::Fenced;
use ponte_store::{ObservationFilter, PullClaim, PullState, PulledObservation, PulledResult};

fn theirs(patient: PatientId, name: &str, version: &str) -> PulledObservation {
    PulledObservation {
        ehr_id: EhrId::new(name).unwrap(),
        ehr_version: version.to_owned(),
        ours: None,
        mark: None,
        draft: reading(patient, "8310-5", "37"),
        more: false,
        resource: format!("{{\"id\":\"{name}\",\"version\":\"{version}\"}}"),
        interpreted: true,
    }
}

async fn claim(ward: &Ward, now: model::Timestamp) -> PullClaim {
    ward.store.fleet().claim_pull(now, "worker", LEASE).await.unwrap().unwrap()
}

async fn state(ward: &Ward, patient: PatientId) -> PullState {
    ward.tenant.pull_state(patient).await.unwrap().unwrap()
}

async fn listed(ward: &Ward) -> usize {
    let filter = ObservationFilter { deleted: true, ..ObservationFilter::default() };
    ward.tenant.observations(NOW, &filter, &all()).await.unwrap().items.len()
}

#[tokio::test]
async fn a_pull_goes_on_from_its_note_and_its_old_owner_stores_nothing_more() {
    on_each(async |ward| {
        let patient = ward.linked(&ward.tenant).await;
        ward.tenant.request_pull(NOW, patient).await.unwrap().unwrap();
        let mut old = claim(&ward, NOW).await;
        assert!(ward.store.fleet().claim_pull(NOW, "other", LEASE).await.unwrap().is_none());
        let (fenced, results) = old.store_page(NOW, vec![theirs(patient, "t-1", "1")], "page 2", LEASE).await.unwrap();
        assert_eq!((fenced, results), (Fenced::Mine, vec![PulledResult::Created]));

        let later = NOW.plus_ms(LEASE);
        let young = claim(&ward, later).await;
        let (_, begun, ..) = young.load().await.unwrap();
        assert_eq!((begun.checkpoint.as_deref(), begun.started_at, begun.created), (Some("page 2"), Some(NOW), 1));

        let rows = vec![theirs(patient, "t-2", "1")];
        assert_eq!(old.store_page(later, rows.clone(), "page 9", LEASE).await.unwrap(), (Fenced::Lost, vec![]));
        assert_eq!(old.renew(later, 100 * LEASE).await.unwrap(), Fenced::Lost);
        let known = ward.tenant.observations(NOW, &ObservationFilter::default(), &all()).await.unwrap().items[0].id;
        assert_eq!(old.mark_gone(later, known).await.unwrap(), Fenced::Lost);
        assert_eq!(old.clone().fail(later, "pull_incomplete", "It broke off.", Some(later)).await.unwrap(), Fenced::Lost);
        assert_eq!(old.finish(later, Some(later), true).await.unwrap(), Fenced::Lost);
        let now = state(&ward, patient).await;
        assert_eq!((now.checkpoint.as_deref(), now.watermark, now.outcome, now.failures), (Some("page 2"), None, None, 0));
        assert_eq!(listed(&ward).await, 1);

        let (fenced, results) = young.store_page(later, rows, "page 3", LEASE).await.unwrap();
        assert_eq!((fenced, results), (Fenced::Mine, vec![PulledResult::Created]));
        assert_eq!(state(&ward, patient).await.created, 2);
        assert_eq!(young.finish(later, Some(NOW), true).await.unwrap(), Fenced::Mine);
        let ended = state(&ward, patient).await;
        assert_eq!((ended.watermark, ended.checkpoint, ended.finished_at), (Some(NOW), None, Some(later)));
        assert_eq!((ended.last_full_at, ended.outcome.as_deref(), ended.waiting), (Some(later), Some("complete"), false));
    })
    .await;
}

#[tokio::test]
async fn a_pull_that_fails_keeps_watermark_and_note_and_only_a_complete_one_moves_them() {
    on_each(async |ward| {
        let patient = ward.linked(&ward.tenant).await;
        ward.tenant.request_pull(NOW, patient).await.unwrap().unwrap();
        assert_eq!(claim(&ward, NOW).await.finish(NOW, Some(NOW), false).await.unwrap(), Fenced::Mine);
        let next = NOW.plus_ms(1000);
        ward.tenant.request_pull(next, patient).await.unwrap().unwrap();
        let pull = claim(&ward, next).await;
        let (fenced, _) = pull.store_page(next, vec![], "page 2", LEASE).await.unwrap();
        assert_eq!(fenced, Fenced::Mine);
        let again = next.plus_ms(500);
        assert_eq!(pull.fail(next, "pull_incomplete", "It broke off.", Some(again)).await.unwrap(), Fenced::Mine);
        let failed = state(&ward, patient).await;
        assert_eq!((failed.watermark, failed.checkpoint.as_deref(), failed.failures), (Some(NOW), Some("page 2"), 1));
        assert_eq!((failed.outcome.as_deref(), failed.message.as_deref()), (Some("pull_incomplete"), Some("It broke off.")));
        assert_eq!(failed.last_full_at, None);
        assert!(ward.store.fleet().claim_pull(next, "worker", LEASE).await.unwrap().is_none());

        let pull = claim(&ward, again).await;
        // An empty note: it begins anew. A server without a clock: the watermark stays.
        let (fenced, _) = pull.store_page(again, vec![], "", LEASE).await.unwrap();
        assert_eq!((fenced, state(&ward, patient).await.checkpoint), (Fenced::Mine, None));
        assert_eq!(pull.finish(again, None, false).await.unwrap(), Fenced::Mine);
        let ended = state(&ward, patient).await;
        assert_eq!((ended.watermark, ended.failures, ended.message), (Some(NOW), 0, None));
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_for_while_a_pull_runs_is_pulled_after_it() {
    on_each(async |ward| {
        let patient = ward.linked(&ward.tenant).await;
        ward.tenant.request_pull(NOW, patient).await.unwrap().unwrap();
        let pull = claim(&ward, NOW).await;
        ward.tenant.request_pull(NOW, patient).await.unwrap().unwrap();
        assert!(ward.store.fleet().claim_pull(NOW, "other", LEASE).await.unwrap().is_none());
        assert_eq!(pull.finish(NOW, Some(NOW), false).await.unwrap(), Fenced::Mine);
        assert!(state(&ward, patient).await.waiting);
        assert_eq!(claim(&ward, NOW).await.finish(NOW, None, false).await.unwrap(), Fenced::Mine);
        assert!(!state(&ward, patient).await.waiting);
    })
    .await;
}

#[tokio::test]
async fn what_another_base_url_showed_is_not_stored_as_what_this_one_shows() {
    on_each(async |ward| {
        let patient = ward.linked(&ward.tenant).await;
        ward.tenant.request_pull(NOW, patient).await.unwrap().unwrap();
        assert_eq!(claim(&ward, NOW).await.finish(NOW, Some(NOW), true).await.unwrap(), Fenced::Mine);
        ward.tenant.request_pull(NOW, patient).await.unwrap().unwrap();
        let pull = claim(&ward, NOW).await;
        ward.configure(&ward.tenant, serde_json::json!({"baseUrl": "https://other.example/fhir"})).await;
        let page = pull.store_page(NOW, vec![theirs(patient, "t-1", "1")], "page 2", LEASE).await.unwrap();
        assert_eq!((page, listed(&ward).await), ((Fenced::Lost, vec![]), 0));
        let moved = state(&ward, patient).await;
        assert_eq!((moved.watermark, moved.checkpoint, moved.last_full_at), (None, None, None));
    })
    .await;
}

#[tokio::test]
async fn a_hospital_whose_pulls_all_wait_keeps_no_other_waiting() {
    on_each(async |ward| {
        for _ in 0..80 {
            let patient = ward.linked(&ward.tenant).await;
            ward.tenant.request_pull(NOW, patient).await.unwrap().unwrap();
        }
        let (small, later) = (house::tenant(&ward.store, "b"), NOW.plus_ms(10));
        ward.configure(&small, serde_json::json!({})).await;
        let theirs = ward.linked(&small).await;
        small.request_pull(later, theirs).await.unwrap().unwrap();

        let great = [claim(&ward, NOW).await, claim(&ward, NOW).await];
        assert!(great.iter().all(|claim| claim.tenant().id() == ward.tenant.id()));
        // The great one has as many as it may: what becomes due next is the small one's.
        let fleet = ward.store.fleet();
        assert!(fleet.claim_pull(NOW, "worker", LEASE).await.unwrap().is_none());
        assert_eq!(fleet.next_due().await.unwrap(), Some(later));
        assert_eq!(claim(&ward, later).await.tenant().id(), small.id());
        assert!(fleet.claim_pull(later, "worker", LEASE).await.unwrap().is_none());
        // A lease that runs out is next.
        assert_eq!(fleet.next_due().await.unwrap(), Some(NOW.plus_ms(LEASE)));

        let [one, _] = great;
        assert_eq!(one.finish(later, None, false).await.unwrap(), Fenced::Mine);
        assert_eq!(fleet.next_due().await.unwrap(), Some(NOW));
        assert_eq!(claim(&ward, later).await.tenant().id(), ward.tenant.id());
    })
    .await;
}
