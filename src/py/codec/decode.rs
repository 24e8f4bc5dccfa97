//! Bytes to objects: the built-ins. Tagged arrays go on to `standard`, `rebuild` and `array`.
//!
//! The bytes are never trusted: lengths are checked against what is left, nothing is reserved ahead,
//! nesting is bounded, and whatever does not fit is `payload.damaged`.

use std::rc::Rc;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};
use rmp::Marker;

use super::fault::{Fault, Result};
use super::rebuild::Known;
use super::types::Types;
use super::wire::{DEPTH_MAX, TAG_EXT, Tag};

/// Slots of the cache of dict keys; rows of records share theirs.
const KEYS_MAX: usize = 64;
/// Longer keys are not cached.
const KEY_BYTES_MAX: usize = 32;

/// One envelope's body on its way into objects.
pub(super) struct Decoder<'a, 'py> {
    pub py: Python<'py>,
    rest: &'a [u8],
    depth: usize,
    pub allow_pickle: bool,
    /// Items of the lists and tuples that are under way, so that none needs a buffer of its own.
    stack: Vec<Bound<'py, PyAny>>,
    dicts: usize,
    keys: Vec<Option<(&'a [u8], Bound<'py, PyString>)>>,
    /// Classes defined so far, by number.
    pub classes: Vec<Rc<Known<'py>>>,
}

impl<'a, 'py> Decoder<'a, 'py> {
    pub(super) fn new(py: Python<'py>, body: &'a [u8], allow_pickle: bool) -> Self {
        Self {
            py,
            rest: body,
            depth: 0,
            allow_pickle,
            stack: Vec::new(),
            dicts: 0,
            keys: Vec::new(),
            classes: Vec::new(),
        }
    }

    /// The one value of the body, and nothing behind it.
    pub(super) fn whole(&mut self) -> Result<Bound<'py, PyAny>> {
        let value = self.value()?;
        if self.rest.is_empty() { Ok(value) } else { Err(Fault::damaged("bytes are left over")) }
    }

    pub(super) fn types(&self) -> Result<&'py Types> {
        broken(Types::get(self.py))
    }

    pub(super) fn value(&mut self) -> Result<Bound<'py, PyAny>> {
        let py = self.py;
        let value = match self.marker()? {
            Marker::Null => py.None().into_bound(py),
            Marker::True => PyBool::new(py, true).to_owned().into_any(),
            Marker::False => PyBool::new(py, false).to_owned().into_any(),
            Marker::FixPos(int) => self.int(i64::from(int)),
            Marker::FixNeg(int) => self.int(i64::from(int)),
            Marker::U8 => self.number(u8::from_be_bytes)?,
            Marker::U16 => self.number(u16::from_be_bytes)?,
            Marker::U32 => self.number(u32::from_be_bytes)?,
            Marker::U64 => self.number(u64::from_be_bytes)?,
            Marker::I8 => self.number(i8::from_be_bytes)?,
            Marker::I16 => self.number(i16::from_be_bytes)?,
            Marker::I32 => self.number(i32::from_be_bytes)?,
            Marker::I64 => self.number(i64::from_be_bytes)?,
            Marker::F64 => PyFloat::new(py, f64::from_be_bytes(self.fixed()?)).into_any(),
            marker @ (Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32) => {
                PyString::new(py, self.str_after(marker)?).into_any()
            }
            marker @ (Marker::Bin8 | Marker::Bin16 | Marker::Bin32) => {
                PyBytes::new(py, self.bytes_after(marker)?).into_any()
            }
            Marker::FixArray(len) => return self.array(usize::from(len)),
            Marker::Array16 => {
                let len = u16::from_be_bytes(self.fixed()?);
                return self.array(usize::from(len));
            }
            Marker::Array32 => {
                let len = u32::from_be_bytes(self.fixed()?);
                return self.array(len as usize);
            }
            marker @ (Marker::FixMap(_) | Marker::Map16 | Marker::Map32) => {
                let len = self.map_len_after(marker)?;
                return self.deeper(|this| this.dict(len)).map(Bound::into_any);
            }
            marker => return Err(Fault::damaged(format!("{marker:?} is out of place"))),
        };
        Ok(value)
    }

    /// A list, or what the tag in front of the items says.
    fn array(&mut self, len: usize) -> Result<Bound<'py, PyAny>> {
        self.enough(len)?;
        self.deeper(|this| {
            if len > 0 && this.rest.first() == Some(&Marker::FixExt1.to_u8()) {
                this.rest = &this.rest[1..];
                let tag = this.tag_after()?;
                return this.tagged(tag, len - 1);
            }
            let start = this.push(len)?;
            let items = this.stack.drain(start..);
            broken(PyList::new(this.py, items)).map(Bound::into_any)
        })
    }

    fn tag_after(&mut self) -> Result<Tag> {
        let [ext, tag] = self.fixed()?;
        match Tag::from_byte(tag) {
            Some(tag) if ext == TAG_EXT => Ok(tag),
            _ => Err(Fault::damaged(format!("there is no tag {tag} of kind {ext}"))),
        }
    }

    fn tagged(&mut self, tag: Tag, items: usize) -> Result<Bound<'py, PyAny>> {
        match tag {
            Tag::Tuple => self.tuple(items).map(Bound::into_any),
            Tag::Enum | Tag::Flag | Tag::NamedTuple | Tag::Dataclass | Tag::Model => {
                self.instance(tag, items)
            }
            Tag::Array | Tag::Scalar => self.numpy(tag, items),
            Tag::Pickle => self.pickle(items),
            _ => self.standard(tag, items),
        }
    }

    pub(super) fn tuple(&mut self, items: usize) -> Result<Bound<'py, PyTuple>> {
        let start = self.push(items)?;
        broken(PyTuple::new(self.py, self.stack.drain(start..)))
    }

    /// Decodes items onto the stack; answers where they begin.
    fn push(&mut self, items: usize) -> Result<usize> {
        let start = self.stack.len();
        for _ in 0..items {
            let item = self.value()?;
            self.stack.push(item);
        }
        Ok(start)
    }

    pub(super) fn dict(&mut self, len: usize) -> Result<Bound<'py, PyDict>> {
        self.enough(len.saturating_mul(2))?;
        self.dicts += 1;
        let dict = PyDict::new(self.py);
        for _ in 0..len {
            let key = self.key()?;
            let value = self.value()?;
            broken(dict.set_item(key, value))?;
        }
        if dict.len() == len { Ok(dict) } else { Err(Fault::damaged("a dict has a key twice")) }
    }

    /// Whether the next thing is a map, which is then decoded; or nil.
    pub(super) fn optional_dict(&mut self) -> Result<Option<Bound<'py, PyDict>>> {
        match self.marker()? {
            Marker::Null => Ok(None),
            marker => {
                let len = self.map_len_after(marker)?;
                self.dict(len).map(Some)
            }
        }
    }

    /// A dict's key; short texts come out of the cache.
    fn key(&mut self) -> Result<Bound<'py, PyAny>> {
        let Some(&first) = self.rest.first() else { return Err(short()) };
        let Marker::FixStr(len) = Marker::from_u8(first) else { return self.value() };
        self.rest = &self.rest[1..];
        let text = self.take(usize::from(len))?;
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Ok(PyString::new(self.py, utf8(text)?).into_any());
        }
        if self.keys.is_empty() {
            // One dict alone has no keys to share.
            if self.dicts < 2 {
                return Ok(PyString::new(self.py, utf8(text)?).into_any());
            }
            self.keys.resize(KEYS_MAX, None);
        }
        let (head, tail) = (usize::from(text[0]), usize::from(text[text.len() - 1]));
        let slot = &mut self.keys[(head * 7 + tail * 3 + text.len()) % KEYS_MAX];
        if let Some((known, key)) = slot
            && *known == text
        {
            return Ok(key.clone().into_any());
        }
        let key = PyString::new(self.py, utf8(text)?);
        *slot = Some((text, key.clone()));
        Ok(key.into_any())
    }

    pub(super) fn str(&mut self) -> Result<&'a str> {
        let marker = self.marker()?;
        self.str_after(marker)
    }

    fn str_after(&mut self, marker: Marker) -> Result<&'a str> {
        let len = match marker {
            Marker::FixStr(len) => usize::from(len),
            Marker::Str8 => usize::from(u8::from_be_bytes(self.fixed()?)),
            Marker::Str16 => usize::from(u16::from_be_bytes(self.fixed()?)),
            Marker::Str32 => u32::from_be_bytes(self.fixed()?) as usize,
            _ => return Err(Fault::damaged("a text is missing")),
        };
        utf8(self.take(len)?)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let marker = self.marker()?;
        self.bytes_after(marker)
    }

    fn bytes_after(&mut self, marker: Marker) -> Result<&'a [u8]> {
        let len = match marker {
            Marker::Bin8 => usize::from(u8::from_be_bytes(self.fixed()?)),
            Marker::Bin16 => usize::from(u16::from_be_bytes(self.fixed()?)),
            Marker::Bin32 => u32::from_be_bytes(self.fixed()?) as usize,
            _ => return Err(Fault::damaged("bytes are missing")),
        };
        self.take(len)
    }

    fn map_len_after(&mut self, marker: Marker) -> Result<usize> {
        match marker {
            Marker::FixMap(len) => Ok(usize::from(len)),
            Marker::Map16 => Ok(usize::from(u16::from_be_bytes(self.fixed()?))),
            Marker::Map32 => Ok(u32::from_be_bytes(self.fixed()?) as usize),
            _ => Err(Fault::damaged("a map is missing")),
        }
    }

    pub(super) fn array_len(&mut self) -> Result<usize> {
        let len = match self.marker()? {
            Marker::FixArray(len) => usize::from(len),
            Marker::Array16 => usize::from(u16::from_be_bytes(self.fixed()?)),
            Marker::Array32 => u32::from_be_bytes(self.fixed()?) as usize,
            _ => return Err(Fault::damaged("an array is missing")),
        };
        self.enough(len)?;
        Ok(len)
    }

    /// Whether an array comes next, unread.
    pub(super) fn array_next(&self) -> bool {
        self.rest.first().is_some_and(|&byte| {
            matches!(Marker::from_u8(byte), Marker::FixArray(_) | Marker::Array16 | Marker::Array32)
        })
    }

    /// Whether `[Missing]` comes next, which is then passed over.
    pub(super) fn skip_missing(&mut self) -> bool {
        let missing = [0x91, Marker::FixExt1.to_u8(), TAG_EXT, Tag::Missing as u8];
        match self.rest.strip_prefix(&missing) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn int(&self, int: i64) -> Bound<'py, PyAny> {
        let Ok(int) = int.into_pyobject(self.py);
        int.into_any()
    }

    fn number<T, const N: usize>(&mut self, read: fn([u8; N]) -> T) -> Result<Bound<'py, PyAny>>
    where
        T: IntoPyObjectExt<'py>,
    {
        let number = read(self.fixed()?);
        broken(number.into_bound_py_any(self.py))
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        // The encoder does not count the inside of a leaf, such as the offset in a zone.
        if self.depth >= DEPTH_MAX + 4 {
            return Err(Fault::too_deep());
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// Every item takes a byte at least: a length beyond what is left is a lie.
    fn enough(&self, items: usize) -> Result<()> {
        if items > self.rest.len() { Err(short()) } else { Ok(()) }
    }

    fn marker(&mut self) -> Result<Marker> {
        let [byte] = self.fixed()?;
        Ok(Marker::from_u8(byte))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(short)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn pickle(&mut self, items: usize) -> Result<Bound<'py, PyAny>> {
        if !self.allow_pickle {
            return Err(refuse_pickle());
        }
        if items != 1 {
            return Err(Fault::damaged("a pickle is bytes"));
        }
        let bytes = PyBytes::new(self.py, self.bytes()?);
        let loads = broken(self.py.import("pickle").and_then(|pickle| pickle.getattr("loads")))?;
        loads.call1((bytes,)).map_err(|error| {
            Fault::new(
                "payload.unknown_type",
                format!("holds a pickle that does not load: {error}"),
                "bring its class back under its old name, or run the producing task again",
            )
            .because(error)
        })
    }
}

pub(super) fn refuse_pickle() -> Box<Fault> {
    Fault::new(
        "payload.pickle_refused",
        "holds a pickle, and loading one runs whatever code it names",
        "write the value again with a version that needs no pickle",
    )
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Fault::damaged("a text is not UTF-8"))
}

fn short() -> Box<Fault> {
    Fault::damaged("it ends too early")
}

/// An exception of Python over what the bytes ask for.
pub(super) fn broken<T, E: Into<PyErr>>(result: std::result::Result<T, E>) -> Result<T> {
    result
        .map_err(Into::into)
        .map_err(|error: PyErr| Fault::damaged(error.to_string()).because(error))
}
