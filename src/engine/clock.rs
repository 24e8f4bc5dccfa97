//! Time for the owner: wall-clock milliseconds that never run backwards.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// The wall clock as it was when the engine opened, moved on by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    base_ms: u64,
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { base_ms: since.as_millis() as u64, start: Instant::now() }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.base_ms + self.start.elapsed().as_millis() as u64)
    }

    /// It is so much later from now on.
    #[cfg(test)]
    pub(super) fn skip(&mut self, ms: u64) {
        self.base_ms += ms;
    }

    /// The moment on the monotonic clock at which `at` is reached.
    pub(super) fn instant(&self, at: Timestamp) -> Instant {
        self.start + Duration::from_millis(at.0.saturating_sub(self.base_ms))
    }
}
