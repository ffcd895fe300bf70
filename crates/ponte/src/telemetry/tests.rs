//! What may and what may not stand in a log line.

use super::Verbosity;
use super::line::{Fields, Lines, human_line, json_line};
use super::scrub::scrub;
use model::Timestamp;
use std::sync::{Arc, Mutex};
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

#[test]
fn a_national_identifier_a_phone_and_a_query_never_pass() {
    for (text, marker) in [
        ("patient 529.982.247-25 is held", "982"),
        ("patient 52998224725 is held", "52998224725"),
        ("cns 700501234567890 differs", "700501234567890"),
        ("call +5511987654321", "987654321"),
        ("call 11-98765-4321", "98765"),
        ("GET https://ehr.example/fhir/Patient?identifier=urn:cpf|1 failed", "identifier"),
        ("id=x52998224725987y", "52998224725987"),
    ] {
        let shown = scrub(text);
        assert!(!shown.contains(marker), "{shown}");
        assert!(shown.contains('…'), "{shown}");
    }
}

#[test]
fn what_is_needed_to_find_a_thing_passes() {
    for text in [
        "delivery 0193a1b2-1234-7c3d-9e4f-123456789012 is uncertain",
        "at 2026-11-25T03:55:59.120Z",
        "on 2026-11-25 at 192.168.100.200:8080 in 30000 ms",
        "why?",
        "version 1.10.300",
    ] {
        assert_eq!(scrub(text), text);
    }
}

#[test]
fn a_line_keeps_allowed_fields_of_event_and_span_and_drops_all_others() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::registry().with(Lines::new(true, false)).with(Spy(seen.clone()));
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("request", request_id = "r-1", patient_name = "Maria");
        let _in = span.enter();
        tracing::info!(status = 201u64, body = "secret", "sent");
    });
    let fields = seen.lock().unwrap().pop().unwrap();
    let line = json_line(Timestamp(0), Level::INFO, fields.clone());
    assert_eq!(line, r#"{"ts":"1970-01-01T00:00:00.000Z","level":"info","msg":"sent","request_id":"r-1","http_status":201}"#);
    assert_eq!(human_line(Timestamp(0), Level::WARN, fields, false), "00:00:00.000 warn  sent request_id=r-1 http_status=201");
}

/// Collects what the line would be made of.
struct Spy(Arc<Mutex<Vec<Fields>>>);

impl<S> Layer<S> for Spy
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        self.0.lock().unwrap().push(Fields::of(event, &context));
    }
}

#[test]
fn crates_of_others_never_speak_below_warn() {
    let verbosity = Verbosity::parse("trace,hyper=trace,ponte_sync=error").unwrap();
    assert!(!verbosity.0.would_enable("hyper::proto", &Level::INFO));
    assert!(!verbosity.0.would_enable("sqlx::query", &Level::DEBUG));
    assert!(verbosity.0.would_enable("hyper", &Level::WARN));
    assert!(verbosity.0.would_enable("ponte_store::lane", &Level::TRACE));
    assert!(!verbosity.0.would_enable("ponte_sync::push", &Level::WARN));
}

#[test]
fn a_level_that_is_none_is_named() {
    let sentence = Verbosity::parse("loud").unwrap_err();
    assert!(sentence.contains("`loud`") && sentence.contains("info"), "{sentence}");
}
