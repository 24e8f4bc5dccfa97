//! Definitions and a small world for the tests of this floor.

use serde_json::json;

use super::{Known, Plan, compile};
use crate::model::{AgentInfo, Error, Isolation, LaneSpec, Param, Task, Workflow};

/// Agents and lanes by name. An agent called `any…` takes whatever it is given.
pub(super) struct World {
    pub agents: Vec<AgentInfo>,
    pub lanes: Vec<String>,
    /// What is known of lanes beside their names.
    pub specs: Vec<LaneSpec>,
}

impl Known for World {
    fn agent(&self, name: &str) -> Option<AgentInfo> {
        self.agents.iter().find(|agent| agent.name == name).cloned()
    }
    fn lanes(&self) -> Vec<String> {
        self.lanes.clone()
    }
    fn lane(&self, name: &str) -> Option<LaneSpec> {
        self.specs.iter().find(|lane| lane.name == name).cloned()
    }
    fn agents(&self) -> Vec<String> {
        self.agents.iter().map(|agent| agent.name.clone()).collect()
    }
}

/// `fetch(url)`, `join(ctx, left, right=…)`, `any(**kwargs)`; lanes default, io, cpu.
pub(super) fn world() -> World {
    World {
        agents: vec![
            agent("fetch", &["url"]),
            agent("join", &["ctx@", "left", "right?"]),
            AgentInfo { open: true, ..agent("any", &[]) },
        ],
        lanes: ["default", "io", "cpu"].map(String::from).into(),
        specs: Vec::new(),
    }
}

/// Parameters: `name`, `name?` with a default, `name@` for the context.
pub(super) fn agent(name: &str, params: &[&str]) -> AgentInfo {
    let param = |text: &&str| Param {
        name: text.trim_end_matches(['?', '@']).into(),
        required: !text.ends_with(['?', '@']),
        context: text.ends_with('@'),
    };
    AgentInfo {
        name: name.into(),
        params: params.iter().map(param).collect(),
        open: false,
        isolation: Isolation::Auto,
        kind: Isolation::Auto,
    }
}

/// A task of the agent `any` that waits for `deps`.
pub(super) fn task(id: &str, deps: &[&str]) -> Task {
    task_from(json!({"id": id, "agent": "any", "deps": deps}))
}

/// A task from its JSON form.
pub(super) fn task_from(json: serde_json::Value) -> Task {
    serde_json::from_value(json).expect("the test's task is well formed")
}

pub(super) fn workflow(tasks: Vec<Task>) -> Workflow {
    Workflow { name: "flow".into(), tasks, ..Workflow::default() }
}

/// Compiles tasks that are fine.
pub(super) fn plan(tasks: Vec<Task>) -> Plan {
    compile(workflow(tasks), &world()).expect("the test's workflow compiles")
}

/// Compiles, and gives the refusal.
pub(super) fn refusal(workflow: Workflow) -> Error {
    compile(workflow, &world()).expect_err("the workflow is refused")
}

/// The codes of a refusal, in order.
pub(super) fn codes(error: &Error) -> Vec<&str> {
    error.problems.iter().map(|problem| problem.code.as_str()).collect()
}

/// Ids of nodes, for reading.
pub(super) fn ids(plan: &Plan, nodes: &[u32]) -> Vec<String> {
    nodes.iter().map(|&node| plan.nodes[node as usize].id.to_string()).collect()
}
