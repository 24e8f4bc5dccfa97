//! How sessions are set up and looked at. Only those set up or busy take memory.

use std::collections::HashMap;
use std::sync::Arc;

use super::inbox::Reply;
use crate::lane::SessionView;
use crate::model::WhenBusy;

/// What a session does by default; `None`: as the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionSetup {
    pub when_busy: Option<WhenBusy>,
    pub weight: Option<u32>,
}

/// A session as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionInfo {
    pub view: SessionView,
    /// What a submit does that does not say it itself.
    pub when_busy: WhenBusy,
    pub weight: u32,
}

/// A question about sessions, or a setting.
pub(super) enum SessionAsk {
    Look {
        key: Arc<str>,
        reply: Reply<SessionInfo>,
    },
    /// Keys of sessions that are busy or set up.
    Keys {
        reply: Reply<Vec<Arc<str>>>,
    },
    SetUp {
        key: Arc<str>,
        setup: SessionSetup,
        reply: Reply<()>,
    },
}

/// The defaults of an engine and its sessions. They belong to the open engine, as lanes do.
#[derive(Debug)]
pub(super) struct Setups {
    engine: WhenBusy,
    sessions: HashMap<Arc<str>, SessionSetup>,
}

impl Setups {
    pub(super) fn new(engine: WhenBusy) -> Self {
        Self { engine, sessions: HashMap::new() }
    }

    /// What the session does by default, and its weight.
    pub(super) fn of(&self, key: &str) -> (&WhenBusy, u32) {
        let own = self.sessions.get(key);
        let when_busy = own.and_then(|own| own.when_busy.as_ref()).unwrap_or(&self.engine);
        (when_busy, own.and_then(|own| own.weight).unwrap_or(1))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sessions.keys()
    }

    /// Sets a session up; with nothing to say about it, forgets it.
    pub(super) fn set(&mut self, key: Arc<str>, setup: SessionSetup) {
        if setup == SessionSetup::default() {
            self.sessions.remove(&key);
        } else {
            self.sessions.insert(key, setup);
        }
    }
}
