//! Python classes that the codec knows by heart, looked up once.
//!
//! numpy and pydantic are never imported for encoding: if they were not imported, there is no value
//! of theirs.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// Standard classes; only exact instances are written in their compact form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Std {
    Set,
    FrozenSet,
    ByteArray,
    MemoryView,
    Complex,
    Range,
    DateTime,
    Date,
    Time,
    TimeDelta,
    FixedZone,
    NamedZone,
    Uuid,
    Decimal,
    Path,
    PurePosixPath,
    PureWindowsPath,
    OrderedDict,
    Counter,
    DefaultDict,
    Deque,
}

const STANDARD: [(&str, &str, Std); 21] = [
    ("builtins", "set", Std::Set),
    ("builtins", "frozenset", Std::FrozenSet),
    ("builtins", "bytearray", Std::ByteArray),
    ("builtins", "memoryview", Std::MemoryView),
    ("builtins", "complex", Std::Complex),
    ("builtins", "range", Std::Range),
    ("datetime", "datetime", Std::DateTime),
    ("datetime", "date", Std::Date),
    ("datetime", "time", Std::Time),
    ("datetime", "timedelta", Std::TimeDelta),
    ("datetime", "timezone", Std::FixedZone),
    ("zoneinfo", "ZoneInfo", Std::NamedZone),
    ("uuid", "UUID", Std::Uuid),
    ("decimal", "Decimal", Std::Decimal),
    ("pathlib", "PurePosixPath", Std::PurePosixPath),
    ("pathlib", "PureWindowsPath", Std::PureWindowsPath),
    ("collections", "OrderedDict", Std::OrderedDict),
    ("collections", "Counter", Std::Counter),
    ("collections", "defaultdict", Std::DefaultDict),
    ("collections", "deque", Std::Deque),
    // What `pathlib.Path` makes on this system.
    ("pathlib", if cfg!(windows) { "WindowsPath" } else { "PosixPath" }, Std::Path),
];

/// The look-ups of one interpreter.
pub(super) struct Types {
    by_address: HashMap<usize, Std>,
    standard: Vec<(Std, Py<PyType>)>,
    pub enum_base: Py<PyType>,
    /// `dataclasses.fields`, `dataclasses.MISSING`.
    pub fields: Py<PyAny>,
    pub missing: Py<PyAny>,
    pub cached_property: Py<PyType>,
    pub object_new: Py<PyAny>,
    pub object_setattr: Py<PyAny>,
    pub tuple_new: Py<PyAny>,
    pub from_bytes: Py<PyAny>,
    /// `sys.modules`.
    modules: Py<PyDict>,
}

impl Types {
    pub(super) fn get(py: Python<'_>) -> PyResult<&Self> {
        static TYPES: PyOnceLock<Types> = PyOnceLock::new();
        TYPES.get_or_try_init(py, || Self::look_up(py))
    }

    fn look_up(py: Python<'_>) -> PyResult<Self> {
        let find = |module: &str, name: &str| py.import(module)?.getattr(name);
        let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
            Ok(find(module, name)?.cast_into::<PyType>()?.unbind())
        };
        let mut standard = Vec::new();
        for (module, name, kind) in STANDARD {
            standard.push((kind, class(module, name)?));
        }
        let object = find("builtins", "object")?;
        Ok(Self {
            by_address: standard.iter().map(|(kind, ty)| (ty.as_ptr() as usize, *kind)).collect(),
            standard,
            enum_base: class("enum", "Enum")?,
            fields: find("dataclasses", "fields")?.unbind(),
            missing: find("dataclasses", "MISSING")?.unbind(),
            cached_property: class("functools", "cached_property")?,
            object_new: object.getattr("__new__")?.unbind(),
            object_setattr: object.getattr("__setattr__")?.unbind(),
            tuple_new: find("builtins", "tuple")?.getattr("__new__")?.unbind(),
            from_bytes: find("builtins", "int")?.getattr("from_bytes")?.unbind(),
            modules: find("sys", "modules")?.cast_into::<PyDict>()?.unbind(),
        })
    }

    /// The standard class that `ty` is exactly.
    pub(super) fn standard(&self, ty: &Bound<'_, PyType>) -> Option<Std> {
        self.by_address.get(&(ty.as_ptr() as usize)).copied()
    }

    pub(super) fn class<'py>(&self, py: Python<'py>, kind: Std) -> &Bound<'py, PyType> {
        let found = self.standard.iter().find(|(std, _)| *std == kind);
        found.expect("every kind is in STANDARD").1.bind(py)
    }

    /// A module that is already imported.
    pub(super) fn imported<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        // An entry of None blocks an import, so it is no module.
        Ok(self.modules.bind(py).get_item(name)?.filter(|module| !module.is_none()))
    }

    /// `pydantic.BaseModel`, if anybody imported it.
    pub(super) fn base_model<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let module = self.imported(py, "pydantic.main").ok()??;
        module.getattr("BaseModel").ok()
    }

    /// `numpy`, if anybody imported it.
    pub(super) fn numpy<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.imported(py, "numpy").ok()?
    }
}
