//! What a lane says for its tasks, and where a full lane sends them.
//!
//! A lane's `isolation` and `rate_key` hold for tasks that say nothing. They are written into the
//! task here, when the engine's lanes are known and before the definition is hashed and journaled:
//! so a run keeps what it was submitted with when its lane changes, when it is redirected, and when
//! it is recovered by an engine with other lanes.

use std::collections::HashMap;

use super::compile::Known;
use super::findings::{Findings, code};
use crate::model::{AgentInfo, Expr, Isolation, LaneSpec, OnFull, Task, Workflow};

/// The lanes that a definition meets, looked up once each: the engine's, then those it brings along.
pub(super) struct Lanes<'w> {
    known: &'w dyn Known,
    brought: &'w [LaneSpec],
    seen: HashMap<String, Option<LaneSpec>>,
}

impl<'w> Lanes<'w> {
    pub fn new(known: &'w dyn Known, brought: &'w [LaneSpec]) -> Self {
        Self { known, brought, seen: HashMap::new() }
    }

    fn spec(&mut self, name: &str) -> Option<&LaneSpec> {
        if !self.seen.contains_key(name) {
            // A lane that the engine has stays as it is, whatever the workflow says of it.
            let brought = || self.brought.iter().find(|lane| lane.name == name).cloned();
            self.seen.insert(name.into(), self.known.lane(name).or_else(brought));
        }
        self.seen.get(name)?.as_ref()
    }

    /// Writes into tasks what their lanes say for them.
    pub fn fill(&mut self, tasks: &mut [Task]) {
        for task in tasks {
            let Some(lane) = self.spec(&task.lane) else { continue };
            if task.isolation == Isolation::Auto {
                task.isolation = lane.isolation;
            }
            if let (None, Some(key)) = (&task.rate_key, &lane.rate_key) {
                let is_template = key.contains("{{") || key.contains("{%");
                task.rate_key = Some(if is_template {
                    Expr::Template(key.clone())
                } else {
                    Expr::Value(key.clone().into())
                });
            }
        }
    }

    /// Checks what one attempt costs against what its lane can ever give at once.
    pub fn check_cost(&mut self, task: &Task, findings: &mut Findings) {
        let Some(rate) = self.spec(&task.lane).and_then(|lane| lane.rate) else { return };
        if task.cost > rate.burst {
            let message = format!(
                "task `{}` costs {}, and lane `{}` never gives more than {} at once",
                task.id, task.cost, task.lane, rate.burst
            );
            let help = "raise the lane's burst, or lower the cost";
            findings.add(code::BAD_OPTION, Some(&task.id), message, help);
        }
    }

    /// Checks that every redirection of the lanes brought along leads to an end.
    pub fn check_redirects(&mut self, findings: &mut Findings) {
        for lane in self.brought {
            let mut path = vec![lane.name.clone()];
            while let Some(to) = self.redirect(path.last().map_or("", String::as_str)) {
                let help = "name a lane that exists, and let the last one block or drop";
                if path.contains(&to) {
                    path.push(to);
                    let message = format!("lanes redirect in a circle: {}", path.join(" → "));
                    findings.add(code::BAD_LANE, None, message, help);
                    break;
                }
                if self.spec(&to).is_none() && !self.known.lanes().contains(&to) {
                    let from = path.last().map_or("", String::as_str);
                    let message =
                        format!("lane `{from}` redirects to `{to}`, which does not exist");
                    findings.add(code::UNKNOWN_LANE, None, message, help);
                    break;
                }
                path.push(to);
            }
        }
    }

    fn redirect(&mut self, name: &str) -> Option<String> {
        match &self.spec(name)?.on_full {
            OnFull::Redirect(to) => Some(to.clone()),
            OnFull::Block | OnFull::DropNewest | OnFull::DropOldest => None,
        }
    }
}

/// Fills in what the lanes say, for every task of a definition.
pub(super) fn fill(workflow: &mut Workflow, known: &dyn Known) {
    let mut tasks = std::mem::take(&mut workflow.tasks);
    Lanes::new(known, &workflow.lanes).fill(&mut tasks);
    workflow.tasks = tasks;
}

/// Checks that a task asks for a way to run that its agent has.
pub(super) fn check_isolation(task: &Task, agent: &AgentInfo, findings: &mut Findings) {
    let (wanted, kind) = match (task.isolation, agent.kind) {
        (Isolation::Thread, Isolation::Loop) => ("thread", "an `async def`"),
        (Isolation::Loop, Isolation::Thread) => ("loop", "a plain `def`"),
        _ => return,
    };
    let message = format!(
        "task `{}` asks for isolation \"{wanted}\", and its agent `{}` is {kind}",
        task.id, agent.name
    );
    let help = "leave the isolation out, of the task and of its lane, or use \"process\"";
    findings.add(code::BAD_OPTION, Some(&task.id), message, help);
}
