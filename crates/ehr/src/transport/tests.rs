//! Over real sockets: what is called not sent, lost, or a reply.

use super::*;
use crate::guard::{AllowLocal, Guard, Lookup};
use crate::testing::{request, serve, serve_raw, transport};
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get, post};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

fn class(sent: &Sent) -> Class {
    match sent {
        Sent::NotSent { class, .. } => *class,
        other => panic!("sent after all: {other:?}"),
    }
}

fn cause(sent: &Sent) -> LostCause {
    match sent {
        Sent::Lost { cause, .. } => *cause,
        other => panic!("not lost: {other:?}"),
    }
}

#[tokio::test]
async fn a_redirect_is_a_reply_and_is_not_followed() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reached);
    let target = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { "there" }
    };
    let address = serve(Router::new().route("/from", any(|| async { Redirect::temporary("/to") })).route("/to", any(target))).await;
    for method in [Method::GET, Method::POST] {
        let sent = transport(|_| {}).send(request(method, &format!("http://{address}/from"), "{}")).await;
        assert!(matches!(sent, Sent::Reply(Reply { status: 307, .. })));
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_beyond_the_cap_is_lost_whether_it_says_its_length_or_not() {
    let chunks = || {
        let chunks = futures::stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![b'x'; 10_000]))).take(100);
        Body::from_stream(chunks)
    };
    let address = serve(
        Router::new().route("/whole", any(|| async { vec![b'x'; 1_000_000] })).route("/chunks", any(move || async move { chunks() })),
    )
    .await;
    for path in ["whole", "chunks"] {
        for method in [Method::GET, Method::PUT] {
            let sent = transport(|_| {}).send(request(method, &format!("http://{address}/{path}"), "{}")).await;
            assert_eq!(cause(&sent), LostCause::TooLarge);
        }
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_stopped_at_the_decompressed_size() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..1000 {
        encoder.write_all(&[b'0'; 100_000]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 200_000, "100 MB in {} bytes", bomb.len());
    let address =
        serve(Router::new().route("/", get(move || async move { ([("content-encoding", "gzip")], bomb.clone()).into_response() }))).await;
    let mut asked = request(Method::GET, &format!("http://{address}/"), "");
    asked.max_bytes = 1_000_000;
    assert_eq!(cause(&transport(|_| {}).send(asked).await), LostCause::TooLarge);
}

#[tokio::test]
async fn gzip_is_read() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(b"{\"a\":1.10}").unwrap();
    let body = encoder.finish().unwrap();
    let address =
        serve(Router::new().route("/", get(move || async move { ([("content-encoding", "gzip")], body.clone()).into_response() }))).await;
    let Sent::Reply(reply) = transport(|_| {}).send(request(Method::GET, &format!("http://{address}/"), "")).await else {
        panic!("a reply")
    };
    assert_eq!(&reply.body[..], b"{\"a\":1.10}");
}

#[tokio::test]
async fn a_body_that_drips_hits_the_total_deadline() {
    let drip = || async {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
        });
        Body::from_stream(drops)
    };
    let address = serve(Router::new().route("/", get(drip))).await;
    let mut asked = request(Method::GET, &format!("http://{address}/"), "");
    asked.deadline_ms = 300;
    let started = Instant::now();
    assert_eq!(cause(&transport(|_| {}).send(asked).await), LostCause::Timeout);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let sent = transport(|_| {}).send(request(Method::PUT, &format!("http://{address}/"), "{}")).await;
    assert_eq!(class(&sent), Class::Unreachable);
}

#[tokio::test]
async fn a_server_that_never_speaks_tls_gets_nothing() {
    let (address, _) = serve_raw(|mut stream| {
        Box::pin(async move {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        })
    })
    .await;
    let sent = transport(|_| {}).send(request(Method::PUT, &format!("https://{address}/"), "{}")).await;
    assert!(matches!(class(&sent), Class::Tls | Class::Unreachable));
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_is_not_sent_when_the_deadline_comes() {
    let (address, _) = serve_raw(|mut stream| {
        Box::pin(async move {
            let mut sink = [0u8; 1024];
            while stream.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        })
    })
    .await;
    let mut asked = request(Method::PUT, &format!("https://{address}/"), "{}");
    asked.deadline_ms = 300;
    assert_eq!(class(&transport(|_| {}).send(asked).await), Class::Unreachable);
}

#[tokio::test]
async fn a_line_cut_after_the_request_is_lost() {
    let (address, _) = serve_raw(|mut stream| {
        Box::pin(async move {
            let mut request = [0u8; 4096];
            let _ = stream.read(&mut request).await;
        })
    })
    .await;
    let sent = transport(|_| {}).send(request(Method::PUT, &format!("http://{address}/"), "{}")).await;
    assert_eq!(cause(&sent), LostCause::Cut);
}

#[tokio::test]
async fn a_body_cut_short_and_garbage_are_lost() {
    for answer in [
        &b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\nlocation: Observation/1\r\n\r\n{\"resource"[..],
        b"this is not HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\nabc",
    ] {
        static ANSWER: Mutex<&[u8]> = Mutex::new(b"");
        *ANSWER.lock().unwrap() = answer;
        let (address, _) = serve_raw(|mut stream| {
            let answer = *ANSWER.lock().unwrap();
            Box::pin(async move {
                let mut request = [0u8; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
            })
        })
        .await;
        let sent = transport(|_| {}).send(request(Method::PUT, &format!("http://{address}/"), "{}")).await;
        assert_eq!(cause(&sent), LostCause::Cut);
    }
}

#[tokio::test]
async fn the_last_check_is_asked_with_the_connection_up_and_keeps_the_body_back() {
    let bodies = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&bodies);
    let take = move |_: String| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { "{}" }
    };
    let address = serve(Router::new().route("/", post(take))).await;
    let transport = transport(|_| {});
    for (answer, want) in [(false, 0), (true, 1)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let mut request = request(Method::POST, &format!("http://{address}/"), "{\"a\":1}");
        request.connect_only_if = Some(Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            answer
        }));
        let sent = transport.send(request).await;
        assert_eq!(matches!(sent, Sent::NotSent { withheld: true, .. }), !answer, "{sent:?}");
        assert_eq!((asked.load(Ordering::SeqCst), bodies.load(Ordering::SeqCst)), (1, want));
    }
}

#[tokio::test]
async fn a_withheld_request_sends_not_one_byte() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    static CLOSED: Notify = Notify::const_new();
    let (address, connections) = serve_raw(|mut stream| {
        Box::pin(async move {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            SEEN.fetch_add(all.len(), Ordering::SeqCst);
            CLOSED.notify_one();
        })
    })
    .await;
    let mut asked = request(Method::PUT, &format!("http://{address}/"), "{\"a\":1}");
    asked.connect_only_if = Some(Arc::new(|| false));
    let sent = transport(|_| {}).send(asked).await;
    assert!(matches!(sent, Sent::NotSent { withheld: true, .. }), "{sent:?}");
    CLOSED.notified().await;
    assert_eq!((connections.load(Ordering::SeqCst), SEEN.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn a_gated_body_says_its_length() {
    let echo = |headers: http::HeaderMap, body: String| async move { format!("{:?} {}", headers.get("content-length"), body.len()) };
    let address = serve(Router::new().route("/", post(echo))).await;
    let Sent::Reply(reply) = transport(|_| {}).send(request(Method::POST, &format!("http://{address}/"), "12345")).await else {
        panic!("a reply")
    };
    assert_eq!(&reply.body[..], b"Some(\"5\") 5");
}

#[tokio::test]
async fn an_answer_after_the_deadline_still_comes_and_the_sockets_kept_are_bounded() {
    let go = Arc::new(Notify::new());
    let waiting = Arc::clone(&go);
    let slow = move |_: String| {
        let waiting = Arc::clone(&waiting);
        async move {
            waiting.notified().await;
            (http::StatusCode::CREATED, "{\"late\":true}")
        }
    };
    let address = serve(Router::new().route("/", post(slow))).await;
    let transport = transport(|options| options.late_limit = 1);
    let ask = || {
        let mut asked = request(Method::POST, &format!("http://{address}/"), "{}");
        asked.deadline_ms = 1000;
        asked
    };
    let Sent::Lost { cause: LostCause::Timeout, late: Some(late), .. } = transport.send(ask()).await else { panic!("lost, and kept") };
    let Sent::Lost { late: None, .. } = transport.send(ask()).await else { panic!("one socket is kept, not two") };
    go.notify_waiters();
    let reply = late.wait().await.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (201, &b"{\"late\":true}"[..]));
    let Sent::Lost { late: Some(late), .. } = transport.send(ask()).await else { panic!("the place is free again") };
    drop(late);
}

#[tokio::test]
async fn a_late_answer_that_never_comes_ends_in_none() {
    let address = serve(Router::new().route("/", post(|_: String| async { std::future::pending::<&str>().await }))).await;
    let mut asked = request(Method::POST, &format!("http://{address}/"), "{}");
    asked.deadline_ms = 1000;
    let Sent::Lost { late: Some(late), .. } = transport(|options| options.late_ms = 100).send(asked).await else { panic!("lost") };
    assert!(late.wait().await.is_none());
}

#[tokio::test]
async fn no_forbidden_spelling_reaches_a_listener() {
    let (address, count) = serve_raw(|_| Box::pin(async {})).await;
    let guarded = HttpTransport::new(HttpTransportOptions::new(Guard::new(AllowLocal::No))).unwrap();
    let (port, mut refused) = (address.port(), 0);
    for vector in crate::guard::tests::VECTORS {
        let Ok(mut url) = Url::parse(vector) else { continue };
        if url.host().is_none() || url.port() == Some(0) {
            continue;
        }
        let _ = url.set_port(Some(port));
        // What a reader repairs into a public name is no address of this machine; the guard refuses its spelling alone.
        if Guard::new(AllowLocal::No).check(&url).is_ok() {
            continue;
        }
        refused += 1;
        let mut asked = request(Method::POST, "http://unused/", "{}");
        asked.url = url;
        asked.deadline_ms = 500;
        assert_eq!(class(&guarded.send(asked).await), Class::AddressRefused, "{vector}");
    }
    assert!(refused >= 60, "{refused}");
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

/// A name that turns from a public address to loopback.
struct Rebinding {
    address: SocketAddr,
    turned: AtomicBool,
}

impl Lookup for Rebinding {
    fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let turned = self.turned.load(Ordering::SeqCst);
        let found = if turned { self.address } else { SocketAddr::from(([192, 0, 2, 1], 0)) };
        Box::pin(async move { Ok(vec![if turned { found } else { SocketAddr::from(([8, 8, 8, 8], 0)) }]) })
    }
}

#[tokio::test]
async fn a_name_that_turns_to_a_local_address_is_refused_at_the_connect() {
    let (address, count) = serve_raw(|_| Box::pin(async {})).await;
    let lookup = Arc::new(Rebinding { address, turned: AtomicBool::new(false) });
    let mut options = HttpTransportOptions::new(Guard::new(AllowLocal::No));
    options.lookup = Arc::clone(&lookup) as Arc<dyn Lookup>;
    let guarded = HttpTransport::new(options).unwrap();
    let url = Url::parse(&format!("https://ehr.example.com:{}/", address.port())).unwrap();
    assert!(guarded.admit(url.as_str()).is_ok());
    assert_eq!(guarded.resolve(&url).await.unwrap().len(), 1, "public when it was checked");
    lookup.turned.store(true, Ordering::SeqCst);
    let mut asked = request(Method::POST, "http://unused/", "{}");
    asked.url = url;
    assert_eq!(class(&guarded.send(asked).await), Class::AddressRefused);
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_unknown_name_is_not_sent() {
    struct Nobody;
    impl Lookup for Nobody {
        fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
            Box::pin(async { Err(io::Error::other("marker")) })
        }
    }
    let transport = transport(|options| options.lookup = Arc::new(Nobody));
    let sent = transport.send(request(Method::PUT, "https://ehr.example.com/", "{}")).await;
    assert_eq!(class(&sent), Class::Unreachable);
    assert!(!format!("{sent:?}").contains("marker"));
}

#[tokio::test]
async fn a_certificate_is_judged_and_shown() {
    let (address, root) = crate::transport::tls::tests::tls_server("localhost").await;
    let url = Url::parse(&format!("https://localhost:{}/", address.port())).unwrap();
    struct Here;
    impl Lookup for Here {
        fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
            Box::pin(async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]) })
        }
    }
    let trusting = transport(|options| {
        options.extra_roots = vec![root.clone()];
        options.lookup = Arc::new(Here);
    });
    let probe = trusting.probe(address, &url).await;
    assert_eq!((probe.problem.as_deref(), probe.connected), (None, true));
    assert!(probe.version.is_some_and(|version| version.starts_with("TLSv1_")));
    let certificate = probe.certificate.unwrap();
    assert!(certificate.not_after > 0 && !certificate.issuer.is_empty());
    let mut asked = request(Method::PUT, "http://unused/", "{}");
    asked.url = url.clone();
    let sent = trusting.send(asked.clone()).await;
    assert!(matches!(sent, Sent::Reply(Reply { status: 204, .. })), "{sent:?}");

    let strict = transport(|options| options.lookup = Arc::new(Here));
    let probe = strict.probe(address, &url).await;
    assert!(probe.connected && probe.problem.unwrap().contains("trust") && probe.certificate.is_some());
    assert_eq!(class(&strict.send(asked.clone()).await), Class::Tls);

    let other = Url::parse(&format!("https://other.example.com:{}/", address.port())).unwrap();
    assert!(trusting.probe(address, &other).await.problem.unwrap().contains("another name"));
    asked.url = other;
    assert_eq!(class(&trusting.send(asked).await), Class::Tls);
}

#[test]
fn debug_shows_no_query_header_or_body() {
    let mut asked = request(Method::POST, "https://h/Patient?identifier=marker-cpf", "marker-body");
    crate::auth::bearer(&mut asked.headers, &"marker-token".into()).unwrap();
    let reply = Reply { status: 200, headers: asked.headers.clone(), body: Bytes::from_static(b"marker"), elapsed_ms: 1 };
    assert!(!format!("{asked:?} {reply:?} {:?}", Sent::Reply(reply.clone())).contains("marker"));
}
