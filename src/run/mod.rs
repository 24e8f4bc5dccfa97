//! The heart: one run as a pure state machine.
//!
//! ```text
//! step(run, input) :  decide → event → apply → follow → event → apply → … → effects
//! ```
//! `decide` looks at the state and an input and answers events; `apply` is the only place that
//! changes state; `follow` says which events follow from one just applied (skips, joins, the end of
//! the run); `effects` says what the world must do once the event is durable. Replay is `apply`
//! alone. No clock, no dice, no I/O: time and randomness come in as data.

mod apply;
mod cancel;
mod decide;
mod effects;
mod follow;
mod input;
mod replay;
mod retry;
mod state;
mod steer;
mod step;
mod sweep;
mod timeout;
mod view;

pub use effects::{Effect, Timer};
pub use input::{Input, Outcome, Resolution};
pub use replay::{begin, outstanding, replay};
pub use state::{Item, Run, TaskResult};
pub use step::{Turn, step};
