//! What a run results in: its workflow's output expression, else its sinks.
//!
//! The expression is evaluated when somebody reads the result, by the same code that evaluates
//! arguments: it becomes the one argument of a task that is never run.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::object::{self, Mode};
use super::scope::{Scope, Site};
use crate::agent::{NodeCall, TaskResult};
use crate::model::{Error, Expr, Failure, Task, Workflow};
use crate::plan;
use crate::run::Run;

/// Name of the argument, and of the task, in messages.
const OUTPUT: &str = "output";

/// Everything that evaluating a result needs, taken from the run.
pub(super) enum Wanted {
    /// One sink, or a task's whole result.
    One(TaskResult),
    Sinks(Vec<(String, TaskResult)>),
    Expression(Arc<NodeCall>),
}

impl Wanted {
    /// Takes what is needed from a run.
    ///
    /// # Errors
    /// `workflow.invalid` where the stored definition is damaged.
    pub(super) fn of(run: &Run) -> Result<Self, Error> {
        let plan = run.plan();
        let id = |node: u32| plan.nodes[node as usize].id.to_string();
        match &plan.workflow.output {
            None => Ok(match plan.sinks[..] {
                [sink] => Self::One(run.result_of(sink)),
                _ => Self::Sinks(plan.sinks.iter().map(|&s| (id(s), run.result_of(s))).collect()),
            }),
            Some(Expr::Task { id, path }) if path.is_empty() => {
                let node = plan.node(id).ok_or_else(damaged)?;
                Ok(Self::One(run.result_of(node)))
            }
            Some(output) => call(run, output).map(|call| Self::Expression(Arc::new(call))),
        }
    }

    pub(super) fn evaluate(self, py: Python<'_>, mode: &Mode) -> Result<Py<PyAny>, Box<Failure>> {
        match self {
            Self::One(result) => value(py, &result, mode),
            Self::Sinks(sinks) => {
                let by_id = PyDict::new(py);
                for (id, result) in sinks {
                    let value = value(py, &result, mode)?;
                    by_id.set_item(id, value).expect("text keys go into a dict");
                }
                Ok(by_id.into_any().unbind())
            }
            Self::Expression(call) => {
                let output = &call.plan.task(call.node).args[OUTPUT];
                let site = Site { task: OUTPUT, param: OUTPUT };
                let found = Scope::new(py, &call, mode).eval(output, site)?;
                Ok(found.map_or_else(|| py.None(), Bound::unbind))
            }
        }
    }
}

/// A task's result as an object; a map's is the list of its children's.
pub(super) fn value(
    py: Python<'_>,
    result: &TaskResult,
    mode: &Mode,
) -> Result<Py<PyAny>, Box<Failure>> {
    match result {
        TaskResult::One(payload) => object::to_object(py, payload, mode),
        TaskResult::Missing => Ok(py.None()),
        TaskResult::Many(children) => {
            let list = PyList::empty(py);
            for child in children.iter() {
                let value = match child {
                    Some(payload) => object::to_object(py, payload, mode)?,
                    None => py.None(),
                };
                list.append(value).expect("a list takes any object");
            }
            Ok(list.into_any().unbind())
        }
    }
}

/// The call of a task that has the output as its argument, in a plan of its own.
fn call(run: &Run, output: &Expr) -> Result<NodeCall, Error> {
    let whole = run.plan();
    let mut tasks: Vec<Task> = whole.workflow.tasks.iter().map(|task| stub(&task.id)).collect();
    let name = (0..).map(|n| format!("{OUTPUT}-{n}")).find(|name| whole.node(name).is_none());
    let name = name.expect("some number is free");
    let mut task = stub(&name);
    task.args = BTreeMap::from([(OUTPUT.to_owned(), output.clone())]);
    tasks.push(task);
    let workflow = Workflow {
        name: whole.workflow.name.clone(),
        tasks,
        constants: whole.workflow.constants.clone(),
        ..Workflow::default()
    };
    let plan = plan::restore(Arc::new(workflow))?;
    let node = plan.node(&name).ok_or_else(damaged)?;
    let results = plan.nodes[node as usize].deps.iter().map(|&dep| run.result_of(dep)).collect();
    let submitted = run.submitted();
    Ok(NodeCall {
        run: run.id(),
        plan: Arc::new(plan),
        node,
        input: run.input().clone(),
        results,
        items: None,
        memory: submitted.memory.clone(),
        trace_id: submitted.trace_id.as_str().into(),
        session: None,
        letters: None,
        submitted: run.submitted_at(),
        cancelled: Arc::default(),
        memo: OnceLock::new(),
    })
}

fn stub(id: &str) -> Task {
    Task { id: id.into(), agent: OUTPUT.into(), lane: OUTPUT.into(), ..Task::default() }
}

fn damaged() -> Error {
    Error::new(
        "workflow.invalid",
        "the stored workflow's output names a task that it does not have",
        "restore the store from a backup",
    )
}
