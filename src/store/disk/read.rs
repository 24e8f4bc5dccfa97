//! Reading from any thread: what LMDB holds, then the tail.
//!
//! A view is taken of the tail first and of LMDB afterwards. A segment that moved in between is in
//! both; the position that the LMDB view names says which segments of the tail to leave out.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::checkpoint::read_line;
use super::core::Core;
use super::layout::{self, Place};
use super::lmdb::Snapshot;
use super::segment::{Entry, Piece, SegmentFile};
use super::{body, error};
use crate::model::{BlobHash, Event, Fact, Record, Result, RunId};
use crate::store::summary::{Change, Patch};
use crate::store::{Filter, Summary, facts};

/// What one segment of the tail holds of a run.
struct Slice {
    file: Arc<SegmentFile>,
    entries: Vec<Entry>,
    patches: Vec<Patch>,
    blobs: Vec<(BlobHash, Piece)>,
}

/// Where the tail has the definitions of a run's submissions.
type Definitions = HashMap<BlobHash, (Arc<SegmentFile>, Piece)>;

impl Core {
    fn slices(&self, run: RunId) -> Vec<Slice> {
        let tail = self.tail();
        let of = tail.segments().filter_map(|segment| {
            let part = segment.runs.get(&run)?;
            let entries = part.entries.iter().map(|at| segment.entries[*at as usize]).collect();
            let (patches, blobs) = (part.patches.clone(), part.blobs.clone());
            Some(Slice { file: Arc::clone(&segment.file), entries, patches, blobs })
        });
        of.collect()
    }

    /// The slices that LMDB does not hold, and the view of LMDB that they belong to.
    fn view(&self, mut slices: Vec<Slice>) -> Result<(Vec<Slice>, Snapshot<'_>)> {
        let snapshot = self.lmdb.read()?;
        let position = self.position(&snapshot)?;
        slices.retain(|slice| slice.file.number >= position);
        Ok((slices, snapshot))
    }

    fn position(&self, snapshot: &Snapshot<'_>) -> Result<u64> {
        let meta = self.lmdb.meta(&snapshot.txn)?;
        Ok(meta.ok_or_else(|| self.lmdb.corrupt("its meta table is empty"))?.position)
    }

    /// Where the definitions lie that the slices submit.
    fn definitions(&self, slices: &[Slice]) -> Definitions {
        let tail = self.tail();
        let patches = slices.iter().flat_map(|slice| &slice.patches);
        let hashes = patches.filter_map(|patch| match &patch.change {
            Change::Submitted { definition, .. } => Some(*definition),
            _ => None,
        });
        hashes.filter_map(|hash| Some((hash, tail.definition(&hash)?))).collect()
    }

    pub(super) fn load(&self, run: RunId) -> Result<Option<Vec<Record>>> {
        let slices = self.slices(run);
        let definitions = self.definitions(&slices);
        let (slices, snapshot) = self.view(slices)?;
        let mut records = self.stored_records(&snapshot, run)?;
        for slice in &slices {
            for entry in &slice.entries {
                records.push(decode_in(&slice.file, entry.body)?);
            }
        }
        self.join_blobs(run, &mut records, &slices, &snapshot)?;
        for event in records.iter_mut().flat_map(|record| &mut record.events) {
            if let Event::Submitted(submitted) = event {
                let hash = submitted.definition;
                let in_tail = definitions.get(&hash).cloned();
                submitted.workflow = Some(self.workflow_in(&hash, in_tail, &snapshot)?);
            }
        }
        Ok((!records.is_empty()).then_some(records))
    }

    fn stored_records(&self, snapshot: &Snapshot<'_>, run: RunId) -> Result<Vec<Record>> {
        let tables = &self.lmdb.tables;
        let fail = self.lmdb.fail("read");
        let mut records = Vec::new();
        let prefix = run.to_bytes();
        for key in tables.index.prefix_iter(&snapshot.txn, &prefix).map_err(&fail)? {
            let (key, _) = key.map_err(&fail)?;
            let body = tables.log.get(&snapshot.txn, &key[16..]).map_err(&fail)?;
            let body = body.ok_or_else(|| self.lmdb.corrupt(format!("run {run} has a hole")))?;
            records.push(self.decode(body)?);
        }
        Ok(records)
    }

    fn join_blobs(
        &self,
        run: RunId,
        records: &mut [Record],
        slices: &[Slice],
        snapshot: &Snapshot<'_>,
    ) -> Result<()> {
        let blobs: Vec<_> = slices
            .iter()
            .flat_map(|slice| slice.blobs.iter().map(|(hash, at)| (*hash, &slice.file, *at)))
            .collect();
        for record in records {
            body::join(record, |hash| match blobs.iter().find(|(other, ..)| other == hash) {
                Some((_, file, piece)) => {
                    let bytes = file.read(*piece)?;
                    self.checked_blob(run, hash, &bytes)
                }
                None => {
                    let key = layout::blob_key(run, hash);
                    let found = self.lmdb.tables.blobs.get(&snapshot.txn, &key);
                    let bytes = found.map_err(self.lmdb.fail("read"))?;
                    self.checked_blob(run, hash, bytes.unwrap_or_default())
                }
            })?;
        }
        Ok(())
    }

    fn checked_blob(&self, run: RunId, hash: &BlobHash, body: &[u8]) -> Result<Arc<[u8]>> {
        match layout::blob_body(body) {
            Some((_, _, bytes)) if blake3::hash(bytes).as_bytes() == hash => Ok(bytes.into()),
            _ => Err(self.lmdb.corrupt(format!("a payload of run {run} is missing or changed"))),
        }
    }

    fn decode(&self, body: &[u8]) -> Result<Record> {
        body::read_record(body).map_err(|e| self.lmdb.corrupt(format!("a record of its log: {e}")))
    }

    pub(super) fn facts(&self, run: Option<RunId>, from: u64, limit: usize) -> Result<Vec<Fact>> {
        let slices = match run {
            Some(run) => self.slices(run),
            None => self.all_slices(from, limit),
        };
        let (slices, snapshot) = self.view(slices)?;
        let mut found = match run {
            Some(run) => self.stored_facts_of(&snapshot, run, from, limit)?,
            None => self.stored_facts(&snapshot, from, limit)?,
        };
        for slice in &slices {
            // The record that `from` falls into may begin before it.
            let entries = &slice.entries;
            let start = entries.partition_point(|entry| entry.place.seq <= from);
            for entry in &entries[start.saturating_sub(1)..] {
                if found.len() >= limit {
                    break;
                }
                found.extend(facts::of(&decode_in(&slice.file, entry.body)?, from));
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Enough of every segment to answer `limit` facts from `from` on: a record tells at least one,
    /// but for those without a number of their own.
    fn all_slices(&self, from: u64, limit: usize) -> Vec<Slice> {
        let tail = self.tail();
        let mut wanted = limit.saturating_add(1);
        let mut slices = Vec::new();
        for segment in tail.segments().filter(|segment| segment.next_seq > from) {
            if wanted == 0 {
                break;
            }
            let start = segment.entries.partition_point(|entry| entry.place.seq <= from);
            let rest = &segment.entries[start.saturating_sub(1)..];
            let mut entries = Vec::new();
            for (at, entry) in rest.iter().enumerate() {
                let next = rest.get(at + 1).map_or(segment.next_seq, |next| next.place.seq);
                if next == entry.place.seq {
                    continue;
                }
                entries.push(*entry);
                wanted -= 1;
                if wanted == 0 {
                    break;
                }
            }
            let file = Arc::clone(&segment.file);
            slices.push(Slice { file, entries, patches: Vec::new(), blobs: Vec::new() });
        }
        slices
    }

    fn stored_facts(&self, snapshot: &Snapshot<'_>, from: u64, limit: usize) -> Result<Vec<Fact>> {
        let (txn, log) = (&snapshot.txn, &self.lmdb.tables.log);
        let fail = self.lmdb.fail("read");
        let key = Place { seq: from, tie: u32::MAX }.key();
        let start = log.get_lower_than_or_equal_to(txn, &key).map_err(&fail)?;
        let first = Place { seq: 0, tie: 0 }.key();
        let start = start.map_or(first.as_slice(), |(key, _)| key).to_vec();
        let range = (Bound::Included(start.as_slice()), Bound::Unbounded);
        let mut found = Vec::new();
        for entry in log.range(txn, &range).map_err(&fail)? {
            if found.len() >= limit {
                break;
            }
            found.extend(facts::of(&self.decode(entry.map_err(&fail)?.1)?, from));
        }
        Ok(found)
    }

    fn stored_facts_of(
        &self,
        snapshot: &Snapshot<'_>,
        run: RunId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Fact>> {
        let (txn, tables) = (&snapshot.txn, &self.lmdb.tables);
        let fail = self.lmdb.fail("read");
        let first = layout::index_key(run, Place { seq: 0, tie: 0 });
        let end = layout::index_key(run, Place { seq: u64::MAX, tie: u32::MAX });
        let key = layout::index_key(run, Place { seq: from, tie: u32::MAX });
        let before = tables.index.get_lower_than_or_equal_to(txn, &key).map_err(&fail)?;
        let start = before.map(|(key, _)| key).filter(|key| *key >= first.as_slice());
        let start = start.unwrap_or(&first).to_vec();
        let range = (Bound::Included(start.as_slice()), Bound::Included(end.as_slice()));
        let mut found = Vec::new();
        for entry in tables.index.range(txn, &range).map_err(&fail)? {
            if found.len() >= limit {
                break;
            }
            let (key, _) = entry.map_err(&fail)?;
            let body = tables.log.get(txn, &key[16..]).map_err(&fail)?;
            let body = body.ok_or_else(|| self.lmdb.corrupt(format!("run {run} has a hole")))?;
            found.extend(facts::of(&self.decode(body)?, from));
        }
        Ok(found)
    }

    /// As of `before`: what later records say is left out, unless a checkpoint has taken it already.
    pub(super) fn summary(&self, run: RunId, before: u64) -> Result<Option<Summary>> {
        let (slices, snapshot) = self.view(self.slices(run))?;
        let stored = self.lmdb.tables.runs.get(&snapshot.txn, &run.to_bytes());
        let mut line = match stored.map_err(self.lmdb.fail("read"))? {
            Some(value) => Some(read_line(&self.lmdb, value)?.summary(run)),
            None => None,
        };
        let patches = slices.iter().flat_map(|slice| &slice.patches);
        patches.filter(|patch| patch.seq < before).for_each(|patch| patch.apply(&mut line));
        Ok(line)
    }

    /// Lines of runs in the tail, as patches by segment.
    fn patches(&self, after: Option<RunId>, before: u64) -> BTreeMap<RunId, Vec<(u64, Patch)>> {
        let mut all: BTreeMap<RunId, Vec<(u64, Patch)>> = BTreeMap::new();
        for segment in self.tail().segments() {
            for (run, part) in &segment.runs {
                if part.patches.is_empty() || after.is_some_and(|after| *run >= after) {
                    continue;
                }
                let patches = part.patches.iter().filter(|patch| patch.seq < before);
                let patches = patches.map(|patch| (segment.file.number, patch.clone()));
                all.entry(*run).or_default().extend(patches);
            }
        }
        all
    }

    pub(super) fn list(&self, filter: &Filter, before: u64) -> Result<Vec<Summary>> {
        let mut patches = self.patches(filter.after, before);
        let snapshot = self.lmdb.read()?;
        let position = self.position(&snapshot)?;
        patches.values_mut().for_each(|list| list.retain(|(segment, _)| *segment >= position));
        let after = filter.after.map(RunId::to_bytes);
        let bound = after.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, bound);
        let fail = self.lmdb.fail("read");
        let mut stored = self.lmdb.tables.runs.rev_range(&snapshot.txn, &range).map_err(&fail)?;
        let mut next_stored = || -> Result<Option<(RunId, &[u8])>> {
            let Some(entry) = stored.next() else { return Ok(None) };
            let (key, value) = entry.map_err(&fail)?;
            let run = key.try_into().map_err(|_| self.lmdb.corrupt("a key of its runs"))?;
            Ok(Some((RunId::from_bytes(run), value)))
        };
        let mut found = Vec::new();
        let mut old = next_stored()?;
        while found.len() < filter.limit {
            // The newer of the two orders goes first; a run in both is one line.
            let newest = patches.last_key_value().map(|(run, _)| *run);
            let Some(run) = newest.max(old.map(|(run, _)| run)) else { break };
            let mut line = None;
            if let Some((_, value)) = old.filter(|(other, _)| *other == run) {
                line = Some(read_line(&self.lmdb, value)?.summary(run));
                old = next_stored()?;
            }
            for (_, patch) in patches.remove(&run).into_iter().flatten() {
                patch.apply(&mut line);
            }
            found.extend(line.filter(|line| filter.shows(line)));
        }
        Ok(found)
    }
}

fn decode_in(file: &SegmentFile, piece: Piece) -> Result<Record> {
    body::read_record(&file.read(piece)?)
        .map_err(|e| error::corrupt_at(&file.path, piece.at, &format!("a record: {e}")))
}

#[cfg(test)]
mod tests {
    use crate::model::{Event, Record, RunId, Timestamp};
    use crate::store::disk::DiskStore;
    use crate::store::{Options, Store};

    #[test]
    fn a_segment_that_moves_between_the_two_views_is_read_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { background: false, map_bytes: 1 << 20, ..Options::default() };
        let store = DiskStore::open(dir.path(), &options).expect("a store");
        let run = RunId::from_u128(1);
        let record = Record { run, seq: 1, at: Timestamp(1), events: vec![Event::RunStarted] };
        store.append(&[record]).expect("an append");
        let left = store.with(|core| {
            let (kept, _) = core.view(core.slices(run))?;
            assert_eq!(kept.len(), 1, "LMDB does not hold it yet");
            let slices = core.slices(run);
            core.seal_active()?;
            core.checkpoint()?;
            let (left, snapshot) = core.view(slices)?;
            assert_eq!(core.stored_records(&snapshot, run)?.len(), 1);
            Ok(left.len())
        });
        assert_eq!(left.expect("no error"), 0, "LMDB holds it now");
    }
}
