//! Graphviz DOT.

use std::fmt::Write;

use super::label::{condition, short};
use crate::plan::Plan;

impl Plan {
    /// The plan in Graphviz's language: every node, maps with a double outline, conditional nodes
    /// behind dashed edges.
    pub fn to_dot(&self) -> String {
        let mut out = format!("digraph {} {{\n", quoted(&self.workflow.name));
        out.push_str("    rankdir=LR;\n");
        out.push_str("    node [shape=box, style=rounded, fontname=\"Helvetica\"];\n");
        for (at, task) in self.workflow.tasks.iter().enumerate() {
            let label = format!(
                "{}\\n{} · {}",
                escaped(&task.id),
                escaped(short(&task.agent)),
                escaped(&task.lane)
            );
            let _ = write!(out, "    n{at} [label=\"{label}\"");
            if task.each.is_some() {
                out.push_str(", peripheries=2");
            }
            if let Some(when) = condition(task) {
                let _ = write!(out, ", tooltip={}", quoted(&format!("when {when}")));
            }
            out.push_str("];\n");
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let style = if self.workflow.tasks[at].when.is_some() { " [style=dashed]" } else { "" };
            for dep in &node.deps {
                let _ = writeln!(out, "    n{dep} -> n{at}{style};");
            }
        }
        out.push_str("}\n");
        out
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// For the inside of a double-quoted string. A backslash is doubled: Graphviz reads `\N` and the like.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
