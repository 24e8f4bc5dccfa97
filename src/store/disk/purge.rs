//! Forgetting finished runs.

use std::sync::PoisonError;

use heed::RwTxn;

use super::checkpoint::read_line;
use super::core::Core;
use super::lmdb::{Tables, WriteError};
use crate::model::{BlobHash, Result, RunId, Timestamp};
use crate::store::Filter;

/// Runs that one transaction deletes.
const RUNS_PER_COMMIT: usize = 256;

impl Core {
    /// Deletes the run named, or all that ended before `before`; unfinished ones stay.
    pub(super) fn purge(&self, run: Option<RunId>, before: Timestamp) -> Result<u64> {
        let doomed = self.doomed(run, before)?;
        if doomed.is_empty() {
            return Ok(0);
        }
        // Ended runs write no more: once their records are in LMDB, nothing of them is in the tail.
        let in_tail = |run: &RunId| self.tail().segments().any(|part| part.runs.contains_key(run));
        if doomed.iter().any(in_tail) {
            self.seal_active()?;
            self.checkpoint()?;
        }
        let mut unused = Vec::new();
        for runs in doomed.chunks(RUNS_PER_COMMIT) {
            let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
            unused.extend(self.lmdb.write(|txn, tables| {
                let mut unused = Vec::new();
                for run in runs {
                    unused.extend(self.delete(txn, tables, *run)?);
                }
                Ok(unused)
            })?);
        }
        self.drop_definitions(&unused)?;
        Ok(doomed.len() as u64)
    }

    fn doomed(&self, run: Option<RunId>, before: Timestamp) -> Result<Vec<RunId>> {
        if let Some(run) = run {
            let ended = self.summary(run, u64::MAX)?.is_some_and(|line| line.ended.is_some());
            return Ok(ended.then_some(run).into_iter().collect());
        }
        let all = self.list(&Filter { limit: usize::MAX, ..Filter::default() }, u64::MAX)?;
        let doomed = all.iter().filter(|line| line.ended_before(before));
        Ok(doomed.map(|line| line.run).collect())
    }

    /// Deletes one run; answers its definition where this was its last run.
    fn delete(
        &self,
        txn: &mut RwTxn<'_>,
        tables: &Tables,
        run: RunId,
    ) -> Result<Option<BlobHash>, WriteError> {
        let key = run.to_bytes();
        let Some(value) = tables.runs.get(txn, &key)? else { return Ok(None) };
        let line = read_line(&self.lmdb, value)?;
        if line.ended.is_none() {
            // Purged by somebody else and submitted again since we looked.
            return Ok(None);
        }
        let definition = line.definition;
        for (table, is_index) in [(&tables.index, true), (&tables.blobs, false)] {
            let keys: Result<Vec<Vec<u8>>, heed::Error> =
                table.prefix_iter(txn, &key)?.map(|entry| Ok(entry?.0.to_vec())).collect();
            for key in keys? {
                if is_index {
                    tables.log.delete(txn, &key[16..])?;
                }
                table.delete(txn, &key)?;
            }
        }
        tables.runs.delete(txn, &key)?;
        tables.live.delete(txn, &key)?;
        let uses = tables.count_use(txn, &definition, -1)?;
        Ok((uses == 0).then_some(definition))
    }

    /// Deletes definitions that no run uses any more.
    fn drop_definitions(&self, unused: &[BlobHash]) -> Result<()> {
        if unused.is_empty() {
            return Ok(());
        }
        // With the writer held no submission can come to use one of them. The tail is looked at
        // before the counts: a segment that leaves it has been counted.
        let mut writer = self.writer();
        let idle: Vec<&BlobHash> = {
            let tail = self.tail();
            unused.iter().filter(|hash| !tail.uses_definition(hash)).collect()
        };
        self.lmdb.write(|txn, tables| {
            for hash in &idle {
                if tables.count_use(txn, *hash, 0)? == 0 {
                    tables.uses.delete(txn, *hash)?;
                    tables.definitions.delete(txn, *hash)?;
                }
            }
            Ok(())
        })?;
        for hash in idle {
            writer.forget_definition(hash);
        }
        Ok(())
    }
}
