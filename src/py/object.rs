//! Python objects as payloads: by reference in memory, through the codec where runs last.

use std::any::Any;
use std::sync::Arc;

use pyo3::prelude::*;

use super::codec;
use crate::model::{Failure, FailureKind, Opaque, Payload};

/// A Python object that the core carries. Dropped without the GIL it waits in pyo3's pool.
pub(crate) struct PyObj(pub(crate) Py<PyAny>);

impl Opaque for PyObj {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl PyObj {
    /// The object behind a payload's or failure's opaque part, where it is one of ours.
    pub(crate) fn of(opaque: &Arc<dyn Opaque>) -> Option<&Py<PyAny>> {
        // `as_any` on the trait object itself: `Arc` is `Any` too.
        opaque.as_ref().as_any().downcast_ref::<Self>().map(|object| &object.0)
    }
}

/// Stands for a value that could not be sent to a worker process, and says why.
pub(crate) struct Withheld(pub(crate) Box<Failure>);

impl Opaque for Withheld {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// How an engine carries values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    /// Objects by reference; false: encoded.
    pub(crate) memory: bool,
    /// Bound of one encoded value, bytes.
    pub(crate) payload_max: usize,
    pub(crate) allow_pickle: bool,
}

impl Default for Mode {
    /// Encoded, up to 16 MiB, without pickle.
    fn default() -> Self {
        Self { memory: false, payload_max: 16 << 20, allow_pickle: false }
    }
}

/// Makes a payload of an object.
///
/// # Errors
/// The codec's refusal as a failure of kind `Payload`.
pub(crate) fn to_payload(object: &Bound<'_, PyAny>, mode: &Mode) -> Result<Payload, Box<Failure>> {
    if mode.memory {
        return Ok(Payload::Object(Arc::new(PyObj(object.clone().unbind()))));
    }
    codec::encode(object.py(), object, mode.payload_max, mode.allow_pickle)
        .map(Payload::Bytes)
        .map_err(|error| Box::new(error.to_failure("value")))
}

/// Makes an object of a payload.
///
/// # Errors
/// A failure of kind `Payload` where the bytes cannot be read.
pub(crate) fn to_object(
    py: Python<'_>,
    payload: &Payload,
    mode: &Mode,
) -> Result<Py<PyAny>, Box<Failure>> {
    match payload {
        Payload::Object(opaque) => match PyObj::of(opaque) {
            Some(object) => Ok(object.clone_ref(py)),
            None => Err(opaque.as_ref().as_any().downcast_ref::<Withheld>().map_or_else(
                || damaged("the value is an object of another host language"),
                |withheld| withheld.0.clone(),
            )),
        },
        Payload::Bytes(bytes) => codec::decode(py, bytes, mode.allow_pickle)
            .map_err(|error| Box::new(error.to_failure("value"))),
        Payload::Blob(_) => Err(damaged("the value was not fetched from the store")),
    }
}

fn damaged(message: &str) -> Box<Failure> {
    Box::new(Failure::new(FailureKind::Payload, "payload.damaged", message))
}
