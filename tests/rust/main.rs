//! The rules of a run by name, and the seeded simulation of the run machine.

mod floors;
mod memory;
mod run;
mod sim;
