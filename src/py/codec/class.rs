//! Classes of users: what kind one is, how it is named, and that the name leads back to it.

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};

use super::fault::{Fault, Result};
use super::types::Types;

/// What a class is, as far as the codec can rebuild its instances without running their code.
pub(super) enum Shape {
    Enum,
    /// Field names.
    Dataclass(Vec<Py<PyString>>),
    /// Field names of a pydantic model.
    Model(Vec<Py<PyString>>),
    /// Field names.
    NamedTuple(Vec<Py<PyString>>),
}

impl Shape {
    /// The shape of `ty`, or `None` for a class of no such kind.
    pub(super) fn of(types: &Types, ty: &Bound<'_, PyType>) -> PyResult<Option<Self>> {
        let py = ty.py();
        if ty.is_subclass(types.enum_base.bind(py))? {
            return Ok(Some(Self::Enum));
        }
        if ty.is_subclass_of::<PyTuple>()? {
            let Some(fields) = ty.getattr_opt(intern!(py, "_fields"))? else { return Ok(None) };
            return Ok(Some(Self::NamedTuple(names(fields.try_iter()?)?)));
        }
        if let Some(base) = types.base_model(py)
            && ty.is_subclass(&base)?
        {
            let fields = ty.getattr(intern!(py, "model_fields"))?;
            return Ok(Some(Self::Model(names(fields.try_iter()?)?)));
        }
        if ty.hasattr(intern!(py, "__dataclass_fields__"))? && !stands_on_builtin(ty)? {
            let fields = types.fields.bind(py).call1((ty,))?;
            let fields = fields.try_iter()?.map(|f| f?.getattr(intern!(py, "name")));
            return Ok(Some(Self::Dataclass(names(fields)?)));
        }
        Ok(None)
    }

    pub(super) fn fields(&self) -> &[Py<PyString>] {
        match self {
            Self::Enum => &[],
            Self::Dataclass(fields) | Self::Model(fields) | Self::NamedTuple(fields) => fields,
        }
    }
}

fn names<'py>(
    fields: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
) -> PyResult<Vec<Py<PyString>>> {
    fields.map(|name| Ok(name?.cast_into::<PyString>()?.unbind())).collect()
}

/// Whether instances carry the state of a built-in (a dict, an exception, …) beside their fields.
pub(super) fn stands_on_builtin(ty: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = ty.py();
    for base in ty.mro().iter() {
        let module = base.getattr(intern!(py, "__module__"))?;
        let is_object = base.is(py.get_type::<PyAny>());
        if !is_object && module.cast::<PyString>().is_ok_and(|name| name == "builtins") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A worker process runs the main script under another name; values know it by the name of the engine's.
pub(in crate::py) fn lasting(module: String) -> String {
    if module == "__mp_main__" { "__main__".into() } else { module }
}

/// `module:qualname` of a class that can be found again under that name.
pub(super) fn name_of(types: &Types, ty: &Bound<'_, PyType>) -> Result<String> {
    let shown = label(ty);
    let (module, qualname) = match (ty.module(), ty.qualname()) {
        (Ok(module), Ok(qualname)) => (lasting(module.to_string()), qualname.to_string()),
        _ => return Err(Fault::unsupported(format!("is a {shown}, a class without a name"), MOVE)),
    };
    if qualname.contains("<locals>") {
        return Err(Fault::unsupported(
            format!("is a {shown}, a class made inside a function: it cannot be found again"),
            MOVE,
        ));
    }
    let found = types
        .imported(ty.py(), &module)
        .and_then(|module| module.map(|module| walk(&module, &qualname)).transpose());
    match found {
        Ok(Some(found)) if found.is(ty) => Ok(format!("{module}:{qualname}")),
        Ok(Some(_)) => Err(Fault::unsupported(
            format!("is a {shown}, but that name means another class by now"),
            "make the value again with the new class (a notebook cell or a reload replaced the old \
             one), or give the two classes different names",
        )),
        _ => Err(Fault::unsupported(
            format!("is a {shown}, but no class is found under that name"),
            MOVE,
        )),
    }
}

const MOVE: &str = "define the class at the top of a module under its own name, or return a dict";

/// The class behind `module:qualname`, importing the module if nobody did.
pub(super) fn find<'py>(types: &Types, py: Python<'py>, name: &str) -> Result<Bound<'py, PyType>> {
    let unknown = |why: &str| {
        Fault::new(
            "payload.unknown_type",
            format!("needs the class `{name}`, {why}"),
            "bring the class back under its old name (an alias is enough), or run the producing \
             task again",
        )
    };
    let (module, qualname) = name.split_once(':').ok_or_else(|| unknown("which is no name"))?;
    if let Ok(Some(module)) = types.imported(py, module)
        && let Ok(found) = walk(&module, qualname)
    {
        return found.cast_into::<PyType>().map_err(|_| unknown("which is no class"));
    }
    // Not imported yet, or another thread is in the middle of it: importing waits for that.
    let module =
        py.import(module).map_err(|e| unknown("whose module cannot be imported").because(e))?;
    let found = walk(&module, qualname).map_err(|e| unknown("which is gone").because(e))?;
    found.cast_into::<PyType>().map_err(|_| unknown("which is no class"))
}

/// Follows a dotted name. A name with dots in it (`Box[a.b]`) may also stand there whole.
fn walk<'py>(module: &Bound<'py, PyAny>, qualname: &str) -> PyResult<Bound<'py, PyAny>> {
    if let Some(found) = module.getattr_opt(qualname)? {
        return Ok(found);
    }
    if qualname.contains('[') {
        return Err(PyAttributeError::new_err(qualname.to_owned()));
    }
    qualname.split('.').try_fold(module.clone(), |at, name| at.getattr(name))
}

/// `module.qualname` for people; never fails.
pub(super) fn label(ty: &Bound<'_, PyType>) -> String {
    match (ty.module(), ty.qualname()) {
        (Ok(module), Ok(name)) if module == "builtins" => format!("`{name}`"),
        (Ok(module), Ok(name)) => format!("`{module}.{name}`"),
        _ => "`?`".into(),
    }
}
