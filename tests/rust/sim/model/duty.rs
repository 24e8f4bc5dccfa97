//! What the run owes after every step: consequences drawn, and every effect exactly once.

use goclaw::model::{RunState, Span, TaskRef, TaskState as S, Timestamp};
use goclaw::run::{Effect, Input, Timer};

use super::{Model, Verdict, demand};

impl Model {
    /// No consequence is left undrawn.
    pub fn settled(&self) -> Verdict {
        for (n, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.ended()) {
            let open = node.items.iter().filter(|item| !item.state.is_terminal());
            demand!(open.clone().count() > 0, "node {n} has no child under way and is not joined");
            demand!(!self.must_skip(n), "node {n} must be skipped");
            if self.cancel.is_some() {
                let idle = open.filter(|item| item.state != S::Running).count();
                demand!(idle == 0, "{idle} tasks of node {n} wait in a stopping run");
            }
        }
        let stops = self.cancel.is_some() || self.ended();
        demand!(stops || !self.fails_fast(), "a task failed, and the run goes on");
        demand!(stops || !self.crashed_too_often(), "five crashes, and the run goes on");
        demand!(self.into.is_none() || self.ended(), "an absorbed run goes on");
        let done = self.nodes.iter().all(|node| node.ended());
        demand!(done == self.ended(), "all nodes ended: {done}, the run ended: {}", self.ended());
        Ok(())
    }

    /// Takes what the world is asked to do. Nothing may be asked twice, or too early.
    pub fn effects(&mut self, effects: &[Effect]) -> Verdict {
        for effect in effects {
            self.effect(effect).map_err(|why| format!("{why} ({effect:?})"))?;
        }
        Ok(())
    }

    fn effect(&mut self, effect: &Effect) -> Verdict {
        match effect {
            Effect::Offer { span, attempts } => self.offer(*span, *attempts),
            Effect::Resolve { node } => self.ask(*node as usize),
            Effect::Wake { at, timer: Timer::Retry(task) } => self.wake(*task, *at),
            Effect::Wake { at, timer: Timer::Deadline } => {
                demand!(!self.deadline_set, "the deadline was set twice");
                demand!(self.deadline == Some(*at), "the deadline is {:?}", self.deadline);
                self.deadline_set = true;
                Ok(())
            }
            Effect::Wake { at, timer: Timer::Queue(span) } => self.time_wait(*span, *at),
            Effect::Wake { at, timer: Timer::Total(node) } => self.time_total(*node, *at),
            Effect::Leave { span } => self.leave(*span),
            Effect::Abandon { span, attempt } => self.abandon(*span, *attempt),
            Effect::Withdraw => {
                demand!(self.cancel.is_some() && !self.withdrawn, "withdrawn without reason");
                self.withdrawn = true;
                Ok(())
            }
            Effect::Began => {
                demand!(
                    self.run != RunState::Pending,
                    "holders are told of a beginning that was none"
                );
                Ok(())
            }
            Effect::Sweep => Err("a sweep without a memory policy".into()),
            Effect::Ended => {
                demand!(self.ended(), "waiters released before the end");
                demand!(!self.released, "waiters released twice");
                self.released = true;
                Ok(())
            }
        }
    }

    fn offer(&mut self, span: Span, attempts: u32) -> Verdict {
        let n = span.node as usize;
        demand!(span.len > 0, "an empty offer");
        demand!(self.nodes.get(n).is_some_and(|node| node.resolved), "offered unresolved");
        demand!(self.may_start(n), "offered before its inputs were there");
        let stopping = self.cancel.is_some();
        for task in span.tasks() {
            let item = self.item_mut(task)?;
            demand!(!item.offered, "{task:?} was offered twice");
            demand!(item.attempt == attempts, "{task:?} has {} attempts", item.attempt);
            let waits = matches!(item.state, S::Pending | S::Scheduled);
            // Stopped by the same step: the lane will find it gone.
            let gone = stopping && item.state == S::Cancelled;
            demand!(waits || gone, "a {:?} task was offered", item.state);
            item.offered = true;
        }
        Ok(())
    }

    fn ask(&mut self, n: usize) -> Verdict {
        let fits = self.may_start(n);
        let stopping = self.cancel.is_some();
        let node = &mut self.nodes[n];
        demand!(fits, "to be resolved before its inputs were there");
        demand!(!node.asked && !node.resolved, "to be resolved twice");
        let waits = node.state() == S::Pending || (stopping && node.state() == S::Cancelled);
        demand!(waits, "to be resolved, {:?}", node.state());
        node.asked = true;
        Ok(())
    }

    fn wake(&mut self, task: TaskRef, at: Timestamp) -> Verdict {
        let item = self.item_mut(task)?;
        demand!(!item.woken, "two timers for one retry");
        demand!(item.due == Some(at), "the retry is due at {:?}", item.due);
        item.woken = true;
        Ok(())
    }

    fn time_wait(&mut self, span: Span, at: Timestamp) -> Verdict {
        let bound = self.nodes[span.node as usize].task.queue_timeout_ms;
        for task in span.tasks() {
            let item = self.item_mut(task)?;
            demand!(!item.wait_timed, "two timers for one wait of {task:?}");
            let until = item.waits.zip(bound).map(|(since, bound)| since.plus(bound));
            demand!(until == Some(at), "{task:?} may wait until {until:?}");
            item.wait_timed = true;
        }
        Ok(())
    }

    fn time_total(&mut self, n: u32, at: Timestamp) -> Verdict {
        let node = &mut self.nodes[n as usize];
        demand!(!node.total_set, "two timers for the total time of node {n}");
        let until = node.since.zip(node.task.total_timeout_ms).map(|(since, ms)| since.plus(ms));
        demand!(until == Some(at), "node {n} may take until {until:?}");
        node.total_set = true;
        Ok(())
    }

    fn leave(&mut self, span: Span) -> Verdict {
        for task in span.tasks() {
            let item = self.item_mut(task)?;
            demand!(item.overdue && !item.left, "{task:?} left its lane without reason");
            item.left = true;
        }
        Ok(())
    }

    fn abandon(&mut self, span: Span, attempt: u32) -> Verdict {
        demand!(self.cancel.is_some(), "nobody asked to stop");
        for task in span.tasks() {
            demand!(self.is_running(task, attempt), "{task:?}/{attempt} is not under way");
            let item = self.item_mut(task)?;
            demand!(!item.abandoned, "{task:?} was told to stop twice");
            item.abandoned = true;
        }
        Ok(())
    }

    /// Everything that must have been asked of the world was.
    pub fn owed(&self) -> Verdict {
        if self.ended() {
            demand!(self.released, "the run ended, its waiters are not released");
            return Ok(());
        }
        demand!(self.deadline.is_none() || self.deadline_set, "nobody watches the deadline");
        let stays = |item: &&super::Item| item.overdue && !item.left;
        let stays = self.nodes.iter().flat_map(|node| &node.items).filter(stays).count();
        demand!(stays == 0, "{stays} tasks over their time still wait in their lane");
        if self.cancel.is_some() {
            demand!(self.withdrawn, "a stopping run was not taken out of its lanes");
            for task in self.tasks() {
                let item = self.item(task).expect("just listed");
                let told = item.state != S::Running || item.abandoned;
                demand!(told, "{task:?} was not told to stop");
            }
            return Ok(());
        }
        for (n, node) in self.nodes.iter().enumerate() {
            if node.ended() || !self.may_start(n) {
                continue;
            }
            demand!(node.resolved || node.asked, "nobody was asked to resolve node {n}");
            let total = node.task.total_timeout_ms.is_some() && node.since.is_some();
            demand!(!total || node.total_set, "nobody watches the total time of node {n}");
            let queue = node.task.queue_timeout_ms.is_some();
            for (i, item) in node.items.iter().enumerate().filter(|_| node.resolved) {
                match item.state {
                    S::Pending | S::Scheduled => {
                        demand!(item.offered, "{n}/{i} was not offered");
                        demand!(!queue || item.wait_timed, "nobody watches the wait of {n}/{i}");
                    }
                    S::Retrying => demand!(item.woken, "no timer for the retry of {n}/{i}"),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A process died or was closed: the world has forgotten what it was asked to do.
    pub fn forgets(&mut self) {
        self.deadline_set = false;
        self.released = false;
        // Attempts of a stopping run died with the process, there is nobody to tell.
        self.withdrawn = self.cancel.is_some();
        let stopping = self.cancel.is_some();
        for node in &mut self.nodes {
            (node.asked, node.total_set) = (false, false);
            for item in &mut node.items {
                (item.offered, item.woken, item.wait_timed) = (false, false, false);
                item.left = item.overdue;
                item.abandoned = stopping;
            }
        }
    }

    /// The inputs of a recovery name every attempt that died, once.
    pub fn lost(&self, inputs: &[Input], crashed: bool) -> Verdict {
        let mut named = Vec::new();
        for input in inputs {
            let Input::Lost { span, attempt, crash } = input else {
                return Err(format!("a recovery says {input:?}"));
            };
            demand!(*crash == crashed, "a crash was taken for a close, or the other way round");
            for task in span.tasks() {
                demand!(self.is_running(task, *attempt), "{task:?}/{attempt} was not under way");
                named.push(task);
            }
        }
        let running = self.tasks().into_iter();
        let running: Vec<_> =
            running.filter(|&t| self.item(t).is_some_and(|i| i.state == S::Running)).collect();
        named.sort_unstable();
        demand!(named == running, "lost are {running:?}, named were {named:?}");
        Ok(())
    }
}
