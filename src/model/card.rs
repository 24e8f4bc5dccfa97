//! What a running task may know of its lane.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A lane's name, and the units that can be charged to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCard {
    pub lane: String,
    /// Units of its budgets.
    pub units: Vec<String>,
    /// Of a task that was redirected: the lanes that it came through, the nearest first.
    #[serde(default)]
    pub from: Vec<Arc<LaneCard>>,
}

impl LaneCard {
    /// The lane that pays for a unit: this one, else the nearest of those that the task came through.
    pub fn payer(&self, unit: &str) -> Option<&str> {
        let cards = std::iter::once(self).chain(self.from.iter().map(Arc::as_ref));
        let pays = |card: &&Self| card.units.iter().any(|known| known == unit);
        cards.into_iter().find(pays).map(|card| card.lane.as_str())
    }
}
