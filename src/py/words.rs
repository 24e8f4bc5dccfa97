//! Words of Python that mean something here: levels, ids, states; and listings as rows.

use pyo3::prelude::*;

use super::errors;
use crate::model::{Durability, Error, RunId, RunState};
use crate::store::Summary;

/// `(run, workflow, state, tags, submitted, ended, session)`, times in milliseconds.
pub(super) type SummaryRow =
    (String, String, &'static str, Vec<String>, u64, Option<u64>, Option<String>);

pub(super) fn level(py: Python<'_>, name: &str) -> PyResult<Durability> {
    match name {
        "strict" => Ok(Durability::Strict),
        "relaxed" => Ok(Durability::Relaxed),
        "none" => Ok(Durability::None),
        _ => {
            Err(invalid(py, format!("there is no durability `{name}`"), "strict, relaxed or none"))
        }
    }
}

pub(super) fn run_of(py: Python<'_>, id: &str) -> PyResult<RunId> {
    id.parse().map_err(|_| {
        invalid(py, format!("`{id}` is no run id"), "run ids are ULIDs: 26 letters and digits")
    })
}

pub(super) fn run_state(py: Python<'_>, name: &str) -> PyResult<RunState> {
    RunState::parse(name).ok_or_else(|| {
        let known: Vec<_> = RunState::ALL.iter().map(|state| state.as_str()).collect();
        invalid(py, format!("there is no run state `{name}`"), &known.join(", "))
    })
}

fn invalid(py: Python<'_>, message: String, help: &str) -> PyErr {
    errors::raised(py, &Error::new("config.choice", message, help))
}

pub(super) fn summary_row(found: Summary) -> SummaryRow {
    let (submitted, ended) = (found.submitted.0, found.ended.map(|at| at.0));
    let session = found.session.map(|key| key.to_string());
    let (id, state) = (found.run.to_string(), found.state.as_str());
    (id, found.workflow, state, found.tags, submitted, ended, session)
}
