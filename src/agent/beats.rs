//! Signs of life of the calls of one batch. Agents write, the engine's timers read: nobody waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::model::Millis;

/// By child, counted from the first of the span. Takes no room until the first sign.
#[derive(Debug, Default)]
pub(super) struct Beats {
    /// Millisecond of the latest sign, plus 1; 0 while there was none.
    at: OnceLock<Box<[AtomicU64]>>,
    details: Mutex<HashMap<u32, Arc<str>>>,
}

impl Beats {
    pub(super) fn beat(&self, child: u32, of: u32, now: Millis) {
        let at = self.at.get_or_init(|| (0..of).map(|_| AtomicU64::new(0)).collect());
        if let Some(at) = at.get(child as usize) {
            at.store(now + 1, Ordering::Release);
        }
    }

    pub(super) fn tell(&self, child: u32, details: Arc<str>) {
        self.details.lock().unwrap_or_else(PoisonError::into_inner).insert(child, details);
    }

    /// When the child gave its latest sign of life, if it gave any.
    pub(super) fn latest(&self, child: u32) -> Option<Millis> {
        self.at.get()?.get(child as usize)?.load(Ordering::Acquire).checked_sub(1)
    }

    pub(super) fn details(&self, child: u32) -> Option<Arc<str>> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner).get(&child).cloned()
    }
}
