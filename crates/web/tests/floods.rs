//! What a hostile caller may send: a gigabyte, for ever, too slowly, too many headers, too deep. Each is refused early and in
//! little memory, and the next caller is served. Over TCP, in a process of its own, so that its memory can be read.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

#[path = "api/house.rs"]
#[allow(dead_code, reason = "another test takes the rest of the house")]
mod house;

use house::{House, houses_with, token};
use ponte_web::Role;
use serde_json::Value;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use testing::Peak;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Above what the process has already.
const MOST_MIB: u64 = 64;
/// Only a hang meets it.
const HANG: Duration = Duration::from_secs(120);
const HEAD_TIME: Duration = Duration::from_millis(1500);
/// What the sockets of both sides hold of a body that nobody reads, and no more than that.
const IN_FLIGHT: usize = 24 << 20;

/// A house whose API listens, with little patience.
async fn listening() -> (House, SocketAddr) {
    let house = houses_with(|api| api.body_time = Duration::from_secs(1)).await.remove(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(ponte_web::serve(listener, house.router.clone(), HEAD_TIME, std::future::pending()));
    (house, address)
}

fn head(path: &str, more: &str) -> String {
    let token = token("a", Role::Nurse);
    format!("POST /api/v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{more}\r\n")
}

/// What came back before the line was closed, and how many bytes of the flood were taken.
struct Told {
    text: String,
    sent: usize,
}

impl Told {
    fn status(&self) -> u16 {
        self.text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no answer: {}", self.text))
    }

    fn code(&self) -> String {
        let body = self.text.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str::<Value>(body).unwrap()["code"].as_str().unwrap().to_owned()
    }
}

/// Sends the head, then the part so many times, until the line is closed; `pause` between two of them.
async fn flood(address: SocketAddr, head: &str, part: &[u8], times: usize, pause: Option<Duration>) -> Told {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let answer = tokio::spawn(async move {
        let (mut all, mut part) = (Vec::new(), [0u8; 4096]);
        // A line that is closed upon unread bytes is reset after its answer.
        while let Ok(n @ 1..) = read.read(&mut part).await {
            all.extend_from_slice(&part[..n]);
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    let sending = async {
        let mut sent = 0;
        if write.write_all(head.as_bytes()).await.is_ok() {
            for _ in 0..times {
                match write.write_all(part).await {
                    Ok(()) => sent += part.len(),
                    Err(why) => {
                        assert!(matches!(why.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{why}");
                        break;
                    }
                }
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                if answer.is_finished() {
                    break;
                }
            }
        }
        sent
    };
    let sent = timeout(HANG, sending).await.expect("it takes everything that is sent");
    let text = timeout(HANG, answer).await.expect("the line stays open").unwrap();
    Told { text, sent }
}

/// One caller, whole body.
async fn ask(address: SocketAddr, path: &str, body: &[u8]) -> Told {
    flood(address, &head(path, &format!("connection: close\r\ncontent-length: {}\r\n", body.len())), body, 1, None).await
}

/// One after the other: the memory is the whole process's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_takes_all_memory_or_for_ever() {
    let (_house, address) = listening().await;
    floods(address).await;
    bodies_that_nobody_can_mean_are_a_clear_4xx(address).await;
}

async fn floods(address: SocketAddr) {
    let good = br#"{"name":"Ana Souza","birthDate":"1961-04-02"}"#;
    assert_eq!(ask(address, "/patients", good).await.status(), 201);
    let chunk = [&b"10000\r\n"[..], &[b' '; 65_536], b"\r\n"].concat();
    let plain = vec![b' '; 65_536];
    let (gigabyte, chunked) = ("content-length: 1073741824\r\n", "transfer-encoding: chunked\r\n");
    let peak = Peak::watch();

    for path in ["/patients", "/observations", "/observations/batch"] {
        // Refused by its head alone: the answer does not wait for the body.
        let told = flood(address, &head(path, gigabyte), b"", 0, None).await;
        assert_eq!((told.status(), told.code().as_str()), (413, "body_too_large"), "{path}");
        for (head, part) in [(head(path, gigabyte), &plain), (head(path, chunked), &chunk)] {
            let told = flood(address, &head, part, 16_384, None).await;
            assert_eq!((told.status(), told.code().as_str()), (413, "body_too_large"), "{path}");
            assert!(told.sent < IN_FLIGHT + (17 << 20), "{path}: {} bytes were taken", told.sent);
        }
    }
    // Whoever is not let in sends nothing either.
    let stranger = head("/patients", gigabyte).replace("Bearer ", "Bearer x");
    let told = flood(address, &stranger, &plain, 16_384, None).await;
    assert_eq!((told.status(), told.code().as_str()), (401, "unauthorized"));
    assert!(told.sent < IN_FLIGHT, "{} bytes were taken", told.sent);

    // A body that drips, and one that never comes.
    for part in [&b" "[..], b""] {
        let told = flood(address, &head("/patients", "content-length: 1000\r\n"), part, 1000, Some(Duration::from_millis(100))).await;
        assert_eq!((told.status(), told.code().as_str()), (408, "body_too_slow"));
    }
    // A head that drips, one that stops, and a line on which nothing is asked: closed without an answer.
    let told = flood(address, "GET /health/live HTTP/1.1\r\n", b"x-a: b\r\n", 1000, Some(Duration::from_millis(100))).await;
    assert!(told.text.is_empty() || told.status() == 408, "{}", told.text);
    for begun in ["GET /health/live HTTP/1.1\r\nhost", ""] {
        assert_eq!(flood(address, begun, b"", 0, None).await.text, "");
    }

    // 10,000 headers, one of a megabyte, a target of a megabyte.
    let many = "x-a: b\r\n".repeat(10_000);
    let long = format!("x-a: {}\r\n", "b".repeat(1 << 20));
    for more in [many.as_str(), &long] {
        let told = flood(address, &head("/patients", more), b"", 0, None).await;
        assert_eq!(told.status(), 431);
    }
    let told = flood(address, &head(&format!("/{}", "p".repeat(1 << 20)), ""), b"", 0, None).await;
    assert!((400..500).contains(&told.status()), "{}", told.text);

    if let Some(peak) = peak {
        let grown = peak.grown_mib();
        assert!(grown <= MOST_MIB, "{grown} MiB");
        println!("{grown} MiB at most");
    }
    assert_eq!(ask(address, "/patients", good).await.status(), 201);
}

async fn bodies_that_nobody_can_mean_are_a_clear_4xx(address: SocketAddr) {
    let deep = |levels: usize| ["{\"name\":", &"[".repeat(levels), &"]".repeat(levels), "}"].concat().into_bytes();
    let crammed =
        |item: &str, bytes: usize| format!("{{\"observations\":[{}]}}", vec![item; bytes / (item.len() + 1)].join(",")).into_bytes();
    let bodies: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("/patients", deep(200), 400, "invalid_json"),
        ("/patients", deep(50_000), 400, "invalid_json"),
        ("/patients", "[".repeat(1_000_000).into_bytes(), 413, "body_too_large"),
        ("/patients", br#"{"name":"A","name":"B","birthDate":"1961-04-02"}"#.to_vec(), 400, "invalid_json"),
        ("/patients", br#"{"name":{"a":1,"\u0061":2}}"#.to_vec(), 400, "invalid_json"),
        ("/patients", b"{\"name\":\"\xff\xfe\"}".to_vec(), 400, "invalid_json"),
        ("/patients", b"{\"name\":\"\xed\xa0\x80\"}".to_vec(), 400, "invalid_json"),
        ("/patients", br#"{"name":"\ud800"}"#.to_vec(), 400, "invalid_json"),
        ("/patients", b"\xff\xfe{\x00}\x00".to_vec(), 400, "invalid_json"),
        ("/patients", b"{\"name\":\"a\x00b\"}".to_vec(), 400, "invalid_json"),
        ("/patients", br#"{"name":"a\u0000b","birthDate":"1961-04-02"}"#.to_vec(), 422, "invalid"),
        ("/patients", br#"{"name":1e999999,"birthDate":1e999999}"#.to_vec(), 422, "invalid"),
        ("/patients", format!(r#"{{"name":{}}}"#, "9".repeat(1_000_000)).into_bytes(), 422, "invalid"),
        ("/patients", br#"{"name":{"$serde_json::private::Number":"1"}}"#.to_vec(), 400, "invalid_json"),
        ("/patients", br#"{"name":{"$serde_json::private::RawValue":"{}"}}"#.to_vec(), 400, "invalid_json"),
        ("/observations/batch", crammed("1", 15 << 20), 413, "body_too_large"),
        ("/observations/batch", crammed("{}", 15 << 20), 413, "body_too_large"),
        ("/observations/batch", crammed("[[],[]]", 15 << 20), 413, "body_too_large"),
        ("/observations/batch", crammed(r#"{"a":1,"b":2}"#, 15 << 20), 413, "body_too_large"),
    ];
    for (path, body, status, code) in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let peak = Peak::watch();
        let told = ask(address, path, &body).await;
        assert_eq!(told.status(), status, "{shown}: {}", told.text);
        let known = told.code();
        assert!(known == code || status == 422, "{shown}: {known}");
        if let Some(peak) = peak {
            assert!(peak.grown_mib() <= MOST_MIB, "{shown}: {} MiB", peak.grown_mib());
        }
    }
}
