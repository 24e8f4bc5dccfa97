//! The limiter of a lane: one GCRA per key and unit, holds, and who waits for tokens.
//!
//! What names no key shares the limiter of the key `None`. A limiter exists while it owes something
//! or somebody waits for it; an idle key leaves nothing behind.
//!
//! Whoever waited is served when the owner wakes, which on a busy machine is some milliseconds after it
//! was due. It counts as having come when it was due, so that a rate does not lose what the machine
//! held up; by [`MAKE_UP_MS`] at most, so that no window holds more than that.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::band::{Names, Parked};
use super::entry::Name;
use crate::math::Table;
use crate::math::{Gcra, Tat};
use crate::model::{LaneSpec, Priority, Rate, Timestamp};

/// Idle keys that one operation looks for at most.
const IDLE_LOOKS: usize = 2;

/// Lateness of a wake-up that a rate makes up for, in milliseconds; what is beyond is lost.
pub(super) const MAKE_UP_MS: u64 = 10;

/// The rates of a lane.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    rate: Option<Gcra>,
    budgets: Vec<(Arc<str>, Gcra)>,
}

/// Strands of one style that wait for a key.
#[derive(Debug, Default)]
struct Waiters {
    by_band: BTreeMap<Reverse<Priority>, VecDeque<Names>>,
    /// One of them was woken and has not used the tokens yet; the next is woken after it.
    awake: bool,
}

#[derive(Debug, Default)]
struct Limiter {
    rate: Tat,
    /// In the order of the rules.
    budgets: Vec<Tat>,
    held: Timestamp,
    /// By style.
    waiters: [Waiters; 3],
    /// When its waiters are looked at next.
    alarm: Option<Timestamp>,
    /// When its alarm rang last, and when it should have, as far as that is made up for.
    rang: (Timestamp, Timestamp),
}

impl Limiter {
    fn ready_at(&self, rules: &Rules, cost: u32) -> Timestamp {
        let rate = rules.rate.map_or(0, |rate| rate.ready_at(self.rate, cost));
        let owed = rules.budgets.iter().zip(&self.budgets);
        let paid = owed.map(|((_, budget), tat)| budget.ready_at(*tat, 1)).max().unwrap_or(0);
        self.held.max(Timestamp(rate.max(paid)))
    }

    fn idle_at(&self, rules: &Rules) -> Timestamp {
        let rate = rules.rate.map_or(0, |rate| rate.idle_at(self.rate));
        let owed = rules.budgets.iter().zip(&self.budgets);
        let paid = owed.map(|((_, budget), tat)| budget.idle_at(*tat)).max().unwrap_or(0);
        self.held.max(Timestamp(rate.max(paid)))
    }

    /// The alarm for `due` rings at `now`. Of several in one turn the first tells how late it is.
    fn ring(&mut self, due: Timestamp, now: Timestamp) {
        self.alarm = None;
        if self.rang.0 != now {
            self.rang = (now, due.max(Timestamp(now.0.saturating_sub(MAKE_UP_MS))));
        }
    }

    /// When what is served at `now` came: in the turn in which the alarm rang, when it was due.
    fn came(&self, now: Timestamp) -> Timestamp {
        if self.rang.0 == now { self.rang.1 } else { now }
    }

    fn is_waited_for(&self) -> bool {
        self.waiters.iter().any(|waiters| waiters.awake || !waiters.by_band.is_empty())
    }
}

#[derive(Debug, Default)]
pub(super) struct Limiters {
    rules: Rules,
    by_key: Table<Name, Limiter>,
    alarms: BTreeSet<(Timestamp, Name)>,
    /// When to see whether a key is idle; one look per limiter.
    looks: BinaryHeap<Reverse<(Timestamp, Name)>>,
}

fn rule(rate: Rate) -> Gcra {
    Gcra::new(rate.units, rate.per_ms, rate.burst)
}

impl Limiters {
    pub(super) fn new(spec: &LaneSpec) -> Self {
        let budgets = spec.budgets.iter().map(|(unit, rate)| (unit.as_str().into(), rule(*rate)));
        let rules = Rules { rate: spec.rate.map(rule), budgets: budgets.collect() };
        Self { rules, ..Self::default() }
    }

    /// Takes new rates. What is owed stays owed in units; who waits is looked at at once.
    pub(super) fn configure(&mut self, spec: &LaneSpec, now: Timestamp) {
        let new = Self::new(spec).rules;
        if new == self.rules {
            return;
        }
        let old = std::mem::replace(&mut self.rules, new);
        let keys: Vec<Name> = self.by_key.keys().cloned().collect();
        for limiter in self.by_key.values_mut() {
            limiter.rate = match (old.rate, self.rules.rate) {
                (Some(old), Some(new)) => old.convert(limiter.rate, now.0, &new),
                _ => Tat::default(),
            };
            let debts = std::mem::take(&mut limiter.budgets);
            let owed = |unit: &str, new: &Gcra| {
                let at = old.budgets.iter().position(|(other, _)| &**other == unit)?;
                Some(old.budgets[at].1.convert(*debts.get(at)?, now.0, new))
            };
            let budgets = self.rules.budgets.iter();
            limiter.budgets =
                budgets.map(|(unit, new)| owed(unit, new).unwrap_or_default()).collect();
        }
        keys.into_iter().for_each(|key| self.alarm(key, now));
    }

    /// True where nothing limits and nothing is held: nobody need ask.
    pub(super) fn is_free(&self) -> bool {
        self.rules.rate.is_none() && self.by_key.is_empty()
    }
    pub(super) fn keys(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn ready_at(&self, key: &Name, cost: u32) -> Timestamp {
        self.by_key.get(key).map_or(Timestamp(0), |limiter| limiter.ready_at(&self.rules, cost))
    }

    /// Units of the rate that are free now; `None` where there is no rate.
    pub(super) fn free(&self, key: &Name, now: Timestamp) -> Option<u32> {
        let rate = self.rules.rate?;
        Some(rate.free(self.by_key.get(key).map_or(Tat::default(), |limiter| limiter.rate), now.0))
    }

    /// Takes units of the rate.
    pub(super) fn take(&mut self, key: &Name, units: u64, now: Timestamp) {
        let Some(rate) = self.rules.rate.filter(|_| units > 0) else { return };
        let limiter = self.limiter(key);
        limiter.rate = rate.take(limiter.rate, limiter.came(now).0, units);
        self.expire(now, IDLE_LOOKS);
    }

    /// Takes units of a budget, afterwards: what is not there is a debt. False for an unknown unit.
    pub(super) fn charge(&mut self, key: &Name, unit: &str, n: u64, now: Timestamp) -> bool {
        let found = self.rules.budgets.iter().position(|(other, _)| &**other == unit);
        let Some(at) = found else { return false };
        let budget = self.rules.budgets[at].1;
        let limiter = self.limiter(key);
        limiter.budgets[at] = budget.take(limiter.budgets[at], now.0, n);
        self.expire(now, IDLE_LOOKS);
        true
    }

    /// Lets nobody of the key pass before `until`.
    pub(super) fn hold(&mut self, key: &Name, until: Timestamp) {
        let limiter = self.limiter(key);
        limiter.held = limiter.held.max(until);
    }

    fn limiter(&mut self, key: &Name) -> &mut Limiter {
        let budgets = self.rules.budgets.len();
        let looks = &mut self.looks;
        self.by_key.entry(key.clone()).or_insert_with(|| {
            looks.push(Reverse((Timestamp(0), key.clone())));
            Limiter { budgets: vec![Tat::default(); budgets], ..Limiter::default() }
        })
    }

    /// Drops a few keys that are idle, if any are.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        self.expire(now, IDLE_LOOKS);
    }

    /// Drops keys that are idle, looking at `looks` of them.
    pub(super) fn expire(&mut self, now: Timestamp, looks: usize) {
        for _ in 0..looks {
            if self.looks.peek().is_none_or(|Reverse((at, _))| *at > now) {
                return;
            }
            let Some(Reverse((_, key))) = self.looks.pop() else { return };
            let Some(limiter) = self.by_key.get(&key) else { continue };
            let idle_at = limiter.idle_at(&self.rules);
            if idle_at <= now && !limiter.is_waited_for() {
                self.by_key.remove(&key);
            } else {
                self.looks.push(Reverse((idle_at.max(now.plus(1)), key)));
            }
        }
    }

    /// A strand waits for its key, which has tokens for it at `at`.
    pub(super) fn wait(
        &mut self,
        (style, priority): (usize, Priority),
        parked: Parked,
        at: Timestamp,
    ) {
        let key = parked.names.1.clone();
        let waiters = &mut self.limiter(&key).waiters[style];
        waiters.awake &= !parked.woken;
        let line = waiters.by_band.entry(Reverse(priority)).or_default();
        match parked.first {
            true => line.push_front(parked.names),
            false => line.push_back(parked.names),
        }
        self.alarm(key, at);
    }

    fn alarm(&mut self, key: Name, at: Timestamp) {
        let Some(limiter) = self.by_key.get_mut(&key) else { return };
        if !limiter.is_waited_for() || limiter.alarm.is_some_and(|alarm| alarm <= at) {
            return;
        }
        if let Some(later) = limiter.alarm.replace(at) {
            self.alarms.remove(&(later, key.clone()));
        }
        self.alarms.insert((at, key));
    }

    /// The next key whose waiters are due.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Name> {
        let (at, _) = self.alarms.first()?;
        if *at > now {
            return None;
        }
        let (at, key) = self.alarms.pop_first()?;
        if let Some(limiter) = self.by_key.get_mut(&key) {
            limiter.ring(at, now);
        }
        Some(key)
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// The woken strand of a key has used its tokens, or is gone: the next one may be looked at.
    pub(super) fn used(&mut self, style: usize, key: &Name, now: Timestamp) {
        let Some(limiter) = self.by_key.get_mut(key) else { return };
        limiter.waiters[style].awake = false;
        let at = limiter.ready_at(&self.rules, 1);
        self.alarm(key.clone(), at.max(now));
    }

    /// The strands that have waited longest, one of each priority; none while one is awake.
    pub(super) fn heads(&self, style: usize, key: &Name) -> Vec<(Priority, Names)> {
        let Some(limiter) = self.by_key.get(key) else { return Vec::new() };
        let waiters = &limiter.waiters[style];
        if waiters.awake {
            return Vec::new();
        }
        let heads = waiters.by_band.iter();
        heads.filter_map(|(band, line)| Some((band.0, line.front()?.clone()))).collect()
    }

    /// Takes the first waiter of a priority; it is `awake` from now on.
    pub(super) fn pop(&mut self, style: usize, key: &Name, priority: Priority, awake: bool) {
        let Some(limiter) = self.by_key.get_mut(key) else { return };
        let waiters = &mut limiter.waiters[style];
        waiters.awake = awake;
        if let Some(line) = waiters.by_band.get_mut(&Reverse(priority)) {
            line.pop_front();
            if line.is_empty() {
                waiters.by_band.remove(&Reverse(priority));
            }
        }
    }

    /// Forgets who waits; all are put in line anew.
    pub(super) fn forget_waiters(&mut self) {
        self.alarms.clear();
        for limiter in self.by_key.values_mut() {
            limiter.waiters = Default::default();
            limiter.alarm = None;
        }
    }
}
