//! Points and lengths of time as plain numbers: the ground floor has no clock.

use serde::{Deserialize, Serialize};

/// A length of time in milliseconds.
pub type Millis = u64;

/// Milliseconds of a day.
pub const DAY_MS: Millis = 86_400_000;

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    pub fn plus(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length))
    }
    /// Milliseconds from `earlier` to here, 0 when `earlier` is later.
    pub fn since(self, earlier: Self) -> Millis {
        self.0.saturating_sub(earlier.0)
    }
    /// Days from `earlier` to here, 0 when `earlier` is later.
    pub fn days_since(self, earlier: Self) -> f64 {
        self.since(earlier) as f64 / DAY_MS as f64
    }
}
