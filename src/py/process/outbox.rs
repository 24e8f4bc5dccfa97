//! The worker's mouth: frames go out at once where the socket takes them, else by a thread that waits.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Signal, getpgrp, getpid, kill_process, kill_process_group};

use crate::agent::wire::{News, seal};
use crate::agent::{Outcome, Report, Reports};
use crate::model::{Failure, FailureKind};

/// What a worker says that ends itself.
pub(super) const LAST_WORDS: &str = "goclaw: the worker process ends:";
pub(super) const ENGINE_GONE: &str = "the engine is gone";
pub(super) const SOCKET_GONE: &str = "an agent closed the socket to the engine";

pub(super) struct Outbox {
    socket: Arc<UnixStream>,
    /// What the socket did not take at once; not empty while the thread sends.
    waiting: Mutex<Vec<u8>>,
    more: Condvar,
    pid: Pid,
}

/// Ends this process now: no handler, no clean-up, nobody waits. `why` is heard where somebody listens.
pub(super) fn die(why: &str) -> ! {
    let _ = writeln!(std::io::stderr(), "{LAST_WORDS} {why}");
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

/// Ends this process since the engine is gone, with all that its agents have started: nobody else can.
pub(super) fn die_with_all() -> ! {
    // Only where the worker leads its group: nobody else's processes are in it.
    if getpgrp() == getpid() {
        let _ = kill_process_group(getpid(), Signal::KILL);
    }
    die(ENGINE_GONE)
}

/// Ends this process where its socket is of no use: since the engine is gone, or an agent closed it.
pub(super) fn hung_up(error: Errno) -> ! {
    match error {
        // A dead engine with unread bytes resets; one that is sent to breaks the pipe.
        Errno::CONNRESET | Errno::PIPE => die_with_all(),
        _ => die(SOCKET_GONE),
    }
}

impl Outbox {
    pub(super) fn new(socket: Arc<UnixStream>) -> std::io::Result<Arc<Self>> {
        let pid = getpid();
        let outbox =
            Arc::new(Self { socket, waiting: Mutex::default(), more: Condvar::new(), pid });
        let own = Arc::clone(&outbox);
        thread::Builder::new().name("goclaw-out".into()).spawn(move || own.send_waiting())?;
        Ok(outbox)
    }

    /// Sends; never waits.
    pub(super) fn tell(&self, news: &News) {
        if getpid() != self.pid {
            // It has no business here.
            die("a child that an agent forked came back from the agent");
        }
        let bytes = match seal(news) {
            Ok(bytes) => bytes,
            Err(_) => return,
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = if waiting.is_empty() { self.send_now(&bytes) } else { 0 };
        if sent < bytes.len() {
            waiting.extend_from_slice(&bytes[sent..]);
            self.more.notify_one();
        }
    }

    fn send_now(&self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match send(&*self.socket, &bytes[sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => hung_up(error),
            }
        }
        sent
    }

    fn send_waiting(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while waiting.is_empty() {
                waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            // A copy of the head stays in `waiting` until it is sent, so that nobody overtakes it.
            let head: Vec<u8> = waiting[..waiting.len().min(1 << 20)].to_vec();
            drop(waiting);
            let mut sent = 0;
            while sent < head.len() {
                match send(&*self.socket, &head[sent..], SendFlags::NOSIGNAL) {
                    Ok(n) => sent += n,
                    Err(Errno::INTR) => {}
                    Err(error) => hung_up(error),
                }
            }
            waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..sent);
        }
    }
}

impl Reports for Outbox {
    fn report(&self, mut reports: Vec<Report>) {
        for report in &mut reports {
            if let Report::Done { outcomes, .. } = report {
                outcomes.iter_mut().for_each(bare);
            }
        }
        self.tell(&News::Reports(reports));
    }
}

/// A result that is no bytes would make the whole frame unsendable.
fn bare(outcome: &mut Outcome) {
    if let Outcome::Completed(crate::model::Payload::Object(_)) = outcome {
        let message = "the result is a live object";
        let failure = Failure::new(FailureKind::Payload, "payload.unsupported", message);
        *outcome = Outcome::Failed(Box::new(failure));
    }
}
