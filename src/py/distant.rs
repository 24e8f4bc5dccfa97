//! `ctx.memory` in a worker process: every verb is carried out by the engine.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;

use super::errors;
use super::object::{self, Mode};
use super::recall::{Distant, Trouble, refusal, session_of};
use crate::agent::Batch;
use crate::agent::wire::{Answer, Ask};
use crate::model::Failure;

/// The way of one call to the memory of its run's session.
#[pyclass(frozen, name = "_DistantMemory", module = "goclaw._goclaw")]
pub(super) struct PyDistantMemory {
    distant: Arc<dyn Distant>,
    batch: Arc<Batch>,
    child: u32,
}

impl PyDistantMemory {
    /// The memory of a call, as agents hold it.
    ///
    /// # Errors
    /// `memory.no_session`.
    pub(super) fn of<'py>(
        py: Python<'py>,
        distant: &Arc<dyn Distant>,
        batch: &Arc<Batch>,
        child: u32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let session = session_of(py, batch)?;
        let own = Self { distant: Arc::clone(distant), batch: Arc::clone(batch), child };
        let make = py.import("goclaw._distant")?.getattr(intern!(py, "of_worker"))?;
        make.call1((own, &*session))
    }
}

#[pymethods]
impl PyDistantMemory {
    /// Has the engine carry out a verb, with its arguments by name; waits without the GIL.
    fn ask<'py>(
        &self,
        py: Python<'py>,
        session: String,
        verb: String,
        args: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mode = Mode::default();
        let refused = |failure: Box<Failure>| errors::refused(py, &failure);
        let args = object::to_payload(args, &mode).map_err(refused)?;
        let ask = Ask::Verb { session, verb, args };
        match self.distant.ask(py, &self.batch, self.child, ask)? {
            Answer::Value(payload) => {
                let value = object::to_object(py, &payload, &mode).map_err(refused)?;
                Ok(value.into_bound(py))
            }
            other => Err(match refusal(py, other) {
                Trouble::Raised(raised) => raised,
                Trouble::Refused(failure) => errors::refused(py, &failure),
            }),
        }
    }
}
