//! The rules of a run by name.
