//! Forbidden addresses by every way that leads into the client: base URL, token URL, next link, redirect, a name's answer.
//! A listener counts who comes: nobody, until the operator allows it.

use super::*;
use crate::guard::tests::VECTORS;
use crate::guard::{AllowLocal, Guard, Lookup, same_origin};
use crate::testing::{HandClock, basic, connection, oauth2, serve, serve_raw};
use crate::transport::{HttpTransport, HttpTransportOptions};
use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::StatusCode;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Names as a hostile DNS answers them.
struct Names {
    /// What each look-up gives, one after the other; the last one for ever.
    answers: Mutex<Vec<Vec<SocketAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    fn giving(answers: &[&[&str]]) -> Arc<Self> {
        let read = |all: &&[&str]| all.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(read).collect()), asked: AtomicUsize::new(0) })
    }
}

impl Lookup for Names {
    fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let found = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { Ok(found) })
    }
}

fn pool(allow: AllowLocal, lookup: Option<Arc<Names>>) -> EhrPool {
    let mut options = HttpTransportOptions::new(Guard::new(allow));
    if let Some(lookup) = lookup {
        options.lookup = lookup;
    }
    EhrPool::new(Arc::new(HttpTransport::new(options).unwrap()), HandClock::at(0))
}

async fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
    serve_raw(|_| Box::pin(async {})).await
}

fn call() -> Call {
    Call { deadline_ms: Some(2000), ..Call::default() }
}

async fn read(ehr: &Ehr) -> Class {
    ehr.read("Observation", &EhrId::new("o-1").unwrap(), &call()).await.outcome.class
}

/// The vector with the listener's port in it, where it has a place for one.
fn aimed(vector: &str, port: u16) -> String {
    let Ok(mut url) = Url::parse(vector) else { return vector.to_owned() };
    // What parsing repairs must stay as it was written.
    let aimed = url.port().is_none() && url.set_port(Some(port)).is_ok() && Guard::default().check_url(url.as_str()).is_err();
    if aimed { url.into() } else { vector.to_owned() }
}

#[tokio::test]
async fn no_forbidden_address_is_dialled_as_base_or_token_url() {
    let (listener, count) = counting().await;
    let pool = pool(AllowLocal::No, None);
    assert!(VECTORS.len() >= 100, "{}", VECTORS.len());
    for vector in VECTORS {
        let url = aimed(vector, listener.port());
        // As it would stand in the database, past what the API refuses already.
        let stored = Connection { base_url: url.clone(), ..connection("https://ehr.example.com/fhir", basic()) };
        let refused = pool.ehr(&stored, MeansPlan::default());
        assert!(refused.is_err(), "{url}");
        let with_token = pool.ehr(&connection("https://ehr.example.com/fhir", oauth2(&url)), MeansPlan::default()).unwrap();
        assert_eq!(read(&with_token).await, Class::AddressRefused, "{url}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn no_next_link_leads_to_another_origin() {
    let (listener, count) = counting().await;
    let link = Arc::new(Mutex::new(String::new()));
    let given = Arc::clone(&link);
    let page = move || {
        let link = serde_json::json!({"relation": "next", "url": *given.lock().unwrap()});
        let body = serde_json::json!({"resourceType": "Bundle", "type": "searchset", "link": [link]}).to_string();
        async move { body }
    };
    let server = serve(Router::new().fallback(any(page))).await;
    let ehr = pool(AllowLocal::All, None).ehr(&connection(&format!("http://{server}/fhir"), basic()), MeansPlan::default()).unwrap();
    let mut links: Vec<String> = VECTORS.iter().map(|vector| aimed(vector, listener.port())).collect();
    links.extend([
        format!("http://{listener}/fhir?page=2"),
        format!("//{listener}/fhir?page=2"),
        format!("http://{server}@{listener}/"),
        format!("http://{listener}#http://{server}/"),
        format!("http:\\\\{listener}\\"),
    ]);
    for url in links {
        *link.lock().unwrap() = url.clone();
        match ehr.search("Observation", &Query::new(), &call()).await.content.unwrap().next {
            Next::Refused(_) | Next::End => {}
            // A text that is no address is a path at the server that sent it.
            Next::Page(next) => assert!(same_origin(&next, ehr.base()), "{url}: {next}"),
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn no_redirect_is_followed_wherever_it_leads() {
    let (listener, count) = counting().await;
    let place = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&place);
    let redirect = move |Path((status, _)): Path<(u16, String)>| {
        let place = told.lock().unwrap().clone();
        async move { redirecting(status, &place) }
    };
    let server = serve(Router::new().route("/{status}/{*rest}", any(redirect))).await;
    let pool = pool(AllowLocal::All, None);
    let mut places: Vec<String> = VECTORS.iter().map(|vector| aimed(vector, listener.port())).collect();
    places.push(format!("http://{listener}/fhir/Observation/o-1"));
    for to in places.iter().filter(|place| http::HeaderValue::from_str(place).is_ok()) {
        *place.lock().unwrap() = to.clone();
        for status in [301, 302, 303, 307, 308] {
            let base = format!("http://{server}/{status}/fhir");
            let ehr = pool.ehr(&connection(&base, basic()), MeansPlan::default()).unwrap();
            assert_eq!(read(&ehr).await, Class::Redirect, "{status} {to}");
            let created = ehr.create("Observation", "{}".to_owned(), None, &call()).await.outcome;
            // 303 may say what is there already; even then nobody goes and looks.
            let named = status == 303 && created.ehr_id.is_some();
            assert!(created.class == Class::Redirect || (created.class == Class::Exists && named), "{status} {to}: {created:?}");
            let token = oauth2(&format!("http://{server}/{status}/token"));
            let ehr = pool.ehr(&connection(&base, token), MeansPlan::default()).unwrap();
            assert_eq!(read(&ehr).await, Class::Redirect, "{status} {to}: token");
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

fn redirecting(status: u16, place: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), [("location", place)]).into_response()
}

#[tokio::test]
async fn no_name_leads_to_a_forbidden_address() {
    let (listener, count) = counting().await;
    let local = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "10.0.0.1", "169.254.169.254", "fd00:ec2::254", "64:ff9b::7f00:1"];
    for ip in local {
        for name in ["ehr.example.com", "127.0.0.1.nip.example", "xn--bcher-kva.example", "localhost", "LOCALHOST.", "a.localhost"] {
            let names = Names::giving(&[&[ip]]);
            let ehr = pool(AllowLocal::No, Some(Arc::clone(&names)))
                .ehr(&connection(&format!("https://{name}:{}/fhir", listener.port()), basic()), MeansPlan::default())
                .unwrap();
            assert_eq!(read(&ehr).await, Class::AddressRefused, "{name} {ip}");
            assert_eq!(names.asked.load(Ordering::SeqCst), 1, "{name} was looked up");
        }
    }
    // The system's own answer for this machine's name.
    for name in ["localhost", "LOCALHOST", "localhost."] {
        let base = format!("https://{name}:{}/fhir", listener.port());
        let ehr = pool(AllowLocal::No, None).ehr(&connection(&base, basic()), MeansPlan::default()).unwrap();
        assert!(matches!(read(&ehr).await, Class::AddressRefused | Class::Unreachable), "{name}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_that_turns_local_after_it_was_good_is_looked_at_again_at_every_connect() {
    let (listener, count) = counting().await;
    // Public for the look that a configuration gets, local for the one that is dialled, and both at once.
    let names = Names::giving(&[&["8.8.8.8"], &["127.0.0.1"]]);
    let mut options = HttpTransportOptions::new(Guard::new(AllowLocal::No));
    options.lookup = Arc::clone(&names) as Arc<dyn Lookup>;
    let transport = Arc::new(HttpTransport::new(options).unwrap());
    let base = format!("https://ehr.example.com:{}/fhir", listener.port());
    assert_eq!(transport.resolve(&Url::parse(&base).unwrap()).await.unwrap().len(), 1, "it was public when it was checked");
    let ehr = EhrPool::new(transport, HandClock::at(0)).ehr(&connection(&base, basic()), MeansPlan::default()).unwrap();
    for _ in 0..3 {
        assert_eq!(read(&ehr).await, Class::AddressRefused);
    }
    assert_eq!((names.asked.load(Ordering::SeqCst), count.load(Ordering::SeqCst)), (4, 0));
}

#[tokio::test]
async fn the_listener_counts_whoever_is_allowed() {
    let (listener, count) = counting().await;
    let port = listener.port();
    let open = pool(AllowLocal::All, None);
    let here = ["127.0.0.1", "2130706433", "0x7f.1", "localhost"];
    for host in here {
        let before = count.load(Ordering::SeqCst);
        for (scheme, auth) in [("http", basic()), ("https", basic()), ("http", oauth2(&format!("http://{host}:{port}/token")))] {
            let ehr = open.ehr(&connection(&format!("{scheme}://{host}:{port}/fhir"), auth), MeansPlan::default()).unwrap();
            let class = read(&ehr).await;
            assert!(!matches!(class, Class::AddressRefused), "{scheme} {host}: {class:?}");
        }
        assert!(count.load(Ordering::SeqCst) >= before + 3, "{host} is not counted");
    }
    // A name of a hostile DNS is no less counted, if local addresses are allowed.
    let before = count.load(Ordering::SeqCst);
    let named = pool(AllowLocal::All, Some(Names::giving(&[&["127.0.0.1"]])));
    let ehr = named.ehr(&connection(&format!("http://ehr.example.com:{port}/fhir"), basic()), MeansPlan::default()).unwrap();
    assert_ne!(read(&ehr).await, Class::AddressRefused);
    assert!(count.load(Ordering::SeqCst) > before);
}
