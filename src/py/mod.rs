//! The Python package's native half: thin wrappers and the Python executor.
mod codec;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _goclaw {
    #[pymodule_export]
    use super::codec::{_decode, _encode};
}
