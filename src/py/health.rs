//! How an engine is, as Python sees it: the owner's pulse and what the watchdog has found.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::errors;
use super::incidents::{self, Incident};
use crate::engine::{Engine, StuckMerge};
use crate::model::Style;

/// The fields of `goclaw.Health`, by name.
pub(super) fn of<'py>(
    py: Python<'py>,
    engine: &Engine,
    workers: u64,
) -> PyResult<Bound<'py, PyDict>> {
    let pulse = py.detach(|| engine.pulse()).map_err(|error| errors::raised(py, &error))?;
    let fields = PyDict::new(py);
    let stuck: Vec<_> = pulse
        .stuck
        .iter()
        .map(|call| {
            let place = match call.style {
                Style::Thread => "thread",
                Style::Loop => "loop",
                Style::Process => "process",
            };
            let run = call.run.to_string();
            (&*call.agent, &call.task, run, &call.lane, place, call.since.0)
        })
        .collect();
    fields.set_item("stuck", stuck)?;
    let merge =
        |merge: &StuckMerge| (merge.session.to_string(), merge.function.clone(), merge.since.0);
    fields.set_item("stuck_merges", pulse.merges.iter().map(merge).collect::<Vec<_>>())?;
    let held: Vec<_> = pulse.held.iter().map(|held| (&held.lane, held.stuck)).collect();
    fields.set_item("held_lanes", held)?;
    fields.set_item("paused_lanes", pulse.paused)?;
    let store = pulse.store.as_ref().map(|error| (error.code, &error.message));
    fields.set_item("store", store)?;
    fields.set_item("missing_agents", pulse.missing_agents)?;
    fields.set_item("incompatible_runs", pulse.incompatible)?;
    fields.set_item("runs", pulse.runs)?;
    fields.set_item("workers", workers)?;
    fields.set_item("closing", pulse.closing)?;
    let incidents = incidents::latest();
    fields.set_item("incidents", incidents.iter().map(row).collect::<Vec<_>>())?;
    Ok(fields)
}

type Row<'i> =
    (&'static str, Option<&'i str>, Option<&'i str>, Option<&'i str>, f64, Option<&'i str>, bool);

fn row(incident: &Incident) -> Row<'_> {
    let guilty = incident.guilty.as_ref();
    (
        incident.kind.as_str(),
        guilty.map(|guilty| guilty.agent.as_str()),
        guilty.map(|guilty| guilty.task.as_str()),
        guilty.map(|guilty| guilty.run.as_str()),
        incident.lasted.as_secs_f64(),
        incident.place.as_deref(),
        !incident.is_over,
    )
}
