//! Stopping a run: what has not begun ends at once, what runs is asked to stop.

use super::Run;
use super::state::{Body, Item};
use crate::model::{CancelCause, Event, NodeIx, Span, TaskState};

/// Asks the run to stop; the first cause stands.
pub(super) fn request(run: &Run, cause: CancelCause, reason: String) -> Vec<Event> {
    match run.cancel {
        None => vec![Event::CancelRequested { cause, reason }],
        Some(_) => Vec::new(),
    }
}

/// Ends every task that has not begun, in spans.
pub(super) fn end_unbegun(run: &Run) -> Vec<Event> {
    spans(run, |item| !item.state.is_terminal() && item.state != TaskState::Running)
        .map(|(span, _)| Event::Cancelled { span })
        .collect()
}

/// Attempts under way, in spans of equal attempt.
pub(super) fn under_way(run: &Run) -> impl Iterator<Item = (Span, u32)> {
    spans(run, |item| item.state == TaskState::Running)
}

/// Maximal spans of neighbours that `wanted` takes and that have the same number of attempts.
pub(super) fn spans(
    run: &Run,
    wanted: impl Fn(&Item) -> bool + Copy,
) -> impl Iterator<Item = (Span, u32)> {
    run.nodes.iter().enumerate().flat_map(move |(node, state)| {
        let items = match &state.body {
            Body::One(item) => std::slice::from_ref(item),
            Body::Map(map) => &map.children[..],
        };
        spans_of(node as NodeIx, items, wanted)
    })
}

fn spans_of(
    node: NodeIx,
    items: &[Item],
    wanted: impl Fn(&Item) -> bool,
) -> impl Iterator<Item = (Span, u32)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let lo = at + items[at..].iter().position(&wanted)?;
        let attempt = items[lo].attempt;
        let len = items[lo..].iter().take_while(|i| wanted(i) && i.attempt == attempt).count();
        at = lo + len;
        Some((Span::new(node, lo as u32, len as u32), attempt))
    })
}
