//! Long chains and wide fans: nothing recurses over the graph, nothing is quadratic.

use crate::model::Task;
use crate::plan::testing::{plan, refusal, task, workflow};
use crate::plan::{Plan, restore};

fn chain(length: usize) -> Vec<Task> {
    let id = |at: usize| format!("task-{at}");
    let first = std::iter::once(task(&id(0), &[]));
    first.chain((1..length).map(|at| task(&id(at), &[&id(at - 1)]))).collect()
}

/// One source, `width` in the middle, one sink.
fn fan(width: usize) -> Vec<Task> {
    let middle: Vec<String> = (0..width).map(|at| format!("task-{at}")).collect();
    let mut tasks = vec![task("first", &[])];
    tasks.extend(middle.iter().map(|id| task(id, &["first"])));
    tasks.push(task("last", &middle.iter().map(String::as_str).collect::<Vec<_>>()));
    tasks
}

fn check_chain(plan: &Plan, length: usize) {
    assert_eq!(plan.layers().len(), length);
    assert_eq!(plan.critical_path().len(), length);
    assert_eq!(plan.remaining_path()[0] as usize, length);
    assert!(plan.to_svg(None).len() < 100_000);
    assert!(plan.to_ascii().len() < 100_000);
}

fn check_fan(plan: &Plan, width: usize) {
    let sizes: Vec<usize> = plan.layers().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, width, 1]);
    assert_eq!(plan.critical_path().len(), 3);
    assert!(plan.to_svg(None).len() < 100_000);
}

#[test]
fn a_long_chain_compiles_and_is_measured_without_recursion() {
    let length = 100_000;
    let plan = plan(chain(length));
    check_chain(&plan, length);
    check_chain(&restore(plan.workflow.clone()).expect("it is sound"), length);
}

#[test]
fn a_wide_fan_compiles() {
    check_fan(&plan(fan(100_000)), 100_000);
}

#[test]
fn a_long_cycle_is_found_without_recursion() {
    let mut tasks = chain(100_000);
    tasks[0].deps.push("task-99999".into());
    let error = refusal(workflow(tasks));
    assert_eq!(error.problems.len(), 1);
    assert!(error.problems[0].message.contains("through 99975 more tasks"), "{error}");
}

#[test]
fn many_misspelt_names_do_not_cost_the_square() {
    let tasks =
        (0..50_000).map(|at| task(&format!("task-{at}"), &[&format!("tusk-{at}")])).collect();
    let error = refusal(workflow(tasks));
    assert_eq!(error.problems.len(), 10_000);
    assert!(error.message.ends_with("(and 49999 more problems)"), "{error}");
}

/// Run by hand: `cargo test --release --lib plan::tests::large -- --ignored --nocapture --test-threads 1`.
#[test]
#[ignore = "a million tasks: run by hand, prints times and memory"]
fn a_million_tasks_compile() {
    let count = 1_000_000;
    for (shape, tasks) in [("chain", chain as fn(usize) -> Vec<Task>), ("fan", fan)] {
        let tasks = tasks(count);
        let declared = resident();
        let begin = std::time::Instant::now();
        let plan = plan(tasks);
        println!(
            "{shape}: compiled in {:?}, {declared} → {} of memory",
            begin.elapsed(),
            resident()
        );
        let begin = std::time::Instant::now();
        let _ = restore(plan.workflow.clone()).expect("it is sound");
        println!("{shape}: restored in {:?}", begin.elapsed());
        let begin = std::time::Instant::now();
        if shape == "chain" {
            check_chain(&plan, count)
        } else {
            check_fan(&plan, count)
        }
        println!("{shape}: measured and drawn in {:?}", begin.elapsed());
    }
}

/// The process's memory, where the system tells.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap_or("unknown").trim().into()
}
