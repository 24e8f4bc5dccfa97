//! Where parameters get their values from.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::{BlobHash, Opaque, Payload, Workflow};
use crate::plan::testing::{agent, plan, task, task_from, workflow, world};
use crate::plan::{Plan, compile, restore};

fn args(plan: &Plan, id: &str) -> Value {
    let node = plan.node(id).expect("the task exists");
    serde_json::to_value(&plan.task(node).args).expect("expressions are JSON")
}

fn input(name: &str) -> Value {
    json!({"input": {"path": [{"key": name}]}})
}

fn optional(name: &str) -> Value {
    json!({"input": {"path": [{"key": name}], "optional": true}})
}

#[test]
fn an_explicit_argument_comes_first() {
    let plan = plan(vec![
        task("left", &[]),
        task_from(json!({"id": "j", "agent": "join", "deps": ["left"],
                         "args": {"left": {"value": 1}, "right": {"value": 2}}})),
    ]);
    assert_eq!(args(&plan, "j"), json!({"left": {"value": 1}, "right": {"value": 2}}));
}

#[test]
fn then_the_dependency_of_the_same_name() {
    let plan = plan(vec![
        task("left", &[]),
        task("right", &[]),
        task_from(json!({"id": "j", "agent": "join", "deps": ["left"]})),
    ]);
    // `right` is a task, but not one that `j` waits for.
    assert_eq!(
        args(&plan, "j"),
        json!({"left": {"task": {"id": "left"}}, "right": optional("right")})
    );
}

#[test]
fn a_dependency_that_is_only_mentioned_counts() {
    let plan = plan(vec![
        task("left", &[]),
        task_from(json!({"id": "j", "agent": "join", "when": {"condition": "left.ok"}})),
    ]);
    assert_eq!(args(&plan, "j")["left"], json!({"task": {"id": "left"}}));
}

#[test]
fn then_the_field_of_the_input_and_the_context_is_nobodys() {
    let plan = plan(vec![task_from(json!({"id": "j", "agent": "join"}))]);
    assert_eq!(args(&plan, "j"), json!({"left": input("left"), "right": optional("right")}));
}

#[test]
fn then_the_default_where_the_inputs_fields_are_known() {
    let tasks = vec![task_from(json!({"id": "j", "agent": "join"}))];
    let by_params =
        Workflow { params: Some(agent("", &["left"]).params), ..workflow(tasks.clone()) };
    let by_schema = Workflow {
        input: Some(json!({"type": "object", "properties": {"left": {}}})),
        ..workflow(tasks)
    };
    for flow in [by_params, by_schema] {
        let plan = compile(flow, &world()).expect("left is there, right has a default");
        assert_eq!(args(&plan, "j"), json!({"left": input("left")}));
    }
}

#[test]
fn the_workflows_context_is_no_field_of_its_input() {
    let flow = Workflow {
        params: Some(agent("", &["left", "right@"]).params),
        ..workflow(vec![task_from(json!({"id": "j", "agent": "join"}))])
    };
    let plan = compile(flow, &world()).expect("right has a default");
    assert_eq!(args(&plan, "j"), json!({"left": input("left")}));
}

#[test]
fn a_schema_without_properties_tells_nothing() {
    let flow = Workflow {
        input: Some(json!({"type": "object"})),
        ..workflow(vec![task_from(json!({"id": "f", "agent": "fetch"}))])
    };
    let plan = compile(flow, &world()).expect("url may be there");
    assert_eq!(args(&plan, "f"), json!({"url": input("url")}));
}

#[test]
fn the_map_binds_its_parameter() {
    let plan = plan(vec![task_from(
        json!({"id": "f", "agent": "fetch", "each": {"param": "url", "items": {"input": {}}}}),
    )]);
    assert_eq!(args(&plan, "f"), json!({}));
}

#[test]
fn mentions_become_dependencies_once() {
    let plan = plan(vec![
        task("a", &[]),
        task("b", &[]),
        task("c", &[]),
        task("d", &[]),
        task_from(json!({
            "id": "end", "agent": "any", "deps": ["d", "a"],
            "args": {"x": {"dict": [["k", {"list": [{"task": {"id": "b"}}]}]]},
                     "y": {"template": "{% for t in c %}{{ t }}{{ a }}{% endfor %}"}},
            "when": {"all": [{"not": {"condition": "d.ok"}}, {"task": {"id": "a"}}]},
        })),
    ]);
    assert_eq!(plan.nodes[4].deps, [0, 1, 2, 3]);
    assert!(plan.nodes[..4].iter().all(|node| node.dependents == [4]));
    assert_eq!(
        (plan.sources.as_slice(), plan.sinks.as_slice()),
        ([0, 1, 2, 3].as_slice(), [4].as_slice())
    );
}

#[test]
fn a_restored_plan_is_the_compiled_one() {
    let tasks = vec![
        task_from(json!({"id": "left", "agent": "fetch"})),
        task_from(
            json!({"id": "j", "agent": "join", "args": {"right": {"template": "{{ left }}"}}}),
        ),
    ];
    let compiled = plan(tasks);
    let wire = rmp_serde::to_vec_named(&*compiled.workflow).expect("it serialises");
    let back: Workflow = rmp_serde::from_slice(&wire).expect("and comes back");
    let restored = restore(Arc::new(back)).expect("it is sound");
    assert_eq!(restored.workflow, compiled.workflow);
    assert_eq!(restored.definition, compiled.definition);
    assert_eq!(format!("{:?}", restored.nodes), format!("{:?}", compiled.nodes));
    assert_eq!((&restored.sources, &restored.sinks), (&compiled.sources, &compiled.sinks));
    assert_eq!(restored.node("j"), Some(1));
}

#[test]
fn the_definition_is_the_hash_of_what_the_journal_keeps() {
    let plan = plan(vec![task_from(json!({"id": "f", "agent": "fetch"}))]);
    let wire = rmp_serde::to_vec_named(&*plan.workflow).expect("it serialises");
    assert_eq!(plan.definition, *blake3::hash(&wire).as_bytes());
    let other = super::super::testing::plan(vec![task_from(json!({"id": "g", "agent": "fetch"}))]);
    assert_ne!(plan.definition, other.definition);
}

struct Live;
impl Opaque for Live {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[test]
fn a_definition_with_a_live_object_has_no_hash() {
    let flow = Workflow {
        constants: vec![Payload::Object(Arc::new(Live))],
        ..workflow(vec![task_from(json!({"id": "a", "agent": "any", "args": {"x": {"const": 0}}}))])
    };
    let plan = compile(flow, &world()).expect("it compiles");
    assert_eq!(plan.definition, BlobHash::default());
}
