//! Each fault seen on the wire and counted once it shows.
#![allow(clippy::unwrap_used)] // the functions around the tests are tests too

mod ward;

use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use sandbox::{Condition, Fault, FaultPlan, Options, Script, Settings};
use serde_json::{Value, json};
use ward::*;

async fn scripted(fault: Fault) -> Ward {
    with(FaultPlan::none().next(fault, 1)).await
}

async fn on(fault: Fault) -> Ward {
    with(FaultPlan::none().always(fault)).await
}

async fn tuned(faults: FaultPlan, settings: Settings) -> Ward {
    ward(Options { faults, settings, ..Options::default() }).await
}

async fn create(ward: &Ward) -> Result<Response, reqwest::Error> {
    ward.create_once("1").timeout(Duration::from_millis(400)).send().await
}

/// What a create meets: its status, or `None` where the line is cut.
async fn met(ward: &Ward, fault: Fault) -> Option<u16> {
    let answer = create(ward).await.ok().map(|answer| status(&answer));
    assert_eq!(ward.sandbox.ledger().shown(fault), 1, "{fault}");
    answer
}

#[tokio::test]
async fn refusing_faults_commit_nothing() {
    for (fault, expected) in [
        (Fault::Refuse, None),
        (Fault::Status500, Some(500)),
        (Fault::Status502, Some(502)),
        (Fault::Status503, Some(503)),
        (Fault::Status503RetryAfter, Some(503)),
        (Fault::Status503Outcome, Some(503)),
        (Fault::Status429, Some(429)),
        (Fault::Hang, None),
        (Fault::Html200, Some(200)),
        (Fault::Html502, Some(502)),
        (Fault::Html404, Some(404)),
        (Fault::CutBeforeCommit, None),
    ] {
        let ward = scripted(fault).await;
        assert_eq!(met(&ward, fault).await, expected, "{fault}");
        assert_eq!(ward.held("1"), 0, "{fault}");
        assert_eq!(create(&ward).await.unwrap().status().as_u16(), 201, "{fault}: the next request is well");
    }
}

#[tokio::test]
async fn faults_after_the_commit_leave_exactly_one_resource() {
    for (fault, expected) in [
        (Fault::CutAfterCommit, None),
        (Fault::HangAfterCommit, None),
        (Fault::GatewayTimeout504, Some(504)),
        (Fault::TruncatedJson, Some(201)),
        (Fault::EmptyBody, Some(201)),
    ] {
        let ward = scripted(fault).await;
        assert_eq!(met(&ward, fault).await, expected, "{fault}");
        assert_eq!(ward.held("1"), 1, "{fault}");
        assert_eq!(create(&ward).await.unwrap().status().as_u16(), 200, "{fault}: the next request finds it");
    }
}

#[tokio::test]
async fn waiting_times_and_bodies_are_as_their_names_say() {
    let ward = scripted(Fault::Status503RetryAfter).await;
    assert_eq!(header(&create(&ward).await.unwrap(), "retry-after"), "1");
    let ward = scripted(Fault::Status429).await;
    let busy = create(&ward).await.unwrap();
    assert_eq!(header(&busy, "retry-after"), "1");
    assert_eq!(body(busy).await["issue"][0]["code"], "throttled");
    let ward = scripted(Fault::Status503).await;
    let bare = create(&ward).await.unwrap();
    assert!(header(&bare, "retry-after").is_empty() && bare.text().await.unwrap().is_empty());
    let ward = scripted(Fault::Html200).await;
    let page = create(&ward).await.unwrap();
    assert_eq!(header(&page, "content-type"), "text/html");
    let ward = scripted(Fault::TruncatedJson).await;
    let text = create(&ward).await.unwrap().text().await.unwrap();
    assert!(text.starts_with('{') && serde_json::from_str::<Value>(&text).is_err());
    let ward = scripted(Fault::EmptyBody).await;
    let empty = create(&ward).await.unwrap();
    assert!(!header(&empty, "location").is_empty() && !header(&empty, "etag").is_empty());
    assert_eq!(empty.text().await.unwrap(), "");
}

#[tokio::test]
async fn html_may_hide_a_commit() {
    let settings = Settings { html_commits: true, ..Settings::default() };
    let ward = tuned(FaultPlan::none().next(Fault::Html502, 1), settings).await;
    assert_eq!(met(&ward, Fault::Html502).await, Some(502));
    assert_eq!(ward.held("1"), 1);
}

#[tokio::test]
async fn a_late_commit_comes_after_the_cut_and_judges_its_condition_then() {
    let hand = Hand::new();
    let ward = ward(Options { clock: hand.clock(), faults: FaultPlan::none().next(Fault::LateCommit, 2), ..Options::default() }).await;
    assert_eq!(met(&ward, Fault::LateCommit).await, None);
    let blind = ward.send(Method::POST, "Observation", &observation("2")).send().await;
    assert!(blind.is_err());
    assert_eq!((ward.held("1"), ward.held("2"), ward.sandbox.late_pending()), (0, 0, 2));
    assert_eq!(status(&create(&ward).await.unwrap()), 201);
    hand.forward(1_999);
    assert_eq!(ward.held("2"), 0);
    hand.forward(1);
    // The conditional one found the resource of the second try; the other commits.
    assert_eq!((ward.held("1"), ward.held("2")), (1, 1));
    let ledger = ward.sandbox.ledger();
    let late: Vec<bool> = ledger.effects.iter().map(|effect| effect.late).collect();
    assert_eq!((late, ledger.late_pending), (vec![false, true], 0));
}

#[tokio::test]
async fn a_batch_that_was_cut_commits_late_and_whole() {
    let hand = Hand::new();
    let ward = ward(Options { clock: hand.clock(), faults: FaultPlan::none().next(Fault::LateCommit, 1), ..Options::default() }).await;
    let sent = batch("batch", vec![post_entry(observation("1")), post_entry(observation("2"))]);
    assert!(ward.send(Method::POST, "", &sent).send().await.is_err());
    assert_eq!(ward.sandbox.ledger().effects.len(), 0);
    hand.forward(2_000);
    ward.sandbox.settle_due();
    assert_eq!((ward.held("1"), ward.held("2")), (1, 1));
}

#[tokio::test]
async fn a_late_commit_comes_by_itself_on_the_wire() {
    let settings = Settings { late_commit_ms: 60, ..Settings::default() };
    let ward = tuned(FaultPlan::none().next(Fault::LateCommit, 1), settings).await;
    assert_eq!(met(&ward, Fault::LateCommit).await, None);
    let deadline = Instant::now() + Duration::from_secs(5);
    while ward.sandbox.late_pending() > 0 {
        assert!(Instant::now() < deadline, "the late commit never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(ward.sandbox.ledger().effects[0].late);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_what_was_read() {
    let settings = Settings { race_delay_ms: 150, ..Settings::default() };
    let ward = tuned(FaultPlan::none().always(Fault::ConditionalCreateRace), settings).await;
    let gone = ward.create_once("1").timeout(Duration::from_millis(50)).send().await;
    assert!(gone.is_err());
    let deadline = Instant::now() + Duration::from_secs(5);
    while ward.held("1") == 0 {
        assert!(Instant::now() < deadline, "the create was given up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_slow_body_drips_and_a_mark_stands_before_it() {
    let settings = Settings { slow_body_ms: 200, ..Settings::default() };
    let ward = tuned(FaultPlan::none().next(Fault::SlowBody, 1).always(Fault::ByteOrderMark).always(Fault::ClockSkew), settings).await;
    let begun = Instant::now();
    let answer = ward.create_once("1").send().await.unwrap();
    let skewed = header(&answer, "date");
    let text = answer.text().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(150));
    assert!(text.starts_with('\u{feff}'));
    let stamp = header(&ward.get("metadata").await, "date");
    assert!(!skewed.is_empty() && stamp.ends_with("GMT"));
    let ledger = ward.sandbox.ledger();
    assert_eq!((ledger.shown(Fault::SlowBody), ledger.shown(Fault::ByteOrderMark), ledger.shown(Fault::ClockSkew)), (1, 2, 2));
}

#[tokio::test]
async fn a_skewed_clock_shows_in_date() {
    let hand = Hand::new();
    let ward = ward(Options { clock: hand.clock(), faults: FaultPlan::none().next(Fault::ClockSkew, 1), ..Options::default() }).await;
    assert_eq!(header(&ward.get("metadata").await, "date"), "Tue, 14 Nov 2023 22:18:20 GMT");
    assert_eq!(header(&ward.get("metadata").await, "date"), "Tue, 14 Nov 2023 22:13:20 GMT");
}

#[tokio::test]
async fn a_batch_answer_may_be_wrong_in_each_way() {
    let two = || batch("batch", vec![post_entry(observation("1")), post_entry(observation("2"))]);
    let ward = with(FaultPlan::none().next(Fault::BatchEntryFails, 3)).await;
    let mut failures = Vec::new();
    for _ in 0..3 {
        let answer = body(ward.post("", &two()).await).await;
        failures.extend(statuses(&answer).into_iter().filter(|status| status != "201"));
    }
    assert_eq!(failures, ["500", "409", "422"]);
    assert_eq!((ward.sandbox.ledger().effects.len(), ward.sandbox.ledger().shown(Fault::BatchEntryFails)), (3, 3));

    let ward = scripted(Fault::BatchWrongCount).await;
    assert_ne!(body(ward.post("", &two()).await).await["entry"].as_array().unwrap().len(), 2);
    let ward2 = scripted(Fault::BatchStatusWithoutDigits).await;
    let answer = body(ward2.post("", &two()).await).await;
    assert_eq!(statuses(&answer).iter().filter(|status| *status == "DEL").count(), 1);
    let ward3 = scripted(Fault::EntriesWithoutResource).await;
    let answer = body(ward3.post("", &two()).await).await;
    assert!(answer["entry"].as_array().unwrap().iter().all(|entry| entry.get("resource").is_none()));
    for (ward, fault) in
        [(&ward, Fault::BatchWrongCount), (&ward2, Fault::BatchStatusWithoutDigits), (&ward3, Fault::EntriesWithoutResource)]
    {
        assert_eq!((ward.sandbox.ledger().effects.len(), ward.sandbox.ledger().shown(fault)), (2, 1), "{fault}");
    }
    let ward = on(Fault::NoBatch).await;
    assert_eq!(status(&ward.post("", &two()).await), 400);
    let ward = tuned(FaultPlan::none().always(Fault::TooManyEntries413), Settings { max_entries: 1, ..Settings::default() }).await;
    assert_eq!(status(&ward.post("", &two()).await), 413);
    assert!(ward.sandbox.ledger().effects.is_empty());
}

#[tokio::test]
async fn a_transaction_with_a_failing_entry_leaves_nothing() {
    let ward = scripted(Fault::BatchEntryFails).await;
    let sent = batch("transaction", vec![post_entry(observation("1")), post_entry(observation("2"))]);
    assert_eq!(status(&ward.post("", &sent).await), 500);
    assert!(ward.sandbox.ledger().effects.is_empty());
    assert!(ids(&ward.search("Observation").await).is_empty());
}

#[tokio::test]
async fn conditional_creates_fail_in_each_way() {
    let ward = on(Fault::NoConditionalCreate).await;
    assert_eq!(met(&ward, Fault::NoConditionalCreate).await, Some(400));

    let ward = on(Fault::IgnoreIfNoneExist).await;
    create(&ward).await.unwrap();
    create(&ward).await.unwrap();
    let ledger = ward.sandbox.ledger();
    assert_eq!((ledger.by_identifier("urn:t", "1").len(), ledger.doubled().len()), (2, 1));
    assert_eq!(ledger.effects[0].condition, Condition::Ignored);

    let settings = Settings { race_delay_ms: 60, ..Settings::default() };
    let ward = tuned(FaultPlan::none().always(Fault::ConditionalCreateRace), settings).await;
    let (one, other) = tokio::join!(create(&ward), create(&ward));
    assert_eq!((status(&one.unwrap()), status(&other.unwrap())), (201, 201));
    let ledger = ward.sandbox.ledger();
    assert_eq!((ledger.effects[1].condition, ledger.shown(Fault::ConditionalCreateRace)), (Condition::Raced, 1));

    let ward = on(Fault::Redirect303).await;
    create(&ward).await.unwrap();
    let elsewhere = create(&ward).await.unwrap();
    assert_eq!(status(&elsewhere), 303);
    assert!(header(&elsewhere, "location").contains("/Observation/"));
    assert_eq!(status(&ward.post("Observation", &observation("1")).await), 303);
    assert_eq!((ward.held("1"), ward.sandbox.ledger().shown(Fault::Redirect303)), (1, 2));
}

#[tokio::test]
async fn updates_fail_in_each_way() {
    for (setting, expected) in [(405, 405), (404, 404), (400, 400)] {
        let settings = Settings { no_update_create_status: setting, ..Settings::default() };
        let ward = tuned(FaultPlan::none().always(Fault::NoUpdateCreate), settings).await;
        assert_eq!(status(&ward.put("Observation/a-1", &with_id(observation("1"), "a-1")).await), expected);
    }
    for (fault, expected) in [(Fault::IfMatchIgnored, 200), (Fault::Precondition409, 409)] {
        let ward = on(fault).await;
        ward.put("Observation/a-1", &with_id(observation("1"), "a-1")).await;
        let stale = ward
            .send(Method::PUT, "Observation/a-1", &with_id(observation("1"), "a-1"))
            .header("if-match", "W/\"9\"")
            .send()
            .await
            .unwrap();
        assert_eq!((status(&stale), ward.sandbox.ledger().shown(fault)), (expected, 1));
    }
}

#[tokio::test]
async fn what_is_stored_may_not_be_what_was_sent() {
    let mut sent = observation("abc");
    sent["extension"] = json!([{"url": "urn:e", "valueString": "x"}]);
    let text = sent.to_string().replace("72", "1.10");
    let post =
        |ward: &Ward| ward.request(Method::POST, "Observation").header("content-type", "application/fhir+json").body(text.clone()).send();
    let ward = on(Fault::DecimalsRounded).await;
    assert!(post(&ward).await.unwrap().text().await.unwrap().contains("\"value\":1.1,"));
    let ward = on(Fault::DropIdentifier).await;
    assert!(body(post(&ward).await.unwrap()).await.get("identifier").is_none());
    // The judge still knows what was sent.
    assert_eq!(ward.held("abc"), 1);
    let ward = on(Fault::IdentifierRecased).await;
    assert_eq!(body(post(&ward).await.unwrap()).await["identifier"][0]["value"], "ABC");
    let ward = on(Fault::DropExtensions).await;
    assert!(body(post(&ward).await.unwrap()).await.get("extension").is_none());
    for fault in [Fault::DecimalsRounded, Fault::DropIdentifier, Fault::IdentifierRecased, Fault::DropExtensions] {
        let ward = on(fault).await;
        post(&ward).await.unwrap();
        assert_eq!(ward.sandbox.ledger().shown(fault), 1, "{fault}");
    }
}

#[tokio::test]
async fn reads_may_hide_things() {
    let ward = on(Fault::DeleteAs404).await;
    ward.put("Observation/a-1", &with_id(observation("1"), "a-1")).await;
    ward.request(Method::DELETE, "Observation/a-1").send().await.unwrap();
    assert_eq!((status(&ward.get("Observation/a-1").await), ward.sandbox.ledger().shown(Fault::DeleteAs404)), (404, 1));

    let ward = on(Fault::NoLastUpdated).await;
    ward.post("Observation", &observation("1")).await;
    let found = ward.search("Observation?_lastUpdated=lt1990").await;
    assert_eq!(ids(&found).len(), 1);
    assert!(found["entry"][0]["resource"]["meta"].get("lastUpdated").is_none());
    assert!(ward.sandbox.ledger().shown(Fault::NoLastUpdated) > 0);

    let ward = on(Fault::Subsetted).await;
    ward.post("Observation", &observation("1")).await;
    let found = ward.search("Observation").await;
    assert_eq!(found["entry"][0]["resource"]["meta"]["tag"][0]["code"], "SUBSETTED");
    assert!(found["entry"][0]["resource"].get("valueQuantity").is_none());
}

#[tokio::test]
async fn a_lagging_index_hides_new_rows_from_searches_and_conditions() {
    let hand = Hand::new();
    let ward = ward(Options { clock: hand.clock(), faults: FaultPlan::none().always(Fault::SearchLag), ..Options::default() }).await;
    create(&ward).await.unwrap();
    assert!(ids(&ward.search("Observation?identifier=urn:t|1").await).is_empty());
    assert_eq!(status(&create(&ward).await.unwrap()), 201);
    hand.forward(1000);
    assert_eq!(ids(&ward.search("Observation?identifier=urn:t|1").await).len(), 2);
    assert_eq!(ward.sandbox.ledger().shown(Fault::SearchLag), 2);
}

#[tokio::test]
async fn searches_mislead_in_each_way() {
    let seeded = |fault: Fault| async move {
        let ward = on(fault).await;
        ward.patient("p1");
        ward.patient("p2");
        for (value, patient) in [("1", "p1"), ("2", "p1"), ("3", "p2")] {
            ward.sandbox.put_resource(&observation_of(value, patient).to_string()).unwrap();
        }
        ward
    };
    let shown = |ward: &Ward, fault: Fault| assert!(ward.sandbox.ledger().shown(fault) > 0, "{fault}");

    let ward = seeded(Fault::IgnoreIdentifier).await;
    let all = ward.search("Observation?identifier=urn:t|none").await;
    assert_eq!(ids(&all).len(), 3);
    assert!(!all["link"][0]["url"].as_str().unwrap().contains("identifier"));
    assert_eq!(status(&ward.create_once("9").send().await.unwrap()), 412);
    shown(&ward, Fault::IgnoreIdentifier);

    let ward = seeded(Fault::EmptySearch).await;
    assert!(ids(&ward.search("Observation?patient=p1").await).is_empty());
    shown(&ward, Fault::EmptySearch);

    let ward = seeded(Fault::TotalLies).await;
    assert_ne!(ward.search("Observation?patient=p1").await["total"].as_u64(), Some(2));
    shown(&ward, Fault::TotalLies);

    let ward = seeded(Fault::WrongPatientRow).await;
    let rows = ward.search("Observation?patient=p1").await;
    let subjects: Vec<&str> =
        rows["entry"].as_array().unwrap().iter().map(|entry| entry["resource"]["subject"]["reference"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["Patient/p1", "Patient/p1", "Patient/p2"]);
    shown(&ward, Fault::WrongPatientRow);

    let ward = seeded(Fault::DuplicatePageRows).await;
    let rows = ids(&ward.search("Observation?patient=p1").await);
    assert_eq!((rows.len(), &rows[0]), (3, &rows[2]));
    shown(&ward, Fault::DuplicatePageRows);

    let ward = seeded(Fault::PartialSearch).await;
    let rows = ward.search("Observation?patient=p1").await;
    assert_eq!(rows["entry"][1]["resource"]["issue"][0]["code"], "suppressed");
    shown(&ward, Fault::PartialSearch);

    let ward = seeded(Fault::RelativeNext).await;
    let link = next(&ward.search("Observation?_count=2").await).unwrap();
    assert!(link.starts_with("Observation?"));
    assert_eq!(ids(&ward.search(&link).await).len(), 1);
    shown(&ward, Fault::RelativeNext);

    let ward = seeded(Fault::ForeignNext).await;
    assert!(next(&ward.search("Observation?_count=2").await).unwrap().starts_with("http://pages.ehr.invalid/fhir/Observation?"));
    shown(&ward, Fault::ForeignNext);

    let ward = seeded(Fault::PageLoop).await;
    let page = ward.search("Observation?_count=2").await;
    let again = body(ward.client.get(next(&page).unwrap()).send().await.unwrap()).await;
    assert_eq!(ids(&page), ids(&again));
    shown(&ward, Fault::PageLoop);

    let ward = seeded(Fault::LinksExpire).await;
    let link = next(&ward.search("Observation?_count=2").await).unwrap();
    assert_eq!(status(&ward.client.get(link).send().await.unwrap()), 410);
    shown(&ward, Fault::LinksExpire);

    let ward = seeded(Fault::RowsChangeWhilePaged).await;
    let before = ward.sandbox.ledger().seq;
    ward.search("Observation?_count=2").await;
    let touched = ward.sandbox.ledger_since(before);
    assert!(touched.effects.iter().all(|effect| effect.by == sandbox::Author::Hospital) && !touched.effects.is_empty());
    shown(&ward, Fault::RowsChangeWhilePaged);

    let ward = seeded(Fault::SearchCache).await;
    assert_eq!(ids(&ward.search("Observation?patient=p1").await).len(), 2);
    ward.post("Observation", &observation_of("4", "p1")).await;
    assert_eq!(ids(&ward.search("Observation?patient=p1").await).len(), 2);
    shown(&ward, Fault::SearchCache);
}

#[tokio::test]
async fn a_script_waits_for_its_method_path_and_identifier() {
    let script = Script {
        fault: Fault::Status500,
        next: 1,
        method: Some("POST".to_owned()),
        path: Some("/fhir/Observation".to_owned()),
        identifier: Some("two".to_owned()),
    };
    let ward = with(FaultPlan::none().script(script)).await;
    assert_eq!(status(&ward.get("Observation?identifier=urn:t|two").await), 200);
    assert_eq!(status(&ward.post("Observation", &observation("one")).await), 201);
    assert_eq!(status(&ward.post("Observation", &observation("two")).await), 500);
    assert_eq!(status(&ward.post("Observation", &observation("two")).await), 201);
}

#[tokio::test]
async fn scripts_of_two_endings_follow_each_other() {
    let ward = with(FaultPlan::none().next(Fault::Status500, 1).next(Fault::Status429, 1)).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(status(&ward.get("Observation").await));
    }
    assert_eq!(seen, [500, 429, 200]);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults_ids_and_effects() {
    let run = |seed: u64| async move {
        let faults = FaultPlan::none().rate(Fault::Status503, 0.2).rate(Fault::CutAfterCommit, 0.2).rate(Fault::LateCommit, 0.1);
        let hand = Hand::new();
        let ward = ward(Options { seed, faults, clock: hand.clock(), ..Options::default() }).await;
        for value in 0..40 {
            let _ = ward.create_once(&value.to_string()).send().await;
            hand.forward(300);
        }
        serde_json::to_string(&ward.sandbox.ledger()).unwrap()
    };
    let (one, again, other) = (run(7).await, run(7).await, run(8).await);
    assert_eq!(one, again);
    assert_ne!(one, other);
    assert!(one.contains("\"status_503\":") && one.contains("\"late\":true"));
}

#[tokio::test]
async fn every_fault_has_a_name_that_reads_back() {
    for fault in Fault::ALL {
        assert_eq!(fault.to_string().parse::<Fault>().unwrap(), *fault);
        assert!(fault.describe().len() > 20, "{fault}");
    }
    assert!("no_such_fault".parse::<Fault>().is_err());
}
