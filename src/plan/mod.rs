//! Definition → plan: validation, layers, cycles named, critical path, growth. Linear, no recursion.
//!
//! Knows no clock, no store, no Python: what it must know of agents and lanes comes as an argument.
//! `compile` refuses with every problem at once; `restore` and `Plan::regrow` rebuild a plan from
//! what the journal kept and ask nobody.

mod bind;
mod check;
mod compile;
mod cycle;
mod draw;
mod findings;
mod grow;
mod lanes;
mod link;
mod memory;
mod refer;
mod shape;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{BlobHash, NodeIx, Task, Workflow};

pub use compile::{Known, compile, restore};
pub use findings::code;
pub use refer::mentions_memory;

/// A compiled workflow. Immutable; a run that grows gets a new one (`Plan::grow`).
#[derive(Debug)]
pub struct Plan {
    /// The definition with every argument bound: it compiles again without the agents' signatures.
    pub workflow: Arc<Workflow>,
    /// BLAKE3 of the bound workflow's MessagePack form (`rmp_serde::to_vec_named`); zeros where a constant is a live object.
    pub definition: BlobHash,
    /// By position, in order of declaration: `workflow.tasks[ix]` is node `ix`.
    pub nodes: Vec<Node>,
    /// Nodes with no dependency.
    pub sources: Vec<NodeIx>,
    /// Nodes that nothing depends on.
    pub sinks: Vec<NodeIx>,
    by_id: HashMap<Arc<str>, NodeIx>,
}

/// One task's place in the graph.
#[derive(Debug, Clone)]
pub struct Node {
    pub id: Arc<str>,
    /// Sorted, each once.
    pub deps: Vec<NodeIx>,
    /// Sorted, each once.
    pub dependents: Vec<NodeIx>,
}

impl Plan {
    pub fn task(&self, node: NodeIx) -> &Task {
        &self.workflow.tasks[node as usize]
    }
    pub fn node(&self, id: &str) -> Option<NodeIx> {
        self.by_id.get(id).copied()
    }
}
