//! The verbs over real sockets: what is sent, what comes back, where links may lead.

use super::*;
use crate::testing::{HandClock, basic, connection, oauth2, pool, serve};
use axum::Router;
use axum::extract::Request as Got;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use http::StatusCode;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

type Log = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

/// An EHR whose every answer a closure gives, with what it was asked.
async fn ehr_server(answer: impl Fn(&str, usize) -> Response + Clone + Send + Sync + 'static) -> (SocketAddr, Log) {
    let log = Log::default();
    let kept = Arc::clone(&log);
    let handler = move |request: Got| {
        let (kept, answer) = (Arc::clone(&kept), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1_000_000).await.unwrap();
            let line = format!("{} {}", head.method, head.uri);
            let number = {
                let mut kept = kept.lock().unwrap();
                kept.push((line.clone(), head.headers, String::from_utf8(body.to_vec()).unwrap()));
                kept.len() - 1
            };
            answer(&line, number)
        }
    };
    (serve(Router::new().fallback(any(handler))).await, log)
}

fn ehr(address: SocketAddr, plan: MeansPlan) -> Ehr {
    pool(HandClock::at(0)).ehr(&connection(&format!("http://{address}/fhir"), basic()), plan).unwrap()
}

fn fhir(status: u16, body: impl Into<String>) -> Response {
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/fhir+json")], body.into()).into_response()
}

fn id(text: &str) -> EhrId {
    EhrId::new(text).unwrap()
}

fn page(next: Option<&str>) -> Response {
    let link = next.map(|url| format!(r#","link":[{{"relation":"next","url":"{url}"}}]"#)).unwrap_or_default();
    fhir(200, format!(r#"{{"resourceType":"Bundle","type":"searchset"{link}}}"#))
}

const STORED: &str = r#"{"resourceType":"Observation","id":"o-1","meta":{"versionId":"2"}}"#;

#[tokio::test]
async fn a_write_says_who_we_are_what_it_is_and_on_what_condition() {
    let (address, log) = ehr_server(|_, _| fhir(201, STORED)).await;
    let ehr = ehr(address, MeansPlan::default());
    let call = Call { request_id: Some("req-1".into()), ..Call::default() };
    let put = ehr.put("Observation", &id("o-1"), "{\"v\":1.10}".into(), Put::Update { version: Some("7") }, &call).await;
    assert_eq!((put.outcome.class, put.outcome.ehr_version.as_deref()), (Class::Applied, Some("2")));
    assert!(put.outcome.server_date.is_some() && put.elapsed_ms.is_some());
    let created = ehr.create("Observation", "{}".into(), Some(("urn:ponte:observation", "0193-a")), &call).await;
    assert_eq!(created.outcome.class, Class::Applied);
    let log = log.lock().unwrap();
    let (line, headers, body) = &log[0];
    assert_eq!((line.as_str(), body.as_str()), ("PUT /fhir/Observation/o-1", "{\"v\":1.10}"));
    for (name, value) in [
        ("if-match", "W/\"7\""),
        ("accept", "application/fhir+json"),
        ("content-type", "application/fhir+json"),
        ("prefer", "return=representation"),
        ("x-request-id", "req-1"),
        ("authorization", "Basic dTptYXJrZXItcGFzc3dvcmQ="),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(log[1].0, "POST /fhir/Observation");
    assert_eq!(log[1].1["if-none-exist"], "identifier=urn:ponte:observation|0193-a");
}

#[tokio::test]
async fn asking_after_a_loss_forbids_caches_and_asking_strictly_says_so() {
    let (address, log) = ehr_server(|_, _| page(None)).await;
    let query = Query::new().token("identifier", "urn:x", "a+b");
    let call = Call { after_loss: true, strict: true, ..Call::default() };
    let answer = ehr(address, MeansPlan::default()).search("Observation", &query, &call).await;
    assert_eq!(answer.content.unwrap().next, Next::End);
    let log = log.lock().unwrap();
    assert_eq!(log[0].0, "GET /fhir/Observation?identifier=urn%3Ax%7Ca%2Bb");
    assert_eq!((&log[0].1["cache-control"], &log[0].1["prefer"]), (&"no-cache".parse().unwrap(), &"handling=strict".parse().unwrap()));
}

#[tokio::test]
async fn a_post_search_keeps_the_question_out_of_the_url() {
    let (address, log) = ehr_server(|_, _| page(Some("Patient?page=2"))).await;
    let ehr = ehr(address, MeansPlan::default());
    let answer = ehr.post_search("Patient", &Query::new().token("identifier", "cpf", "1"), &Call::default()).await;
    let Some(SearchPage { next: Next::Page(next), .. }) = answer.content else { panic!("a page") };
    assert_eq!(next.path(), "/fhir/Patient", "relative to the type");
    let log = log.lock().unwrap();
    assert_eq!((log[0].0.as_str(), log[0].2.as_str()), ("POST /fhir/Patient/_search", "identifier=cpf%7C1"));
    assert_eq!(log[0].1["content-type"], "application/x-www-form-urlencoded");
}

#[tokio::test]
async fn next_links_are_followed_on_our_origin_only() {
    let elsewhere = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&elsewhere);
    let other = serve(Router::new().fallback(any(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { "" }
    })))
    .await;
    let links = [
        ("Observation?page=2".to_owned(), true),
        ("/fhir?_getpages=x".to_owned(), true),
        ("?page=3".to_owned(), true),
        (format!("http://{other}/fhir/Observation?page=2"), false),
        ("https://evil.example.com/".to_owned(), false),
        ("//evil.example.com/".to_owned(), false),
        ("http://user:pass@127.0.0.1/".to_owned(), false),
        ("file:///etc/passwd".to_owned(), false),
        ("javascript:1".to_owned(), false),
    ];
    for (link, good) in links {
        let answer = link.clone();
        let (address, _) = ehr_server(move |_, number| page((number == 0).then_some(answer.as_str()))).await;
        let ehr = ehr(address, MeansPlan::default());
        let first = ehr.search("Observation", &Query::new(), &Call::default()).await.content.unwrap();
        match first.next {
            Next::Page(url) if good => assert_eq!(ehr.next_page(&url, &Call::default()).await.content.unwrap().next, Next::End),
            Next::Refused(_) if !good => {}
            other => panic!("{link}: {other:?}"),
        }
    }
    assert_eq!(elsewhere.load(Ordering::SeqCst), 0);
}

#[test]
fn an_http_link_of_a_server_behind_a_tls_proxy_means_the_same_server() {
    let url = |text: &str| Url::parse(text).unwrap();
    let transport = crate::testing::transport(|_| {});
    let next = |link: &str| {
        walk::next(Some(link), &url("https://ehr.example.com/fhir/Observation"), &url("https://ehr.example.com/fhir"), transport.as_ref())
    };
    assert_eq!(next("http://ehr.example.com/fhir?p=2"), Next::Page(url("https://ehr.example.com/fhir?p=2")));
    assert_eq!(next("http://ehr.example.com:8080/fhir?p=2"), Next::Refused(Refusal::OtherOrigin));
    let mut walk = Walk::new();
    assert!(walk.visit(&url("https://h/a")) && !walk.visit(&url("https://h/a")));
}

#[tokio::test]
async fn a_page_that_is_no_bundle_is_never_an_empty_list() {
    for body in ["<html></html>", "", r#"{"resourceType":"OperationOutcome"}"#, r#"{"resourceType":"Bundle","type":"collection"}"#] {
        let (address, _) = ehr_server(move |_, _| fhir(200, body)).await;
        let answer = ehr(address, MeansPlan::default()).search("Observation", &Query::new(), &Call::default()).await;
        assert_eq!(answer.outcome.class, Class::BadResponse, "{body}");
        assert!(answer.content.is_none());
    }
}

fn batch_of_two(ehr: &Ehr) -> Vec<Entry> {
    let raw = || serde_json::value::RawValue::from_string("{}".into()).unwrap();
    let entry = |n: &str| Entry {
        entry: BatchEntry::put(format!("urn:uuid:{n}"), "Observation", n, raw(), None),
        interaction: ehr.own_id_create("Observation", &id(n)),
    };
    vec![entry("a"), entry("b")]
}

#[tokio::test]
async fn a_batch_is_judged_entry_by_entry_and_a_strange_answer_leaves_all_uncertain() {
    let good = r#"{"resourceType":"Bundle","type":"batch-response","entry":[{"response":{"status":"201 Created","etag":"W/\"1\""}},{"response":{"status":"422"}}]}"#;
    let short = r#"{"resourceType":"Bundle","type":"batch-response","entry":[{"response":{"status":"201"}}]}"#;
    for (status, body, whole, entries) in [
        (200, good, Class::Applied, Some([Class::Applied, Class::Validation])),
        (422, good, Class::Applied, Some([Class::Applied, Class::Validation])),
        (200, short, Class::Uncertain, None),
        (200, r#"{"resourceType":"Bundle","type":"searchset"}"#, Class::Uncertain, None),
        (200, r#"{"resourceType":"Reference"}"#, Class::Uncertain, None),
        (200, "<html>", Class::Uncertain, None),
        (500, "", Class::Uncertain, None),
        (404, "", Class::MeansRefused, None),
        (413, "", Class::TooLarge, None),
    ] {
        let (address, log) = ehr_server(move |_, _| fhir(status, body)).await;
        let ehr = ehr(address, MeansPlan::default());
        let answer = ehr.batch(batch_of_two(&ehr), &Call::default()).await;
        let classes: Option<Vec<Class>> = answer.content.map(|all| all.iter().map(|one| one.class).collect());
        assert_eq!((answer.outcome.class, classes), (whole, entries.map(Vec::from)), "{status} {body}");
        assert_eq!(log.lock().unwrap()[0].0, "POST /fhir");
    }
}

#[tokio::test]
async fn a_401_is_answered_by_one_renewal_and_then_holds_the_connection() {
    for (heals, class, requests, renewals) in [(true, Class::Applied, 2, 2), (false, Class::AuthToken, 2, 2)] {
        let (tokens, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (given, counted) = (Arc::clone(&tokens), Arc::clone(&asked));
        let token = move || {
            let number = given.fetch_add(1, Ordering::SeqCst);
            async move { format!(r#"{{"access_token":"t{number}","expires_in":300}}"#) }
        };
        let fhir_side = move |headers: HeaderMap| {
            counted.fetch_add(1, Ordering::SeqCst);
            let good = heals && headers["authorization"] == "Bearer t1";
            async move { if good { fhir(201, STORED) } else { fhir(401, "") } }
        };
        let address = serve(Router::new().route("/token", post(token)).fallback(any(fhir_side))).await;
        let connection = connection(&format!("http://{address}/fhir"), oauth2(&format!("http://{address}/token")));
        let ehr = pool(HandClock::at(0)).ehr(&connection, MeansPlan::default()).unwrap();
        let answer = ehr.put("Observation", &id("o-1"), "{}".into(), Put::OwnId, &Call::default()).await;
        assert_eq!(answer.outcome.class, class);
        assert_eq!((asked.load(Ordering::SeqCst), tokens.load(Ordering::SeqCst)), (requests, renewals));
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let (address, log) =
        ehr_server(|line, _| if line.contains("/token") { fhir(400, r#"{"error":"invalid_scope"}"#) } else { fhir(201, STORED) }).await;
    let connection = connection(&format!("http://{address}/fhir"), oauth2(&format!("http://{address}/token")));
    let ehr = pool(HandClock::at(0)).ehr(&connection, MeansPlan::default()).unwrap();
    let answer = ehr.create("Observation", "{}".into(), None, &Call::default()).await;
    assert_eq!((answer.outcome.class, answer.outcome.status), (Class::AuthToken, Some(400)));
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn metadata_and_discovery_are_asked_without_credentials_and_metadata_with_them_where_it_is_closed() {
    let (address, log) = ehr_server(|line, number| match (line, number) {
        ("GET /fhir/metadata", 0) => fhir(401, ""),
        ("GET /fhir/metadata", _) => fhir(200, r#"{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1"}"#),
        _ => fhir(200, r#"{"token_endpoint":"oauth/token","token_endpoint_auth_methods_supported":["client_secret_basic"]}"#),
    })
    .await;
    let ehr = ehr(address, MeansPlan::default());
    let claims = ehr.capabilities(&Call::default()).await.content.unwrap();
    assert_eq!(claims.fhir_version.as_deref(), Some("4.0.1"));
    let smart = ehr.smart_configuration(&Call::default()).await.content.unwrap();
    assert_eq!((smart.wants_basic(), smart.token_endpoint), (Some(true), Some(format!("http://{address}/fhir/oauth/token"))));
    let log = log.lock().unwrap();
    let with: Vec<bool> = log.iter().map(|(_, headers, _)| headers.contains_key("authorization")).collect();
    assert_eq!(with, [false, true, false]);
    assert_eq!(log[2].0, "GET /fhir/.well-known/smart-configuration");
}

#[tokio::test]
async fn a_late_answer_is_classified_like_any_other() {
    let go = Arc::new(tokio::sync::Notify::new());
    let waiting = Arc::clone(&go);
    let address = serve(Router::new().fallback(any(move || {
        let waiting = Arc::clone(&waiting);
        async move {
            waiting.notified().await;
            fhir(201, STORED)
        }
    })))
    .await;
    let ehr = ehr(address, MeansPlan::default());
    let call = Call { deadline_ms: Some(1000), ..Call::default() };
    let answer = ehr.create("Observation", "{}".into(), None, &call).await;
    assert_eq!(answer.outcome.class, Class::Uncertain);
    go.notify_one();
    let late = answer.late.unwrap().wait().await.unwrap();
    assert_eq!((late.outcome.class, late.outcome.ehr_id), (Class::Applied, Some(id("o-1"))));
}

#[tokio::test]
async fn the_rate_of_a_connection_holds_over_all_its_handles() {
    let (address, _) = ehr_server(|_, _| fhir(200, STORED)).await;
    let pool = pool(HandClock::at(0));
    let mut connection = connection(&format!("http://{address}/fhir"), basic());
    connection.max_requests_per_second = Some(20);
    let started = Instant::now();
    for _ in 0..6 {
        let ehr = pool.ehr(&connection, MeansPlan::default()).unwrap();
        assert!(ehr.read("Observation", &id("o-1"), &Call::default()).await.outcome.ok());
    }
    assert!(started.elapsed() >= Duration::from_millis(240), "five waits of 50 ms");
}

#[tokio::test]
async fn a_base_that_the_guard_refuses_gives_no_ehr_and_debug_shows_no_secret() {
    let pool = pool(HandClock::at(0));
    let refused = pool.ehr(&connection("https://169.254.169.254/fhir", basic()), MeansPlan::default());
    assert_eq!(refused.unwrap_err(), Refusal::Never);
    let ehr = pool.ehr(&connection("https://h.example.com/fhir", oauth2("https://h.example.com/t")), MeansPlan::default()).unwrap();
    assert!(!format!("{ehr:?} {pool:?}").contains("marker"));
}
