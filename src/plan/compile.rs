//! Checks a definition, binds its arguments, and builds its plan.

use std::sync::Arc;

use super::Plan;
use crate::model::{AgentInfo, Error, Workflow};

/// What the compiler may ask about the world.
pub trait Known {
    /// The agent's signature, or `None` when no such agent is registered.
    fn agent(&self, name: &str) -> Option<AgentInfo>;
    /// Names of the lanes that exist, beside those the workflow brings along.
    fn lanes(&self) -> Vec<String>;
    /// Names of the registered agents, for a suggestion.
    fn agents(&self) -> Vec<String>;
}

/// Compiles a definition.
///
/// # Errors
/// `workflow.invalid` with every problem found, each coded.
pub fn compile(_workflow: Workflow, _known: &dyn Known) -> Result<Plan, Error> {
    todo!()
}

/// Rebuilds the plan of a definition that was compiled before (its arguments are bound).
///
/// # Errors
/// `workflow.invalid` where the definition is damaged.
pub fn restore(_workflow: Arc<Workflow>) -> Result<Plan, Error> {
    todo!()
}

/// Rebuilds a grown plan from the journal: the growth was checked when it was accepted.
///
/// # Errors
/// `workflow.invalid` where the definition is damaged.
pub fn regrow(_plan: &Plan, _growth: &crate::model::Growth) -> Result<Plan, Error> {
    todo!()
}
