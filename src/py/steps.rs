//! First steps: coroutines created and run to their first suspension, each inside a real task.
//!
//! From Python 3.12 on a task can start eagerly. On 3.11 a task asks its loop to call its first step
//! soon; while tasks are made the loop's `call_soon` is a function that keeps the step instead, and
//! the kept steps are then called here, one by one, each in its task's context.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use super::bind::Args;
use super::call;
use super::context::{self, Context};
use super::deferred::Deferred;
use super::looper::{Course, outcome_of};
use super::slot::Slot;
use super::{failure, recall};
use crate::agent::Outcome;
use crate::model::{Failure, Style};

/// What the loop's thread hands over to make tasks with.
pub(super) struct Tools {
    event_loop: Py<PyAny>,
    pub(super) call_soon: Py<PyAny>,
    /// `asyncio.Task`.
    task: Py<PyAny>,
    /// The done-callback.
    pub(super) done: Py<PyAny>,
    copy_context: Py<PyAny>,
    coroutine: Py<PyAny>,
    /// Makes a coroutine of any other awaitable.
    awaiting: Py<PyAny>,
    /// Before 3.12: what stands in for `call_soon`, and the list where it keeps steps.
    capture: Option<(Py<PyAny>, Py<PyList>)>,
    set_current: Py<PyAny>,
    /// `asyncio.current_task`.
    current_task: Py<PyAny>,
    /// Names of the task's keyword arguments.
    names: Py<PyTuple>,
}

impl Tools {
    pub(super) fn new(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = given.py();
        let get = |name: &str| given.getattr(name).map(Bound::unbind);
        let capture = given.getattr("capture")?;
        let eager = capture.is_none();
        let names = if eager {
            PyTuple::new(py, ["loop", "name", "context", "eager_start"])?
        } else {
            PyTuple::new(py, ["loop", "name", "context"])?
        };
        let steps = given.getattr("steps")?;
        let kept = if eager {
            None
        } else {
            Some((capture.unbind(), steps.cast_into::<PyList>()?.unbind()))
        };
        Ok(Self {
            event_loop: get("loop")?,
            call_soon: get("call_soon")?,
            task: get("task")?,
            done: get("done")?,
            copy_context: get("copy_context")?,
            current_task: get("current_task")?,
            coroutine: get("coroutine")?,
            awaiting: get("awaiting")?,
            capture: kept,
            set_current: context::variable(py)?.getattr(intern!(py, "set"))?.unbind(),
            names: names.unbind(),
        })
    }
}

impl Tools {
    /// The task that the loop steps now, as any thread may ask.
    pub(super) fn current_task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let current = call::call(self.current_task.bind(py), &[self.event_loop.bind(py)]).ok()?;
        (!current.is_none()).then_some(current)
    }
}

/// A coroutine that waits for its first step.
struct Begun<'py> {
    child: u32,
    coroutine: Bound<'py, PyAny>,
    context: Bound<'py, PyAny>,
}

/// The first steps of some children of one batch.
pub(super) struct Steps<'a, 'py> {
    py: Python<'py>,
    slot: &'a Slot,
    tools: &'a Tools,
    course: &'a Arc<Course>,
    began: Instant,
    args: Args<'a, 'py>,
    /// The items that came with the batch cannot be read.
    refused: Option<Box<Failure>>,
    begun: Vec<Begun<'py>>,
    name: Bound<'py, PyString>,
}

impl<'a, 'py> Steps<'a, 'py> {
    pub(super) fn new(
        py: Python<'py>,
        slot: &'a Slot,
        tools: &'a Tools,
        course: &'a Arc<Course>,
        began: Instant,
    ) -> Self {
        let mut args = course.binding.args(py);
        let refused = args.take_items(py, &course.batch, &course.core.mode).err();
        let name = PyString::new(py, &course.binding.agent.info.name);
        Self { py, slot, tools, course, began, args, refused, begun: Vec::new(), name }
    }

    /// Creates a child's coroutine; answers with its outcome where that fails.
    pub(super) fn begin(&mut self, child: u32) -> Option<Outcome> {
        if let Some(failure) = &self.refused {
            return Some(Outcome::Failed(failure.clone()));
        }
        if let Err(failure) = self.args.set_item(&self.course.batch.call, child) {
            return Some(Outcome::Failed(failure));
        }
        match self.create(child) {
            Ok(begun) => {
                self.begun.push(begun);
                None
            }
            Err(raised) => Some(failure::outcome(self.py, raised, self.course.is_stopping(child))),
        }
    }

    fn create(&mut self, child: u32) -> PyResult<Begun<'py>> {
        let py = self.py;
        let course = self.course;
        let current = Context::new(&course.batch, &course.core, child, self.began, Style::Loop);
        let current = Bound::new(py, current)?.into_any();
        let recalls = recall::is_wanted(&course.batch.call);
        // Set in our own context, then copied: cheaper than running `set` inside the copy.
        self.tools.set_current.bind(py).call1((&current,))?;
        let context = self.tools.copy_context.bind(py).call0()?;
        if recalls {
            // What the arguments refer to is looked up first, by the task itself: the loop goes on.
            let deferred = Deferred::new(course, child, current);
            let coroutine = self.slot.outside(py, || deferred.coroutine(py))?;
            return Ok(Begun { child, coroutine, context });
        }
        if self.args.wants_context() {
            self.args.set_context(current);
        }
        let args = &mut self.args;
        let mut coroutine = self.slot.outside(py, || args.call())?;
        if coroutine.get_type_ptr().cast() != self.tools.coroutine.as_ptr() {
            coroutine = self.tools.awaiting.bind(py).call1((coroutine,))?;
        }
        Ok(Begun { child, coroutine, context })
    }

    /// Runs the first steps; tells of each child how it ended, or its task where it goes on.
    pub(super) fn finish(mut self, tell: impl FnMut(u32, Result<Outcome, Bound<'py, PyAny>>)) {
        if self.begun.is_empty() {
            return;
        }
        let begun = std::mem::take(&mut self.begun);
        match &self.tools.capture {
            None => self.eager(begun, tell),
            Some((capture, steps)) => {
                self.captured(begun, capture.bind(self.py), steps.bind(self.py), tell);
            }
        }
        self.course.stepping.store(0, Ordering::Relaxed);
        // Our own context must not keep the last call alive.
        let _ = self.tools.set_current.bind(self.py).call1((self.py.None(),));
    }

    fn eager(
        &self,
        begun: Vec<Begun<'py>>,
        mut tell: impl FnMut(u32, Result<Outcome, Bound<'py, PyAny>>),
    ) {
        for Begun { child, coroutine, context } in begun {
            self.course.stepping.store(child + 1, Ordering::Relaxed);
            let made = self.slot.outside(self.py, || self.task(&coroutine, &context));
            tell(
                child,
                made.map_or_else(
                    |raised| Ok(self.raised(raised, child)),
                    |task| self.state(task, child),
                ),
            );
        }
    }

    fn captured(
        &self,
        begun: Vec<Begun<'py>>,
        capture: &Bound<'py, PyAny>,
        steps: &Bound<'py, PyList>,
        mut tell: impl FnMut(u32, Result<Outcome, Bound<'py, PyAny>>),
    ) {
        let py = self.py;
        let event_loop = self.tools.event_loop.bind(py);
        let call_soon = intern!(py, "call_soon");
        let mut tasks = Vec::with_capacity(begun.len());
        event_loop.setattr(call_soon, capture).expect("the loop is of a class of ours");
        for Begun { child, coroutine, context } in begun {
            match self.task(&coroutine, &context) {
                Ok(task) => tasks.push((child, task, context)),
                Err(raised) => tell(child, Ok(self.raised(raised, child))),
            }
        }
        event_loop.delattr(call_soon).expect("set a moment ago");
        let mut kept: Vec<_> = steps.iter().collect();
        let _ = steps.del_slice(0, kept.len());
        if kept.len() != tasks.len() {
            kept = self.own(kept, &tasks);
        }
        assert_eq!(kept.len(), tasks.len(), "every new task asks for its first step once");
        let run = intern!(py, "run");
        for ((child, task, context), step) in tasks.into_iter().zip(kept) {
            self.course.stepping.store(child + 1, Ordering::Relaxed);
            let stepped = self
                .slot
                .outside(py, || context.getattr(run).and_then(|run| call::call(&run, &[&step])));
            let state = match stepped {
                Ok(_) => self.state(task, child),
                Err(raised) => {
                    // SystemExit and KeyboardInterrupt pass through the task; it must not be
                    // reported as one whose exception nobody looked at.
                    let _ = task.call_method0(intern!(py, "exception"));
                    Ok(self.raised(raised, child))
                }
            };
            tell(child, state);
        }
    }

    /// The steps that are of these tasks. The garbage collector may have run while they were made, and
    /// a finaliser may have made a task of its own: its step goes to the loop.
    fn own(
        &self,
        kept: Vec<Bound<'py, PyAny>>,
        tasks: &[(u32, Bound<'py, PyAny>, Bound<'py, PyAny>)],
    ) -> Vec<Bound<'py, PyAny>> {
        let is_own = |step: &Bound<'py, PyAny>| {
            let owner = step.getattr(intern!(self.py, "__self__"));
            owner.is_ok_and(|owner| tasks.iter().any(|(_, task, _)| task.is(&owner)))
        };
        let (own, others): (Vec<_>, Vec<_>) = kept.into_iter().partition(is_own);
        for step in others {
            // A closed loop needs no steps.
            let _ = self.tools.call_soon.bind(self.py).call1((step,));
        }
        own
    }

    fn raised(&self, raised: PyErr, child: u32) -> Outcome {
        failure::outcome(self.py, raised, self.course.is_stopping(child))
    }

    fn state(&self, task: Bound<'py, PyAny>, child: u32) -> Result<Outcome, Bound<'py, PyAny>> {
        let done = task.call_method0(intern!(self.py, "done"));
        if done.is_ok_and(|done| done.is_truthy().unwrap_or(false)) {
            Ok(outcome_of(&task, self.course, child))
        } else {
            Err(task)
        }
    }

    /// Makes the task; an eager one runs its first step at once.
    fn task(
        &self,
        coroutine: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: `Py_True` lives for ever.
        let eager = unsafe { ffi::Py_True() };
        let mut slots: [*mut ffi::PyObject; 6] = [
            ptr::null_mut(),
            coroutine.as_ptr(),
            self.tools.event_loop.as_ptr(),
            self.name.as_ptr(),
            context.as_ptr(),
            eager,
        ];
        let used = if self.tools.capture.is_some() { 5 } else { 6 };
        // SAFETY: attached; all are live; `names` has one name per slot after the first two.
        unsafe {
            let task = call::vectorcall(
                self.tools.task.as_ptr(),
                &mut slots[..used],
                1,
                self.tools.names.as_ptr(),
            );
            Bound::from_owned_ptr_or_err(self.py, task)
        }
    }
}
