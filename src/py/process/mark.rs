//! The call under way, noted in memory that outlives the worker.
//!
//! Both processes map one page of a file of RAM: a call costs a few stores, nobody is woken, and when the
//! worker is dead the guilty call is still there to be read. What a call tells with a heartbeat lies behind the
//! page, written and read as a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::time::{ClockId, clock_gettime};

use crate::agent::Gauge;
use crate::model::{BatchId, Millis};

/// Bytes that are mapped.
const PAGE: usize = 4_096;
/// What a call tells with a heartbeat is bounded where it is told; more than this is not ours.
const DETAILS_MAX: usize = 64 << 10;

/// What stands in the page. Only the worker writes.
#[derive(Default)]
#[repr(C)]
struct Words {
    batch: AtomicU64,
    /// The call that began last: its child plus 1 in the low half, when it began in the high half (the low half
    /// of the milliseconds). One word, so that a death leaves no half of it. 0: none of this batch.
    call: AtomicU64,
    /// When it gave its latest sign of life; 0: none yet.
    beat: AtomicU64,
    /// Length of what it told then.
    told: AtomicU64,
}

/// A mapping of the words.
struct Page(NonNull<Words>);

// SAFETY: what it points to is atomics, which threads may share, and stays mapped while there is a `Page`.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn of(file: &File) -> io::Result<Self> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a mapping of its own, wherever the kernel has room. The file is longer than that, and sealed
        // against getting shorter.
        let at = unsafe { mmap(ptr::null_mut(), PAGE, access, flags, file, 0)? };
        NonNull::new(at.cast()).map(Self).ok_or_else(|| io::Error::other("mapped at address 0"))
    }

    fn words(&self) -> &Words {
        // SAFETY: mapped until `self` is dropped, aligned to a page; any bytes are atomics, and both processes
        // touch them as such.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: `of` mapped it, and whoever borrowed the words borrowed `self`.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), PAGE) };
    }
}

pub(super) struct Mark {
    file: File,
    page: Page,
}

/// Milliseconds of a clock that all processes of the machine share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

impl Mark {
    pub(super) fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create(c"goclaw-mark", flags)?);
        file.set_len((PAGE + DETAILS_MAX) as u64)?;
        // An agent that cuts the file would kill both processes by that.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::received(file)
    }
    pub(super) fn received(file: File) -> io::Result<Self> {
        Ok(Self { page: Page::of(&file)?, file })
    }
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The words, where they are of that batch.
    fn of(&self, batch: BatchId) -> Option<&Words> {
        Some(self.page.words()).filter(|words| words.batch.load(Ordering::Acquire) == batch.0)
    }

    /// The call of that batch that began last, and when (the low half of the milliseconds).
    fn call(&self, batch: BatchId) -> Option<(u32, u32)> {
        let call = self.of(batch)?.call.load(Ordering::Acquire);
        // Still of that batch: what was read belongs to it.
        self.of(batch)?;
        Some(((call as u32).checked_sub(1)?, (call >> 32) as u32))
    }

    pub(super) fn last_begun(&self, batch: BatchId) -> Option<u32> {
        self.call(batch).map(|(child, _)| child)
    }
}

impl Gauge for Mark {
    fn begin(&self, batch: BatchId, index: u32) {
        let words = self.page.words();
        if words.batch.load(Ordering::Relaxed) != batch.0 {
            // In this order, so that nobody takes a call of the last batch for one of this.
            words.call.store(0, Ordering::Release);
            words.batch.store(batch.0, Ordering::Release);
        }
        words.beat.store(0, Ordering::Relaxed);
        words.told.store(0, Ordering::Relaxed);
        let began = u64::from(now() as u32);
        words.call.store((began << 32) | u64::from(index + 1), Ordering::Release);
    }

    fn under_way(&self, batch: BatchId) -> Option<(u32, Millis)> {
        let (child, began) = self.call(batch)?;
        Some((child, u64::from((now() as u32).wrapping_sub(began))))
    }

    fn beat(&self, batch: BatchId, details: Option<&str>) {
        // A sign of a call that has ended says nothing about the one under way.
        let Some(words) = self.of(batch) else { return };
        if let Some(details) = details {
            // An agent that closed all files ends its worker by that; there is nobody to tell.
            let _ = self.file.write_all_at(details.as_bytes(), PAGE as u64);
            words.told.store(details.len() as u64, Ordering::Release);
        }
        words.beat.store(now(), Ordering::Release);
    }

    fn silent_for(&self, batch: BatchId) -> Option<Millis> {
        let beat = self.of(batch)?.beat.load(Ordering::Acquire);
        (beat > 0).then(|| now().saturating_sub(beat))
    }

    fn details(&self, batch: BatchId) -> Option<Arc<str>> {
        let len = usize::try_from(self.of(batch)?.told.load(Ordering::Acquire)).ok()?;
        let mut bytes = vec![0; len.min(DETAILS_MAX)];
        self.file.read_exact_at(&mut bytes, PAGE as u64).ok()?;
        // Read while it was written it may be cut: it is for people.
        (len > 0).then(|| String::from_utf8_lossy(&bytes).into())
    }
}
