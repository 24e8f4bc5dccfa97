//! The Python package's native half: thin wrappers and the Python executor.
mod asked;
mod batch;
mod bind;
mod call;
mod codec;
mod context;
mod deferred;
mod distant;
mod document;
mod engine;
mod errors;
mod executor;
mod explain;
mod facts;
mod failure;
mod forgetting;
mod guest;
mod health;
mod incidents;
mod lanes;
mod lend;
mod logging;
mod looper;
mod mailbox;
mod memory;
mod notes;
mod notify;
mod object;
mod output;
mod plan;
mod process;
mod recall;
mod registry;
mod run;
mod scope;
#[cfg(debug_assertions)]
mod selftest;
mod session;
mod sight;
mod slot;
mod steps;
mod submit;
mod template;
mod threads;
mod tiers;
mod upkeep;
mod vectors;
mod watchdog;
mod words;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _goclaw {
    use super::*;

    #[pymodule_export]
    use super::codec::{_decode, _encode};
    #[pymodule_export]
    use super::distant::PyDistantMemory;
    #[pymodule_export]
    use super::document::{parse_yaml, to_yaml};
    #[pymodule_export]
    use super::engine::PyEngine;
    #[pymodule_export]
    use super::forgetting::{_fsrs_days_until, _fsrs_preset, _fsrs_strength};
    #[pymodule_export]
    use super::guest::PyPass;
    #[pymodule_export]
    use super::lanes::PyLanes;
    #[pymodule_export]
    use super::memory::PyMemory;
    #[pymodule_export]
    use super::notes::PyImport;
    #[pymodule_export]
    use super::plan::{PyPlan, compile, lane_sizes};
    #[pymodule_export]
    use super::run::{PyRun, PyWaiting};
    #[pymodule_export]
    use super::session::PyLetters;
    #[pymodule_export]
    use super::submit::PyTickets;
    #[pymodule_export]
    use super::upkeep::compact_store;
    #[pymodule_export]
    use super::vectors::PyVectors;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        registry::register(module)?;
        context::register(module)?;
        lend::register(module)?;
        looper::register(module)?;
        slot::register(module)?;
        process::register(module)?;
        #[cfg(debug_assertions)]
        selftest::register(module)?;
        Ok(())
    }
}
