//! Templates and conditions: minijinja over Python values that are converted only where they are used.
//!
//! A template that is one lone `{{ expression }}` keeps the type of its value; any other renders to
//! text. Undefined names are errors, fuel bounds the work, and results are data: what an agent
//! returned is never rendered again. Attributes that begin with `_` and methods cannot be reached.

use std::cmp::Ordering;
use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock};

use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use pyo3::exceptions::{PyAttributeError, PyLookupError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

use crate::model::{Failure, FailureKind};

/// Bound of a template's source, bytes.
const SOURCE_BYTES_MAX: usize = 64 << 10;
/// Bound of a rendered text, bytes.
const RENDERED_BYTES_MAX: usize = 4 << 20;
/// Elements that an expression may build.
const ELEMENTS_MAX: usize = 1_000_000;
/// minijinja instructions that one evaluation may take.
const FUEL: u64 = 200_000;
const RECURSION_MAX: usize = 64;
/// Characters of a source that an error quotes.
const QUOTED_CHARS_MAX: usize = 120;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment
});

/// What names in a template stand for.
pub(super) trait Names: Send + Sync + 'static {
    /// The value of a top-level name, or `None` where there is no such name.
    ///
    /// # Errors
    /// Why the value cannot be had.
    fn find<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> Result<Option<Bound<'py, PyAny>>, Box<Failure>>;
}

/// Renders a template, or evaluates it where it is one lone expression.
///
/// # Errors
/// `template.syntax`, `template.undefined`, `template.fuel`, `template.size`, `template.failed`.
pub(super) fn render<'py, N: Names>(
    py: Python<'py>,
    source: &str,
    names: N,
) -> Result<Bound<'py, PyAny>, Box<Failure>> {
    check_size(source)?;
    if let Some(inner) = lone(source)
        && let Ok(expression) = ENVIRONMENT.compile_expression_owned(inner.to_owned())
    {
        let value = expression.eval(Value::from_object(Root(names)));
        return value.and_then(|value| finished(py, value)).map_err(|error| fail(source, &error));
    }
    let render = || -> Result<String, Error> {
        let template = ENVIRONMENT.template_from_str(source)?;
        let mut out = Bounded(Vec::new());
        template.render_captured_to(Value::from_object(Root(names)), &mut out)?;
        String::from_utf8(out.0)
            .map_err(|_| Error::new(ErrorKind::InvalidOperation, "the text is no UTF-8"))
    };
    let text = render().map_err(|error| fail(source, &error))?;
    Ok(PyString::new(py, &text).into_any())
}

/// Evaluates an expression such as `intake.lang == 'en'`.
///
/// # Errors
/// The same as [`render`].
pub(super) fn condition<'py, N: Names>(
    py: Python<'py>,
    source: &str,
    names: N,
) -> Result<Bound<'py, PyAny>, Box<Failure>> {
    check_size(source)?;
    ENVIRONMENT
        .compile_expression_owned(source.to_owned())
        .and_then(|expression| expression.eval(Value::from_object(Root(names))))
        .and_then(|value| finished(py, value))
        .map_err(|error| fail(source, &error))
}

/// The expression of a template that has nothing else in it.
fn lone(source: &str) -> Option<&str> {
    let inner = source.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    Some(inner.strip_suffix(['-', '+']).unwrap_or(inner).trim())
}

fn check_size(source: &str) -> Result<(), Box<Failure>> {
    if source.len() <= SOURCE_BYTES_MAX {
        return Ok(());
    }
    let message = format!("`{}` is longer than {SOURCE_BYTES_MAX} bytes", quoted(source));
    Err(Box::new(Failure::new(FailureKind::Binding, "template.size", message)))
}

fn quoted(source: &str) -> String {
    let mut text: String = source.chars().take(QUOTED_CHARS_MAX).collect();
    if text.len() < source.len() {
        text.push_str("...");
    }
    text
}

fn fail(source: &str, error: &Error) -> Box<Failure> {
    // The cause is an own failure where a name's value could not be had.
    if let Some(cause) = std::error::Error::source(error).and_then(|e| e.downcast_ref::<Cause>()) {
        return cause.0.clone();
    }
    let code = match error.kind() {
        ErrorKind::UndefinedError => "template.undefined",
        ErrorKind::OutOfFuel => "template.fuel",
        ErrorKind::WriteFailure => "template.size",
        ErrorKind::SyntaxError | ErrorKind::BadEscape => "template.syntax",
        _ if error.detail() == Some(TOO_MANY) => "template.size",
        _ => "template.failed",
    };
    let message = format!("`{}`: {error}", quoted(source));
    Box::new(Failure::new(FailureKind::Binding, code, message))
}

const TOO_MANY: &str = "the value has more than a million elements";

#[derive(Debug)]
struct Cause(Box<Failure>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Cause {}

/// Text that refuses to grow past its bound.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RENDERED_BYTES_MAX {
            return Err(io::Error::other("the rendered text is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The top level of names.
struct Root<N>(N);

impl<N> fmt::Debug for Root<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names")
    }
}

impl<N: Names> Object for Root<N> {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        Python::attach(|py| match self.0.find(py, name) {
            Ok(found) => found.map(|object| value_of(&object)),
            Err(failure) => Some(Value::from(
                Error::new(ErrorKind::InvalidOperation, "no value").with_source(Cause(failure)),
            )),
        })
    }
}

/// A Python object inside the template engine.
struct Live(Py<PyAny>, ObjectRepr);

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Python::attach(|py| f.write_str(&self.0.bind(py).to_string()))
    }
}

fn value_of(object: &Bound<'_, PyAny>) -> Value {
    let live = |shape| Value::from_object(Live(object.clone().unbind(), shape));
    if object.is_none() {
        Value::from(())
    } else if let Ok(truth) = object.cast::<PyBool>() {
        Value::from(truth.is_true())
    } else if object.is_instance_of::<PyString>() {
        object.extract::<String>().map_or_else(|_| live(ObjectRepr::Plain), Value::from)
    } else if object.is_instance_of::<PyInt>() {
        object.extract::<i128>().map_or_else(|_| live(ObjectRepr::Plain), Value::from)
    } else if object.is_instance_of::<PyFloat>() {
        object.extract::<f64>().map_or_else(|_| live(ObjectRepr::Plain), Value::from)
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        Value::from_bytes(bytes.as_bytes().to_vec())
    } else if object.is_instance_of::<PyDict>() {
        live(ObjectRepr::Map)
    } else if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        live(ObjectRepr::Seq)
    } else if object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>() {
        live(ObjectRepr::Iterable)
    } else {
        live(ObjectRepr::Plain)
    }
}

fn raised(error: &PyErr) -> Value {
    Value::from(Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// The value, `None` where there is none, and an invalid value where the lookup raised.
fn looked_up(found: PyResult<Bound<'_, PyAny>>, py: Python<'_>) -> Option<Value> {
    match found {
        Ok(object) => Some(value_of(&object)),
        Err(error)
            if error.is_instance_of::<PyAttributeError>(py)
                || error.is_instance_of::<PyLookupError>(py) =>
        {
            None
        }
        Err(error) => Some(raised(&error)),
    }
}

impl Live {
    /// A public attribute that is data.
    fn attribute(&self, py: Python<'_>, name: &str) -> Option<Value> {
        if name.starts_with('_') {
            return None;
        }
        match self.0.bind(py).getattr(name) {
            Ok(object) if object.is_callable() => None,
            found => looked_up(found, py),
        }
    }
}

impl Object for Live {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        self.1
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Python::attach(|py| {
            let object = self.0.bind(py);
            match (self.1, key.as_str(), key.as_usize()) {
                (ObjectRepr::Map, ..) => {
                    let key = plain(py, key, &mut 0).ok()?;
                    looked_up(object.get_item(key), py)
                }
                (ObjectRepr::Seq, None, Some(index)) => looked_up(object.get_item(index), py),
                (_, Some(name), _) => self.attribute(py, name),
                _ => None,
            }
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Python::attach(|py| {
            let object = self.0.bind(py);
            match self.1 {
                ObjectRepr::Seq => object.len().map_or(Enumerator::NonEnumerable, Enumerator::Seq),
                ObjectRepr::Map | ObjectRepr::Iterable => {
                    let Ok(each) = object.try_iter() else { return Enumerator::NonEnumerable };
                    let each = each.map(|item| item.map_or_else(|e| raised(&e), |o| value_of(&o)));
                    Enumerator::Values(each.take(ELEMENTS_MAX).collect())
                }
                _ => Enumerator::NonEnumerable,
            }
        })
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        (self.1 != ObjectRepr::Plain)
            .then(|| Python::attach(|py| self.0.bind(py).len().ok()))
            .flatten()
    }

    fn is_true(self: &Arc<Self>) -> bool {
        Python::attach(|py| self.0.bind(py).is_truthy().unwrap_or(true))
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        if self.1 != ObjectRepr::Plain || other.1 != ObjectRepr::Plain {
            return None;
        }
        Python::attach(|py| self.0.bind(py).compare(other.0.bind(py)).ok())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Python::attach(|py| f.write_str(&self.0.bind(py).to_string()))
    }
}

/// The value of an expression as a Python object; what came from Python goes back untouched.
fn finished<'py>(py: Python<'py>, value: Value) -> Result<Bound<'py, PyAny>, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    plain(py, &value, &mut 0)
}

fn plain<'py>(
    py: Python<'py>,
    value: &Value,
    elements: &mut usize,
) -> Result<Bound<'py, PyAny>, Error> {
    if let Some(live) = value.downcast_object_ref::<Live>() {
        return Ok(live.0.bind(py).clone());
    }
    *elements += 1;
    if *elements > ELEMENTS_MAX {
        return Err(Error::new(ErrorKind::InvalidOperation, TOO_MANY));
    }
    let unreadable = |error: PyErr| Error::new(ErrorKind::InvalidOperation, error.to_string());
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => py.None().into_bound(py),
        ValueKind::Bool => PyBool::new(py, value.is_true()).to_owned().into_any(),
        ValueKind::Number => number(py, value).map_err(unreadable)?,
        ValueKind::String => PyString::new(py, value.as_str().unwrap_or_default()).into_any(),
        ValueKind::Bytes => PyBytes::new(py, value.as_bytes().unwrap_or_default()).into_any(),
        ValueKind::Map => {
            let dict = PyDict::new(py);
            for key in value.try_iter()? {
                let item = value.get_item(&key)?;
                dict.set_item(plain(py, &key, elements)?, plain(py, &item, elements)?)
                    .map_err(unreadable)?;
            }
            dict.into_any()
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let list = PyList::empty(py);
            for item in value.try_iter()? {
                list.append(plain(py, &item, elements)?).map_err(unreadable)?;
            }
            list.into_any()
        }
        // Also surfaces the error that an invalid value holds.
        ValueKind::Invalid => {
            value.try_iter()?;
            return Err(Error::new(ErrorKind::InvalidOperation, "the value is invalid"));
        }
        _ => PyString::new(py, &value.to_string()).into_any(),
    })
}

fn number<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    if value.is_integer() {
        // Integers of any width; their text is what Python reads.
        if let Ok(small) = i64::try_from(value.clone()) {
            return Ok(small.into_pyobject(py)?.into_any());
        }
        return py.get_type::<PyInt>().call1((value.to_string(),));
    }
    let float = f64::try_from(value.clone()).unwrap_or(f64::NAN);
    Ok(PyFloat::new(py, float).into_any())
}
