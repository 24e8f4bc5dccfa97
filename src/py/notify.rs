//! Calls back into Python when runs end, from a thread that may attach (the owner may not).

use std::mem;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use pyo3::prelude::*;

use super::call;

/// Callbacks of one engine. Its thread starts with the first one and ends with the last handle.
#[derive(Default)]
pub(super) struct Notifier {
    sender: Mutex<Option<Sender<Py<PyAny>>>>,
}

impl Notifier {
    /// Has `callback` called soon, without arguments. Never blocks, never attaches.
    pub(super) fn call(&self, callback: Py<PyAny>) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = match sender.as_ref() {
            Some(sender) => sender.send(callback).map_err(|unsent| unsent.0),
            None => Err(callback),
        };
        let Err(callback) = sent else { return };
        let (fresh, calls) = mpsc::channel();
        let _ = fresh.send(callback);
        let named = thread::Builder::new().name("goclaw-notify".into());
        // Without a thread the waiters of this engine cannot be woken; the next end tries again.
        match named.spawn(move || serve(&calls)) {
            Ok(_) => *sender = Some(fresh),
            Err(error) => {
                tracing::error!(target: "goclaw.engine", %error, "no thread to wake waiters")
            }
        }
    }
}

fn serve(calls: &Receiver<Py<PyAny>>) {
    while let Ok(first) = calls.recv() {
        let mut batch: Vec<_> = std::iter::once(first).chain(calls.try_iter()).collect();
        let attached = Python::try_attach(|py| {
            for callback in batch.drain(..) {
                if let Err(raised) = call::call(callback.bind(py), &[]) {
                    raised.write_unraisable(py, Some(callback.bind(py)));
                }
            }
        });
        if attached.is_none() {
            // The interpreter is going away, and with it everybody who could wait.
            mem::forget(batch);
            return;
        }
    }
}
