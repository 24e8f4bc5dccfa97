//! What holds for every graph.

use std::collections::HashSet;

use proptest::prelude::*;

use crate::model::Task;
use crate::plan::testing::{plan, refusal, task, workflow};

/// Random DAGs, declared in random order: edges lead from later to earlier positions of a hidden
/// order. Gives the tasks and that order as ids.
fn dags() -> impl Strategy<Value = (Vec<Task>, Vec<String>)> {
    (2_usize..40).prop_flat_map(|count| {
        let edges = prop::collection::vec((0..count, 0..count), 0..count * 3);
        let shuffled = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
        (edges, shuffled).prop_map(move |(edges, shuffled)| {
            let id = |at: usize| format!("t{at}");
            let mut deps = vec![Vec::new(); count];
            for (a, b) in edges {
                if a != b {
                    deps[a.max(b)].push(id(a.min(b)));
                }
            }
            let tasks = shuffled.into_iter().map(|at| {
                let deps: Vec<&str> = deps[at].iter().map(String::as_str).collect();
                task(&id(at), &deps)
            });
            (tasks.collect(), (0..count).map(id).collect())
        })
    })
}

/// Reads the ids out of a cycle's message.
fn named(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_node_comes_after_its_dependencies((tasks, _) in dags()) {
        let plan = plan(tasks);
        let mut seen = HashSet::new();
        for node in plan.order() {
            let deps = &plan.nodes[node as usize].deps;
            prop_assert!(deps.iter().all(|dep| seen.contains(dep)));
            prop_assert!(seen.insert(node));
        }
        prop_assert_eq!(seen.len(), plan.nodes.len());
    }

    #[test]
    fn dependents_mirror_dependencies((tasks, _) in dags()) {
        let plan = plan(tasks);
        let edges = |pick: fn(&crate::plan::Node) -> &Vec<u32>| -> Vec<(u32, u32)> {
            let nodes = plan.nodes.iter().enumerate();
            nodes.flat_map(|(at, node)| pick(node).iter().map(move |&to| (at as u32, to))).collect()
        };
        let up = edges(|node| &node.deps);
        let down = edges(|node| &node.dependents);
        let mut turned: Vec<_> = down.iter().map(|&(a, b)| (b, a)).collect();
        turned.sort_unstable();
        let strictly = |edges: &[(u32, u32)]| edges.windows(2).all(|pair| pair[0] < pair[1]);
        prop_assert!(strictly(&up) && strictly(&down), "sorted, each once");
        prop_assert_eq!(up, turned);
    }

    #[test]
    fn layers_partition_the_nodes_and_edges_lead_to_later_layers((tasks, _) in dags()) {
        let plan = plan(tasks);
        let levels = plan.levels();
        let mut all: Vec<u32> = plan.layers().concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..plan.nodes.len() as u32).collect::<Vec<_>>());
        for (at, node) in plan.nodes.iter().enumerate() {
            let latest = node.deps.iter().map(|&dep| levels[dep as usize] + 1).max();
            prop_assert_eq!(levels[at], latest.unwrap_or(0));
        }
        let mut grouped: Vec<u32> = plan.parallel_groups().concat();
        grouped.sort_unstable();
        prop_assert_eq!(grouped.len(), plan.nodes.len());
    }

    #[test]
    fn the_critical_path_is_a_path_through_every_layer((tasks, _) in dags()) {
        let plan = plan(tasks);
        let path = plan.critical_path();
        prop_assert_eq!(path.len(), plan.layers().len());
        for pair in path.windows(2) {
            prop_assert!(plan.nodes[pair[1] as usize].deps.contains(&pair[0]));
        }
        prop_assert_eq!(path.len() as u32, plan.remaining_path().into_iter().max().unwrap_or(0));
    }

    #[test]
    fn a_back_edge_yields_a_true_closed_path((mut tasks, order) in dags(), a in 0_usize..40, b in 0_usize..40) {
        // Two edges that close a ring for certain: the later waits for the earlier, and back.
        let (a, b) = (a % order.len(), b % order.len());
        prop_assume!(a != b);
        for (waiting, waited) in [(a, b), (b, a)] {
            let task = tasks.iter_mut().find(|task| task.id == order[waiting]).expect("it exists");
            task.deps.push(order[waited].clone());
        }
        let error = refusal(workflow(tasks.clone()));
        let again = refusal(workflow(tasks.clone()));
        prop_assert_eq!(&error.problems, &again.problems);
        prop_assert!(error.problems.iter().all(|problem| problem.code == "workflow.cycle"));
        prop_assert_eq!(error.problems.len(), 1, "a ring and what hangs in it is one component");
        let path = named(&error.problems[0].message);
        prop_assert!(path.len() >= 3);
        prop_assert_eq!(path.first(), path.last());
        for pair in path.windows(2) {
            let task = tasks.iter().find(|task| task.id == pair[0]).expect("it exists");
            prop_assert!(task.deps.contains(&pair[1]), "{} does not wait for {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn growing_task_by_task_gives_the_whole_plan((tasks, order) in dags()) {
        let world = crate::plan::testing::world();
        let in_order: Vec<Task> = order
            .iter()
            .map(|id| tasks.iter().find(|task| task.id == *id).expect("it exists").clone())
            .collect();
        let mut grown = plan(in_order[..1].to_vec());
        for task in &in_order[1..] {
            let growth = crate::model::Growth { tasks: vec![task.clone()], constants: vec![] };
            grown = grown.grow(&growth, &world).expect("it grows");
        }
        let whole = plan(in_order);
        prop_assert_eq!(format!("{:?}", grown.nodes), format!("{:?}", whole.nodes));
        prop_assert_eq!(grown.definition, whole.definition);
        prop_assert_eq!((grown.sources, grown.sinks), (whole.sources, whole.sinks));
    }
}
