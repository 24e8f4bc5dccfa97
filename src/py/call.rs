//! Calls into Python that survive the end of the interpreter.
//!
//! Before Python 3.14 a thread that asks for the GIL while the interpreter shuts down is ended with
//! `pthread_exit`, which unwinds by force through our frames. pyo3 covers its own attaching; it
//! cannot cover an agent that is inside Python, called by us. [`vectorcall`] does: a guard hangs the
//! thread instead of unwinding further, as Python 3.14 does by itself.

use std::mem;

use pyo3::ffi;
use pyo3::prelude::*;

mod raw {
    use pyo3::ffi::PyObject;

    // Not `pyo3::ffi`: that declares it `extern "C"`, through which nothing may unwind, and for the
    // limited API only from 3.12 on. Every CPython from 3.11 on exports it with this signature.
    unsafe extern "C-unwind" {
        pub fn PyObject_Vectorcall(
            callable: *mut PyObject,
            args: *const *mut PyObject,
            nargsf: usize,
            kwnames: *mut PyObject,
        ) -> *mut PyObject;
    }
}

/// The callee may use the slot before the first argument for itself.
const ARGUMENTS_OFFSET: usize = 1 << (usize::BITS - 1);

/// Hangs its thread for ever when it is dropped: the forced unwinding ends here.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Calls `callable` with `slots[1..=positional]` by position and the rest by the names in `kwnames`.
/// `slots[0]` is room for the callee.
///
/// # Safety
/// The thread is attached; every slot from 1 on is a live object; `kwnames` is null or a tuple of
/// as many strings as there are slots after the positional ones.
pub(super) unsafe fn vectorcall(
    callable: *mut ffi::PyObject,
    slots: &mut [*mut ffi::PyObject],
    positional: usize,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    debug_assert!(positional < slots.len());
    let guard = Hang;
    // SAFETY: the caller vouches for the arguments; `slots[0]` exists, so the offset flag is honest.
    let result = unsafe {
        raw::PyObject_Vectorcall(
            callable,
            slots.as_mut_ptr().add(1),
            positional | ARGUMENTS_OFFSET,
            kwnames,
        )
    };
    mem::forget(guard);
    result
}

/// Calls with up to three positional arguments; for Python code of users that is not an agent call.
///
/// # Errors
/// Whatever it raises.
pub(super) fn call<'py>(
    callable: &Bound<'py, PyAny>,
    args: &[&Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    assert!(args.len() <= 3, "three arguments are room enough here");
    let mut slots = [std::ptr::null_mut(); 4];
    for (slot, arg) in slots[1..].iter_mut().zip(args) {
        *slot = arg.as_ptr();
    }
    let used = &mut slots[..=args.len()];
    // SAFETY: attached (we hold `Bound`s), the arguments live as long as `args`, no keywords.
    unsafe {
        let result = vectorcall(callable.as_ptr(), used, args.len(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}
