//! Rust closures as agents: for tests, and for Rust programs that use the engine directly.
//!
//! Every batch gets a thread of its own; of what stands for a coroutine, every call. Arguments are not
//! bound: an agent looks into its call.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::{
    Batch, Executor, MergeCall, NodeCall, Outcome, Report, Reports, Resolution, Rung, Style,
};
use crate::model::{Failure, FailureKind, Isolation, Millis, Payload, Span, TaskRef};

type Function = Arc<dyn Fn(&Batch, TaskRef) -> Outcome + Send + Sync>;
type Resolver = Arc<dyn Fn(&NodeCall) -> Resolution + Send + Sync>;
type Merger = Arc<dyn Fn(&MergeCall) -> Result<Payload, Box<Failure>> + Send + Sync>;

/// An executor whose agents are closures.
#[derive(Default)]
pub struct Local {
    agents: RwLock<HashMap<String, (Style, Function)>>,
    resolver: RwLock<Option<Resolver>>,
    merger: RwLock<Option<Merger>>,
    reports: RwLock<Option<Arc<dyn Reports>>>,
    busy: Arc<AtomicUsize>,
}

impl Local {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Registers an agent.
    pub fn agent(
        &self,
        name: &str,
        call: impl Fn(&Batch, TaskRef) -> Outcome + Send + Sync + 'static,
    ) {
        self.put(name, Style::Thread, Arc::new(call));
    }

    /// Registers an agent whose calls go on side by side, as coroutines do on a loop.
    pub fn coroutine(
        &self,
        name: &str,
        call: impl Fn(&Batch, TaskRef) -> Outcome + Send + Sync + 'static,
    ) {
        self.put(name, Style::Loop, Arc::new(call));
    }

    fn put(&self, name: &str, style: Style, call: Function) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        agents.insert(name.into(), (style, call));
    }

    /// Says how `when` and `each` are evaluated.
    pub fn resolver(&self, resolve: impl Fn(&NodeCall) -> Resolution + Send + Sync + 'static) {
        *self.resolver.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(resolve));
    }

    /// Says how messages of a session are merged.
    pub fn merger(
        &self,
        merge: impl Fn(&MergeCall) -> Result<Payload, Box<Failure>> + Send + Sync + 'static,
    ) {
        *self.merger.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(merge));
    }

    /// Connects to the engine that is being opened: `Engine::open(options, |r| local.connect(r))`.
    pub fn connect(self: &Arc<Self>, reports: Arc<dyn Reports>) -> Arc<dyn Executor> {
        *self.reports.write().unwrap_or_else(PoisonError::into_inner) = Some(reports);
        Arc::clone(self) as Arc<dyn Executor>
    }

    /// Reports as an agent's host does; nothing is said before an engine is connected.
    #[cfg(test)]
    pub(crate) fn tell(&self, news: Vec<Report>) {
        if let Some(reports) = self.reports() {
            reports.report(news);
        }
    }

    fn reports(&self) -> Option<Arc<dyn Reports>> {
        self.reports.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn on_thread(&self, work: impl FnOnce() + Send + 'static) {
        let busy = Arc::clone(&self.busy);
        busy.fetch_add(1, Ordering::AcqRel);
        thread::spawn(move || {
            work();
            busy.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

impl Executor for Local {
    fn style(&self, agent: &str, _: Isolation) -> Option<Style> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents.get(agent).map(|(style, _)| *style)
    }

    fn execute(&self, batch: Arc<Batch>) {
        let agent = &batch.call.plan.task(batch.call.node).agent;
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        let call = agents.get(agent).map(|(_, call)| Arc::clone(call));
        let (Some(call), Some(reports)) = (call, self.reports()) else { return };
        if batch.style != Style::Loop {
            return self.on_thread(move || run(&batch, &*call, &*reports));
        }
        while let Some(index) = batch.claim() {
            let (batch, call) = (Arc::clone(&batch), Arc::clone(&call));
            let reports = Arc::clone(&reports);
            self.on_thread(move || {
                let outcomes = vec![outcome(&batch, index, &*call)];
                let batch = batch.id;
                reports.report(vec![Report::Done { batch, lo: index, outcomes, busy_ns: 0 }]);
            });
        }
    }

    fn resolve(&self, call: Arc<NodeCall>) {
        let resolver = self.resolver.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(resolver), Some(reports)) = (resolver, self.reports()) else { return };
        self.on_thread(move || {
            let resolution = resolver(&call);
            reports.report(vec![Report::Resolved { run: call.run, node: call.node, resolution }]);
        });
    }

    fn merge(&self, call: Arc<MergeCall>) {
        let merger = self.merger.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(reports) = self.reports() else { return };
        self.on_thread(move || {
            let none = || Failure::new(FailureKind::Binding, "session.merge", "no merger is set");
            let result = merger.map_or_else(|| Err(Box::new(none())), |merge| merge(&call));
            let (session, number) = (Arc::clone(&call.session), call.number);
            reports.report(vec![Report::Merged { session, number, result }]);
        });
    }

    /// A closure has no more than the token.
    fn cancel(&self, batch: &Arc<Batch>, span: Span, _rung: Rung) {
        self.abandon(batch, span);
    }

    fn abandon(&self, batch: &Arc<Batch>, span: Span) {
        // The other calls of a loop's batch go on.
        if batch.style != Style::Loop || span == batch.span {
            batch.abandoned.store(true, Ordering::Release);
        }
    }

    fn close(&self, grace: Millis) -> usize {
        let deadline = Instant::now() + Duration::from_millis(grace);
        while self.busy.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        self.busy.load(Ordering::Acquire)
    }
}

fn run(batch: &Batch, call: &dyn Fn(&Batch, TaskRef) -> Outcome, reports: &dyn Reports) {
    let began = Instant::now();
    while let Some(index) = batch.claim() {
        batch.begin(index);
        batch.finish(outcome(batch, index, call));
    }
    if let Some((lo, outcomes)) = batch.take_finished() {
        let busy_ns = began.elapsed().as_nanos() as u64;
        reports.report(vec![Report::Done { batch: batch.id, lo, outcomes, busy_ns }]);
    }
}

fn outcome(batch: &Batch, index: u32, call: &dyn Fn(&Batch, TaskRef) -> Outcome) -> Outcome {
    let task = TaskRef { node: batch.span.node, index };
    catch_unwind(AssertUnwindSafe(|| call(batch, task))).unwrap_or_else(|_| {
        let failure = Failure::new(FailureKind::Crash, "task.panic", "the agent panicked");
        Outcome::Failed(Box::new(failure))
    })
}
