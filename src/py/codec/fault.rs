//! Refusals: a code, the path of the guilty part, the reason, the cure.

use pyo3::prelude::*;

use crate::model::{self, Failure, FailureKind};

/// Levels shown of a long path: this many from the start and from the end.
const PATH_ENDS: usize = 6;

/// Why a value could not be written down or read back.
#[derive(Debug)]
pub(crate) struct CodecError {
    /// `payload.unsupported`, `payload.too_large`, `payload.too_deep`, `payload.unknown_type`,
    /// `payload.shape_changed`, `payload.pickle_refused`, `payload.damaged`, `payload.too_new`.
    pub code: &'static str,
    /// Where the guilty part lies below the value, as Python would say it: `["user"].conn`. Empty
    /// for the value itself.
    pub path: String,
    /// What is wrong with that part; reads on after its path.
    pub reason: String,
    /// What to do.
    pub help: String,
    /// The exception behind it, if Python code raised one.
    pub cause: Option<PyErr>,
}

impl CodecError {
    /// The full message; `root` is the value's name for the reader, such as `result`.
    pub(crate) fn message(&self, root: &str) -> String {
        format!("`{root}{}` {}", self.path, self.reason)
    }

    /// What the journal keeps.
    pub(crate) fn to_failure(&self, root: &str) -> Failure {
        let message = format!("{}; {}", self.message(root), self.help);
        Failure::new(FailureKind::Payload, self.code, message)
    }
}

impl From<model::Error> for Box<CodecError> {
    fn from(error: model::Error) -> Self {
        Box::new(CodecError {
            code: error.code,
            path: String::new(),
            reason: format!("cannot be used: {}", error.message),
            help: error.help,
            cause: None,
        })
    }
}

pub(super) type Result<T> = std::result::Result<T, Box<Fault>>;

/// A refusal on its way up, collecting the path level by level, innermost first.
#[derive(Debug)]
pub(super) struct Fault {
    code: &'static str,
    reason: String,
    help: String,
    cause: Option<PyErr>,
    steps: Vec<String>,
    /// Addresses of the containers passed on the way up; only for `payload.too_deep`.
    ring: Vec<usize>,
    /// Bytes that the value would have taken at least; only for `payload.too_large`.
    size: usize,
}

impl Fault {
    pub(super) fn new(
        code: &'static str,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Self {
            code,
            reason: reason.into(),
            help: help.into(),
            cause: None,
            steps: Vec::new(),
            ring: Vec::new(),
            size: 0,
        })
    }

    pub(super) fn unsupported(reason: impl Into<String>, help: impl Into<String>) -> Box<Self> {
        Self::new("payload.unsupported", reason, help)
    }

    pub(super) fn too_large(size: usize, max: usize) -> Box<Self> {
        let mut fault = Self::new(
            "payload.too_large",
            format!("takes at least {size} bytes, the bound is {max}"),
            "pass a path or a key instead of the data, split it over several tasks, or raise \
             `payload_max`",
        );
        fault.size = size;
        fault
    }

    pub(super) fn too_deep() -> Box<Self> {
        Self::new(
            "payload.too_deep",
            format!("is nested deeper than {} levels", super::wire::DEPTH_MAX),
            "flatten it, for example into a list of records that name their parents by id",
        )
    }

    pub(super) fn damaged(why: impl Into<String>) -> Box<Self> {
        Self::new(
            "payload.damaged",
            format!("cannot be read back: {}", why.into()),
            "check the disk; restore the store from a backup, or run the task again",
        )
    }

    pub(super) fn because(mut self: Box<Self>, cause: PyErr) -> Box<Self> {
        self.cause = Some(cause);
        self
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// Adds a level to the path. `start` is where that part began in the output: a part that is less
    /// than half of a too large value is not the one to blame, so the path then ends above it.
    pub(super) fn below(mut self: Box<Self>, step: String, start: usize) -> Box<Self> {
        if self.size != 0 && (self.size - start) * 2 < self.size {
            self.steps.clear();
        } else {
            self.steps.push(step);
        }
        self
    }

    /// Notes a container on the way up, to find the one that holds itself.
    pub(super) fn inside(mut self: Box<Self>, container: usize) -> Box<Self> {
        if self.code == "payload.too_deep" {
            self.ring.push(container);
        }
        self
    }

    pub(super) fn finish(mut self) -> Box<CodecError> {
        self.steps.reverse();
        self.ring.reverse();
        if let Some((outer, inner)) = first_return(&self.ring) {
            self.steps.truncate(inner);
            let holder = join(&self.steps[..outer.min(self.steps.len())]);
            let holder = if holder.is_empty() { "the value itself".into() } else { holder };
            self.reason = format!("leads back to {holder}: a value that holds itself has no end");
            self.help = "break the circle: name the other object by an id instead".into();
        }
        Box::new(CodecError {
            code: self.code,
            path: join(&self.steps),
            reason: self.reason,
            help: self.help,
            cause: self.cause,
        })
    }
}

/// The first container that is met a second time on the way down: both depths.
fn first_return(ring: &[usize]) -> Option<(usize, usize)> {
    let mut seen = std::collections::HashMap::new();
    for (depth, container) in ring.iter().enumerate() {
        if let Some(outer) = seen.insert(container, depth) {
            return Some((outer, depth));
        }
    }
    None
}

fn join(steps: &[String]) -> String {
    if steps.len() <= 2 * PATH_ENDS {
        return steps.concat();
    }
    let end = steps.len() - PATH_ENDS;
    format!("{}…{}", steps[..PATH_ENDS].concat(), steps[end..].concat())
}
