//! The generic cell rate algorithm: a rate with bursts, in one number per key.
//!
//! Source: ITU-T Recommendation I.371 (ATM Forum TM 4.0), "virtual scheduling". A unit that arrives
//! is expected no sooner than its theoretical arrival time (TAT); each one taken moves the TAT by the
//! emission interval. Time is counted in ticks of `1/units` of the caller's time unit, so that the
//! interval is the whole number `per`. The caller's clock stands still for a whole unit of time: what
//! comes in the unit in which it was expected came when it was expected. So no rate drifts, however odd.

/// A rate of `units` in each `per` units of time, of which `burst` may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    units: u128,
    /// The emission interval, in ticks.
    per: u128,
    burst: u128,
}

/// The theoretical arrival time, in ticks of its [`Gcra`]. The default owes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat(u128);

impl Gcra {
    /// Zeros count as 1: a rate of nothing would never let anybody pass.
    pub fn new(units: u32, per: u64, burst: u32) -> Self {
        let units = u128::from(units.max(1));
        Self { units, per: per.max(1).into(), burst: burst.max(1).into() }
    }

    /// The first moment, in the caller's time, at which `cost` units conform.
    ///
    /// A cost above the burst waits for a full bucket and leaves a debt.
    pub fn ready_at(&self, tat: Tat, cost: u32) -> u64 {
        let cost = u128::from(cost);
        let spare = self.burst.saturating_sub(cost) * self.per;
        narrow(tat.0.saturating_sub(spare).div_ceil(self.units))
    }

    /// The TAT after `cost` units at `now`, whether they conform or not: what does not is a debt.
    pub fn take(&self, tat: Tat, now: u64, cost: u64) -> Tat {
        let taken = u128::from(cost).saturating_mul(self.per);
        let came = self.ticks(now).saturating_sub(self.units - 1);
        Tat(tat.0.max(came).saturating_add(taken))
    }

    /// Whole units that conform at `now`.
    pub fn free(&self, tat: Tat, now: u64) -> u32 {
        let owed = tat.0.saturating_sub(self.ticks(now));
        let free = (self.burst * self.per).saturating_sub(owed) / self.per;
        u32::try_from(free).unwrap_or(u32::MAX)
    }

    /// The moment from which on the TAT says nothing any more: the bucket is full.
    pub fn idle_at(&self, tat: Tat) -> u64 {
        narrow(tat.0.saturating_add(self.units - 1).div_ceil(self.units))
    }

    /// The same debt in units, as `other` counts it from `now` on.
    pub fn convert(&self, tat: Tat, now: u64, other: &Self) -> Tat {
        let owed = tat.0.saturating_sub(self.ticks(now));
        Tat(other.ticks(now).saturating_add(owed.saturating_mul(other.per) / self.per))
    }

    fn ticks(&self, now: u64) -> u128 {
        u128::from(now) * self.units
    }
}

fn narrow(time: u128) -> u64 {
    u64::try_from(time).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A bucket of tokens that somebody fills: the naive way to say the same.
    struct Bucket {
        rate: (u128, u128, u128),
        /// Level in `1/per` of a unit; below zero in debt.
        level: i128,
        at: u64,
    }

    impl Bucket {
        fn new(units: u32, per: u64, burst: u32) -> Self {
            let rate = (units.into(), per.into(), burst.into());
            Self { rate, level: (rate.2 * rate.1) as i128, at: 0 }
        }
        fn fill(&mut self, now: u64) {
            let (units, per, burst) = self.rate;
            self.level += (u128::from(now - self.at) * units) as i128;
            // What came within this unit of time is not lost yet.
            self.level = self.level.min((burst * per + units - 1) as i128);
            self.at = now;
        }
        fn allows(&self, cost: u32) -> bool {
            let (_, per, burst) = self.rate;
            self.level >= (u128::from(cost).min(burst) * per) as i128
        }
        fn take(&mut self, cost: u64) {
            self.level -= (u128::from(cost) * self.rate.1) as i128;
        }
    }

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let rate = Gcra::new(2, 1_000, 3);
        let mut tat = Tat::default();
        for _ in 0..3 {
            assert!(rate.ready_at(tat, 1) <= 5_000);
            tat = rate.take(tat, 5_000, 1);
        }
        assert_eq!((rate.ready_at(tat, 1), rate.free(tat, 5_000)), (5_500, 0));
        assert_eq!(rate.ready_at(tat, 2), 6_000);
        assert_eq!(rate.idle_at(tat), 6_500);
    }

    #[test]
    fn a_cost_above_the_burst_waits_for_a_full_bucket() {
        let rate = Gcra::new(1, 10, 2);
        let tat = rate.take(Tat::default(), 100, 1);
        assert_eq!(rate.ready_at(tat, 7), 110);
        assert_eq!(rate.ready_at(rate.take(tat, 110, 7), 1), 170);
    }

    #[test]
    fn an_odd_rate_does_not_drift() {
        let rate = Gcra::new(7, 1_000, 1);
        let (mut tat, mut now) = (Tat::default(), 0);
        for _ in 0..7_000_000 {
            now = rate.ready_at(tat, 1).max(now);
            tat = rate.take(tat, now, 1);
        }
        // The first came at 0; each is at most one whole millisecond late.
        assert!((999_999_857..=1_000_000_000).contains(&now), "{now}");
    }

    #[test]
    fn nothing_overflows() {
        let rate = Gcra::new(u32::MAX, u64::MAX, u32::MAX);
        let tat = rate.take(rate.take(Tat::default(), u64::MAX, u64::MAX), u64::MAX, u64::MAX);
        assert_eq!((rate.ready_at(tat, u32::MAX), rate.free(tat, 0)), (u64::MAX, 0));
        assert_eq!(rate.idle_at(tat), u64::MAX);
        let _ = rate.convert(tat, 0, &Gcra::new(1, u64::MAX, 1));
    }

    #[test]
    fn a_debt_stays_the_same_in_units_when_the_rate_changes() {
        let (slow, fast) = (Gcra::new(1, 100, 1), Gcra::new(3, 100, 1));
        let tat = slow.take(Tat::default(), 1_000, 7);
        assert_eq!(slow.ready_at(tat, 1), 1_700);
        assert_eq!(fast.ready_at(slow.convert(tat, 1_000, &fast), 1), 1_234);
    }

    proptest! {
        /// Decisions are those of the bucket, charges included, and `ready_at` is exact.
        #[test]
        fn it_decides_as_a_bucket_does(
            units in 1u32..50, per in 1u64..2_000, burst in 1u32..20,
            visits in proptest::collection::vec((0u64..700, 1u32..25, 0u64..40, any::<bool>()), 1..200),
        ) {
            let rate = Gcra::new(units, per, burst);
            let mut bucket = Bucket::new(units, per, burst);
            let (mut tat, mut now) = (Tat::default(), 0);
            for (pause, cost, charge, later) in visits {
                now += pause;
                bucket.fill(now);
                let ready = rate.ready_at(tat, cost);
                prop_assert_eq!(ready <= now, bucket.allows(cost));
                if later && ready > now {
                    bucket.fill(ready - 1);
                    prop_assert!(!bucket.allows(cost));
                    now = ready;
                    bucket.fill(now);
                    prop_assert!(bucket.allows(cost));
                }
                if bucket.allows(cost) {
                    tat = rate.take(tat, now, cost.into());
                    bucket.take(cost.into());
                }
                if charge > 30 {
                    tat = rate.take(tat, now, charge);
                    bucket.take(charge);
                }
                let level = bucket.level.max(0) as u128 / u128::from(per);
                let level = level.min(burst.into());
                prop_assert_eq!(u128::from(rate.free(tat, now)), level);
            }
        }

        /// No window of any length holds more than the burst and what the rate allows in it.
        #[test]
        fn no_window_holds_more_than_it_may(
            units in 1u32..30, per in 1u64..1_000, burst in 1u32..10,
            pauses in proptest::collection::vec(0u64..100, 1..150),
        ) {
            let rate = Gcra::new(units, per, burst);
            let (mut tat, mut now, mut taken) = (Tat::default(), 0, Vec::new());
            for pause in pauses {
                now += pause;
                if rate.ready_at(tat, 1) <= now {
                    tat = rate.take(tat, now, 1);
                    taken.push(now);
                }
            }
            for (at, from) in taken.iter().enumerate() {
                for (n, to) in taken[at..].iter().enumerate() {
                    let most = u64::from(burst) * per + (to - from + 1) * u64::from(units) - 1;
                    prop_assert!((n as u64 + 1) * per <= most);
                }
            }
        }
    }
}
