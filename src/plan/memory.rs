//! Checks of what workflows and tasks say of memory, and what a plan asks of it.

use serde_json::Value;

use super::Plan;
use super::findings::{Findings, code};
use crate::model::{Expr, MemoryPolicy, MetadataFilter, NodeIx, RECALLED_MAX, Retrieve};

/// Checks a workflow's policy.
pub(super) fn policy(policy: &MemoryPolicy, findings: &mut Findings) {
    let mut add = |message: String, help: &str| {
        findings.add(code::BAD_MEMORY, None, message, help);
    };
    if let Some(n) = policy.retrieve_last.filter(|n| !(1..=RECALLED_MAX).contains(n)) {
        let message = format!("`retrieve_last` is {n}, and 1 to {RECALLED_MAX} are allowed");
        add(message, "leave it out to give tasks no memories");
    }
    if let Some(below) = policy.forget_below.filter(|below| !(0.0..=1.0).contains(below)) {
        let message = format!("`forget_below` is {below}, and strengths lie between 0 and 1");
        add(message, "0.3 forgets what is nearly gone; leave it out to forget nothing");
    }
}

/// Checks what a task looks up.
pub(super) fn retrieve(task: &str, retrieve: &Retrieve, findings: &mut Findings) {
    let mut add = |message: String, help: &str| {
        findings.add(code::BAD_MEMORY, Some(task), message, help);
    };
    match (&retrieve.query, &retrieve.vector_query) {
        (Some(_), Some(_)) => add(
            format!("task `{task}` retrieves by `query` and by `vector_query`"),
            "name one: `query` searches by words and by vector, `vector_query` by vector alone",
        ),
        (None, None) => add(
            format!("task `{task}` retrieves by nothing"),
            "give it a `query` or a `vector_query`; `retrieve_last` of the workflow needs neither",
        ),
        _ => {}
    }
    let top_k = retrieve.top_k;
    if !(1..=RECALLED_MAX).contains(&top_k) {
        let message =
            format!("`top_k` of task `{task}` is {top_k}, and 1 to {RECALLED_MAX} are allowed");
        add(message, "ask for fewer");
    }
    if let Some(least) = retrieve.min_strength.filter(|least| !(0.0..=1.0).contains(least)) {
        let message = format!(
            "`min_strength` of task `{task}` is {least}, and strengths lie between 0 and 1"
        );
        add(message, "0.3 leaves out what is nearly gone");
    }
    if let Some(filter) = retrieve.filter.as_ref().and_then(constant)
        && let Err(error) = MetadataFilter::parse(&filter.to_string())
    {
        add(format!("`filter` of task `{task}`: {}", error.message), &error.help);
    }
}

/// What is known of a filter before it is evaluated; `None` where that is nothing.
fn constant(filter: &Expr) -> Option<Value> {
    match filter {
        // The same as none.
        Expr::Value(Value::Null) => None,
        Expr::Value(value) => Some(value.clone()),
        // All of its names must fit, so each can be looked at by itself.
        Expr::Dict(parts) => {
            let known = parts.iter().filter_map(|(name, part)| match part {
                Expr::Value(value) => Some((name.clone(), value.clone())),
                _ => None,
            });
            Some(Value::Object(known.collect()))
        }
        _ => None,
    }
}

impl Plan {
    /// True where memories are looked up before the node's tasks start.
    pub fn recalls(&self, node: NodeIx) -> bool {
        self.retrieve_last().is_some() || self.retrieve(node).is_some()
    }

    /// How many of the latest memories every task is given.
    pub fn retrieve_last(&self) -> Option<u32> {
        self.workflow.memory.as_ref()?.retrieve_last
    }

    /// What is looked up for the node's tasks.
    pub fn retrieve(&self, node: NodeIx) -> Option<&Retrieve> {
        self.task(node).memory.as_ref()?.retrieve.as_ref()
    }

    /// Why its runs need a session, if they do.
    pub fn needs_session(&self) -> Option<String> {
        let policy = self.workflow.memory.as_ref();
        if policy
            .is_some_and(|policy| policy.retrieve_last.is_some() || policy.forget_below.is_some())
        {
            return Some(format!("workflow `{}` has a memory policy", self.workflow.name));
        }
        let asks = |task: &&crate::model::Task| {
            task.memory.as_ref().is_some_and(|memory| memory.retrieve.is_some())
        };
        let task = self.workflow.tasks.iter().find(asks)?;
        Some(format!("task `{}` retrieves memories", task.id))
    }
}
