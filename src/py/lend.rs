//! An agent that waits for a run lends its permit, and takes one again before it goes on.
//!
//! A call has one permit, however many tasks or threads its agent is made of. It is lent while one
//! of them waits and none that has waited is on its way back. Threads wait for it here, without the
//! GIL; for coroutines see `python/goclaw/_lend.py`. In a worker process nothing is lent: what an agent
//! waits for there is another engine, with lanes of its own.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use super::context::{self, Context};
use super::executor::Core;
use crate::agent::{Batch, Report, Waker};

/// How often a thread that waits for its permit looks for signals.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// The permit of one call.
pub(super) struct Lending {
    batch: Arc<Batch>,
    core: Arc<Core>,
    child: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Tasks and threads of the agent that wait for a run.
    waiting: u32,
    /// Of them, those whose wait is over and that have not gone on.
    returning: u32,
    /// The engine was told that the permit is free.
    lent: bool,
    /// The engine was asked for it back.
    asked: bool,
}

impl Lending {
    pub(super) fn new(batch: &Arc<Batch>, core: &Arc<Core>, child: u32) -> Arc<Self> {
        let (batch, core) = (Arc::clone(batch), Arc::clone(core));
        Arc::new(Self { batch, core, child, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) {
        self.state().waiting += 1;
    }

    /// Lends the permit where somebody waits, and nobody is on the way back.
    fn look(&self) {
        let mut state = self.state();
        self.notice(&mut state);
        if state.waiting > 0 && state.returning == 0 && !state.lent {
            state.lent = true;
            // Under the lock, so that the engine hears of it before it is asked for the permit.
            let (batch, child) = (self.batch.id, self.child);
            self.core.reports.report(vec![Report::Waiting { batch, child }]);
        }
    }

    /// A wait is over; `may_go_on` says when. Answers how many go on waiting.
    fn returns(&self) -> u32 {
        let mut state = self.state();
        state.waiting -= 1;
        state.returning += 1;
        state.waiting
    }

    /// One that waited, or was returning, goes on without a permit, or not at all.
    fn gives_up(&self, returning: bool) {
        let mut state = self.state();
        match returning {
            true => state.returning -= 1,
            false => state.waiting -= 1,
        }
    }

    /// Calls `wake` when `may_go_on` is worth asking again.
    fn on_go_on(&self, wake: Waker) {
        let state = self.state();
        if state.lent {
            // Under the lock: nobody else can take note of the permit meanwhile.
            return self.batch.on_go_on(self.child, wake);
        }
        drop(state);
        wake();
    }

    /// True when one that returns has a permit, or needs none since its call was given up.
    fn may_go_on(&self) -> bool {
        let mut state = self.state();
        if state.lent && !state.asked {
            state.asked = true;
            let (batch, child) = (self.batch.id, self.child);
            self.core.reports.report(vec![Report::Returning { batch, child }]);
        }
        self.notice(&mut state);
        if !state.lent {
            state.returning -= 1;
        }
        !state.lent
    }

    /// Takes note of a permit that was given.
    fn notice(&self, state: &mut State) {
        if state.asked && self.batch.may_go_on(self.child) {
            (state.lent, state.asked) = (false, false);
        }
    }
}

thread_local! {
    static ON_LOOP: Cell<bool> = const { Cell::new(false) };
    /// Waits of this thread that have parts, the innermost last.
    static WHOLE: RefCell<Vec<Whole>> = const { RefCell::new(Vec::new()) };
}

/// A wait of an agent that has parts: its permit is lent from the first on, until the whole is over.
struct Whole {
    lending: Arc<Lending>,
    lent: bool,
}

/// This thread runs the event loop: it never waits for a permit, which one of its own coroutines may have.
pub(super) fn on_loop() {
    ON_LOOP.set(true);
}

/// The permit of the call that this code runs in, if it can be lent.
fn own(py: Python<'_>) -> Option<Arc<Lending>> {
    let current = context::current(py).ok()?;
    current.cast::<Context>().ok()?.get().lending()
}

/// This thread waits for a run, and its agent has lent its permit meanwhile.
#[must_use = "the agent has to take a permit again"]
pub(super) struct Lent(Option<Arc<Lending>>);

/// Tells the engine that the agent that this thread works for, if there is one, is about to wait.
pub(super) fn waits(py: Python<'_>) -> Lent {
    let Some(lending) = own_of_thread(py) else { return Lent(None) };
    let first = WHOLE.with_borrow_mut(|whole| match whole.last_mut() {
        Some(whole) if Arc::ptr_eq(&whole.lending, &lending) => {
            Some(!std::mem::replace(&mut whole.lent, true))
        }
        _ => None,
    });
    if first != Some(false) {
        lending.waits();
        lending.look();
    }
    Lent(first.is_none().then_some(lending))
}

fn own_of_thread(py: Python<'_>) -> Option<Arc<Lending>> {
    if ON_LOOP.get() { None } else { own(py) }
}

/// Calls `wait`, whose waits are parts of one: the permit that the first lends is taken again after the last.
#[pyfunction]
fn _one_wait<'py>(py: Python<'py>, wait: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let Some(lending) = own_of_thread(py) else { return wait.call0() };
    WHOLE.with_borrow_mut(|whole| whole.push(Whole { lending, lent: false }));
    let waited = wait.call0();
    let whole = WHOLE.with_borrow_mut(Vec::pop).expect("it was put there");
    // Whatever ended the wait: the agent runs on, be it to raise.
    let taken = Lent(whole.lent.then_some(whole.lending)).take_again(py);
    waited.and_then(|answer| taken.map(|()| answer))
}

impl Lent {
    /// Takes a permit again before the agent goes on; waits for it without the GIL. An attempt that
    /// was given up meanwhile goes on without: it is fenced.
    ///
    /// # Errors
    /// What a signal handler raised, once the permit is there: a bound holds for Ctrl-C as well.
    pub(super) fn take_again(self, py: Python<'_>) -> PyResult<()> {
        let Some(lending) = self.0 else { return Ok(()) };
        if lending.returns() > 0 {
            // Others of the agent wait on, and need what they wait for to get a permit.
            lending.gives_up(true);
            return Ok(());
        }
        let mut raised = Ok(());
        while !lending.may_go_on() {
            py.detach(|| lending.batch.wait_to_go_on(lending.child, SIGNALS_EVERY));
            raised = raised.and_then(|()| py.check_signals());
        }
        raised
    }
}

/// The permit of a call, for coroutines of its agent that wait.
#[pyclass(frozen, name = "_Loan", module = "goclaw._goclaw")]
pub(super) struct PyLoan(Arc<Lending>);

#[pymethods]
impl PyLoan {
    /// One more waits.
    fn waits(&self) {
        self.0.waits();
    }
    /// Lends the permit if it is time to.
    fn look(&self) {
        self.0.look();
    }
    /// One waits no more; it goes on when `may_go_on` says so.
    fn returns(&self) {
        self.0.returns();
    }
    /// True when one that returns may go on; it asks the engine the first time.
    fn may_go_on(&self) -> bool {
        self.0.may_go_on()
    }
    /// Calls `callback` without arguments, on a thread of its own, when `may_go_on` is worth asking again.
    fn on_go_on(&self, callback: Py<PyAny>) {
        let notifier = Arc::clone(&self.0.core.notifier);
        self.0.on_go_on(Box::new(move || notifier.call(callback)));
    }
    /// One that waited, or was returning, will never go on: its coroutine was thrown away.
    fn gives_up(&self, returning: bool) {
        self.0.gives_up(returning);
    }
}

/// The permit of the agent that the calling coroutine belongs to; None where nothing can be lent.
#[pyfunction]
fn _loan(py: Python<'_>) -> Option<PyLoan> {
    own(py).map(PyLoan)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyLoan>()?;
    module.add_function(wrap_pyfunction!(_loan, module)?)?;
    module.add_function(wrap_pyfunction!(_one_wait, module)?)
}
