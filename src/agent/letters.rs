//! Messages to a session, put before the run under way: a log that every call reads from its start.
//!
//! The owner puts letters in, agents read them from their own threads. What was read by anybody is
//! read for good; the owner takes note of it before it decides anything else about the run.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::model::{Payload, RunId};

/// A message, and the run that brought it.
pub type Letter = (RunId, Payload);

type Waker = Box<dyn FnOnce() + Send>;

/// Somebody who passes letters on to where they cannot be read directly.
pub trait Postman: Send + Sync {
    /// Letters came or were withdrawn. On the owner's thread: cheap, and must not block.
    fn changed(self: Arc<Self>);
}

/// The letters of one run.
#[derive(Default)]
pub struct Letters {
    inner: Mutex<Inner>,
    arrived: Condvar,
    /// Something was read that the owner has not taken note of.
    news: AtomicBool,
}

#[derive(Default)]
struct Inner {
    letters: Vec<Letter>,
    /// Of these somebody has read.
    read: usize,
    /// Of these the owner knows that they are read.
    noted: usize,
    wakers: Vec<Waker>,
    postmen: Vec<Weak<dyn Postman>>,
}

impl Inner {
    /// Those who are still there.
    fn postmen(&mut self) -> Vec<Arc<dyn Postman>> {
        self.postmen.retain(|postman| postman.strong_count() > 0);
        self.postmen.iter().filter_map(Weak::upgrade).collect()
    }
}

impl fmt::Debug for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        write!(f, "<{} letters, {} read>", inner.letters.len(), inner.read)
    }
}

impl Letters {
    /// Letters that were read in an earlier life: every call reads them again.
    pub fn read_before(letters: &[Letter]) -> Self {
        let inner = Inner {
            letters: letters.to_vec(),
            read: letters.len(),
            noted: letters.len(),
            ..Inner::default()
        };
        Self { inner: Mutex::new(inner), ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a letter in, and wakes who waits for one.
    pub fn put(&self, from: RunId, message: Payload) {
        let mut inner = self.lock();
        inner.letters.push((from, message));
        let wakers = std::mem::take(&mut inner.wakers);
        let postmen = inner.postmen();
        drop(inner);
        self.arrived.notify_all();
        wakers.into_iter().for_each(|wake| wake());
        postmen.into_iter().for_each(Postman::changed);
    }

    /// Takes a letter out that nobody has read.
    pub fn withdraw(&self, from: RunId) {
        let mut inner = self.lock();
        let read = inner.read;
        let found = inner.letters.iter().skip(read).position(|(run, _)| *run == from);
        if let Some(at) = found {
            inner.letters.remove(read + at);
            let postmen = inner.postmen();
            drop(inner);
            postmen.into_iter().for_each(Postman::changed);
        }
    }

    /// All letters, read or not.
    pub fn all(&self) -> Vec<Letter> {
        self.lock().letters.clone()
    }

    /// From now on the postman hears of every change, for as long as somebody keeps it.
    pub fn hire(&self, postman: &Arc<impl Postman + 'static>) {
        let postman: Weak<dyn Postman> = Arc::downgrade(postman) as _;
        let mut inner = self.lock();
        if inner.postmen.len() == inner.postmen.capacity() {
            inner.postmen.retain(|postman| postman.strong_count() > 0);
        }
        inner.postmen.push(postman);
    }

    /// Letters were read where a postman had brought them, and so were all before them. What has been
    /// withdrawn meanwhile is passed over.
    pub fn read_elsewhere(&self, by_run: &[RunId]) {
        let mut inner = self.lock();
        let last = inner.letters.iter().rposition(|(run, _)| by_run.contains(run));
        if let Some(last) = last.filter(|&last| last >= inner.read) {
            inner.read = last + 1;
            self.news.store(true, Ordering::Release);
        }
    }

    /// Reads up to `limit` letters from the `from`-th on. True where one was read for the first
    /// time: then the engine is to be told.
    pub fn read(&self, from: usize, limit: usize) -> (Vec<Letter>, bool) {
        let mut inner = self.lock();
        let found: Vec<_> = inner.letters.iter().skip(from).take(limit).cloned().collect();
        let until = from + found.len();
        let first = !found.is_empty() && until > inner.read;
        if first {
            inner.read = until;
            self.news.store(true, Ordering::Release);
        }
        (found, first)
    }

    /// True where something was read that nobody has taken note of.
    pub fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// Takes note of what was read; each letter once.
    pub fn note(&self) -> Vec<Letter> {
        let mut inner = self.lock();
        self.news.store(false, Ordering::Release);
        let (noted, read) = (inner.noted, inner.read);
        inner.noted = read;
        inner.letters[noted..read].to_vec()
    }

    /// Waits for a `from`-th letter; false when the time is over first.
    pub fn wait(&self, from: usize, at_most: Duration) -> bool {
        let inner = self.lock();
        let none = |inner: &mut Inner| inner.letters.len() <= from;
        let waited = self.arrived.wait_timeout_while(inner, at_most, none);
        waited.unwrap_or_else(PoisonError::into_inner).0.letters.len() > from
    }

    /// Calls `wake` when there is a `from`-th letter; at once where there is one. On the thread
    /// that puts it: it must be cheap and must not block.
    pub fn on_letter(&self, from: usize, wake: Waker) {
        let mut inner = self.lock();
        if inner.letters.len() <= from {
            inner.wakers.push(wake);
        } else {
            drop(inner);
            wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(n: u8) -> Letter {
        (RunId::from_u128(n.into()), Payload::bytes(vec![b'#', n]))
    }

    #[test]
    fn every_reader_gets_every_letter_and_each_counts_as_read_once() {
        let letters = Letters::read_before(&[letter(1)]);
        assert_eq!(letters.read(0, 9), (vec![letter(1)], false), "read in an earlier life");
        letters.put(letter(2).0, letter(2).1);
        letters.put(letter(3).0, letter(3).1);
        assert!(!letters.has_news());
        assert_eq!(letters.read(1, 1), (vec![letter(2)], true));
        assert_eq!(letters.read(0, 2), (vec![letter(1), letter(2)], false), "another reader");
        assert!(letters.has_news());
        assert_eq!(letters.note(), [letter(2)]);
        assert!(!letters.has_news() && letters.note().is_empty());
    }

    #[test]
    fn what_nobody_has_read_can_be_taken_out() {
        let letters = Letters::default();
        [1, 2, 3].map(letter).into_iter().for_each(|(from, message)| letters.put(from, message));
        letters.read(0, 1);
        letters.withdraw(letter(1).0);
        letters.withdraw(letter(2).0);
        assert_eq!(letters.read(0, 9).0, [letter(1), letter(3)]);
    }

    #[test]
    fn a_postman_hears_of_changes_and_what_was_read_elsewhere_counts_once() {
        struct Counting(std::sync::atomic::AtomicUsize);
        impl Postman for Counting {
            fn changed(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (letters, postman) = (Letters::default(), Arc::new(Counting(0.into())));
        letters.hire(&postman);
        [1, 2, 3].map(letter).into_iter().for_each(|(from, message)| letters.put(from, message));
        letters.withdraw(letter(2).0);
        letters.withdraw(letter(9).0);
        assert_eq!(postman.0.load(Ordering::Relaxed), 4, "nothing changed by the last");
        assert_eq!(letters.all(), [letter(1), letter(3)]);
        letters.read_elsewhere(&[letter(1).0, letter(2).0]);
        assert_eq!(letters.note(), [letter(1)]);
        letters.read_elsewhere(&[letter(1).0]);
        letters.read_elsewhere(&[letter(2).0]);
        assert!(!letters.has_news() && letters.note().is_empty());
        letters.withdraw(letter(1).0);
        letters.read_elsewhere(&[letter(3).0]);
        assert_eq!(letters.note(), [letter(3)]);
        drop(postman);
        letters.put(letter(4).0, letter(4).1);
    }

    #[test]
    fn a_letter_wakes_who_waits_for_it() {
        let letters = Letters::default();
        let (sender, receiver) = std::sync::mpsc::channel();
        let again = sender.clone();
        letters.on_letter(0, Box::new(move || sender.send(()).expect("the test listens")));
        assert!(receiver.try_recv().is_err() && !letters.wait(0, Duration::ZERO));
        letters.put(letter(1).0, letter(1).1);
        assert!(receiver.try_recv().is_ok() && letters.wait(0, Duration::ZERO));
        letters.on_letter(0, Box::new(move || again.send(()).expect("the test listens")));
        assert!(receiver.try_recv().is_ok(), "it is there already");
    }
}
