//! What a running task may know of its lane.

use serde::{Deserialize, Serialize};

/// A lane's name, and the units that can be charged to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCard {
    pub lane: String,
    /// Units of its budgets.
    pub units: Vec<String>,
}
