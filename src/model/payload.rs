//! Values on their way between tasks: bytes that last, or objects of the host language.
//!
//! A durable engine carries [`Payload::Bytes`], a sealed envelope (`codec` writes and reads it); an
//! engine in memory hands [`Payload::Object`] through untouched. Cloning shares, never copies.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// BLAKE3 of a payload's envelope.
pub type BlobHash = [u8; 32];

/// An object of the host language that the core only carries.
pub trait Opaque: Any + Send + Sync {
    fn as_any(&self) -> &dyn Any;
}

impl fmt::Debug for dyn Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<object>")
    }
}

/// A value on its way between tasks.
#[derive(Clone)]
pub enum Payload {
    /// A sealed envelope.
    Bytes(Arc<[u8]>),
    /// A live object; only in engines without a path.
    Object(Arc<dyn Opaque>),
    /// The envelope lies out of line in the store, under its hash. Only the store makes and resolves
    /// these; no other floor meets one.
    Blob(Box<Blob>),
}

/// Where an envelope lies out of line. Boxed in a payload, so that the rare case does not make every
/// pending task pay for its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    pub hash: BlobHash,
    /// Length of the envelope in bytes.
    pub len: u32,
}

impl Payload {
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes(bytes.into())
    }
    /// Length of the envelope in bytes; 0 for a live object.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Object(_) => 0,
            Self::Blob(blob) => blob.len as usize,
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Payload {
    /// Never prints contents: payloads do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "<{} bytes>", bytes.len()),
            Self::Object(_) => f.write_str("<object>"),
            Self::Blob(blob) => write!(f, "<blob of {} bytes>", blob.len),
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b),
            (Self::Blob(a), Self::Blob(b)) => a == b,
            _ => false,
        }
    }
}

/// First byte of a serialised payload that names a blob; every envelope starts with another one.
const BLOB_MARK: u8 = 0;

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::Blob(blob) => {
                let mut mark = [BLOB_MARK; 37];
                mark[1..5].copy_from_slice(&blob.len.to_le_bytes());
                mark[5..].copy_from_slice(&blob.hash);
                serializer.serialize_bytes(&mark)
            }
            Self::Object(_) => Err(S::Error::custom("a live object cannot be written down")),
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?.into_vec();
        match bytes.first() {
            Some(&BLOB_MARK) if bytes.len() == 37 => {
                let len = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
                let mut hash = [0; 32];
                hash.copy_from_slice(&bytes[5..]);
                Ok(Self::Blob(Box::new(Blob { hash, len })))
            }
            Some(&BLOB_MARK) => Err(D::Error::custom("a blob reference has 37 bytes")),
            _ => Ok(Self::Bytes(bytes.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_blobs_survive_serialisation() {
        for payload in [
            Payload::bytes(vec![7, 0, 1]),
            Payload::bytes(vec![]),
            Payload::Blob(Box::new(Blob { hash: [9; 32], len: 70_000 })),
        ] {
            let wire = rmp_serde::to_vec(&payload).expect("bytes serialise");
            let back: Payload = rmp_serde::from_slice(&wire).expect("and come back");
            assert_eq!(back, payload);
            assert_eq!(back.len(), payload.len());
        }
    }
}
