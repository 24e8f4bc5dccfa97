//! Memory as Python sees it: rows in, rows out. `goclaw.memory` names the parts.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use super::asked::{
    AskedDraft, AskedDropping, AskedMemorizing, AskedMoving, AskedSearch, AskedSweep, ColdRow,
    EntryRow, HitRow, Row, StatsRow, entry_of,
};
use super::forgetting::{self, AskedForgetting, ForgettingRow};
use super::notes::PyImport;
use super::{asked, errors, recall};
use crate::agent::Batch;
use crate::memory::{self, Forget, Hit, Memory, Parts, Policy, Sweep, Tally, Tiers};
use crate::model::{EntryId, Error, Memorized, MemoryOp, Result};

/// The call of a task that writes: what it writes is kept there until it completes.
pub(super) struct Desk {
    pub(super) batch: Arc<Batch>,
    pub(super) child: u32,
    pub(super) task: String,
    /// False for a look-up: it serves calls that may outlive the one which began it, and writes nothing.
    pub(super) is_call: bool,
}

/// The memory of an engine, or of a task in it.
#[pyclass(frozen, name = "Memory", module = "goclaw._goclaw")]
pub(super) struct PyMemory {
    memory: Arc<Memory>,
    desk: Option<Desk>,
}

impl PyMemory {
    pub(super) fn new(memory: Arc<Memory>, desk: Option<Desk>) -> Self {
        Self { memory, desk }
    }

    /// Calls the memory without the GIL.
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Memory) -> Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| call(&self.memory)).map_err(|error| errors::raised(py, &error))
    }

    /// Commits, or keeps for the task's completion.
    fn write(&self, ops: Vec<MemoryOp>) -> Result<()> {
        match &self.desk {
            None => self.memory.commit(ops),
            // Looked at once more: the call may have ended since it was checked.
            Some(desk) if desk.batch.memorize(desk.child, ops) => Ok(()),
            Some(desk) => Err(recall::ended(&desk.task)),
        }
    }

    /// What the task has written so far in a session.
    fn own(&self, session: &str) -> Vec<MemoryOp> {
        let mut own = self.desk.as_ref().map_or_else(Vec::new, |it| it.batch.memorized(it.child));
        own.retain(|op| op.session().is_some_and(|of| **of == *session));
        own
    }

    fn own_of(&self, session: Option<&str>) -> Vec<MemoryOp> {
        session.map_or_else(Vec::new, |session| self.own(session))
    }

    /// Refuses a task a session that is neither its run's own nor granted to it; and all, once its call is over.
    fn check(&self, session: &str, writes: bool) -> Result<()> {
        let Some(desk) = &self.desk else { return Ok(()) };
        if desk.is_call && desk.batch.is_over(desk.child) {
            return Err(recall::ended(&desk.task));
        }
        let call = &desk.batch.call;
        let granted =
            if writes { call.memory.may_write(session) } else { call.memory.may_read(session) };
        if granted || call.session.as_deref() == Some(session) {
            return Ok(());
        }
        let verb = if writes { "write" } else { "read" };
        let message =
            format!("task `{}` may not {verb} the memory of session `{session}`", desk.task);
        let help = format!("grant it with the submit: memory=goclaw.MemoryAccess({verb}=[\"…\"])");
        Err(Error::new("memory.no_grant", message, help))
    }

    /// Rows of memories of one session.
    fn rows<'py>(&self, py: Python<'py>, found: &[Memorized]) -> PyResult<Vec<EntryRow<'py>>> {
        let Some(first) = found.first() else { return Ok(Vec::new()) };
        let fsrs = self.ask(py, |memory| memory.fsrs(&first.entry.session))?;
        let now = self.memory.now();
        let row =
            |it: &Memorized| asked::entry_row(py, it, memory::strength(&fsrs, &*it.entry, now));
        found.iter().map(row).collect()
    }
}

#[pymethods]
impl PyMemory {
    /// Memorizes drafts; answers their ids. `generation`: of the vectors that the embedder has just made.
    fn memorize(
        &self,
        py: Python<'_>,
        session: &str,
        drafts: Vec<AskedDraft<'_>>,
        task: Option<String>,
        how: AskedMemorizing,
        generation: Option<u32>,
    ) -> PyResult<Vec<String>> {
        let task = task.or_else(|| self.desk.as_ref().map(|desk| desk.task.clone()));
        let drafts = asked::drafts(drafts, task.as_deref(), how.pinned)?;
        let ids = self.ask(py, |memory| {
            self.check(session, true)?;
            let (ids, ops, repeated) = memory.draft_apart_of(
                generation,
                session,
                drafts,
                how.twins(),
                &self.own(session),
            )?;
            self.write(ops)?;
            memory.tally().duplicates.fetch_add(repeated, Ordering::Relaxed);
            Ok(ids)
        })?;
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    /// Refuses what `memorize` will refuse, before vectors are made of it.
    fn check_drafts(
        &self,
        py: Python<'_>,
        session: &str,
        drafts: Vec<AskedDraft<'_>>,
    ) -> PyResult<()> {
        let drafts = asked::drafts(drafts, None, false)?;
        self.ask(py, |_| {
            self.check(session, true)?;
            Memory::check_drafts(session, &drafts)
        })
    }

    /// Refuses what `retrieve` will refuse, before a vector is made of the text.
    fn check_search(
        &self,
        py: Python<'_>,
        session: &str,
        text: Option<String>,
        search: AskedSearch,
    ) -> PyResult<()> {
        self.ask(py, |_| {
            self.check(session, false)?;
            search.query(text, None, Vec::new())?.check_without_vector(session)
        })
    }

    fn retrieve<'py>(
        &self,
        py: Python<'py>,
        session: &str,
        text: Option<String>,
        vector: Option<Row>,
        without: Vec<String>,
        search: AskedSearch,
    ) -> PyResult<(Vec<HitRow<'py>>, Option<String>)> {
        let without = without.iter().map(|id| entry_of(py, id)).collect::<PyResult<_>>()?;
        let tiers = match search.tiers.as_str() {
            "hot" => Tiers::Hot,
            "cold" => Tiers::Cold,
            _ => Tiers::All,
        };
        let vector = vector.map(|row| row.0);
        let query =
            search.query(text, vector, without).map_err(|error| errors::raised(py, &error))?;
        let found = self.ask(py, |memory| {
            self.check(session, false)?;
            memory.retrieve_over(session, &query, tiers, &self.own(session))
        })?;
        let row = |hit: Hit| {
            let (vector, text) = ((hit.vector_rank, hit.cosine), (hit.text_rank, hit.bm25));
            let Parts { vector: by_vector, text: by_words, smoothing, strength, recency, place } =
                hit.parts;
            let parts = (by_vector, by_words, smoothing, strength, recency, place);
            Ok((
                asked::entry_row(py, &hit.memorized, hit.strength)?,
                hit.score,
                vector,
                text,
                parts,
            ))
        };
        let hits: PyResult<_> = found.hits.into_iter().map(row).collect();
        Ok((hits?, found.warning.map(|warning| warning.message)))
    }

    /// Moves to the cold tier; answers ids, bytes, how many more, how many are too large.
    fn move_cold(
        &self,
        py: Python<'_>,
        session: &str,
        asked: AskedMoving,
    ) -> PyResult<(Vec<String>, u64, u64, u64)> {
        let AskedMoving { below, unused_ms, keep_max, limit, dry_run } = asked;
        let policy = Policy { below, unused_for: unused_ms, keep_max };
        let moved = self.ask(py, |memory| memory.move_cold(session, &policy, limit, dry_run))?;
        let ids = moved.ids.iter().map(ToString::to_string).collect();
        Ok((ids, moved.bytes, moved.left, moved.refused))
    }

    /// Brings back from the cold tier; answers how many.
    fn bring_back(&self, py: Python<'_>, session: &str, ids: Vec<String>) -> PyResult<u64> {
        let ids: Vec<EntryId> = ids.iter().map(|id| entry_of(py, id)).collect::<PyResult<_>>()?;
        self.ask(py, |memory| memory.bring_back(session, &ids))
    }

    /// Deletes what the tier should not hold; answers how many.
    fn settle_cold(&self, py: Python<'_>) -> PyResult<u64> {
        self.ask(py, Memory::settle_all)
    }

    /// The tier's name, memories, bytes, deletions to come, failures, the last one's words.
    fn cold_stats(&self, py: Python<'_>) -> PyResult<Option<ColdRow>> {
        let stats = self.ask(py, Memory::cold_stats)?;
        Ok(stats.map(|it| (it.tier, it.entries, it.bytes, it.pending, it.errors, it.last_error)))
    }

    fn cold_health(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, Memory::cold_health)
    }

    fn recent<'py>(
        &self,
        py: Python<'py>,
        session: &str,
        n: usize,
    ) -> PyResult<Vec<EntryRow<'py>>> {
        let found = self.ask(py, |memory| {
            self.check(session, false)?;
            memory.recent_with(session, n, &self.own(session))
        })?;
        self.rows(py, &found)
    }

    fn list<'py>(
        &self,
        py: Python<'py>,
        session: &str,
        after: Option<&str>,
        limit: usize,
    ) -> PyResult<Vec<EntryRow<'py>>> {
        let after = after.map(|id| entry_of(py, id)).transpose()?;
        let found = self.ask(py, |memory| {
            self.check(session, false)?;
            memory.list_with(session, after, limit, &self.own(session))
        })?;
        self.rows(py, &found)
    }

    fn get<'py>(
        &self,
        py: Python<'py>,
        id: &str,
        session: Option<&str>,
    ) -> PyResult<Option<EntryRow<'py>>> {
        let id = entry_of(py, id)?;
        let found = self.ask(py, |memory| {
            session.map_or(Ok(()), |session| self.check(session, false))?;
            memory.get_with(id, session, &self.own_of(session))
        })?;
        Ok(self.rows(py, found.as_slice())?.pop())
    }

    fn count(&self, py: Python<'_>, session: Option<&str>) -> PyResult<u64> {
        self.ask(py, |memory| {
            session.map_or(Ok(()), |session| self.check(session, false))?;
            memory.count_with(session, &self.own_of(session))
        })
    }

    fn sessions(
        &self,
        py: Python<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> PyResult<Vec<(String, u64)>> {
        let found = self.ask(py, |memory| memory.sessions(after, limit))?;
        Ok(found.into_iter().map(|(name, count)| (name.to_string(), count)).collect())
    }

    /// Entries, sessions, the vectors' model and their dimension; indexes loaded, rebuilt, written, grouped.
    fn stats(&self, py: Python<'_>) -> PyResult<StatsRow> {
        let stats = self.ask(py, Memory::stats)?;
        let dimension = stats.vector_model.as_ref().map(|model| model.dimension);
        let name = stats.vector_model.and_then(|it| it.name);
        let (loaded, rebuilt) = (stats.indexes_loaded, stats.indexes_rebuilt);
        let (written, grouped) = (stats.indexes_written, stats.indexes_grouped);
        Ok((stats.entries, stats.sessions, name, dimension, loaded, rebuilt, written, grouped))
    }

    /// Reviews memories with a grade from 1 to 4.
    fn review(
        &self,
        py: Python<'_>,
        ids: Vec<String>,
        session: Option<&str>,
        grade: u8,
    ) -> PyResult<()> {
        let ids: Vec<EntryId> = ids.iter().map(|id| entry_of(py, id)).collect::<PyResult<_>>()?;
        let grade = forgetting::grade(grade);
        self.ask(py, |memory| {
            session.map_or(Ok(()), |session| self.check(session, true))?;
            let own = self.own_of(session);
            let draft = |id: &EntryId| memory.draft_review_with(*id, session, grade, &own);
            self.write(ids.iter().map(draft).collect::<Result<_>>()?)
        })
    }

    /// Forgets; answers the ids, and how many more would have gone.
    fn forget(
        &self,
        py: Python<'_>,
        session: &str,
        asked: AskedDropping,
    ) -> PyResult<(Vec<String>, u64)> {
        let AskedDropping { chosen, below, grace_ms, limit, dry_run } = asked;
        let what = match chosen {
            Some(ids) => {
                Forget::Ids(ids.iter().map(|id| entry_of(py, id)).collect::<PyResult<_>>()?)
            }
            None => Forget::Below { strength: below.unwrap_or_default(), grace: grace_ms },
        };
        let gone = self.ask(py, |memory| {
            self.check(session, !dry_run)?;
            let doomed = memory.doomed_with(session, &what, limit, &self.own(session))?;
            if !dry_run && !doomed.ids.is_empty() {
                let (session, ids) = (session.into(), doomed.ids.clone());
                self.write(vec![MemoryOp::Forget { session, ids }])?;
            }
            Ok(doomed)
        })?;
        Ok((gone.ids.iter().map(ToString::to_string).collect(), gone.left))
    }

    /// Refuses a task a session that it may not read.
    fn check_grant(&self, py: Python<'_>, session: &str) -> PyResult<()> {
        self.check(session, false).map_err(|error| errors::raised(py, &error))
    }

    /// Forgets what is weak in every session: how many, in how many sessions, milliseconds, whether
    /// there may be more.
    fn sweep(&self, py: Python<'_>, asked: AskedSweep) -> PyResult<(u64, u64, u64, bool)> {
        let AskedSweep { below, grace_ms: grace, limit, dry_run } = asked;
        let swept = self.ask(py, |memory| memory.sweep(Sweep { below, grace, limit, dry_run }))?;
        Ok((swept.forgotten, swept.sessions, swept.took_ms, swept.has_more))
    }

    /// Sweeps, what they forgot, milliseconds that they took; repetitions that counted as reviews.
    fn tally(&self) -> (u64, u64, u64, u64) {
        let Tally { sweeps, swept, sweep_ms, duplicates } = self.memory.tally();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(sweeps), read(swept), read(sweep_ms), read(duplicates))
    }

    /// What a session was set to forget like; `None`: as usual.
    fn forgetting(&self, py: Python<'_>, session: &str) -> PyResult<Option<ForgettingRow>> {
        let set = self.ask(py, |memory| memory.forgetting(session))?;
        Ok(set.map(forgetting::row))
    }

    /// The sessions that were set to forget in their own way.
    fn set_apart(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let names = self.ask(py, Memory::set_apart)?;
        Ok(names.iter().map(ToString::to_string).collect())
    }

    fn set_forgetting(
        &self,
        py: Python<'_>,
        session: &str,
        asked: Option<AskedForgetting>,
    ) -> PyResult<()> {
        let settings = asked.map(AskedForgetting::settings);
        self.ask(py, |memory| memory.set_forgetting(session, settings))
    }

    /// Sets how memories are forgotten where their session does not say.
    fn set_usual(&self, py: Python<'_>, asked: AskedForgetting) -> PyResult<()> {
        let settings = asked.settings();
        self.ask(py, |memory| memory.set_usual(&settings))
    }

    fn delete_session(&self, py: Python<'_>, session: &str) -> PyResult<u64> {
        self.ask(py, |memory| memory.delete_session(session))
    }

    /// Lines of a session from behind `after` on, and the last one's id.
    fn export(
        &self,
        py: Python<'_>,
        session: &str,
        after: Option<&str>,
        limit: usize,
    ) -> PyResult<(Vec<String>, Option<String>)> {
        let after = after.map(|id| entry_of(py, id)).transpose()?;
        let (lines, last) = self.ask(py, |memory| memory.export(session, after, limit))?;
        Ok((lines, last.map(|id| id.to_string())))
    }

    fn import_lines(
        &self,
        py: Python<'_>,
        lines: Vec<String>,
        embedder: Option<&str>,
    ) -> PyResult<u64> {
        self.ask(py, |memory| memory.import(lines.iter().map(String::as_str), embedder))
    }

    /// Finds what importing the notes of a workspace changes.
    fn plan_import(&self, py: Python<'_>, session: &str, folder: PathBuf) -> PyResult<PyImport> {
        let import = self.ask(py, |memory| memory.plan_import(session, &folder))?;
        Ok(PyImport::new(import))
    }

    /// Carries an import out, once; answers how many were added, moved, forgotten, left as they are.
    fn carry_out(
        &self,
        py: Python<'_>,
        import: &PyImport,
        made: Option<(u32, Vec<Vec<f32>>)>,
    ) -> PyResult<(u64, u64, u64, u64)> {
        let Some(import) = import.take() else { return Ok((0, 0, 0, 0)) };
        let done = self.ask(py, |memory| memory.carry_out(import, made))?;
        Ok((done.added, done.moved, done.forgotten, done.unchanged))
    }

    /// Writes a session as notes; answers how many memories were written.
    fn export_notes(&self, py: Python<'_>, session: &str, folder: PathBuf) -> PyResult<u64> {
        self.ask(py, |memory| memory.export_notes(session, &folder))
    }
}
