//! Exceptions as failures: names of the class and its bases, bounded text, the live exception.

use std::sync::Arc;

use pyo3::exceptions::{PyException, PyGeneratorExit, PyKeyboardInterrupt, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};

use super::call;
use super::object::PyObj;
use crate::agent::Outcome;
use crate::model::{Failure, FailureKind, Millis};

/// Bound of an exception's text, bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Bound of an exception's code, bytes.
const CODE_BYTES_MAX: usize = 128;
/// Bound of a traceback's text, bytes. The end is kept: it names the guilty line.
const TRACEBACK_BYTES_MAX: usize = 32 << 10;
/// Classes that name themselves to retry rules; a deeper hierarchy is cut.
const TYPES_MAX: usize = 32;

/// A refusal to bind or to run a call; never retried.
pub(crate) fn binding(code: &'static str, message: impl Into<String>) -> Box<Failure> {
    Box::new(Failure::new(FailureKind::Binding, code, message))
}

/// How a call that raised has ended; `stopping` when its cancellation was asked for.
pub(super) fn outcome(py: Python<'_>, raised: PyErr, stopping: bool) -> Outcome {
    if stopping && is_cancellation(py, &raised) {
        return Outcome::Cancelled;
    }
    Outcome::Failed(from_exception(py, raised))
}

/// What the journal keeps of an exception that an agent raised.
pub(crate) fn from_exception(py: Python<'_>, raised: PyErr) -> Box<Failure> {
    let raised = whole(py, raised);
    let ordinary = raised.is_instance_of::<PyException>(py);
    let leaves = raised.is_instance_of::<PySystemExit>(py)
        || raised.is_instance_of::<PyKeyboardInterrupt>(py)
        || raised.is_instance_of::<PyGeneratorExit>(py);
    let code = if !ordinary && leaves { "task.exit" } else { "task.exception" };
    let mut failure = of_error(py, &raised, FailureKind::Exception, code);
    failure.retry_after = retry_after(py, &raised);
    if let Some(refusal) = Refusal::of(py, &raised) {
        let passes = refusal.transient;
        failure.kind = if passes { FailureKind::Exception } else { FailureKind::Refused };
        (failure.code, failure.help) = (refusal.code, refusal.help);
    }
    failure.origin = Some(Arc::new(PyObj(raised.into_value(py).into_any())));
    failure
}

/// What goclaw's own exceptions say beside their text.
struct Refusal {
    code: String,
    help: String,
    transient: bool,
}

impl Refusal {
    fn of(py: Python<'_>, raised: &PyErr) -> Option<Self> {
        let (class, value) = (class_of(py, "goclaw.errors", "GoclawError")?, raised.value(py));
        if !value.is_instance(&class).unwrap_or(false) {
            return None;
        }
        // A class of the user's own may have made anything of these.
        let code: String = value.getattr(intern!(py, "code")).ok()?.extract().ok()?;
        let help: String = value.getattr(intern!(py, "help")).ok()?.extract().ok()?;
        let transient = value.getattr(intern!(py, "transient")).ok()?.extract().ok()?;
        Some(Self {
            code: bounded(code, CODE_BYTES_MAX),
            help: bounded(help, MESSAGE_BYTES_MAX),
            transient,
        })
    }
}

/// A failure of another kind that an exception caused: an adapter or an iterable that raised.
pub(super) fn caused_by(
    py: Python<'_>,
    raised: &PyErr,
    code: &'static str,
    what: &str,
) -> Box<Failure> {
    let raised = &whole(py, raised.clone_ref(py));
    let mut failure = of_error(py, raised, FailureKind::Binding, code);
    let class = failure
        .types
        .first()
        .map_or("exception", |name| name.strip_prefix("builtins.").unwrap_or(name));
    failure.message = bounded(format!("{what}: {class}: {}", failure.message), MESSAGE_BYTES_MAX);
    failure.origin = Some(Arc::new(PyObj(raised.value(py).clone().into_any().unbind())));
    failure
}

/// A call that panicked in our own code.
pub(super) fn panicked(payload: &(dyn std::any::Any + Send)) -> Box<Failure> {
    let text = payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    let message = format!("the executor panicked: {}", bounded(text, MESSAGE_BYTES_MAX));
    Box::new(Failure::new(FailureKind::Crash, "task.panic", message))
}

/// The error with its traceback in the exception itself, where Python before 3.12 does not put it.
fn whole(py: Python<'_>, raised: PyErr) -> PyErr {
    PyErr::from_value(raised.into_value(py).into_bound(py).into_any())
}

fn of_error(py: Python<'_>, raised: &PyErr, kind: FailureKind, code: &'static str) -> Box<Failure> {
    let mut failure = Failure::new(kind, code, message(py, raised));
    failure.types = types(&raised.get_type(py));
    failure.traceback = traceback(py, raised);
    Box::new(failure)
}

fn message(py: Python<'_>, raised: &PyErr) -> String {
    let class = py.get_type::<PyString>();
    // `str()` runs the user's `__str__`, which may raise in turn.
    match call::call(class.as_any(), &[raised.value(py).as_any()]) {
        Ok(text) => bounded(text.to_string(), MESSAGE_BYTES_MAX),
        Err(_) => "the exception has no text: its __str__ raised".into(),
    }
}

/// Qualified names along the method resolution order, without `object`.
fn types(class: &Bound<'_, PyType>) -> Vec<String> {
    let py = class.py();
    let mro = class.getattr(intern!(py, "__mro__"));
    let Some(mro) = mro.ok().and_then(|mro| mro.cast_into::<PyTuple>().ok()) else {
        return Vec::new();
    };
    let object = py.get_type::<PyAny>();
    mro.iter()
        .filter(|class| !class.is(&object))
        .take(TYPES_MAX)
        .filter_map(|class| qualified(&class))
        .collect()
}

fn qualified(class: &Bound<'_, PyAny>) -> Option<String> {
    let py = class.py();
    let module = class.getattr(intern!(py, "__module__")).ok()?.extract::<String>().ok()?;
    let name = class.getattr(intern!(py, "__qualname__")).ok()?.extract::<String>().ok()?;
    Some(format!("{}.{name}", super::codec::lasting(module)))
}

fn traceback(py: Python<'_>, raised: &PyErr) -> Option<String> {
    static FORMAT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let format = FORMAT.import(py, "traceback", "format_exception").ok()?;
    let lines = call::call(format, &[raised.value(py).as_any()]).ok()?;
    let text: String = lines.extract::<Vec<String>>().ok()?.concat();
    if text.len() <= TRACEBACK_BYTES_MAX {
        return Some(text);
    }
    let mut from = text.len() - TRACEBACK_BYTES_MAX + 4;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    Some(format!("...\n{}", &text[from..]))
}

fn retry_after(py: Python<'_>, raised: &PyErr) -> Option<Millis> {
    let class = class_of(py, "goclaw", "RetryAfter")?;
    let value = raised.value(py);
    if !value.is_instance(&class).unwrap_or(false) {
        return None;
    }
    let seconds: f64 = value.getattr(intern!(py, "seconds")).ok()?.extract().ok()?;
    // A float outside the range saturates; a pause that is no number asks for none.
    Some((seconds * 1000.0).ceil() as Millis)
}

/// The class that stops an agent: `goclaw.Cancelled`.
pub(super) fn cancelled_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("goclaw.errors")?.getattr(intern!(py, "Cancelled"))
}

fn is_cancellation(py: Python<'_>, raised: &PyErr) -> bool {
    let is = |class: Option<Bound<'_, PyAny>>| {
        class.is_some_and(|class| raised.value(py).is_instance(&class).unwrap_or(false))
    };
    is(cancelled_class(py).ok()) || is(class_of(py, "asyncio", "CancelledError"))
}

/// True for what the handler of SIGTERM raises.
pub(super) fn is_termination(py: Python<'_>, raised: &Bound<'_, PyAny>) -> bool {
    let class = class_of(py, "goclaw._sigterm", "Terminated");
    class.is_some_and(|class| raised.is_instance(&class).unwrap_or(false))
}

/// A class of a module that is loaded already; `None` before anyone imported it.
fn class_of<'py>(py: Python<'py>, module: &str, name: &str) -> Option<Bound<'py, PyAny>> {
    let modules = py.import("sys").ok()?.getattr(intern!(py, "modules")).ok()?;
    modules.get_item(module).ok()?.getattr(name).ok()
}

/// Cuts a text at a character boundary.
pub(super) fn bounded(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let mut at = bytes_max - 3;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
        text.push_str("...");
    }
    text
}
