//! How tests look at the owner, and move its clock.

use super::*;

impl Engine {
    /// Has the owner thread do something between two messages.
    pub(super) fn probe<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut owner::Owner) -> T + Send + 'static,
    ) -> T {
        let look = |reply: mpsc::SyncSender<T>| {
            inbox::Message::Probe(Box::new(move |owner| drop(reply.send(look(owner)))))
        };
        self.ask(look).expect("the engine is open")
    }
}
