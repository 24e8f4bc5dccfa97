//! Binds an agent's parameters to what a task can give them, once, so that no later reader guesses.
//!
//! Explicit arguments; else the dependency of the same name; else the field of the workflow's input
//! of the same name; else the parameter's default. A `Context` parameter is nobody's to bind.

use std::collections::{HashMap, HashSet};

use super::compile::{Bindings, Known};
use super::findings::{Findings, code};
use super::lanes::check_isolation;
use super::link::Scope;
use crate::model::{AgentInfo, Expr, NodeIx, Param, Step, Task, Workflow};

/// The fields of a workflow's input, or `None` where nothing is known of it.
pub(super) struct Fields<'w>(Option<HashSet<&'w str>>);

impl<'w> Fields<'w> {
    pub fn of(workflow: &'w Workflow) -> Self {
        let properties = workflow
            .input
            .as_ref()
            .and_then(|schema| schema.get("properties"))
            .and_then(|properties| properties.as_object());
        if workflow.params.is_none() && properties.is_none() {
            return Self(None);
        }
        let params = workflow.params.iter().flatten().filter(|param| !param.context);
        let names = params.map(|param| param.name.as_str());
        Self(Some(
            names
                .chain(properties.into_iter().flat_map(|p| p.keys().map(String::as_str)))
                .collect(),
        ))
    }

    fn may_have(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|fields| fields.contains(name))
    }
}

/// What is known of agents and lanes, asked once per name.
pub(super) struct Registry<'k> {
    known: &'k dyn Known,
    agents: HashMap<String, Option<AgentInfo>>,
    lanes: Vec<String>,
    lane_names: HashSet<String>,
}

impl<'k> Registry<'k> {
    pub fn new(known: &'k dyn Known, workflow: &Workflow) -> Self {
        let mut lanes = known.lanes();
        lanes.extend(workflow.lanes.iter().map(|lane| lane.name.clone()));
        let lane_names = lanes.iter().cloned().collect();
        Self { known, agents: HashMap::new(), lanes, lane_names }
    }

    /// Checks the task's lane.
    pub fn check_lane(&self, task: &Task, findings: &mut Findings) {
        if self.lane_names.contains(&task.lane) {
            return;
        }
        let message =
            format!("task `{}` names lane `{}`, which does not exist", task.id, task.lane);
        let lanes = self.lanes.iter().map(String::as_str);
        let help = findings.suggest(&task.lane, lanes, "declare the lane");
        findings.add(code::UNKNOWN_LANE, Some(&task.id), message, help);
    }

    fn agent(&mut self, task: &Task, findings: &mut Findings) -> Option<&AgentInfo> {
        if !self.agents.contains_key(&task.agent) {
            self.agents.insert(task.agent.clone(), self.known.agent(&task.agent));
        }
        let info = self.agents.get(&task.agent).and_then(Option::as_ref);
        if info.is_none() {
            let message =
                format!("task `{}` names agent `{}`, which is not registered", task.id, task.agent);
            let names = self.known.agents();
            let names = names.iter().map(String::as_str);
            let help = findings.suggest(&task.agent, names, "register the agent, or import it");
            findings.add(code::UNKNOWN_AGENT, Some(&task.id), message, help);
        }
        info
    }
}

/// The bindings that a task does not spell out itself, to be added to its arguments.
pub(super) fn implied(
    task: &Task,
    deps: &[NodeIx],
    scope: &Scope<'_>,
    fields: &Fields<'_>,
    registry: &mut Registry<'_>,
    findings: &mut Findings,
) -> Bindings {
    let Some(agent) = registry.agent(task, findings) else { return Vec::new() };
    check_names(task, agent, findings);
    check_isolation(task, agent, findings);
    let mapped = task.each.as_ref().map(|each| each.param.as_str());
    let mut bound = Vec::new();
    for param in agent.params.iter().filter(|param| !param.context) {
        let name = param.name.as_str();
        if task.args.contains_key(name) || mapped == Some(name) {
            continue;
        }
        let dependency = scope.node(name).filter(|node| deps.binary_search(node).is_ok());
        if dependency.is_some() {
            bound.push((name.into(), Expr::Task { id: name.into(), path: Vec::new() }));
        } else if fields.may_have(name) {
            let path = vec![Step::Key(name.into())];
            bound.push((name.into(), Expr::Input { path, optional: !param.required }));
        } else if param.required {
            let message = format!(
                "task `{}` gives nothing to parameter `{name}` of agent `{}`",
                task.id, agent.name
            );
            let help = format!(
                "pass `{name}` as an argument, depend on a task `{name}`, or add it to the workflow's input"
            );
            findings.add(code::MISSING_PARAMETER, Some(&task.id), message, help);
        }
    }
    bound
}

/// Refuses arguments that the agent has no parameter for.
fn check_names(task: &Task, agent: &AgentInfo, findings: &mut Findings) {
    let mapped = task.each.as_ref().map(|each| each.param.as_str());
    for name in task.args.keys().map(String::as_str).chain(mapped) {
        let param = agent.params.iter().find(|param| param.name == name);
        let message = match param {
            Some(Param { context: true, .. }) => format!(
                "task `{}` gives an argument to parameter `{name}` of agent `{}`, which receives the context",
                task.id, agent.name
            ),
            Some(_) => continue,
            None if agent.open => continue,
            None => format!(
                "task `{}` gives an argument to `{name}`, which agent `{}` has no parameter for",
                task.id, agent.name
            ),
        };
        let params = agent.params.iter().filter(|param| !param.context);
        let names = params.map(|param| param.name.as_str()).filter(|&other| other != name);
        let help = findings.suggest(name, names, "remove the argument");
        findings.add(code::UNKNOWN_PARAMETER, Some(&task.id), message, help);
    }
}
