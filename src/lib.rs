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

// Floor 1: what lasts.
pub mod store;

// Floor 2: the runtime.
pub mod agent;
pub mod engine;
pub mod lane;

// Floor 4: the Python package's native half.
#[cfg(feature = "python")]
mod py;
