//! The order of boxes inside their columns, with few crossings.
//!
//! Sugiyama, Tagawa and Toda 1981: edges over several columns are broken by dummies, then each column
//! is sorted by the barycentre of its neighbours, sweeping back and forth; the best order seen stays.

/// Sweeps over all columns; more change little.
const SWEEPS: usize = 24;

/// A layered graph in which every edge joins neighbouring columns.
pub(super) struct Columns {
    /// Vertices by column, in order. The first `boxes` vertices are boxes, the rest are dummies.
    pub columns: Vec<Vec<usize>>,
    pub column_of: Vec<usize>,
    /// Neighbours one column to the left and to the right.
    pub left: Vec<Vec<usize>>,
    pub right: Vec<Vec<usize>>,
    /// The vertices of each edge, from its source to its target.
    pub routes: Vec<Vec<usize>>,
    pub boxes: usize,
}

impl Columns {
    /// Breaks the edges by dummies. `levels` are the boxes' columns; every edge leads to a later one.
    pub fn new(levels: &[usize], edges: &[(usize, usize)]) -> Self {
        let count = levels.iter().max().map_or(0, |&last| last + 1);
        let mut this = Self {
            columns: vec![Vec::new(); count],
            column_of: levels.to_vec(),
            left: vec![Vec::new(); levels.len()],
            right: vec![Vec::new(); levels.len()],
            routes: Vec::with_capacity(edges.len()),
            boxes: levels.len(),
        };
        for (vertex, &level) in levels.iter().enumerate() {
            this.columns[level].push(vertex);
        }
        for &(from, to) in edges {
            let mut route = vec![from];
            for column in levels[from] + 1..levels[to] {
                let dummy = this.column_of.len();
                this.column_of.push(column);
                this.columns[column].push(dummy);
                this.left.push(Vec::new());
                this.right.push(Vec::new());
                route.push(dummy);
            }
            route.push(to);
            for pair in route.windows(2) {
                this.right[pair[0]].push(pair[1]);
                this.left[pair[1]].push(pair[0]);
            }
            this.routes.push(route);
        }
        this
    }

    /// Sorts the columns so that few edges cross.
    pub fn untangle(&mut self) {
        let mut best = (self.crossings(), self.columns.clone());
        for sweep in 0..SWEEPS {
            if best.0 == 0 {
                break;
            }
            let forward = sweep % 2 == 0;
            for at in 0..self.columns.len() {
                let column = if forward { at } else { self.columns.len() - 1 - at };
                // Equal barycentres are turned round in every other pair of sweeps, to leave dead ends.
                self.sort_column(column, forward, sweep % 4 >= 2);
            }
            self.swap_neighbours();
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.columns.clone());
            }
        }
        self.columns = best.1;
    }

    fn positions(&self) -> Vec<usize> {
        let mut positions = vec![0; self.column_of.len()];
        for column in &self.columns {
            column.iter().enumerate().for_each(|(at, &vertex)| positions[vertex] = at);
        }
        positions
    }

    fn sort_column(&mut self, column: usize, forward: bool, turn_ties: bool) {
        let positions = self.positions();
        let neighbours = if forward { &self.left } else { &self.right };
        let mut keyed: Vec<(f64, usize)> = self.columns[column]
            .iter()
            .map(|&vertex| {
                let around = &neighbours[vertex];
                let sum: usize = around.iter().map(|&next| positions[next]).sum();
                let own = positions[vertex] as f64;
                (if around.is_empty() { own } else { sum as f64 / around.len() as f64 }, vertex)
            })
            .collect();
        if turn_ties {
            keyed.reverse();
        }
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.columns[column] = keyed.into_iter().map(|(_, vertex)| vertex).collect();
    }

    /// Swaps neighbours wherever that alone removes crossings, which barycentres miss.
    fn swap_neighbours(&mut self) {
        let mut positions = self.positions();
        for column in 0..self.columns.len() {
            for at in 1..self.columns[column].len() {
                let (a, b) = (self.columns[column][at - 1], self.columns[column][at]);
                let count = |first: usize, second: usize| {
                    [&self.left, &self.right]
                        .iter()
                        .map(|side| inversions(&side[first], &side[second], &positions))
                        .sum::<usize>()
                };
                if count(b, a) < count(a, b) {
                    self.columns[column].swap(at - 1, at);
                    positions.swap(a, b);
                }
            }
        }
    }

    /// How many pairs of edges cross.
    pub fn crossings(&self) -> usize {
        let positions = self.positions();
        let mut total = 0;
        for column in &self.columns {
            // Ends of the edges out of this column, in order of their beginnings.
            let mut ends = Vec::new();
            for &vertex in column {
                let from = ends.len();
                ends.extend(self.right[vertex].iter().map(|&next| positions[next]));
                ends[from..].sort_unstable();
            }
            total += inverted_pairs(&ends);
        }
        total
    }
}

/// Crossings of two vertices' edges where `first` lies above `second`.
fn inversions(first: &[usize], second: &[usize], positions: &[usize]) -> usize {
    let above = |a: &usize| second.iter().filter(|&b| positions[*b] < positions[*a]).count();
    first.iter().map(above).sum()
}

/// Pairs that stand in the wrong order, by a Fenwick tree (Barth, Jünger and Mutzel 2002).
fn inverted_pairs(values: &[usize]) -> usize {
    let size = values.iter().max().map_or(0, |&max| max + 1);
    let mut tree = vec![0_usize; size + 1];
    let mut pairs = 0;
    for (seen, &value) in values.iter().enumerate() {
        let (mut at, mut not_greater) = (value + 1, 0);
        while at > 0 {
            not_greater += tree[at];
            at &= at - 1;
        }
        pairs += seen - not_greater;
        at = value + 1;
        while at <= size {
            tree[at] += 1;
            at += at & at.wrapping_neg();
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_crossing_that_can_be_undone_is_undone() {
        let mut columns = Columns::new(&[0, 0, 1, 1], &[(0, 3), (1, 2)]);
        assert_eq!(columns.crossings(), 1);
        columns.untangle();
        assert_eq!(columns.crossings(), 0);
    }

    #[test]
    fn a_long_edge_passes_every_column_between() {
        let columns = Columns::new(&[0, 1, 2, 3], &[(0, 1), (1, 2), (2, 3), (0, 3)]);
        assert_eq!(columns.routes[3].len(), 4);
        let passed: Vec<usize> = columns.routes[3].iter().map(|&v| columns.column_of[v]).collect();
        assert_eq!(passed, [0, 1, 2, 3]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn inverted_pairs_are_counted_as_by_hand(values in prop::collection::vec(0_usize..9, 0..30)) {
            let pairs = (0..values.len()).flat_map(|a| (a + 1..values.len()).map(move |b| (a, b)));
            prop_assert_eq!(inverted_pairs(&values), pairs.filter(|&(a, b)| values[a] > values[b]).count());
        }

        #[test]
        fn untangling_never_adds_crossings_and_keeps_every_vertex(
            edges in prop::collection::vec((0_usize..20, 0_usize..20), 0..40)
        ) {
            let levels: Vec<usize> = (0..20).map(|at| at / 4).collect();
            let edges: Vec<_> = edges.into_iter().filter(|&(a, b)| levels[a] < levels[b]).collect();
            let mut columns = Columns::new(&levels, &edges);
            let before = (columns.crossings(), columns.columns.concat().len());
            columns.untangle();
            let once = columns.crossings();
            prop_assert!(once <= before.0);
            columns.untangle();
            prop_assert!(columns.crossings() <= once, "nor does it undo what is good");
            let mut all = columns.columns.concat();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), before.1);
        }
    }
}
