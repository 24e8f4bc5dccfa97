//! Refusals of the core as exceptions: codes become the classes of `goclaw.errors`.
//!
//! The classes are defined in Python, because the limited API before 3.12 cannot subclass
//! exceptions natively; `from_code` is looked up once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::model::{Error, Failure};

/// The exception for an error of the core.
pub(super) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    build(py, error).unwrap_or_else(|failed| failed)
}

/// The exception for a value that could not be converted.
pub(super) fn refused(py: Python<'_>, failure: &Failure) -> PyErr {
    from_code(py, &failure.code, &failure.message, "", None).unwrap_or_else(|failed| failed)
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    static PROBLEM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = PROBLEM.import(py, "goclaw.errors", "Problem")?;
    let problems = error.problems.iter().map(|problem| {
        let task = problem.task.as_deref();
        class.call1((problem.code.as_str(), task, problem.message.as_str(), problem.help.as_str()))
    });
    let problems = PyTuple::new(py, problems.collect::<PyResult<Vec<_>>>()?)?;
    from_code(py, error.code, &error.message, &error.help, Some(problems))
}

fn from_code(
    py: Python<'_>,
    code: &str,
    message: &str,
    help: &str,
    problems: Option<Bound<'_, PyTuple>>,
) -> PyResult<PyErr> {
    static FROM_CODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let from_code = FROM_CODE.import(py, "goclaw._codes", "from_code")?;
    let problems = problems.unwrap_or_else(|| PyTuple::empty(py));
    let exception = from_code.call1((code, message, help, problems))?;
    Ok(PyErr::from_value(exception))
}
