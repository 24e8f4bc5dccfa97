//! The process's agents by name: what to call, how, and with which parameters.
//!
//! The owner thread asks for styles without the GIL; so the map's lock is never held while Python
//! runs, and replaced entries are dropped after it is released.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::agent::wire::Recipe;
use crate::model::{AgentInfo, Isolation, Style};

/// `co_flags` of a function with `yield` in it.
const CO_GENERATOR: u32 = 0x20;
const CO_ASYNC_GENERATOR: u32 = 0x200;
static AGENTS: RwLock<Option<HashMap<String, Arc<Agent>>>> = RwLock::new(None);

/// One registered agent.
pub(crate) struct Agent {
    pub(crate) function: Py<PyAny>,
    pub(crate) info: AgentInfo,
    /// How it runs where its task says nothing.
    style: Style,
    /// How worker processes find it.
    pub(super) recipe: OnceLock<Recipe>,
    /// Parameters that may be given by position, in order; empty where the callable does not say.
    pub(crate) positional: Vec<String>,
    /// Coerces an argument (dict → dataclass or model), by parameter.
    pub(crate) adapters: HashMap<String, Py<PyAny>>,
    /// The parameter that receives the `Context`.
    pub(crate) context: Option<String>,
}

impl Agent {
    pub(super) fn is_coroutine(&self) -> bool {
        self.info.kind == Isolation::Loop
    }

    /// How the agent runs where its task asks for `isolation`.
    pub(crate) fn style(&self, isolation: Isolation) -> Style {
        match isolation {
            Isolation::Auto => self.style,
            Isolation::Process => Style::Process,
            // What the function is not made for was refused when the task was compiled.
            Isolation::Thread | Isolation::Loop if self.info.kind == Isolation::Loop => Style::Loop,
            Isolation::Thread | Isolation::Loop => Style::Thread,
        }
    }
}

/// The agent of that name.
pub(crate) fn find(name: &str) -> Option<Arc<Agent>> {
    let agents = AGENTS.read().unwrap_or_else(PoisonError::into_inner);
    agents.as_ref()?.get(name).cloned()
}

/// Names of all registered agents.
pub(crate) fn names() -> Vec<String> {
    let agents = AGENTS.read().unwrap_or_else(PoisonError::into_inner);
    agents.iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn insert(name: String, agent: Arc<Agent>) {
    let mut agents = AGENTS.write().unwrap_or_else(PoisonError::into_inner);
    let replaced = agents.get_or_insert_default().insert(name, agent);
    drop(agents);
    // Only now: the last reference to a function may run its finaliser, which may ask for agents.
    drop(replaced);
}

/// Registers a function as agent `name`; an entry of the same name is replaced.
///
/// `info_json` is an `AgentInfo`; `adapters` maps a parameter to a callable that coerces its value.
///
/// # Errors
/// `TypeError` for generator functions, `ValueError` for an info that does not parse.
#[pyfunction]
#[pyo3(signature = (name, function, info_json, is_coroutine, adapters=None))]
pub(super) fn register_agent(
    name: String,
    function: &Bound<'_, PyAny>,
    info_json: &str,
    is_coroutine: bool,
    adapters: Option<HashMap<String, Py<PyAny>>>,
) -> PyResult<()> {
    if !function.is_callable() {
        return Err(PyTypeError::new_err(format!("agent `{name}` is not callable")));
    }
    let mut info: AgentInfo = serde_json::from_str(info_json)
        .map_err(|error| PyValueError::new_err(format!("info of agent `{name}`: {error}")))?;
    let code = Code::of(function);
    if code.flags & (CO_GENERATOR | CO_ASYNC_GENERATOR) != 0 {
        return Err(PyTypeError::new_err(format!(
            "agent `{name}` is a generator function; build the list and return it"
        )));
    }
    info.kind = if is_coroutine { Isolation::Loop } else { Isolation::Thread };
    let style = match (info.isolation, is_coroutine) {
        (Isolation::Thread, true) => {
            return Err(PyValueError::new_err(format!(
                "agent `{name}` is a coroutine function and runs on the loop; drop isolation=\"thread\""
            )));
        }
        (Isolation::Loop, false) => {
            return Err(PyValueError::new_err(format!(
                "agent `{name}` is a plain function and would block the loop; drop isolation=\"loop\""
            )));
        }
        (Isolation::Process, _) => Style::Process,
        (_, true) => Style::Loop,
        (_, false) => Style::Thread,
    };
    let context = info.params.iter().find(|param| param.context).map(|param| param.name.clone());
    let agent = Agent {
        function: function.clone().unbind(),
        style,
        recipe: OnceLock::new(),
        positional: code.positional,
        adapters: adapters.unwrap_or_default(),
        context,
        info,
    };
    insert(name, Arc::new(agent));
    Ok(())
}

/// What the code object of a plain function or bound method says.
#[derive(Default)]
struct Code {
    flags: u32,
    positional: Vec<String>,
}

impl Code {
    fn of(function: &Bound<'_, PyAny>) -> Self {
        Self::read(function).unwrap_or_default()
    }

    fn read(function: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = function.py();
        let code = function.getattr(intern!(py, "__code__"))?;
        let bound = function.getattr(intern!(py, "__self__")).is_ok();
        let count: usize = code.getattr(intern!(py, "co_argcount"))?.extract()?;
        let names: Vec<String> = code.getattr(intern!(py, "co_varnames"))?.extract()?;
        let flags = code.getattr(intern!(py, "co_flags"))?.extract()?;
        let positional = names.into_iter().take(count).skip(usize::from(bound)).collect();
        Ok(Self { flags, positional })
    }
}

/// Imports the modules that the names point into, and returns the names that are still unknown.
///
/// `package.module.function` imports `package.module`, else `package`. An object found under the
/// path that is registered under another name becomes known under this one too.
#[pyfunction]
pub(super) fn import_agents(py: Python<'_>, names: Vec<String>) -> PyResult<Vec<String>> {
    let mut missing = Vec::new();
    for name in names {
        if find(&name).is_none() && !import(py, &name)? {
            missing.push(name);
        }
    }
    Ok(missing)
}

/// Imports what `name` points into; true when the agent is known afterwards.
///
/// # Errors
/// What the module raises while it is imported, save that it does not exist.
pub(super) fn import(py: Python<'_>, name: &str) -> PyResult<bool> {
    let importer = py.import("importlib")?.getattr(intern!(py, "import_module"))?;
    let mut module = name;
    while let Some((head, _)) = module.rsplit_once('.') {
        module = head;
        if head.is_empty() {
            return Ok(false);
        }
        let path = PyString::new(py, head);
        match super::call::call(&importer, &[path.as_any()]) {
            Ok(found) => return Ok(find(name).is_some() || alias(&found, name, head)),
            Err(error) if absent(py, &error, head) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// True when the error says that `module` itself, or a parent of it, does not exist.
fn absent(py: Python<'_>, error: &PyErr, module: &str) -> bool {
    error.is_instance_of::<pyo3::exceptions::PyModuleNotFoundError>(py)
        && error
            .value(py)
            .getattr(intern!(py, "name"))
            .and_then(|name| name.extract::<String>())
            .is_ok_and(|name| module == name || module.starts_with(&format!("{name}.")))
}

/// Makes the registered object that lies under the path known under this name too.
fn alias(module: &Bound<'_, PyAny>, name: &str, head: &str) -> bool {
    let path = name[head.len() + 1..].split('.');
    let found = path.into_iter().try_fold(module.clone(), |object, part| object.getattr(part));
    let own = found.and_then(|object| object.getattr("name")?.extract::<String>());
    let Some(agent) = own.ok().and_then(|own| find(&own)) else {
        return false;
    };
    insert(name.to_owned(), agent);
    true
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(register_agent, module)?)?;
    module.add_function(wrap_pyfunction!(import_agents, module)?)?;
    Ok(())
}
