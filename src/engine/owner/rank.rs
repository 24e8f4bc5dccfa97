//! How long the rest of a run takes from each of its tasks on: the longest goes first.
//!
//! Learned from how long each agent's calls take; worked out once per plan and shared by its runs,
//! refreshed when it has grown old and a new run asks. A plan of one task costs nothing.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::pace::Paces;
use crate::model::{Millis, NodeIx, Timestamp};
use crate::plan::Plan;

/// Plans whose ranks are kept.
const PLANS_MAX: usize = 64;
/// Age from which on ranks are worked out anew.
const FRESH_MS: Millis = 10_000;
/// What a call counts that nobody has seen yet, in microseconds.
const UNKNOWN_US: u32 = 1_000;

/// The longest remaining path from each node on, in microseconds.
pub(super) type Ranking = Arc<[u32]>;

#[derive(Debug, Default)]
pub(super) struct Ranks {
    /// By address: definitions need not differ where constants are live objects.
    plans: HashMap<usize, Known>,
}

#[derive(Debug)]
struct Known {
    /// An address is used again when its plan is gone.
    plan: Weak<Plan>,
    ranking: Ranking,
    at: Timestamp,
}

impl Ranks {
    /// The ranks of a plan's nodes; `None` for a plan of one task.
    pub(super) fn of(
        &mut self,
        plan: &Arc<Plan>,
        paces: &Paces,
        now: Timestamp,
    ) -> Option<Ranking> {
        if plan.nodes.len() < 2 {
            return None;
        }
        let address = Arc::as_ptr(plan) as usize;
        let is_same = |known: &Known| std::ptr::eq(known.plan.as_ptr(), Arc::as_ptr(plan));
        if let Some(known) = self.plans.get(&address).filter(|known| is_same(known))
            && known.plan.strong_count() > 0
            && now.since(known.at) < FRESH_MS
        {
            return Some(Arc::clone(&known.ranking));
        }
        if self.plans.len() >= PLANS_MAX {
            self.plans
                .retain(|_, known| known.plan.strong_count() > 0 && now.since(known.at) < FRESH_MS);
        }
        if self.plans.len() >= PLANS_MAX {
            self.plans.clear();
        }
        let ranking = ranking(plan, paces);
        let known = Known { plan: Arc::downgrade(plan), ranking: Arc::clone(&ranking), at: now };
        self.plans.insert(address, known);
        Some(ranking)
    }
}

/// The rank of a node; nodes that joined after the ranking have only themselves.
pub(super) fn rank(ranking: Option<&Ranking>, node: NodeIx) -> u32 {
    ranking.and_then(|ranking| ranking.get(node as usize).copied()).unwrap_or(0)
}

/// From the ends to the beginnings: nobody is looked at before all that wait for it.
fn ranking(plan: &Plan, paces: &Paces) -> Ranking {
    let nodes = &plan.nodes;
    let mut ranks = vec![0_u32; nodes.len()];
    let mut open: Vec<u32> = nodes.iter().map(|node| node.dependents.len() as u32).collect();
    let mut ready = plan.sinks.clone();
    let mut last: Option<(&str, u32)> = None;
    while let Some(node) = ready.pop() {
        let agent = plan.task(node).agent.as_str();
        let takes = match last {
            Some((known, takes)) if known == agent => takes,
            _ => paces.call_us(agent).unwrap_or(UNKNOWN_US),
        };
        last = Some((agent, takes));
        // So far the longest path behind it.
        let own = ranks[node as usize].saturating_add(takes);
        ranks[node as usize] = own;
        for &dep in &nodes[node as usize].deps {
            let dep = dep as usize;
            ranks[dep] = ranks[dep].max(own);
            open[dep] -= 1;
            if open[dep] == 0 {
                ready.push(dep as NodeIx);
            }
        }
    }
    ranks.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Style, Workflow};
    use crate::plan::restore;

    fn plan(tasks: serde_json::Value) -> Arc<Plan> {
        let workflow = serde_json::json!({ "name": "w", "tasks": tasks });
        let workflow: Workflow = serde_json::from_value(workflow).expect("a sound workflow");
        Arc::new(restore(Arc::new(workflow)).expect("a sound workflow"))
    }

    #[test]
    fn the_longest_remaining_path_ranks_highest() {
        let plan = plan(serde_json::json!([
            { "id": "a", "agent": "short" },
            { "id": "b", "agent": "long" },
            { "id": "c", "agent": "short", "deps": ["a"] },
            { "id": "d", "agent": "short", "deps": ["a", "b", "c"] },
        ]));
        let mut paces = Paces::default();
        for (agent, ns) in [("short", 2_000_000), ("long", 50_000_000)] {
            paces.went_out(&agent.into(), Style::Thread, 1);
            paces.learn(agent, 1, ns);
        }
        let mut ranks = Ranks::default();
        let ranking = ranks.of(&plan, &paces, Timestamp(1)).expect("four tasks");
        assert_eq!(&*ranking, [6_000, 52_000, 4_000, 2_000]);
        paces.learn("long", 1, 1_000);
        let later = |ranks: &mut Ranks, at| ranks.of(&plan, &paces, Timestamp(at));
        assert_eq!(later(&mut ranks, FRESH_MS), Some(Arc::clone(&ranking)), "kept for a while");
        assert_ne!(later(&mut ranks, FRESH_MS + 1), Some(ranking));
    }

    #[test]
    fn a_plan_of_one_task_has_no_ranks() {
        let plan = plan(serde_json::json!([{ "id": "a", "agent": "any" }]));
        let mut ranks = Ranks::default();
        assert_eq!(ranks.of(&plan, &Paces::default(), Timestamp(1)), None);
        assert_eq!((rank(None, 0), ranks.plans.len()), (0, 0));
    }
}
