//! One error type with a stable code, a message that names the guilty thing, and the cure.

use serde::{Deserialize, Serialize};

/// What went wrong, for people and programs.
///
/// `code` is `area.reason`, stable, with a page under `docs/errors/`. `message` is lower case, names
/// the guilty thing and has no full stop. `help` says what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub code: &'static str,
    pub message: String,
    pub help: String,
    /// Every finding, where an operation found several at once (compile).
    pub problems: Vec<Problem>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into(), problems: Vec::new() }
    }
}

/// One finding of the compiler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `workflow.cycle`, `workflow.unknown_dependency`, …
    pub code: String,
    /// The guilty task's id, where one task is to blame.
    pub task: Option<String>,
    pub message: String,
    pub help: String,
}

impl Problem {
    pub fn new(
        code: &'static str,
        task: Option<&str>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            code: code.into(),
            task: task.map(str::to_owned),
            message: message.into(),
            help: help.into(),
        }
    }
}
