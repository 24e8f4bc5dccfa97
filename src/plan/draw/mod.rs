//! Pictures of a plan: Mermaid, DOT, SVG, plain text.
//!
//! `picture` says what there is to draw, `layout` where it goes, the others in which language. A
//! plan that is too large to be looked at node by node is drawn as bands of layers.

mod ascii;
mod dot;
mod label;
mod layout;
mod mermaid;
mod order;
mod picture;
mod svg;
