//! A takeover opens anew whatever the dead owner had sent; what kills the process again and again is not sent for ever.

use crate::house::NOW;
use crate::ward::{LEASE, SETTLE, Ward, applied, not_applied, on_each, settlement, unanswered};
use model::{Class, DeliveryId, State, Timestamp};
use ponte_store::lane::{Fenced, Lane};
use ponte_store::{Replayed, Settlement};

#[tokio::test]
async fn a_takeover_opens_every_attempt_without_outcome_for_a_settle_time_from_now() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        let dead = ward.claim(NOW).await.lane;
        // Three tries of one row: one long settled, one whose time is longer than a takeover's, one that still flies.
        let settled = ward.send(&dead, NOW, delivery).await;
        let over = NOW.plus_ms(10);
        assert_eq!(dead.settle(NOW, vec![unanswered(delivery, settled, NOW, over)]).await.unwrap(), Fenced::Mine);
        let long = ward.send(&dead, NOW, delivery).await;
        let far = NOW.plus_ms(100 * SETTLE);
        assert_eq!(dead.settle(NOW, vec![unanswered(delivery, long, NOW, far)]).await.unwrap(), Fenced::Mine);
        let question = ward.attempt(NOW, delivery, None);
        let asked = question.attempt;
        assert_eq!(dead.begin(NOW, vec![question]).await.unwrap(), Fenced::Mine);
        let flying = ward.send(&dead, NOW, delivery).await;

        let now = NOW.plus_ms(LEASE);
        let claimed = ward.claim(now).await;
        assert!(claimed.taken_over);
        let row = ward.only_row(&claimed.lane, now).await;
        assert_eq!((row.state, row.own_settle_until.map(|until| until.0)), (State::InFlight, Some(i64::MAX)));
        assert_eq!(claimed.lane.take_over(now, SETTLE).await.unwrap(), Fenced::Mine);

        let opened = ward.delivery(now, delivery).await;
        assert_eq!((opened.state, opened.next_attempt_at), (State::Uncertain, Some(now)), "it is asked about at once");
        let stands = |id| {
            let attempt = opened.attempts.iter().find(|attempt| attempt.id == id).unwrap();
            (attempt.class, attempt.settle_until, attempt.duration_ms.is_some())
        };
        assert_eq!(stands(settled), (Some(Class::Uncertain), Some(over), true));
        assert_eq!(stands(long), (Some(Class::Uncertain), Some(far), true), "never shortened");
        assert_eq!(stands(flying), (Some(Class::Uncertain), Some(now.plus_ms(SETTLE)), true));
        assert_eq!(stands(asked), (Some(Class::Uncertain), None, true), "a question opens nothing");
        assert_eq!(ward.only_row(&claimed.lane, now).await.own_settle_until, Some(far));
    })
    .await;
}

#[tokio::test]
async fn a_lane_given_back_with_something_in_the_air_is_taken_over_all_the_same() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        let lane = ward.claim(NOW).await.lane;
        ward.send(&lane, NOW, delivery).await;
        assert_eq!(lane.release(NOW, None).await.unwrap(), Fenced::Mine);
        assert!(ward.claim(NOW).await.taken_over);
    })
    .await;
}

#[tokio::test]
async fn what_is_delivered_is_read_once_more_when_a_takeover_finds_a_try_of_it_open() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        let dead = ward.claim(NOW).await.lane;
        let first = ward.send(&dead, NOW, delivery).await;
        let open = NOW.plus_ms(2 * LEASE);
        assert_eq!(dead.settle(NOW, vec![unanswered(delivery, first, NOW, open)]).await.unwrap(), Fenced::Mine);
        let second = ward.send(&dead, NOW, delivery).await;
        assert_eq!(dead.settle(NOW, vec![applied(delivery, second)]).await.unwrap(), Fenced::Mine);
        let now = NOW.plus_ms(LEASE);
        let claimed = ward.claim(now).await;
        assert_eq!(claimed.lane.take_over(now, SETTLE).await.unwrap(), Fenced::Mine);
        assert_eq!(ward.delivery(now, delivery).await.state, State::Delivered);
        let settled = now.plus_ms(SETTLE + 1);
        assert!(claimed.lane.work(settled.plus_ms(-1), 8).await.unwrap().is_empty());
        assert_eq!(ward.only_row(&claimed.lane, settled).await.audit_at, Some(settled));
    })
    .await;
}

#[tokio::test]
async fn a_claim_counts_until_there_is_an_outcome_and_a_try_only_when_it_failed_by_itself() {
    on_each(async |ward| {
        let (_, delivery) = ward.ready().await;
        let mut now = NOW;
        let mut claimed = ward.claim(now).await;
        for deaths in 1..=2 {
            ward.send(&claimed.lane, now, delivery).await;
            now = now.plus_ms(LEASE);
            claimed = ward.claim(now).await;
            assert_eq!(claimed.lane.take_over(now, SETTLE).await.unwrap(), Fenced::Mine);
            let row = ward.only_row(&claimed.lane, now).await;
            // Two claims without an outcome: the engine sends it alone from now on.
            assert_eq!((row.claims, row.tries, row.round_tries), (deaths, 0, 0));
            assert_eq!(row.due_at, Some(now));
        }
        let lane = claimed.lane;
        let attempt = ward.send(&lane, now, delivery).await;
        let failed = Settlement { counts_try: true, ..not_applied(delivery, attempt, now) };
        assert_eq!(lane.settle(now, vec![failed]).await.unwrap(), Fenced::Mine);
        let row = ward.only_row(&lane, now.plus_ms(SETTLE + 1)).await;
        assert_eq!((row.claims, row.tries, row.round_tries), (0, 1, 1), "an outcome ends the count of claims");
        assert_eq!((row.first_failed_at, row.last_class), (Some(now), Some(Class::Unavailable)));
        let attempt = ward.send(&lane, now, delivery).await;
        assert_eq!(lane.settle(now, vec![not_applied(delivery, attempt, now)]).await.unwrap(), Fenced::Mine);
        let row = ward.only_row(&lane, now.plus_ms(SETTLE + 1)).await;
        assert_eq!((row.tries, row.first_failed_at), (1, Some(now)), "the connection's failures are not the row's");
        let attempt = ward.send(&lane, now, delivery).await;
        let failed = Settlement { counts_try: true, new_round: true, ..not_applied(delivery, attempt, now) };
        assert_eq!(lane.settle(now, vec![failed]).await.unwrap(), Fenced::Mine);
        let row = ward.only_row(&lane, now.plus_ms(SETTLE + 1)).await;
        assert_eq!((row.tries, row.round_tries), (2, 1));
    })
    .await;
}

/// A delivery whose sender died five times, the lane of the sixth owner, and when that one took it over.
async fn killed_five_times(ward: &Ward) -> (DeliveryId, Lane, Timestamp) {
    let (_, delivery) = ward.ready().await;
    let mut now = NOW;
    let mut lane = ward.claim(now).await.lane;
    for _ in 0..5 {
        ward.send(&lane, now, delivery).await;
        now = now.plus_ms(LEASE);
        lane = ward.claim(now).await.lane;
        assert_eq!(lane.take_over(now, SETTLE).await.unwrap(), Fenced::Mine);
    }
    (delivery, lane, now)
}

#[tokio::test]
async fn what_has_killed_the_process_five_times_is_asked_about_and_dead_if_it_is_not_there() {
    on_each(async |ward| {
        let (delivery, lane, now) = killed_five_times(&ward).await;
        let settled = now.plus_ms(SETTLE + 1);
        assert!(lane.work(now, 8).await.unwrap().is_empty(), "it is not repeated");
        let row = ward.only_row(&lane, settled).await;
        assert_eq!((row.claims, row.tries, row.due_at), (5, 0, Some(settled)));

        let question = ward.attempt(settled, delivery, None);
        let asked = question.attempt;
        assert_eq!(lane.begin(settled, vec![question]).await.unwrap(), Fenced::Mine);
        assert_eq!(lane.settle(settled, vec![not_applied(delivery, asked, settled)]).await.unwrap(), Fenced::Mine);
        let dead = ward.delivery(settled, delivery).await;
        assert_eq!((dead.state, dead.next_attempt_at), (State::Dead, None));
        let last = dead.attempts.iter().max_by_key(|attempt| (attempt.at, attempt.id)).unwrap();
        assert_eq!(dead.attempts.iter().filter(|attempt| attempt.class == Some(Class::Internal)).count(), 1, "{last:?}");
        assert!(dead.message.is_some_and(|words| words.contains("stopped Ponte five times")));
        assert_eq!(ward.tenant.dead_letters(settled, &crate::ward::all()).await.unwrap().items.len(), 1);

        // A person's replay begins the count anew, and has it asked about first.
        assert_eq!(ward.tenant.replay(settled, delivery, "ana").await.unwrap(), Replayed::Again);
        let row = ward.only_row(&lane, settled).await;
        assert_eq!((row.state, row.claims, row.backlog), (State::Uncertain, 0, true));
    })
    .await;
}

#[tokio::test]
async fn five_deaths_bury_nothing_that_is_there() {
    on_each(async |ward| {
        let (delivery, lane, now) = killed_five_times(&ward).await;
        let question = ward.attempt(now, delivery, None);
        let asked = question.attempt;
        assert_eq!(lane.begin(now, vec![question]).await.unwrap(), Fenced::Mine);
        let nothing_yet = Settlement { due_at: Some(now), ..settlement(delivery, Some((asked, Class::Applied)), State::Uncertain) };
        assert_eq!(lane.settle(now, vec![nothing_yet]).await.unwrap(), Fenced::Mine);
        assert_eq!(ward.delivery(now, delivery).await.state, State::Uncertain);
        let question = ward.attempt(now, delivery, None);
        let asked = question.attempt;
        assert_eq!(lane.begin(now, vec![question]).await.unwrap(), Fenced::Mine);
        assert_eq!(lane.settle(now, vec![applied(delivery, asked)]).await.unwrap(), Fenced::Mine);
        assert_eq!(ward.delivery(now, delivery).await.state, State::Delivered);
    })
    .await;
}
