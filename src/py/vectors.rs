//! Vectors that follow their entries, as Python sees them: `goclaw.embedders` makes them.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use super::asked::entry_of;
use super::errors;
use super::run::wait;
use crate::memory::Memory;
use crate::model::{EntryId, Result};

/// `(id, session, text)`.
type WorkRow = (String, String, String);

/// What makes vectors talks to this.
#[pyclass(frozen, name = "Vectors", module = "goclaw._goclaw")]
pub(super) struct PyVectors(pub(super) Arc<Memory>);

impl PyVectors {
    /// Calls the memory without the GIL.
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Memory) -> Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| call(&self.0)).map_err(|error| errors::raised(py, &error))
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[pymethods]
impl PyVectors {
    /// The model of the vectors: its name, its dimension, its generation.
    fn model(&self) -> (Option<String>, Option<u32>, u32) {
        match self.0.vector_model() {
            Some(model) => (model.name, Some(model.dimension), model.generation),
            None => (None, None, 0),
        }
    }

    fn settle_model(&self, py: Python<'_>, name: &str, dimension: usize) -> PyResult<()> {
        self.ask(py, |memory| memory.settle_model(Some(name), dimension))
    }

    fn check_model(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.ask(py, |memory| memory.check_model(name))
    }

    /// From now on somebody makes vectors of what was memorized without.
    fn watch(&self, py: Python<'_>, max: u64) {
        py.detach(|| self.0.watch_vectors(max));
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close_vectors());
    }

    /// The generation of the vectors to make, and what to make them of; waits up to so many seconds for
    /// the first. `None` once it is closed.
    fn work(
        &self,
        py: Python<'_>,
        limit: usize,
        bytes_max: usize,
        patience: f64,
    ) -> PyResult<Option<(u32, Vec<WorkRow>)>> {
        let patience = seconds(patience);
        let work = self.ask(py, |memory| memory.vector_work(limit, bytes_max, patience))?;
        let row = |entry: &crate::model::Entry| {
            let text = entry.content.text().unwrap_or_default();
            (entry.id.to_string(), entry.session.to_string(), text.to_owned())
        };
        Ok(work
            .map(|work| (work.generation, work.entries.iter().map(|entry| row(entry)).collect())))
    }

    /// Gives what was taken in hand its vectors: `(id, session, vector)`.
    fn put(
        &self,
        py: Python<'_>,
        generation: u32,
        made: Vec<(String, String, Vec<f32>)>,
    ) -> PyResult<()> {
        let made: Vec<_> = made
            .into_iter()
            .map(|(id, session, vector)| Ok((entry_of(py, &id)?, session.into(), vector)))
            .collect::<PyResult<_>>()?;
        self.ask(py, |memory| memory.put_vectors(generation, made))
    }

    fn put_back(&self, py: Python<'_>, ids: Vec<String>) -> PyResult<()> {
        let ids: Vec<EntryId> = ids.iter().map(|id| entry_of(py, id)).collect::<PyResult<_>>()?;
        py.detach(|| self.0.return_work(&ids));
        Ok(())
    }

    /// Sets an entry aside whose text the embedder refuses.
    fn refuse(&self, py: Python<'_>, id: &str, session: &str) -> PyResult<()> {
        let id = entry_of(py, id)?;
        py.detach(|| self.0.refuse_work(id, session));
        Ok(())
    }

    /// Waits until every text has its vector.
    fn settled(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        // True at once, or when the last one is there; what cannot come any more ends the wait, too.
        let poll = |slice| match self.0.vectorized(slice) {
            Ok(false) if self.0.awaits_vectors() => None,
            settled => Some(settled),
        };
        let settled = wait(py, timeout.map(seconds), poll)?;
        settled.unwrap_or(Ok(false)).map_err(|error| errors::raised(py, &error))
    }

    /// How many texts have no vector, and how many of those the embedder refuses.
    fn unvectored(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let found = self.ask(py, Memory::unvectored)?;
        Ok((found.entries, found.refused))
    }

    /// Refuses while memories lie in a cold tier.
    fn check_whole(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, Memory::check_whole)
    }

    /// Voids all vectors: from now on they are of another model.
    fn remodel(&self, py: Python<'_>, name: &str, dimension: usize) -> PyResult<u32> {
        self.ask(py, |memory| memory.remodel(name, dimension))
    }
}
