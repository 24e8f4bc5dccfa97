//! Segment files ready for use: zeroed ahead of need, recycled after their checkpoint.
//!
//! Appending to a file that is long enough already costs one `fdatasync` and no metadata. A recycled
//! file keeps its old bytes: frames know their segment's number, so they mean nothing in the new one.

use std::path::PathBuf;
use std::sync::Arc;

use super::files::Files;
use super::segment::SegmentFile;
use super::{error, layout};
use crate::model::Result;

/// Segments of a store that has seen little are this long.
const FIRST_BYTES: u64 = 4 << 20;
/// Offsets inside a segment have 32 bits.
const SEGMENT_MAX: u64 = 1 << 31;
/// Files are multiples of this.
const PAGE: u64 = 4096;
/// Checkpointed files that are kept for reuse.
const SPARES_MAX: usize = 2;

/// Makes, keeps and recycles segment files.
pub(super) struct Stock {
    pub dir: PathBuf,
    pub files: Files,
    pub segment_bytes: u64,
    ready: Option<SegmentFile>,
    /// The highest number that was given out.
    taken: Option<u64>,
    /// Checkpointed; a reader may still hold one.
    spares: Vec<Arc<SegmentFile>>,
}

impl Stock {
    pub(super) fn new(dir: PathBuf, files: Files, segment_bytes: u64) -> Self {
        let segment_bytes = segment_bytes.clamp(PAGE, SEGMENT_MAX).next_multiple_of(PAGE);
        Self { dir, files, segment_bytes, ready: None, taken: None, spares: Vec::new() }
    }

    /// The first number that no file was given.
    pub(super) fn unused(&self) -> u64 {
        let ready = self.ready.as_ref().map(|ready| ready.number);
        self.taken.max(ready).map_or(0, |last| last + 1)
    }

    /// The file for segment `number`, at least `need` bytes long (`None`: of any length).
    ///
    /// # Errors
    /// `store.full`, `store.io`; nothing is lost then and the call may be repeated.
    pub(super) fn take(&mut self, number: u64, need: Option<u64>) -> Result<SegmentFile> {
        let mut file = match need {
            Some(_) => {
                self.prepare(number)?;
                self.ready.take().expect("just prepared")
            }
            None => self.any(number)?,
        };
        if let Err(e) = self.lengthen(&mut file, need.unwrap_or(0)) {
            self.ready = Some(file);
            return Err(e);
        }
        self.taken = Some(number);
        Ok(file)
    }

    /// A file of any length, so that small and quiet stores stay small.
    fn any(&mut self, number: u64) -> Result<SegmentFile> {
        if self.ready.as_ref().is_some_and(|ready| ready.number == number) {
            return Ok(self.ready.take().expect("just seen"));
        }
        match self.spare(|_| true) {
            Some(spare) => self.recycle(spare, number),
            None => self.make(number, FIRST_BYTES.min(self.segment_bytes)),
        }
    }

    /// Has a file ready for segment `number`. One that was given out already is left alone: the owner
    /// may be ahead of the thread that prepares.
    pub(super) fn prepare(&mut self, number: u64) -> Result<()> {
        if self.taken >= Some(number)
            || self.ready.as_ref().is_some_and(|ready| ready.number == number)
        {
            return Ok(());
        }
        let len = self.segment_bytes;
        let spare = self.ready.take().or_else(|| self.spare(|spare| spare.capacity == len));
        let file = match spare {
            Some(spare) => self.recycle(spare, number)?,
            None => self.make(number, len)?,
        };
        self.ready = Some(file);
        Ok(())
    }

    /// A spare that nobody reads any more.
    fn spare(&mut self, fits: impl Fn(&SegmentFile) -> bool) -> Option<SegmentFile> {
        let free = |spare: &Arc<SegmentFile>| fits(spare) && Arc::strong_count(spare) == 1;
        let at = self.spares.iter().position(free)?;
        match Arc::try_unwrap(self.spares.swap_remove(at)) {
            Ok(spare) => Some(spare),
            Err(shared) => {
                self.spares.push(shared);
                None
            }
        }
    }

    fn make(&self, number: u64, len: u64) -> Result<SegmentFile> {
        let path = self.dir.join(layout::segment_name(number));
        let half = path.with_extension("tmp");
        let made = || {
            let file = self.files.create(&half)?;
            self.files.zero(&file, 0, len)?;
            self.files.sync_all(&file)?;
            self.files.rename(&half, &path)?;
            self.files.sync_dir(&self.dir)?;
            Ok(file)
        };
        let file = made().map_err(|e| {
            // A half-made file would keep space that others need more.
            let _ = std::fs::remove_file(&half);
            error::io("make", &path, &e)
        })?;
        Ok(SegmentFile { number, path, file, capacity: len })
    }

    fn recycle(&mut self, old: SegmentFile, number: u64) -> Result<SegmentFile> {
        let path = self.dir.join(layout::segment_name(number));
        let renamed = self.files.rename(&old.path, &path);
        if let Err(e) = renamed {
            self.spares.push(Arc::new(old));
            return Err(error::io("make", &path, &e));
        }
        let file = SegmentFile { number, path, ..old };
        if let Err(e) = self.files.sync_dir(&self.dir) {
            let failure = error::io("make", &file.path, &e);
            self.spares.push(Arc::new(file));
            return Err(failure);
        }
        Ok(file)
    }

    /// Makes a file longer for a batch that no ordinary segment holds.
    pub(super) fn lengthen(&self, file: &mut SegmentFile, need: u64) -> Result<()> {
        let len = need.next_multiple_of(PAGE);
        if len <= file.capacity {
            return Ok(());
        }
        self.files
            .zero(&file.file, file.capacity, len)
            .and_then(|()| self.files.sync_all(&file.file))
            .map_err(|e| error::io("make room in", &file.path, &e))?;
        file.capacity = len;
        Ok(())
    }

    /// Takes back a file whose records are in LMDB.
    pub(super) fn retire(&mut self, file: Arc<SegmentFile>) -> Result<()> {
        self.spares.push(file);
        self.tidy()
    }

    /// Deletes spares that are too many or of an odd length; one is kept whatever its length.
    fn tidy(&mut self) -> Result<()> {
        while self.spares.len() > 1 {
            let odd = self.spares.iter().position(|spare| spare.capacity != self.segment_bytes);
            let Some(at) = odd.or((self.spares.len() > SPARES_MAX).then_some(0)) else { break };
            let path = self.spares[at].path.clone();
            self.files.remove(&path).map_err(|e| error::io("delete", &path, &e))?;
            self.spares.swap_remove(at);
        }
        Ok(())
    }
}
