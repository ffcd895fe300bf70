//! PRODUCT, "Retry": the tenant's schedule, the connection's round and circuit, 429, 401; seen in the attempts and at the EHR.

use crate::gate::{Which, outcome};
use crate::world::{DAY, HOUR, MINUTE, SECOND, Ward, World, bare, conditional, on_each, on_each_with, own_id, script};
use model::{Class, HeldReason, State, Timestamp, WhoseMove};
use sandbox::{Auth, Fault, FaultPlan, OAuth2, Options};
use serde_json::json;

/// The gaps between moments, as whole steps of the schedule: each is `wait` plus 0–10 %.
#[track_caller]
fn gaps_are(times: &[Timestamp], waits: &[i64]) {
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1].ms_since(pair[0])).collect();
    assert_eq!(gaps.len(), waits.len(), "{gaps:?}");
    for (gap, wait) in gaps.iter().zip(waits) {
        assert!((*wait..=wait + wait / 10 + 1).contains(gap), "waits of {gaps:?} ms instead of {waits:?} and 0-10 %");
    }
}

/// The original's example: `maxRetries` 4 waits 1, 2, 4 and 8 s.
#[tokio::test]
async fn four_retries_wait_1_2_4_and_8_seconds_on_the_connections_schedule() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        w.next(4, Fault::Status503Outcome, "PUT", pain);
        w.settle_down().await;
        gaps_are(&w.node.gate.times("PUT", &pain.to_string()), &[1000, 2000, 4000, 8000]);
        let delivery = w.delivery(pain).await;
        let writes: Vec<_> = delivery.attempts.iter().filter(|a| a.means.is_some()).collect();
        gaps_are(&writes.iter().map(|a| a.at).collect::<Vec<_>>(), &[1000, 2000, 4000, 8000]);
        let classes: Vec<_> = writes.iter().map(|a| (a.status, a.class)).collect();
        assert_eq!(classes[..4], [(Some(503), Some(Class::Unavailable)); 4]);
        assert_eq!(classes[4], (Some(201), Some(Class::Applied)));
        assert!(!w.tenant.runtime().await.unwrap().circuit_open, "four failures are within the round");
        w.holds(pain, "3");
    })
    .await;
}

#[tokio::test]
async fn a_rows_own_failures_wait_on_the_same_schedule_and_a_used_up_round_waits_for_the_sweep() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        w.next(4, Fault::Status500, "PUT", pain);
        w.settle_down().await;
        gaps_are(&w.node.gate.times("PUT", &pain.to_string()), &[1000, 2000, 4000, 8000]);
        w.holds(pain, "3");
        assert_eq!(w.tenant.runtime().await.unwrap().failures, 0, "a lost answer is the row's, not the connection's");
        let delivery = w.delivery(pain).await;
        assert!(delivery.attempts.iter().any(|attempt| attempt.message.is_some()), "nobody can read what went wrong");
        assert_eq!(delivery.message, None, "what went wrong stands beside what has arrived");
    })
    .await;
}

/// Its patient is unlinked while nobody knows what became of it: it cannot be sent again, and rests until its attempt has settled.
#[tokio::test]
async fn what_cannot_be_sent_again_rests_until_it_may_be_asked_about() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::CutAfterCommit, "PUT", pain);
        w.work().await;
        w.tenant.link_by_person(w.clock.now(), patient, None, "ana").await.unwrap().unwrap();
        w.go_on_for(5 * SECOND).await;
        let delivery = w.delivery(pain).await;
        let settled = delivery.attempts[0].settle_until.unwrap();
        assert!(settled > w.clock.now());
        assert_eq!(delivery.next_attempt_at, Some(settled.plus_ms(1)), "its lane is claimed again and again: {delivery:?}");
        w.settle_down().await;
        w.holds(pain, "3");
        w.is_delivered(pain).await;
        assert_eq!(w.effects(pain).len(), 1);
    })
    .await;
}

/// Five patients' observations wait for the connection, which has failed once: from now on a probe goes first.
async fn five_wait_and_the_first_request_fails(w: &World) {
    for patient in w.known_patients(5).await {
        w.observe(patient, "3").await;
    }
    // Two in one lane go as a batch.
    for verb in ["PUT", "POST"] {
        w.node.gate.answer(Which::new(verb, "/"), 1, 503, &[], &outcome("transient", "later"));
    }
    let before = w.node.gate.passed().len();
    w.work().await;
    assert_eq!(w.node.gate.passed().len() - before, 1);
    w.node.gate.open();
}

/// … but a probe of which nobody knows what became of it is one: those behind it are not tried meanwhile.
#[tokio::test]
async fn a_probe_without_an_outcome_holds_the_others_back() {
    on_each(own_id(), async |w| {
        five_wait_and_the_first_request_fails(w).await;
        w.faults(FaultPlan::none().always(Fault::Status500));
        let before = w.node.gate.passed().len();
        w.go_on_for(15 * SECOND).await;
        let tried = w.node.gate.passed().len() - before;
        assert_eq!(tried, 1, "nobody knows what became of the first: {:?}", w.node.gate.last(tried));
        w.well();
        w.settle_down().await;
        for (id, _) in w.all_observed() {
            w.is_delivered(id).await;
            assert_eq!(w.effects(id).len(), 1);
        }
    })
    .await;
}

/// … and a probe that is answered, were it with a refusal of the row, keeps nobody waiting.
#[tokio::test]
async fn a_probe_that_refuses_its_row_lets_the_next_try_at_once() {
    on_each(own_id(), async |w| {
        five_wait_and_the_first_request_fails(w).await;
        w.node.gate.answer(Which::new("PUT", "/Observation/"), 1, 422, &[], &outcome("processing", "This one will not do."));
        w.go_on_for(5 * SECOND).await;
        let all = w.all_observed();
        let arrived = all.iter().filter(|(id, _)| !w.effects(*id).is_empty()).count();
        assert_eq!(arrived, all.len() - 1, "all but the refused one");
    })
    .await;
}

/// The connection's one probe is whose turn it is, and goes on at once from who has nothing to ask.
#[tokio::test]
async fn a_probe_that_asked_nothing_keeps_nobody_waiting() {
    on_each_with(own_id(), json!({"batchSize": 1}), async |w| {
        let patients = w.known_patients(9).await;
        let (unlinked, waiting) = patients.split_at(8);
        w.faults(FaultPlan::none().always(Fault::CutAfterCommit));
        for patient in unlinked {
            w.observe(*patient, "3").await;
        }
        w.work().await;
        for (id, _) in w.all_observed().iter().rev().take(unlinked.len()) {
            assert_eq!(w.delivery(*id).await.state, State::Uncertain);
        }
        for patient in unlinked {
            w.tenant.link_by_person(w.clock.now(), *patient, None, "ana").await.unwrap().unwrap();
        }
        // They are all due again by the time at which the connection may be tried.
        w.clock.forward(SECOND / 2);
        let pain = w.observe(waiting[0], "4").await;
        w.next(1, Fault::Status503Outcome, "PUT", pain);
        w.go_on_for(10 * SECOND).await;
        w.holds(pain, "4");
    })
    .await;
}

/// The round is used up: the circuit is open, one probe at a time, and everything goes on as soon as one succeeds.
#[tokio::test]
async fn an_open_circuit_probes_one_at_a_time_and_closes_with_the_first_success() {
    on_each(conditional(), async |w| {
        let patients = w.known_patients(5).await;
        w.faults(FaultPlan::none().always(Fault::Status503Outcome));
        for patient in &patients {
            w.observe(*patient, "3").await;
        }
        let before = w.node.gate.passed().len();
        w.go_on_for(20 * MINUTE).await;
        let runtime = w.tenant.runtime().await.unwrap();
        assert!(runtime.circuit_open && runtime.down_since.is_some(), "{runtime:?}");
        let times: Vec<Timestamp> = w.node.gate.passed()[before..].iter().map(|p| p.at).collect();
        let probes: Vec<i64> = times.windows(2).map(|pair| pair[1].ms_since(pair[0])).collect();
        assert!(probes[5..].iter().all(|gap| *gap >= 30_000), "not one probe at a time: {probes:?}");
        let (pain, _) = *w.observed.lock().unwrap().last().unwrap();
        let delivery = w.delivery(pain).await;
        assert_eq!(delivery.state, State::Held(HeldReason::CircuitOpen), "{delivery:?}");
        assert_eq!(delivery.whose_move(), WhoseMove::Hospital);
        w.nothing_is_silent().await;
        w.well();
        w.settle_down().await;
        assert!(!w.tenant.runtime().await.unwrap().circuit_open);
        for (id, _) in w.all_observed() {
            w.is_delivered(id).await;
            assert_eq!(w.effects(id).len(), 1);
        }
    })
    .await;
}

/// An outage fills no dead letters, whatever the tenant's patience.
#[tokio::test]
async fn an_ehr_that_is_dead_for_longer_than_the_patience_fills_no_dead_letters() {
    for fault in [Fault::Refuse, Fault::Status503RetryAfter] {
        on_each(own_id(), async |w| {
            w.configure(&w.tenant, &w.ward.base, json!({"patience": 2 * HOUR})).await;
            let patients = w.known_patients(3).await;
            w.faults(FaultPlan::none().always(fault));
            for (day, patient) in patients.iter().enumerate() {
                w.observe(*patient, &day.to_string()).await;
                for _ in 0..3 {
                    w.store.fleet().sweep(w.clock.now(), false).await.unwrap();
                    w.go_on_for(HOUR).await;
                }
            }
            let observed = w.all_observed();
            for (id, _) in &observed {
                let state = w.delivery(*id).await.state;
                assert_ne!(state, State::Dead, "an outage filled a dead letter");
            }
            w.nothing_is_silent().await;
            w.well();
            // What the line's last cut left uncertain is asked about; the next hourly sweep begins its new round.
            w.settle_down().await;
            w.store.fleet().sweep(w.clock.now(), false).await.unwrap();
            w.settle_down().await;
            for (id, _) in observed {
                w.is_delivered(id).await;
                assert_eq!(w.effects(id).len(), 1);
            }
        })
        .await;
    }
}

#[tokio::test]
async fn an_address_where_nobody_is_fills_no_dead_letters_either() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        w.node.gate.nobody_there(Which::new("PUT", "/"), 10_000, Class::Unreachable);
        w.node.gate.nobody_there(Which::new("GET", "/"), 10_000, Class::Unreachable);
        let pain = w.observe(patient, "3").await;
        w.go_on_for(DAY).await;
        let delivery = w.delivery(pain).await;
        assert_eq!(delivery.state, State::Held(HeldReason::CircuitOpen), "{delivery:?}");
        w.node.gate.open();
        w.settle_down().await;
        w.holds(pain, "3");
    })
    .await;
}

/// 429: the wait is the EHR's, to the millisecond, and the retry budget is untouched.
#[tokio::test]
async fn a_429_waits_as_long_as_it_says_and_costs_no_budget() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        w.ward.sandbox.change_settings(|s| s.retry_after_s = 47);
        let pain = w.observe(patient, "3").await;
        w.next(7, Fault::Status429, "PUT", pain);
        w.settle_down().await;
        let times = w.node.gate.times("PUT", &pain.to_string());
        let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1].ms_since(pair[0])).collect();
        assert_eq!(gaps, [47_000; 7]);
        let delivery = w.delivery(pain).await;
        assert_eq!(delivery.state, State::Delivered);
        let runtime = w.tenant.runtime().await.unwrap();
        assert_eq!((runtime.failures, runtime.down_total_ms), (0, 0), "throttling is no outage");
        w.holds(pain, "3");
    })
    .await;
}

/// What the EHR took a moment before does not lift the rest that it asks for: of the requests that go together, the last meets a 503.
#[tokio::test]
async fn a_failure_among_good_answers_rests_the_connection_all_the_same() {
    on_each(own_id(), async |w| {
        let patients = w.known_patients(40).await;
        w.ward.sandbox.change_settings(|s| s.retry_after_s = 47);
        w.faults(FaultPlan::none().always(Fault::NoBatch));
        for patient in &patients {
            w.observe(*patient, "2").await;
        }
        w.settle_down().await;
        let mut second = Vec::new();
        // Of those that are due at one moment the highest id goes last: good answers are looked at before the bad one.
        let last = patients.iter().max_by_key(|patient| patient.0).unwrap();
        for patient in &patients {
            let id = w.observe(*patient, "3").await;
            if patient == last {
                w.faults(FaultPlan::none().always(Fault::NoBatch).script(script(1, Fault::Status503RetryAfter, "PUT", id)));
            }
            second.push(id);
        }
        let begun = w.clock.now();
        w.work().await;
        let runtime = w.tenant.runtime().await.unwrap();
        assert_eq!(runtime.failures, 1, "{runtime:?}");
        assert!(runtime.not_before.is_some_and(|at| at.ms_since(begun) >= 47_000), "{runtime:?}");
        assert!(w.tenant.connection().await.unwrap().unwrap().last_error.is_some(), "nobody sees that the EHR asked for a rest");
        w.well();
        w.settle_down().await;
        for id in second {
            w.holds(id, "3");
        }
        assert_eq!(w.tenant.runtime().await.unwrap().failures, 0);
    })
    .await;
}

/// 401: the token is renewed once, then the connection is held, not each row; a new configuration lets everything go on.
#[tokio::test]
async fn a_401_renews_the_token_once_and_refused_credentials_hold_the_connection() {
    for db in testing::databases().await {
        let options = Options { auth: vec![Auth::OAuth2(OAuth2::new("ponte", "right"))], ..own_id() };
        let mut w = crate::world::World::begin(db, own_id(), json!({})).await;
        w.ward = Ward::open(options, &w.clock).await;
        let token_url = w.ward.base.replace("/fhir", "/oauth/token");
        let oauth = |secret: &str| json!({"authType": "oauth2", "authConfig": {"clientId": "ponte", "clientSecret": secret, "tokenUrl": token_url, "scope": "system/*.cruds"}});
        w.configure(&w.tenant, &w.ward.base, oauth("right")).await;
        let patient = w.known_patient().await;
        let tokens = w.ehr().tokens_issued;
        let pain = w.observe(patient, "3").await;
        w.next(1, Fault::TokenRevoked, "PUT", pain);
        w.settle_down().await;
        w.is_delivered(pain).await;
        assert_eq!(w.ehr().tokens_issued, tokens + 1, "one renewal for one 401");
        assert_eq!(w.effects(pain).len(), 1);
        assert_eq!(w.tenant.runtime().await.unwrap().failures, 0);
        w.configure(&w.tenant, &w.ward.base, oauth("wrong")).await;
        let (one, two) = (w.observe(patient, "4").await, w.observe(w.patient().await, "5").await);
        w.settle_down().await;
        let mut tried = 0;
        for id in [one, two] {
            let delivery = w.delivery(id).await;
            assert_eq!(delivery.state, State::Held(HeldReason::CredentialsRefused), "{delivery:?}");
            assert_eq!(delivery.whose_move(), WhoseMove::You);
            tried += delivery.attempts.len();
        }
        // The rows in front show the probes, after one, two and four minutes; nobody is tried by itself.
        assert!(tried <= 4, "each row was tried by itself: {tried}");
        let asked = w.ehr().requests.get("POST token 401").copied().unwrap_or(0);
        assert!((1..20).contains(&asked), "the token endpoint was asked {asked} times");
        w.configure(&w.tenant, &w.ward.base, oauth("right")).await;
        w.settle_down().await;
        w.holds(one, "4");
        w.holds(two, "5");
        w.judge().await;
    }
}

/// A delivery whose own round is used up stays visible; the next hourly sweep begins a new round; it is dead only after `patience`.
#[tokio::test]
async fn a_row_that_fails_by_itself_begins_a_new_round_with_each_sweep_until_its_patience_is_over() {
    on_each(bare(), async |w| {
        w.configure(&w.tenant, &w.ward.base, json!({"patience": 3 * HOUR, "settleTime": 5000})).await;
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        w.node.gate.answer(Which::new("POST", pain), 10_000, 500, &[], "");
        w.go_on_for(20 * MINUTE).await;
        let sent = w.node.gate.count("POST", &pain.to_string());
        assert_eq!(sent, 5, "one try and four retries are a round");
        let delivery = w.delivery(pain).await;
        assert!(matches!(delivery.state, State::Held(HeldReason::NextSweep)), "{delivery:?}");
        for _ in 0..5 {
            w.store.fleet().sweep(w.clock.now(), false).await.unwrap();
            w.go_on_for(HOUR).await;
        }
        let dead = w.delivery(pain).await;
        assert_eq!(dead.state, State::Dead, "{dead:?}");
        assert!(w.node.gate.count("POST", &pain.to_string()) >= 15);
        w.node.gate.open();
        w.tenant.replay(w.clock.now(), dead.id, "admin").await.unwrap();
        w.go_on_for(2 * SECOND).await;
        w.settle_down().await;
        w.holds(pain, "3");
    })
    .await;
}
