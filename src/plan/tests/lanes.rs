//! What lanes say for their tasks, and where they send them.

use serde_json::json;

use super::super::testing::*;
use super::super::{Plan, compile};
use crate::model::{AgentInfo, Error, Expr, Growth, Isolation, LaneSpec, OnFull, Rate, Workflow};

fn in_lane(id: &str, more: &serde_json::Value) -> crate::model::Task {
    let mut task = json!({"id": id, "agent": "any", "lane": "llm"});
    let fields = more.as_object().expect("fields").clone();
    task.as_object_mut().expect("an object").extend(fields);
    task_from(task)
}

fn world_with(spec: LaneSpec) -> World {
    let mut world = world();
    world.lanes.push(spec.name.clone());
    world.specs.push(spec);
    world
}

fn llm() -> LaneSpec {
    LaneSpec {
        name: "llm".into(),
        isolation: Isolation::Process,
        rate: Some(Rate { units: 10, per_ms: 1000, burst: 4 }),
        rate_key: Some("{{ input.tenant }}".into()),
        ..LaneSpec::default()
    }
}

fn compiled(world: &World, workflow: Workflow) -> Plan {
    compile(workflow, world).expect("the workflow compiles")
}

fn refused(world: &World, workflow: Workflow) -> Error {
    compile(workflow, world).expect_err("the workflow is refused")
}

#[test]
fn a_lane_speaks_for_tasks_that_say_nothing() {
    let own = json!({"isolation": "thread", "rate_key": {"value": "mine"}});
    let tasks = vec![in_lane("a", &json!({})), in_lane("b", &own), task("c", &[])];
    let plan = compiled(&world_with(llm()), workflow(tasks));
    let of = |node| (plan.task(node).isolation, plan.task(node).rate_key.clone());
    let key = Expr::Template("{{ input.tenant }}".into());
    assert_eq!(of(0), (Isolation::Process, Some(key)));
    assert_eq!(of(1), (Isolation::Thread, Some(Expr::Value("mine".into()))));
    assert_eq!(of(2), (Isolation::Auto, None));
}

#[test]
fn the_engines_lane_outranks_the_one_that_a_workflow_brings() {
    let brought = LaneSpec { isolation: Isolation::Thread, ..llm() };
    let flow = Workflow { lanes: vec![brought], ..workflow(vec![in_lane("a", &json!({}))]) };
    let plan = compiled(&world_with(llm()), flow.clone());
    assert_eq!(plan.task(0).isolation, Isolation::Process);
    assert_eq!(compiled(&world(), flow).task(0).isolation, Isolation::Thread);
}

#[test]
fn a_growth_is_filled_in_as_a_definition_is() {
    let world = world_with(llm());
    let plan = compiled(&world, workflow(vec![task("c", &[])]));
    let growth = Growth { tasks: vec![in_lane("a", &json!({}))], constants: vec![] };
    let bound = plan.bind_growth(&growth, &world).expect("the growth fits");
    assert_eq!(bound.tasks[0].isolation, Isolation::Process);
}

#[test]
fn a_rate_key_makes_its_tasks_dependencies() {
    let key = json!({"rate_key": {"task": {"id": "c"}}});
    let plan = compiled(&world_with(llm()), workflow(vec![task("c", &[]), in_lane("a", &key)]));
    assert_eq!(plan.nodes[1].deps, vec![0]);
    let key = json!({"rate_key": {"template": "{{ nobody.id }}"}});
    let error = refused(&world_with(llm()), workflow(vec![in_lane("a", &key)]));
    assert_eq!(codes(&error), ["workflow.bad_template"]);
    assert!(error.message.contains("`rate_key` of task `a`"), "{}", error.message);
}

#[test]
fn a_cost_above_the_burst_could_never_begin() {
    let flow = |cost| workflow(vec![in_lane("a", &json!({"cost": cost}))]);
    compiled(&world_with(llm()), flow(4));
    let error = refused(&world_with(llm()), flow(5));
    assert_eq!(codes(&error), ["workflow.bad_option"]);
    assert_eq!(codes(&refused(&world_with(llm()), flow(0))), ["workflow.bad_option"]);
}

#[test]
fn an_isolation_that_the_function_is_not_made_for_is_refused() {
    let mut world = world_with(llm());
    world.agents.push(AgentInfo { kind: Isolation::Loop, open: true, ..agent("co", &[]) });
    let flow = |isolation| {
        workflow(vec![task_from(json!({"id": "a", "agent": "co", "isolation": isolation}))])
    };
    compiled(&world, flow("loop"));
    compiled(&world, flow("process"));
    assert_eq!(codes(&refused(&world, flow("thread"))), ["workflow.bad_option"]);
}

#[test]
fn bounds_of_zero_are_refused() {
    for what in ["timeout_ms", "queue_timeout_ms", "idle_timeout_ms", "total_timeout_ms"] {
        let error = refusal(workflow(vec![task_from(json!({"id": "a", "agent": "any", what: 0}))]));
        assert_eq!(codes(&error), ["workflow.bad_option"], "{what}");
    }
}

#[test]
fn redirections_must_lead_to_an_end() {
    let lane = |name: &str, to: &str| LaneSpec {
        name: name.into(),
        on_full: OnFull::Redirect(to.into()),
        ..LaneSpec::default()
    };
    let flow = |lanes| Workflow { lanes, ..workflow(vec![task("a", &[])]) };
    compile(flow(vec![lane("x", "y"), lane("y", "io")]), &world()).expect("`io` is an end");
    let error = refusal(flow(vec![lane("x", "y"), lane("y", "x")]));
    assert!(codes(&error).iter().all(|code| *code == "workflow.bad_lane"), "{error:?}");
    assert!(error.message.contains("x → y → x"), "{}", error.message);
    let error = refusal(flow(vec![lane("x", "nowhere")]));
    assert_eq!(codes(&error), ["workflow.unknown_lane"]);
    // Through a lane of the engine, back into one of the workflow.
    let error = refused(&world_with(lane("llm", "x")), flow(vec![lane("x", "llm")]));
    assert_eq!(codes(&error), ["workflow.bad_lane"]);
}
