//! Every refusal, with its code, the names in its message, and its cure.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::{Expr, LaneSpec, Workflow};
use crate::plan::testing::{codes, plan, refusal, task, task_from, workflow, world};
use crate::plan::{compile, restore};

/// Asserts that one problem comes out, and gives its task, message and help.
fn only(workflow: Workflow, code: &str) -> (Option<String>, String, String) {
    let error = refusal(workflow);
    assert_eq!(codes(&error), [code], "{:#?}", error.problems);
    assert_eq!(error.code, "workflow.invalid");
    let problem = error.problems.into_iter().next().expect("one");
    (problem.task, problem.message, problem.help)
}

fn only_of_task(json: Value, code: &str) -> (String, String) {
    let (task, message, help) = only(workflow(vec![task("fetch", &[]), task_from(json)]), code);
    assert_eq!(task.as_deref(), Some("sum"));
    (message, help)
}

#[test]
fn all_problems_come_at_once() {
    let mut flow = workflow(vec![
        task("a", &["b"]),
        task("b", &["a"]),
        task("c", &["c"]),
        task_from(json!({"id": "run", "agent": "nobody", "lane": "nowhere", "deps": ["x"]})),
        task("a", &[]),
    ]);
    flow.name.clear();
    let error = refusal(flow);
    let mut found = codes(&error);
    found.sort_unstable();
    let expected = [
        "workflow.bad_id",
        "workflow.cycle",
        "workflow.duplicate_task",
        "workflow.empty_name",
        "workflow.self_dependency",
        "workflow.unknown_agent",
        "workflow.unknown_dependency",
        "workflow.unknown_lane",
    ];
    assert_eq!(found, expected);
    assert_eq!(
        error.message,
        "workflow `` is refused: the workflow has no name (and 7 more problems)"
    );
}

#[test]
fn a_workflow_has_a_name_and_tasks() {
    only(Workflow { name: " ".into(), ..workflow(vec![task("a", &[])]) }, "workflow.empty_name");
    only(workflow(vec![]), "workflow.no_tasks");
}

#[test]
fn a_task_id_is_printable_and_not_taken_by_the_language() {
    for id in ["", "a[0]", "a]", "a\nb", "input", "run", "memory"] {
        let (blamed, message, _) = only(workflow(vec![task(id, &[])]), "workflow.bad_id");
        assert_eq!(blamed.as_deref(), Some(id));
        assert!(message.contains(&format!("{id:?}")), "{message}");
    }
    plan(vec![task("größe 1.b-c/Ω", &[]), task("inputs", &[])]);
}

#[test]
fn a_task_id_is_declared_once() {
    let (blamed, message, _) =
        only(workflow(vec![task("a", &[]), task("a", &[])]), "workflow.duplicate_task");
    assert_eq!((blamed.as_deref(), message.as_str()), (Some("a"), "task `a` is declared twice"));
}

#[test]
fn an_unknown_dependency_names_both_ids_and_a_near_one() {
    let (message, help) = only_of_task(
        json!({"id": "sum", "agent": "any", "deps": ["fetsh", "fetsh"]}),
        "workflow.unknown_dependency",
    );
    assert_eq!(message, "task `sum` depends on `fetsh`, which is not a task");
    assert_eq!(help, "did you mean `fetch`?");
    let args =
        json!({"id": "sum", "agent": "any", "args": {"x": {"list": [{"task": {"id": "zzzzzz"}}]}}});
    let (_, help) = only_of_task(args, "workflow.unknown_dependency");
    assert_eq!(help, "declare the task, or drop the dependency");
}

#[test]
fn a_task_does_not_wait_for_itself() {
    for json in [
        json!({"id": "sum", "agent": "any", "deps": ["sum", "sum"]}),
        json!({"id": "sum", "agent": "any", "args": {"x": {"task": {"id": "sum"}}}}),
        json!({"id": "sum", "agent": "any", "when": {"condition": "sum > 1"}, "deps": ["sum"]}),
    ] {
        let (message, _) = only_of_task(json, "workflow.self_dependency");
        assert_eq!(message, "task `sum` waits for itself");
    }
}

#[test]
fn a_cycle_is_named_as_a_closed_path() {
    let flow =
        workflow(vec![task("sum", &["fetch"]), task("fetch", &["sum"]), task("end", &["sum"])]);
    let (blamed, message, _) = only(flow, "workflow.cycle");
    assert_eq!(blamed.as_deref(), Some("sum"));
    assert_eq!(message, "task `sum` waits for `fetch`, which waits for `sum`");
}

#[test]
fn a_cycle_through_arguments_and_conditions_is_seen() {
    let flow = workflow(vec![
        task_from(json!({"id": "a", "agent": "any", "when": {"condition": "c.ok"}})),
        task_from(json!({"id": "b", "agent": "any", "args": {"x": {"template": "{{ a }}"}}})),
        task_from(
            json!({"id": "c", "agent": "any", "each": {"param": "x", "items": {"task": {"id": "b"}}}}),
        ),
    ]);
    let (_, message, _) = only(flow, "workflow.cycle");
    assert_eq!(message, "task `a` waits for `c`, which waits for `b`, which waits for `a`");
}

#[test]
fn an_unknown_agent_or_lane_is_named_with_a_near_one() {
    let (message, help) =
        only_of_task(json!({"id": "sum", "agent": "fetc"}), "workflow.unknown_agent");
    assert_eq!(message, "task `sum` names agent `fetc`, which is not registered");
    assert_eq!(help, "did you mean `fetch`?");
    let (message, help) =
        only_of_task(json!({"id": "sum", "agent": "any", "lane": "oi"}), "workflow.unknown_lane");
    assert_eq!(message, "task `sum` names lane `oi`, which does not exist");
    assert_eq!(help, "did you mean `io`?");
}

fn lane(name: &str, concurrency: u32, capacity: u32, threads: Option<u32>) -> LaneSpec {
    LaneSpec { name: name.into(), concurrency, threads, capacity, ..LaneSpec::default() }
}

#[test]
fn lanes_that_the_workflow_brings_along_count() {
    let mut flow = workflow(vec![task_from(json!({"id": "a", "agent": "any", "lane": "gpu"}))]);
    only(flow.clone(), "workflow.unknown_lane");
    flow.lanes = vec![lane("gpu", 1, 1, Some(1))];
    compile(flow, &world()).expect("the lane exists");
}

#[test]
fn a_lane_is_declared_once_and_lets_something_through() {
    let with = |lanes| Workflow { lanes, ..workflow(vec![task("a", &[])]) };
    let twice = with(vec![lane("gpu", 1, 1, None), lane("gpu", 2, 1, None)]);
    assert_eq!(only(twice, "workflow.duplicate_lane").1, "lane `gpu` is declared twice");
    for (wrong, word) in [
        (lane("gpu", 0, 1, None), "concurrency"),
        (lane("gpu", 1, 0, None), "capacity"),
        (lane("gpu", 1, 1, Some(0)), "threads"),
        (lane("", 1, 1, None), "called"),
    ] {
        let (_, message, _) = only(with(vec![wrong]), "workflow.bad_lane");
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn contradictory_options_are_refused() {
    for (options, word) in [
        (json!({"timeout_ms": 0}), "timeout of 0"),
        (json!({"retry": {"factor": 0.5}}), "factor of 0.5"),
        (json!({"retry": {"initial_ms": 10, "max_ms": 9}}), "9 ms, below the first of 10 ms"),
        (json!({"retry": {"on": ["a.B"], "never": ["a.B"]}}), "`a.B`"),
        (
            json!({"each": {"param": "x", "items": {"value": []}}, "args": {"x": {"value": 1}}}),
            "`x`",
        ),
    ] {
        let mut json = json!({"id": "sum", "agent": "any"});
        json.as_object_mut().expect("an object").extend(options.as_object().expect("too").clone());
        let (message, _) = only_of_task(json, "workflow.bad_option");
        assert!(message.contains(word), "{message}");
    }
    for factor in [f64::NAN, f64::INFINITY] {
        let mut wrong = task("sum", &[]);
        wrong.retry.factor = factor;
        only(workflow(vec![wrong]), "workflow.bad_option");
    }
    let flow = Workflow { timeout_ms: Some(0), ..workflow(vec![task("a", &[])]) };
    only(flow, "workflow.bad_option");
}

#[test]
fn at_most_once_delivery_may_retry_what_was_seen_to_fail() {
    plan(vec![task_from(json!({"id": "a", "agent": "any", "delivery": "at_most_once"}))]);
}

#[test]
fn a_broken_template_names_the_task_and_the_line() {
    let json = json!({"id": "sum", "agent": "any", "args": {"x": {"template": "a\n{{ b"}}});
    let (message, _) = only_of_task(json, "workflow.bad_template");
    assert!(
        message.starts_with("the template in argument `x` of task `sum` is broken: line 2: "),
        "{message}"
    );
    let json = json!({"id": "sum", "agent": "any", "when": {"not": {"condition": "a =="}}});
    let (message, _) = only_of_task(json, "workflow.bad_template");
    assert!(message.starts_with("the condition in `when` of task `sum` is broken: "), "{message}");
}

#[test]
fn a_template_refers_to_what_exists() {
    let with =
        |source: &str| json!({"id": "sum", "agent": "any", "args": {"x": {"template": source}}});
    let (message, help) = only_of_task(with("{{ fetsh.title }}"), "workflow.bad_template");
    assert_eq!(
        message,
        "the template in argument `x` of task `sum` refers to `fetsh`, which is not a task"
    );
    assert_eq!(help, "did you mean `fetch`?");
    only_of_task(with("{{ item }}"), "workflow.bad_template");
    only_of_task(with("{{ memory }}"), "workflow.bad_template");
    plan(vec![task("fetch", &[]), task_from(with("{{ fetch ~ input.x ~ run.id ~ range(3) }}"))]);
}

#[test]
fn item_is_the_maps_and_nobody_elses() {
    let map = |items: Value| {
        json!({"id": "sum", "agent": "any", "each": {"param": "x", "items": items},
               "args": {"y": {"template": "{{ item.name }}"}}})
    };
    plan(vec![task_from(map(json!({"value": [1]})))]);
    let flow = workflow(vec![task("item", &[]), task_from(map(json!({"value": [1]})))]);
    assert!(only(flow, "workflow.bad_template").1.contains("and a task as well"));
    only_of_task(map(json!({"template": "{{ item }}"})), "workflow.bad_template");
}

#[test]
fn what_is_said_of_memory_makes_sense() {
    let with =
        |retrieve: Value| json!({"id": "sum", "agent": "any", "memory": {"retrieve": retrieve}});
    let bad = |retrieve: Value| only_of_task(with(retrieve), "workflow.bad_memory").0;
    let (query, nothing) = (json!({"value": "tea"}), json!({}));
    assert!(bad(nothing).contains("by nothing"));
    assert!(bad(json!({"query": query, "vector_query": query})).contains("by `vector_query`"));
    for top_k in [0, 1_001] {
        let message = bad(json!({"query": query, "top_k": top_k}));
        assert!(message.contains(&format!("is {top_k}, and 1 to 1000")), "{message}");
    }
    assert!(bad(json!({"query": query, "min_strength": 1.5})).contains("min_strength"));
    for filter in [
        json!({"value": {"year": {"$regex": "x"}}}),
        json!({"value": ["fact"]}),
        json!({"dict": [["kind", {"template": "{{ input.kind }}"}], ["$near", {"value": 1}]]}),
    ] {
        let message = bad(json!({"query": query, "filter": filter}));
        assert!(message.starts_with("`filter` of task `sum`: "), "{message}");
    }
    for filter in [json!({"value": null}), json!({"template": "{{ input.filter }}"})] {
        plan(vec![task_from(with(json!({"query": query, "filter": filter})))]);
    }
    let mut map = with(json!({"query": {"template": "{{ item }}"}}));
    map["each"] = json!({"param": "x", "items": {"value": [1]}});
    let (message, help) = only_of_task(map, "workflow.bad_template");
    assert!(message.contains("share one look-up"), "{message}");
    assert!(help.contains("ctx.memory.retrieve"), "{help}");
    let broken = json!({"query": {"template": "{{ fetsh.title }}"}});
    let (message, help) = only_of_task(with(broken), "workflow.bad_template");
    assert!(
        message.starts_with("the template in `query` of the memory of task `sum`"),
        "{message}"
    );
    assert_eq!(help, "did you mean `fetch`?");
    for policy in [
        json!({"retrieve_last": 0}),
        json!({"retrieve_last": 1_001}),
        json!({"forget_below": -0.1}),
    ] {
        let memory = Some(serde_json::from_value(policy).expect("well formed"));
        only(Workflow { memory, ..workflow(vec![task("fetch", &[])]) }, "workflow.bad_memory");
    }
}

#[test]
fn memory_is_for_arguments_of_tasks_that_are_given_some() {
    let task_of = |more: Value| {
        let mut json = json!({"id": "sum", "agent": "any"});
        json.as_object_mut().expect("keys").extend(more.as_object().expect("keys").clone());
        task_from(json)
    };
    let argument = json!({"x": {"template": "{{ memory.text }}"}});
    let retrieve = json!({"retrieve": {"query": {"template": "{{ fetch.title }}"}}});
    let found =
        plan(vec![task("fetch", &[]), task_of(json!({"args": argument, "memory": retrieve}))]);
    assert_eq!(found.nodes[1].deps, [0], "a query makes a dependency");
    assert!(found.recalls(1) && !found.recalls(0));
    assert!(found.needs_session().is_some_and(|why| why.contains("`sum`")));
    let last = Some(crate::model::MemoryPolicy { retrieve_last: Some(3), forget_below: None });
    let all = Workflow { memory: last, ..workflow(vec![task_of(json!({"args": argument}))]) };
    let all = compile(all, &world()).expect("every task is given some");
    assert!(restore(Arc::clone(&all.workflow)).is_ok_and(|again| again.recalls(0)));
    let when = json!({"when": {"condition": "memory"}, "memory": retrieve});
    let flow = workflow(vec![task("fetch", &[]), task_of(when)]);
    assert!(only(flow, "workflow.bad_template").1.contains("when the task starts"));
    let flow = workflow(vec![task_of(json!({"args": argument}))]);
    assert!(only(flow, "workflow.bad_template").1.contains("nothing is looked up"));
}

#[test]
fn a_trigger_needs_something_to_wait_for() {
    let json = json!({"id": "sum", "agent": "any", "trigger": "all_done"});
    only_of_task(json, "workflow.bad_trigger");
    let json = json!({"id": "sum", "agent": "any", "trigger": "all_done", "args": {"x": {"task": {"id": "fetch"}}}});
    plan(vec![task("fetch", &[]), task_from(json)]);
}

#[test]
fn the_output_refers_to_what_exists() {
    let with = |output: Value| Workflow {
        output: Some(serde_json::from_value::<Expr>(output).expect("well formed")),
        ..workflow(vec![task("fetch", &[])])
    };
    let (_, message, help) =
        only(with(json!({"task": {"id": "fetsh"}})), "workflow.output_unknown");
    assert_eq!(message, "the output refers to `fetsh`, which is not a task");
    assert_eq!(help, "did you mean `fetch`?");
    let (_, message, _) = only(with(json!({"template": "{{ nobody }}"})), "workflow.bad_template");
    assert_eq!(message, "the template in the output refers to `nobody`, which is not a task");
    compile(with(json!({"list": [{"task": {"id": "fetch"}}]})), &world()).expect("it exists");
}

#[test]
fn a_parameter_that_nothing_feeds_is_missing() {
    let mut flow = workflow(vec![task_from(json!({"id": "sum", "agent": "fetch"}))]);
    flow.params = Some(vec![]);
    let (blamed, message, _) = only(flow, "workflow.missing_parameter");
    assert_eq!(blamed.as_deref(), Some("sum"));
    assert_eq!(message, "task `sum` gives nothing to parameter `url` of agent `fetch`");
}

#[test]
fn an_argument_that_no_parameter_takes_is_refused() {
    let (message, help) = only_of_task(
        json!({"id": "sum", "agent": "fetch", "args": {"uri": {"value": 1}}}),
        "workflow.unknown_parameter",
    );
    assert_eq!(
        message,
        "task `sum` gives an argument to `uri`, which agent `fetch` has no parameter for"
    );
    assert_eq!(help, "did you mean `url`?");
    only_of_task(
        json!({"id": "sum", "agent": "fetch", "each": {"param": "x", "items": {"value": []}}}),
        "workflow.unknown_parameter",
    );
    only_of_task(
        json!({"id": "sum", "agent": "join", "args": {"ctx": {"value": 1}}}),
        "workflow.unknown_parameter",
    );
}

#[test]
fn nesting_beyond_the_cap_is_refused_and_not_walked() {
    let mut deep = task("a", &[]);
    let nested = (0..10_000).fold(Expr::Const(0), |inner, _| Expr::List(vec![inner]));
    deep.args.insert("x".into(), nested);
    only(workflow(vec![deep]), "workflow.too_deep");
}

#[test]
fn a_constant_that_does_not_exist_is_refused() {
    let json = json!({"id": "sum", "agent": "any", "args": {"x": {"const": 0}}});
    only_of_task(json, "workflow.unknown_constant");
}

#[test]
fn a_damaged_definition_is_not_restored() {
    for (tasks, code) in [
        (vec![task("a", &["b"])], "workflow.unknown_dependency"),
        (vec![task("a", &["b"]), task("b", &["a"])], "workflow.cycle"),
        (vec![task("a", &[]), task("a", &[])], "workflow.duplicate_task"),
    ] {
        let error = restore(Arc::new(workflow(tasks))).expect_err("it is damaged");
        assert_eq!(codes(&error), [code]);
    }
}
