//! What the expressions of a plan stand for while one node is evaluated.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use pyo3::exceptions::{PyAttributeError, PyLookupError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString};
use serde_json::Value;

use super::failure;
use super::object::{self, Mode};
use super::template::{self, Names};
use crate::agent::{NodeCall, TaskResult};
use crate::model::{Expr, Failure, Step};

/// Where an expression stands, for messages.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) task: &'a str,
    pub(super) param: &'a str,
}

impl fmt::Display for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task `{}`, `{}`", self.task, self.param)
    }
}

/// One node's view of input and results; each is decoded at most once.
pub(super) struct Scope<'a, 'py> {
    py: Python<'py>,
    call: &'a Arc<NodeCall>,
    mode: Mode,
    input: OnceCell<Bound<'py, PyAny>>,
    results: Vec<OnceCell<Bound<'py, PyAny>>>,
    /// What was looked up in memory, once it was.
    memory: Option<Bound<'py, PyAny>>,
}

type Found<'py> = Result<Bound<'py, PyAny>, Box<Failure>>;

impl<'a, 'py> Scope<'a, 'py> {
    pub(super) fn new(py: Python<'py>, call: &'a Arc<NodeCall>, mode: &Mode) -> Self {
        let results = call.results.iter().map(|_| OnceCell::new()).collect();
        Self { py, call, mode: *mode, input: OnceCell::new(), results, memory: None }
    }

    /// The same with what was looked up in memory.
    pub(super) fn with_memory(self, memory: &Bound<'py, PyAny>) -> Self {
        Self { memory: Some(memory.clone()), ..self }
    }

    /// The expression's value; `None` for a field that the input may lack and does.
    ///
    /// # Errors
    /// A failure of kind `Binding` or `Payload` that names the task and the parameter.
    pub(super) fn eval(
        &self,
        expr: &Expr,
        site: Site<'_>,
    ) -> Result<Option<Bound<'py, PyAny>>, Box<Failure>> {
        self.value(expr, site).map_err(|mut failure| {
            let place = site.to_string();
            if !failure.message.starts_with(&place) {
                failure.message = format!("{place}: {}", failure.message);
            }
            failure
        })
    }

    fn list(&self, parts: &[Expr], site: Site<'_>) -> Result<Bound<'py, PyList>, Box<Failure>> {
        let list = PyList::empty(self.py);
        for part in parts {
            let value = self.value(part, site)?;
            let value = value.unwrap_or_else(|| self.py.None().into_bound(self.py));
            list.append(value).map_err(|error| unreadable(self.py, &error))?;
        }
        Ok(list)
    }

    fn value(
        &self,
        expr: &Expr,
        site: Site<'_>,
    ) -> Result<Option<Bound<'py, PyAny>>, Box<Failure>> {
        let py = self.py;
        Ok(Some(match expr {
            Expr::Value(value) => json(py, value).map_err(|error| unreadable(py, &error))?,
            Expr::Const(at) => {
                let constants = &self.call.plan.workflow.constants;
                let constant = constants.get(*at as usize).ok_or_else(|| {
                    failure::binding("task.binding", format!("there is no constant {at}"))
                })?;
                object::to_object(py, constant, &self.mode)?.into_bound(py)
            }
            Expr::Input { path, optional } => {
                let input = self.input()?;
                match self.walk(input, path, "input")? {
                    Ok(value) => value,
                    Err(_) if *optional => return Ok(None),
                    Err(message) => return Err(failure::binding("task.binding", message)),
                }
            }
            Expr::Task { id, path } => self.task(id, path)?,
            Expr::Template(source) => template::render(py, source, self.names())?,
            Expr::Condition(source) => template::condition(py, source, self.names())?,
            Expr::List(parts) => self.list(parts, site)?.into_any(),
            Expr::Tuple(parts) => self.list(parts, site)?.to_tuple().into_any(),
            Expr::Dict(parts) => {
                let dict = PyDict::new(py);
                for (key, part) in parts {
                    if let Some(value) = self.value(part, site)? {
                        dict.set_item(key, value).map_err(|error| unreadable(py, &error))?;
                    }
                }
                dict.into_any()
            }
            Expr::Not(inner) => PyBool::new(py, !self.holds(inner, site)?).to_owned().into_any(),
            Expr::All(parts) => {
                let mut all = true;
                for part in parts {
                    all = all && self.holds(part, site)?;
                }
                PyBool::new(py, all).to_owned().into_any()
            }
        }))
    }

    fn holds(&self, expr: &Expr, site: Site<'_>) -> Result<bool, Box<Failure>> {
        self.value(expr, site)?.map_or(Ok(false), |value| self.truth(&value, site))
    }

    /// Python's truth of a value.
    ///
    /// # Errors
    /// It has none: its `__bool__` raised.
    pub(super) fn truth(
        &self,
        value: &Bound<'py, PyAny>,
        site: Site<'_>,
    ) -> Result<bool, Box<Failure>> {
        value.is_truthy().map_err(|raised| {
            let what = format!("{site}: the value is neither true nor false");
            failure::caused_by(self.py, &raised, "task.binding", &what)
        })
    }

    fn input(&self) -> Found<'py> {
        if let Some(input) = self.input.get() {
            return Ok(input.clone());
        }
        let input = object::to_object(self.py, &self.call.input, &self.mode)?.into_bound(self.py);
        Ok(self.input.get_or_init(|| input).clone())
    }

    fn task(&self, id: &str, path: &[Step]) -> Found<'py> {
        let node = self.call.plan.node(id);
        let deps = &self.call.plan.nodes[self.call.node as usize].deps;
        let at = node.and_then(|node| deps.binary_search(&node).ok()).ok_or_else(|| {
            failure::binding("task.binding", format!("`{id}` is no dependency of the task"))
        })?;
        if matches!(self.call.results[at], TaskResult::Missing) {
            return Ok(self.py.None().into_bound(self.py));
        }
        let value = match self.results[at].get() {
            Some(value) => value.clone(),
            None => {
                let value = result(self.py, &self.call.results[at], &self.mode)?;
                self.results[at].get_or_init(|| value).clone()
            }
        };
        self.walk(value, path, id)?.map_err(|message| failure::binding("task.binding", message))
    }

    /// Follows a path; the inner error is a message that says what is missing.
    fn walk(
        &self,
        start: Bound<'py, PyAny>,
        path: &[Step],
        root: &str,
    ) -> Result<Result<Bound<'py, PyAny>, String>, Box<Failure>> {
        let mut value = start;
        let mut walked = root.to_owned();
        for step in path {
            match self.step(&value, step) {
                Ok(next) => value = next,
                Err(raised) if is_absence(self.py, &raised) => {
                    let class =
                        value.get_type().name().map_or_else(|_| "?".into(), |n| n.to_string());
                    return Ok(Err(format!("`{walked}` ({class}) has no {}", shown(step))));
                }
                Err(raised) => {
                    let what = format!("{} of `{walked}` cannot be read", shown(step));
                    return Err(failure::caused_by(self.py, &raised, "task.binding", &what));
                }
            }
            walked.push_str(&suffix(step));
        }
        Ok(Ok(value))
    }

    fn step(&self, value: &Bound<'py, PyAny>, step: &Step) -> PyResult<Bound<'py, PyAny>> {
        match step {
            Step::Index(index) => value.get_item(index),
            Step::Attr(name) => value.getattr(name.as_str()),
            Step::Key(key) if value.is_instance_of::<PyDict>() => value.get_item(key),
            // A dataclass or a model; else a mapping of another make.
            Step::Key(key) => value.getattr(key.as_str()).or_else(|raised| {
                if value.hasattr("__getitem__")? && !value.is_instance_of::<PyString>() {
                    value.get_item(key)
                } else {
                    Err(raised)
                }
            }),
        }
    }

    fn names(&self) -> CallNames {
        let memory = self.memory.as_ref().map(|memory| memory.clone().unbind());
        CallNames(Arc::clone(self.call), self.mode, memory)
    }
}

fn result<'py>(py: Python<'py>, result: &TaskResult, mode: &Mode) -> Found<'py> {
    match result {
        TaskResult::One(payload) => Ok(object::to_object(py, payload, mode)?.into_bound(py)),
        TaskResult::Missing => Ok(py.None().into_bound(py)),
        TaskResult::Many(children) => {
            let list = PyList::empty(py);
            for child in children.iter() {
                let value = match child {
                    Some(payload) => object::to_object(py, payload, mode)?,
                    None => py.None(),
                };
                list.append(value).map_err(|error| unreadable(py, &error))?;
            }
            Ok(list.into_any())
        }
    }
}

fn is_absence(py: Python<'_>, raised: &PyErr) -> bool {
    raised.is_instance_of::<PyLookupError>(py)
        || raised.is_instance_of::<PyAttributeError>(py)
        || raised.is_instance_of::<pyo3::exceptions::PyTypeError>(py)
}

fn shown(step: &Step) -> String {
    match step {
        Step::Key(key) => format!("field `{key}`"),
        Step::Index(index) => format!("element {index}"),
        Step::Attr(name) => format!("attribute `{name}`"),
    }
}

fn suffix(step: &Step) -> String {
    match step {
        Step::Key(key) => format!("[\"{key}\"]"),
        Step::Index(index) => format!("[{index}]"),
        Step::Attr(name) => format!(".{name}"),
    }
}

fn unreadable(py: Python<'_>, raised: &PyErr) -> Box<Failure> {
    failure::caused_by(py, raised, "task.binding", "the value cannot be built")
}

fn json<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(truth) => PyBool::new(py, *truth).to_owned().into_any(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => number.into_pyobject(py)?.into_any(),
            (_, Some(number), _) => number.into_pyobject(py)?.into_any(),
            (.., number) => number.into_pyobject(py)?.into_any(),
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(parts) => {
            let list = PyList::empty(py);
            for part in parts {
                list.append(json(py, part)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (key, part) in fields {
                dict.set_item(key, json(py, part)?)?;
            }
            dict.into_any()
        }
    })
}

/// The names of a template: `input`, `run`, the results of the task's dependencies by id, and `memory`
/// where something was looked up.
struct CallNames(Arc<NodeCall>, Mode, Option<Py<PyAny>>);

impl Names for CallNames {
    fn find<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> Result<Option<Bound<'py, PyAny>>, Box<Failure>> {
        let call = &self.0;
        match name {
            "input" => Ok(Some(object::to_object(py, &call.input, &self.1)?.into_bound(py))),
            "memory" => Ok(self.2.as_ref().map(|memory| memory.bind(py).clone())),
            "run" => run(py, call).map(Some).map_err(|error| unreadable(py, &error)),
            id => {
                let deps = &call.plan.nodes[call.node as usize].deps;
                let at = call.plan.node(id).and_then(|node| deps.binary_search(&node).ok());
                at.map(|at| result(py, &call.results[at], &self.1)).transpose()
            }
        }
    }
}

fn run<'py>(py: Python<'py>, call: &NodeCall) -> PyResult<Bound<'py, PyAny>> {
    let run = PyDict::new(py);
    run.set_item("id", call.run.to_string())?;
    run.set_item("workflow", &call.plan.workflow.name)?;
    run.set_item("trace_id", &*call.trace_id)?;
    // Unix time in seconds, as `time.time()` has it.
    run.set_item("submitted", call.submitted.0 as f64 / 1000.0)?;
    Ok(run.into_any())
}
