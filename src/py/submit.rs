//! Submits that nobody blocks for: asked for now, answered later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::engine::PyEngine;
use super::errors;
use super::run::wait;
use crate::engine::Ticket;
use crate::model::Error;
use crate::plan::Plan;

/// Submits that may not be accepted yet.
#[pyclass(frozen, name = "Tickets", module = "goclaw._goclaw")]
pub(super) struct PyTickets {
    pub(super) engine: Py<PyEngine>,
    pub(super) tickets: Vec<Ticket>,
    pub(super) plan: Arc<Plan>,
}

#[pymethods]
impl PyTickets {
    /// Waits for the answers; gives the submits up when the time (seconds) is over or a signal comes.
    ///
    /// # Errors
    /// `lane.full` when the time is over.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<Py<PyAny>>> {
        let patience = |s: f64| Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(Duration::MAX);
        let until = timeout.and_then(|s| Instant::now().checked_add(patience(s)));
        for ticket in &self.tickets {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let waited = wait(py, left, |slice| ticket.wait(Some(slice)).map(|_| ()));
            if !matches!(waited, Ok(Some(()))) {
                self.give_up(py);
                waited?;
                return Err(errors::raised(py, &no_place(timeout.unwrap_or_default())));
            }
        }
        self.answers(py)
    }

    /// Calls `callback` without arguments, on a thread of its own, once all are answered.
    fn on_answer(&self, callback: Py<PyAny>) {
        let notifier = Arc::clone(self.engine.get().notifier());
        let left = Arc::new(AtomicUsize::new(self.tickets.len()));
        let last = move || notifier.call(callback);
        let last = Arc::new(std::sync::Mutex::new(Some(last)));
        for ticket in &self.tickets {
            let (left, last) = (Arc::clone(&left), Arc::clone(&last));
            ticket.on_answer(Box::new(move || {
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    let call = last.lock().map_or(None, |mut last| last.take());
                    if let Some(call) = call {
                        call();
                    }
                }
            }));
        }
    }

    /// A run or an exception for each, once all are answered.
    fn answers(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let mut answers = Vec::with_capacity(self.tickets.len());
        for ticket in &self.tickets {
            answers.push(
                match ticket.wait(Some(Duration::ZERO)).expect("asked after the answer") {
                    Ok(handle) => {
                        Py::new(py, self.engine.get().started(handle, &self.plan))?.into_any()
                    }
                    Err(error) => errors::raised(py, &error).into_value(py).into_any(),
                },
            );
        }
        Ok(answers)
    }

    /// Withdraws them; a run that was accepted in the meantime is cancelled.
    fn give_up(&self, py: Python<'_>) {
        py.detach(|| self.tickets.iter().for_each(Ticket::give_up));
    }
}

fn no_place(seconds: f64) -> Error {
    Error::new(
        "lane.full",
        format!("no place came free within {seconds} s"),
        "submit later, wait longer, or give the lane more capacity or concurrency",
    )
}
