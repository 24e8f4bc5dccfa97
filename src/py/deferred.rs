//! A coroutine's call that waits for what is looked up in memory.
//!
//! The loop must not wait for a search: each call of such a batch is a task of its own at once, awaits
//! the one look-up of its batch, which a thread makes, and only then calls the agent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::looper::{Course, lock};
use super::recall::{self, Trouble};
use crate::model::Failure;

/// The look-ups of a batch on the loop.
#[derive(Default)]
pub(super) struct Looks {
    /// The look-up that all of its calls await.
    task: Mutex<Option<Py<PyAny>>>,
    /// Why calls cannot be made: what their tasks raise only stands for these.
    refused: Mutex<HashMap<u32, Box<Failure>>>,
    /// Why none can.
    all: Mutex<Option<Box<Failure>>>,
}

impl Looks {
    /// Why the child's agent was not called.
    pub(super) fn refusal(&self, child: u32) -> Option<Box<Failure>> {
        lock(&self.refused).remove(&child).or_else(|| lock(&self.all).clone())
    }
}

/// One call, to be made when its batch knows what it is given.
#[pyclass(frozen, module = "goclaw._goclaw", name = "_Deferred")]
pub(super) struct Deferred {
    course: Arc<Course>,
    child: u32,
    context: Py<PyAny>,
}

impl Deferred {
    pub(super) fn new(course: &Arc<Course>, child: u32, context: Bound<'_, PyAny>) -> Self {
        Self { course: Arc::clone(course), child, context: context.unbind() }
    }

    /// The coroutine that looks up and then calls.
    pub(super) fn coroutine(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let begin = py.import("goclaw._recalling")?.getattr(intern!(py, "begin"))?;
        begin.call1((Bound::new(py, self)?,))
    }
}

#[pymethods]
impl Deferred {
    /// The look-up of the batch, where one is under way.
    #[getter]
    fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.course.looks.task).as_ref().map(|task| task.clone_ref(py))
    }

    /// Notes the look-up that the other calls await, too. On the loop's thread.
    fn share(&self, task: Py<PyAny>) {
        let before = lock(&self.course.looks.task).replace(task);
        drop(before);
    }

    /// Looks up; blocks. On a thread.
    fn look_up(&self, py: Python<'_>) -> PyResult<()> {
        let course = &self.course;
        recall::look_up(py, &course.core, &course.batch, self.child).map_err(
            |trouble| match trouble {
                Trouble::Raised(raised) => raised,
                Trouble::Refused(failure) => {
                    let message = failure.message.clone();
                    *lock(&course.looks.all) = Some(failure);
                    PyRuntimeError::new_err(message)
                }
            },
        )
    }

    /// Calls the agent; answers what it is to await.
    fn start<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (course, child) = (&self.course, self.child);
        let mut args = course.binding.args(py);
        let prepared = || {
            args.take_items(py, &course.batch, &course.core.mode)?;
            args.set_item(&course.batch.call, child)?;
            if let Some(recalled) = recall::found(&course.batch) {
                args.take_recalled(py, &course.batch.name(child), recalled)?;
            }
            Ok(())
        };
        if let Err(failure) = {
            let mut prepared = prepared;
            prepared()
        } {
            let failure: Box<Failure> = failure;
            let message = failure.message.clone();
            lock(&course.looks.refused).insert(child, failure);
            return Err(PyRuntimeError::new_err(message));
        }
        if args.wants_context() {
            args.set_context(self.context.bind(py).clone());
        }
        args.call()
    }
}
