//! The way to the event loop from threads without the GIL: a queue, and a bell that the loop hears.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::batch;
use super::executor::Core;
use super::incidents::Incident;
use super::sight::Equipped;
use super::threads::Pool;
use crate::agent::Batch;
use crate::model::{Failure, Span};

/// Two ends that the loop can select on.
#[cfg(unix)]
mod line {
    use std::io;
    use std::os::fd::AsRawFd;
    pub(in crate::py) use std::os::unix::net::UnixStream as Line;

    pub(super) fn pair() -> io::Result<(Line, Line)> {
        Line::pair()
    }
    pub(in crate::py) fn number(line: &Line) -> i64 {
        line.as_raw_fd().into()
    }
}

/// Two ends that the loop can select on; Windows selects on sockets of the network only.
#[cfg(windows)]
mod line {
    use std::io;
    use std::net::TcpListener;
    pub(in crate::py) use std::net::TcpStream as Line;
    use std::os::windows::io::AsRawSocket;

    pub(super) fn pair() -> io::Result<(Line, Line)> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let bell = Line::connect(listener.local_addr()?)?;
        loop {
            let (ear, from) = listener.accept()?;
            // Somebody else may have called first.
            if from == bell.local_addr()? {
                return Ok((ear, bell));
            }
        }
    }
    pub(in crate::py) fn number(line: &Line) -> i64 {
        line.as_raw_socket() as i64
    }
}

pub(super) use line::{Line, number};

/// What the loop is told.
pub(super) enum Feed {
    Start(Arc<Batch>, Arc<Core>),
    Cancel(Arc<Batch>, Span),
    /// The executor closes: cancel all it has.
    Release(Arc<Core>),
}

/// What the watchdog looks at in this process.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) pools: Mutex<Vec<Weak<Pool>>>,
    pub(super) equipped: Mutex<Option<Equipped>>,
    pub(super) incidents: Mutex<VecDeque<Incident>>,
}

pub(super) struct Mailbox {
    queue: Mutex<Vec<Feed>>,
    /// True while the loop knows that there is news.
    rung: AtomicBool,
    /// The watchdog has asked whether the loop goes round, and has had no answer.
    asked: AtomicBool,
    /// Somebody was asked to start the loop.
    started: AtomicBool,
    /// The loop's ear and our bell; the error is told to whoever starts the loop.
    pub(super) bell: Result<(Line, Line), String>,
    /// What the watchdog looks at. Here, so that a forked child begins with none of it.
    pub(super) watched: Watched,
    /// The mailbox of a forked child.
    next: OnceLock<Box<Mailbox>>,
}

impl Mailbox {
    fn new() -> Self {
        let pair = || -> std::io::Result<(Line, Line)> {
            let (ear, bell) = line::pair()?;
            ear.set_nonblocking(true)?;
            bell.set_nonblocking(true)?;
            Ok((ear, bell))
        };
        Self {
            queue: Mutex::default(),
            rung: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            started: AtomicBool::new(false),
            bell: pair().map_err(|error| error.to_string()),
            watched: Watched::default(),
            next: OnceLock::new(),
        }
    }

    /// Asks whether the loop goes round; it answers when it is silenced.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn is_answered(&self) -> bool {
        !self.asked.load(Ordering::Acquire)
    }

    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Ok((_, bell)) = &self.bell
        {
            // A full socket has rung often enough.
            let _ = (&*bell).write(&[1]);
        }
    }

    /// From now on news ring again; called before the queue is taken.
    pub(super) fn silence(&self) {
        self.asked.store(false, Ordering::Release);
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
    mailbox.ring();
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
