//! Instances of classes of users to bytes: enums, dataclasses, pydantic models, named tuples.
//!
//! A class is written once per envelope, `[module:qualname, field, field, …]`, and named by its
//! number after that.

use std::cell::Cell;
use std::rc::Rc;

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::class::{self, Shape};
use super::encode::{Encoder, changed, raised};
use super::fault::{Fault, Result};
use super::types::Types;
use super::wire::Tag;

/// How instances of one class are written.
pub(super) struct Plan<'py> {
    class: Bound<'py, PyType>,
    name: String,
    shape: Shape,
    fields: Vec<Bound<'py, PyString>>,
    /// Number in this envelope and where in the output it was defined.
    defined: Cell<Option<(usize, usize)>>,
}

impl Plan<'_> {
    /// Whether this class is still known after the output was cut back to `len` bytes.
    pub(super) fn defined_before(&self, len: usize) -> bool {
        self.defined.get().is_some_and(|(_, at)| at < len)
    }
}

impl<'py> Encoder<'py> {
    /// The plan of a class; `None` for a class of no kind that we rebuild.
    pub(super) fn plan(
        &mut self,
        types: &Types,
        ty: &Bound<'py, PyType>,
    ) -> Result<Option<Rc<Plan<'py>>>> {
        let address = ty.as_ptr() as usize;
        if let Some(plan) = self.plans.get(&address) {
            return Ok(Some(Rc::clone(plan)));
        }
        let Some(shape) = raised(Shape::of(types, ty))? else { return Ok(None) };
        let fields = shape.fields().iter().map(|name| name.bind(self.py).clone()).collect();
        let name = class::name_of(types, ty)?;
        let plan =
            Rc::new(Plan { class: ty.clone(), name, shape, fields, defined: Cell::new(None) });
        self.plans.insert(address, Rc::clone(&plan));
        Ok(Some(plan))
    }

    pub(super) fn instance(
        &mut self,
        types: &Types,
        plan: &Plan<'py>,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        self.deeper(value, |this| match &plan.shape {
            Shape::Enum => this.member(plan, value),
            Shape::NamedTuple(_) => this.named_tuple(plan, value),
            Shape::Dataclass(_) => this.dataclass(types, plan, value),
            Shape::Model(_) => this.model(plan, value),
        })
    }

    /// The class: its definition the first time, its number afterwards.
    fn class(&mut self, plan: &Plan<'py>) -> Result<()> {
        if let Some((number, _)) = plan.defined.get() {
            self.sint(number as i64);
            return Ok(());
        }
        let number = self.plans.values().filter(|other| other.defined.get().is_some()).count();
        plan.defined.set(Some((number, self.out.len())));
        self.array_len(plan.fields.len() + 1)?;
        self.str(&plan.name)?;
        for field in &plan.fields {
            self.text(field)?;
        }
        Ok(())
    }

    fn member(&mut self, plan: &Plan<'py>, value: &Bound<'py, PyAny>) -> Result<()> {
        let py = self.py;
        let name = raised(value.getattr(intern!(py, "_name_")))?;
        let members = raised(plan.class.getattr(intern!(py, "_member_map_")))?;
        let named = !name.is_none() && members.get_item(&name).is_ok_and(|member| member.is(value));
        if named {
            self.tag(Tag::Enum, 2)?;
            self.class(plan)?;
            return self.value(&name);
        }
        let number = raised(value.getattr(intern!(py, "_value_")))?;
        // Only flags make members that have no name of their own, and only from numbers.
        if !plan.class.hasattr("_boundary_").unwrap_or(false) || number.extract::<i64>().is_err() {
            return Err(Fault::unsupported(
                format!("is no member of {}", class::label(&plan.class)),
                "return a member of the enum",
            ));
        }
        self.tag(Tag::Flag, 2)?;
        self.class(plan)?;
        self.value(&number)
    }

    fn named_tuple(&mut self, plan: &Plan<'py>, value: &Bound<'py, PyAny>) -> Result<()> {
        let own = raised(value.getattr_opt(intern!(self.py, "__dict__")))?;
        if own.is_some_and(|own| own.is_truthy().unwrap_or(true)) {
            return Err(Fault::unsupported(
                format!("is a {} with attributes beside its items", class::label(&plan.class)),
                "keep them in fields, or use a dataclass",
            ));
        }
        let tuple = raised(value.cast::<PyTuple>())?;
        if tuple.len() != plan.fields.len() {
            return Err(changed());
        }
        self.tag(Tag::NamedTuple, tuple.len() + 1)?;
        self.class(plan)?;
        for (item, name) in tuple.iter().zip(&plan.fields) {
            self.part(&item, || format!(".{name}"))?;
        }
        Ok(())
    }

    fn dataclass(
        &mut self,
        types: &Types,
        plan: &Plan<'py>,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        self.tag(Tag::Dataclass, plan.fields.len() + 2)?;
        self.class(plan)?;
        self.beyond_fields(types, plan, value)?;
        for name in &plan.fields {
            match value.getattr(name) {
                Ok(field) => self.part(&field, || format!(".{name}"))?,
                Err(error) if error.is_instance_of::<PyAttributeError>(self.py) => {
                    self.tag(Tag::Missing, 0)?;
                }
                Err(error) => {
                    let fault = raised::<(), _>(Err(error)).expect_err("it is an error");
                    return Err(fault.below(format!(".{name}"), self.out.len()));
                }
            }
        }
        Ok(())
    }

    /// Attributes that `__post_init__` and others left beside the fields. Cached properties are not
    /// among them: they come back by themselves.
    fn beyond_fields(
        &mut self,
        types: &Types,
        plan: &Plan<'py>,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        let Some(own) = raised(value.getattr_opt(intern!(self.py, "__dict__")))? else {
            self.nil();
            return Ok(());
        };
        let own = raised(own.cast_into::<PyDict>())?;
        let mut beyond = Vec::new();
        // Keys in the order of the fields are the rule, so the next field is looked at first.
        let mut next = plan.fields.iter();
        for name in own.keys() {
            let expected = next.next().is_some_and(|field| field.is(&name));
            if expected || raised(self.is_known(types, plan, &name))? {
                continue;
            }
            beyond.push(name);
        }
        if beyond.is_empty() {
            self.nil();
            return Ok(());
        }
        self.attributes(&own, &beyond)
    }

    fn is_known(
        &self,
        types: &Types,
        plan: &Plan<'py>,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<bool> {
        for field in &plan.fields {
            if field.as_any().eq(name)? {
                return Ok(true);
            }
        }
        let Ok(name) = name.cast::<PyString>() else { return Ok(false) };
        match plan.class.getattr_opt(name)? {
            Some(attribute) => attribute.is_instance(types.cached_property.bind(self.py)),
            None => Ok(false),
        }
    }

    /// Named attributes out of a dict, as a map.
    fn attributes(&mut self, of: &Bound<'py, PyDict>, names: &[Bound<'py, PyAny>]) -> Result<()> {
        self.map_len(names.len())?;
        for name in names {
            let attribute = raised(of.get_item(name))?.ok_or_else(changed)?;
            self.value(name)?;
            self.part(&attribute, || format!(".{name}"))?;
        }
        Ok(())
    }

    fn model(&mut self, plan: &Plan<'py>, value: &Bound<'py, PyAny>) -> Result<()> {
        let py = self.py;
        let state = |name| -> Result<Option<Bound<'py, PyDict>>> {
            let state = raised(value.getattr(name))?;
            if state.is_none() {
                return Ok(None);
            }
            raised(state.cast_into::<PyDict>().map(Some))
        };
        self.tag(Tag::Model, 5)?;
        self.class(plan)?;
        let fields = state(intern!(py, "__dict__"))?.unwrap_or_else(|| PyDict::new(py));
        let mut set = Vec::with_capacity(plan.fields.len());
        for name in &plan.fields {
            if raised(fields.contains(name))? {
                set.push(name.clone().into_any());
            }
        }
        self.attributes(&fields, &set)?;
        self.value(&raised(value.getattr(intern!(py, "__pydantic_fields_set__")))?)?;
        for name in [intern!(py, "__pydantic_extra__"), intern!(py, "__pydantic_private__")] {
            match state(name)? {
                None => self.nil(),
                Some(dict) => {
                    let mut names = Vec::with_capacity(dict.len());
                    for (name, value) in dict.iter() {
                        if !is_undefined(&value) {
                            names.push(name);
                        }
                    }
                    self.attributes(&dict, &names)?;
                }
            }
        }
        Ok(())
    }
}

/// pydantic's mark of a private attribute that has no value yet.
fn is_undefined(value: &Bound<'_, PyAny>) -> bool {
    value.get_type().name().is_ok_and(|name| name == "PydanticUndefinedType")
}
