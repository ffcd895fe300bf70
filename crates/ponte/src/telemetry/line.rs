//! One event, one line: JSON for machines, short for people, and only fields that are allowed.

use super::scrub::scrub;
use model::{Clock, Timestamp};
use serde_json::{Map, Value};
use std::fmt;
use std::io::Write;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The fields of UX §11, and what says where the process itself stands. Any other field of any crate is dropped.
pub(super) const ALLOWED: &[&str] = &[
    "event",
    "trace_id",
    "span_id",
    "request_id",
    "tenant_id",
    "connection_id",
    "delivery_id",
    "attempt",
    "direction",
    "resource_type",
    "op",
    "class",
    "state",
    "reason",
    "means",
    "http_status",
    "retryable",
    "retry_in_ms",
    "duration_ms",
    "bytes_out",
    "bytes_in",
    "replay_id",
    "run_id",
    "user_id",
    "job",
    "version",
    "method",
    "route",
    "role",
    "owner",
    "lane",
    "epoch",
    "listen",
    "rows",
    "created",
    "updated",
    "unchanged",
    "pages",
    "step",
    "outcome",
    "failures",
    "circuit_open",
    "until",
    "error",
];

/// Short names in the code, and the field that they are in a line.
const CALLED: &[(&str, &str)] =
    &[("tenant", "tenant_id"), ("delivery", "delivery_id"), ("resource", "resource_type"), ("status", "http_status"), ("schedule", "job")];

/// Longest text that is logged, in characters.
const LONGEST: usize = 600;

/// The layer that writes lines to stderr.
pub(super) struct Lines {
    json: bool,
    colour: bool,
    clock: crate::clock::SystemClock,
}

impl Lines {
    pub(super) fn new(json: bool, colour: bool) -> Self {
        Self { json, colour, clock: crate::clock::SystemClock::new() }
    }
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = Fields::of(event, &context);
        let text = if self.json {
            json_line(self.clock.now(), *event.metadata().level(), fields)
        } else {
            human_line(self.clock.now(), *event.metadata().level(), fields, self.colour)
        };
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

pub(super) fn json_line(now: Timestamp, level: Level, fields: Fields) -> String {
    let mut line = Map::new();
    line.insert("ts".to_owned(), now.rfc3339().into());
    line.insert("level".to_owned(), level.as_str().to_ascii_lowercase().into());
    line.insert("msg".to_owned(), fields.message.into());
    line.extend(fields.kept);
    Value::Object(line).to_string()
}

pub(super) fn human_line(now: Timestamp, level: Level, fields: Fields, colour: bool) -> String {
    let time = now.rfc3339();
    let time = time.get(11..23).unwrap_or(&time);
    let (paint, plain) = match (colour, level) {
        (false, _) => ("", ""),
        (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
        (true, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[0m"),
    };
    let mut line = format!("{time} {paint}{:<5}{plain} {}", level.as_str().to_ascii_lowercase(), fields.message);
    for (name, value) in fields.kept {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        line.push_str(&format!(" {name}={text}"));
    }
    line
}

/// The allowed fields of one span or event.
#[derive(Debug, Default, Clone)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) kept: Map<String, Value>,
}

impl Fields {
    /// Those of the event and of the spans around it, the inner over the outer.
    pub(super) fn of<S>(event: &Event<'_>, context: &Context<'_, S>) -> Self
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut fields = Self::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(outer) = span.extensions().get::<Self>() {
                fields.kept.extend(outer.kept.clone());
            }
        }
        event.record(&mut fields);
        fields
    }

    fn keep(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        let name = CALLED.iter().find(|(short, _)| *short == field.name()).map_or(field.name(), |(_, name)| *name);
        if ALLOWED.contains(&name) {
            self.kept.insert(name.to_owned(), value());
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, || value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, || value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, || value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, || value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = || scrub(&format!("{value:?}").chars().take(LONGEST).collect::<String>());
        if field.name() == "message" {
            self.message = text();
        } else {
            self.keep(field, || text().into());
        }
    }
}
