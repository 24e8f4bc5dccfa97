//! Where agents that lent their permit wait for another one: threads asleep, coroutines by a waker.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Called once when an agent may go on, perhaps on the owner's thread: cheap, and must not block.
pub type Waker = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Pause {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// Calls that have a permit again and have not noticed.
    given: BTreeSet<u32>,
    /// Calls that the engine is done with.
    let_go: BTreeSet<u32>,
    /// The engine is done with all.
    over: bool,
    wakers: Vec<(u32, Waker)>,
}

impl State {
    fn notices(&mut self, call: u32) -> bool {
        self.given.remove(&call) || self.is_over(call)
    }
    fn is_over(&self, call: u32) -> bool {
        self.over || self.let_go.contains(&call)
    }
    /// Wakers of a call, or all.
    fn wakers(&mut self, of: Option<u32>) -> Vec<Waker> {
        let meant = |call: u32| of.is_none_or(|of| of == call);
        let woken = self.wakers.extract_if(.., |(call, _)| meant(*call));
        woken.map(|(_, waker)| waker).collect()
    }
}

impl Pause {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True where a call may go on; what it was given it has taken then.
    pub(super) fn notices(&self, call: u32) -> bool {
        self.state().notices(call)
    }

    /// Waits until `notices` has something to say, up to `patience`.
    pub(super) fn wait(&self, call: u32, patience: Duration) {
        let none = |state: &mut State| !state.given.contains(&call) && !state.is_over(call);
        drop(self.news.wait_timeout_while(self.state(), patience, none));
    }

    /// Calls `waker` when the call may go on; at once where it may.
    pub(super) fn at_end(&self, call: u32, waker: Waker) {
        let mut state = self.state();
        if !state.given.contains(&call) && !state.is_over(call) {
            state.wakers.push((call, waker));
            return;
        }
        drop(state);
        waker();
    }

    /// A call has a permit again.
    pub(super) fn give(&self, call: u32) {
        self.change(Some(call), |state| _ = state.given.insert(call));
    }

    /// The engine is done with a call, or with all: nobody waits for a permit any more.
    pub(super) fn let_go(&self, call: Option<u32>) {
        self.change(call, |state| match call {
            Some(call) => _ = state.let_go.insert(call),
            None => state.over = true,
        });
    }

    fn change(&self, of: Option<u32>, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let woken = state.wakers(of);
        drop(state);
        self.news.notify_all();
        woken.into_iter().for_each(|wake| wake());
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "<pause: given {:?}, over {}>", state.given, state.over)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_given_to_a_call_is_taken_once_and_by_it_alone() {
        let pause = Pause::default();
        assert!(!pause.notices(1));
        pause.give(1);
        assert!(!pause.notices(2));
        pause.wait(1, Duration::from_secs(9));
        assert!(pause.notices(1) && !pause.notices(1));
    }

    #[test]
    fn wakers_hear_of_their_own_call_and_of_the_end() {
        let pause = Pause::default();
        let (heard, hears) = mpsc::channel();
        let waker = |call: u32| {
            let heard = heard.clone();
            let waker: Waker = Box::new(move || heard.send(call).expect("the test listens"));
            waker
        };
        [1, 1, 2, 3].into_iter().for_each(|call| pause.at_end(call, waker(call)));
        pause.give(1);
        assert_eq!(hears.try_iter().collect::<Vec<_>>(), [1, 1]);
        pause.at_end(1, waker(1));
        assert_eq!(hears.try_recv(), Ok(1), "it has not noticed yet");
        pause.let_go(Some(2));
        assert_eq!(hears.try_iter().collect::<Vec<_>>(), [2]);
        assert!(pause.notices(2) && pause.notices(2), "for good");
        assert!(!pause.notices(3));
        pause.let_go(None);
        assert_eq!(hears.try_iter().collect::<Vec<_>>(), [3]);
        assert!(pause.notices(3));
    }
}
