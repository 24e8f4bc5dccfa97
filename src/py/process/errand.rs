//! A worker's question, carried out in the engine's process on a thread with the GIL.
//!
//! What the question memorizes is kept with the engine's own batch, like that of a call on a thread: it
//! lasts with the call's completion, and a worker that dies takes it along.

use std::sync::{Arc, Weak};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::super::object::{self, Mode};
use super::super::recall::{self, Trouble};
use super::super::{batch, call as python, failure};
use super::pool::Pool;
use crate::agent::Batch;
use crate::agent::wire::{Answer, Ask, Order, seal};

/// One question of a call in a worker.
pub(in crate::py) struct Errand {
    pool: Weak<Pool>,
    pub(super) pid: i32,
    batch: Arc<Batch>,
    child: u32,
    number: u64,
    ask: Ask,
}

impl Errand {
    pub(super) fn new(
        pool: &Arc<Pool>,
        pid: i32,
        batch: &Arc<Batch>,
        (child, number, ask): (u32, u64, Ask),
    ) -> Self {
        Self { pool: Arc::downgrade(pool), pid, batch: Arc::clone(batch), child, number, ask }
    }

    /// Carries it out and has the answer sent.
    pub(in crate::py) fn run(&self, py: Python<'_>) {
        let Some(pool) = self.pool.upgrade() else { return };
        let answer = batch::caught(|| self.answer(py, &pool)).unwrap_or_else(Answer::Failed);
        self.send(&pool, answer);
    }

    /// There is no thread for it.
    pub(in crate::py) fn refuse(&self, message: String) {
        if let Some(pool) = self.pool.upgrade() {
            self.send(&pool, Answer::Failed(batch::crash(message)));
        }
    }

    fn send(&self, pool: &Pool, answer: Answer) {
        let number = self.number;
        // An answer holds no live objects, so this fails for its size alone; the worker must hear of it.
        let frame = seal(&Order::Answer { number, answer }).or_else(|error| {
            let answer = Answer::Failed(batch::crash(format!("an answer cannot be sent: {error}")));
            seal(&Order::Answer { number, answer })
        });
        if let Ok(frame) = frame {
            pool.answer(self.pid, frame);
        }
    }

    fn answer(&self, py: Python<'_>, pool: &Pool) -> Answer {
        let made = match &self.ask {
            Ask::LookUp => recall::here(py, &pool.core, &self.batch, self.child)
                .and_then(|found| recall::packed(py, &pool.core.mode, &found)),
            Ask::Verb { session, verb, args } => {
                let encoded = Mode { memory: false, ..pool.core.mode };
                let asked = || -> Result<_, Trouble> {
                    let memory = recall::of_task(py, &pool.core, &self.batch, self.child)?;
                    let args = object::to_object(py, args, &encoded)?.into_bound(py);
                    let answer = py.import("goclaw._distant")?.getattr(intern!(py, "answer"))?;
                    let named = PyTuple::new(py, [session, verb])?;
                    let value = python::call(&answer, &[&memory, named.as_any(), &args])?;
                    Ok(object::to_payload(&value, &encoded)?)
                };
                asked()
            }
        };
        match made {
            Ok(payload) => Answer::Value(payload),
            Err(Trouble::Refused(failure)) => Answer::Failed(failure),
            Err(Trouble::Raised(raised)) => said(py, &raised),
        }
    }
}

/// What an exception says, in a form that leaves the process.
fn said(py: Python<'_>, raised: &PyErr) -> Answer {
    let value = raised.value(py);
    let text = |name: &str| {
        let text = value.getattr(name).and_then(|text| text.extract::<String>());
        text.unwrap_or_default()
    };
    let failure = failure::from_exception(py, raised.clone_ref(py));
    let class = failure.types.first().cloned().unwrap_or_default();
    Answer::Refused { class, code: text("code"), message: failure.message, help: text("help") }
}
