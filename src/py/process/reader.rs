//! The worker's thread that hears the engine. It needs no GIL.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use rustix::process::{Pid, getppid};

use super::super::failure;
use super::super::object::Withheld;
use super::desk::{Desk, Node, Task, give_back, report_finished};
use super::outbox::{SOCKET_GONE, die, die_with_all, hung_up};
use crate::agent::wire::{Call, Framer, NODES_KEPT, Order, Work};
use crate::agent::{Batch, Executor, Letter, Letters, NodeCall, Rung};
use crate::model::{BatchId, Failure, MemoryAccess, Payload, RunId, Span, Style, Workflow};
use crate::plan;

/// How often the reader looks whether the engine is still there.
const LOOK: Duration = Duration::from_millis(250);
/// How long one call may hold up those behind it before they go back to the lane.
const HOLD_UP_MS: u64 = 5;

/// Ends the worker, and what its agents have started, where the engine is gone.
fn refuse_to_be_orphaned(engine: i32) {
    if getppid().map(Pid::as_raw_pid) != Some(engine) {
        die_with_all();
    }
}

/// The thread that hears the engine.
pub(super) struct Reader {
    pub(super) desk: Arc<Desk>,
    pub(super) socket: Arc<UnixStream>,
    pub(super) framer: Framer,
    /// The latest nodes, as the engine counts them.
    pub(super) nodes: VecDeque<(u64, Arc<Node>)>,
    pub(super) sender: Sender<Task>,
    pub(super) parent: i32,
}

impl Reader {
    pub(super) fn run(mut self) {
        let mut bytes = vec![0; 64 << 10];
        while self.orders() {
            if !self.wait() {
                continue;
            }
            match rustix::net::recv(&*self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => die_with_all(),
                Ok((_, n)) => self.framer.feed(&bytes[..n]),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => hung_up(error),
            }
        }
        let parent = self.parent;
        // No more work will come. What is under way may take its time, as long as the engine is there.
        drop(self);
        loop {
            thread::sleep(LOOK);
            refuse_to_be_orphaned(parent);
        }
    }

    /// Waits for the socket; meanwhile looks after the batch under way and the engine.
    fn wait(&self) -> bool {
        let behind = self.desk.current().as_ref().is_some_and(|(batch, _)| batch.span.len > 1);
        let ms = if behind { HOLD_UP_MS } else { LOOK.as_millis() as u64 };
        let mut fds = [PollFd::new(&*self.socket, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: ms as i64 * 1_000_000 };
        let heard = poll(&mut fds, Some(&wait)).unwrap_or(0) > 0;
        if fds[0].revents().contains(PollFlags::NVAL) {
            die(SOCKET_GONE);
        }
        refuse_to_be_orphaned(self.parent);
        if behind {
            self.look_after();
        }
        heard
    }

    /// A call that takes long must not hold up those behind it, nor the outcomes before it.
    fn look_after(&self) {
        let Some((batch, _)) = self.desk.current().clone() else { return };
        if batch.under_way().is_some_and(|(_, held)| held >= HOLD_UP_MS) {
            give_back(&self.desk, &batch);
            report_finished(&self.desk, &batch);
        }
    }

    /// Carries out what came whole; false when no more will come.
    fn orders(&mut self) -> bool {
        loop {
            match self.framer.take() {
                Ok(Some(Order::Node { key, call })) => self.learn(key, *call),
                Ok(Some(Order::Work(work))) => self.begin(work),
                Ok(Some(Order::Letters { batch, put, withdrawn })) => {
                    self.deliver(batch, put, withdrawn);
                }
                Ok(Some(Order::Answer { number, answer })) => {
                    self.desk.asks.answered(number, answer);
                }
                Ok(Some(Order::Cancel { batch, rung })) => self.stop(batch, Some(rung)),
                Ok(Some(Order::Abandon { batch })) => self.stop(batch, None),
                Ok(Some(Order::Set { .. })) => {}
                Ok(Some(Order::Close)) => return false,
                Ok(None) => return true,
                Err(error) => die(&format!("the engine sent what is no frame: {error}")),
            }
        }
    }

    fn learn(&mut self, key: u64, call: Call) {
        let (agent, recipe) = (call.task.agent.clone(), call.recipe.clone());
        let call = rebuild(call).map(Arc::new);
        self.nodes.push_back((key, Arc::new(Node { call, agent, recipe })));
        if self.nodes.len() > NODES_KEPT {
            self.nodes.pop_front();
        }
    }

    fn begin(&self, work: Work) {
        let node = self.nodes.iter().find(|(key, _)| *key == work.node);
        // Both ends count nodes alike; a worker that lost count is no use.
        let Some((_, node)) = node else { die("an unknown node") };
        let call = match &node.call {
            Ok(call) => Arc::clone(call),
            Err(_) => Arc::new(nothing()),
        };
        let span = Span::new(call.node, work.lo, work.len);
        let id = BatchId(work.batch);
        let mut batch = Batch::new(id, call, span, work.attempt, Style::Thread, work.timeout);
        batch.items = work.items;
        batch.items_lo = work.lo;
        (batch.lane, batch.rate_key) = (work.lane, work.rate_key);
        batch.letters = work.letters.map(|letters| {
            let of_run = Letters::default();
            letters.into_iter().for_each(|(from, message)| of_run.put(from, message));
            Arc::new(of_run)
        });
        batch.measure(Arc::clone(&self.desk.mark) as _);
        let batch = Arc::new(batch);
        *self.desk.current() = Some((Arc::clone(&batch), None));
        // The main thread has ended only where the process ends.
        let _ = self.sender.send(Task { batch, node: Arc::clone(node) });
    }

    fn deliver(&self, id: u64, put: Vec<Letter>, withdrawn: Vec<RunId>) {
        let Some((batch, _)) = self.desk.current().clone() else { return };
        if let Some(letters) = batch.letters().filter(|_| batch.id.0 == id) {
            withdrawn.into_iter().for_each(|from| letters.withdraw(from));
            put.into_iter().for_each(|(from, message)| letters.put(from, message));
        }
    }

    fn stop(&self, id: u64, rung: Option<Rung>) {
        let Some((batch, part)) = self.desk.current().clone() else { return };
        if batch.id.0 != id {
            return;
        }
        give_back(&self.desk, &batch);
        for batch in [Some(batch), part].into_iter().flatten() {
            match rung {
                Some(rung) => {
                    // The run's own flag is the token, and this is its copy.
                    batch.call.cancelled.store(true, Ordering::Release);
                    self.desk.executor.cancel(&batch, batch.span, rung);
                }
                None => self.desk.executor.abandon(&batch, batch.span),
            }
        }
    }
}

/// The call of a node that could not be rebuilt; only its failure is ever read.
fn nothing() -> NodeCall {
    let workflow = Workflow { tasks: vec![crate::model::Task::default()], ..Workflow::default() };
    let plan = plan::restore(Arc::new(workflow)).expect("one task without dependencies is a plan");
    call_of(
        plan,
        RunId::from_u128(0),
        Payload::bytes(vec![]),
        String::new(),
        None,
        crate::model::Timestamp(0),
    )
}

fn call_of(
    plan: plan::Plan,
    run: RunId,
    input: Payload,
    trace_id: String,
    session: Option<String>,
    submitted: crate::model::Timestamp,
) -> NodeCall {
    NodeCall {
        run,
        plan: Arc::new(plan),
        node: 0,
        input,
        results: Vec::new(),
        items: None,
        trace_id: trace_id.into(),
        session: session.map(Into::into),
        memory: MemoryAccess::default(),
        letters: None,
        submitted,
        cancelled: Arc::default(),
        memo: OnceLock::new(),
    }
}

fn rebuild(call: Call) -> Result<NodeCall, Box<Failure>> {
    let workflow = Workflow {
        name: call.workflow,
        tasks: vec![call.task],
        constants: call.constants,
        timeout_ms: call.timeout_ms,
        ..Workflow::default()
    };
    let plan = plan::restore(Arc::new(workflow))
        .map_err(|error| failure::binding("task.binding", error.message))?;
    let input = call.input.unwrap_or_else(|why| Payload::Object(Arc::new(Withheld(why))));
    Ok(call_of(plan, call.run, input, call.trace_id, call.session, call.submitted))
}
