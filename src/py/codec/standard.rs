//! Standard library values, both ways: what is not a built-in of the fast path but belongs to Python.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyComplex, PyDict, PyString, PyTuple};

use super::class;
use super::decode::{Decoder, broken};
use super::encode::{Encoder, raised};
use super::fault::{Fault, Result};
use super::types::{Std, Types};
use super::wire::Tag;

impl<'py> Encoder<'py> {
    pub(super) fn standard(
        &mut self,
        types: &Types,
        kind: Std,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        match kind {
            Std::Set => self.unordered(Tag::Set, value),
            Std::FrozenSet => self.unordered(Tag::FrozenSet, value),
            Std::ByteArray => {
                let bytes = raised(value.cast::<PyByteArray>())?;
                self.room(bytes.len())?;
                self.tag(Tag::ByteArray, 1)?;
                self.bytes(&bytes.to_vec())
            }
            Std::MemoryView => self.memory_view(value),
            Std::Complex => self.attributes_of(Tag::Complex, value, &["real", "imag"]),
            Std::Range => self.attributes_of(Tag::Range, value, &["start", "stop", "step"]),
            Std::DateTime => self.attributes_of(Tag::DateTime, value, &DATETIME),
            Std::Date => self.attributes_of(Tag::Date, value, &DATETIME[..3]),
            Std::Time => self.attributes_of(Tag::Time, value, &DATETIME[3..]),
            Std::TimeDelta => self.attributes_of(Tag::TimeDelta, value, &TIMEDELTA),
            Std::FixedZone => self.fixed_zone(value),
            Std::NamedZone => self.named_zone(value),
            Std::Uuid => self.attributes_of(Tag::Uuid, value, &["bytes"]),
            Std::Decimal => self.as_text(Tag::Decimal, value),
            Std::Path => self.as_text(Tag::Path, value),
            Std::PurePosixPath => self.as_text(Tag::PurePosixPath, value),
            Std::PureWindowsPath => self.as_text(Tag::PureWindowsPath, value),
            Std::OrderedDict => self.mapping(Tag::OrderedDict, 0, value, |_| Ok(())),
            Std::Counter => self.mapping(Tag::Counter, 0, value, |_| Ok(())),
            Std::DefaultDict => self.default_dict(types, value),
            Std::Deque => self.deque(value),
        }
    }

    /// The attributes, in order; zones and nested values may be among them.
    fn attributes_of(&mut self, tag: Tag, value: &Bound<'py, PyAny>, names: &[&str]) -> Result<()> {
        self.deeper(value, |this| {
            this.tag(tag, names.len())?;
            for &name in names {
                let attribute = raised(value.getattr(PyString::intern(this.py, name)))?;
                this.part(&attribute, || format!(".{name}"))?;
            }
            Ok(())
        })
    }

    fn as_text(&mut self, tag: Tag, value: &Bound<'py, PyAny>) -> Result<()> {
        self.tag(tag, 1)?;
        self.text(&raised(value.str())?)
    }

    fn unordered(&mut self, tag: Tag, value: &Bound<'py, PyAny>) -> Result<()> {
        self.deeper(value, |this| {
            let items = frozen(value)?;
            this.tag(tag, items.len())?;
            for item in items.iter() {
                this.part(&item, || format!("{{{}}}", class::label(&item.get_type())))?;
            }
            Ok(())
        })
    }

    fn memory_view(&mut self, value: &Bound<'py, PyAny>) -> Result<()> {
        let py = self.py;
        let number = |name| -> Result<usize> { raised(raised(value.getattr(name))?.extract()) };
        let format =
            raised(value.getattr(intern!(py, "format")).and_then(|f| f.extract::<String>()))?;
        // `memoryview.cast` can make these again and no others.
        let castable = format.trim_start_matches('@').len() == 1;
        if number(intern!(py, "ndim"))? != 1 || !castable {
            return Err(Fault::unsupported(
                format!("is a memoryview of format {format:?} that is no plain row of numbers"),
                "return a numpy array, or `bytes(value)`",
            ));
        }
        self.room(number(intern!(py, "nbytes"))?)?;
        let bytes = raised(value.call_method0(intern!(py, "tobytes")))?;
        self.tag(Tag::MemoryView, 2)?;
        self.bytes(raised(bytes.extract::<&[u8]>())?)?;
        self.str(&format)
    }

    fn fixed_zone(&mut self, value: &Bound<'py, PyAny>) -> Result<()> {
        let py = self.py;
        let init = raised(value.call_method0(intern!(py, "__getinitargs__")))?;
        let init = raised(init.cast_into::<PyTuple>())?;
        self.tag(Tag::FixedZone, 2)?;
        self.value(&raised(init.get_item(0))?)?;
        let name = init.get_item(1).ok().unwrap_or_else(|| py.None().into_bound(py));
        self.value(&name)
    }

    fn named_zone(&mut self, value: &Bound<'py, PyAny>) -> Result<()> {
        let key = raised(value.getattr(intern!(self.py, "key")))?;
        if key.is_none() {
            return Err(Fault::unsupported(
                "is a `zoneinfo.ZoneInfo` without a key: nobody could find it again",
                "make the zone with `ZoneInfo(\"Area/City\")`",
            ));
        }
        self.tag(Tag::NamedZone, 1)?;
        self.value(&key)
    }

    /// A dict of another class; its own `items()` knows the order.
    fn mapping(
        &mut self,
        tag: Tag,
        before: usize,
        value: &Bound<'py, PyAny>,
        head: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.deeper(value, |this| {
            let items = raised(value.call_method0(intern!(this.py, "items")))?;
            let items = frozen(&items)?;
            this.tag(tag, before + 2 * items.len())?;
            head(this)?;
            for item in items.iter() {
                let (key, value) = raised(item.extract::<(Bound<PyAny>, Bound<PyAny>)>())?;
                this.pair(&key, &value)?;
            }
            Ok(())
        })
    }

    fn default_dict(&mut self, types: &Types, value: &Bound<'py, PyAny>) -> Result<()> {
        let py = self.py;
        let factory = raised(value.getattr(intern!(py, "default_factory")))?;
        let name = FACTORIES.into_iter().find(|name| {
            types
                .imported(py, "builtins")
                .ok()
                .flatten()
                .and_then(|builtins| builtins.getattr(*name).ok())
                .is_some_and(|built_in| built_in.is(&factory))
        });
        if name.is_none() && !factory.is_none() {
            return Err(Fault::unsupported(
                "is a `collections.defaultdict` with a factory of your own, which is code",
                "return `dict(value)`, or use a built-in such as `list` or `int` as the factory",
            ));
        }
        self.mapping(Tag::DefaultDict, 1, value, |this| match name {
            Some(name) => this.str(name),
            None => {
                this.nil();
                Ok(())
            }
        })
    }

    fn deque(&mut self, value: &Bound<'py, PyAny>) -> Result<()> {
        self.deeper(value, |this| {
            let items = frozen(value)?;
            this.tag(Tag::Deque, items.len() + 1)?;
            this.value(&raised(value.getattr(intern!(this.py, "maxlen")))?)?;
            this.items(&items)
        })
    }
}

/// A copy that no Python code can change while it is walked.
fn frozen<'py>(items: &Bound<'py, PyAny>) -> Result<Bound<'py, PyTuple>> {
    let copy = raised(items.py().get_type::<PyTuple>().call1((items,)))?;
    raised(copy.cast_into::<PyTuple>())
}

const DATETIME: [&str; 9] =
    ["year", "month", "day", "hour", "minute", "second", "microsecond", "fold", "tzinfo"];
const TIMEDELTA: [&str; 3] = ["days", "seconds", "microseconds"];
const FACTORIES: [&str; 9] =
    ["list", "dict", "set", "int", "float", "str", "tuple", "bool", "frozenset"];

impl<'py> Decoder<'_, 'py> {
    /// A standard value behind its tag; `items` follow.
    pub(super) fn standard(&mut self, tag: Tag, items: usize) -> Result<Bound<'py, PyAny>> {
        let py = self.py;
        let kind = match tag {
            Tag::ByteArray => return Ok(PyByteArray::new(py, self.only_bytes(items)?).into_any()),
            Tag::MemoryView => return self.memory_view(items),
            Tag::BigInt => return self.big_int(items),
            Tag::Surrogates => {
                let bytes = PyBytes::new(py, self.only_bytes(items)?);
                return broken(bytes.call_method1("decode", ("utf-8", "surrogatepass")));
            }
            Tag::Complex => return self.complex(items),
            Tag::DateTime | Tag::Time => return self.moment(tag, items),
            Tag::OrderedDict | Tag::Counter => return self.mapping(tag, items),
            Tag::DefaultDict => return self.default_dict(items),
            Tag::Deque => return self.deque(items),
            Tag::Uuid => {
                let options = PyDict::new(py);
                let bytes = PyBytes::new(py, self.only_bytes(items)?);
                broken(options.set_item("bytes", bytes))?;
                let class = self.types()?.class(py, Std::Uuid);
                return broken(class.call((), Some(&options)));
            }
            Tag::FixedZone => {
                let arguments = self.tuple(items)?;
                let named = arguments.len() == 2 && !broken(arguments.get_item(1))?.is_none();
                let arguments = if named { arguments } else { arguments.get_slice(0, 1) };
                let class = self.types()?.class(py, Std::FixedZone);
                return broken(class.call1(arguments));
            }
            Tag::Set => Std::Set,
            Tag::FrozenSet => Std::FrozenSet,
            Tag::Range => Std::Range,
            Tag::Date => Std::Date,
            Tag::TimeDelta => Std::TimeDelta,
            Tag::NamedZone => Std::NamedZone,
            Tag::Decimal => Std::Decimal,
            Tag::Path => Std::Path,
            Tag::PurePosixPath => Std::PurePosixPath,
            Tag::PureWindowsPath => Std::PureWindowsPath,
            _ => return Err(Fault::damaged(format!("{tag:?} is out of place"))),
        };
        let class = self.types()?.class(py, kind).clone();
        let arguments = self.tuple(items)?;
        if !matches!(kind, Std::Set | Std::FrozenSet) {
            return broken(class.call1(arguments));
        }
        let set = broken(class.call1((&arguments,)))?;
        if broken(set.len())? != items {
            return Err(Fault::damaged("a set has the same item twice"));
        }
        Ok(set)
    }

    fn only_bytes(&mut self, items: usize) -> Result<&[u8]> {
        if items == 1 { self.bytes() } else { Err(Fault::damaged("bytes are missing")) }
    }

    fn big_int(&mut self, items: usize) -> Result<Bound<'py, PyAny>> {
        let py = self.py;
        let from_bytes = self.types()?.from_bytes.bind(py).clone();
        let bytes = PyBytes::new(py, self.only_bytes(items)?);
        let options = PyDict::new(py);
        broken(options.set_item("signed", true))?;
        broken(from_bytes.call((bytes, "little"), Some(&options)))
    }

    fn memory_view(&mut self, items: usize) -> Result<Bound<'py, PyAny>> {
        if items != 2 {
            return Err(Fault::damaged("a memoryview is bytes and a format"));
        }
        let class = self.types()?.class(self.py, Std::MemoryView).clone();
        let bytes = PyBytes::new(self.py, self.bytes()?);
        let format = self.str()?;
        let view = broken(class.call1((bytes,)))?;
        broken(view.call_method1("cast", (format,)))
    }

    fn complex(&mut self, items: usize) -> Result<Bound<'py, PyAny>> {
        let parts = self.tuple(items)?;
        let (real, imag) = broken(parts.extract::<(f64, f64)>())?;
        Ok(PyComplex::from_doubles(self.py, real, imag).into_any())
    }

    /// `datetime(…)` and `time(…)`: `fold` comes by keyword only, behind the zone.
    fn moment(&mut self, tag: Tag, items: usize) -> Result<Bound<'py, PyAny>> {
        let (kind, expected) =
            if tag == Tag::DateTime { (Std::DateTime, 9) } else { (Std::Time, 6) };
        if items != expected {
            return Err(Fault::damaged("a time has the wrong number of parts"));
        }
        let parts = self.tuple(items)?;
        let options = PyDict::new(self.py);
        broken(options.set_item("fold", broken(parts.get_item(items - 2))?))?;
        broken(options.set_item("tzinfo", broken(parts.get_item(items - 1))?))?;
        let class = self.types()?.class(self.py, kind);
        broken(class.call(parts.get_slice(0, items - 2), Some(&options)))
    }

    fn mapping(&mut self, tag: Tag, items: usize) -> Result<Bound<'py, PyAny>> {
        let pairs = self.pairs(items)?;
        let kind = if tag == Tag::Counter { Std::Counter } else { Std::OrderedDict };
        broken(self.types()?.class(self.py, kind).call1((pairs,)))
    }

    fn default_dict(&mut self, items: usize) -> Result<Bound<'py, PyAny>> {
        let py = self.py;
        let Some(pairs) = items.checked_sub(1) else {
            return Err(Fault::damaged("a defaultdict lacks its factory"));
        };
        let name = self.value()?;
        let factory = match name.extract::<String>() {
            Ok(name) if FACTORIES.contains(&name.as_str()) => {
                broken(py.import("builtins").and_then(|builtins| builtins.getattr(name)))?
            }
            _ if name.is_none() => name,
            _ => return Err(Fault::damaged("a defaultdict has an unknown factory")),
        };
        let pairs = self.pairs(pairs)?;
        broken(self.types()?.class(py, Std::DefaultDict).call1((factory, pairs)))
    }

    fn deque(&mut self, items: usize) -> Result<Bound<'py, PyAny>> {
        let Some(items) = items.checked_sub(1) else {
            return Err(Fault::damaged("a deque lacks its bound"));
        };
        let bound = self.value()?;
        let items = self.tuple(items)?;
        broken(self.types()?.class(self.py, Std::Deque).call1((items, bound)))
    }

    fn pairs(&mut self, items: usize) -> Result<Bound<'py, PyDict>> {
        if items % 2 == 1 {
            return Err(Fault::damaged("a key lacks its value"));
        }
        self.dict(items / 2)
    }
}
