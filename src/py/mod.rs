//! The Python package's native half: thin wrappers and the Python executor.
use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _goclaw {}
