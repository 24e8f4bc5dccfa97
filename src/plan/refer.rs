//! What an expression mentions: tasks, templates, constants. The only code that walks expressions.

use serde_json::Value;

use super::template::{self, Form};
use crate::model::{Expr, Task};

/// Deepest nesting of expressions and of literal values in them.
pub(super) const DEPTH_MAX: usize = 64;
/// The name under which templates find what was looked up in memory.
pub(super) const MEMORY: &str = "memory";

/// One thing that an expression mentions.
pub(super) enum Mention<'e> {
    Task(&'e str),
    Source(Form, &'e str),
    Const(u32),
    /// Something lies deeper than [`DEPTH_MAX`]; the walk goes no further there.
    TooDeep,
}

/// Tells `found` everything that the expression mentions, in order.
pub(super) fn mentions<'e>(expr: &'e Expr, found: &mut dyn FnMut(Mention<'e>)) {
    walk(expr, DEPTH_MAX, found);
}

fn walk<'e>(expr: &'e Expr, depth: usize, found: &mut dyn FnMut(Mention<'e>)) {
    if depth == 0 {
        return found(Mention::TooDeep);
    }
    match expr {
        Expr::Value(value) if is_too_deep(value, depth) => found(Mention::TooDeep),
        Expr::Value(_) | Expr::Input { .. } => {}
        Expr::Const(at) => found(Mention::Const(*at)),
        Expr::Task { id, .. } => found(Mention::Task(id)),
        Expr::Template(source) => found(Mention::Source(Form::Template, source)),
        Expr::Condition(source) => found(Mention::Source(Form::Condition, source)),
        Expr::List(parts) | Expr::Tuple(parts) | Expr::All(parts) => {
            parts.iter().for_each(|part| walk(part, depth - 1, found));
        }
        Expr::Dict(parts) => parts.iter().for_each(|(_, part)| walk(part, depth - 1, found)),
        Expr::Not(part) => walk(part, depth - 1, found),
    }
}

/// True where the expression needs what was looked up in memory for its task.
pub fn mentions_memory(expr: &Expr) -> bool {
    let mut found = false;
    mentions(expr, &mut |mention| {
        if let Mention::Source(form, source) = mention {
            // A broken source was refused when the workflow was compiled.
            found |=
                template::names(source, form).is_ok_and(|names| names.iter().any(|n| n == MEMORY));
        }
    });
    found
}

/// True where a JSON value nests deeper than `depth`.
pub(super) fn is_too_deep(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(parts) => depth == 0 || parts.iter().any(|part| is_too_deep(part, depth - 1)),
        Value::Object(parts) => {
            depth == 0 || parts.values().any(|part| is_too_deep(part, depth - 1))
        }
        _ => false,
    }
}

/// The expressions of a task, each with what to call it in a message.
pub(super) fn expressions(task: &Task) -> impl Iterator<Item = (Place<'_>, &Expr)> {
    let arguments = task.args.iter().map(|(name, expr)| (Place::Argument(name), expr));
    let items = task.each.iter().map(|each| (Place::Items, &each.items));
    let when = task.when.iter().map(|expr| (Place::When, expr));
    let key = task.rate_key.iter().map(|expr| (Place::RateKey, expr));
    let memory = task.memory.iter().flat_map(|memory| &memory.retrieve);
    let memory = memory.flat_map(|retrieve| retrieve.expressions());
    let memory = memory.map(|(name, expr)| (Place::Memory(name), expr));
    arguments.chain(items).chain(when).chain(key).chain(memory)
}

/// Where in a definition an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'t> {
    Argument(&'t str),
    Items,
    When,
    RateKey,
    /// What is looked up in memory, by the name of its part.
    Memory(&'t str),
    Output,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Argument(name) => write!(f, "argument `{name}`"),
            Self::Items => f.write_str("`each`"),
            Self::When => f.write_str("`when`"),
            Self::RateKey => f.write_str("`rate_key`"),
            Self::Memory(part) => write!(f, "`{part}` of the memory"),
            Self::Output => f.write_str("the output"),
        }
    }
}

/// Lets `change` rewrite every constant's position in a task. For checked tasks: no depth cap.
pub(super) fn change_constants(task: &mut Task, change: &mut dyn FnMut(&mut u32)) {
    task.args.values_mut().for_each(|expr| change_in(expr, change));
    task.each.iter_mut().for_each(|each| change_in(&mut each.items, change));
    task.when.iter_mut().for_each(|expr| change_in(expr, change));
    task.rate_key.iter_mut().for_each(|expr| change_in(expr, change));
    let retrieve = task.memory.iter_mut().flat_map(|memory| &mut memory.retrieve);
    retrieve.for_each(|it| it.expressions_mut().for_each(|expr| change_in(expr, change)));
}

fn change_in(expr: &mut Expr, change: &mut dyn FnMut(&mut u32)) {
    match expr {
        Expr::Const(at) => change(at),
        Expr::List(parts) | Expr::Tuple(parts) | Expr::All(parts) => {
            parts.iter_mut().for_each(|part| change_in(part, change));
        }
        Expr::Dict(parts) => parts.iter_mut().for_each(|(_, part)| change_in(part, change)),
        Expr::Not(part) => change_in(part, change),
        Expr::Value(_)
        | Expr::Input { .. }
        | Expr::Task { .. }
        | Expr::Template(_)
        | Expr::Condition(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Expr {
        (1..depth).fold(Expr::Const(3), |inner, _| Expr::Not(Box::new(inner)))
    }

    fn is_refused(expr: &Expr) -> bool {
        let mut refused = false;
        mentions(expr, &mut |mention| refused |= matches!(mention, Mention::TooDeep));
        refused
    }

    #[test]
    fn nesting_is_allowed_up_to_the_cap() {
        assert!(!is_refused(&nested(DEPTH_MAX)));
        assert!(is_refused(&nested(DEPTH_MAX + 1)));
    }

    #[test]
    fn a_literal_counts_towards_the_cap() {
        let literal = |depth| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        assert!(!is_refused(&Expr::Value(literal(DEPTH_MAX))));
        assert!(is_refused(&Expr::Value(literal(DEPTH_MAX + 1))));
        assert!(is_refused(&Expr::List(vec![Expr::Value(literal(DEPTH_MAX))])));
    }
}
