//! The envelope around a value that lasts: what wrote it, what it is, and whether it is whole.
//!
//! Thirteen bytes in front of the body, the same in every version, so that damage can always be
//! told from newness: magic, version, codec, flags, type id, body length (u32 LE), CRC-32 (LE) of
//! the nine bytes before it and the body. It knows nothing of how a body is made (`py::codec`).
//!
//! ```
//! use goclaw::model::envelope::{Codec, TypeId, open, seal, start};
//! let mut draft = start();
//! draft.push(7); // the body: MessagePack of 7
//! let bytes = seal(Codec::MessagePack, 0, TypeId::Int, draft).unwrap();
//! assert_eq!(open(&bytes).unwrap().body, [7]);
//! ```

use std::sync::Arc;

use super::{Error, Result};

/// First byte of every envelope: the one byte that MessagePack never uses, and not a blob's mark.
pub const MAGIC: u8 = 0xC1;
/// The newest version that this build reads and the one that it writes.
pub const VERSION: u8 = 1;
/// Bytes in front of the body.
pub const HEADER_LEN: usize = 13;
/// Flag: the body holds pickles, which are opened only where the engine opted in.
pub const PICKLE: u8 = 0b0000_0001;
/// The largest envelope, header included; lengths are `u32`.
pub const ENVELOPE_BYTES_MAX: usize = u32::MAX as usize;

const KNOWN_FLAGS: u8 = PICKLE;
const LENGTH_AT: usize = 5;
const CRC_AT: usize = 9;

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    MessagePack = 1,
}

/// What the body is at its top, so that nobody decodes it only to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TypeId {
    /// Anything without a type id of its own: a dataclass, a date, a set, …
    Other = 0,
    None = 1,
    Bool = 2,
    Int = 3,
    Float = 4,
    Str = 5,
    Bytes = 6,
    List = 7,
    Dict = 8,
    Tuple = 9,
}

impl TypeId {
    /// A type id of a later build is `Other`: it is a hint, the body speaks for itself.
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::None,
            2 => Self::Bool,
            3 => Self::Int,
            4 => Self::Float,
            5 => Self::Str,
            6 => Self::Bytes,
            7 => Self::List,
            8 => Self::Dict,
            9 => Self::Tuple,
            _ => Self::Other,
        }
    }
}

/// An opened envelope, verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub version: u8,
    pub codec: Codec,
    pub flags: u8,
    pub type_id: TypeId,
    pub body: &'a [u8],
}

/// Begins a draft: room for the header, after which the body is pushed.
pub fn start() -> Vec<u8> {
    let mut draft = Vec::with_capacity(128);
    draft.resize(HEADER_LEN, 0);
    draft
}

/// Writes the header into a draft made by [`start`].
///
/// # Errors
/// `payload.too_large` above [`ENVELOPE_BYTES_MAX`].
pub fn seal(codec: Codec, flags: u8, type_id: TypeId, mut draft: Vec<u8>) -> Result<Arc<[u8]>> {
    assert!(draft.len() >= HEADER_LEN, "a draft begins with `start`");
    if draft.len() > ENVELOPE_BYTES_MAX {
        return Err(Error::new(
            "payload.too_large",
            format!("the value takes {} bytes, an envelope holds 4 GiB", draft.len()),
            "pass a path or a key instead of the data",
        ));
    }
    let length = (draft.len() - HEADER_LEN) as u32;
    draft[..LENGTH_AT].copy_from_slice(&[MAGIC, VERSION, codec as u8, flags, type_id as u8]);
    draft[LENGTH_AT..CRC_AT].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&draft);
    draft[CRC_AT..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    Ok(draft.into())
}

/// Verifies an envelope and shows its body.
///
/// # Errors
/// `payload.damaged` if any byte differs from what was sealed, `payload.too_new` if a later goclaw
/// wrote it.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>> {
    if bytes.len() < HEADER_LEN || bytes[0] != MAGIC {
        return Err(damaged("it does not begin like one"));
    }
    let length = u32::from_le_bytes(four(bytes, LENGTH_AT)) as usize;
    if length != bytes.len() - HEADER_LEN {
        return Err(damaged("its length is wrong"));
    }
    if u32::from_le_bytes(four(bytes, CRC_AT)) != checksum(bytes) {
        return Err(damaged("its checksum is wrong"));
    }
    let (version, codec, flags) = (bytes[1], bytes[2], bytes[3]);
    if version == 0 {
        return Err(damaged("there is no version 0"));
    }
    if version > VERSION {
        return Err(too_new(format!("version {version}, this build reads up to {VERSION}")));
    }
    if codec != Codec::MessagePack as u8 {
        return Err(too_new(format!("codec {codec}, which this build does not know")));
    }
    if flags & !KNOWN_FLAGS != 0 {
        return Err(too_new(format!("flags {flags:#010b}, which this build does not know")));
    }
    Ok(Envelope {
        version,
        codec: Codec::MessagePack,
        flags,
        type_id: TypeId::from_byte(bytes[4]),
        body: &bytes[HEADER_LEN..],
    })
}

/// How many items the list or tuple in an envelope has; `None` for any other value.
///
/// Reads the first bytes only: it neither verifies nor decodes.
pub fn list_len(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < HEADER_LEN || bytes[0] != MAGIC || bytes[1] != VERSION {
        return None;
    }
    let items = rmp::decode::read_array_len(&mut &bytes[HEADER_LEN..]).ok()? as usize;
    match TypeId::from_byte(bytes[4]) {
        TypeId::List => Some(items),
        // A tuple is an array whose first item says that it is one.
        TypeId::Tuple => items.checked_sub(1),
        _ => None,
    }
}

/// CRC-32 of everything but the checksum itself.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..CRC_AT]);
    crc.update(&bytes[HEADER_LEN..]);
    crc.finalize()
}

fn four(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

fn damaged(why: &str) -> Error {
    Error::new(
        "payload.damaged",
        format!("a stored value is damaged: {why}"),
        "check the disk; restore the store from a backup, or run the task again",
    )
}

fn too_new(what: String) -> Error {
    Error::new(
        "payload.too_new",
        format!("a stored value was written by a later goclaw: {what}"),
        "upgrade goclaw on this machine",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(type_id: TypeId, body: &[u8]) -> Vec<u8> {
        let mut draft = start();
        draft.extend_from_slice(body);
        seal(Codec::MessagePack, 0, type_id, draft).expect("it is small").to_vec()
    }

    /// An envelope whose checksum is right whatever its header says.
    fn forged(at: usize, byte: u8) -> Vec<u8> {
        let mut bytes = sealed(TypeId::Int, &[7]);
        bytes[at] = byte;
        let crc = checksum(&bytes);
        bytes[CRC_AT..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn an_envelope_shows_what_was_sealed() {
        let bytes = sealed(TypeId::Str, b"\xa2hi");
        assert_eq!(bytes.len(), HEADER_LEN + 3);
        let envelope = open(&bytes).expect("it is whole");
        assert_eq!(envelope.body, b"\xa2hi");
        assert_eq!(envelope.type_id, TypeId::Str);
        assert_eq!((envelope.version, envelope.flags), (VERSION, 0));
    }

    #[test]
    fn the_first_byte_is_not_the_mark_of_a_blob() {
        assert_ne!(sealed(TypeId::None, &[0xC0])[0], 0);
    }

    #[test]
    fn the_written_form_stays() {
        // Golden bytes: files of users hold them. Only ever add to this list.
        assert_eq!(
            sealed(TypeId::Int, &[7]),
            [0xC1, 1, 1, 0, 3, 1, 0, 0, 0, 0x89, 0xD7, 0xB6, 0x8A, 7]
        );
    }

    #[test]
    fn every_flipped_bit_is_damage() {
        let good = sealed(TypeId::Dict, b"\x81\xa1a\x01");
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let error = open(&bad).expect_err("a flipped bit is seen");
                assert_eq!(error.code, "payload.damaged", "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_cut_or_grown_envelope_is_damage() {
        let good = sealed(TypeId::Bytes, b"\xc4\x03abc");
        for len in 0..good.len() {
            assert_eq!(open(&good[..len]).expect_err("cut").code, "payload.damaged");
        }
        let grown = [&good[..], &[0]].concat();
        assert_eq!(open(&grown).expect_err("grown").code, "payload.damaged");
    }

    #[test]
    fn what_a_later_build_wrote_is_told_from_damage() {
        for (at, byte) in [(1, VERSION + 1), (2, 99), (3, 0b1000_0000)] {
            assert_eq!(open(&forged(at, byte)).expect_err("new").code, "payload.too_new");
        }
        assert_eq!(open(&forged(1, 0)).expect_err("zero").code, "payload.damaged");
        let hint = forged(4, 200);
        assert_eq!(open(&hint).expect("type ids are hints").type_id, TypeId::Other);
    }

    #[test]
    fn lists_and_tuples_tell_their_length() {
        assert_eq!(list_len(&sealed(TypeId::List, &[0x93, 1, 2, 3])), Some(3));
        assert_eq!(list_len(&sealed(TypeId::List, &[0xDC, 1, 0])), Some(256));
        assert_eq!(list_len(&sealed(TypeId::Tuple, &[0x91, 0xD4, 1, 1])), Some(0));
        assert_eq!(list_len(&sealed(TypeId::Tuple, &[0x90])), None);
        assert_eq!(list_len(&sealed(TypeId::Other, &[0x93, 1, 2, 3])), None);
        assert_eq!(list_len(&sealed(TypeId::List, &[0xDC, 1])), None);
        assert_eq!(list_len(&[]), None);
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = open(&bytes);
            let _ = list_len(&bytes);
        }
    }
}
