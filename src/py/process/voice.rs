//! What a worker says, as the engine is to hear it: reports, and lines of its output.

use super::super::logging;
use super::worker::Worker;
use crate::agent::wire::settle;
use crate::agent::{Outcome, Report};
use crate::model::{Span, TaskRef};

impl Worker {
    /// A report as the engine is to see it; `None` for one about a batch that is not under way, save
    /// for what was used meanwhile.
    pub(super) fn pass(&mut self, report: Report) -> Option<Report> {
        if let Report::Charge { .. } = report {
            return Some(report);
        }
        let running = self.running.as_mut()?;
        match report {
            // Of a batch before this one nothing counts any more.
            Report::Done { batch, .. } if batch != running.batch.id => None,
            Report::Done { batch, lo, outcomes, busy_ns } => {
                settle(&mut running.open, lo, outcomes.len() as u32);
                let own = &running.batch;
                // What a call memorized was kept here, and comes with its outcome.
                let children = (lo..).zip(outcomes);
                let outcomes = children.map(|(child, outcome)| match outcome {
                    Outcome::Completed(output) => own.completed(child, output),
                    other => {
                        own.drop_memorized(child);
                        other
                    }
                });
                let outcomes = outcomes.collect();
                Some(Report::Done { batch, lo, outcomes, busy_ns })
            }
            Report::Progress { run, span, attempt, done, total, text } => {
                // The worker knows one node, which is its first.
                let span = Span { node: running.batch.span.node, ..span };
                Some(Report::Progress { run, span, attempt, done, total, text })
            }
            Report::Warning { run, task, attempt, code, reason } => {
                let task = TaskRef { node: running.batch.span.node, ..task };
                Some(Report::Warning { run, task, attempt, code, reason })
            }
            Report::Blocking { run, task, attempt, reason } => {
                let task = TaskRef { node: running.batch.span.node, ..task };
                Some(Report::Blocking { run, task, attempt, reason })
            }
            other => Some(other),
        }
    }

    fn speaker(&self) -> impl Fn(&'static str, u8, &str) + use<> {
        let pid = self.pid.as_raw_nonzero().to_string();
        let call = self.running.as_ref().map(|running| running.batch.call.run.to_string());
        let task = self.name.clone();
        move |logger, level, line| {
            let mut extra = vec![("pid".to_owned(), pid.clone())];
            if let Some(run) = &call {
                extra.push(("run".into(), run.clone()));
                extra.push(("task".into(), task.clone()));
            }
            logging::relay(logger.to_owned(), level, line.to_owned(), extra);
        }
    }

    pub(super) fn pump_stdout(&mut self) {
        let speak = self.speaker();
        self.stdout.pump(|line| speak("goclaw.agent.stdout", 20, line));
    }

    pub(super) fn pump_stderr(&mut self) {
        let speak = self.speaker();
        // Looked at before the pipe is: what was read until now, an earlier call had written.
        let running = self.running.as_ref().map(|running| running.batch.id);
        let call = running.map(|batch| (batch, self.mark.last_begun(batch)));
        if call != self.heard {
            self.heard = call;
            self.stderr.forget();
        }
        self.stderr.pump(|line| speak("goclaw.agent.stderr", 30, line));
    }

    /// Says what was left out of the output, where that is a while ago or `now` is the end.
    pub(super) fn say_left_out(&mut self, at_end: bool) {
        let speak = self.speaker();
        self.stdout.say_left_out(at_end, &mut |line| speak("goclaw.agent.stdout", 20, line));
        self.stderr.say_left_out(at_end, &mut |line| speak("goclaw.agent.stderr", 30, line));
    }

    /// What lies in the pipes of a dead worker; a child of it may hold them open for ever.
    pub(super) fn drain_output(&mut self) {
        for _ in 0..4 {
            self.pump_stdout();
            self.pump_stderr();
        }
        self.say_left_out(true);
    }
}
