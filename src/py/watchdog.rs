//! Who holds up everybody: a blocked event loop, or an agent that keeps the interpreter to itself.
//!
//! Two threads. The watch never attaches to Python: it rings the loop's bell and asks the probe to
//! attach, and looks at the clock. The probe attaches; while it cannot, somebody holds the GIL. Who
//! that is comes from what threads and loop publish anyway, so a call pays nothing for being watched.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::executor::Core;
use super::incidents::{self, Incident, Kind};
use super::{mailbox, sight, slot, threads};
use crate::agent::Batch;

/// How often the watch looks.
const TICK: Duration = Duration::from_millis(100);
/// Without an answer for this long somebody is in the way. With the tick and the probe it stays
/// below a second.
const PATIENCE: Duration = Duration::from_millis(700);

/// A call that may be the guilty one.
pub(super) struct Suspect {
    pub(super) core: Arc<Core>,
    pub(super) batch: Arc<Batch>,
    pub(super) child: u32,
}

/// What the probe saw of the loop, attached.
#[derive(Default)]
pub(super) struct Sight {
    pub(super) suspect: Option<Suspect>,
    /// `file:line in function` of the loop's innermost frame.
    pub(super) place: Option<String>,
}

#[derive(Default)]
struct Question {
    asked: Option<Instant>,
    /// The answer wanted is what the loop is doing.
    look: bool,
    sight: Option<Sight>,
}

#[derive(Default)]
struct Probe {
    question: Mutex<Question>,
    news: Condvar,
}

impl Probe {
    fn lock(&self) -> MutexGuard<'_, Question> {
        self.question.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, unless a question is open; how long the open one has been waiting.
    fn ask(&self, look: bool) -> Duration {
        let mut question = self.lock();
        question.look |= look;
        let asked = *question.asked.get_or_insert_with(Instant::now);
        self.news.notify_one();
        asked.elapsed()
    }

    fn is_answered(&self) -> bool {
        self.lock().asked.is_none()
    }

    fn serve(&self) {
        loop {
            let look = {
                let question = self.lock();
                let asked = self.news.wait_while(question, |question| question.asked.is_none());
                asked.unwrap_or_else(PoisonError::into_inner).look
            };
            let seen = Python::try_attach(|py| if look { sight::sight(py) } else { None });
            let Some(sight) = seen else { return };
            let mut question = self.lock();
            question.asked = None;
            if look {
                question.look = false;
                question.sight = Some(sight.unwrap_or_default());
            }
        }
    }
}

/// The process that has a watch; a forked child has none yet.
static WATCHED: AtomicU32 = AtomicU32::new(0);
/// Thread states by address, on Pythons that tell who holds the GIL.
static HOLDER: OnceLock<Option<extern "C" fn() -> *mut pyo3::ffi::PyThreadState>> = OnceLock::new();

/// Sees to it that this process is watched.
pub(super) fn ensure(py: Python<'_>) {
    let own = std::process::id();
    if WATCHED.swap(own, Ordering::AcqRel) == own {
        return;
    }
    let version = py.version_info();
    HOLDER.get_or_init(|| ((version.major, version.minor) == (3, 11)).then(holder).flatten());
    let probe = Arc::new(Probe::default());
    let asked = Arc::clone(&probe);
    let probing = thread::Builder::new().name("goclaw-probe".into());
    let watching = thread::Builder::new().name("goclaw-watch".into());
    let started = probing.spawn(move || asked.serve()).and_then(|_| {
        watching.spawn(move || Watch { probe, loop_asked: None, blocked: None, held: None }.run())
    });
    if let Err(error) = started {
        WATCHED.store(0, Ordering::Release);
        tracing::warn!(target: "goclaw.health", %error, "no thread for the watchdog");
    }
}

/// Python 3.11 tells any thread who holds the GIL; later ones tell each thread of itself alone.
#[cfg(unix)]
fn holder() -> Option<extern "C" fn() -> *mut pyo3::ffi::PyThreadState> {
    use std::ffi::{c_char, c_void};
    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    let everywhere = if cfg!(target_os = "macos") { -2_isize } else { 0 } as *mut c_void;
    // SAFETY: the name is a C string, and the handle stands for all that is loaded. Where it is
    // found it is CPython 3.11's function of this name and signature, an atomic load.
    unsafe {
        let found = dlsym(everywhere, c"_PyThreadState_UncheckedGet".as_ptr());
        (!found.is_null()).then(|| std::mem::transmute(found))
    }
}

#[cfg(not(unix))]
fn holder() -> Option<extern "C" fn() -> *mut pyo3::ffi::PyThreadState> {
    None
}

struct Watch {
    probe: Arc<Probe>,
    /// When the loop was rung and has not answered.
    loop_asked: Option<Instant>,
    /// The incidents under way.
    blocked: Option<u64>,
    held: Option<u64>,
}

impl Watch {
    fn run(mut self) {
        while !slot::exiting() {
            thread::sleep(TICK);
            let pools = threads::pools();
            let idle = pools.iter().all(|pool| !pool.is_busy());
            if idle && self.blocked.is_none() && self.held.is_none() {
                self.loop_asked = None;
                continue;
            }
            self.watch_interpreter();
            self.watch_loop();
        }
    }

    fn watch_interpreter(&mut self) {
        if self.probe.is_answered()
            && let Some(incident) = self.held.take()
        {
            incidents::over(incident);
        }
        let waits = self.probe.ask(false);
        if waits < PATIENCE {
            return;
        }
        match self.held {
            Some(incident) => incidents::goes_on(incident),
            None => self.held = Some(incidents::begin(held_by(waits))),
        }
    }

    fn watch_loop(&mut self) {
        if mailbox::mailbox().is_answered() {
            if let Some(incident) = self.blocked.take() {
                incidents::over(incident);
            }
            self.loop_asked = sight::is_equipped().then(Instant::now);
            if self.loop_asked.is_some() {
                mailbox::mailbox().ask();
            }
            return;
        }
        let Some(waits) = self.loop_asked.map(|asked| asked.elapsed()) else { return };
        // While nobody gets the GIL the loop is no more to blame than others.
        if waits < PATIENCE || self.held.is_some() {
            return;
        }
        if let Some(incident) = self.blocked {
            return incidents::goes_on(incident);
        }
        let sight = self.probe.lock().sight.take();
        match sight {
            Some(sight) => self.blocked = Some(incidents::begin(blocked_by(sight, waits))),
            None => drop(self.probe.ask(true)),
        }
    }
}

fn blocked_by(sight: Sight, waits: Duration) -> Incident {
    let suspect = sight.suspect.or_else(sight::stepping).or_else(sight::only_one);
    Incident::new(Kind::Loop, suspect, sight.place, waits)
}

/// Who holds the GIL: the thread that Python names, else the one whose call began last.
fn held_by(waits: Duration) -> Incident {
    let known = HOLDER.get().copied().flatten().map(|holder| holder() as usize);
    let mut suspects = threads::suspects();
    let suspect = match known {
        Some(state) if sight::thread_state() == Some(state) => {
            sight::stepping().or_else(sight::only_one)
        }
        Some(state) => {
            suspects.retain(|(of, ..)| *of == state);
            youngest(suspects)
        }
        None => sight::stepping().or_else(|| youngest(suspects)).or_else(sight::only_one),
    };
    Incident::new(Kind::Interpreter, suspect, None, waits)
}

fn youngest(suspects: Vec<(usize, u64, Suspect)>) -> Option<Suspect> {
    let youngest = suspects.into_iter().min_by_key(|(_, held, _)| *held);
    youngest.map(|(.., suspect)| suspect)
}
