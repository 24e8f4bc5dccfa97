//! Python objects to bytes that last, and back: types survive, nothing of the user's is run.
//!
//! `encode` refuses at the producer what it could not give back exactly, and names the field;
//! `decode` trusts no byte. The written form is described in `wire`, the envelope around it in
//! `model::envelope`. The codec knows no task, no run, no store.
//!
//! Decided: subclasses of built-ins (`class Name(str)`) are refused, not degraded; a dataclass or
//! model is rebuilt from its state, not by its constructor; references to one object from two
//! places come back as two equal objects; a class is what `module:qualname` finds today.

mod array;
mod class;
mod decode;
mod encode;
mod fault;
mod instances;
mod rebuild;
mod standard;
mod types;
mod wire;

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

pub(super) use class::lasting;
pub(crate) use fault::CodecError;

use crate::model::envelope::{self, Codec};

/// Writes an object into a sealed envelope of at most `max_bytes`. With `allow_pickle`, parts that
/// have no lasting form of their own are pickled.
///
/// # Errors
/// `payload.unsupported`, `payload.too_large`, `payload.too_deep`, each with the path of the guilty
/// part.
pub(crate) fn encode(
    py: Python<'_>,
    value: &Bound<'_, PyAny>,
    max_bytes: usize,
    allow_pickle: bool,
) -> Result<Arc<[u8]>, Box<CodecError>> {
    let mut encoder = encode::Encoder::new(py, max_bytes, allow_pickle);
    encoder.value(value).map_err(|fault| fault.finish())?;
    let type_id = encode::type_id(value);
    Ok(envelope::seal(Codec::MessagePack, encoder.flags, type_id, encoder.out)?)
}

/// Verifies an envelope and rebuilds its object.
///
/// # Errors
/// `payload.damaged`, `payload.too_new`, `payload.unknown_type`, `payload.shape_changed`,
/// `payload.pickle_refused`.
pub(crate) fn decode(
    py: Python<'_>,
    bytes: &[u8],
    allow_pickle: bool,
) -> Result<Py<PyAny>, Box<CodecError>> {
    let envelope = envelope::open(bytes)?;
    if envelope.flags & envelope::PICKLE != 0 && !allow_pickle {
        return Err(decode::refuse_pickle().finish());
    }
    let mut decoder = decode::Decoder::new(py, envelope.body, allow_pickle);
    decoder.whole().map(Bound::unbind).map_err(|fault| fault.finish())
}

/// Default bound of `_encode`.
const TEST_BYTES_MAX: usize = 16 << 20;

/// Encodes for tests; failures are `ValueError(code, path, message, help)`.
#[pyfunction]
#[pyo3(signature = (value, max_bytes=None, allow_pickle=false))]
pub(crate) fn _encode<'py>(
    value: &Bound<'py, PyAny>,
    max_bytes: Option<usize>,
    allow_pickle: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = value.py();
    let sealed = encode(py, value, max_bytes.unwrap_or(TEST_BYTES_MAX), allow_pickle);
    sealed.map(|bytes| PyBytes::new(py, &bytes)).map_err(|error| plain(py, *error))
}

/// Decodes for tests; failures as `_encode`.
#[pyfunction]
#[pyo3(signature = (envelope, allow_pickle=false))]
pub(crate) fn _decode(py: Python<'_>, envelope: &[u8], allow_pickle: bool) -> PyResult<Py<PyAny>> {
    decode(py, envelope, allow_pickle).map_err(|error| plain(py, *error))
}

fn plain(py: Python<'_>, error: CodecError) -> PyErr {
    let message = error.to_failure("value").message;
    let raised = PyValueError::new_err((error.code, error.path, message, error.help));
    raised.set_cause(py, error.cause);
    raised
}
