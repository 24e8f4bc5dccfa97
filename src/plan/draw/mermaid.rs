//! Mermaid flowcharts, for Markdown that renders them.

use std::fmt::Write;

use super::label::short;
use crate::plan::Plan;

impl Plan {
    /// The plan as a Mermaid flowchart: every node, maps with double sides, conditional nodes behind
    /// dotted edges. Nodes are called `n0, n1, …`, so that any id is safe as a label.
    pub fn to_mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        for (at, task) in self.workflow.tasks.iter().enumerate() {
            let label = format!(
                "{}<br/><small>{} · {}</small>",
                escape(&task.id),
                escape(short(&task.agent)),
                escape(&task.lane)
            );
            let (open, close) = if task.each.is_some() { ("[[", "]]") } else { ("(", ")") };
            let _ = writeln!(out, "    n{at}{open}\"{label}\"{close}");
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let conditional = self.workflow.tasks[at].when.is_some();
            let arrow = if conditional { "-. when .->" } else { "-->" };
            for dep in &node.deps {
                let _ = writeln!(out, "    n{dep} {arrow} n{at}");
            }
        }
        out
    }
}

/// Mermaid's own entities, which need no closing rules of HTML: `#34;`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | '`' | '\\' | '*' | ';' => {
                let _ = write!(out, "#{};", c as u32);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
