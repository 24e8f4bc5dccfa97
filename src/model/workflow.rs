//! What users declare: workflows, tasks, where arguments come from, lanes, retries.
//!
//! Every door (traced function, builder, YAML) makes the same [`Workflow`]; its JSON form is the
//! interchange and what the journal keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MemoryPolicy, Millis, Payload, TaskMemory};

/// A declared workflow. `plan::compile` turns it into a plan or refuses it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workflow {
    pub name: String,
    /// Names of the input's fields, where the door knows them (a traced function's parameters).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Vec<Param>>,
    /// JSON Schema of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    pub tasks: Vec<Task>,
    /// What the run's result is. `None`: the single sink's result, else `{sink id: result}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Expr>,
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Bound on the whole run, from submit on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<Millis>,
    /// Lanes that the workflow brings along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<LaneSpec>,
    /// What its runs look up in their sessions' memory, and what they forget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryPolicy>,
    /// Values that [`Expr::Const`] names by position: literals that JSON cannot say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constants: Vec<Payload>,
}

/// One parameter of an agent or of a traced workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    pub name: String,
    /// False where the function has a default for it.
    pub required: bool,
    /// True for the parameter that receives the `Context`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub context: bool,
}

/// What the compiler knows of a registered agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentInfo {
    pub name: String,
    pub params: Vec<Param>,
    /// The agent has a `**kwargs` parameter and takes any name.
    #[serde(default)]
    pub open: bool,
    /// What the agent was declared with.
    pub isolation: Isolation,
    /// What its function is made for: `thread`, `loop`, or `auto` where nobody knows.
    #[serde(default)]
    pub kind: Isolation,
}

/// One declared task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    pub id: String,
    /// Name of the registered agent.
    pub agent: String,
    /// Tasks that must end first, beside those that `args`, `each` and `when` mention.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deps: Vec<String>,
    /// Explicit arguments by parameter name. The compiler binds the rest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Expr>,
    /// Makes the task a map: one child per item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// The task is skipped when this is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Expr>,
    #[serde(default = "default_lane")]
    pub lane: String,
    /// Bound on one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<Millis>,
    /// Bound on each wait for a permit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout_ms: Option<Millis>,
    /// Bound on an attempt's silence: no heartbeat, no progress, no chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<Millis>,
    /// Bound on the whole task, from ready on, with every wait and attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_timeout_ms: Option<Millis>,
    /// Whose rate the task counts against, beside its lane's: a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_key: Option<Expr>,
    /// Units of its lane's rate that one attempt takes.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub cost: u32,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default)]
    pub priority: Priority,
    #[serde(default)]
    pub delivery: Delivery,
    #[serde(default)]
    pub trigger: Trigger,
    #[serde(default)]
    pub isolation: Isolation,
    /// What is looked up in the memory of the run's session before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<TaskMemory>,
}

fn default_lane() -> String {
    "default".into()
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(n: &u32) -> bool {
    *n == 1
}

impl Default for Task {
    fn default() -> Self {
        Self {
            id: String::new(),
            agent: String::new(),
            deps: Vec::new(),
            args: BTreeMap::new(),
            each: None,
            when: None,
            lane: default_lane(),
            timeout_ms: None,
            queue_timeout_ms: None,
            idle_timeout_ms: None,
            total_timeout_ms: None,
            rate_key: None,
            cost: 1,
            retry: Retry::default(),
            priority: 0,
            delivery: Delivery::default(),
            trigger: Trigger::default(),
            isolation: Isolation::default(),
            memory: None,
        }
    }
}

/// Higher runs first.
pub type Priority = i32;

/// The dynamic map of a task: `param` receives one item of `items`, child by child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Each {
    pub param: String,
    pub items: Expr,
}

/// Where a value comes from. Evaluated by the executor when the task is about to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expr {
    /// A JSON value as it stands.
    Value(Value),
    /// A value beyond JSON: position in [`Workflow::constants`].
    Const(u32),
    /// The run's whole input, or a part of it.
    Input {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        path: Vec<Step>,
        /// The parameter's own default is taken where the input has no such field.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        optional: bool,
    },
    /// The result of a task, or a part of it. A map's result is the list of its children's results.
    Task {
        id: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        path: Vec<Step>,
    },
    /// minijinja source over `input`, `run`, the results by task id, and in arguments `memory`; a lone
    /// `{{ … }}` keeps its type.
    Template(String),
    /// minijinja expression (not a template) over the same names, such as a `when` condition.
    Condition(String),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(String, Expr)>),
    /// Logical negation of a value's truth: the `else` of a traced `when`.
    Not(Box<Expr>),
    /// True when every part is true: nested traced `when` blocks.
    All(Vec<Expr>),
}

/// One step into a value: `["topics"]`, `[0]`, `.title`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Key(String),
    Index(i64),
    Attr(String),
}

/// What a failed task does to its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The rest of the run is cancelled.
    #[default]
    FailFast,
    /// Branches that do not depend on the failed task go on.
    Continue,
}

/// What the ends of a task's dependencies must look like for it to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    #[default]
    AllSuccess,
    /// Every dependency ended, in whatever way.
    AllDone,
    /// At least one dependency completed, and all ended.
    OneSuccess,
    /// No dependency failed; skipped ones do not matter.
    NoneFailed,
}

/// What a crash in the middle of an attempt does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The attempt is repeated.
    #[default]
    AtLeastOnce,
    /// The start is durable before the agent runs; after a crash the task fails (`task.interrupted`).
    AtMostOnce,
}

/// Where an agent runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// `thread` for sync functions, `loop` for coroutines.
    #[default]
    Auto,
    Thread,
    Loop,
    /// A process of its own: killed when it does not stop, and its crash costs one attempt.
    Process,
}

/// How an agent is run, which decides how its batches are cut and what permits they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// One thread runs the batch's calls one after the other: one permit for the batch.
    Thread,
    /// All calls of the batch are under way at once: one permit each.
    Loop,
    /// A process runs the batch's calls one after the other: one permit for the batch.
    Process,
}

/// What a full lane does with the next task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// It waits for a place; so does whoever submits.
    #[default]
    Block,
    /// It fails with `lane.dropped`.
    DropNewest,
    /// The task that has waited longest fails with `lane.dropped`.
    DropOldest,
    /// It goes to the named lane.
    Redirect(String),
}

/// So many units in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub units: u32,
    pub per_ms: Millis,
    /// Units that may come at once after a pause.
    pub burst: u32,
}

/// How much a crash may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// An effect waits until the event that causes it is on disk.
    #[default]
    Strict,
    /// Commits every few milliseconds; a crash may lose that window, never corrupt.
    Relaxed,
    /// In memory only.
    None,
}

/// When and how often a failed attempt is repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Tries after the first.
    pub retries: u16,
    /// Upper bound of the first pause.
    pub initial_ms: Millis,
    /// Each bound is this many times the one before.
    pub factor: f64,
    /// Bound of every pause.
    pub max_ms: Millis,
    /// Full jitter: the pause is drawn evenly between 0 and its bound.
    pub jitter: bool,
    /// Qualified class names that are retried; a subclass counts.
    pub on: Vec<String>,
    /// Qualified class names that are not, even where `on` names a base of them.
    pub never: Vec<String>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries: 3,
            initial_ms: 500,
            factor: 2.0,
            max_ms: 60_000,
            jitter: true,
            on: vec!["builtins.Exception".into()],
            never: vec!["builtins.TypeError".into(), "builtins.ValueError".into()],
        }
    }
}

/// A bounded queue in front of a bounded number of permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneSpec {
    pub name: String,
    /// Tasks that may run at once.
    pub concurrency: u32,
    /// Of these, how many may be sync agents on threads. `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Tasks that may wait in the queue.
    #[serde(default = "default_capacity")]
    pub capacity: u32,
    /// How long a submit waits for a place before it is refused. `None`: as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<Millis>,
    #[serde(default)]
    pub on_full: OnFull,
    /// Bound on attempts begun per time, weighed by their cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Template of the key by which the rate is counted apart, for tasks that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_key: Option<String>,
    /// Units that agents charge afterwards, by name, such as tokens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub budgets: BTreeMap<String, Rate>,
    /// Where the lane's agents run, unless their task says.
    #[serde(default, skip_serializing_if = "is_auto")]
    pub isolation: Isolation,
    /// Sessions take turns. False: first come, first served.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub fair: bool,
}

impl Default for LaneSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            concurrency: 1,
            threads: None,
            capacity: default_capacity(),
            timeout_ms: None,
            on_full: OnFull::Block,
            rate: None,
            rate_key: None,
            budgets: BTreeMap::new(),
            isolation: Isolation::Auto,
            fair: true,
        }
    }
}

fn is_auto(isolation: &Isolation) -> bool {
    *isolation == Isolation::Auto
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_yes(flag: &bool) -> bool {
    *flag
}

fn default_capacity() -> u32 {
    10_000
}
