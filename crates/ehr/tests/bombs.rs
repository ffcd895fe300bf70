//! What a hostile EHR may answer: too much, for ever, too slowly, too deep. Each answer ends with a class, within the time and
//! in little memory, and the next request is served. One process, one test at a time, so that its memory can be read.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

use fhir::bundle::BatchEntry;
use fhir::search::Query;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::future::BoxFuture;
use model::{AuthConfig, Class, Clock, Connection, EhrId, MeansPlan, Timestamp};
use ponte_ehr::{AllowLocal, Call, Ehr, EhrPool, Entry, Guard, HttpTransport, HttpTransportOptions, Next, Outcome, Put, Walk};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use testing::Peak;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// As much as one answer may cost at most, above what the process has already.
const MOST_MIB: u64 = 64;
/// Longer than any of it takes on a slow machine; only a hang meets it.
const HANG: Duration = Duration::from_secs(120);
/// For an answer that never ends by itself.
const SHORT_MS: i64 = 1000;
const LONG_MS: i64 = 60_000;

type Hostile = fn(TcpStream) -> BoxFuture<'static, std::io::Result<()>>;

struct Hand;

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}

/// How an EHR is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Read,
    Search,
    Create,
    Update,
    Batch,
    Capabilities,
    Discovery,
    Token,
}

impl Verb {
    /// One of each way through the client: a question, a page of them, a write, a token.
    const WAYS: [Self; 4] = [Self::Read, Self::Search, Self::Update, Self::Token];

    fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Batch)
    }
}

/// Reads one request's head and body; its path.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut seen = Vec::new();
    let mut part = [0u8; 4096];
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return head.split(' ').nth(1).map(str::to_owned);
            }
        }
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => seen.extend_from_slice(&part[..n]),
        }
    }
}

/// An EHR that answers a request for `/good/…` well and every other one with the bomb.
async fn hostile(bomb: Hostile) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Some(path) = request(&mut stream).await else { return };
                if path.starts_with("/good") {
                    let body = r#"{"resourceType":"Observation","id":"o-1","meta":{"versionId":"1"}}"#;
                    let _ =
                        say(&mut stream, &format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
                            .await;
                } else if path.starts_with("/hang") {
                    std::future::pending::<()>().await;
                } else {
                    let _ = bomb(stream).await;
                }
            });
        }
    });
    address
}

async fn say(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await
}

/// A whole answer of this status and body.
async fn whole(mut stream: TcpStream, status: u16, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: application/fhir+json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    say(&mut stream, &head).await?;
    stream.write_all(body).await
}

/// The same bytes, again and again, so many times or until nobody reads any more.
async fn again(stream: &mut TcpStream, bytes: &[u8], times: usize) -> std::io::Result<()> {
    for _ in 0..times {
        stream.write_all(bytes).await?;
    }
    Ok(())
}

/// One item again and again, up to just under the most that is read of an answer; never whole in this process's memory.
async fn filled(mut stream: TcpStream, status: u16, before: &str, item: &str, after: &str) -> std::io::Result<()> {
    let part = format!("{item},").repeat(10_000);
    let times = (16 * 1024 * 1024 - before.len() - item.len() - after.len()) / part.len();
    let length = before.len() + times * part.len() + item.len() + after.len();
    say(&mut stream, &format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{before}")).await?;
    again(&mut stream, part.as_bytes(), times).await?;
    say(&mut stream, &format!("{item}{after}")).await
}

fn gzip(plain: &[u8], times: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..times {
        encoder.write_all(plain).unwrap();
    }
    encoder.finish().unwrap()
}

/// 24 MiB of zeros, a thousand to one: more than is read of any answer.
static PACKED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let packed = gzip(&[b'0'; 65_536], 384);
    assert!(packed.len() * 900 < 384 * 65_536, "{} bytes", packed.len());
    packed
});

fn connection(base: &str, auth: AuthConfig) -> Connection {
    let body = json!({"baseUrl": base, "authType": "basic", "authConfig": {"username": "u", "password": "p"}});
    let Value::Object(body) = body else { unreachable!("an object") };
    Connection { auth, ..Connection::build(&body, None).unwrap().connection }
}

fn basic() -> AuthConfig {
    AuthConfig::Basic { username: "u".into(), password: "p".into() }
}

/// A pool that keeps one late socket, half a second.
fn pool() -> EhrPool {
    let mut options = HttpTransportOptions::new(Guard::new(AllowLocal::All));
    (options.late_ms, options.late_limit) = (500, 1);
    EhrPool::new(Arc::new(HttpTransport::new(options).unwrap()), Arc::new(Hand))
}

fn ehr(pool: &EhrPool, address: SocketAddr, path: &str, verb: Verb) -> Ehr {
    let auth = match verb {
        Verb::Token => AuthConfig::OAuth2 {
            client_id: "c".into(),
            client_secret: "s".into(),
            token_url: format!("http://{address}/token"),
            scope: None,
        },
        _ => basic(),
    };
    pool.ehr(&connection(&format!("http://{address}/{path}"), auth), MeansPlan::default()).unwrap()
}

async fn ask(ehr: &Ehr, verb: Verb, call: &Call) -> Outcome {
    let id = EhrId::new("o-1").unwrap();
    let small = || "{}".to_owned();
    macro_rules! ended {
        ($answer:expr) => {{
            let answer = $answer.await;
            if let Some(late) = answer.late {
                late.wait().await;
            }
            answer.outcome
        }};
    }
    match verb {
        Verb::Read | Verb::Token => ended!(ehr.read("Observation", &id, call)),
        Verb::Search => ended!(ehr.search("Observation", &Query::new(), call)),
        Verb::Create => ended!(ehr.create("Observation", small(), None, call)),
        Verb::Update => ended!(ehr.put("Observation", &id, small(), Put::Update { version: None }, call)),
        Verb::Batch => {
            let raw = serde_json::value::RawValue::from_string(small()).unwrap();
            let entry = BatchEntry::put("urn:uuid:a".to_owned(), "Observation", "o-1", raw, None);
            let interaction = ehr.own_id_create("Observation", &id);
            ended!(ehr.batch(vec![Entry { entry, interaction }], call))
        }
        Verb::Capabilities => ended!(ehr.capabilities(call)),
        Verb::Discovery => ended!(ehr.smart_configuration(call)),
    }
}

/// A hostile answer, and how it may end: for a question, and for a write.
struct Bomb {
    name: &'static str,
    answer: Hostile,
    deadline_ms: i64,
    asked: &'static [Class],
    written: &'static [Class],
}

const fn bomb(name: &'static str, deadline_ms: i64, asked: &'static [Class], answer: Hostile) -> Bomb {
    Bomb { name, answer, deadline_ms, asked, written: &[Class::Uncertain] }
}

/// Broken off by us, so nothing is known; or broken off by the clock, where the machine is too slow for the first.
const TOO_MUCH: &[Class] = &[Class::BadResponse, Class::Unreachable];
const NEVER_ENDS: &[Class] = &[Class::Unreachable];
const NO_GOOD: &[Class] = &[Class::BadResponse, Class::Unreachable, Class::TooLarge];

fn bombs() -> Vec<Bomb> {
    vec![
        bomb("a gigabyte that says its length", LONG_MS, TOO_MUCH, |mut s| {
            Box::pin(async move {
                say(&mut s, "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await?;
                again(&mut s, &[b' '; 65_536], 16_384).await
            })
        }),
        bomb("a gigabyte in chunks", LONG_MS, TOO_MUCH, |mut s| {
            Box::pin(async move {
                say(&mut s, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                let chunk = [&b"10000\r\n"[..], &[b' '; 65_536], b"\r\n"].concat();
                again(&mut s, &chunk, 16_384).await?;
                say(&mut s, "0\r\n\r\n").await
            })
        }),
        bomb("a body without end", LONG_MS, TOO_MUCH, |mut s| {
            Box::pin(async move {
                say(&mut s, "HTTP/1.1 200 OK\r\n\r\n").await?;
                again(&mut s, &[b'x'; 65_536], usize::MAX).await
            })
        }),
        bomb("gzip, a thousand to one", LONG_MS, TOO_MUCH, |mut s| {
            Box::pin(async move {
                let bomb = &*PACKED;
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
                say(&mut s, &head).await?;
                s.write_all(bomb.as_slice()).await
            })
        }),
        // Unpacked once only; what comes out is no JSON.
        bomb("gzip in gzip", LONG_MS, NO_GOOD, |mut s| {
            Box::pin(async move {
                let bomb = gzip(&PACKED, 1);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-encoding: gzip, gzip\r\ncontent-length: {}\r\n\r\n",
                    bomb.len()
                );
                say(&mut s, &head).await?;
                s.write_all(bomb.as_slice()).await
            })
        }),
        bomb("one byte a second", SHORT_MS, NEVER_ENDS, |mut s| {
            Box::pin(async move {
                say(&mut s, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await?;
                loop {
                    s.write_all(b" ").await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            })
        }),
        bomb("headers without end", LONG_MS, NEVER_ENDS, |mut s| {
            Box::pin(async move {
                say(&mut s, "HTTP/1.1 200 OK\r\n").await?;
                again(&mut s, b"x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n", usize::MAX).await
            })
        }),
        bomb("one header without end", LONG_MS, NEVER_ENDS, |mut s| {
            Box::pin(async move {
                say(&mut s, "HTTP/1.1 200 OK\r\nx-a: ").await?;
                again(&mut s, &[b'x'; 65_536], usize::MAX).await
            })
        }),
        bomb("hints without end", SHORT_MS, NEVER_ENDS, |mut s| {
            Box::pin(async move { again(&mut s, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", usize::MAX).await })
        }),
        bomb("a chunk's extension without end", LONG_MS, NEVER_ENDS, |mut s| {
            Box::pin(async move {
                say(&mut s, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;").await?;
                again(&mut s, &[b'x'; 65_536], usize::MAX).await
            })
        }),
        bomb("trailers without end", LONG_MS, NEVER_ENDS, |mut s| {
            Box::pin(async move {
                say(&mut s, "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n").await?;
                again(&mut s, b"x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n", usize::MAX).await
            })
        }),
        bomb("a text of 100 MB", LONG_MS, TOO_MUCH, |mut s| {
            Box::pin(async move {
                say(&mut s, "HTTP/1.1 200 OK\r\n\r\n{\"resourceType\":\"Observation\",\"id\":\"o-1\",\"x\":\"").await?;
                again(&mut s, &[b'x'; 65_536], 1526).await?;
                say(&mut s, "\"}").await
            })
        }),
        bomb("100,000 lists in each other", LONG_MS, NO_GOOD, |s| {
            Box::pin(async move { whole(s, 200, "[".repeat(100_000).as_bytes()).await })
        }),
        bomb("100,000 lists in each other, closed", LONG_MS, NO_GOOD, |s| {
            Box::pin(async move { whole(s, 200, ["[".repeat(100_000), "]".repeat(100_000)].concat().as_bytes()).await })
        }),
        bomb("100,000 objects in each other", LONG_MS, NO_GOOD, |s| {
            Box::pin(async move { whole(s, 200, ["{\"a\":".repeat(100_000), "1".into(), "}".repeat(100_000)].concat().as_bytes()).await })
        }),
    ]
}

/// Answers that are whole, of the right kind, and more than anybody can mean; each verb has its own.
fn crammed() -> Vec<(&'static str, &'static [Verb], Hostile)> {
    use Verb::{Batch, Capabilities, Create, Discovery, Read, Search, Token, Update};
    vec![
        ("a resource of empty lists", &[Read, Update], |s| {
            Box::pin(async move { filled(s, 200, r#"{"resourceType":"Observation","id":"o-1","x":["#, "[]", "]}").await })
        }),
        ("a resource of digits", &[Read, Create], |s| {
            Box::pin(async move { filled(s, 200, r#"{"resourceType":"Observation","id":"o-1","x":["#, "1", "]}").await })
        }),
        ("a resource of names", &[Read], |s| {
            Box::pin(async move { filled(s, 200, r#"{"resourceType":"Observation","id":"o-1","#, r#""a":1"#, "}").await })
        }),
        ("a page of empty entries", &[Search], |s| {
            Box::pin(async move { filled(s, 200, r#"{"resourceType":"Bundle","type":"searchset","entry":["#, "{}", "]}").await })
        }),
        ("a page of warnings", &[Search], |s| {
            Box::pin(async move {
                let entry = r#"{"resource":{"resourceType":"OperationOutcome","issue":[{},{},{},{},{},{},{},{}]}}"#;
                let times = 19_000;
                let body = format!(r#"{{"resourceType":"Bundle","type":"searchset","entry":[{}]}}"#, vec![entry; times].join(","));
                whole(s, 200, body.as_bytes()).await
            })
        }),
        ("a page of one crammed entry", &[Search], |s| {
            Box::pin(async move {
                let before =
                    r#"{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Observation","id":"x","a":["#;
                filled(s, 200, before, "{}", "]}}]}").await
            })
        }),
        ("a batch answer of empty entries", &[Batch], |s| {
            Box::pin(async move { filled(s, 200, r#"{"resourceType":"Bundle","type":"batch-response","entry":["#, "{}", "]}").await })
        }),
        ("a statement of empty lists", &[Capabilities], |s| {
            Box::pin(async move { filled(s, 200, r#"{"resourceType":"CapabilityStatement","rest":["#, "{}", "]}").await })
        }),
        ("a discovery of empty lists", &[Discovery, Token], |s| {
            Box::pin(async move { filled(s, 200, r#"{"token_endpoint":["#, "[]", "]}").await })
        }),
        ("issues without number, with success", &[Read, Update, Search], |s| {
            Box::pin(async move { filled(s, 200, r#"{"resourceType":"OperationOutcome","issue":["#, "{}", "]}").await })
        }),
        ("issues without number, with an error", &[Read, Update, Batch], |s| {
            Box::pin(async move { filled(s, 422, r#"{"resourceType":"OperationOutcome","issue":["#, "{}", "]}").await })
        }),
        ("a text that our JSON library would open", &[Read, Update, Search, Batch, Capabilities, Discovery, Token], |s| {
            Box::pin(async move {
                filled(s, 200, r#"{"resourceType":"CapabilityStatement","x":{"$serde_json::private::RawValue":"["#, "1", r#"]"}}"#).await
            })
        }),
        ("the same with an error", &[Read, Update, Batch], |s| {
            Box::pin(async move {
                filled(s, 422, r#"{"resourceType":"OperationOutcome","x":{"$serde_json::private::RawValue":"["#, "1", r#"]"}}"#).await
            })
        }),
        ("a number that no machine can hold", &[Read, Create, Search, Token], |s| {
            let body =
                r#"{"resourceType":"Observation","id":"o-1","valueQuantity":{"value":1e999999},"total":1e999999,"expires_in":1e999999}"#;
            Box::pin(async move { whole(s, 200, body.as_bytes()).await })
        }),
        ("a number of a megabyte", &[Read, Create, Search, Token], |s| {
            let digits = "9".repeat(1_000_000);
            let body = format!(r#"{{"resourceType":"Observation","id":"o-1","valueQuantity":{{"value":{digits}}},"total":{digits}}}"#);
            Box::pin(async move { whole(s, 200, body.as_bytes()).await })
        }),
    ]
}

/// Asks, and shows that it ended in little memory; the outcome.
async fn detonate(peak: Option<&Peak>, pool: &EhrPool, address: SocketAddr, verb: Verb, deadline_ms: i64, name: &str) -> Outcome {
    let path = if verb == Verb::Token { "good" } else { "fhir" };
    let target = ehr(pool, address, path, verb);
    let call = Call { deadline_ms: Some(deadline_ms), ..Call::default() };
    let own = Peak::watch();
    let outcome = tokio::time::timeout(HANG, ask(&target, verb, &call)).await.unwrap_or_else(|_| panic!("{name}, {verb:?}: it hangs"));
    let grown = own.as_ref().map_or(0, Peak::grown_mib);
    // What a bomb before it left to the allocator must not hide it.
    let in_all = peak.map_or(0, Peak::grown_mib);
    println!("{name}, {verb:?}: {:?}, {grown} MiB, {in_all} MiB in all", outcome.class);
    assert!(in_all <= 2 * MOST_MIB, "{name}, {verb:?}: {in_all} MiB since the first");
    assert!(grown <= MOST_MIB, "{name}, {verb:?}: {grown} MiB");
    let after = ask(&ehr(pool, address, "good", Verb::Read), Verb::Read, &Call::default()).await;
    assert_eq!(after.class, Class::Applied, "{name}, {verb:?}: the next request is not served");
    outcome
}

/// The one place for a late answer is free: a write that hangs gets it.
async fn late_place_is_free(pool: &EhrPool, address: SocketAddr) {
    let call = Call { deadline_ms: Some(500), ..Call::default() };
    let answer = ehr(pool, address, "hang", Verb::Create).create("Observation", "{}".into(), None, &call).await;
    assert!(answer.late.is_some(), "the place of a late answer is not free");
    assert!(answer.late.unwrap().wait().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_takes_for_ever_or_all_memory() {
    LazyLock::force(&PACKED);
    let peak = Peak::watch();
    let peak = peak.as_ref();
    for bomb in bombs() {
        let (pool, address) = (pool(), hostile(bomb.answer).await);
        for verb in Verb::WAYS {
            let outcome = detonate(peak, &pool, address, verb, bomb.deadline_ms, bomb.name).await;
            let may = if verb.writes() { bomb.written } else { bomb.asked };
            assert!(may.contains(&outcome.class), "{}, {verb:?}: {outcome:?}", bomb.name);
        }
        late_place_is_free(&pool, address).await;
    }
    for (name, verbs, answer) in crammed() {
        let (pool, address) = (pool(), hostile(answer).await);
        for verb in verbs.iter().copied() {
            let outcome = detonate(peak, &pool, address, verb, LONG_MS, name).await;
            assert!(!matches!(outcome.class, Class::Internal | Class::AddressRefused), "{name}, {verb:?}: {outcome:?}");
        }
        late_place_is_free(&pool, address).await;
    }
    pages_in_a_circle_end().await;
}

async fn pages_in_a_circle_end() {
    let address = hostile(|s| {
        Box::pin(async move {
            let link = r#"{"relation":"next","url":"/fhir/Observation?page=2"}"#;
            whole(s, 200, format!(r#"{{"resourceType":"Bundle","type":"searchset","link":[{link}]}}"#).as_bytes()).await
        })
    })
    .await;
    let pool = pool();
    let ehr = ehr(&pool, address, "fhir", Verb::Search);
    let mut walk = Walk::new();
    let mut page = ehr.search("Observation", &Query::new(), &Call::default()).await.content.unwrap();
    let mut pages = 1;
    while let Next::Page(url) = page.next {
        if !walk.visit(&url) {
            break;
        }
        page = ehr.next_page(&url, &Call::default()).await.content.unwrap();
        pages += 1;
    }
    assert_eq!(pages, 2);
}
