//! A pass into a lane, for work that Python does outside of runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use super::context::{self, Context};
use super::errors;
use super::run::wait;
use crate::engine::{Engine, Pass};
use crate::model::LaneCard;

/// The right to do one piece of work in a lane, until it is left.
#[pyclass(frozen, name = "Pass", module = "goclaw._goclaw")]
pub(super) struct PyPass(Mutex<Option<Pass>>);

/// Waits for a pass; `None` when the time (seconds) is over first, too many wait, or the lane is paused and that is
/// not waited for.
pub(super) fn enter(
    py: Python<'_>,
    engine: &Engine,
    lane: &str,
    cost: u32,
    seconds: Option<f64>,
    waits_for_resume: bool,
) -> PyResult<Option<PyPass>> {
    if let Some(card) = lane_here(py).filter(|card| card.lane == lane) {
        // It holds a permit of this lane: waiting for a second one could last for ever.
        return Ok(Some(PyPass(Mutex::new(Some(engine.pass_of_holder(card))))));
    }
    let entrance = py.detach(|| engine.enter_lane(lane, cost, waits_for_resume));
    let mut entrance = entrance.map_err(|error| errors::raised(py, &error))?;
    let timeout = seconds.map(|s| Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(Duration::MAX));
    // The receiver moves into the closure: it may not be shared.
    let pass = wait(py, timeout, move |slice| entrance.wait(slice))?;
    let pass = pass.transpose().map_err(|error| errors::raised(py, &error))?;
    Ok(pass.flatten().map(|pass| PyPass(Mutex::new(Some(pass)))))
}

/// The lane that the caller runs in, where it is an agent.
fn lane_here(py: Python<'_>) -> Option<Arc<LaneCard>> {
    context::current(py).ok()?.cast::<Context>().ok()?.get().batch.lane.clone()
}

impl PyPass {
    fn with(&self, py: Python<'_>, call: impl FnOnce(&mut Option<Pass>) + Send) {
        // Never a lock while the GIL is held.
        py.detach(|| call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

#[pymethods]
impl PyPass {
    fn charge(&self, py: Python<'_>, unit: &str, n: u64) {
        self.with(py, |pass| {
            if let Some(pass) = pass {
                pass.charge(unit, n);
            }
        });
    }

    /// Lets nothing of the lane begin for so long.
    fn hold(&self, py: Python<'_>, pause_ms: u64) {
        self.with(py, |pass| {
            if let Some(pass) = pass {
                pass.hold(pause_ms);
            }
        });
    }

    fn leave(&self, py: Python<'_>) {
        self.with(py, |pass| drop(pass.take()));
    }
}
