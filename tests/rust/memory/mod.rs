//! The memory's algorithms against reference data that lies beside the project.

mod data;
mod fsrs;
mod quality;
