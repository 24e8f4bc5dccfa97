//! One worker process as its supervisor sees it: a socket, two streams of output, a life to end.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid,
};

use super::death::Death;
use super::lines::Lines;
use super::mark::Mark;
use super::pool::Parcel;
use super::post::Post;
use super::ship::Launch;
use crate::agent::Batch;
use crate::agent::wire::{Framer, NODES_KEPT, News, Order, seal};
use crate::model::{BatchId, Span};

/// Reads from one worker in a turn; the others wait meanwhile.
const READS_MAX: usize = 16;

/// The batch that a worker has.
pub(super) struct Running {
    pub(super) batch: Arc<Batch>,
    pub(super) len: u32,
    /// Calls without an outcome.
    pub(super) open: Vec<Span>,
    /// The call was asked to stop: that it dies is no crash.
    pub(super) stopping: bool,
    pub(super) abandoned: bool,
    pub(super) post: Option<Arc<Post>>,
}

pub(super) struct Worker {
    child: Child,
    pub(super) pid: Pid,
    pub(super) socket: UnixStream,
    framer: Framer,
    /// What the socket did not take yet.
    out: VecDeque<u8>,
    pub(super) stdout: Lines<ChildStdout>,
    pub(super) stderr: Lines<ChildStderr>,
    pub(super) mark: Arc<Mark>,
    /// The call whose words are being heard: of a batch, the one that began last.
    pub(super) heard: Option<(BatchId, Option<u32>)>,
    known: VecDeque<u64>,
    pub(super) ready: bool,
    /// It gets no more work and was asked to end.
    pub(super) retiring: bool,
    pub(super) running: Option<Running>,
    /// Calls that it had.
    pub(super) calls: u64,
    pub(super) rested: Instant,
    /// When it is killed unless something happens before.
    pub(super) kill_at: Option<Instant>,
    /// Since when its socket is closed.
    pub(super) gone: Option<Instant>,
    pub(super) cause: Option<Death>,
    /// It was killed for not ending when it was to.
    pub(super) killed: bool,
    pub(super) name: String,
}

impl Worker {
    pub(super) fn start(launch: &Launch) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mark = Mark::new()?;
        let mut child = Command::new(&launch.program)
            .args(&launch.args)
            // The one descriptor that a child gets without `unsafe`; it moves it out of the way.
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at the terminal is for the engine, which ends its workers in order.
            .process_group(0)
            .spawn()?;
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        let mut worker = Self {
            pid: Pid::from_child(&child),
            child,
            socket: ours,
            framer: Framer::default(),
            out: VecDeque::new(),
            stdout: Lines::new(stdout),
            stderr: Lines::new(stderr),
            mark: Arc::new(mark),
            heard: None,
            known: VecDeque::new(),
            ready: false,
            retiring: false,
            running: None,
            calls: 0,
            rested: Instant::now(),
            kill_at: None,
            gone: None,
            cause: None,
            killed: false,
            name: String::new(),
        };
        if let Err(error) = worker.prepare(launch) {
            worker.kill();
            let _ = worker.child.wait();
            return Err(error);
        }
        Ok(worker)
    }

    /// Nothing of the worker may block the supervisor; then the first frame, with the mark's file.
    fn prepare(&mut self, launch: &Launch) -> io::Result<()> {
        self.socket.set_nonblocking(true)?;
        rustix::io::ioctl_fionbio(&self.stdout.source, true)?;
        rustix::io::ioctl_fionbio(&self.stderr.source, true)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [self.mark.file().as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&files));
        let bytes = &launch.first_frame;
        let sent =
            sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        self.out.extend(&bytes[sent..]);
        Ok(())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.ready && self.running.is_none() && !self.retiring && self.gone.is_none()
    }

    /// Gives it a batch.
    pub(super) fn hand(&mut self, parcel: Parcel) {
        if !self.known.contains(&parcel.node) {
            self.write(&parcel.node_frame);
            self.known.push_back(parcel.node);
            if self.known.len() > NODES_KEPT {
                self.known.pop_front();
            }
        }
        self.write(&parcel.work_frame);
        parcel.batch.measure(Arc::clone(&self.mark) as _);
        self.name = parcel.batch.name(parcel.span.lo);
        self.running = Some(Running {
            batch: parcel.batch,
            len: parcel.span.len,
            open: vec![parcel.span],
            stopping: false,
            abandoned: false,
            post: parcel.post,
        });
    }

    /// Sends the messages that there are for its batch.
    pub(super) fn deliver(&mut self) {
        let Some(running) = &self.running else { return };
        let Some(post) = &running.post else { return };
        let (batch, (put, withdrawn)) = (running.batch.id.0, post.take());
        if !put.is_empty() || !withdrawn.is_empty() {
            self.order(&Order::Letters { batch, put, withdrawn });
        }
    }

    pub(super) fn order(&mut self, order: &Order) {
        let bytes = seal(order).expect("small orders hold no objects");
        self.write(&bytes);
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.out.extend(bytes);
        self.flush();
    }

    pub(super) fn has_more_to_say(&self) -> bool {
        !self.out.is_empty()
    }

    /// Writes what the socket takes. Errors are noticed by reading.
    pub(super) fn flush(&mut self) {
        while !self.out.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&self.socket, self.out.as_slices().0, flags) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => return self.out.clear(),
            }
        }
    }

    /// Reads what came, by way of `bytes`.
    pub(super) fn read(&mut self, now: Instant, bytes: &mut [u8]) -> Vec<News> {
        let mut news = Vec::new();
        for _ in 0..READS_MAX {
            match (&self.socket).read(bytes) {
                Ok(0) => {
                    self.gone.get_or_insert(now);
                    break;
                }
                Ok(n) => self.framer.feed(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.gone.get_or_insert(now);
                    break;
                }
            }
            loop {
                match self.framer.take() {
                    Ok(Some(one)) => news.push(one),
                    Ok(None) => break,
                    Err(error) => {
                        self.end(Death::Nonsense(error));
                        return news;
                    }
                }
            }
        }
        news
    }

    /// Asks it to end; after `until` it is killed.
    pub(super) fn retire(&mut self, until: Instant) {
        if !self.retiring {
            self.retiring = true;
            self.order(&Order::Close);
        }
        self.kill_at = Some(self.kill_at.map_or(until, |at| at.min(until)));
    }

    /// Kills it for a reason that its exit status does not tell.
    pub(super) fn end(&mut self, cause: Death) {
        self.cause.get_or_insert(cause);
        self.killed = true;
        self.gone.get_or_insert_with(Instant::now);
        self.kill();
    }

    /// Kills it and what it started, save what has gone into a session of its own.
    pub(super) fn kill(&self) {
        // Not reaped yet, so the number is still its own.
        let _ = kill_process_group(self.pid, Signal::KILL);
    }

    /// How it ended, if it has; it is not reaped by that.
    pub(super) fn fate(&self) -> Option<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid), options).ok().flatten()
    }

    /// The last of a worker that is dead: its processes, and its place in the system's table.
    pub(super) fn bury(mut self) {
        self.kill();
        let _ = self.child.wait();
    }

    /// Resident bytes, where the system says.
    pub(super) fn rss(&self) -> Option<u64> {
        let path = format!("/proc/{}/statm", self.pid.as_raw_nonzero());
        let pages: u64 = std::fs::read_to_string(path).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}
