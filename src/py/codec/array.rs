//! numpy arrays and scalars, both ways: dtype, shape and raw bytes, never pickles.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyString, PyTuple};

use super::decode::{Decoder, broken};
use super::encode::{Encoder, raised};
use super::fault::{Fault, Result};
use super::wire::Tag;

impl<'py> Encoder<'py> {
    /// Writes an array or a scalar of numpy; `false` if `value` is neither.
    pub(super) fn numpy(
        &mut self,
        types: &super::types::Types,
        value: &Bound<'py, PyAny>,
    ) -> Result<bool> {
        let Some(numpy) = types.numpy(self.py) else { return Ok(false) };
        let ty = value.get_type();
        let is_array = numpy.getattr(intern!(self.py, "ndarray")).is_ok_and(|array| array.is(&ty));
        if is_array {
            self.array(&numpy, value)?;
            return Ok(true);
        }
        let ours = ty.module().is_ok_and(|module| module == "numpy");
        let generic = raised(numpy.getattr(intern!(self.py, "generic")))?;
        if !ours || !raised(value.is_instance(&generic))? {
            return Ok(false);
        }
        self.scalar(&numpy, value)?;
        Ok(true)
    }

    fn array(&mut self, numpy: &Bound<'py, PyAny>, array: &Bound<'py, PyAny>) -> Result<()> {
        let py = self.py;
        let dtype = raised(array.getattr(intern!(py, "dtype")))?;
        let layout = layout(numpy, &dtype)?;
        let size: usize = raised(raised(array.getattr(intern!(py, "nbytes")))?.extract())?;
        self.room(size)?;
        let flags = raised(array.getattr(intern!(py, "flags")))?;
        let flag = |name: &str| raised(flags.getattr(name).and_then(|yes| yes.is_truthy()));
        let fortran = flag("f_contiguous")? && !flag("c_contiguous")?;
        let order = if fortran { "F" } else { "C" };
        let bytes = raised(array.call_method1(intern!(py, "tobytes"), (order,)))?;
        self.tag(Tag::Array, 4)?;
        self.value(&layout)?;
        self.value(&raised(array.getattr(intern!(py, "shape")))?)?;
        self.value(PyBool::new(py, fortran).as_any())?;
        self.value(&bytes)
    }

    fn scalar(&mut self, numpy: &Bound<'py, PyAny>, scalar: &Bound<'py, PyAny>) -> Result<()> {
        let py = self.py;
        // Texts and bytes of numpy have the length of their content; a dtype cannot say "empty".
        if let Ok(text) = scalar.cast::<PyString>() {
            self.tag(Tag::Scalar, 2)?;
            self.str("str_")?;
            return self.text(text);
        }
        if let Ok(bytes) = scalar.cast::<PyBytes>() {
            self.tag(Tag::Scalar, 2)?;
            self.str("bytes_")?;
            return self.bytes(bytes.as_bytes());
        }
        let layout = layout(numpy, &raised(scalar.getattr(intern!(py, "dtype")))?)?;
        let bytes = raised(scalar.call_method0(intern!(py, "tobytes")))?;
        self.tag(Tag::Scalar, 2)?;
        self.value(&layout)?;
        self.value(&bytes)
    }
}

/// The dtype as text, or as numpy's own description of a structured one.
fn layout<'py>(numpy: &Bound<'py, PyAny>, dtype: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
    let py = numpy.py();
    let refuse = |help: &str| {
        let what = dtype.str().map_or_else(|_| "?".into(), |name| name.to_string());
        Fault::unsupported(
            format!("is a numpy value of dtype {what}, which is not plain data"),
            help,
        )
    };
    if raised(dtype.getattr(intern!(py, "hasobject")).and_then(|yes| yes.is_truthy()))? {
        return Err(refuse("use `.tolist()`, or a dtype of numbers or fixed-length text"));
    }
    let layout = if raised(dtype.getattr(intern!(py, "names")))?.is_none() {
        raised(dtype.getattr(intern!(py, "str")))?
    } else {
        raised(format_module(numpy)?.call_method1("dtype_to_descr", (dtype,)))?
    };
    // Dtypes of other packages (bfloat16, …) look like bytes from outside: they would change.
    match read_layout(numpy, &layout) {
        Ok(again) if raised(again.eq(dtype))? => Ok(layout),
        _ => Err(refuse("convert it to a dtype of numpy first")),
    }
}

fn read_layout<'py>(
    numpy: &Bound<'py, PyAny>,
    layout: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyAny>> {
    if layout.is_instance_of::<PyString>() {
        return broken(numpy.call_method1("dtype", (layout,)));
    }
    broken(format_module(numpy)?.call_method1("descr_to_dtype", (layout,)))
}

fn format_module<'py>(numpy: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
    raised(numpy.py().import("numpy.lib.format")).map(Bound::into_any)
}

impl<'py> Decoder<'_, 'py> {
    pub(super) fn numpy(&mut self, tag: Tag, items: usize) -> Result<Bound<'py, PyAny>> {
        let py = self.py;
        let numpy = py.import("numpy").map_err(|error| {
            Fault::new(
                "payload.unknown_type",
                "is a numpy value, and numpy cannot be imported here",
                "install numpy in this environment",
            )
            .because(error)
        })?;
        let expected = if tag == Tag::Array { 4 } else { 2 };
        if items != expected {
            return Err(Fault::damaged("a numpy value has the wrong number of parts"));
        }
        let layout = self.value()?;
        if tag == Tag::Scalar {
            return self.scalar(&numpy, &layout);
        }
        let shape = broken(self.value()?.cast_into::<PyTuple>())?;
        let fortran = broken(self.value()?.extract::<bool>())?;
        let bytes = self.bytes()?;
        let dtype = plain_dtype(&numpy, &layout)?;
        let size = broken(dtype.getattr("itemsize").and_then(|n| n.extract::<usize>()))?;
        let mut total = Some(size);
        for axis in shape.iter() {
            let axis = broken(axis.extract::<usize>())?;
            total = total.and_then(|total| total.checked_mul(axis));
        }
        if total != Some(bytes.len()) {
            return Err(Fault::damaged("an array's shape does not fit its bytes"));
        }
        // Over a bytearray, so that the array can be written to like any other.
        let buffer = PyByteArray::new(py, bytes);
        make(&numpy, &shape, &dtype, buffer.into_any(), fortran)
    }

    fn scalar(
        &mut self,
        numpy: &Bound<'py, PyAny>,
        layout: &Bound<'py, PyAny>,
    ) -> Result<Bound<'py, PyAny>> {
        let py = self.py;
        let named = layout.extract::<&str>().ok().filter(|name| ["str_", "bytes_"].contains(name));
        if let Some(name) = named {
            let content = self.value()?;
            let fits = if name == "str_" {
                content.is_instance_of::<PyString>()
            } else {
                content.is_instance_of::<PyBytes>()
            };
            if !fits {
                return Err(Fault::damaged("a numpy text has no text"));
            }
            return broken(numpy.call_method1(name, (content,)));
        }
        let bytes = self.bytes()?;
        let dtype = plain_dtype(numpy, layout)?;
        if !broken(dtype.getattr("itemsize").and_then(|n| n.eq(bytes.len())))? {
            return Err(Fault::damaged("a numpy scalar does not fit its bytes"));
        }
        let buffer = PyByteArray::new(py, bytes).into_any();
        let array = make(numpy, &PyTuple::empty(py), &dtype, buffer, false)?;
        broken(array.get_item(PyTuple::empty(py)))
    }
}

/// A dtype without objects: their bytes would be addresses.
fn plain_dtype<'py>(
    numpy: &Bound<'py, PyAny>,
    layout: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyAny>> {
    let dtype = read_layout(numpy, layout)?;
    if broken(dtype.getattr("hasobject").and_then(|yes| yes.is_truthy()))? {
        return Err(Fault::damaged("an array of objects cannot come from bytes"));
    }
    Ok(dtype)
}

fn make<'py>(
    numpy: &Bound<'py, PyAny>,
    shape: &Bound<'py, PyTuple>,
    dtype: &Bound<'py, PyAny>,
    buffer: Bound<'py, PyAny>,
    fortran: bool,
) -> Result<Bound<'py, PyAny>> {
    let none = numpy.py().None();
    let order = if fortran { "F" } else { "C" };
    broken(numpy.call_method1("ndarray", (shape, dtype, buffer, 0, none, order)))
}
