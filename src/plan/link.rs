//! Resolves names: every task that a definition mentions becomes an edge or a problem.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Plan;
use super::findings::{Findings, code};
use super::refer::{DEPTH_MAX, MEMORY, Mention, Place, expressions, mentions};
use super::template::{self, Form};
use crate::model::{Expr, MemoryPolicy, NodeIx, Task};

/// The tasks that can be named: those of a plan that stands, and those that are being compiled.
pub(super) struct Scope<'a> {
    pub base: Option<&'a Plan>,
    /// The tasks that are being compiled, with their nodes.
    pub tasks: &'a [Task],
    /// Ids of the nodes that are new, the first one being `first`.
    pub ids: Vec<Arc<str>>,
    pub first: NodeIx,
    own: HashMap<Arc<str>, NodeIx>,
    /// Constants that expressions may point to.
    constants: usize,
    /// Every task is given memories.
    remembers: bool,
}

impl<'a> Scope<'a> {
    /// Numbers the tasks. A task with the id of a node that stands gets that node; of two new tasks
    /// with one id, the second is a problem.
    pub fn new(
        base: Option<&'a Plan>,
        tasks: &'a [Task],
        constants: usize,
        findings: &mut Findings,
    ) -> Self {
        let first = base.map_or(0, |plan| plan.nodes.len()) as NodeIx;
        let mut own = HashMap::with_capacity(tasks.len());
        let mut ids: Vec<Arc<str>> = Vec::with_capacity(tasks.len());
        for task in tasks {
            if base.is_some_and(|plan| plan.node(&task.id).is_some()) {
                continue;
            }
            let id: Arc<str> = task.id.as_str().into();
            if own.contains_key(&id) {
                let message = format!("task `{id}` is declared twice");
                findings.add(code::DUPLICATE_TASK, Some(&id), message, "rename one of the two");
            } else {
                own.insert(Arc::clone(&id), first + ids.len() as NodeIx);
            }
            ids.push(id);
        }
        Self { base, tasks, ids, first, own, constants, remembers: false }
    }

    /// The same in a workflow that says so much of memory.
    pub fn with_memory(self, policy: Option<&MemoryPolicy>) -> Self {
        Self { remembers: policy.is_some_and(|policy| policy.retrieve_last.is_some()), ..self }
    }

    pub fn node(&self, id: &str) -> Option<NodeIx> {
        self.own.get(id).copied().or_else(|| self.base.and_then(|plan| plan.node(id)))
    }

    pub fn id(&self, node: NodeIx) -> &str {
        match self.base {
            Some(plan) if node < self.first => &plan.nodes[node as usize].id,
            _ => &self.ids[(node - self.first) as usize],
        }
    }

    /// Gives up the ids of the new nodes and their index.
    pub fn into_names(self) -> (Vec<Arc<str>>, HashMap<Arc<str>, NodeIx>) {
        (self.ids, self.own)
    }

    fn known(&self) -> impl Iterator<Item = &str> {
        let stand = self.base.into_iter().flat_map(|plan| plan.nodes.iter().map(|node| &*node.id));
        stand.chain(self.ids.iter().map(|id| &**id))
    }

    /// The dependencies of each task, sorted, each once: those it declares and those it mentions.
    pub fn link(&self, findings: &mut Findings) -> Vec<Vec<NodeIx>> {
        self.tasks.iter().map(|task| self.link_task(task, findings)).collect()
    }

    fn link_task(&self, task: &Task, findings: &mut Findings) -> Vec<NodeIx> {
        let mut deps = Deps::default();
        for id in &task.deps {
            self.depend(task, id, &mut deps, findings);
        }
        for (place, expr) in expressions(task) {
            self.read(Some(task), place, expr, &mut deps, findings);
        }
        deps.found.sort_unstable();
        deps.found.dedup();
        deps.found.shrink_to_fit();
        deps.found
    }

    /// Checks the expression that makes a run's result.
    pub fn check_output(&self, output: &Expr, findings: &mut Findings) {
        let mut deps = Deps::default();
        self.read(None, Place::Output, output, &mut deps, findings);
    }

    fn depend(&self, task: &Task, id: &str, deps: &mut Deps, findings: &mut Findings) {
        if id == task.id {
            // Once per task, however often it names itself.
            if deps.miss(id) {
                let message = format!("task `{id}` waits for itself");
                let help = "remove the task from its own dependencies and arguments";
                findings.add(code::SELF_DEPENDENCY, Some(id), message, help);
            }
            return;
        }
        match self.node(id) {
            Some(node) => deps.found.push(node),
            None if deps.miss(id) => {
                let message = format!("task `{}` depends on `{id}`, which is not a task", task.id);
                let others = self.known().filter(|&known| known != task.id);
                let help = findings.suggest(id, others, "declare the task, or drop the dependency");
                findings.add(code::UNKNOWN_DEPENDENCY, Some(&task.id), message, help);
            }
            None => {}
        }
    }

    fn read(
        &self,
        task: Option<&Task>,
        place: Place<'_>,
        expr: &Expr,
        deps: &mut Deps,
        findings: &mut Findings,
    ) {
        let id = task.map(|task| task.id.as_str());
        mentions(expr, &mut |mention| match mention {
            Mention::Task(name) => match task {
                Some(task) => self.depend(task, name, deps, findings),
                None if self.node(name).is_none() && deps.miss(name) => {
                    let message = format!("the output refers to `{name}`, which is not a task");
                    let help = findings.suggest(name, self.known(), "name one of the tasks");
                    findings.add(code::OUTPUT_UNKNOWN, None, message, help);
                }
                None => {}
            },
            Mention::Source(form, source) => {
                self.read_source(task, place, form, source, deps, findings);
            }
            Mention::Const(at) if at as usize >= self.constants => {
                let message =
                    format!("{} points to constant {at} of {}", owner(id, place), self.constants);
                let help = "the definition is damaged: declare the workflow again";
                findings.add(code::UNKNOWN_CONSTANT, id, message, help);
            }
            Mention::Const(_) => {}
            Mention::TooDeep => {
                let message = format!("{} nests deeper than {DEPTH_MAX} levels", owner(id, place));
                findings.add(code::TOO_DEEP, id, message, "pass the value as input instead");
            }
        });
    }

    fn read_source(
        &self,
        task: Option<&Task>,
        place: Place<'_>,
        form: Form,
        source: &str,
        deps: &mut Deps,
        findings: &mut Findings,
    ) {
        let id = task.map(|task| task.id.as_str());
        let noun = form.noun();
        let names = match template::names(source, form) {
            Ok(names) => names,
            Err(wrong) => {
                let message = format!("the {noun} in {} is broken: {wrong}", owner(id, place));
                return findings.add(code::BAD_TEMPLATE, id, message, "correct its syntax");
            }
        };
        let has_item =
            matches!(place, Place::Argument(_)) && task.is_some_and(|task| task.each.is_some());
        for name in &names {
            match self.node(name) {
                Some(_) if name == "item" && has_item => {
                    let message = format!(
                        "the {noun} in {} says `item`, which is the map's item and a task as well",
                        owner(id, place)
                    );
                    findings.add(code::BAD_TEMPLATE, id, message, "rename the task `item`");
                }
                Some(node) => match task {
                    Some(task) if task.id == *name => self.depend(task, name, deps, findings),
                    _ => deps.found.push(node),
                },
                None if name == "input" || name == "run" || (name == "item" && has_item) => {}
                None if template::is_global(name) => {}
                None if name == MEMORY => {
                    if !matches!(place, Place::Argument(_)) {
                        let message = format!(
                            "the {noun} in {} refers to `memory`, which is looked up when the task starts",
                            owner(id, place)
                        );
                        let help = "only arguments may refer to `memory`";
                        findings.add(code::BAD_TEMPLATE, id, message, help);
                    } else if !self.remembers && task.is_none_or(|task| task.memory.is_none()) {
                        let message = format!(
                            "the {noun} in {} refers to `memory`, and nothing is looked up for the task",
                            owner(id, place)
                        );
                        let help = "give the task `memory: {retrieve: …}`, or the workflow `memory: {retrieve_last: …}`";
                        findings.add(code::BAD_TEMPLATE, id, message, help);
                    }
                }
                None if name == "item"
                    && matches!(place, Place::Memory(_))
                    && task.is_some_and(|task| task.each.is_some()) =>
                {
                    let message = format!(
                        "the {noun} in {} refers to `item`, and children of a map share one look-up",
                        owner(id, place)
                    );
                    let help = "search inside of the agent: ctx.memory.retrieve(item)";
                    findings.add(code::BAD_TEMPLATE, id, message, help);
                }
                None => {
                    let message = format!(
                        "the {noun} in {} refers to `{name}`, which is not a task",
                        owner(id, place)
                    );
                    let known = self.known().chain(["input", "run"]);
                    let otherwise = "use a task's id, `input`, `run`, or `item` in a map";
                    let help = findings.suggest(name, known, otherwise);
                    findings.add(code::BAD_TEMPLATE, id, message, help);
                }
            }
        }
    }
}

/// What one task's names led to.
#[derive(Default)]
struct Deps {
    found: Vec<NodeIx>,
    /// Names that were reported, so that each is reported once per task.
    missing: HashSet<String>,
}

impl Deps {
    /// True at the first time.
    fn miss(&mut self, name: &str) -> bool {
        self.missing.insert(name.to_owned())
    }
}

fn owner(task: Option<&str>, place: Place<'_>) -> String {
    match task {
        Some(task) => format!("{place} of task `{task}`"),
        None => place.to_string(),
    }
}
