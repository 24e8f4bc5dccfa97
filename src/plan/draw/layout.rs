//! Where boxes and edges go: columns from left to right.
//!
//! The order inside the columns comes from `order`; heights are then pulled towards the mean of the
//! neighbours, column by column, without ever changing that order or letting boxes overlap.

use super::order::Columns;
use super::picture::Picture;

/// Space around the picture, between boxes of a column, and beside a passing edge.
const MARGIN: f64 = 20.0;
const GAP: f64 = 18.0;
const EDGE_GAP: f64 = 14.0;
/// Space between columns: more where edges climb far.
const COLUMN_GAP: f64 = 56.0;
const COLUMN_GAP_MAX: f64 = 150.0;
/// Rounds of pulling.
const ROUNDS: usize = 16;

pub(super) struct Layout {
    pub width: f64,
    pub height: f64,
    /// Left and upper corner of each box; the width is its column's.
    pub places: Vec<Place>,
    /// For each edge the points that it passes, in pairs: where it enters and leaves each column.
    pub routes: Vec<Vec<(f64, f64)>>,
}

#[derive(Clone, Copy)]
pub(super) struct Place {
    pub x: f64,
    pub y: f64,
    pub width: f64,
}

/// Lays the picture out. `widths` are the boxes' own; all boxes are `height` high.
pub(super) fn lay_out(picture: &Picture, widths: &[f64], height: f64) -> Layout {
    let levels = pulled_levels(picture);
    let mut columns = Columns::new(&levels, &picture.edges);
    columns.untangle();
    let middles = middles(&columns, height);
    let top = (0..columns.boxes).map(|at| middles[at] - height / 2.0);
    let top = top.chain(middles[columns.boxes..].iter().copied()).fold(f64::MAX, f64::min);
    let shift = if top.is_finite() && top < f64::MAX { MARGIN - top } else { MARGIN };
    let middles: Vec<f64> = middles.iter().map(|middle| middle + shift).collect();

    let (starts, column_widths) = spread(&columns, widths, &middles);
    let place = |at: usize| Place {
        x: starts[levels[at]],
        y: middles[at] - height / 2.0,
        width: column_widths[levels[at]],
    };
    let places: Vec<Place> = (0..columns.boxes).map(place).collect();
    let points = |route: &Vec<usize>| {
        let sides = route.iter().flat_map(|&vertex| {
            let column = columns.column_of[vertex];
            let x = starts[column];
            [(x, middles[vertex]), (x + column_widths[column], middles[vertex])]
        });
        let sides: Vec<(f64, f64)> = sides.collect();
        sides[1..sides.len() - 1].to_vec()
    };
    let routes = columns.routes.iter().map(points).collect();
    let last = starts.len().checked_sub(1).map_or(0.0, |at| starts[at] + column_widths[at]);
    let bottom = middles.iter().copied().fold(0.0, f64::max) + height / 2.0;
    Layout { width: last + MARGIN, height: bottom + MARGIN, places, routes }
}

/// The boxes' columns: their layers, but a box that waits for nothing stands beside the first that
/// waits for it, which saves long edges.
fn pulled_levels(picture: &Picture) -> Vec<usize> {
    let mut levels: Vec<usize> = picture.boxes.iter().map(|it| it.level).collect();
    let mut waits = vec![false; levels.len()];
    let mut first_after = vec![usize::MAX; levels.len()];
    for &(from, to) in &picture.edges {
        waits[to] = true;
        first_after[from] = first_after[from].min(levels[to]);
    }
    for (at, level) in levels.iter_mut().enumerate() {
        if !waits[at] && first_after[at] != usize::MAX {
            *level = first_after[at] - 1;
        }
    }
    levels
}

/// The height of each vertex's middle.
fn middles(columns: &Columns, height: f64) -> Vec<f64> {
    let count = columns.column_of.len();
    let is_box = |vertex: usize| vertex < columns.boxes;
    let apart = |a: usize, b: usize| match (is_box(a), is_box(b)) {
        (true, true) => height + GAP,
        (false, false) => EDGE_GAP,
        _ => height / 2.0 + EDGE_GAP,
    };
    let mut middles = vec![0.0; count];
    for column in &columns.columns {
        let offsets = offsets(column, &apart);
        let half = offsets.last().copied().unwrap_or(0.0) / 2.0;
        column.iter().zip(&offsets).for_each(|(&vertex, at)| middles[vertex] = at - half);
    }
    let mean = |around: &[usize], middles: &[f64]| {
        around.iter().map(|&next| middles[next]).sum::<f64>() / around.len() as f64
    };
    for round in 0..ROUNDS {
        for step in 0..columns.columns.len() {
            let forward = round % 2 == 0;
            let at = if forward { step } else { columns.columns.len() - 1 - step };
            let column = &columns.columns[at];
            let wanted: Vec<(f64, f64)> = column
                .iter()
                .map(|&vertex| {
                    let (left, right) = (&columns.left[vertex], &columns.right[vertex]);
                    let side = if forward { left } else { right };
                    // The last rounds listen to both sides, so that neither end is left askew.
                    let both = round + 4 >= ROUNDS && !left.is_empty() && !right.is_empty();
                    let target = match (both, side.is_empty()) {
                        (true, _) => (mean(left, &middles) + mean(right, &middles)) / 2.0,
                        (false, false) => mean(side, &middles),
                        (false, true) => middles[vertex],
                    };
                    // A passing edge should be straight; a box may give way.
                    (target, if is_box(vertex) { 1.0 } else { 3.0 })
                })
                .collect();
            let placed = place_in_order(&wanted, &offsets(column, &apart));
            column.iter().zip(placed).for_each(|(&vertex, middle)| middles[vertex] = middle);
        }
    }
    middles
}

/// Least distances of a column's vertices from its first.
fn offsets(column: &[usize], apart: &impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut offsets = Vec::with_capacity(column.len());
    let mut at = 0.0;
    for (position, &vertex) in column.iter().enumerate() {
        if position > 0 {
            at += apart(column[position - 1], vertex);
        }
        offsets.push(at);
    }
    offsets
}

/// The places nearest to the wanted ones (weighted least squares) that keep the order and the
/// distances: isotonic regression by pooling adjacent violators (Ayer et al. 1955).
fn place_in_order(wanted: &[(f64, f64)], offsets: &[f64]) -> Vec<f64> {
    // Weighted sum, weight, members.
    let mut pools: Vec<(f64, f64, usize)> = Vec::with_capacity(wanted.len());
    for (&(target, weight), offset) in wanted.iter().zip(offsets) {
        pools.push(((target - offset) * weight, weight, 1));
        while let [.., before, last] = pools.as_slice()
            && before.0 / before.1 > last.0 / last.1
        {
            let pooled = (before.0 + last.0, before.1 + last.1, before.2 + last.2);
            pools.truncate(pools.len() - 2);
            pools.push(pooled);
        }
    }
    let levels =
        pools.iter().flat_map(|&(sum, weight, members)| std::iter::repeat_n(sum / weight, members));
    levels.zip(offsets).map(|(level, offset)| level + offset).collect()
}

/// Left side and width of each column.
fn spread(columns: &Columns, widths: &[f64], middles: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut starts = Vec::with_capacity(columns.columns.len());
    let mut column_widths = Vec::with_capacity(columns.columns.len());
    let mut x = MARGIN;
    for column in &columns.columns {
        let boxes = column.iter().filter(|&&vertex| vertex < columns.boxes);
        let width = boxes.map(|&vertex| widths[vertex]).fold(0.0, f64::max);
        starts.push(x);
        column_widths.push(width);
        let edges = column.iter().flat_map(|&a| columns.right[a].iter().map(move |&b| (a, b)));
        let climb = edges.map(|(a, b)| (middles[a] - middles[b]).abs()).fold(0.0, f64::max);
        x += width + (COLUMN_GAP + 0.12 * climb).min(COLUMN_GAP_MAX);
    }
    (starts, column_widths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_order_and_distance_and_are_nearest() {
        let free = place_in_order(&[(0.0, 1.0), (10.0, 1.0)], &[0.0, 4.0]);
        assert_eq!(free, [0.0, 10.0]);
        let pushed = place_in_order(&[(5.0, 1.0), (5.0, 1.0)], &[0.0, 4.0]);
        assert_eq!(pushed, [3.0, 7.0]);
        let weighted = place_in_order(&[(0.0, 3.0), (0.0, 1.0)], &[0.0, 4.0]);
        assert_eq!(weighted, [-1.0, 3.0]);
    }
}
