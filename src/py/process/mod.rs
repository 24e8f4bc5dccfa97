//! Worker processes: agents that compute in parallel, crash alone and can be killed.
//!
//! ```text
//! owner ─ execute ─► a thread with the GIL (ship: arguments to bytes) ─► supervisor thread ─ socket ─► worker
//!       ◄──────────────────────── reports ─────────────────────────────┘       ◄─ poll ──── reports ───┘
//! ```
//! One supervisor thread per engine starts, feeds, watches and kills all workers; it never needs the
//! GIL. A worker (`child`) runs the executor of this crate over batches that came through the socket.
//! Linux only: elsewhere the pool refuses with `agent.isolation`.

#[cfg(target_os = "linux")]
mod asks;
#[cfg(target_os = "linux")]
mod child;
mod counts;
#[cfg(target_os = "linux")]
mod death;
#[cfg(target_os = "linux")]
mod desk;
#[cfg(target_os = "linux")]
mod errand;
#[cfg(target_os = "linux")]
mod inherit;
#[cfg(target_os = "linux")]
mod lines;
#[cfg(target_os = "linux")]
mod mark;
mod options;
#[cfg(target_os = "linux")]
mod outbox;
#[cfg(target_os = "linux")]
mod pool;
#[cfg(target_os = "linux")]
mod post;
#[cfg(target_os = "linux")]
mod reader;
#[cfg(target_os = "linux")]
mod ship;
#[cfg(target_os = "linux")]
mod supervisor;
#[cfg(target_os = "linux")]
mod voice;
#[cfg(target_os = "linux")]
mod worker;

#[cfg(not(target_os = "linux"))]
mod absent;

#[cfg(not(target_os = "linux"))]
pub(super) use absent::{Errand, Pool, Post, register};
#[cfg(target_os = "linux")]
pub(super) use child::register;
pub(super) use counts::Counts;
#[cfg(target_os = "linux")]
pub(super) use errand::Errand;
pub(super) use options::ProcessOptions;
#[cfg(target_os = "linux")]
pub(super) use pool::Pool;
#[cfg(target_os = "linux")]
pub(super) use post::Post;
