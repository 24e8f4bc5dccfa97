//! What there is to draw: boxes and edges, of every node or of bands of layers.

use std::collections::HashMap;

use super::label::{condition, grouped, short};
use crate::model::{NodeIx, TaskState};
use crate::plan::Plan;

/// Most nodes and edges that are drawn one by one.
pub(super) const NODES_MAX: usize = 400;
pub(super) const EDGES_MAX: usize = 1_200;
/// Boxes of a picture that is drawn in bands.
const BANDS_MAX: usize = 8;
/// Lanes and states that a band names; the others are counted.
const NAMED_MAX: usize = 4;

/// Boxes in layers, and edges between them.
pub(super) struct Picture {
    pub boxes: Vec<Box>,
    /// From, to; by position in `boxes`.
    pub edges: Vec<(usize, usize)>,
    /// Says what was left out, where something was.
    pub note: Option<String>,
}

/// One box.
pub(super) struct Box {
    pub title: String,
    pub subtitle: String,
    /// The lane and its colour's number; a band has none.
    pub lane: Option<(String, usize)>,
    /// Everything there is to say, for the tooltip.
    pub tooltip: String,
    /// A map, or a band: drawn as a stack.
    pub stack: bool,
    /// The task runs only under a condition.
    pub conditional: bool,
    pub state: Option<TaskState>,
    pub level: usize,
}

/// True where a picture node by node would be of no use to anybody.
pub(super) fn is_giant(plan: &Plan) -> bool {
    let edges: usize = plan.nodes.iter().map(|node| node.deps.len()).sum();
    plan.nodes.len() > NODES_MAX || edges > EDGES_MAX
}

impl Picture {
    pub fn of(plan: &Plan, states: Option<&[TaskState]>) -> Self {
        if is_giant(plan) { bands(plan, states) } else { nodes(plan, states) }
    }
}

fn nodes(plan: &Plan, states: Option<&[TaskState]>) -> Picture {
    let levels = plan.levels();
    let mut lanes: HashMap<&str, usize> = HashMap::new();
    let mut boxes = Vec::with_capacity(plan.nodes.len());
    for (at, task) in plan.workflow.tasks.iter().enumerate() {
        let colours = lanes.len();
        let colour = *lanes.entry(&task.lane).or_insert(colours);
        let state = states.and_then(|states| states.get(at).copied());
        let when = condition(task);
        boxes.push(Box {
            title: task.id.clone(),
            subtitle: short(&task.agent).into(),
            lane: Some((task.lane.clone(), colour)),
            tooltip: tooltip(plan, at as NodeIx, when.as_deref(), state),
            stack: task.each.is_some(),
            conditional: when.is_some(),
            state,
            level: levels[at] as usize,
        });
    }
    let nodes = plan.nodes.iter().enumerate();
    let edges = nodes.flat_map(|(at, node)| node.deps.iter().map(move |&dep| (dep as usize, at)));
    Picture { boxes, edges: edges.collect(), note: None }
}

fn tooltip(plan: &Plan, node: NodeIx, when: Option<&str>, state: Option<TaskState>) -> String {
    let task = plan.task(node);
    let mut text = format!("{} · agent {} · lane {}", task.id, task.agent, task.lane);
    if let Some(each) = &task.each {
        text.push_str(&format!(" · map over {}", each.param));
    }
    if let Some(when) = when {
        text.push_str(&format!(" · when {when}"));
    }
    if let Some(state) = state {
        text.push_str(&format!(" · {}", state.as_str()));
    }
    text
}

/// Consecutive layers of a giant plan.
pub(super) struct Band {
    /// First and last layer, counted from 1.
    pub first: usize,
    pub last: usize,
    pub nodes: Vec<NodeIx>,
}

/// Cuts the layers into at most [`BANDS_MAX`] bands of equally many layers.
pub(super) fn cut(plan: &Plan) -> Vec<Band> {
    let layers = plan.layers();
    let each = layers.len().div_ceil(BANDS_MAX).max(1);
    let bands = layers.chunks(each).enumerate();
    bands
        .map(|(at, layers)| Band {
            first: at * each + 1,
            last: at * each + layers.len(),
            nodes: layers.concat(),
        })
        .collect()
}

impl Band {
    pub fn name(&self) -> String {
        match self.first == self.last {
            true => format!("layer {}", grouped(self.first)),
            false => format!("layers {}–{}", grouped(self.first), grouped(self.last)),
        }
    }
    pub fn size(&self) -> String {
        let noun = if self.nodes.len() == 1 { "task" } else { "tasks" };
        format!("{} {noun}", grouped(self.nodes.len()))
    }
    /// `io 800, cpu 12`, the busiest first.
    pub fn lanes(&self, plan: &Plan) -> String {
        tally(self.nodes.iter().map(|&node| plan.task(node).lane.as_str()))
    }
}

/// `a 3, b 1, 2 others`: how often each name occurs, most often first, then by name.
fn tally<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let others = counts.len().saturating_sub(NAMED_MAX);
    let named = counts.iter().take(NAMED_MAX);
    let mut parts: Vec<String> =
        named.map(|(name, count)| format!("{name} {}", grouped(*count))).collect();
    if others > 0 {
        parts.push(format!("{others} others"));
    }
    parts.join(", ")
}

fn bands(plan: &Plan, states: Option<&[TaskState]>) -> Picture {
    let bands = cut(plan);
    let of_states = |band: &Band| {
        states.map(|states| {
            tally(band.nodes.iter().filter_map(|&n| states.get(n as usize)).map(|s| s.as_str()))
        })
    };
    let boxes = bands.iter().enumerate().map(|(level, band)| {
        let lanes = band.lanes(plan);
        let states_text = of_states(band);
        let mut tooltip = format!("{}: {} · {lanes}", band.name(), band.size());
        if let Some(text) = &states_text {
            tooltip.push_str(&format!(" · {text}"));
        }
        Box {
            title: format!("{} · {}", band.name(), band.size()),
            subtitle: states_text.unwrap_or(lanes),
            lane: None,
            tooltip,
            stack: band.nodes.len() > 1,
            conditional: false,
            state: states.and_then(|states| common_state(&band.nodes, states)),
            level,
        }
    });
    let boxes: Vec<Box> = boxes.collect();
    let note =
        format!("{} tasks, drawn as {} bands of layers", grouped(plan.nodes.len()), boxes.len());
    let edges = (1..boxes.len()).map(|at| (at - 1, at)).collect();
    Picture { boxes, edges, note: Some(note) }
}

/// The state that speaks for a band: trouble first, then work under way, else the one all share.
fn common_state(nodes: &[NodeIx], states: &[TaskState]) -> Option<TaskState> {
    let of = || nodes.iter().filter_map(|&node| states.get(node as usize).copied());
    let loud = [TaskState::Failed, TaskState::Retrying, TaskState::Running];
    let first = of().next()?;
    loud.into_iter()
        .find(|&loud| of().any(|state| state == loud))
        .or_else(|| of().all(|state| state == first).then_some(first))
}
