//! One line per run, kept from the few events that change it.
//!
//! A [`Patch`] is what one event does to the line. The store keeps patches of the journal's tail and
//! lays them over the lines that are checkpointed already.

use super::{Filter, Summary};
use crate::model::{BlobHash, Event, Record, RunState, Submitted, Timestamp};

/// What one event does to a run's line.
#[derive(Clone, Debug)]
pub(super) struct Patch {
    /// Sequence number of the record that the event is in.
    pub seq: u64,
    pub change: Change,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Submitted { line: Box<Summary>, definition: BlobHash },
    Started,
    Ended { state: RunState, at: Timestamp },
}

impl Patch {
    /// The patches of a record. `name` answers the name of the workflow that a submission runs.
    ///
    /// # Errors
    /// Those of `name`.
    pub(super) fn of<E>(
        record: &Record,
        mut name: impl FnMut(&Submitted) -> Result<String, E>,
    ) -> Result<Vec<Self>, E> {
        let mut patches = Vec::new();
        for event in &record.events {
            let change = match event {
                Event::Submitted(submitted) => Change::Submitted {
                    line: Box::new(Summary {
                        run: record.run,
                        workflow: name(submitted)?,
                        state: RunState::Pending,
                        tags: submitted.tags.clone(),
                        session: submitted.session.clone(),
                        submitted: submitted.at,
                        ended: None,
                    }),
                    definition: submitted.definition,
                },
                Event::RunStarted => Change::Started,
                Event::RunEnded { state, .. } => Change::Ended { state: *state, at: record.at },
                _ => continue,
            };
            patches.push(Self { seq: record.seq, change });
        }
        Ok(patches)
    }

    /// Lays the patch over a line. Started and ended mean nothing for a run that was never submitted.
    pub(super) fn apply(&self, line: &mut Option<Summary>) {
        match (&self.change, line) {
            (Change::Submitted { line: new, .. }, line) => *line = Some((**new).clone()),
            (Change::Started, Some(line)) if line.state == RunState::Pending => {
                line.state = RunState::Running;
            }
            (Change::Ended { state, at }, Some(line)) => {
                line.state = *state;
                line.ended = Some(*at);
            }
            _ => {}
        }
    }
}

impl Filter {
    /// True where the listing shows the run (its cursor and limit apart).
    pub fn shows(&self, line: &Summary) -> bool {
        self.state.is_none_or(|state| line.state == state)
            && self.workflow.as_ref().is_none_or(|name| line.workflow == *name)
            && self.tag.as_ref().is_none_or(|tag| line.tags.contains(tag))
            && self.session.as_ref().is_none_or(|key| line.session.as_ref() == Some(key))
    }
}

impl Summary {
    /// True where `purge(None, before)` forgets the run.
    pub(super) fn ended_before(&self, before: Timestamp) -> bool {
        self.ended.is_some_and(|ended| ended < before)
    }
}
