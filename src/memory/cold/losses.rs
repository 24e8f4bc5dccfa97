//! What was moved to the tier and is not there any more: somebody deleted it, or restored an older tier.
//!
//! A search of the tier does not miss what the tier does not have. So the tier's count of the session is held
//! against the stubs here, at most every `RECOUNT` for a tier behind a network.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Cold;
use crate::memory::service::Memory;
use crate::model::{Error, Result};

const RECOUNT: Duration = Duration::from_secs(30);
/// Sessions whose counts are kept.
const COUNTS_MAX: usize = 1_024;

/// How many memories the tier lacks, by session, and when it was asked.
#[derive(Default)]
pub(super) struct Losses(Mutex<HashMap<Arc<str>, (Instant, u64)>>);

impl Losses {
    fn known(&self, session: &str) -> Option<u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(session).filter(|(at, _)| at.elapsed() < RECOUNT).map(|(_, lost)| *lost)
    }

    fn note(&self, session: &str, lost: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTS_MAX && !counts.contains_key(session) {
            counts.clear();
        }
        counts.insert(session.into(), (Instant::now(), lost));
    }
}

impl Memory {
    /// Tells of the memories of a session that the tier should have and has not; of `seen` that is known.
    pub(super) fn lost(&self, cold: &Cold, session: &str, seen: u64) -> Result<Option<Error>> {
        let known = cold.losses.known(session).filter(|_| !cold.tier().is_near());
        let counted = match known {
            Some(lost) => lost,
            None => {
                let lost = self.count_lost(cold, session)?;
                cold.losses.note(session, lost);
                lost
            }
        };
        let lost = counted.max(seen);
        Ok((lost > 0).then(|| gone(cold.tier().name(), session, lost)))
    }

    fn count_lost(&self, cold: &Cold, session: &str) -> Result<u64> {
        let stubs = || {
            let name = cold.tier().name();
            self.look(session, |sight| Ok(sight.away().get(name).map_or(0, |count| *count as u64)))
        };
        let before = stubs()?;
        let there = cold.heard(cold.tier().count(session))?;
        if there >= before {
            return Ok(0);
        }
        // Some may have come back, or been forgotten, since they were counted here.
        Ok(stubs()?.min(before).saturating_sub(there))
    }
}

fn gone(tier: &str, session: &str, lost: u64) -> Error {
    Error::new(
        "memory.tier",
        format!("tier `{tier}` lacks {lost} memories of session `{session}` that were moved there"),
        "restore the tier; or forget them: list(session) names the first that is not there",
    )
}
