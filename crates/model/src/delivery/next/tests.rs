//! Every row of PROTOCOL §3, and for each counterexample of §4 the decision that forbids it.

use super::*;
use proptest::prelude::*;

const S: i64 = 60_000;
const NOW: Timestamp = Timestamp(1_000_000);
const LATER: Timestamp = Timestamp(1_000_000 + S);
const AFTER: Timestamp = Timestamp(1_000_001 + S);

fn facts(version: i64, means: Means) -> Facts {
    Facts {
        version,
        sent_before: true,
        proven_not_applied: false,
        means: Some(means),
        if_match_honoured: true,
        own_settle_until: None,
        read_first: false,
        resource_settle_until: None,
    }
}

fn open(facts: Facts) -> Facts {
    Facts { own_settle_until: Some(LATER), resource_settle_until: Some(LATER), ..facts }
}

fn mark(version: i64, etag: &str) -> Found {
    Found::Version { version, etag: Some(etag.to_owned()) }
}

fn asked(found: Found, now: Timestamp) -> Event {
    Event::Asked { found, now }
}

const LOST: Event = Event::NoAnswer { now: NOW, settle_ms: S };
const ALL_MEANS: [Means; 4] = [Means::OwnId, Means::ConditionalCreate, Means::PlainCreate, Means::Update];

#[test]
fn trace_1_found_is_not_applied_the_version_is_compared() {
    // v1 is there, the PUT of v2 was lost: finding our identifier with v1's mark is not v2 delivered.
    let next = next(State::Uncertain, &facts(2, Means::Update), &asked(mark(1, "1"), AFTER));
    assert_eq!(next.state, State::RetryScheduled);
    assert_eq!(next.action, Action::UpdateWith { etag: Some("1".into()) });
}

#[test]
fn trace_2_settling_belongs_to_the_attempt_and_outlives_a_delivered_repeat() {
    // The repeat was answered, the first attempt is still open: delivered, and read again after it has settled.
    let next = next(State::InFlight, &open(facts(1, Means::OwnId)), &Event::Applied { found: mark(1, "1") });
    assert_eq!(next.state, State::Delivered);
    assert_eq!(next.action, Action::ReadAfter { at: LATER, etag: Some("1".into()) });
}

#[test]
fn trace_3_a_takeover_opens_every_attempt_without_an_outcome_whatever_the_state() {
    let event = Event::TakenOver { now: NOW, settle_ms: S };
    for state in [State::Delivered, State::RetryScheduled, State::Uncertain, State::Dead] {
        let next = next(state, &facts(1, Means::OwnId), &event);
        assert_eq!((next.state, next.settle_until), (state, Some(LATER)));
    }
}

#[test]
fn trace_4_the_settle_time_counts_from_the_loss_or_the_takeover_never_from_the_start() {
    for event in [LOST, Event::TakenOver { now: NOW, settle_ms: S }] {
        assert_eq!(next(State::InFlight, &facts(1, Means::PlainCreate), &event).settle_until, Some(NOW.plus_ms(S)));
    }
}

#[test]
fn traces_5_and_6_an_empty_search_within_the_settle_time_says_nothing() {
    for means in [Means::ConditionalCreate, Means::PlainCreate] {
        for sent_at in [NOW, LATER] {
            let next = next(State::Uncertain, &open(facts(1, means)), &asked(Found::Nothing { sent_at }, AFTER));
            assert_eq!((next.state, next.proven_not_applied), (State::Uncertain, false));
        }
    }
}

#[test]
fn trace_7_only_a_search_sent_after_the_settle_time_counts_not_one_answered_after_it() {
    let early = next(State::Uncertain, &open(facts(1, Means::PlainCreate)), &asked(Found::Nothing { sent_at: LATER }, AFTER.plus_ms(9)));
    assert_eq!(early.state, State::Uncertain);
    let late = next(State::Uncertain, &open(facts(1, Means::PlainCreate)), &asked(Found::Nothing { sent_at: AFTER }, AFTER.plus_ms(9)));
    assert_eq!((late.state, late.proven_not_applied), (State::RetryScheduled, true));
}

#[test]
fn trace_8_a_takeover_makes_in_flight_uncertain() {
    for means in ALL_MEANS {
        let next = next(State::InFlight, &facts(1, means), &Event::TakenOver { now: NOW, settle_ms: S });
        assert_eq!((next.state, next.settle_until), (State::Uncertain, Some(LATER)));
    }
}

#[test]
fn trace_9_after_a_lost_first_attempt_the_etag_is_learnt_anew_before_the_next_write() {
    // (Rule W itself is the engine's selection: see sync::turn.) The read after settling finds v1 over v2: v2 again, reported.
    let next = next(State::Delivered, &facts(2, Means::Update), &asked(mark(1, "3"), AFTER));
    assert_eq!((next.state, next.report_older), (State::RetryScheduled, true));
    assert_eq!(next.action, Action::UpdateWith { etag: Some("3".into()) });
}

#[test]
fn trace_10_a_newer_version_never_overtakes_an_uncertain_one() {
    assert_eq!(next(State::Uncertain, &open(facts(1, Means::OwnId)), &Event::NewerAccepted).state, State::Uncertain);
    assert_eq!(next(State::InFlight, &facts(1, Means::OwnId), &Event::NewerAccepted).state, State::InFlight);
    // Sent, and not proven: it stays. Proven, or never sent: the newer one goes instead.
    assert_eq!(next(State::RetryScheduled, &facts(1, Means::OwnId), &Event::NewerAccepted).state, State::RetryScheduled);
    let proven = Facts { proven_not_applied: true, ..facts(1, Means::OwnId) };
    assert_eq!(next(State::RetryScheduled, &proven, &Event::NewerAccepted).state, State::Superseded);
    let unsent = Facts { sent_before: false, means: None, ..facts(1, Means::OwnId) };
    assert_eq!(next(State::Pending, &unsent, &Event::NewerAccepted).state, State::Superseded);
}

#[test]
fn traces_11_and_13_a_late_answer_never_sets_back_a_known_version() {
    let delivered = facts(1, Means::OwnId);
    for event in [Event::LateFenced, Event::LateApplied { etag: Some("1".into()) }] {
        let next = next(State::Delivered, &delivered, &event);
        assert_eq!(next.state, State::Delivered);
        assert!(!matches!(next.action, Action::KeepEtag { .. }), "{:?}", next.action);
    }
    assert_eq!(next(State::Uncertain, &open(facts(1, Means::OwnId)), &Event::LateFenced).state, State::Uncertain);
}

#[test]
fn trace_12_is_the_lease_check_and_a_frozen_sender_is_uncertain() {
    // What the check withheld is certainly not applied.
    assert_eq!(next(State::InFlight, &facts(1, Means::PlainCreate), &Event::NotApplied).state, State::RetryScheduled);
    // But not if an earlier attempt is still open: then nothing is proven by it.
    let next = next(State::InFlight, &open(facts(1, Means::PlainCreate)), &Event::NotApplied);
    assert_eq!((next.state, next.proven_not_applied), (State::Uncertain, false));
}

#[test]
fn trace_14_the_read_after_settling_keeps_the_etag_found_as_ours() {
    let next = next(State::Delivered, &facts(1, Means::OwnId), &asked(mark(1, "2"), AFTER));
    assert_eq!(next.action, Action::KeepEtag { etag: Some("2".into()) });
}

#[test]
fn trace_15_a_412_is_read_first_never_counted_as_refused() {
    let next_state = next(State::InFlight, &open(facts(2, Means::Update)), &Event::PreconditionFailed { now: NOW });
    assert_eq!((next_state.state, next_state.action), (State::Uncertain, Action::Read));
    assert_eq!(next(State::Uncertain, &open(facts(2, Means::Update)), &asked(mark(2, "2"), NOW)).state, State::Delivered);
}

#[test]
fn trace_16_what_was_deleted_there_is_never_created_again() {
    for state in [State::Uncertain, State::Delivered] {
        assert_eq!(next(state, &facts(1, Means::OwnId), &asked(Found::Deleted, AFTER)).state, State::Held(HeldReason::GoneAtEhr));
    }
}

#[test]
fn trace_17_waiting_rows_still_ask_and_repeat() {
    let turn = Event::Turn { now: NOW };
    assert_eq!(next(State::Uncertain, &open(facts(1, Means::OwnId)), &turn).action, Action::Repeat);
    assert_eq!(next(State::Uncertain, &open(facts(1, Means::Update)), &turn).action, Action::Repeat);
    assert_eq!(next(State::Uncertain, &open(facts(1, Means::ConditionalCreate)), &turn).action, Action::Search);
    // After the settle time somebody may have corrected it: read before the same `PUT` goes again.
    assert_eq!(next(State::Uncertain, &facts(1, Means::OwnId), &Event::Turn { now: AFTER }).action, Action::Read);
}

#[test]
fn trace_15_a_412_is_read_and_not_repeated_although_an_earlier_attempt_is_open() {
    let repeated = open(facts(2, Means::Update));
    assert_eq!(next(State::Uncertain, &repeated, &Event::Turn { now: NOW }).action, Action::Repeat);
    let refused = Facts { read_first: true, ..repeated };
    assert_eq!(next(State::Uncertain, &refused, &Event::Turn { now: NOW }).action, Action::Read);
}

#[test]
fn trace_18_the_body_of_a_200_on_a_conditional_create_is_compared() {
    let older = next(State::InFlight, &facts(2, Means::ConditionalCreate), &Event::Applied { found: mark(1, "7") });
    assert_eq!((older.state, older.action), (State::RetryScheduled, Action::UpdateWith { etag: Some("7".into()) }));
    let foreign = next(State::InFlight, &facts(2, Means::ConditionalCreate), &Event::Applied { found: Found::Foreign });
    assert_eq!(foreign.state, State::Held(HeldReason::Conflict));
}

#[test]
fn without_a_working_if_match_an_older_version_counts_only_after_the_settle_time() {
    let deaf = Facts { if_match_honoured: false, ..open(facts(2, Means::Update)) };
    assert_eq!(next(State::Uncertain, &deaf, &asked(mark(1, "1"), NOW)).state, State::Uncertain);
    assert_eq!(next(State::Uncertain, &deaf, &asked(mark(1, "1"), AFTER)).state, State::RetryScheduled);
}

#[test]
fn a_refusal_of_the_repeat_does_not_bury_the_first() {
    assert_eq!(next(State::InFlight, &open(facts(1, Means::OwnId)), &Event::Refused).state, State::Uncertain);
    assert_eq!(next(State::InFlight, &facts(1, Means::OwnId), &Event::Refused).state, State::Dead);
}

#[test]
fn two_found_are_a_persons_case() {
    for event in [asked(Found::Several, AFTER), Event::SeveralMatch] {
        assert_eq!(next(State::Uncertain, &facts(1, Means::PlainCreate), &event).state, State::Held(HeldReason::MultipleMatches));
    }
}

#[test]
fn a_replay_of_what_may_be_there_asks_first() {
    assert_eq!(next(State::Held(HeldReason::Conflict), &facts(1, Means::PlainCreate), &Event::Replayed).state, State::Uncertain);
    let proven = Facts { proven_not_applied: true, ..facts(1, Means::PlainCreate) };
    assert_eq!(next(State::Dead, &proven, &Event::Replayed).state, State::Pending);
}

#[test]
fn what_was_sent_is_withdrawn_only_by_a_newer_version() {
    assert_eq!(next(State::RetryScheduled, &facts(1, Means::PlainCreate), &Event::Withdrawn).state, State::RetryScheduled);
    assert_eq!(next(State::Uncertain, &facts(1, Means::PlainCreate), &Event::Withdrawn).state, State::Uncertain);
    let unsent = Facts { sent_before: false, means: None, ..facts(1, Means::PlainCreate) };
    assert_eq!(next(State::Pending, &unsent, &Event::Withdrawn).state, State::Canceled);
}

fn any_state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Pending),
        Just(State::InFlight),
        Just(State::RetryScheduled),
        Just(State::Held(HeldReason::Conflict)),
        Just(State::Uncertain),
        Just(State::Delivered),
        Just(State::Dead),
        Just(State::Superseded),
        Just(State::Canceled),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let found = prop_oneof![
        (0i64..4).prop_map(|v| mark(v, "e")),
        Just(Found::Foreign),
        Just(Found::Changed { etag: None }),
        Just(Found::Absent),
        Just(Found::Deleted),
        Just(Found::Several),
        Just(Found::Nothing { sent_at: AFTER }),
    ];
    prop_oneof![
        Just(Event::Turn { now: NOW }),
        Just(Event::NewerAccepted),
        found.clone().prop_map(|found| Event::Applied { found }),
        Just(LOST),
        Just(Event::NotApplied),
        Just(Event::PreconditionFailed { now: NOW }),
        Just(Event::SeveralMatch),
        Just(Event::Refused),
        Just(Event::Denied),
        Just(Event::MeansRefused),
        Just(Event::TakenOver { now: NOW, settle_ms: S }),
        found.prop_map(|found| asked(found, AFTER)),
        Just(Event::LateApplied { etag: None }),
        Just(Event::LateFenced),
        Just(Event::PatienceOver),
    ]
}

proptest! {
    /// No event of the engine wakes what a person or a newer version ended; only delivered rows may go on, by a reading.
    #[test]
    fn ended_is_ended_but_for_a_reading(state in any_state(), event in any_event(), version in 0i64..4) {
        let next = next(state, &facts(version, Means::OwnId), &event);
        if matches!(state, State::Dead | State::Superseded | State::Canceled) {
            prop_assert_eq!(next.state, state);
        }
        if state == State::Delivered && next.state != State::Delivered {
            let reading = matches!(event, Event::Asked { .. });
            prop_assert!(reading, "{:?}", event);
        }
    }

    /// An attempt that nobody knows the outcome of never lets a row be sent again by another request, nor be given up.
    #[test]
    fn an_open_attempt_keeps_a_row_open(event in any_event(), version in 0i64..4) {
        for state in [State::InFlight, State::Uncertain] {
            let next = next(state, &open(facts(version, Means::PlainCreate)), &event);
            let decided = matches!(&event, Event::Applied { .. } | Event::Asked { .. } | Event::SeveralMatch | Event::LateApplied { .. });
            prop_assert!(decided || matches!(next.state, State::InFlight | State::Uncertain), "{:?} -> {:?}", event, next.state);
        }
    }
}
