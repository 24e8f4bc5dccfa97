//! Bytes to instances of classes of users, without running their code: no `__init__`, no
//! `__post_init__`, no validators. A class may have changed since: gained fields take their default,
//! lost fields are dropped, anything else is `payload.shape_changed`.

use std::rc::Rc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::class::{self, Shape};
use super::decode::{Decoder, broken};
use super::fault::{Fault, Result};
use super::wire::Tag;

/// A class as this envelope knew it and as it is today.
pub(super) struct Known<'py> {
    class: Bound<'py, PyType>,
    name: String,
    shape: Shape,
    /// Field names when it was written.
    then: Vec<Bound<'py, PyString>>,
    /// Whether today's fields are the same ones.
    same: bool,
    /// Whether the class sets attributes as `object` does.
    plain: bool,
}

impl<'py> Known<'py> {
    fn shape_changed(&self, what: &str) -> Box<Fault> {
        Fault::new(
            "payload.shape_changed",
            format!("is a `{}`, which has changed since: {what}", self.name),
            "give new fields a default, or run the producing task again",
        )
    }

    fn has_today(&self, name: &Bound<'py, PyString>) -> bool {
        self.today().iter().any(|now| same_text(now.bind(name.py()), name))
    }

    fn today(&self) -> &[Py<PyString>] {
        self.shape.fields()
    }
}

impl<'py> Decoder<'_, 'py> {
    pub(super) fn instance(&mut self, tag: Tag, items: usize) -> Result<Bound<'py, PyAny>> {
        let known = self.known()?;
        let parts = items.checked_sub(1).ok_or_else(|| Fault::damaged("a class is missing"))?;
        match (&known.shape, tag) {
            (Shape::Enum, Tag::Enum) if parts == 1 => self.member(&known),
            (Shape::Enum, Tag::Flag) if parts == 1 => self.flag(&known),
            (Shape::NamedTuple(_), Tag::NamedTuple) if parts == known.then.len() => {
                self.named_tuple(&known)
            }
            (Shape::Dataclass(_), Tag::Dataclass) if parts == known.then.len() + 1 => {
                self.dataclass(&known)
            }
            (Shape::Model(_), Tag::Model) if parts == 4 => self.model(&known),
            _ => Err(known.shape_changed(&format!("it is no {tag:?} of {parts} parts any more"))),
        }
    }

    /// The class at hand: defined here, or named by its number.
    fn known(&mut self) -> Result<Rc<Known<'py>>> {
        if !self.array_next() {
            let number = self.value()?.extract::<usize>().ok();
            let known = number.and_then(|number| self.classes.get(number)).cloned();
            return known.ok_or_else(|| Fault::damaged("it names a class that it never defined"));
        }
        let py = self.py;
        let names = self.array_len()?;
        let name = self.str()?.to_owned();
        let mut then = Vec::new();
        for _ in 1..names {
            then.push(broken(self.value()?.cast_into::<PyString>())?);
        }
        let types = self.types()?;
        let class = class::find(types, py, &name)?;
        let refuse = |what: &str| {
            Fault::new(
                "payload.unknown_type",
                format!("needs the class `{name}`, {what}"),
                "only enums, dataclasses, pydantic models and named tuples are rebuilt",
            )
        };
        let shape = Shape::of(types, &class)
            .map_err(|e| refuse("which cannot be looked at").because(e))?
            .ok_or_else(|| refuse("which is of no kind that goclaw rebuilds"))?;
        let fields = shape.fields();
        let same = fields.len() == then.len()
            && fields.iter().zip(&then).all(|(now, then)| same_text(now.bind(py), then));
        let setattr = broken(class.getattr(intern!(py, "__setattr__")))?;
        let plain = setattr.is(&types.object_setattr);
        let known = Rc::new(Known { class, name, shape, then, same, plain });
        self.classes.push(Rc::clone(&known));
        Ok(known)
    }

    fn member(&mut self, known: &Known<'py>) -> Result<Bound<'py, PyAny>> {
        let name = self.value()?;
        let members = broken(known.class.getattr(intern!(self.py, "_member_map_")))?;
        members.get_item(&name).map_err(|error| {
            known.shape_changed(&format!("it has no member {name}")).because(error)
        })
    }

    fn flag(&mut self, known: &Known<'py>) -> Result<Bound<'py, PyAny>> {
        let value = self.value()?;
        if !known.class.hasattr("_boundary_").unwrap_or(false) || value.extract::<i64>().is_err() {
            return Err(known.shape_changed("it holds no flags"));
        }
        known.class.call1((&value,)).map_err(|error| {
            known.shape_changed(&format!("{value} is no combination of its flags")).because(error)
        })
    }

    fn named_tuple(&mut self, known: &Known<'py>) -> Result<Bound<'py, PyAny>> {
        let py = self.py;
        let items = self.tuple(known.then.len())?;
        let items = if known.same { items } else { self.reordered(known, &items)? };
        broken(self.types()?.tuple_new.bind(py).call1((&known.class, items)))
    }

    /// The items in today's order, gained ones by their default.
    fn reordered(
        &self,
        known: &Known<'py>,
        items: &Bound<'py, PyTuple>,
    ) -> Result<Bound<'py, PyTuple>> {
        let py = self.py;
        let defaults = broken(known.class.getattr(intern!(py, "_field_defaults")))?;
        let mut now = Vec::with_capacity(known.today().len());
        for name in known.today() {
            let name = name.bind(py);
            now.push(match position(&known.then, name) {
                Some(at) => broken(items.get_item(at))?,
                None => defaults.get_item(name).map_err(|error| {
                    known
                        .shape_changed(&format!("field `{name}` is new and has no default"))
                        .because(error)
                })?,
            });
        }
        broken(PyTuple::new(py, now))
    }

    fn blank(&self, known: &Known<'py>) -> Result<Bound<'py, PyAny>> {
        let new = self.types()?.object_new.bind(self.py);
        new.call1((&known.class,)).map_err(|error| {
            known.shape_changed(&format!("it cannot be made: {error}")).because(error)
        })
    }

    /// Sets an attribute past the class's own `__setattr__`, as frozen classes need it.
    fn set(
        &self,
        known: &Known<'py>,
        object: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        let set = if known.plain {
            object.setattr(name, value)
        } else {
            let setattr = self.types()?.object_setattr.bind(self.py);
            setattr.call1((object, name, value)).map(|_| ())
        };
        set.map_err(|error| {
            known.shape_changed(&format!("`{name}` cannot be set: {error}")).because(error)
        })
    }

    fn dataclass(&mut self, known: &Known<'py>) -> Result<Bound<'py, PyAny>> {
        let object = self.blank(known)?;
        if let Some(beyond) = self.optional_dict()? {
            for (name, value) in beyond.iter() {
                let name = broken(name.cast_into::<PyString>())?;
                self.set(known, &object, &name, &value)?;
            }
        }
        for name in &known.then {
            if self.skip_missing() {
                continue;
            }
            let value = self.value()?;
            if known.same || known.has_today(name) {
                self.set(known, &object, name, &value)?;
            }
        }
        if !known.same {
            self.gained(known, &object)?;
        }
        Ok(object)
    }

    /// Gives the fields that the class gained their defaults.
    fn gained(&self, known: &Known<'py>, object: &Bound<'py, PyAny>) -> Result<()> {
        let (py, types) = (self.py, self.types()?);
        let fields = broken(types.fields.bind(py).call1((&known.class,)))?;
        for field in broken(fields.try_iter())? {
            let field = broken(field)?;
            let name = broken(field.getattr(intern!(py, "name")))?;
            let name = broken(name.cast_into::<PyString>())?;
            if position(&known.then, &name).is_some() {
                continue;
            }
            let default = broken(field.getattr(intern!(py, "default")))?;
            let factory = broken(field.getattr(intern!(py, "default_factory")))?;
            let value = if !default.is(&types.missing) {
                default
            } else if !factory.is(&types.missing) {
                broken(factory.call0())?
            } else {
                let what = format!("field `{name}` is new and has no default");
                return Err(known.shape_changed(&what));
            };
            self.set(known, object, &name, &value)?;
        }
        Ok(())
    }

    /// As `BaseModel.__setstate__` does it: four attributes, no validation.
    fn model(&mut self, known: &Known<'py>) -> Result<Bound<'py, PyAny>> {
        let py = self.py;
        let object = self.blank(known)?;
        let fields = self.optional_dict()?.unwrap_or_else(|| PyDict::new(py));
        let fields_set = self.value()?;
        let extra = self.optional_dict()?;
        let private = self.optional_dict()?;
        if !known.same {
            self.update_fields(known, &fields)?;
        }
        let set = |name: &Bound<'py, PyString>, value: Bound<'py, PyAny>| {
            let setattr = self.types()?.object_setattr.bind(py);
            broken(setattr.call1((&object, name, value))).map(|_| ())
        };
        let or_none = |dict: Option<Bound<'py, PyDict>>| match dict {
            Some(dict) => dict.into_any(),
            None => py.None().into_bound(py),
        };
        set(intern!(py, "__dict__"), fields.into_any())?;
        set(intern!(py, "__pydantic_fields_set__"), fields_set)?;
        set(intern!(py, "__pydantic_extra__"), or_none(extra))?;
        set(intern!(py, "__pydantic_private__"), or_none(private))?;
        Ok(object)
    }

    /// Drops lost fields and gives gained ones their default.
    fn update_fields(&self, known: &Known<'py>, fields: &Bound<'py, PyDict>) -> Result<()> {
        let py = self.py;
        let specs = broken(known.class.getattr(intern!(py, "model_fields")))?;
        for name in fields.keys() {
            if !broken(specs.contains(&name))? {
                broken(fields.del_item(&name))?;
            }
        }
        for name in known.today() {
            let name = name.bind(py);
            // A field that was known then and has no value had none then either.
            if position(&known.then, name).is_some() {
                continue;
            }
            let spec = broken(specs.get_item(name))?;
            if broken(spec.call_method0("is_required").and_then(|yes| yes.is_truthy()))? {
                let what = format!("field `{name}` is new and has no default");
                return Err(known.shape_changed(&what));
            }
            let options = PyDict::new(py);
            broken(options.set_item("call_default_factory", true))?;
            let default = spec.call_method("get_default", (), Some(&options)).map_err(|error| {
                let what = format!("the default of `{name}` cannot be made");
                known.shape_changed(&what).because(error)
            })?;
            broken(fields.set_item(name, default))?;
        }
        Ok(())
    }
}

fn position(names: &[Bound<'_, PyString>], name: &Bound<'_, PyString>) -> Option<usize> {
    names.iter().position(|then| same_text(then, name))
}

fn same_text(a: &Bound<'_, PyString>, b: &Bound<'_, PyString>) -> bool {
    a.is(b) || a.as_any().eq(b).unwrap_or(false)
}
