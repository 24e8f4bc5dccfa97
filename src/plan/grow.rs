//! Growth: tasks that join a plan while its run is under way.
//!
//! In two steps, as decide and apply are: `bind_growth` checks a growth and binds its arguments,
//! which is what the journal keeps; `regrow` adds a bound growth and asks nobody. `grow` is both.
//! Positions of constants count within the growth. New tasks may depend on those that stand and on
//! each other; those that stand never gain a dependency, so a new cycle lies among the new ones.

use std::sync::Arc;

use super::bind::Fields;
use super::compile::{Known, check_order, connect, examine};
use super::findings::{Findings, code};
use super::link::Scope;
use super::refer::change_constants;
use super::{Node, Plan, check, lanes};
use crate::model::{Error, Growth, NodeIx, Payload, Task};

impl Plan {
    /// A new plan with the growth's tasks behind those that stand. A task that stands already, with
    /// the same specification, is left as it is. Costs time and memory in proportion to the whole plan.
    ///
    /// # Errors
    /// `workflow.task_conflict` where a task differs from the one that stands under its id;
    /// `workflow.invalid` with every other problem.
    pub fn grow(&self, growth: &Growth, known: &dyn Known) -> Result<Self, Error> {
        self.regrow(&self.bind_growth(growth, known)?)
    }

    /// Checks a growth and binds its arguments. The answer holds what is new, and nothing where
    /// everything stands already; it needs no signatures any more (`regrow`).
    ///
    /// # Errors
    /// As `grow`.
    pub fn bind_growth(&self, growth: &Growth, known: &dyn Known) -> Result<Growth, Error> {
        let mut findings = Findings::default();
        let mut growth = growth.clone();
        lanes::Lanes::new(known, &self.workflow.lanes).fill(&mut growth.tasks);
        check::size(&self.workflow.name, self.nodes.len() + growth.tasks.len(), &mut findings);
        let scope = Scope::new(Some(self), &growth.tasks, growth.constants.len(), &mut findings);
        let scope = scope.with_memory(self.workflow.memory.as_ref());
        let fields = Fields::of(&self.workflow);
        let (deps, bound) = examine(&scope, &self.workflow, &fields, known, &mut findings);
        let mut tasks = Vec::with_capacity(scope.ids.len());
        let mut new_deps = Vec::with_capacity(scope.ids.len());
        for ((task, deps), bound) in growth.tasks.iter().zip(deps).zip(bound) {
            let mut task = task.clone();
            task.args.extend(bound);
            match self.node(&task.id) {
                Some(node) => self.compare(node, &task, &growth.constants, &mut findings),
                None => {
                    tasks.push(task);
                    new_deps.push(deps);
                }
            }
        }
        check_order(&scope, &new_deps, &mut findings);
        findings.into_error(&self.workflow.name)?;
        let constants = if tasks.is_empty() { Vec::new() } else { growth.constants };
        Ok(Growth { tasks, constants })
    }

    /// Adds a growth that was bound before; the journal's replay goes through here.
    ///
    /// # Errors
    /// As `grow`, where the growth is damaged or was bound against another plan.
    pub fn regrow(&self, growth: &Growth) -> Result<Self, Error> {
        let mut findings = Findings::default();
        let scope = Scope::new(Some(self), &growth.tasks, growth.constants.len(), &mut findings);
        let scope = scope.with_memory(self.workflow.memory.as_ref());
        let deps = scope.link(&mut findings);
        let mut new_deps = Vec::with_capacity(scope.ids.len());
        for (task, deps) in growth.tasks.iter().zip(deps) {
            match self.node(&task.id) {
                Some(node) => self.compare(node, task, &growth.constants, &mut findings),
                None => new_deps.push(deps),
            }
        }
        check_order(&scope, &new_deps, &mut findings);
        findings.into_error(&self.workflow.name)?;
        let (ids, new_by_id) = scope.into_names();

        let mut nodes = self.nodes.clone();
        let first = nodes.len();
        nodes.extend(ids.into_iter().zip(new_deps).map(|(id, deps)| Node {
            id,
            deps,
            dependents: vec![],
        }));
        connect(&mut nodes, first);
        let mut by_id = self.by_id.clone();
        by_id.extend(new_by_id);
        Ok(Self::assemble(Arc::new(self.grown_workflow(growth)), nodes, by_id))
    }

    /// The definition with the new tasks and their constants behind those that stand.
    fn grown_workflow(&self, growth: &Growth) -> crate::model::Workflow {
        let mut workflow = (*self.workflow).clone();
        let shift = workflow.constants.len() as u32;
        let mut added = false;
        for task in growth.tasks.iter().filter(|task| self.node(&task.id).is_none()) {
            let mut task = task.clone();
            change_constants(&mut task, &mut |at| *at += shift);
            workflow.tasks.push(task);
            added = true;
        }
        if added {
            workflow.constants.extend(growth.constants.iter().cloned());
        }
        workflow
    }

    /// Reports a bound task that differs from the one that stands under its id.
    fn compare(&self, node: NodeIx, task: &Task, constants: &[Payload], findings: &mut Findings) {
        let (stands, standing) = without_constants(self.task(node), &self.workflow.constants);
        let (comes, coming) = without_constants(task, constants);
        if stands != comes || standing != coming {
            let message = format!("task `{}` stands already and is another one", task.id);
            let help = "give the new task an id of its own";
            findings.add(code::TASK_CONFLICT, Some(&task.id), message, help);
        }
    }
}

/// The task with its constants numbered in order, and their values: equal tasks are equal in both,
/// wherever their constants lie. A position that points nowhere (reported elsewhere) has no value.
fn without_constants<'c>(
    task: &Task,
    constants: &'c [Payload],
) -> (Task, Vec<Option<&'c Payload>>) {
    let mut task = task.clone();
    let mut values = Vec::new();
    change_constants(&mut task, &mut |at| {
        values.push(constants.get(*at as usize));
        *at = values.len() as u32;
    });
    (task, values)
}
