//! Finds what keeps a graph from having an order, and names it.

use std::collections::VecDeque;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;

use crate::model::NodeIx;

/// Ids named in one message; the middle of a longer cycle is counted.
const NAMED_MAX: usize = 24;

/// The cycles of a graph given by its dependencies, one closed path per strongly connected component.
///
/// `deps[i]` are the dependencies of node `base + i`; those below `base` are ordered already. A path
/// starts and ends at its first-declared node and takes a shortest way round, so that it is the same
/// on every run; each node waits for the one after it. There are no self-dependencies in `deps`.
pub(super) fn cycles(deps: &[Vec<NodeIx>], base: NodeIx) -> Vec<Vec<NodeIx>> {
    let left = unordered(deps, base);
    if left.is_empty() {
        return Vec::new();
    }
    // What is left holds the cycles and all that waits for them; the components tell the two apart.
    let mut place = vec![u32::MAX; deps.len()];
    let mut graph = DiGraph::<NodeIx, (), u32>::with_capacity(left.len(), left.len());
    for &node in &left {
        place[node as usize] = graph.add_node(node).index() as u32;
    }
    for &node in &left {
        for dep in own(&deps[node as usize], base) {
            if place[dep as usize] != u32::MAX {
                graph.add_edge(place[node as usize].into(), place[dep as usize].into(), ());
            }
        }
    }
    // Kosaraju's algorithm, as petgraph's Tarjan recurses and a cycle may be a million tasks long.
    let mut members: Vec<Vec<NodeIx>> = kosaraju_scc(&graph)
        .into_iter()
        .filter(|members| members.len() > 1)
        .map(|members| members.into_iter().map(|at| graph[at]).collect())
        .collect();
    members.iter_mut().for_each(|members| members.sort_unstable());
    members.sort_unstable();
    let mut component = vec![u32::MAX; deps.len()];
    for (at, members) in members.iter().enumerate() {
        members.iter().for_each(|&node| component[node as usize] = at as u32);
    }
    let mut found_from = vec![u32::MAX; deps.len()];
    members
        .iter()
        .map(|members| shortest(members[0], deps, base, &component, &mut found_from))
        .collect()
}

/// The dependencies from `base` on, counted from there.
fn own(deps: &[NodeIx], base: NodeIx) -> impl Iterator<Item = NodeIx> {
    deps.iter().filter(move |&&dep| dep >= base).map(move |dep| dep - base)
}

/// The nodes that Kahn's algorithm (1962) cannot order, counted from `base`.
fn unordered(deps: &[Vec<NodeIx>], base: NodeIx) -> Vec<NodeIx> {
    let mut waits: Vec<u32> = deps.iter().map(|deps| own(deps, base).count() as u32).collect();
    let dependents = Dependents::of(deps, base);
    let mut ready: Vec<NodeIx> =
        (0..deps.len() as NodeIx).filter(|&node| waits[node as usize] == 0).collect();
    while let Some(node) = ready.pop() {
        for &dependent in dependents.of_node(node) {
            waits[dependent as usize] -= 1;
            if waits[dependent as usize] == 0 {
                ready.push(dependent);
            }
        }
    }
    (0..deps.len() as NodeIx).filter(|&node| waits[node as usize] > 0).collect()
}

/// Edges turned round, in two flat arrays.
struct Dependents {
    starts: Vec<u32>,
    nodes: Vec<NodeIx>,
}

impl Dependents {
    fn of(deps: &[Vec<NodeIx>], base: NodeIx) -> Self {
        let mut starts = vec![0_u32; deps.len() + 1];
        for deps in deps {
            own(deps, base).for_each(|dep| starts[dep as usize + 1] += 1);
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut nodes = vec![0; starts[deps.len()] as usize];
        for (node, deps) in deps.iter().enumerate() {
            for dep in own(deps, base) {
                nodes[next[dep as usize] as usize] = node as NodeIx;
                next[dep as usize] += 1;
            }
        }
        Self { starts, nodes }
    }

    fn of_node(&self, node: NodeIx) -> &[NodeIx] {
        let node = node as usize;
        &self.nodes[self.starts[node] as usize..self.starts[node + 1] as usize]
    }
}

/// A shortest closed path from `start` through its component, by breadth-first search.
fn shortest(
    start: NodeIx,
    deps: &[Vec<NodeIx>],
    base: NodeIx,
    component: &[u32],
    found_from: &mut [u32],
) -> Vec<NodeIx> {
    let home = component[start as usize];
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for dep in own(&deps[node as usize], base) {
            if dep == start {
                let mut path = vec![start + base];
                let mut at = node;
                while at != start {
                    path.push(at + base);
                    at = found_from[at as usize];
                }
                path.push(start + base);
                path.reverse();
                return path;
            }
            if component[dep as usize] == home && found_from[dep as usize] == u32::MAX {
                found_from[dep as usize] = node;
                queue.push_back(dep);
            }
        }
    }
    unreachable!("every node of a strongly connected component lies on a cycle")
}

/// ``task `sum` waits for `fetch`, which waits for `sum` ``.
pub(super) fn describe<'p>(path: &[NodeIx], id: impl Fn(NodeIx) -> &'p str) -> String {
    let mut text = format!("task `{}` waits for `{}`", id(path[0]), id(path[1]));
    let rest = &path[2..];
    let head = if rest.len() > NAMED_MAX { NAMED_MAX - 1 } else { rest.len() };
    for &node in &rest[..head] {
        text.push_str(&format!(", which waits for `{}`", id(node)));
    }
    if head < rest.len() {
        let more = rest.len() - head - 1;
        let last = id(rest[rest.len() - 1]);
        text.push_str(&format!(", which waits through {more} more tasks for `{last}`"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_with_an_order_has_no_cycles() {
        assert!(cycles(&[vec![], vec![0], vec![0, 1]], 0).is_empty());
        assert!(cycles(&[], 0).is_empty());
    }

    #[test]
    fn a_path_starts_at_the_first_declared_node_and_takes_the_shortest_way() {
        // 1 → 3 → 2 → 1 and the short cut 3 → 1; 4 only waits for the cycle, 0 is apart.
        let deps = [vec![], vec![3], vec![1], vec![1, 2], vec![3]];
        assert_eq!(cycles(&deps, 0), [vec![1, 3, 1]]);
    }

    #[test]
    fn each_component_is_named_once_in_order_of_declaration() {
        let deps = [vec![3], vec![2], vec![1], vec![0]];
        assert_eq!(cycles(&deps, 0), [vec![0, 3, 0], vec![1, 2, 1]]);
    }

    #[test]
    fn nodes_below_the_base_are_ordered_already() {
        assert_eq!(cycles(&[vec![5, 11], vec![10]], 10), [vec![10, 11, 10]]);
        assert!(cycles(&[vec![5, 3], vec![10]], 10).is_empty());
    }

    #[test]
    fn a_long_cycle_is_named_at_both_ends() {
        let ids: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
        let deps: Vec<Vec<NodeIx>> = (0..100).map(|n| vec![(n + 1) % 100]).collect();
        let found = cycles(&deps, 0);
        let text = describe(&found[0], |node| &ids[node as usize]);
        assert!(text.starts_with("task `t0` waits for `t1`, which waits for `t2`"), "{text}");
        assert!(text.ends_with("which waits through 75 more tasks for `t0`"), "{text}");
    }
}
