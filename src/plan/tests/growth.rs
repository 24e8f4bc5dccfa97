//! Tasks that join a plan while its run is under way.

use serde_json::json;

use crate::model::{Error, Growth, Payload, Task, Workflow};
use crate::plan::testing::{codes, ids, plan, task, task_from, workflow, world};
use crate::plan::{Plan, compile, restore};

fn growth(tasks: Vec<Task>) -> Growth {
    Growth { tasks, constants: Vec::new() }
}

fn grow(plan: &Plan, tasks: Vec<Task>) -> Result<Plan, Error> {
    plan.grow(&growth(tasks), &world())
}

/// What `Debug` shows of the graph, for comparison.
fn graph(plan: &Plan) -> String {
    format!("{:?} {:?} {:?}", plan.nodes, plan.sources, plan.sinks)
}

#[test]
fn a_grown_plan_is_the_plan_of_all_its_tasks() {
    let base = plan(vec![task("a", &[]), task("b", &["a"])]);
    let new = vec![
        task("d", &["c", "b"]),
        task_from(json!({"id": "c", "agent": "any", "args": {"x": {"template": "{{ a }}"}}})),
        task_from(json!({"id": "left", "agent": "any"})),
        task_from(json!({"id": "e", "agent": "join", "deps": ["left"]})),
    ];
    let grown = grow(&base, new.clone()).expect("it grows");
    let whole = plan([vec![task("a", &[]), task("b", &["a"])], new].concat());
    assert_eq!(graph(&grown), graph(&whole));
    assert_eq!(grown.workflow, whole.workflow);
    assert_eq!(grown.definition, whole.definition);
    assert_eq!(grown.node("d"), Some(2));
    assert_eq!(ids(&grown, &grown.sinks), ["d", "e"]);
    assert_eq!(base.nodes[1].dependents, [] as [u32; 0], "the old plan is left alone");
}

#[test]
fn the_same_task_again_changes_nothing() {
    let base = plan(vec![task("a", &[]), task_from(json!({"id": "f", "agent": "fetch"}))]);
    // The one that stands has its parameter bound; the one that comes is bound alike.
    let again = growth(vec![task_from(json!({"id": "f", "agent": "fetch"}))]);
    let bound = base.bind_growth(&again, &world()).expect("the same");
    assert!(bound.tasks.is_empty());
    let grown = base.regrow(&bound).expect("nothing to do");
    assert_eq!((graph(&grown), grown.definition), (graph(&base), base.definition));
}

#[test]
fn another_task_under_the_same_id_is_a_conflict() {
    let base = plan(vec![task("a", &[]), task("b", &[])]);
    let error = grow(&base, vec![task("b", &["a"])]).expect_err("it differs");
    assert_eq!(error.code, "workflow.task_conflict");
    assert_eq!(codes(&error), ["workflow.task_conflict"]);
    assert!(error.message.contains("task `b` stands already and is another one"), "{error}");
    let late = grow(&base, vec![task("c", &[]), task("b", &["c"])]).expect_err("it differs");
    assert_eq!(late.code, "workflow.task_conflict");
}

#[test]
fn a_cycle_among_new_tasks_is_named() {
    let base = plan(vec![task("a", &[])]);
    let error = grow(&base, vec![task("x", &["y", "a"]), task("y", &["x"])]).expect_err("a cycle");
    assert_eq!(error.code, "workflow.invalid");
    assert_eq!(error.problems[0].message, "task `x` waits for `y`, which waits for `x`");
}

#[test]
fn a_growth_is_checked_like_a_workflow() {
    let base = plan(vec![task("fetch", &[])]);
    let error = grow(
        &base,
        vec![
            task("x", &["fetsh"]),
            task("x", &[]),
            task("run", &[]),
            task_from(json!({"id": "y", "agent": "nobody", "lane": "nowhere", "timeout_ms": 0})),
        ],
    )
    .expect_err("much is wrong");
    let mut found = codes(&error);
    found.sort_unstable();
    let expected = [
        "workflow.bad_id",
        "workflow.bad_option",
        "workflow.duplicate_task",
        "workflow.unknown_agent",
        "workflow.unknown_dependency",
        "workflow.unknown_lane",
    ];
    assert_eq!(found, expected);
    let near = error.problems.iter().find(|p| p.code == "workflow.unknown_dependency");
    assert_eq!(near.expect("it is there").help, "did you mean `fetch`?");
}

#[test]
fn a_growths_constants_count_from_its_own_first() {
    let flow = Workflow {
        constants: vec![Payload::bytes(vec![1])],
        ..workflow(vec![task_from(json!({"id": "a", "agent": "any", "args": {"x": {"const": 0}}}))])
    };
    let base = compile(flow, &world()).expect("it compiles");
    let more = Growth {
        tasks: vec![task_from(
            json!({"id": "b", "agent": "any", "args": {"x": {"list": [{"const": 1}, {"const": 0}]}}}),
        )],
        constants: vec![Payload::bytes(vec![2]), Payload::bytes(vec![3])],
    };
    let grown = base.grow(&more, &world()).expect("it grows");
    let all: Vec<_> = [1, 2, 3].map(|byte| Payload::bytes(vec![byte])).into();
    assert_eq!(grown.workflow.constants, all);
    let args = serde_json::to_value(&grown.task(1).args).expect("JSON");
    assert_eq!(args, json!({"x": {"list": [{"const": 2}, {"const": 1}]}}));

    let again = grown.grow(&more, &world()).expect("the same values: no-op");
    assert_eq!(again.workflow, grown.workflow);
    let other =
        Growth { constants: vec![Payload::bytes(vec![2]), Payload::bytes(vec![4])], ..more };
    let error = grown.grow(&other, &world()).expect_err("another value");
    assert_eq!(error.code, "workflow.task_conflict");
}

#[test]
fn replay_needs_no_signatures_and_is_idempotent() {
    let base = plan(vec![task("left", &[])]);
    let new = growth(vec![task_from(json!({"id": "j", "agent": "join", "deps": ["left"]}))]);
    let bound = base.bind_growth(&new, &world()).expect("it binds");
    assert_eq!(bound.tasks[0].args.len(), 2, "left and right are bound");
    let wire = rmp_serde::to_vec_named(&bound).expect("the journal keeps it");
    let bound: Growth = rmp_serde::from_slice(&wire).expect("and reads it");
    let old = restore(base.workflow.clone()).expect("the definition is sound");
    let replayed = old.regrow(&bound).expect("it grows again");
    let grown = base.grow(&new, &world()).expect("it grows");
    assert_eq!(graph(&replayed), graph(&grown));
    assert_eq!(replayed.definition, grown.definition);
    let twice = replayed.regrow(&bound).expect("a second replay changes nothing");
    assert_eq!(twice.workflow, replayed.workflow);
    assert_eq!(graph(&twice), graph(&replayed));
}

#[test]
fn a_damaged_growth_is_not_replayed() {
    let base = plan(vec![task("a", &[])]);
    let error = base.regrow(&growth(vec![task("b", &["gone"])])).expect_err("it is damaged");
    assert_eq!(codes(&error), ["workflow.unknown_dependency"]);
}
