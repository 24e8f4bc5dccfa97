//! What agents remember: in the journal's tail as operations, in LMDB as entries, vectors and outlines.
//!
//! Reading takes the tail's operations first and a view of LMDB afterwards, as `read` does; those of
//! segments that the view holds already are left out, the others are laid over it in order.

mod copies;
mod fate;
mod lacking;
mod listing;
mod tables;
mod tail;
mod view;

pub(super) use tables::{outline_what_has_none, put};
pub(super) use tail::MemoryTail;
