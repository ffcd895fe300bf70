//! Kept counters are those of the rows, whatever was written, by however many at once, and whatever was not written.

use crate::house::{NOW, reading};
use crate::ward::{SETTLE, Ward, applied, not_applied, on_each, settlement, unanswered};
use futures::future::{BoxFuture, join_all};
use model::{Class, DeliveryId, State};
use ponte_store::lane::Fenced;
use ponte_store::{Discarded, Error, Replayed, Settlement};

async fn are_right(ward: &Ward, word: &str) {
    let (counted, kept) = ward.counted(NOW).await;
    assert_eq!(kept, counted);
    let (totals, _) = ward.store.fleet().totals(NOW).await.unwrap();
    let totals: Vec<(&str, i64)> = totals.iter().map(|(word, n)| (word.as_str(), *n)).collect();
    assert_eq!(totals, counted);
    assert!(counted.iter().any(|(state, n)| *state == word && *n == 1), "{word} in {counted:?}");
}

#[tokio::test]
async fn each_step_of_a_row_is_counted() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        are_right(&ward, "pending").await;
        let lane = ward.claim(NOW).await.lane;
        let attempt = ward.send(&lane, NOW, delivery).await;
        are_right(&ward, "in_flight").await;
        assert_eq!(lane.settle(NOW, vec![unanswered(delivery, attempt, NOW, NOW)]).await.unwrap(), Fenced::Mine);
        are_right(&ward, "uncertain").await;
        let attempt = ward.send(&lane, NOW, delivery).await;
        are_right(&ward, "in_flight").await;
        assert_eq!(lane.settle(NOW, vec![not_applied(delivery, attempt, NOW)]).await.unwrap(), Fenced::Mine);
        are_right(&ward, "retry_scheduled").await;
        assert_eq!(lane.settle(NOW, vec![settlement(delivery, None, State::Dead)]).await.unwrap(), Fenced::Mine);
        are_right(&ward, "dead").await;
        assert_eq!(ward.tenant.replay(NOW, delivery, "ana").await.unwrap(), Replayed::Again);
        are_right(&ward, "pending").await;
        let attempt = ward.send(&lane, NOW, delivery).await;
        let held = settlement(delivery, Some((attempt, Class::Conflict)), State::Held(model::HeldReason::Conflict));
        assert_eq!(lane.settle(NOW, vec![held]).await.unwrap(), Fenced::Mine);
        are_right(&ward, "held").await;
        assert_eq!(ward.tenant.discard(NOW, delivery, "ana").await.unwrap(), Discarded::Canceled);
        are_right(&ward, "canceled").await;
    })
    .await;
}

#[tokio::test]
async fn what_fails_half_way_leaves_neither_rows_nor_counts_behind() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        let lane = ward.claim(NOW).await.lane;
        let nobodys = DeliveryId(uuid::Uuid::nil());
        let begins = [delivery, nobodys].map(|id| ward.attempt(NOW, id, Some(model::Means::OwnId)));
        assert!(matches!(lane.begin(NOW, begins.to_vec()).await, Err(Error::Corrupt("deliveries"))));
        assert_eq!(ward.delivery(NOW, delivery).await.attempts, []);
        are_right(&ward, "pending").await;

        let attempt = ward.send(&lane, NOW, delivery).await;
        let before = ward.delivery(NOW, delivery).await;
        let settlements = vec![unanswered(delivery, attempt, NOW, NOW), settlement(nobodys, None, State::Dead)];
        assert!(matches!(lane.settle(NOW, settlements).await, Err(Error::Corrupt("deliveries"))));
        assert_eq!(ward.delivery(NOW, delivery).await, before);
        are_right(&ward, "in_flight").await;
    })
    .await;
}

#[tokio::test]
async fn many_who_write_one_patients_rows_at_once_lose_no_count_and_no_place() {
    on_each(async |ward| {
        let patient = ward.linked(&ward.tenant).await;
        let mut made = Vec::new();
        for _ in 0..6 {
            made.push(ward.observe(&ward.tenant, NOW, patient).await);
        }
        let ward = &ward;
        let mut writers: Vec<BoxFuture<'_, ()>> = Vec::new();
        for (n, (id, delivery)) in made.into_iter().enumerate() {
            writers.push(Box::pin(async move {
                ward.observe(&ward.tenant, NOW, patient).await;
            }));
            writers.push(Box::pin(async move {
                let draft = reading(patient, "72514-3", "9");
                ward.tenant.update_observation(NOW, id, 1, draft, None).await.unwrap();
            }));
            if n % 2 == 0 {
                writers.push(Box::pin(async move { assert!(ward.tenant.withdraw_observation(NOW, id).await.unwrap()) }));
            } else {
                writers.push(Box::pin(
                    async move { assert_eq!(ward.tenant.discard(NOW, delivery, "ana").await.unwrap(), Discarded::NotDead) },
                ));
            }
        }
        join_all(writers).await;
        let (counted, kept) = ward.counted(NOW).await;
        assert_eq!(kept, counted);
        let lane = ward.claim(NOW.plus_ms(SETTLE)).await.lane;
        let now = NOW.plus_ms(SETTLE);
        let mut places = Vec::new();
        while let Some(row) = lane.work(now, 8).await.unwrap().first().and_then(|work| work.rows.first().cloned()) {
            let attempt = ward.send(&lane, now, row.id).await;
            let gone = Settlement { ehr_id: None, ehr_version: None, ..applied(row.id, attempt) };
            assert_eq!(lane.settle(now, vec![gone]).await.unwrap(), Fenced::Mine);
            places.push(row.seq);
        }
        assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
        let open = counted.iter().find(|(word, _)| *word == "pending").unwrap().1;
        assert_eq!(places.len(), usize::try_from(open).unwrap());
    })
    .await;
}
