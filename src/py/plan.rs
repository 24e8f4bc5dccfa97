//! Compiling definitions, and plans as Python sees them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;

use super::object::{self, Mode};
use super::{errors, registry};
use crate::engine::builtin_lanes;
use crate::model::{AgentInfo, Error, LaneSpec, NodeIx, OnFull, Payload, Workflow};
use crate::plan::{self, Known, Plan};

/// The process's agents and an engine's lanes, as the compiler asks for them.
pub(super) struct World {
    /// `None`: every lane exists, and nothing is known of it.
    pub(super) lanes: Option<Vec<LaneSpec>>,
    /// Lanes that the definition names, for a world where every lane exists.
    pub(super) named: Vec<String>,
}

impl Known for World {
    fn agent(&self, name: &str) -> Option<AgentInfo> {
        registry::find(name).map(|agent| agent.info.clone())
    }
    fn lanes(&self) -> Vec<String> {
        match &self.lanes {
            Some(lanes) => lanes.iter().map(|lane| lane.name.clone()).collect(),
            None => self.named.clone(),
        }
    }
    fn lane(&self, name: &str) -> Option<LaneSpec> {
        self.lanes.iter().flatten().find(|lane| lane.name == name).cloned()
    }
    fn agents(&self) -> Vec<String> {
        registry::names()
    }
}

/// A compiled workflow.
#[pyclass(frozen, name = "Plan", module = "goclaw._goclaw")]
pub(super) struct PyPlan(pub(super) Arc<Plan>);

/// Compiles a definition for an engine with these lanes; without them every lane exists. Engines in
/// memory and those with a path carry its constants differently.
#[pyfunction]
pub(super) fn compile(
    py: Python<'_>,
    workflow_json: &str,
    constants: Vec<Bound<'_, PyAny>>,
    lanes_json: Option<&str>,
    memory: bool,
) -> PyResult<PyPlan> {
    let mut workflow: Workflow = parse(py, workflow_json)?;
    workflow.constants = payloads(&constants, &Mode { memory, ..Mode::default() })?;
    let lanes: Option<Vec<LaneSpec>> = lanes_json.map(|json| parse(py, json)).transpose()?;
    let redirects = workflow.lanes.iter().filter_map(|lane| match &lane.on_full {
        OnFull::Redirect(to) => Some(to),
        OnFull::Block | OnFull::DropNewest | OnFull::DropOldest => None,
    });
    let named = workflow.tasks.iter().map(|task| &task.lane).chain(redirects).cloned().collect();
    let compiled = py.detach(|| plan::compile(workflow, &World { lanes, named }));
    match compiled {
        Ok(plan) => Ok(PyPlan(Arc::new(plan))),
        Err(error) => Err(errors::raised(py, &error)),
    }
}

/// What the built-in lanes are on this machine: concurrency and threads by name.
#[pyfunction]
pub(super) fn lane_sizes() -> HashMap<String, (u32, Option<u32>)> {
    static SIZES: OnceLock<Vec<LaneSpec>> = OnceLock::new();
    let size = |lane: &LaneSpec| (lane.name.clone(), (lane.concurrency, lane.threads));
    SIZES.get_or_init(builtin_lanes).iter().map(size).collect()
}

/// Reads JSON that the Python half wrote.
pub(super) fn parse<T: serde::de::DeserializeOwned>(py: Python<'_>, json: &str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|error| {
        let message = format!("the definition cannot be read: {error}");
        errors::raised(py, &Error::new("workflow.invalid", message, "check its keys and values"))
    })
}

/// Converts literals beyond JSON.
pub(super) fn payloads(values: &[Bound<'_, PyAny>], mode: &Mode) -> PyResult<Vec<Payload>> {
    let convert = |value: &Bound<'_, PyAny>| {
        object::to_payload(value, mode).map_err(|failure| errors::refused(value.py(), &failure))
    };
    values.iter().map(convert).collect()
}

impl PyPlan {
    fn ids(&self, nodes: Vec<NodeIx>) -> Vec<String> {
        nodes.into_iter().map(|node| self.0.nodes[node as usize].id.to_string()).collect()
    }
}

#[pymethods]
impl PyPlan {
    #[getter]
    fn name(&self) -> &str {
        &self.0.workflow.name
    }
    fn __len__(&self) -> usize {
        self.0.nodes.len()
    }
    fn layers(&self, py: Python<'_>) -> Vec<Vec<String>> {
        py.detach(|| self.0.layers().into_iter().map(|layer| self.ids(layer)).collect())
    }
    fn critical_path(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.ids(self.0.critical_path()))
    }
    fn parallel_groups(&self, py: Python<'_>) -> Vec<Vec<String>> {
        py.detach(|| self.0.parallel_groups().into_iter().map(|group| self.ids(group)).collect())
    }
    fn to_mermaid(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.to_mermaid())
    }
    fn to_dot(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.to_dot())
    }
    fn to_svg(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.to_svg(None))
    }
    fn to_ascii(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.to_ascii())
    }
}
