//! News for watchers: how far the journal may be seen, and a bell when it grows.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// First sequence number that watchers may not see yet. Readers pull at their own pace from the
/// store, so a slow one costs nothing and loses nothing.
#[derive(Debug, Default)]
pub(super) struct Watch {
    visible: AtomicU64,
    waiting: AtomicUsize,
    bell: Mutex<()>,
    rung: Condvar,
}

impl Watch {
    pub(super) fn visible(&self) -> u64 {
        // Sequentially consistent with `waiting`: whoever waits and whoever advances must not miss
        // each other.
        self.visible.load(Ordering::SeqCst)
    }

    /// Shows everything before `seq`.
    pub(super) fn advance(&self, seq: u64) {
        self.visible.store(seq, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let _bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
            self.rung.notify_all();
        }
    }

    /// Waits until something at or after `from` may be seen, or until `deadline`.
    pub(super) fn wait(&self, from: u64, deadline: Instant) -> bool {
        if self.visible() > from {
            return true;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = deadline.saturating_duration_since(Instant::now());
        while self.visible() <= from && left > Duration::ZERO {
            bell = self.rung.wait_timeout(bell, left).unwrap_or_else(PoisonError::into_inner).0;
            left = deadline.saturating_duration_since(Instant::now());
        }
        drop(bell);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.visible() > from
    }
}
