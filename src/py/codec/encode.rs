//! Objects to bytes: the built-ins, without a Python-level call.
//!
//! Everything else goes on to `standard` (dates, sets, paths, …), `instances` (classes of users) and
//! `array` (numpy).

use std::collections::HashMap;
use std::rc::Rc;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};
use rmp::encode as mp;

use super::class;
use super::fault::{Fault, Result};
use super::instances::Plan;
use super::types::Types;
use super::wire::{DEPTH_MAX, TAG_EXT, Tag};
use crate::model::envelope::{self, TypeId};

/// One value on its way into an envelope.
pub(super) struct Encoder<'py> {
    pub py: Python<'py>,
    /// A draft: the header's place, then the body so far.
    pub out: Vec<u8>,
    /// Bytes that the whole envelope may take.
    max: usize,
    depth: usize,
    allow_pickle: bool,
    pub flags: u8,
    /// Classes met in this value, by address; the plan keeps the class alive.
    pub plans: HashMap<usize, Rc<Plan<'py>>>,
}

impl<'py> Encoder<'py> {
    pub(super) fn new(py: Python<'py>, max: usize, allow_pickle: bool) -> Self {
        let max = max.min(envelope::ENVELOPE_BYTES_MAX);
        let out = envelope::start();
        Self { py, out, max, depth: 0, allow_pickle, flags: 0, plans: HashMap::new() }
    }

    /// Writes one value of any kind.
    pub(super) fn value(&mut self, value: &Bound<'py, PyAny>) -> Result<()> {
        if let Ok(text) = value.cast_exact::<PyString>() {
            self.text(text)?;
        } else if let Ok(int) = value.cast_exact::<PyInt>() {
            self.int(int)?;
        } else if value.is_none() {
            self.nil();
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.dict(dict)?;
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.list(list)?;
        } else if let Ok(float) = value.cast_exact::<PyFloat>() {
            mp::write_f64(&mut self.out, float.value()).expect(VEC);
        } else if let Ok(bool) = value.cast_exact::<PyBool>() {
            mp::write_bool(&mut self.out, bool.is_true()).expect(VEC);
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.tuple(tuple)?;
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            self.bytes(bytes.as_bytes())?;
        } else {
            self.other(value)?;
        }
        self.room(0)
    }

    /// Writes a part and, if it is refused, adds it to the path.
    pub(super) fn part(
        &mut self,
        part: &Bound<'py, PyAny>,
        step: impl FnOnce() -> String,
    ) -> Result<()> {
        let start = self.out.len();
        self.value(part).map_err(|fault| fault.below(step(), start))
    }

    /// Writes the inside of a container: one level deeper.
    pub(super) fn deeper(
        &mut self,
        container: &Bound<'py, PyAny>,
        write: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        if self.depth == DEPTH_MAX {
            return Err(Fault::too_deep());
        }
        self.depth += 1;
        let written = write(self);
        self.depth -= 1;
        written.map_err(|fault| fault.inside(container.as_ptr() as usize))
    }

    /// Refuses to grow by `more` bytes beyond the bound.
    pub(super) fn room(&self, more: usize) -> Result<()> {
        let size = self.out.len().saturating_add(more);
        if size > self.max { Err(Fault::too_large(size, self.max)) } else { Ok(()) }
    }

    pub(super) fn nil(&mut self) {
        mp::write_nil(&mut self.out).expect(VEC);
    }

    pub(super) fn sint(&mut self, int: i64) {
        mp::write_sint(&mut self.out, int).expect(VEC);
    }

    pub(super) fn array_len(&mut self, len: usize) -> Result<()> {
        // Every item takes a byte at least, so this also bounds the length to 32 bits.
        self.room(len)?;
        mp::write_array_len(&mut self.out, len as u32).expect(VEC);
        Ok(())
    }

    pub(super) fn map_len(&mut self, len: usize) -> Result<()> {
        self.room(len.saturating_mul(2))?;
        mp::write_map_len(&mut self.out, len as u32).expect(VEC);
        Ok(())
    }

    /// Begins a tagged array of `items`.
    pub(super) fn tag(&mut self, tag: Tag, items: usize) -> Result<()> {
        self.array_len(items + 1)?;
        mp::write_ext_meta(&mut self.out, 1, TAG_EXT as i8).expect(VEC);
        self.out.push(tag as u8);
        Ok(())
    }

    pub(super) fn str(&mut self, text: &str) -> Result<()> {
        self.room(text.len())?;
        mp::write_str(&mut self.out, text).expect(VEC);
        Ok(())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.room(bytes.len())?;
        mp::write_bin(&mut self.out, bytes).expect(VEC);
        Ok(())
    }

    pub(super) fn text(&mut self, text: &Bound<'py, PyString>) -> Result<()> {
        if let Ok(text) = text.to_str() {
            return self.str(text);
        }
        let bytes = raised(text.call_method1("encode", ("utf-8", "surrogatepass")))?;
        self.tag(Tag::Surrogates, 1)?;
        self.bytes(raised(bytes.extract::<&[u8]>())?)
    }

    fn int(&mut self, int: &Bound<'py, PyInt>) -> Result<()> {
        if let Ok(small) = int.extract::<i64>() {
            self.sint(small);
            return Ok(());
        }
        let bits: usize = raised(int.call_method0("bit_length").and_then(|n| n.extract()))?;
        let len = bits / 8 + 1;
        self.room(len)?;
        let options = PyDict::new(self.py);
        raised(options.set_item("signed", true))?;
        let bytes = raised(int.call_method("to_bytes", (len, "little"), Some(&options)))?;
        self.tag(Tag::BigInt, 1)?;
        self.bytes(raised(bytes.extract::<&[u8]>())?)
    }

    fn list(&mut self, list: &Bound<'py, PyList>) -> Result<()> {
        self.deeper(list, |this| {
            let len = list.len();
            this.array_len(len)?;
            let mut written = 0;
            for (at, item) in list.iter().take(len).enumerate() {
                this.part(&item, || format!("[{at}]"))?;
                written += 1;
            }
            if written == len { Ok(()) } else { Err(changed()) }
        })
    }

    fn tuple(&mut self, tuple: &Bound<'py, PyTuple>) -> Result<()> {
        self.deeper(tuple, |this| {
            this.tag(Tag::Tuple, tuple.len())?;
            this.items(tuple)
        })
    }

    pub(super) fn items(&mut self, tuple: &Bound<'py, PyTuple>) -> Result<()> {
        for (at, item) in tuple.iter().enumerate() {
            self.part(&item, || format!("[{at}]"))?;
        }
        Ok(())
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>) -> Result<()> {
        self.deeper(dict, |this| {
            let len = dict.len();
            this.map_len(len)?;
            let mut pairs = dict.iter();
            for _ in 0..len {
                // Asked first, because the iterator panics on a dict that grew or shrank.
                let pair = if dict.len() == len { pairs.next() } else { None };
                let (key, value) = pair.ok_or_else(changed)?;
                this.pair(&key, &value)?;
            }
            if dict.len() == len { Ok(()) } else { Err(changed()) }
        })
    }

    pub(super) fn pair(
        &mut self,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        self.part(key, || format!(".keys(){}", step(key)))?;
        self.part(value, || step(key))
    }

    /// A value that is no exact built-in of the fast path.
    fn other(&mut self, value: &Bound<'py, PyAny>) -> Result<()> {
        let types = raised(Types::get(self.py))?;
        let ty = value.get_type();
        if let Some(kind) = types.standard(&ty) {
            return self.standard(types, kind, value);
        }
        let start = self.out.len();
        let refused = match self.plan(types, &ty) {
            Ok(Some(plan)) => match self.instance(types, &plan, value) {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            },
            Ok(None) if self.numpy(types, value)? => return Ok(()),
            Ok(None) => refusal(value, &ty),
            Err(fault) => fault,
        };
        if self.allow_pickle && refused.code() == "payload.unsupported" {
            // Half of the instance may be written already, and classes defined in that half.
            self.out.truncate(start);
            self.plans.retain(|_, plan| plan.defined_before(start));
            return self.pickle(value, refused);
        }
        Err(refused)
    }

    fn pickle(&mut self, value: &Bound<'py, PyAny>, refused: Box<Fault>) -> Result<()> {
        let dumps = raised(self.py.import("pickle").and_then(|pickle| pickle.getattr("dumps")))?;
        match dumps.call1((value, 5)).and_then(|bytes| Ok(bytes.cast_into::<PyBytes>()?)) {
            Ok(bytes) => {
                self.flags |= envelope::PICKLE;
                self.tag(Tag::Pickle, 1)?;
                self.bytes(bytes.as_bytes())
            }
            Err(error) => Err(refused.because(error)),
        }
    }
}

/// Writing to a `Vec` cannot fail.
pub(super) const VEC: &str = "a Vec takes every write";

/// The type id of a value, for the header.
pub(super) fn type_id(value: &Bound<'_, PyAny>) -> TypeId {
    if value.is_none() {
        TypeId::None
    } else if value.is_exact_instance_of::<PyBool>() {
        TypeId::Bool
    } else if value.is_exact_instance_of::<PyInt>() {
        TypeId::Int
    } else if value.is_exact_instance_of::<PyFloat>() {
        TypeId::Float
    } else if value.is_exact_instance_of::<PyString>() {
        TypeId::Str
    } else if value.is_exact_instance_of::<PyBytes>() {
        TypeId::Bytes
    } else if value.is_exact_instance_of::<PyList>() {
        TypeId::List
    } else if value.is_exact_instance_of::<PyDict>() {
        TypeId::Dict
    } else if value.is_exact_instance_of::<PyTuple>() {
        TypeId::Tuple
    } else {
        TypeId::Other
    }
}

/// Turns an exception of Python code under the codec's feet into a refusal.
pub(super) fn raised<T, E: Into<PyErr>>(result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| {
        let error = error.into();
        let reason = format!("could not be read: {error}");
        Fault::unsupported(reason, "see the cause; return plain data instead").because(error)
    })
}

pub(super) fn changed() -> Box<Fault> {
    Fault::unsupported(
        "changed while it was being written down",
        "return a copy that no other thread changes",
    )
}

/// `["name"]`, `[3]`; other keys by their type, because their `repr` is code of the user.
fn step(key: &Bound<'_, PyAny>) -> String {
    const KEY_CHARS_MAX: usize = 60;
    if let Ok(text) = key.cast_exact::<PyString>() {
        let text = text.to_string_lossy();
        if text.chars().count() <= KEY_CHARS_MAX {
            return format!("[{text:?}]");
        }
        return format!("[{:?}…]", text.chars().take(KEY_CHARS_MAX).collect::<String>());
    }
    if let Ok(int) = key.extract::<i64>() {
        return format!("[{int}]");
    }
    format!("[<{}>]", class::label(&key.get_type()).trim_matches('`'))
}

/// Why this object has no lasting form, and what to return instead.
fn refusal(value: &Bound<'_, PyAny>, ty: &Bound<'_, PyType>) -> Box<Fault> {
    let name = class::label(ty);
    let reason = format!("is a {name}, which cannot be written down");
    let built_in_base: Option<&str> = [
        (value.is_instance_of::<PyString>(), "str(value)"),
        (value.is_instance_of::<PyInt>(), "int(value)"),
        (value.is_instance_of::<PyFloat>(), "float(value)"),
        (value.is_instance_of::<PyDict>(), "dict(value)"),
        (value.is_instance_of::<PyList>(), "list(value)"),
        (value.is_instance_of::<PyTuple>(), "tuple(value)"),
        (value.is_instance_of::<PyBytes>(), "bytes(value)"),
    ]
    .into_iter()
    .find_map(|(is, cure)| is.then_some(cure));
    let help = match built_in_base {
        Some(cure) => format!(
            "a subclass of a built-in would come back as another type: return `{cure}`, or wrap it \
             in a dataclass"
        ),
        None => "return data instead of a live object: JSON-like values, bytes, dates, UUID, \
                 Decimal, set, tuple, Enum, dataclasses, pydantic models, numpy arrays"
            .into(),
    };
    Fault::unsupported(reason, help)
}
