//! Checks a definition, binds its arguments, and builds its plan.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::bind::{Fields, Registry, implied};
use super::cycle::{cycles, describe};
use super::findings::{Findings, code};
use super::link::Scope;
use super::{Node, Plan, check, lanes};
use crate::model::{
    AgentInfo, BlobHash, Error, Expr, LaneSpec, NodeIx, Payload, Task, Trigger, Workflow,
};

/// What the compiler may ask about the world.
pub trait Known {
    /// The agent's signature, or `None` when no such agent is registered.
    fn agent(&self, name: &str) -> Option<AgentInfo>;
    /// Names of the lanes that exist, beside those the workflow brings along.
    fn lanes(&self) -> Vec<String>;
    /// What the lane says for its tasks, where more than its name is known.
    fn lane(&self, name: &str) -> Option<LaneSpec>;
    /// Names of the registered agents, for a suggestion.
    fn agents(&self) -> Vec<String>;
}

/// Compiles a definition.
///
/// # Errors
/// `workflow.invalid` with every problem found, each coded.
pub fn compile(mut workflow: Workflow, known: &dyn Known) -> Result<Plan, Error> {
    let mut findings = Findings::default();
    check::workflow(&workflow, &mut findings);
    lanes::fill(&mut workflow, known);
    lanes::Lanes::new(known, &workflow.lanes).check_redirects(&mut findings);
    let scope = Scope::new(None, &workflow.tasks, workflow.constants.len(), &mut findings);
    let scope = scope.with_memory(workflow.memory.as_ref());
    let fields = Fields::of(&workflow);
    let (deps, bound) = examine(&scope, &workflow, &fields, known, &mut findings);
    check_order(&scope, &deps, &mut findings);
    if let Some(output) = &workflow.output {
        scope.check_output(output, &mut findings);
    }
    findings.into_error(&workflow.name)?;
    let names = scope.into_names();
    for (task, bound) in workflow.tasks.iter_mut().zip(bound) {
        task.args.extend(bound);
    }
    Ok(build(Arc::new(workflow), deps, names))
}

/// Rebuilds the plan of a definition that was compiled before (its arguments are bound).
///
/// # Errors
/// `workflow.invalid` where the definition is damaged.
pub fn restore(workflow: Arc<Workflow>) -> Result<Plan, Error> {
    let mut findings = Findings::default();
    let scope = Scope::new(None, &workflow.tasks, workflow.constants.len(), &mut findings);
    let scope = scope.with_memory(workflow.memory.as_ref());
    let deps = scope.link(&mut findings);
    check_order(&scope, &deps, &mut findings);
    findings.into_error(&workflow.name)?;
    let names = scope.into_names();
    Ok(build(workflow, deps, names))
}

/// Arguments to be added to one task's own.
pub(super) type Bindings = Vec<(String, Expr)>;

/// The dependencies and the implied bindings of the scope's tasks, and every problem with them.
pub(super) fn examine(
    scope: &Scope<'_>,
    workflow: &Workflow,
    fields: &Fields<'_>,
    known: &dyn Known,
    findings: &mut Findings,
) -> (Vec<Vec<NodeIx>>, Vec<Bindings>) {
    let mut registry = Registry::new(known, workflow);
    let mut lanes = lanes::Lanes::new(known, &workflow.lanes);
    for task in scope.tasks {
        lanes.check_cost(task, findings);
        check::id(&task.id, findings);
        check::options(task, findings);
        registry.check_lane(task, findings);
    }
    let deps = scope.link(findings);
    let mut bound = Vec::with_capacity(deps.len());
    for (task, deps) in scope.tasks.iter().zip(&deps) {
        check_trigger(task, deps, findings);
        bound.push(implied(task, deps, scope, fields, &mut registry, findings));
    }
    (deps, bound)
}

fn check_trigger(task: &Task, deps: &[NodeIx], findings: &mut Findings) {
    if deps.is_empty() && task.deps.is_empty() && task.trigger != Trigger::AllSuccess {
        let message = format!("task `{}` has a trigger but waits for no task", task.id);
        let help = "give it dependencies, or drop the trigger";
        findings.add(code::BAD_TRIGGER, Some(&task.id), message, help);
    }
}

/// Reports the cycles among the scope's new nodes; `deps` are theirs.
pub(super) fn check_order(scope: &Scope<'_>, deps: &[Vec<NodeIx>], findings: &mut Findings) {
    for path in cycles(deps, scope.first) {
        let message = describe(&path, |node| scope.id(node));
        let help = "remove one of these dependencies";
        findings.add(code::CYCLE, Some(scope.id(path[0])), message, help);
    }
}

type Names = (Vec<Arc<str>>, HashMap<Arc<str>, NodeIx>);

fn build(workflow: Arc<Workflow>, deps: Vec<Vec<NodeIx>>, (ids, by_id): Names) -> Plan {
    let mut counts = vec![0_u32; deps.len()];
    for &dep in deps.iter().flatten() {
        counts[dep as usize] += 1;
    }
    let mut nodes: Vec<Node> = ids
        .into_iter()
        .zip(deps)
        .zip(counts)
        .map(|((id, deps), count)| Node {
            id,
            deps,
            dependents: Vec::with_capacity(count as usize),
        })
        .collect();
    connect(&mut nodes, 0);
    Plan::assemble(workflow, nodes, by_id)
}

/// Tells the dependencies of the nodes from `first` on of their dependents, in order.
pub(super) fn connect(nodes: &mut [Node], first: usize) {
    for at in first..nodes.len() {
        // Taken out for a moment, as a node and its dependencies lie in one list.
        let deps = std::mem::take(&mut nodes[at].deps);
        for &dep in &deps {
            nodes[dep as usize].dependents.push(at as NodeIx);
        }
        nodes[at].deps = deps;
    }
}

impl Plan {
    /// Puts a plan together from nodes whose edges are set.
    pub(super) fn assemble(
        workflow: Arc<Workflow>,
        nodes: Vec<Node>,
        by_id: HashMap<Arc<str>, NodeIx>,
    ) -> Self {
        let which = |wanted: fn(&Node) -> bool| -> Vec<NodeIx> {
            let nodes = nodes.iter().enumerate();
            nodes.filter(|(_, node)| wanted(node)).map(|(at, _)| at as NodeIx).collect()
        };
        let sources = which(|node| node.deps.is_empty());
        let sinks = which(|node| node.dependents.is_empty());
        let definition = definition(&workflow);
        Self { workflow, definition, nodes, sources, sinks, by_id }
    }
}

/// BLAKE3 of the workflow's MessagePack form; zeros where a constant is a live object.
fn definition(workflow: &Workflow) -> BlobHash {
    if workflow.constants.iter().any(|constant| matches!(constant, Payload::Object(_))) {
        return BlobHash::default();
    }
    // Written through a buffer, as the form of a million tasks need not lie in memory.
    let mut sink = io::BufWriter::with_capacity(1 << 16, Hashing(blake3::Hasher::new()));
    rmp_serde::encode::write_named(&mut sink, workflow)
        .expect("every other value of a checked definition can be written down");
    let hashing = sink.into_inner().expect("hashing does not fail");
    *hashing.0.finalize().as_bytes()
}

#[derive(Debug)]
struct Hashing(blake3::Hasher);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
