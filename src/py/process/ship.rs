//! A batch as bytes: arguments are evaluated here, where the results they refer to are.
//!
//! So a worker gets values and no plan: what its node takes, no more. What all batches of a node share
//! is encoded once, in the call's memo, and sent to each worker once.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::super::object::{self, Mode};
use super::super::scope::{Scope, Site};
use super::super::{bind, call as python, failure, recall, registry};
use super::pool::Parcel;
use super::post::Post;
use crate::agent::wire::{Call, Order, Recipe, Work, seal};
use crate::agent::{Batch, NodeCall, Outcome, TaskResult};
use crate::model::{Each, Expr, Failure, Opaque, Payload, Retrieve, Span, TaskMemory};

/// Names nodes to workers.
static NODES: AtomicU64 = AtomicU64::new(1);

/// How a worker is started.
pub(super) struct Launch {
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) first_frame: Vec<u8>,
}

/// What the batches of a node share.
struct Node {
    key: u64,
    frame: Arc<[u8]>,
    items: Option<Py<PyList>>,
    mode: Mode,
}

struct Memo(Result<Arc<Node>, Box<Failure>>);

impl Opaque for Memo {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub(super) fn all_fail(span: Span, failure: &Failure) -> Vec<Outcome> {
    (0..span.len).map(|_| Outcome::Failed(Box::new(failure.clone()))).collect()
}

/// Asks the Python half how a worker is started now: its flags, its path, its main module.
pub(super) fn launch(py: Python<'_>, mode: &Mode) -> Result<Launch, Box<Failure>> {
    let made = || -> PyResult<(Vec<String>, String)> {
        let launch = py.import("goclaw._processes")?.getattr(intern!(py, "launch"))?;
        python::call(&launch, &[])?.extract()
    };
    let (command, setup) = made().map_err(|raised| refusal(py, &raised))?;
    let mut command = command.into_iter();
    let payload_max = mode.payload_max as u64;
    let first = Order::Set { setup, payload_max, allow_pickle: mode.allow_pickle };
    let first_frame = seal(&first).map_err(|error| failure::binding("agent.isolation", error))?;
    Ok(Launch { program: command.next().unwrap_or_default(), args: command.collect(), first_frame })
}

/// Makes a parcel of the calls of `span`.
///
/// # Errors
/// The outcomes of the calls, where not all of them can be sent.
pub(super) fn parcel(
    py: Python<'_>,
    mode: &Mode,
    batch: &Arc<Batch>,
    span: Span,
    post: Option<Arc<Post>>,
) -> Result<Parcel, Vec<Outcome>> {
    let node = node(py, &batch.call, mode).map_err(|failure| all_fail(span, &failure))?;
    let items = node.items.as_ref().map(|items| slice(items.bind(py), batch, span, &node.mode));
    let work = Work {
        batch: batch.id.0,
        node: node.key,
        lo: span.lo,
        len: span.len,
        attempt: batch.attempt,
        timeout: batch.timeout,
        lane: batch.lane.clone(),
        rate_key: batch.rate_key.clone(),
        items: items.transpose()?,
        letters: post.as_ref().map(|post| {
            post.collect(py, mode);
            post.take().0
        }),
    };
    let work_frame = seal(&Order::Work(work))
        .map_err(|error| all_fail(span, &failure::binding("payload.unsupported", error)))?;
    let node_frame = Arc::clone(&node.frame);
    Ok(Parcel { batch: Arc::clone(batch), span, node: node.key, node_frame, work_frame, post })
}

/// The items of a span. Where one cannot be encoded its call fails, and the others go back to the lane.
fn slice(
    items: &Bound<'_, PyList>,
    batch: &Batch,
    span: Span,
    mode: &Mode,
) -> Result<Payload, Vec<Outcome>> {
    let (lo, hi) = (span.lo as usize, span.hi() as usize);
    // Bound by what the map was made of, not by what one value may weigh.
    let bulk = Mode { payload_max: u32::MAX as usize, ..*mode };
    let part = items.get_slice(lo, hi);
    let Err(whole) = object::to_payload(part.as_any(), &bulk).map(|payload| (payload, part.len()))
    else {
        return object::to_payload(part.as_any(), &bulk).map_err(|why| all_fail(span, &why));
    };
    let param = batch.call.plan.task(batch.call.node).each.as_ref().map(|each| each.param.clone());
    let param = param.unwrap_or_default();
    let mut bad = false;
    let outcomes: Vec<_> = (span.lo..span.hi())
        .zip(part.iter())
        .map(|(child, item)| match object::to_payload(&item, mode) {
            Ok(_) => Outcome::Returned,
            Err(why) => {
                bad = true;
                Outcome::Failed(named(why, Site { task: &batch.name(child), param: &param }))
            }
        })
        .collect();
    Err(if bad { outcomes } else { all_fail(span, &whole) })
}

fn named(mut failure: Box<Failure>, site: Site<'_>) -> Box<Failure> {
    failure.message = format!("{site}: it cannot be sent to a worker process: {}", failure.message);
    failure
}

fn node(py: Python<'_>, call: &Arc<NodeCall>, mode: &Mode) -> Result<Arc<Node>, Box<Failure>> {
    let known = |memo: &Arc<dyn Opaque>| {
        memo.as_ref().as_any().downcast_ref::<Memo>().map(|memo| memo.0.clone())
    };
    if let Some(node) = call.memo.get().and_then(known) {
        return node;
    }
    let made = Node::new(py, call, mode).map(Arc::new);
    let memo: Arc<dyn Opaque> = Arc::new(Memo(made.clone()));
    // Somebody else may have been first, or the agent ran elsewhere before: then this one is used once.
    let _ = call.memo.set(memo);
    call.memo.get().and_then(known).unwrap_or(made)
}

impl Node {
    fn new(py: Python<'_>, call: &Arc<NodeCall>, mode: &Mode) -> Result<Self, Box<Failure>> {
        let encoded = Mode { memory: false, ..*mode };
        let mut task = call.plan.task(call.node).clone();
        let scope = Scope::new(py, call, mode);
        let mut constants = Vec::new();
        let mut args = std::mem::take(&mut task.args);
        if let Some(each) = &task.each {
            args.remove(&each.param);
        }
        for (name, expr) in args {
            let site = Site { task: &task.id, param: &name };
            if recall::waits(call, &expr) {
                // The worker asks for it before each attempt.
                task.args.insert(name, Expr::Template("{{ memory }}".into()));
                continue;
            }
            if matches!(expr, Expr::Value(_)) {
                task.args.insert(name, expr);
                continue;
            }
            let payload = match as_it_is(call, &expr) {
                Some(payload) => payload,
                None => match scope.eval(&expr, site)? {
                    Some(value) => {
                        object::to_payload(&value, &encoded).map_err(|why| named(why, site))?
                    }
                    // The agent's default is taken.
                    None => continue,
                },
            };
            task.args.insert(name.clone(), Expr::Const(constants.len() as u32));
            constants.push(payload);
        }
        task.deps.clear();
        task.when = None;
        task.rate_key = None;
        // What is looked up is the engine's to know; the worker only knows that something is.
        task.memory =
            recall::is_wanted(call).then(|| TaskMemory { retrieve: Some(Retrieve::placeholder()) });
        let items = call.items.as_ref().map(|items| bind::list_of(py, items, &task.id, mode));
        let items = items.transpose()?;
        task.each = task.each.map(|each| Each { items: Expr::Value(().into()), ..each });
        let key = NODES.fetch_add(1, Ordering::Relaxed);
        let call = Call {
            run: call.run,
            workflow: call.plan.workflow.name.clone(),
            input: input(py, call, mode, &encoded),
            constants,
            trace_id: call.trace_id.to_string(),
            session: call.session.as_deref().map(str::to_owned),
            submitted: call.submitted,
            timeout_ms: call.plan.workflow.timeout_ms,
            recipe: recipe(py, &task.agent)?,
            task,
        };
        let frame = seal(&Order::Node { key, call: Box::new(call) })
            .map_err(|error| failure::binding("payload.unsupported", error))?;
        Ok(Self { key, frame: frame.into(), items, mode: encoded })
    }
}

/// A value that lies there as bytes and is wanted whole.
fn as_it_is(call: &NodeCall, expr: &Expr) -> Option<Payload> {
    let found = match expr {
        Expr::Const(at) => call.plan.workflow.constants.get(*at as usize)?,
        Expr::Input { path, .. } if path.is_empty() => &call.input,
        Expr::Task { id, path } if path.is_empty() => {
            let deps = &call.plan.nodes[call.node as usize].deps;
            let at = deps.binary_search(&call.plan.node(id)?).ok()?;
            match &call.results[at] {
                TaskResult::One(payload) => payload,
                _ => return None,
            }
        }
        _ => return None,
    };
    matches!(found, Payload::Bytes(_)).then(|| found.clone())
}

/// The run's input for `ctx.input`; one that cannot be sent is missed only by those who ask for it.
fn input(
    py: Python<'_>,
    call: &NodeCall,
    mode: &Mode,
    encoded: &Mode,
) -> Result<Payload, Box<Failure>> {
    if let Payload::Bytes(_) = &call.input {
        return Ok(call.input.clone());
    }
    let input = object::to_object(py, &call.input, mode)?;
    object::to_payload(input.bind(py), encoded)
}

/// How a worker finds the agent; asked once per version of it.
fn recipe(py: Python<'_>, agent: &str) -> Result<Recipe, Box<Failure>> {
    let known = registry::find(agent).ok_or_else(|| {
        failure::binding("agent.unknown", format!("agent `{agent}` is not registered"))
    })?;
    if let Some(recipe) = known.recipe.get() {
        return Ok(recipe.clone());
    }
    let made = || -> PyResult<Recipe> {
        let describe = py.import("goclaw._processes")?.getattr(intern!(py, "recipe"))?;
        let name = agent.into_pyobject(py)?;
        let found = python::call(&describe, &[name.as_any()])?;
        let (kind, first, second): (String, String, Bound<'_, PyAny>) = found.extract()?;
        Ok(if kind == "import" {
            Recipe::Import { module: first, path: second.extract()? }
        } else {
            let bytes = second.cast::<PyBytes>()?.as_bytes();
            Recipe::Pickle { hash: first, bytes: Payload::bytes(bytes) }
        })
    };
    let recipe = made().map_err(|raised| refusal(py, &raised))?;
    Ok(known.recipe.get_or_init(|| recipe).clone())
}

/// An error of goclaw's own by its code; what else was raised, as agents that cannot be found.
pub(super) fn refusal(py: Python<'_>, raised: &PyErr) -> Box<Failure> {
    let value = raised.value(py);
    let text = |name: &str| value.getattr(name).and_then(|text| text.extract::<String>());
    match (text("code"), text("help")) {
        (Ok(code), Ok(help)) => {
            let mut refused = failure::binding("agent.not_importable", format!("{value}; {help}"));
            refused.code = code;
            refused
        }
        _ => failure::caused_by(
            py,
            raised,
            "agent.not_importable",
            "the agent cannot be loaded in a worker process",
        ),
    }
}
