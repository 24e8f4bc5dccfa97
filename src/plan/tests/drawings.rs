//! Pictures: complete, escaped, bounded, the same on every run.

use proptest::prelude::*;
use serde_json::json;

use crate::model::{Task, TaskState};
use crate::plan::Plan;
use crate::plan::testing::{plan, task, task_from};

fn diamond() -> Plan {
    plan(vec![
        task_from(json!({"id": "fetch", "agent": "any", "lane": "io"})),
        task_from(json!({"id": "parse", "agent": "any", "lane": "cpu", "deps": ["fetch"]})),
        task_from(json!({"id": "translate", "agent": "any", "deps": ["fetch"]})),
        task("publish", &["parse", "translate"]),
    ])
}

fn pipeline() -> Plan {
    let all = [
        json!({"id": "intake", "agent": "any", "lane": "io"}),
        json!({"id": "validate", "agent": "any", "deps": ["intake"], "lane": "cpu"}),
        json!({"id": "classify_the_ticket_by_urgency_and_topic", "agent": "any", "deps": ["validate"], "lane": "cpu"}),
        json!({"id": "lookup_customer", "agent": "any", "deps": ["intake"], "lane": "io"}),
        json!({"id": "draft", "agent": "any", "each": {"param": "topic", "items": {"template": "{{ classify_the_ticket_by_urgency_and_topic.topics }}"}}, "lane": "llm"}),
        json!({"id": "review", "agent": "any", "deps": ["draft"], "lane": "llm"}),
        json!({"id": "page_human", "agent": "any", "when": {"condition": "classify_the_ticket_by_urgency_and_topic.urgent"}, "lane": "io"}),
        json!({"id": "translate", "agent": "any", "each": {"param": "text", "items": {"task": {"id": "review"}}}, "when": {"condition": "lookup_customer.lang != 'en'"}, "lane": "llm"}),
        json!({"id": "sign_off", "agent": "any", "deps": ["translate", "page_human"], "trigger": "none_failed"}),
        json!({"id": "send", "agent": "any", "deps": ["sign_off", "lookup_customer"], "lane": "io"}),
        json!({"id": "archive", "agent": "any", "deps": ["send"], "lane": "io"}),
        json!({"id": "bill", "agent": "any", "deps": ["send", "lookup_customer"], "lane": "io"}),
    ];
    let flow = crate::model::Workflow {
        lanes: vec![crate::model::LaneSpec {
            name: "llm".into(),
            concurrency: 4,
            capacity: 10,
            ..crate::model::LaneSpec::default()
        }],
        ..super::super::testing::workflow(all.map(task_from).into())
    };
    crate::plan::compile(flow, &super::super::testing::world()).expect("it compiles")
}

fn fan(width: usize) -> Plan {
    let middle: Vec<String> = (0..width).map(|at| format!("worker {at}")).collect();
    let mut tasks = vec![task("split", &[])];
    tasks.extend(middle.iter().map(|id| task(id, &["split"])));
    tasks.push(task("join", &middle.iter().map(String::as_str).collect::<Vec<_>>()));
    plan(tasks)
}

/// A DAG from a fixed sequence of numbers (a linear congruence), so that it is the same everywhere.
fn random(count: usize, seed: u64) -> Plan {
    let mut state = seed;
    let mut next = move |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let tasks: Vec<Task> = (0..count)
        .map(|at| {
            let deps = if at < 4 { 0 } else { 1 + next(2) };
            let near = at.min(14);
            let deps: Vec<String> =
                (0..deps).map(|_| format!("t{}", at - 1 - next(near))).collect();
            let lane = ["default", "io", "cpu"][next(3)];
            task_from(json!({"id": format!("t{at}"), "agent": "any", "deps": deps, "lane": lane}))
        })
        .collect();
    plan(tasks)
}

fn every_state(count: usize) -> Vec<TaskState> {
    TaskState::ALL.iter().copied().cycle().take(count).collect()
}

#[test]
fn an_svg_shows_every_task_edge_and_state() {
    let plan = diamond();
    let svg = plan.to_svg(None);
    for text in [">fetch<", ">parse<", ">io<", "fetch · agent any · lane io", "fetch → parse"] {
        assert!(svg.contains(text), "{text} is missing in\n{svg}");
    }
    assert_eq!(svg.matches("marker").count(), 0, "shared ids would clash on one page");
    assert!(!svg.contains(" id="));
    let coloured = plan.to_svg(Some(&[TaskState::Completed, TaskState::Failed]));
    assert!(coloured.contains("· completed") && coloured.contains("· failed"));
    assert_eq!(plan.to_svg(None), svg, "the same on every run");
}

#[test]
fn maps_are_stacked_and_conditions_dashed() {
    let svg = pipeline().to_svg(None);
    assert!(svg.contains("map over topic"));
    assert!(svg.contains(">when</text>"));
    assert!(svg.contains("stroke-dasharray=\"5 4\""));
    assert!(svg.contains("when lookup_customer.lang != &#39;en&#39;"), "{svg}");
    let plain = diamond().to_svg(None);
    assert!(!plain.contains("dasharray") && !plain.contains(">when<"));
}

#[test]
fn ids_cannot_break_out_of_a_picture() {
    let evil = "</text><script>\"&'\\N#;`\u{1b}x";
    let id: String = evil.chars().filter(|c| !c.is_control()).collect();
    let plan = plan(vec![task(&id, &[]), task("b", &[&id])]);
    let svg = plan.to_svg(None);
    assert!(!svg.contains("<script") && svg.contains("&lt;/text&gt;&lt;script"));
    let dot = plan.to_dot();
    assert!(dot.contains(r#"label="</text><script>\"&'\\N#;`x\nany · default""#), "{dot}");
    let mermaid = plan.to_mermaid();
    assert!(!mermaid.contains("<script") && mermaid.contains("#60;script#62;#34;"), "{mermaid}");
}

#[test]
fn mermaid_and_dot_name_every_node_and_edge() {
    let plan = diamond();
    assert_eq!(
        plan.to_mermaid(),
        "flowchart LR
    n0(\"fetch<br/><small>any · io</small>\")
    n1(\"parse<br/><small>any · cpu</small>\")
    n2(\"translate<br/><small>any · default</small>\")
    n3(\"publish<br/><small>any · default</small>\")
    n0 --> n1
    n0 --> n2
    n1 --> n3
    n2 --> n3
"
    );
    let dot = plan.to_dot();
    assert!(dot.starts_with("digraph \"flow\" {\n"));
    assert_eq!(dot.matches(" -> ").count(), 4);
    let conditional = pipeline();
    assert!(conditional.to_mermaid().contains("n3 -. when .-> n7"));
    assert!(conditional.to_mermaid().contains("n4[[\"draft"));
    assert!(conditional.to_dot().contains("n3 -> n7 [style=dashed];"));
}

#[test]
fn text_rails_lead_from_each_task_to_those_that_wait_for_it() {
    assert_eq!(
        diamond().to_ascii(),
        "\
●    fetch  any [io]
├─╮
● │  parse  any [cpu]
│ ●  translate  any [default]
├─╯
●    publish  any [default]
"
    );
}

#[test]
fn a_rail_that_is_only_passed_stays_whole() {
    let plan = plan(vec![
        task("a", &[]),
        task("b", &["a"]),
        task("c", &[]),
        task("d", &["b", "c"]),
        task("e", &["c", "a"]),
    ]);
    let text = plan.to_ascii();
    for id in ["a", "b", "c", "d", "e"] {
        assert_eq!(text.matches(&format!("{id}  any")).count(), 1, "{text}");
    }
    assert_eq!(
        text,
        "\
●      a  any [default]
├─╮
● │    b  any [default]
│ │ ●  c  any [default]
├─┼─╯
● │    d  any [default]
  ●    e  any [default]
"
    );
}

#[test]
fn a_plan_with_too_many_rails_is_listed_with_its_dependencies() {
    let text = fan(60).to_ascii();
    assert!(text.contains("worker 7  any [default]  ← split\n"), "{text}");
    assert!(text.contains("join  any [default]  ← worker 0, worker 1"), "{text}");
    assert!(text.contains(", 52 more\n"), "{text}");
}

#[test]
fn a_giant_plan_is_drawn_in_bands_that_count_everything() {
    let plan = fan(1_000);
    let svg = plan.to_svg(Some(&every_state(1_002)));
    assert!(svg.contains("layer 2 · 1,000 tasks"), "{svg}");
    assert!(svg.contains("1,002 tasks, drawn as 3 bands of layers"));
    assert!(plan.to_ascii().contains("● layer 2: 1,000 tasks [default 1,000]\n"));
    let long = super::super::testing::plan(
        (0..500)
            .map(|at| match at {
                0 => task("t0", &[]),
                at => task(&format!("t{at}"), &[&format!("t{}", at - 1)]),
            })
            .collect(),
    );
    let svg = long.to_svg(None);
    assert!(
        svg.contains("layers 1–63 · 63 tasks") && svg.contains("layers 442–500 · 59 tasks"),
        "{svg}"
    );
}

/// Run by hand to look at the pictures: they go to `target/gallery`.
#[test]
#[ignore = "writes pictures to look at"]
fn the_gallery() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/gallery");
    std::fs::create_dir_all(&folder).expect("a folder for pictures");
    let plans = [
        ("diamond", diamond()),
        ("pipeline", pipeline()),
        ("fan", fan(30)),
        ("random", random(60, 7)),
        ("giant", random(4_000, 3)),
    ];
    for (name, plan) in plans {
        let write = |suffix: &str, text: String| {
            std::fs::write(folder.join(format!("{name}{suffix}")), text).expect("it is written");
        };
        write(".svg", plan.to_svg(None));
        write("-states.svg", plan.to_svg(Some(&every_state(plan.nodes.len()))));
        write(".dot", plan.to_dot());
        write(".mmd", plan.to_mermaid());
        write(".txt", plan.to_ascii());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn boxes_never_overlap_and_lie_inside_the_picture(count in 1_usize..60, seed in any::<u64>()) {
        let svg = random(count, seed).to_svg(None);
        let number = |line: &str, name: &str| -> f64 {
            let from = line.find(&format!(" {name}=\"")).expect("the attribute") + name.len() + 3;
            let rest = &line[from..];
            rest[..rest.find('"').expect("its end")].parse().expect("a number")
        };
        let head = svg.lines().next().expect("a first line");
        let (width, height) = (number(head, "width"), number(head, "height"));
        let boxes: Vec<(f64, f64, f64)> = svg
            .lines()
            .filter(|line| line.starts_with("<rect") && line.contains("rx=\"8\""))
            .map(|line| (number(line, "x"), number(line, "y"), number(line, "width")))
            .collect();
        prop_assert_eq!(boxes.len(), count);
        for (at, &(x, y, w)) in boxes.iter().enumerate() {
            prop_assert!(x >= 0.0 && y >= 0.0 && x + w <= width && y + 50.0 <= height);
            for &(x2, y2, w2) in &boxes[at + 1..] {
                prop_assert!(x + w <= x2 || x2 + w2 <= x || y + 50.0 <= y2 || y2 + 50.0 <= y);
            }
        }
    }

    #[test]
    fn text_names_every_task_once(count in 1_usize..60, seed in any::<u64>()) {
        let plan = random(count, seed);
        let text = plan.to_ascii();
        for node in &plan.nodes {
            let label = format!("{}  any [", node.id);
            let lines = text.lines().filter(|line| line.contains(&format!(" {label}")) || line.starts_with(&label));
            prop_assert_eq!(lines.count(), 1);
        }
    }
}
