//! The way to the event loop from threads without the GIL: a queue, and a bell that the loop hears.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use super::batch;
use super::executor::Core;
use crate::agent::Batch;
use crate::model::{Failure, Span};

/// What the loop is told.
pub(super) enum Feed {
    Start(Arc<Batch>, Arc<Core>),
    Cancel(Arc<Batch>, Span),
    /// The executor closes: cancel all it has.
    Release(Arc<Core>),
}

pub(super) struct Mailbox {
    queue: Mutex<Vec<Feed>>,
    /// True while the loop knows that there is news.
    rung: AtomicBool,
    /// Somebody was asked to start the loop.
    started: AtomicBool,
    /// The loop's ear and our bell; the error is told to whoever starts the loop.
    pub(super) bell: Result<(UnixStream, UnixStream), String>,
    /// The mailbox of a forked child.
    next: OnceLock<Box<Mailbox>>,
}

impl Mailbox {
    fn new() -> Self {
        let pair = || -> std::io::Result<(UnixStream, UnixStream)> {
            let (ear, bell) = UnixStream::pair()?;
            ear.set_nonblocking(true)?;
            bell.set_nonblocking(true)?;
            Ok((ear, bell))
        };
        Self {
            queue: Mutex::default(),
            rung: AtomicBool::new(false),
            started: AtomicBool::new(false),
            bell: pair().map_err(|error| error.to_string()),
            next: OnceLock::new(),
        }
    }

    /// From now on news ring again; called before the queue is taken.
    pub(super) fn silence(&self) {
        self.rung.store(false, Ordering::Release);
    }

    pub(super) fn take(&self) -> Vec<Feed> {
        std::mem::take(&mut *self.queue())
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Feed>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static FIRST: LazyLock<Mailbox> = LazyLock::new(Mailbox::new);
/// Forks between the process of `FIRST` and this one.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// The mailbox of this process. A forked child has neither its parent's loop nor the right to ring its
/// bell, and the parent's locks may be held for ever; so it gets one of its own.
pub(super) fn mailbox() -> &'static Mailbox {
    let mut own = &*FIRST;
    for _ in 0..FORKS.load(Ordering::Relaxed) {
        own = own.next.get_or_init(|| Box::new(Mailbox::new()));
    }
    own
}

/// Tells the loop. True when the caller is to see to it that the loop is started.
pub(super) fn feed(news: Feed) -> bool {
    let mailbox = mailbox();
    let starts = matches!(news, Feed::Start(..));
    if !starts && !mailbox.started.load(Ordering::Acquire) {
        return false;
    }
    mailbox.queue().push(news);
    if !mailbox.rung.swap(true, Ordering::AcqRel)
        && let Ok((_, bell)) = &mailbox.bell
    {
        // A full socket has rung often enough.
        let _ = (&*bell).write(&[1]);
    }
    !mailbox.started.swap(true, Ordering::AcqRel)
}

/// Called in a forked child.
pub(super) fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// There is no loop: what waits for it fails.
pub(super) fn refuse(failure: &Failure) {
    let mailbox = mailbox();
    mailbox.started.store(false, Ordering::Release);
    mailbox.silence();
    for news in mailbox.take() {
        if let Feed::Start(batch, core) = news {
            batch::fail(&core, &batch, failure);
            core.loop_batches.fetch_sub(1, Ordering::Release);
        }
    }
}
