//! Layers, paths and groups of small graphs, worked out by hand.

use serde_json::json;

use crate::plan::Plan;
use crate::plan::testing::{ids, plan, task, task_from};

/// a → (b, c) → d, with a long way b → e → f beside it, and g apart.
fn example() -> Plan {
    plan(vec![
        task("a", &[]),
        task("b", &["a"]),
        task_from(json!({"id": "c", "agent": "any", "deps": ["a"], "lane": "io"})),
        task("d", &["b", "c"]),
        task("e", &["b"]),
        task("f", &["e"]),
        task("g", &[]),
    ])
}

fn named(plan: &Plan, groups: &[Vec<u32>]) -> Vec<Vec<String>> {
    groups.iter().map(|group| ids(plan, group)).collect()
}

#[test]
fn a_layer_holds_what_has_equally_long_ways_behind_it() {
    let plan = example();
    let layers = named(&plan, &plan.layers());
    assert_eq!(layers, [vec!["a", "g"], vec!["b", "c"], vec!["d", "e"], vec!["f"]]);
}

#[test]
fn a_group_shares_layer_and_lane() {
    let plan = example();
    let groups = named(&plan, &plan.parallel_groups());
    assert_eq!(groups, [vec!["a", "g"], vec!["b"], vec!["c"], vec!["d", "e"], vec!["f"]]);
}

#[test]
fn the_critical_path_is_the_longest_and_of_equals_the_first_declared() {
    let plan = example();
    assert_eq!(ids(&plan, &plan.critical_path()), ["a", "b", "e", "f"]);
    let diamond = super::super::testing::plan(vec![
        task("a", &[]),
        task("b", &["a"]),
        task("c", &["a"]),
        task("d", &["b", "c"]),
    ]);
    assert_eq!(ids(&diamond, &diamond.critical_path()), ["a", "b", "d"]);
}

#[test]
fn weights_move_the_critical_path() {
    let plan = example();
    let c = plan.node("c").expect("c");
    let path = plan.critical_path_by(|node| if node == c { 100 } else { 1 });
    assert_eq!(ids(&plan, &path), ["a", "c", "d"]);
    let g = plan.node("g").expect("g");
    let path = plan.critical_path_by(|node| if node == g { u64::MAX } else { u64::MAX / 2 });
    assert_eq!(ids(&plan, &path), ["a", "b", "e", "f"], "weights saturate instead of wrapping");
}

#[test]
fn the_remaining_path_counts_the_node_itself() {
    assert_eq!(example().remaining_path(), [4, 3, 2, 1, 2, 1, 1]);
}
