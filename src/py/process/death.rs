//! How a worker died, in words.

use rustix::process::WaitIdStatus;

use super::outbox::LAST_WORDS;
use crate::model::{Failure, FailureKind};

const SIGNALS: [(i32, &str); 14] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (15, "SIGTERM"),
    (24, "SIGXCPU"),
    (31, "SIGSYS"),
];

/// What ended a worker.
pub(super) enum Death {
    Status(WaitIdStatus),
    /// It lives and does not speak to us any more.
    Silent,
    /// It writes what is no frame.
    Nonsense(String),
    NotStarted(String),
}

impl Death {
    fn text(&self, last_words: &str) -> String {
        match self {
            Self::Status(_) if last_words.contains(LAST_WORDS) => "ended itself".into(),
            Self::Status(status) => match (status.terminating_signal(), status.exit_status()) {
                (Some(9), _) => "was killed by signal 9 (SIGKILL), as the system does when memory runs out".into(),
                (Some(signal), _) => {
                    let name = SIGNALS.iter().find(|(number, _)| *number == signal);
                    let name = name.map_or("a signal without a name here", |(_, name)| name);
                    format!("was killed by signal {signal} ({name})")
                }
                (None, Some(code)) => format!("exited with status {code}"),
                (None, None) => "ended".into(),
            },
            Self::Silent => "closed its connection to the engine and was killed; an agent that closes all file descriptors does that".into(),
            Self::Nonsense(what) => format!("wrote nonsense to the engine and was killed: {what}"),
            Self::NotStarted(why) => format!("could not be started: {why}"),
        }
    }

    /// The failure of the call under way.
    pub(super) fn failure(&self, pid: Option<i32>, task: &str, last_words: &str) -> Box<Failure> {
        let who =
            pid.map_or_else(|| "worker process".into(), |pid| format!("worker process {pid}"));
        let mut message = format!("task `{task}`: the {who} {}", self.text(last_words));
        if !last_words.is_empty() {
            message = format!("{message}; its last words:\n{last_words}");
        }
        Box::new(Failure::new(FailureKind::Crash, "task.crash", message))
    }
}
