//! The Python package's native half: thin wrappers and the Python executor.
mod batch;
mod bind;
mod call;
mod codec;
mod context;
mod executor;
mod failure;
mod looper;
mod object;
mod registry;
mod scope;
mod selftest;
mod slot;
mod steps;
mod template;
mod threads;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _goclaw {
    use super::*;

    #[pymodule_export]
    use super::codec::{_decode, _encode};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        registry::register(module)?;
        context::register(module)?;
        looper::register(module)?;
        slot::register(module)?;
        selftest::register(module)
    }
}
