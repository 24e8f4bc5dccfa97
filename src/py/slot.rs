//! What a thread that runs agents shows to others: the call under way, and when it may be left.
//!
//! Two things need it. Stopping an agent raises an exception in its thread, and must never hit the
//! next call or our own code. The end of the interpreter must find no thread between two calls, in
//! Rust with the GIL held: from there it could not be unwound (see `call`).

use std::cell::OnceCell;
use std::ffi::{c_long, c_ulong};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::agent::Batch;
use crate::model::Span;

/// How long the end of the interpreter waits for threads to reach a call or a rest.
const EXIT_WAIT: Duration = Duration::from_secs(1);

/// Set once, when the interpreter begins to end; threads of ours go no further from then on.
static EXITING: AtomicBool = AtomicBool::new(false);
static SLOTS: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: OnceCell<Arc<Slot>> = const { OnceCell::new() };
}

unsafe extern "C" {
    fn PyThread_get_thread_ident() -> c_ulong;
}

pub(super) fn exiting() -> bool {
    EXITING.load(Ordering::Relaxed)
}

/// A call under way: the batch by address, the child, and what was done to stop it.
struct Frame {
    batch: usize,
    child: u32,
    /// To be stopped once the calls above it have returned.
    wanted: bool,
    /// The exception was raised in the thread and may still be pending.
    raised: bool,
}

/// One thread's slot.
pub(super) struct Slot {
    pub(super) ident: c_ulong,
    /// Address of the thread's state, to tell who holds the GIL.
    pub(super) state: usize,
    /// True for threads of ours, which may be hung for ever at exit; false for a caller that helps.
    ours: bool,
    /// Calls nest where an agent runs a workflow and its thread helps.
    frames: Mutex<Vec<Frame>>,
    /// In Rust with the GIL held, outside of any agent.
    between: AtomicBool,
}

impl Slot {
    /// The slot of this thread.
    pub(super) fn own(ours: bool) -> Arc<Self> {
        OWN.with(|own| {
            let made = || {
                // SAFETY: needs no state of the thread.
                let ident = unsafe { PyThread_get_thread_ident() };
                // SAFETY: attached, as whoever asks for a slot is.
                let state = unsafe { ffi::PyThreadState_Get() } as usize;
                let frames = Mutex::new(Vec::with_capacity(4));
                let slot =
                    Arc::new(Self { ident, state, ours, frames, between: AtomicBool::new(false) });
                let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
                slots.retain(|slot| slot.strong_count() > 0);
                slots.push(Arc::downgrade(&slot));
                slot
            };
            Arc::clone(own.get_or_init(made))
        })
    }

    /// The thread has the GIL and goes to work in Rust. Never returns once the interpreter ends.
    #[inline]
    pub(super) fn begin(&self, py: Python<'_>) {
        if exiting() && self.ours {
            rest_for_ever(py);
        }
        self.between.store(true, Ordering::Release);
    }

    /// The thread is about to release the GIL, or to enter an agent.
    #[inline]
    pub(super) fn end(&self) {
        self.between.store(false, Ordering::Release);
    }

    /// Runs `agent` as the call of a child: only now may it be stopped from outside.
    #[inline]
    pub(super) fn calling<R>(
        &self,
        py: Python<'_>,
        batch: &Batch,
        child: u32,
        agent: impl FnOnce() -> R,
    ) -> R {
        let frame =
            Frame { batch: ptr::from_ref(batch) as usize, child, wanted: false, raised: false };
        self.frames().push(frame);
        self.end();
        let result = agent();
        self.leave(py);
        self.begin(py);
        result
    }

    /// Runs Python code that is no child's call, such as a coroutine's first step.
    #[inline]
    pub(super) fn outside<R>(&self, py: Python<'_>, code: impl FnOnce() -> R) -> R {
        self.end();
        let result = code();
        self.begin(py);
        result
    }

    fn leave(&self, py: Python<'_>) {
        let (left, below) = {
            let mut frames = self.frames();
            let left = frames.pop();
            (left, frames.last().is_some_and(|below| below.wanted && !below.raised))
        };
        if left.is_some_and(|frame| frame.raised) {
            self.swallow(py);
        }
        // Not under the lock: the look-up runs Python.
        if below && let Ok(class) = super::failure::cancelled_class(py) {
            if let Some(frame) = self.frames().last_mut() {
                frame.raised = true;
            }
            self.set_exception(class.as_ptr());
        }
    }

    /// Makes sure that an exception raised from outside is behind this thread: the agent may have
    /// returned before it arrived, and the next one is innocent.
    ///
    /// Taking it back would leave a mark in the interpreter that only an arrival wipes off. Python
    /// 3.11 checks the mark in every function from then on, and a traced one (debuggers, coverage,
    /// hypothesis) never gets past it. So one is made to arrive in a line of Python of our own.
    fn swallow(&self, py: Python<'_>) {
        self.set_exception(py.get_type::<PyRuntimeError>().as_ptr());
        if py.eval(c"None", None, None).is_ok() {
            self.set_exception(ptr::null_mut());
        }
    }

    /// Raises `class` in the thread if it is in a call of these children; true if it is.
    pub(super) fn stop(&self, batch: &Batch, span: Span, class: &Bound<'_, PyAny>) -> bool {
        let batch = ptr::from_ref(batch) as usize;
        let mut frames = self.frames();
        let top = frames.len().saturating_sub(1);
        let mut found = false;
        for (at, frame) in frames.iter_mut().enumerate() {
            if frame.batch == batch && (span.lo..span.hi()).contains(&frame.child) {
                found = true;
                frame.wanted = true;
                if at == top && !frame.raised {
                    frame.raised = true;
                    self.set_exception(class.as_ptr());
                }
            }
        }
        found
    }

    fn frames(&self) -> std::sync::MutexGuard<'_, Vec<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_exception(&self, class: *mut ffi::PyObject) {
        // SAFETY: attached, as every caller is; the class is live or null, which clears.
        unsafe { ffi::PyThreadState_SetAsyncExc(self.ident as c_long, class) };
    }
}

fn rest_for_ever(py: Python<'_>) -> ! {
    py.detach(|| {
        loop {
            std::thread::park();
        }
    })
}

/// Runs before the interpreter is taken down: from here on our threads stay where they are.
#[pyfunction]
fn _exit(py: Python<'_>) {
    EXITING.store(true, Ordering::Relaxed);
    let own = OWN.with(|own| own.get().map(|own| Arc::as_ptr(own) as usize));
    py.detach(|| {
        let until = Instant::now() + EXIT_WAIT;
        while Instant::now() < until && somebody_between(own) {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

fn somebody_between(but: Option<usize>) -> bool {
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    slots.iter().filter_map(Weak::upgrade).any(|slot| {
        Some(Arc::as_ptr(&slot) as usize) != but && slot.between.load(Ordering::Acquire)
    })
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_exit, module)?)?;
    let exit = module.getattr("_exit")?;
    // First in, last out: engines that close at exit have closed before this runs.
    module.py().import("atexit")?.call_method1("register", (exit,))?;
    Ok(())
}
