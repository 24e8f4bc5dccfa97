//! What the compiler promises: refusals, bindings, growth, shape.

mod binding;
mod drawings;
mod growth;
mod lanes;
mod large;
mod properties;
mod refusals;
mod shapes;
