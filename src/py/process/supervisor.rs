//! The thread that starts, feeds, watches and buries worker processes. It never needs the GIL.
//!
//! Workers are told by the kernel to die with this thread, so it lives as long as the engine.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::batch::is_stopping;
use super::super::logging;
use super::death::Death;
use super::errand::Errand;
use super::pool::{Pool, Queue};
use super::ship::Launch;
use super::worker::{Running, Worker};
use crate::agent::wire::{News, Order, settle};
use crate::agent::{Outcome, Report};
use crate::model::{Span, Stats};

/// How often workers are looked after that say nothing: one whose child holds its socket open dies
/// without a word.
const TICK: Duration = Duration::from_millis(200);
/// How long a worker that closed its socket has to be dead.
const GONE_MAX: Duration = Duration::from_millis(200);
/// How often somebody is looked after who is to be dead soon.
const SOON: Duration = Duration::from_millis(5);
/// How long a worker has from its start to its first word.
const START_MAX: Duration = Duration::from_secs(60);

const READ_BYTES: usize = 64 << 10;

/// Where news came from.
#[derive(Clone, Copy)]
enum Source {
    Bell,
    Socket(usize),
    Stdout(usize),
    Stderr(usize),
}

pub(super) struct Supervisor {
    pool: Arc<Pool>,
    ear: UnixStream,
    workers: Vec<Worker>,
    queue: Queue,
    launch: Option<Arc<Launch>>,
    close_by: Option<Instant>,
    looked: Instant,
    /// What is read at once.
    bytes: Vec<u8>,
}

impl Supervisor {
    /// Starts the thread; answers with the bell that wakes it.
    pub(super) fn start(pool: &Arc<Pool>) -> io::Result<(JoinHandle<()>, UnixStream)> {
        let (ear, bell) = UnixStream::pair()?;
        ear.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        let supervisor = Self {
            pool: Arc::clone(pool),
            ear,
            workers: Vec::new(),
            queue: Queue::new(),
            launch: None,
            close_by: None,
            looked: Instant::now(),
            bytes: vec![0; READ_BYTES],
        };
        let thread = thread::Builder::new().name("goclaw-procs".into());
        Ok((thread.spawn(move || supervisor.run())?, bell))
    }

    fn run(mut self) {
        loop {
            self.take_orders();
            // The dead first: their places are free for what waits.
            self.look_after(Instant::now());
            self.assign();
            self.workers.iter_mut().for_each(Worker::deliver);
            if self.close_by.is_some() && self.workers.is_empty() {
                return;
            }
            self.listen();
        }
    }

    fn take_orders(&mut self) {
        let (parcels, stops, answers, launch, close_by) = {
            let mut desk = self.pool.desk();
            let parcels = std::mem::take(&mut desk.parcels);
            let (stops, answers) =
                (std::mem::take(&mut desk.stops), std::mem::take(&mut desk.answers));
            (parcels, stops, answers, desk.launch.clone(), desk.close_by)
        };
        for (pid, frame) in answers {
            let of = |worker: &&mut Worker| worker.pid.as_raw_nonzero().get() == pid;
            if let Some(worker) = self.workers.iter_mut().find(of) {
                worker.write(&frame);
            }
        }
        self.launch = launch;
        self.queue.extend(parcels);
        let kill_at = Instant::now() + self.pool.options.grace();
        for (batch, rung) in stops {
            for worker in &mut self.workers {
                if let Some(running) = &mut worker.running
                    && Arc::ptr_eq(&running.batch, &batch)
                    && !running.abandoned
                {
                    let batch = batch.id.0;
                    running.stopping = true;
                    running.abandoned = rung.is_none();
                    worker.order(&match rung {
                        Some(rung) => Order::Cancel { batch, rung },
                        None => Order::Abandon { batch },
                    });
                    if rung.is_none() {
                        worker.kill_at = Some(kill_at);
                    }
                }
            }
        }
        if let (Some(until), None) = (close_by, self.close_by) {
            self.close_by = Some(until);
            self.queue.clear();
            self.workers.iter_mut().for_each(|worker| worker.retire(until));
        }
    }

    /// Gives waiting batches to idle workers, the one that rested last first, and starts more.
    fn assign(&mut self) {
        while let Some(parcel) = self.queue.pop_front() {
            if is_stopping(&parcel.batch) {
                self.give_back(&[parcel.span], parcel.batch.id);
                continue;
            }
            let idle = self.workers.iter_mut().filter(|worker| worker.is_idle());
            match idle.max_by_key(|worker| worker.rested) {
                Some(worker) => worker.hand(parcel),
                None => {
                    self.queue.push_front(parcel);
                    break;
                }
            }
        }
        let starting = self.workers.iter().filter(|worker| !worker.ready).count();
        let live = self.workers.iter().filter(|worker| !worker.retiring).count();
        let room = self.pool.options.max_workers.saturating_sub(live);
        for _ in 0..self.queue.len().saturating_sub(starting).min(room) {
            self.start_worker();
        }
        let live = self.workers.iter().filter(|worker| !worker.retiring).count();
        let idle = self.workers.iter().any(Worker::is_idle);
        self.pool.starts.store(!idle && live < self.pool.options.max_workers, Ordering::Relaxed);
    }

    fn start_worker(&mut self) {
        let Some(launch) = self.launch.clone() else { return };
        match Worker::start(&launch) {
            Ok(mut worker) => {
                worker.kill_at = Some(Instant::now() + START_MAX);
                Stats::add(&self.pool.counts.started, 1);
                Stats::add(&self.pool.counts.live, 1);
                self.workers.push(worker);
            }
            Err(error) => self.charge_start(&Death::NotStarted(error.to_string()), None, ""),
        }
    }

    /// A worker that never came up costs the batch at the head a crash: nobody starts workers for ever.
    fn charge_start(&mut self, death: &Death, pid: Option<i32>, last_words: &str) {
        let Some(parcel) = self.queue.pop_front() else { return };
        let (first, rest) = parcel.span.split_at(1);
        let failure = death.failure(pid, &parcel.batch.name(first.lo), last_words);
        self.pool.report(parcel.batch.id, first.lo, vec![Outcome::Crashed(failure)]);
        self.give_back(rest.as_slice(), parcel.batch.id);
    }

    fn give_back(&self, spans: &[Span], batch: crate::model::BatchId) {
        for span in spans {
            let outcomes = (0..span.len).map(|_| Outcome::Returned).collect();
            self.pool.report(batch, span.lo, outcomes);
        }
    }

    /// Waits for news and takes them.
    fn listen(&mut self) {
        let now = Instant::now();
        let (mut fds, sources) = self.sources();
        let wait = self.patience(now);
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        if poll(&mut fds, Some(&wait)).is_err() {
            return;
        }
        let heard: Vec<_> = fds
            .iter()
            .zip(sources)
            .filter(|(fd, _)| !fd.revents().is_empty())
            .map(|(fd, source)| (fd.revents(), source))
            .collect();
        drop(fds);
        let now = Instant::now();
        for (events, source) in heard {
            match source {
                Source::Bell => {
                    let mut bytes = [0; 64];
                    while matches!((&self.ear).read(&mut bytes), Ok(64)) {}
                }
                Source::Socket(at) => {
                    if events.contains(PollFlags::OUT) {
                        self.workers[at].flush();
                    }
                    if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                        self.hear(at, now);
                    }
                }
                Source::Stdout(at) => self.workers[at].pump_stdout(),
                Source::Stderr(at) => self.workers[at].pump_stderr(),
            }
        }
    }

    fn sources(&self) -> (Vec<PollFd<'_>>, Vec<Source>) {
        let mut fds = vec![PollFd::new(&self.ear, PollFlags::IN)];
        let mut sources = vec![Source::Bell];
        for (at, worker) in self.workers.iter().enumerate() {
            if worker.gone.is_none() {
                let mut wanted = PollFlags::IN;
                wanted.set(PollFlags::OUT, worker.has_more_to_say());
                fds.push(PollFd::new(&worker.socket, wanted));
                sources.push(Source::Socket(at));
            }
            if !worker.stdout.ended {
                let source = worker.stdout.source.as_fd();
                fds.push(PollFd::from_borrowed_fd(source, PollFlags::IN));
                sources.push(Source::Stdout(at));
            }
            if !worker.stderr.ended {
                let source = worker.stderr.source.as_fd();
                fds.push(PollFd::from_borrowed_fd(source, PollFlags::IN));
                sources.push(Source::Stderr(at));
            }
        }
        (fds, sources)
    }

    fn patience(&self, now: Instant) -> Duration {
        // What waits without a worker, since none could be started, is tried again.
        let rests = self.workers.is_empty() && self.queue.is_empty();
        let mut wait = if rests { Duration::from_secs(3_600) } else { TICK };
        for worker in &self.workers {
            if worker.gone.is_some() || worker.retiring {
                wait = wait.min(SOON);
            }
            if let Some(at) = worker.kill_at {
                wait = wait.min(at.saturating_duration_since(now).max(Duration::from_millis(1)));
            }
        }
        wait
    }

    fn hear(&mut self, at: usize, now: Instant) {
        for news in self.workers[at].read(now, &mut self.bytes) {
            let worker = &mut self.workers[at];
            match news {
                News::Ready => {
                    worker.ready = true;
                    worker.rested = now;
                    if !worker.retiring {
                        worker.kill_at = None;
                    }
                }
                News::Log { logger, level, text, extra } => {
                    logging::relay(logger, level, text, extra);
                }
                News::Reports(reports) => {
                    let reports: Vec<_> =
                        reports.into_iter().filter_map(|report| worker.pass(report)).collect();
                    self.pool.core.reports.report(reports);
                }
                News::LettersRead { batch, by_run } => {
                    let running = worker.running.as_ref().filter(|it| it.batch.id.0 == batch);
                    if let Some(Running { batch, post: Some(post), .. }) = running {
                        post.read(&by_run);
                        let report = Report::LettersRead { run: batch.call.run };
                        self.pool.core.reports.report(vec![report]);
                    }
                }
                News::Ask { batch, child, number, ask } => {
                    let running = worker.running.as_ref().filter(|it| it.batch.id.0 == batch);
                    if let Some(Running { batch, .. }) = running {
                        let pid = worker.pid.as_raw_nonzero().get();
                        let errand = Errand::new(&self.pool, pid, batch, (child, number, ask));
                        self.pool.asked(errand);
                    }
                }
                News::Rested { batch, beats } => {
                    self.pool.core.heartbeats.fetch_add(beats, Ordering::Relaxed);
                    let rested = worker.running.take_if(|running| running.batch.id.0 == batch);
                    if let Some(running) = rested {
                        worker.rested = now;
                        worker.calls += u64::from(running.len);
                        if !worker.retiring {
                            worker.kill_at = None;
                        }
                        self.give_back(&running.open, running.batch.id);
                        self.recycle(at, now);
                    }
                }
            }
        }
    }

    /// Replaces a worker that had its share of work or of memory.
    fn recycle(&mut self, at: usize, now: Instant) {
        let (options, worker) = (&self.pool.options, &mut self.workers[at]);
        let tired = options.max_tasks.is_some_and(|most| worker.calls >= most);
        let fat = || options.max_rss.is_some_and(|most| worker.rss().is_some_and(|rss| rss > most));
        if tired || fat() {
            worker.retire(now + options.grace());
            Stats::add(&self.pool.counts.recycled, 1);
        }
    }

    /// Kills who is due, buries who is dead, retires who rested too long.
    fn look_after(&mut self, now: Instant) {
        let idle = self.pool.options.idle();
        let all = now.duration_since(self.looked) >= TICK;
        let mut at = 0;
        while at < self.workers.len() {
            let worker = &mut self.workers[at];
            if worker.kill_at.is_some_and(|when| when <= now) {
                worker.kill_at = None;
                worker.gone.get_or_insert(now);
                worker.killed = true;
                worker.kill();
            }
            if worker.is_idle() && now.duration_since(worker.rested) >= idle {
                worker.retire(now + self.pool.options.grace());
            }
            let asked = all || worker.gone.is_some() || worker.retiring;
            if asked && let Some(status) = worker.fate() {
                self.died(at, now, Death::Status(status));
                continue;
            }
            if worker.gone.is_some_and(|gone| now.duration_since(gone) >= GONE_MAX) {
                worker.end(Death::Silent);
            }
            at += 1;
        }
        if all {
            self.workers.iter_mut().for_each(|worker| worker.say_left_out(false));
            self.looked = now;
        }
    }

    /// A worker is dead: what it still said counts, what it had begun last pays.
    fn died(&mut self, at: usize, now: Instant, status: Death) {
        self.hear(at, now);
        let mut worker = self.workers.swap_remove(at);
        worker.drain_output();
        self.pool.counts.live.store(self.workers.len() as u64, Ordering::Relaxed);
        if worker.killed {
            Stats::add(&self.pool.counts.killed, 1);
        } else if !worker.retiring {
            Stats::add(&self.pool.counts.crashed, 1);
        }
        let death = worker.cause.take().unwrap_or(status);
        let pid = worker.pid.as_raw_nonzero().get();
        let last_words = worker.stderr.last_words().to_owned();
        match worker.running.take() {
            Some(running) => {
                let id = running.batch.id;
                let begun = worker.mark.last_begun(id);
                // Nothing was begun: loading the agent killed it, which is the first call's fault.
                let guilty = begun.or(running.open.first().map(|span| span.lo));
                let guilty = guilty.filter(|&child| {
                    running.open.iter().any(|span| (span.lo..span.hi()).contains(&child))
                });
                let mut rest = running.open;
                if let Some(child) = guilty {
                    settle(&mut rest, child, 1);
                    let outcome = if running.stopping {
                        Outcome::Cancelled
                    } else {
                        let name = running.batch.name(child);
                        let failure = death.failure(Some(pid), &name, &last_words);
                        tracing::warn!(target: "goclaw.engine", run = %running.batch.call.run, task = %name, "{}", failure.message);
                        Outcome::Crashed(failure)
                    };
                    self.pool.report(id, child, vec![outcome]);
                }
                self.give_back(&rest, id);
            }
            None if !worker.ready && !worker.retiring => {
                self.charge_start(&death, Some(pid), &last_words);
            }
            None if !worker.retiring => {
                tracing::warn!(target: "goclaw.engine", "{}", death.failure(Some(pid), "none", &last_words).message);
            }
            None => {}
        }
        worker.bury();
    }
}
