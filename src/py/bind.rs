//! Arguments: expressions of the plan evaluated to Python objects, once per node where they can be.
//!
//! What does not depend on a map's item is evaluated once and kept in the call's memo, shared by all
//! batches and threads; a call of a child then only puts its item into its slot.

use std::any::Any;
use std::ptr;
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

use super::object::{self, Mode};
use super::recall::{self, Recalled};
use super::registry::{self, Agent};
use super::scope::{Scope, Site};
use super::{call as python, failure};
use crate::agent::{Batch, NodeCall, Resolution};
use crate::model::{Failure, Opaque, Task};

/// Bound of a rate's key, bytes.
const KEY_BYTES_MAX: usize = 1 << 10;

/// Where an argument comes from.
enum Source {
    /// The same for all children.
    Fixed(Py<PyAny>),
    Item,
    Context,
    /// It refers to what is looked up in memory for each attempt.
    Recalled(String),
}

/// A node's call, ready to be repeated for every child.
pub(super) struct Binding {
    pub(super) agent: Arc<Agent>,
    sources: Vec<Source>,
    /// How many of them go by position.
    positional: usize,
    /// Names of the others.
    names: Option<Py<PyTuple>>,
    /// A map's items, decoded.
    items: Option<Py<PyList>>,
    item_adapter: Option<(String, Py<PyAny>)>,
}

/// What the memo of a call holds: the refusal is remembered too.
struct Memo(Result<Arc<Binding>, Box<Failure>>);

impl Opaque for Memo {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The node's binding, made by whoever comes first.
///
/// # Errors
/// The failure of every child: an unknown agent, an argument that cannot be evaluated.
pub(super) fn node(
    py: Python<'_>,
    call: &Arc<NodeCall>,
    mode: &Mode,
) -> Result<Arc<Binding>, Box<Failure>> {
    if let Some(binding) = call.memo.get().and_then(read) {
        return binding;
    }
    // Not `get_or_init`: evaluation runs Python, and whoever waited for it would hold the GIL.
    let made = Binding::new(py, call, mode).map(Arc::new);
    let _ = call.memo.set(Arc::new(Memo(made.clone())));
    // Set by somebody else, or what worker processes keep there: then this one is used once.
    call.memo.get().and_then(read).unwrap_or(made)
}

fn read(memo: &Arc<dyn Opaque>) -> Option<Result<Arc<Binding>, Box<Failure>>> {
    memo.as_ref().as_any().downcast_ref::<Memo>().map(|memo| memo.0.clone())
}

impl Binding {
    fn new(py: Python<'_>, call: &Arc<NodeCall>, mode: &Mode) -> Result<Self, Box<Failure>> {
        let task = call.plan.task(call.node);
        let agent = registry::find(&task.agent).ok_or_else(|| {
            let message = format!("task `{}`: agent `{}` is not registered", task.id, task.agent);
            failure::binding("agent.unknown", message)
        })?;
        let scope = Scope::new(py, call, mode);
        let mut given: Vec<(String, Source)> = Vec::new();
        for (name, expr) in &task.args {
            if recall::waits(call, expr) {
                given.push((name.clone(), Source::Recalled(name.clone())));
                continue;
            }
            let site = Site { task: &task.id, param: name };
            if let Some(value) = scope.eval(expr, site)? {
                let value = adapt(&agent, site, value)?;
                given.push((name.clone(), Source::Fixed(value.unbind())));
            }
        }
        let mut item_adapter = None;
        if let Some(each) = &task.each {
            given.retain(|(name, _)| *name != each.param);
            given.push((each.param.clone(), Source::Item));
            let adapter = agent.adapters.get(&each.param);
            item_adapter = adapter.map(|adapter| (each.param.clone(), adapter.clone_ref(py)));
        }
        if let Some(context) = &agent.context {
            given.retain(|(name, _)| name != context);
            given.push((context.clone(), Source::Context));
        }
        let items =
            call.items.as_ref().map(|items| list_of(py, items, &task.id, mode)).transpose()?;
        let (sources, positional, names) = arrange(py, &agent, given);
        Ok(Self { agent, sources, positional, names, items, item_adapter })
    }

    /// Buffers for one thread's calls.
    pub(super) fn args<'b, 'py>(&'b self, py: Python<'py>) -> Args<'b, 'py> {
        let mut slots = vec![ptr::null_mut(); self.sources.len() + 1];
        for (slot, source) in slots[1..].iter_mut().zip(&self.sources) {
            if let Source::Fixed(value) = source {
                *slot = value.as_ptr();
            }
        }
        let at =
            |wanted: fn(&Source) -> bool| self.sources.iter().position(wanted).map(|at| at + 1);
        Args {
            binding: self,
            slots,
            names: self.names.as_ref().map_or(ptr::null_mut(), |names| names.as_ptr()),
            item_at: at(|source| matches!(source, Source::Item)),
            context_at: at(|source| matches!(source, Source::Context)),
            items: self.items.as_ref().map(|items| items.bind(py).clone()),
            items_lo: 0,
            item_adapter: self.item_adapter.as_ref().map(|(_, adapter)| adapter.bind(py).clone()),
            item: None,
            context: None,
            recalled: Vec::new(),
            function: self.agent.function.bind(py).clone(),
        }
    }
}

/// Sorts arguments into those by position, as far as the signature's order carries, and by name.
fn arrange(
    py: Python<'_>,
    agent: &Agent,
    mut given: Vec<(String, Source)>,
) -> (Vec<Source>, usize, Option<Py<PyTuple>>) {
    let mut sources = Vec::with_capacity(given.len());
    for name in &agent.positional {
        let Some(at) = given.iter().position(|(given, _)| given == name) else { break };
        sources.push(given.swap_remove(at).1);
    }
    let positional = sources.len();
    if given.is_empty() {
        return (sources, positional, None);
    }
    let names: Vec<_> = given.iter().map(|(name, _)| PyString::intern(py, name)).collect();
    sources.extend(given.into_iter().map(|(_, source)| source));
    let names = PyTuple::new(py, names).expect("a tuple of strings").unbind();
    (sources, positional, Some(names))
}

fn adapt<'py>(
    agent: &Agent,
    site: Site<'_>,
    value: Bound<'py, PyAny>,
) -> Result<Bound<'py, PyAny>, Box<Failure>> {
    match agent.adapters.get(site.param) {
        Some(adapter) => adapted(site, adapter.bind(value.py()), &value),
        None => Ok(value),
    }
}

fn adapted<'py>(
    site: Site<'_>,
    adapter: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyAny>, Box<Failure>> {
    python::call(adapter, &[value]).map_err(|raised| {
        let what = format!("{site}: the value does not fit the parameter's type");
        failure::caused_by(value.py(), &raised, "task.binding", &what)
    })
}

pub(super) fn list_of(
    py: Python<'_>,
    items: &crate::model::Payload,
    task: &str,
    mode: &Mode,
) -> Result<Py<PyList>, Box<Failure>> {
    let items = object::to_object(py, items, mode)?.into_bound(py);
    items.cast_into::<PyList>().map(Bound::unbind).map_err(|_| {
        failure::binding("task.binding", format!("task `{task}`: its items are no list"))
    })
}

/// The argument buffer of one thread, and what keeps its changing arguments alive.
pub(super) struct Args<'b, 'py> {
    binding: &'b Binding,
    slots: Vec<*mut ffi::PyObject>,
    names: *mut ffi::PyObject,
    item_at: Option<usize>,
    context_at: Option<usize>,
    items: Option<Bound<'py, PyList>>,
    /// The child that gets the first of the items.
    items_lo: u32,
    item_adapter: Option<Bound<'py, PyAny>>,
    item: Option<Bound<'py, PyAny>>,
    context: Option<Bound<'py, PyAny>>,
    /// Arguments that refer to what was looked up.
    recalled: Vec<Bound<'py, PyAny>>,
    function: Bound<'py, PyAny>,
}

impl<'py> Args<'_, 'py> {
    /// Takes the items that came with the batch, where they did.
    ///
    /// # Errors
    /// They cannot be decoded.
    pub(super) fn take_items(
        &mut self,
        py: Python<'py>,
        batch: &Batch,
        mode: &Mode,
    ) -> Result<(), Box<Failure>> {
        if let Some(items) = &batch.items {
            let task = &batch.call.plan.task(batch.call.node).id;
            self.items = Some(list_of(py, items, task, mode)?.into_bound(py));
            self.items_lo = batch.items_lo;
        }
        Ok(())
    }

    /// Puts the arguments that refer to what was looked up into their slots.
    ///
    /// # Errors
    /// One does not fit its parameter's type.
    pub(super) fn take_recalled(
        &mut self,
        py: Python<'py>,
        task: &str,
        recalled: &Recalled,
    ) -> Result<(), Box<Failure>> {
        for (at, source) in self.binding.sources.iter().enumerate() {
            let Source::Recalled(param) = source else { continue };
            let found = recalled.args.iter().find(|(name, _)| name == param);
            let value = found.map_or_else(|| py.None(), |(_, value)| value.clone_ref(py));
            let site = Site { task, param };
            let value = adapt(&self.binding.agent, site, value.into_bound(py))?;
            self.slots[at + 1] = value.as_ptr();
            self.recalled.push(value);
        }
        Ok(())
    }

    pub(super) fn wants_context(&self) -> bool {
        self.context_at.is_some()
    }

    /// Puts child `child`'s item into its slot.
    ///
    /// # Errors
    /// The item does not fit the parameter's type.
    #[inline]
    pub(super) fn set_item(&mut self, call: &NodeCall, child: u32) -> Result<(), Box<Failure>> {
        let (Some(at), Some(items)) = (self.item_at, &self.items) else { return Ok(()) };
        let mut item = items.get_item((child - self.items_lo) as usize).map_err(|_| {
            let task = &call.plan.task(call.node).id;
            let message = format!("task `{task}`: there is no item {child}");
            failure::binding("task.binding", message)
        })?;
        if let (Some(adapter), Some((param, _))) = (&self.item_adapter, &self.binding.item_adapter)
        {
            let task = format!("{}[{child}]", call.plan.task(call.node).id);
            item = adapted(Site { task: &task, param }, adapter, &item)?;
        }
        self.slots[at] = item.as_ptr();
        self.item = Some(item);
        Ok(())
    }

    pub(super) fn set_context(&mut self, context: Bound<'py, PyAny>) {
        if let Some(at) = self.context_at {
            self.slots[at] = context.as_ptr();
            self.context = Some(context);
        }
    }

    /// Calls the agent.
    ///
    /// # Errors
    /// What it raises.
    #[inline]
    pub(super) fn call(&mut self) -> PyResult<Bound<'py, PyAny>> {
        debug_assert!(self.slots[1..].iter().all(|slot| !slot.is_null()));
        // SAFETY: attached for `'py`; fixed arguments live in the binding, the others in `self`;
        // `names` has one string per slot after the positional ones (`arrange`).
        unsafe {
            let result = python::vectorcall(
                self.function.as_ptr(),
                &mut self.slots,
                self.binding.positional,
                self.names,
            );
            Bound::from_owned_ptr_or_err(self.function.py(), result)
        }
    }
}

/// Evaluates a node's `when` and `each`.
pub(super) fn resolve(py: Python<'_>, call: &Arc<NodeCall>, mode: &Mode) -> Resolution {
    try_resolve(py, call, mode).unwrap_or_else(Resolution::Failed)
}

fn try_resolve(
    py: Python<'_>,
    call: &Arc<NodeCall>,
    mode: &Mode,
) -> Result<Resolution, Box<Failure>> {
    let task = call.plan.task(call.node);
    let scope = Scope::new(py, call, mode);
    if let Some(when) = &task.when {
        let site = Site { task: &task.id, param: "when" };
        let value = scope.eval(when, site)?;
        let holds = value.map(|value| scope.truth(&value, site)).transpose()?;
        if holds != Some(true) {
            return Ok(Resolution::Skip);
        }
    }
    let key = rate_key(&scope, task)?;
    let Some(each) = &task.each else { return Ok(Resolution::Go { key }) };
    let site = Site { task: &task.id, param: &each.param };
    let value = scope.eval(&each.items, site)?.ok_or_else(|| {
        failure::binding("task.binding", format!("{site}: the input has no such field"))
    })?;
    let list = items(&value, site)?;
    let count = u32::try_from(list.len()).map_err(|_| {
        failure::binding("task.binding", format!("{site}: too many items for one map"))
    })?;
    Ok(Resolution::Items { items: object::to_payload(list.as_any(), mode)?, count, key })
}

/// Whose rate the task counts against: a text, or a number as text; `None` stands for nobody.
fn rate_key(scope: &Scope<'_, '_>, task: &Task) -> Result<Option<Arc<str>>, Box<Failure>> {
    let Some(expr) = &task.rate_key else { return Ok(None) };
    let site = Site { task: &task.id, param: "rate_key" };
    let Some(value) = scope.eval(expr, site)?.filter(|value| !value.is_none()) else {
        return Ok(None);
    };
    let plain = value.is_instance_of::<PyString>() || value.is_instance_of::<PyInt>();
    if !plain {
        let class = value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
        let message = format!("{site}: a key is a text or a number, not {class}");
        return Err(failure::binding("task.binding", message));
    }
    let text = value.to_string();
    if text.len() > KEY_BYTES_MAX {
        let message = format!("{site}: a key has at most {KEY_BYTES_MAX} bytes");
        return Err(failure::binding("task.binding", message));
    }
    Ok(Some(text.into()))
}

/// A list of its own of any iterable but text, bytes and dicts.
fn items<'py>(
    value: &Bound<'py, PyAny>,
    site: Site<'_>,
) -> Result<Bound<'py, PyList>, Box<Failure>> {
    let py = value.py();
    let text = value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>();
    let refused = text || value.is_instance_of::<PyDict>();
    let listed =
        if refused { None } else { Some(python::call(py.get_type::<PyList>().as_any(), &[value])) };
    match listed {
        Some(Ok(list)) => Ok(list.cast_into::<PyList>().expect("list() makes lists")),
        Some(Err(raised)) if value.try_iter().is_ok() => {
            let what = format!("{site}: the items cannot be listed");
            Err(failure::caused_by(py, &raised, "task.binding", &what))
        }
        _ => {
            let class =
                value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
            let message = format!("{site}: a map needs a list of items, not {class}");
            Err(failure::binding("task.binding", message))
        }
    }
}
