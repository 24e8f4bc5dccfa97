//! Cold tiers: where memories lie that are hardly ever asked for.
//!
//! A tier keeps contents and vectors by session and answers the nearest of exactly one session. It
//! decides nothing: which memories move, and what may be seen of them, is `memory`'s business. Every
//! call may wait (disk, network), within bounds; so nobody calls one while holding a lock or the GIL,
//! nor on the owner thread. One conformance suite (`tests`) says what a tier is. Knows `model` only.

mod cold;
mod files;
mod http;
mod pinecone;
mod qdrant;
#[cfg(test)]
mod tests;
mod weaviate;
mod wire;

pub use cold::{Cold, Found, Tag, Tier, failed, tag, tags};
pub use files::Files;
pub use http::{Remote, Secret};
pub use pinecone::Pinecone;
pub use qdrant::Qdrant;
pub use weaviate::Weaviate;
