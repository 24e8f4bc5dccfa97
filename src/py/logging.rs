//! The core's log in Python's `logging`: a bounded channel, and one thread that attaches and drains.
//!
//! Not pyo3-log: that attaches where the event happens, and dead-locks when a thread logs while it
//! holds what the holder of the GIL waits for. Here nobody waits: a full channel drops and counts.
//! Installed when the first engine opens, and only where nobody else listens already.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use super::call;

/// Lines that may wait for the drain thread.
const LINES_MAX: usize = 4096;
/// Lines drained per attach.
const BATCH_MAX: usize = 256;
/// Fields that travel as `extra`, under these names; others go into the text.
const EXTRA: [&str; 4] = ["run", "task", "trace", "attempt"];

/// Most verbose level that Python wants, as its number.
static LEVEL: AtomicU8 = AtomicU8::new(20);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Sends the core's events to `logging`, from now on; reads how verbose that is.
pub(super) fn install(py: Python<'_>) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", ("goclaw",))?;
    let level: u32 = logger.call_method0("getEffectiveLevel")?.extract()?;
    LEVEL.store(u8::try_from(level).unwrap_or(u8::MAX).min(20), Ordering::Relaxed);
    SENDER.get_or_init(|| {
        let (sender, lines) = mpsc::sync_channel(LINES_MAX);
        // Somebody else may listen already; what workers say still comes this way.
        let _ = tracing::subscriber::set_global_default(Listener { sender: sender.clone() });
        // Without the thread the channel is closed, and events are dropped at once.
        let _ = thread::Builder::new().name("goclaw-log".into()).spawn(move || drain(&lines));
        sender
    });
    Ok(())
}

static SENDER: OnceLock<SyncSender<Line>> = OnceLock::new();

/// Passes on what was logged in a worker process. Never waits.
pub(super) fn relay(logger: String, level: u8, text: String, extra: Vec<(String, String)>) {
    let extra = extra.into_iter().map(|(name, value)| (name.into(), value)).collect();
    let line = Line { level, logger: logger.into(), text, extra };
    if SENDER.get().is_some_and(|sender| sender.try_send(line).is_err()) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// One event on its way.
struct Line {
    level: u8,
    logger: Cow<'static, str>,
    text: String,
    extra: Vec<(Cow<'static, str>, String)>,
}

struct Listener {
    sender: SyncSender<Line>,
}

/// The number that Python's `logging` gives a level.
fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

fn is_ours(target: &str) -> bool {
    target
        .strip_prefix("goclaw")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '.']))
}

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_ours(metadata.target()) { Interest::sometimes() } else { Interest::never() }
    }
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata.target()) && number(*metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line {
            level: number(*metadata.level()),
            logger: logger_name(metadata.target()).into(),
            text: String::new(),
            extra: Vec::new(),
        };
        event.record(&mut Writer(&mut line));
        if self.sender.try_send(line).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Sorts an event's fields into text and extras.
struct Writer<'l>(&'l mut Line);

impl Visit for Writer<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let line = &mut self.0;
        match field.name() {
            "message" => line.text.insert_str(0, &format!("{value:?}")),
            name if EXTRA.contains(&name) => {
                line.extra.push((name.into(), format!("{value:?}")));
            }
            name => line.text.push_str(&format!(" {name}={value:?}")),
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

fn drain(lines: &Receiver<Line>) {
    while let Ok(first) = lines.recv() {
        let batch: Vec<_> =
            std::iter::once(first).chain(lines.try_iter().take(BATCH_MAX)).collect();
        let attached = Python::try_attach(|py| {
            for line in &batch {
                if let Err(raised) = log(py, line) {
                    raised.write_unraisable(py, None);
                }
            }
        });
        if attached.is_none() {
            return;
        }
    }
}

/// `goclaw::engine::owner` logs as `goclaw.engine`, `goclaw::model` and what is above it as `goclaw`.
fn logger_name(target: &str) -> &'static str {
    let mut parts = target.split([':', '.']).filter(|part| !part.is_empty()).skip(1);
    match parts.next() {
        Some("engine" | "lane" | "run" | "agent" | "py") => "goclaw.engine",
        Some("store") => "goclaw.store",
        Some("health") => "goclaw.health",
        _ => "goclaw",
    }
}

fn log(py: Python<'_>, line: &Line) -> PyResult<()> {
    let logging = py.import("logging")?;
    // All of this may let go of the GIL, and the interpreter may end meanwhile: guarded calls only.
    let name = line.logger.as_ref().into_pyobject(py)?;
    let logger = call::call(&logging.getattr("getLogger")?, &[name.as_any()])?;
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    if dropped > 0 {
        let text = format!("{dropped} log lines were dropped: the log is slower than the engine");
        call::call(&logger.getattr("warning")?, &[text.into_pyobject(py)?.as_any()])?;
    }
    let level = line.level.into_pyobject(py)?;
    let wanted = call::call(&logger.getattr("isEnabledFor")?, &[level.as_any()])?;
    if !wanted.is_truthy()? {
        return Ok(());
    }
    let options = PyDict::new(py);
    let extra = PyDict::new(py);
    for (name, value) in &line.extra {
        extra.set_item(format!("goclaw_{name}"), value)?;
    }
    options.set_item("extra", extra)?;
    // The text is data, not a format: it goes in as an argument.
    let partial = py.import("functools")?.getattr("partial")?;
    let write = partial.call((logger.getattr("log")?,), Some(&options))?;
    let (format, text) = ("%s".into_pyobject(py)?, line.text.as_str().into_pyobject(py)?);
    call::call(&write, &[level.as_any(), format.as_any(), text.as_any()])?;
    Ok(())
}
