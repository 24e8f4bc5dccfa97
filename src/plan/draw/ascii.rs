//! Plain text: one line per task in an order of work, with rails for what waits, as in `git log --graph`.
//!
//! A rail runs down to one task that has not come yet. `╮` opens a rail, `┤ ├ ┼` joins one; a line
//! that only passes behind a rail leaves the rail whole (`│`).

use super::label::{condition, grouped, short};
use super::picture::{cut, is_giant};
use crate::model::NodeIx;
use crate::plan::Plan;

/// Rails that fit a terminal; a wider plan is listed with its dependencies instead.
const RAILS_MAX: usize = 40;
/// Dependencies that a line of the list names.
const NAMED_MAX: usize = 8;

impl Plan {
    /// The plan as text for a terminal. More than 400 nodes are summed up by bands of layers.
    pub fn to_ascii(&self) -> String {
        if is_giant(self) {
            return summary(self);
        }
        let mut rails = Rails { plan: self, rails: Vec::new(), lines: Vec::new(), widest: 0 };
        let order = branch_by_branch(self);
        order.iter().for_each(|&node| rails.add(node));
        if rails.widest > RAILS_MAX { list(self, &order) } else { rails.into_text() }
    }
}

/// An order of work that follows a branch before it turns to the next, which keeps rails few.
fn branch_by_branch(plan: &Plan) -> Vec<NodeIx> {
    let mut waits: Vec<usize> = plan.nodes.iter().map(|node| node.deps.len()).collect();
    let mut ready: Vec<NodeIx> = plan.sources.iter().rev().copied().collect();
    let mut order = Vec::with_capacity(plan.nodes.len());
    while let Some(node) = ready.pop() {
        order.push(node);
        for &next in plan.nodes[node as usize].dependents.iter().rev() {
            waits[next as usize] -= 1;
            if waits[next as usize] == 0 {
                ready.push(next);
            }
        }
    }
    order
}

struct Rails<'p> {
    plan: &'p Plan,
    /// The task that each rail runs down to.
    rails: Vec<Option<NodeIx>>,
    /// Drawing and label.
    lines: Vec<(String, String)>,
    widest: usize,
}

impl Rails<'_> {
    fn add(&mut self, node: NodeIx) {
        let own = match self.rails.iter().position(|rail| *rail == Some(node)) {
            Some(rail) => rail,
            None => self.free(),
        };
        self.rails[own] = Some(node);
        self.widest = self.widest.max(self.rails.len());
        let drawing = self.row(|at, rail| if at == own { '●' } else { upright(rail) });
        self.lines.push((drawing, describe(self.plan, node)));
        self.rails[own] = None;
        self.connect(own, &self.plan.nodes[node as usize].dependents);
        while self.rails.last() == Some(&None) {
            self.rails.pop();
        }
    }

    fn free(&mut self) -> usize {
        self.rails.iter().position(Option::is_none).unwrap_or_else(|| {
            self.rails.push(None);
            self.rails.len() - 1
        })
    }

    /// Leads from a task's own rail to those of its dependents, opening them where there are none.
    fn connect(&mut self, own: usize, dependents: &[NodeIx]) {
        let mut ends = Vec::new();
        let mut opened = Vec::new();
        for &next in dependents {
            match self.rails.iter().position(|rail| *rail == Some(next)) {
                Some(rail) => ends.push(rail),
                None if self.rails[own].is_none() && opened.is_empty() => {
                    self.rails[own] = Some(next);
                    opened.push(own);
                }
                None => {
                    let rail = self.free();
                    self.rails[rail] = Some(next);
                    ends.push(rail);
                    opened.push(rail);
                }
            }
        }
        self.widest = self.widest.max(self.rails.len());
        if ends.is_empty() {
            return;
        }
        let first = ends.iter().copied().min().unwrap_or(own).min(own);
        let last = ends.iter().copied().max().unwrap_or(own).max(own);
        let goes_on = self.rails[own].is_some();
        let mut line = String::new();
        for (at, rail) in self.rails.iter().enumerate() {
            let (left, right) = (at > first && at <= last, at >= first && at < last);
            let sign = if at == own {
                corner(true, goes_on, left, right)
            } else if ends.contains(&at) {
                corner(!opened.contains(&at), true, left, right)
            } else if rail.is_none() && left {
                '─'
            } else {
                upright(*rail)
            };
            line.push(sign);
            line.push(if right { '─' } else { ' ' });
        }
        self.lines.push((line.trim_end().into(), String::new()));
    }

    fn row(&self, sign: impl Fn(usize, Option<NodeIx>) -> char) -> String {
        let signs = self.rails.iter().enumerate().flat_map(|(at, rail)| [sign(at, *rail), ' ']);
        signs.collect::<String>().trim_end().into()
    }

    fn into_text(self) -> String {
        let width = self.lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for (line, label) in &self.lines {
            out.push_str(line);
            if !label.is_empty() {
                out.extend(std::iter::repeat_n(' ', width + 2 - line.chars().count()));
                out.push_str(label);
            }
            out.push('\n');
        }
        out
    }
}

fn upright(rail: Option<NodeIx>) -> char {
    if rail.is_some() { '│' } else { ' ' }
}

/// The sign that joins the given sides.
fn corner(up: bool, down: bool, left: bool, right: bool) -> char {
    match (up, down, left, right) {
        (true, true, true, true) => '┼',
        (true, true, true, false) => '┤',
        (true, true, false, true) => '├',
        (true, false, true, true) => '┴',
        (true, false, true, false) => '╯',
        (true, false, false, true) => '╰',
        (false, true, true, true) => '┬',
        (false, true, true, false) => '╮',
        (false, true, false, true) => '╭',
        _ => '│',
    }
}

/// `sum  math.sum [cpu] each x, when a > 1`, kept to one line.
fn describe(plan: &Plan, node: NodeIx) -> String {
    let task = plan.task(node);
    let mut text = format!("{}  {} [{}]", task.id, short(&task.agent), task.lane);
    if let Some(each) = &task.each {
        text.push_str(&format!(" each {}", each.param));
    }
    if let Some(when) = condition(task) {
        text.push_str(&format!(" when {when}"));
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// One line per task, with the names of those it waits for.
fn list(plan: &Plan, order: &[NodeIx]) -> String {
    let mut out = String::new();
    for &node in order {
        out.push_str(&describe(plan, node));
        let deps = &plan.nodes[node as usize].deps;
        let names = deps.iter().take(NAMED_MAX).map(|&dep| &*plan.nodes[dep as usize].id);
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        if deps.len() > NAMED_MAX {
            names.push(format!("{} more", deps.len() - NAMED_MAX));
        }
        if !names.is_empty() {
            out.push_str(&format!("  ← {}", names.join(", ")));
        }
        out.push('\n');
    }
    out
}

fn summary(plan: &Plan) -> String {
    let mut out = format!("{} tasks, summed up by layers\n", grouped(plan.nodes.len()));
    for band in cut(plan) {
        out.push_str(&format!("● {}: {} [{}]\n", band.name(), band.size(), band.lanes(plan)));
    }
    out
}
