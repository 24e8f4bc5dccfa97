//! goclaw: a durable multi-agent orchestration engine.
//!
//! The house stands on floors; a module imports only from floors below it (`tests/rust/floors.rs`
//! checks). One line runs through it: declare → compile → submit → decide → journal → apply →
//! lane → agent → decide → … → event. `ARCHITECTURE.md` is the map.

// Floor 0, the ground: pure values and decisions. No clock, no I/O, no Python.
pub mod math;
pub mod model;
pub mod plan;
pub mod run;

// Floor 1: what lasts, and what is derived from it.
pub mod index;
pub mod store;
pub mod tier;

// Floor 2: the runtime.
pub mod agent;
pub mod engine;
pub mod lane;
pub mod memory;

// Floor 4: the Python package's native half.
#[cfg(feature = "python")]
mod py;
