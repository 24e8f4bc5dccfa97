//! The pool as the executor sees it: parcels in, reports out through the engine's inbox.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::super::batch;
use super::super::executor::Core;
use super::super::threads;
use super::errand::Errand;
use super::post::Post;
use super::ship::{self, Launch};
use super::supervisor::Supervisor;
use super::{Counts, ProcessOptions};
use crate::agent::{Batch, Outcome, Report, Rung};
use crate::model::{BatchId, Millis, Span};

/// A batch ready to be sent.
pub(super) struct Parcel {
    pub(super) batch: Arc<Batch>,
    /// The calls of it that nobody had taken back.
    pub(super) span: Span,
    pub(super) node: u64,
    /// The frame that makes the node known.
    pub(super) node_frame: Arc<[u8]>,
    pub(super) work_frame: Vec<u8>,
    /// Brings it messages.
    pub(super) post: Option<Arc<Post>>,
}

/// What lies between the executor and its supervisor.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) parcels: Vec<Parcel>,
    /// Batches to be stopped; without a rung: given up.
    pub(super) stops: Vec<(Arc<Batch>, Option<Rung>)>,
    /// Answers to workers' questions: which process, and the frame.
    pub(super) answers: Vec<(i32, Vec<u8>)>,
    pub(super) launch: Option<Arc<Launch>>,
    /// No more will come; workers that still live then are killed.
    pub(super) close_by: Option<Instant>,
    supervisor: Option<(JoinHandle<()>, UnixStream)>,
}

/// The worker processes of one engine. There is no thread and no process before the first batch.
pub(in crate::py) struct Pool {
    pub(super) core: Arc<Core>,
    pub(super) options: ProcessOptions,
    desk: Mutex<Desk>,
    /// The next batch is likely to need a new worker.
    pub(super) starts: AtomicBool,
    pub(super) counts: Counts,
    /// Threads with the GIL.
    threads: OnceLock<Weak<threads::Pool>>,
}

impl Pool {
    pub(in crate::py) fn new(core: Arc<Core>, options: ProcessOptions) -> Arc<Self> {
        Arc::new(Self {
            core,
            options,
            desk: Mutex::default(),
            starts: AtomicBool::new(true),
            counts: Counts::default(),
            threads: OnceLock::new(),
        })
    }

    pub(in crate::py) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Messages for workers are put into bytes by these threads.
    pub(in crate::py) fn deliver_by(&self, threads: &Arc<threads::Pool>) {
        // Told once, when both are made.
        let _ = self.threads.set(Arc::downgrade(threads));
    }

    pub(super) fn has_post(&self, post: Arc<Post>) {
        if let Some(threads) = self.threads.get().and_then(Weak::upgrade) {
            threads.give(threads::Job::Post(post));
        }
    }

    /// A worker asks; a thread with the GIL sees to it. Never blocks.
    pub(super) fn asked(&self, errand: Errand) {
        if let Some(threads) = self.threads.get().and_then(Weak::upgrade) {
            threads.give(threads::Job::Errand(Arc::new(errand)));
        }
    }

    /// Has an answer sent.
    pub(super) fn answer(&self, pid: i32, frame: Vec<u8>) {
        let mut desk = self.desk();
        desk.answers.push((pid, frame));
        ring(&desk);
    }

    /// Puts messages into bytes and has them sent. On a thread with the GIL.
    pub(in crate::py) fn collect(&self, py: Python<'_>, post: &Arc<Post>) {
        post.collect(py, &self.core.mode);
        ring(&self.desk());
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what is left of a batch into bytes and hands it over. On a thread with the GIL.
    pub(in crate::py) fn ship(self: &Arc<Self>, py: Python<'_>, batch: &Arc<Batch>) {
        // Whatever is on its way to a worker is not the engine's to take back any more.
        let Some(span) = batch.take_back() else { return };
        let post = Post::hired(self, batch);
        let parcel = batch::caught(|| ship::parcel(py, &self.core.mode, batch, span, post))
            .unwrap_or_else(|failure| Err(ship::all_fail(span, &failure)));
        let launch = if self.starts.load(Ordering::Relaxed) {
            Some(ship::launch(py, &self.core.mode))
        } else {
            None
        };
        let handed = match (parcel, launch.transpose()) {
            (Ok(parcel), Ok(launch)) => self.hand_over(parcel, launch),
            (Ok(_), Err(failure)) => Err(ship::all_fail(span, &failure)),
            (Err(outcomes), _) => Err(outcomes),
        };
        if let Err(outcomes) = handed {
            self.report(batch.id, span.lo, outcomes);
        }
    }

    pub(super) fn report(&self, batch: BatchId, lo: u32, outcomes: Vec<Outcome>) {
        self.core.reports.report(vec![Report::Done { batch, lo, outcomes, busy_ns: 0 }]);
    }

    fn hand_over(
        self: &Arc<Self>,
        parcel: Parcel,
        launch: Option<Launch>,
    ) -> Result<(), Vec<Outcome>> {
        let mut desk = self.desk();
        if let Some(launch) = launch {
            desk.launch = Some(Arc::new(launch));
        }
        if desk.supervisor.is_none() {
            match Supervisor::start(self) {
                Ok(started) => desk.supervisor = Some(started),
                Err(error) => {
                    drop(desk);
                    let failure =
                        batch::crash(format!("no supervisor of workers could be started: {error}"));
                    return Err(ship::all_fail(parcel.span, &failure));
                }
            }
        }
        desk.parcels.push(parcel);
        ring(&desk);
        Ok(())
    }

    /// Stops the calls of a batch: the agent is asked, and killed with its process after a grace.
    pub(in crate::py) fn abandon(&self, batch: &Arc<Batch>) {
        self.stop(batch, None);
    }

    /// The batch's run was cancelled: asks the call under way to stop.
    pub(in crate::py) fn cancel(&self, batch: &Arc<Batch>, rung: Rung) {
        self.stop(batch, Some(rung));
    }

    fn stop(&self, batch: &Arc<Batch>, rung: Option<Rung>) {
        let mut desk = self.desk();
        desk.stops.push((Arc::clone(batch), rung));
        ring(&desk);
    }

    /// Ends all workers: whoever is not gone after `grace` is killed. Waits until all are gone.
    pub(in crate::py) fn close(&self, grace: Millis) {
        let supervisor = {
            let mut desk = self.desk();
            desk.close_by = Some(Instant::now() + Duration::from_millis(grace));
            ring(&desk);
            desk.supervisor.take()
        };
        if let Some((thread, bell)) = supervisor {
            // A panic of the supervisor has ended its workers: they die with their socket.
            let _ = thread.join();
            drop(bell);
        }
    }
}

fn ring(desk: &Desk) {
    if let Some((_, bell)) = &desk.supervisor {
        // A full socket has rung often enough.
        let _ = (&*bell).write(&[1]);
    }
}

/// The queue of parcels that wait for a worker.
pub(super) type Queue = VecDeque<Parcel>;
