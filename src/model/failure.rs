//! Why an attempt failed: what the journal keeps of an exception.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Millis, Opaque};

/// What ended the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The agent raised.
    Exception,
    /// The attempt ran longer than its timeout.
    Timeout,
    /// The process or worker died under the attempt.
    Crash,
    /// The result, an argument or a template could not be converted; never retried.
    Payload,
    /// Its lane was full and dropped it; never retried.
    Dropped,
    /// Goclaw refused what the agent asked for, and would again; never retried.
    Refused,
    /// The agent is not registered, or its call could not be bound; never retried.
    Binding,
}

/// What the journal keeps of a failed attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// Stable code, such as `task.exception` or `payload.unsupported`.
    pub code: String,
    /// Qualified names of the exception's class and its bases, most derived first:
    /// `["builtins.ValueError", "builtins.Exception"]`. Empty where nothing was raised.
    pub types: Vec<String>,
    /// The exception's text, bounded by the producer.
    pub message: String,
    /// Traceback as text, bounded by the producer.
    pub traceback: Option<String>,
    /// The agent asked for this pause before the next attempt (`RetryAfter`).
    pub retry_after: Option<Millis>,
    /// What to do about it, where the exception said; else empty.
    #[serde(default)]
    pub help: String,
    /// The live exception, kept so that it can become the `__cause__` in the same process.
    #[serde(skip)]
    pub origin: Option<Arc<dyn Opaque>>,
}

impl Failure {
    pub fn new(kind: FailureKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.into(),
            types: Vec::new(),
            message: message.into(),
            traceback: None,
            retry_after: None,
            help: String::new(),
            origin: None,
        }
    }
}
