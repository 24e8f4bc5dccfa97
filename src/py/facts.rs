//! Facts as rows that Python expands into events.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::model::{Detail, Fact, Failure, RunId, Span, WHOLE};
use crate::plan::Plan;

/// `(seq, at ms, type, run, task, first child, tasks, attempt, data)`; no first child where the
/// task is no map or the fact is about the whole of it.
pub(super) type FactRow<'py> = (
    u64,
    u64,
    &'static str,
    String,
    Option<String>,
    Option<u32>,
    u32,
    u32,
    Option<Bound<'py, PyDict>>,
);

/// Makes a row; `plan` finds the plan of a run that has at least so many nodes.
pub(super) fn row<'py>(
    py: Python<'py>,
    fact: &Fact,
    plan: impl Fn(RunId, usize) -> PyResult<Option<Arc<Plan>>>,
) -> PyResult<FactRow<'py>> {
    let (task, first) = match fact.span {
        None => (None, None),
        Some(span) => {
            let plan = plan(fact.run, span.node as usize + 1)?;
            let (task, first) = name(span, plan.as_deref());
            (Some(task), first)
        }
    };
    let data = fact.detail.as_deref().map(|detail| data(py, detail)).transpose()?;
    let (run, len) = (fact.run.to_string(), fact.span.map_or(1, |span| span.len));
    Ok((fact.seq, fact.at.0, fact.kind.as_str(), run, task, first, len, fact.attempt, data))
}

/// The task's id, and the first child where children are meant.
fn name(span: Span, plan: Option<&Plan>) -> (String, Option<u32>) {
    let node = plan.and_then(|plan| Some((plan, plan.nodes.get(span.node as usize)?)));
    let Some((plan, node)) = node else {
        // Its run was forgotten: the position is all that is left of the name.
        return (format!("#{}", span.node), (span.lo != WHOLE).then_some(span.lo));
    };
    let is_child = plan.task(span.node).each.is_some() && span.lo != WHOLE;
    (node.id.to_string(), is_child.then_some(span.lo))
}

fn data<'py>(py: Python<'py>, detail: &Detail) -> PyResult<Bound<'py, PyDict>> {
    let data = PyDict::new(py);
    match detail {
        Detail::Failure { failure, retry_at } => {
            data.set_item("error", error(py, failure)?)?;
            if let Some(at) = retry_at {
                data.set_item("retry_at", at.0 as f64 / 1000.0)?;
            }
        }
        Detail::Progress { done, total, text } => {
            data.set_item("done", done)?;
            data.set_item("total", total)?;
            data.set_item("text", text)?;
        }
        Detail::Reason(reason) => data.set_item("reason", reason)?,
        Detail::Warning { code, reason } => {
            data.set_item("code", code)?;
            data.set_item("reason", reason)?;
        }
        Detail::Swept { forgotten, left, failure } => {
            data.set_item("forgotten", forgotten)?;
            data.set_item("left", left)?;
            if let Some(reason) = failure {
                data.set_item("reason", reason)?;
            }
        }
        Detail::Into(run) => data.set_item("into", run.to_string())?,
        Detail::From(run) => data.set_item("from", run.to_string())?,
        Detail::Count(count) => data.set_item("count", count)?,
    }
    Ok(data)
}

fn error<'py>(py: Python<'py>, failure: &Failure) -> PyResult<Bound<'py, PyDict>> {
    let error = PyDict::new(py);
    error.set_item("code", &failure.code)?;
    error.set_item("type", failure.types.first())?;
    error.set_item("message", &failure.message)?;
    Ok(error)
}
