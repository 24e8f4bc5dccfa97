//! The shape of a plan: order, layers, critical path, parallel groups. Iterative and linear.

use std::collections::HashMap;

use super::Plan;
use crate::model::NodeIx;

impl Plan {
    /// The nodes in an order in which every node comes after its dependencies (Kahn 1962); the
    /// same on every run.
    pub fn order(&self) -> Vec<NodeIx> {
        let mut waits: Vec<u32> = self.nodes.iter().map(|node| node.deps.len() as u32).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        order.extend_from_slice(&self.sources);
        let mut at = 0;
        while let Some(&node) = order.get(at) {
            at += 1;
            for &dependent in &self.nodes[node as usize].dependents {
                waits[dependent as usize] -= 1;
                if waits[dependent as usize] == 0 {
                    order.push(dependent);
                }
            }
        }
        assert_eq!(order.len(), self.nodes.len(), "a plan has no cycles");
        order
    }

    /// Each node's layer: 0 without dependencies, else one more than its latest dependency's.
    pub fn levels(&self) -> Vec<u32> {
        let mut levels = vec![0; self.nodes.len()];
        for node in self.order() {
            let deps = &self.nodes[node as usize].deps;
            levels[node as usize] =
                deps.iter().map(|&dep| levels[dep as usize] + 1).max().unwrap_or(0);
        }
        levels
    }

    /// The nodes by layer, each layer in order of declaration. Layers are a picture, not a schedule: a
    /// node starts when its own dependencies have ended.
    pub fn layers(&self) -> Vec<Vec<NodeIx>> {
        let levels = self.levels();
        let mut layers = vec![Vec::new(); levels.iter().max().map_or(0, |&last| last as usize + 1)];
        for (node, &level) in levels.iter().enumerate() {
            layers[level as usize].push(node as NodeIx);
        }
        layers
    }

    /// Groups of nodes that may run at the same time: the nodes of one layer that share a lane, and
    /// so its permits. By layer, then by the lane's first node.
    pub fn parallel_groups(&self) -> Vec<Vec<NodeIx>> {
        let mut groups: Vec<Vec<NodeIx>> = Vec::new();
        for layer in self.layers() {
            let mut of_lane: HashMap<&str, usize> = HashMap::new();
            for node in layer {
                let group = *of_lane.entry(&self.task(node).lane).or_insert_with(|| {
                    groups.push(Vec::new());
                    groups.len() - 1
                });
                groups[group].push(node);
            }
        }
        groups
    }

    /// Nodes on the longest path that begins with each node, itself included.
    pub fn remaining_path(&self) -> Vec<u32> {
        self.remaining_by(|_| 1).into_iter().map(|length| length as u32).collect()
    }

    /// Weight of the heaviest path that begins with each node, its own included.
    pub fn remaining_by(&self, weight: impl Fn(NodeIx) -> u64) -> Vec<u64> {
        let mut remaining = vec![0_u64; self.nodes.len()];
        for node in self.order().into_iter().rev() {
            let dependents = &self.nodes[node as usize].dependents;
            let after = dependents.iter().map(|&next| remaining[next as usize]).max().unwrap_or(0);
            remaining[node as usize] = after.saturating_add(weight(node));
        }
        remaining
    }

    /// The longest path by number of nodes; of equal ones, that of the first declared nodes.
    pub fn critical_path(&self) -> Vec<NodeIx> {
        self.critical_path_by(|_| 1)
    }

    /// The heaviest path; of equal ones, that of the first declared nodes.
    pub fn critical_path_by(&self, weight: impl Fn(NodeIx) -> u64) -> Vec<NodeIx> {
        let remaining = self.remaining_by(weight);
        let heaviest = |nodes: &[NodeIx]| {
            nodes.iter().copied().reduce(|best, node| {
                if remaining[node as usize] > remaining[best as usize] { node } else { best }
            })
        };
        let mut path = Vec::new();
        let mut next = heaviest(&self.sources);
        while let Some(node) = next {
            path.push(node);
            next = heaviest(&self.nodes[node as usize].dependents);
        }
        path
    }
}
