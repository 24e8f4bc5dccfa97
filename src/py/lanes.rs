//! An engine's lanes as Python sees them: looked at, paused, drained, declared, changed.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::plan::parse;
use super::run::wait;
use super::{context, errors};
use crate::engine::{Engine, Waiter};
use crate::lane::LaneView;
use crate::model::{LaneSpec, OnFull, Result};

/// The lanes of an engine as they were declared, for the compiler.
#[derive(Debug, Default)]
pub(super) struct LaneBook {
    specs: RwLock<Vec<LaneSpec>>,
    /// The same as JSON: every submit asks for it.
    told: Mutex<Option<Py<PyString>>>,
}

impl LaneBook {
    pub(super) fn new(specs: Vec<LaneSpec>) -> Self {
        Self { specs: RwLock::new(specs), told: Mutex::default() }
    }

    pub(super) fn specs(&self) -> Vec<LaneSpec> {
        self.specs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lanes as `compile` takes them: the same object as long as they stay the same.
    pub(super) fn told(&self, py: Python<'_>) -> Py<PyString> {
        let known = |told: &Option<Py<PyString>>| told.as_ref().map(|told| told.clone_ref(py));
        if let Some(told) = known(&self.told.lock().unwrap_or_else(PoisonError::into_inner)) {
            return told;
        }
        // Read before the lock is taken: making an object may let go of the interpreter.
        let specs = self.specs();
        let json = serde_json::to_string(&specs).expect("numbers and texts can be written down");
        let told = PyString::new(py, &json).unbind();
        let copy = told.clone_ref(py);
        let mut place = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Changed meanwhile, they are told anew the next time.
        if *self.specs.read().unwrap_or_else(PoisonError::into_inner) == specs {
            *place = Some(copy);
        }
        told
    }

    fn put(&self, spec: LaneSpec) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut specs = self.specs.write().unwrap_or_else(PoisonError::into_inner);
        specs.retain(|other| other.name != spec.name);
        specs.push(spec);
        *told = None;
    }
}

/// The lanes of an open engine.
#[pyclass(frozen, name = "Lanes", module = "goclaw._goclaw")]
pub(super) struct PyLanes {
    pub(super) engine: Arc<Engine>,
    pub(super) book: Arc<LaneBook>,
}

impl PyLanes {
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        ask: impl FnOnce(&Engine) -> Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| ask(&self.engine)).map_err(|error| errors::raised(py, &error))
    }

    /// The calling agent, where it is one of this engine.
    fn caller(&self, py: Python<'_>) -> Option<Waiter> {
        context::caller(py, |reports| self.engine.takes(reports))
    }
}

#[pymethods]
impl PyLanes {
    /// The stats of all lanes, in the order of their declaration.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let lanes = self.ask(py, Engine::lanes)?;
        lanes.iter().map(|view| row(py, view)).collect()
    }

    /// What the lane was declared with, or changed to, as JSON.
    fn spec(&self, py: Python<'_>, lane: &str) -> PyResult<String> {
        let spec = self.ask(py, |engine| engine.lane_spec(lane))?;
        Ok(serde_json::to_string(&spec).expect("numbers and texts can be written down"))
    }

    fn declare(&self, py: Python<'_>, spec_json: &str) -> PyResult<()> {
        let spec: LaneSpec = parse(py, spec_json)?;
        self.ask(py, |engine| engine.declare_lane(spec.clone()))?;
        self.book.put(spec);
        Ok(())
    }

    fn change(&self, py: Python<'_>, spec_json: &str) -> PyResult<()> {
        let spec: LaneSpec = parse(py, spec_json)?;
        self.ask(py, |engine| engine.change_lane(spec.clone()))?;
        self.book.put(spec);
        Ok(())
    }

    fn pause(&self, py: Python<'_>, lane: &str, paused: bool) -> PyResult<()> {
        self.ask(py, |engine| engine.pause_lane(lane, paused))
    }

    /// Pauses the lane and waits until nothing of it runs; false when the time (seconds) is over first.
    #[pyo3(signature = (lane, timeout=None))]
    fn drain(&self, py: Python<'_>, lane: &str, timeout: Option<f64>) -> PyResult<bool> {
        let by = self.caller(py);
        let draining = self.ask(py, |engine| engine.drain_lane(lane, by))?;
        let timeout =
            timeout.map(|s| Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(Duration::MAX));
        // The receiver moves into the closure: it may not be shared.
        let quiet = wait(py, timeout, move |slice| draining.wait(slice))?;
        quiet.transpose().map(|quiet| quiet.is_some()).map_err(|error| errors::raised(py, &error))
    }
}

fn row<'py>(py: Python<'py>, lane: &LaneView) -> PyResult<Bound<'py, PyDict>> {
    let row = PyDict::new(py);
    row.set_item("name", &lane.name)?;
    row.set_item("concurrency", lane.concurrency)?;
    row.set_item("threads", lane.threads)?;
    row.set_item("capacity", lane.capacity)?;
    row.set_item("timeout_ms", lane.timeout_ms)?;
    row.set_item("on_full", on_full(&lane.on_full))?;
    row.set_item("rate", lane.rate.map(|rate| (rate.units, rate.per_ms, rate.burst)))?;
    row.set_item("fair", lane.fair)?;
    row.set_item("running", lane.running)?;
    row.set_item("lent", lane.lent)?;
    row.set_item("queued", lane.queued)?;
    row.set_item("waiting", lane.backlog)?;
    row.set_item("paused", lane.paused)?;
    row.set_item("held_until_ms", lane.held_until.map(|at| at.0))?;
    row.set_item("offered", lane.counts.offered)?;
    row.set_item("accepted", lane.counts.accepted)?;
    row.set_item("redirected", lane.counts.redirected)?;
    row.set_item("dropped", lane.counts.dropped)?;
    row.set_item("rejected", lane.counts.rejected)?;
    row.set_item("granted", lane.counts.granted)?;
    row.set_item("rate_free", lane.rate_free)?;
    row.set_item("rate_next_ms", lane.rate_next.map(|at| at.0))?;
    row.set_item("keys", lane.keys)?;
    let waits = &lane.wait_ms;
    row.set_item("waits_ms", (waits.p50, waits.p90, waits.p99, waits.max))?;
    Ok(row)
}

/// The policy's name, with the other lane's where it redirects.
fn on_full(policy: &OnFull) -> (&'static str, Option<&str>) {
    match policy {
        OnFull::Block => ("block", None),
        OnFull::DropNewest => ("drop_newest", None),
        OnFull::DropOldest => ("drop_oldest", None),
        OnFull::Redirect(to) => ("redirect", Some(to)),
    }
}
