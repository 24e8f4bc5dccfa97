//! FSRS-6: how well a memory is still there, and what a review does to it.
//!
//! Pure numbers: a [`Memory`] is a stability and a difficulty, time comes in as days since the last
//! review. Nothing ticks; a strength is computed when somebody asks.
//! Source: open-spaced-repetition, "The Algorithm" (FSRS-6), as in py-fsrs 6.3; the tests hold its
//! numbers to 1e-12. The names `w0 … w20` are the source's.
//!
//! ```
//! use goclaw::math::fsrs::{Fsrs, Grade};
//! let fsrs = Fsrs::agent();
//! let memory = fsrs.review(None, Grade::Good, 0.0);
//! assert!((fsrs.strength(&memory, memory.stability) - 0.9).abs() < 1e-12);
//! ```

use serde::{Deserialize, Serialize};

use crate::model::Forgetting;
pub use crate::model::Grade;

/// Parameters of the model, `w0 … w20`.
pub const PARAMETERS: usize = 21;

/// Published defaults of FSRS-6.
const DEFAULTS: [f64; PARAMETERS] = [
    0.212, 1.2931, 2.3065, 8.2956, 6.4133, 0.8334, 3.0194, 0.001, 1.8722, 0.1666, 0.796, 1.4835,
    0.0614, 0.2629, 1.6483, 0.6014, 1.8729, 0.5425, 0.0912, 0.0658, 0.1542,
];
const LOWEST: [f64; PARAMETERS] = [
    0.001, 0.001, 0.001, 0.001, 1.0, 0.001, 0.001, 0.001, 0.0, 0.0, 0.001, 0.001, 0.001, 0.001,
    0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.1,
];
const HIGHEST: [f64; PARAMETERS] = [
    100.0, 100.0, 100.0, 100.0, 10.0, 4.0, 4.0, 0.75, 4.5, 0.8, 3.5, 5.0, 0.25, 0.9, 4.0, 1.0, 6.0,
    2.0, 2.0, 0.8, 0.8,
];

/// Exponent of the forgetting curve of the preset `agent`.
const AGENT_DECAY: f64 = 0.5;
/// Shortest stability, in days.
const STABILITY_MIN_DAYS: f64 = 0.001;
/// Longest stability, in days: nothing that is computed from it can overflow.
const STABILITY_MAX_DAYS: f64 = 1e9;
const DIFFICULTY_MIN: f64 = 1.0;
const DIFFICULTY_MAX: f64 = 10.0;
/// Retrievability at `t = stability`, by definition of stability.
const RETENTION_AT_STABILITY: f64 = 0.9;
/// Time scales outside of this range are slips of the pen.
const TIME_SCALE_RANGE: std::ops::RangeInclusive<f64> = 1e-6..=1e6;
/// Half-lives of new memories, in days.
const HALF_LIFE_RANGE: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

/// State of one memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Days, in the model's time, until retrievability has fallen to 0.9.
    pub stability: f64,
    /// 1 (easy to keep) to 10.
    pub difficulty: f64,
}

/// What makes a set of parameters unusable.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum FsrsError {
    #[error("parameter w{index} is {value}, which is not within {low} to {high}")]
    Parameter { index: usize, value: f64, low: f64, high: f64 },
    #[error("time scale is {0}, which is not within 1e-6 to 1e6")]
    TimeScale(f64),
    #[error("half-life is {0} days, which is not within 1e-6 to 1e6")]
    HalfLife(f64),
    #[error("there are {0} parameters, and FSRS-6 has 21")]
    Count(usize),
}

/// The model with its parameters. Elapsed time is in real days everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Fsrs {
    w: [f64; PARAMETERS],
    /// Days of the model that pass in one real day.
    time_scale: f64,
    /// `0.9^(-1/w20) - 1`.
    factor: f64,
    /// By which stabilities of first reviews are multiplied; 1 is the model as it is published.
    first_scale: f64,
}

impl Fsrs {
    /// A model with parameters of one's own.
    ///
    /// `time_scale` is how many days of the model pass in a real day: 24 makes an hour count as one.
    ///
    /// # Errors
    /// [`FsrsError`] if a number is outside of its bounds, or is no number.
    pub fn new(w: [f64; PARAMETERS], time_scale: f64) -> Result<Self, FsrsError> {
        for (index, &value) in w.iter().enumerate() {
            let (low, high) = (LOWEST[index], HIGHEST[index]);
            if !(low..=high).contains(&value) {
                return Err(FsrsError::Parameter { index, value, low, high });
            }
        }
        if !TIME_SCALE_RANGE.contains(&time_scale) {
            return Err(FsrsError::TimeScale(time_scale));
        }
        Ok(Self::unchecked(w, time_scale))
    }

    /// The model of settings that were kept.
    ///
    /// # Errors
    /// As `new` and `with_half_life`.
    pub fn of(settings: &Forgetting) -> Result<Self, FsrsError> {
        let count = settings.parameters.len();
        let w = settings.parameters.as_slice().try_into().map_err(|_| FsrsError::Count(count))?;
        let fsrs = Self::new(w, settings.time_scale)?;
        settings.half_life.map_or(Ok(fsrs.clone()), |days| fsrs.with_half_life(days))
    }

    /// The same model, but a memory that was good once loses half its strength within `days` real days.
    ///
    /// Stabilities of first reviews are scaled, so those of the other grades keep their proportion. What
    /// later reviews do is the model's.
    ///
    /// # Errors
    /// [`FsrsError::HalfLife`] if `days` is outside of 1e-6 to 1e6.
    pub fn with_half_life(mut self, days: f64) -> Result<Self, FsrsError> {
        if !HALF_LIFE_RANGE.contains(&days) {
            return Err(FsrsError::HalfLife(days));
        }
        self.first_scale = self.stability_of_half_life(days) / self.w[Grade::Good as usize - 1];
        Ok(self)
    }

    /// For agents: FSRS-6 with a forgetting curve steep enough to forget within months (`w20 = 0.5`).
    ///
    /// With the default `w20` a memory that was good once needs 15.8 years to fall under 0.3; with
    /// this one 99 days.
    pub fn agent() -> Self {
        let mut w = DEFAULTS;
        w[20] = AGENT_DECAY;
        Self::unchecked(w, 1.0)
    }

    /// The published defaults, fitted to people who learn with Anki.
    pub fn anki() -> Self {
        Self::unchecked(DEFAULTS, 1.0)
    }

    fn unchecked(w: [f64; PARAMETERS], time_scale: f64) -> Self {
        let factor = RETENTION_AT_STABILITY.powf(-1.0 / w[20]) - 1.0;
        Self { w, time_scale, factor, first_scale: 1.0 }
    }

    /// The parameters `w0 … w20`.
    pub fn parameters(&self) -> &[f64; PARAMETERS] {
        &self.w
    }

    pub fn time_scale(&self) -> f64 {
        self.time_scale
    }

    /// Probability that the memory is still there, `elapsed` real days after its last review.
    ///
    /// A clock that went backwards counts as no time.
    pub fn strength(&self, memory: &Memory, elapsed: f64) -> f64 {
        self.retrievability(memory.stability, self.model_days(elapsed))
    }

    /// Real days after its last review at which a memory's strength has fallen to `threshold`.
    ///
    /// 0 for a threshold of 1 and more, infinite for one of 0 and less: such a memory never gets there.
    pub fn days_until(&self, memory: &Memory, threshold: f64) -> f64 {
        if threshold >= 1.0 {
            return 0.0;
        }
        if threshold.is_nan() || threshold <= 0.0 {
            return f64::INFINITY;
        }
        self.interval(memory.stability, threshold) / self.time_scale
    }

    /// State after a review, `elapsed` real days after the one before. Without a state it is the first.
    ///
    /// The time scale applies to what counts as the same day, too.
    pub fn review(&self, memory: Option<&Memory>, grade: Grade, elapsed: f64) -> Memory {
        let Some(memory) = memory else { return self.first(grade) };
        let days = self.model_days(elapsed);
        let stability = match grade {
            _ if days < 1.0 => self.same_day(memory, grade),
            Grade::Again => self.lapse(memory, days),
            _ => self.success(memory, grade, days),
        };
        Memory {
            stability: bounded(stability),
            difficulty: self.next_difficulty(memory.difficulty, grade),
        }
    }

    /// Stability of a memory whose strength halves within `days` real days.
    pub fn stability_of_half_life(&self, days: f64) -> f64 {
        bounded(days * self.time_scale * self.factor / self.growth(0.5))
    }

    /// Real days in which the strength of a memory of this stability halves, counted from its review.
    pub fn half_life_of_stability(&self, stability: f64) -> f64 {
        self.interval(stability, 0.5) / self.time_scale
    }

    fn model_days(&self, elapsed: f64) -> f64 {
        // `max` also turns NaN into 0.
        (elapsed * self.time_scale).max(0.0)
    }

    fn retrievability(&self, stability: f64, days: f64) -> f64 {
        (1.0 + self.factor * days / bounded(stability)).powf(-self.w[20])
    }

    /// Days of the model until retrievability has fallen to `retention`.
    fn interval(&self, stability: f64, retention: f64) -> f64 {
        bounded(stability) / self.factor * self.growth(retention)
    }

    fn growth(&self, retention: f64) -> f64 {
        retention.powf(-1.0 / self.w[20]) - 1.0
    }

    fn first(&self, grade: Grade) -> Memory {
        let stability = bounded(self.first_scale * self.w[grade as usize - 1]);
        let difficulty = self.first_difficulty(grade).clamp(DIFFICULTY_MIN, DIFFICULTY_MAX);
        Memory { stability, difficulty }
    }

    /// Not clamped: the mean that difficulties revert to is this value for `Easy` as it is.
    fn first_difficulty(&self, grade: Grade) -> f64 {
        self.w[4] - (self.w[5] * (f64::from(grade as u8) - 1.0)).exp() + 1.0
    }

    fn next_difficulty(&self, difficulty: f64, grade: Grade) -> f64 {
        let w = &self.w;
        let step = -w[6] * (f64::from(grade as u8) - 3.0);
        let damped = difficulty + (10.0 - difficulty) * step / 9.0;
        let reverted = w[7] * self.first_difficulty(Grade::Easy) + (1.0 - w[7]) * damped;
        reverted.clamp(DIFFICULTY_MIN, DIFFICULTY_MAX)
    }

    fn success(&self, memory: &Memory, grade: Grade, days: f64) -> f64 {
        let (w, s, d) = (&self.w, bounded(memory.stability), memory.difficulty);
        let surprise = ((1.0 - self.retrievability(s, days)) * w[10]).exp() - 1.0;
        let hard = if grade == Grade::Hard { w[15] } else { 1.0 };
        let easy = if grade == Grade::Easy { w[16] } else { 1.0 };
        s * (1.0 + w[8].exp() * (11.0 - d) * s.powf(-w[9]) * surprise * hard * easy)
    }

    fn lapse(&self, memory: &Memory, days: f64) -> f64 {
        let (w, s, d) = (&self.w, bounded(memory.stability), memory.difficulty);
        let missed = ((1.0 - self.retrievability(s, days)) * w[14]).exp();
        let long = w[11] * d.powf(-w[12]) * ((s + 1.0).powf(w[13]) - 1.0) * missed;
        long.min(s / (w[17] * w[18]).exp())
    }

    fn same_day(&self, memory: &Memory, grade: Grade) -> f64 {
        let (w, s) = (&self.w, bounded(memory.stability));
        let growth = (w[17] * (f64::from(grade as u8) - 3.0 + w[18])).exp() * s.powf(-w[19]);
        s * if grade == Grade::Again { growth } else { growth.max(1.0) }
    }
}

/// A stability within its bounds; what is no number is as short as can be.
fn bounded(stability: f64) -> f64 {
    let days = if stability.is_nan() { STABILITY_MIN_DAYS } else { stability };
    days.clamp(STABILITY_MIN_DAYS, STABILITY_MAX_DAYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRADES: [Grade; 4] = [Grade::Again, Grade::Hard, Grade::Good, Grade::Easy];

    fn parameters() -> impl Strategy<Value = [f64; PARAMETERS]> {
        prop::collection::vec(0.0f64..=1.0, PARAMETERS).prop_map(|shares| {
            std::array::from_fn(|i| LOWEST[i] + shares[i] * (HIGHEST[i] - LOWEST[i]))
        })
    }

    #[test]
    fn the_presets_are_within_their_own_bounds() {
        for preset in [Fsrs::agent(), Fsrs::anki()] {
            assert_eq!(Fsrs::new(*preset.parameters(), 1.0), Ok(preset));
        }
    }

    #[test]
    fn an_agent_forgets_within_months_and_anki_within_years() {
        let days = |fsrs: Fsrs| fsrs.days_until(&fsrs.review(None, Grade::Good, 0.0), 0.3);
        assert_eq!(days(Fsrs::agent()).round(), 99.0);
        assert_eq!((days(Fsrs::anki()) / 365.25 * 10.0).round() / 10.0, 15.8);
    }

    #[test]
    fn a_parameter_outside_of_its_bounds_is_named() {
        let mut w = DEFAULTS;
        w[20] = 0.9;
        let refused = Fsrs::new(w, 1.0).expect_err("0.9 is above 0.8");
        assert_eq!(refused.to_string(), "parameter w20 is 0.9, which is not within 0.1 to 0.8");
        w[20] = f64::NAN;
        assert!(Fsrs::new(w, 1.0).is_err());
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Fsrs::new(DEFAULTS, scale).is_err(), "{scale}");
        }
    }

    #[test]
    fn a_clock_that_jumps_does_no_harm() {
        let fsrs = Fsrs::agent();
        let memory = fsrs.review(None, Grade::Good, 0.0);
        for elapsed in [-1.0, -1e300, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(fsrs.strength(&memory, elapsed), 1.0);
            let reviewed = fsrs.review(Some(&memory), Grade::Good, elapsed);
            assert_eq!(reviewed, fsrs.review(Some(&memory), Grade::Good, 0.0));
        }
        assert_eq!(fsrs.strength(&memory, f64::INFINITY), 0.0);
        let reviewed = fsrs.review(Some(&memory), Grade::Good, f64::INFINITY);
        assert!(reviewed.stability.is_finite() && reviewed.stability > memory.stability);
    }

    #[test]
    fn thresholds_that_mean_always_and_never() {
        let fsrs = Fsrs::agent();
        let memory = fsrs.review(None, Grade::Good, 0.0);
        assert_eq!(fsrs.days_until(&memory, 1.0), 0.0);
        assert_eq!(fsrs.days_until(&memory, 0.0), f64::INFINITY);
        assert_eq!(fsrs.days_until(&memory, f64::NAN), f64::INFINITY);
    }

    #[test]
    fn a_time_scale_of_24_makes_an_hour_count_as_a_day() {
        let (day, hour) = (Fsrs::anki(), Fsrs::new(DEFAULTS, 24.0).expect("24 is a scale"));
        let memory = day.review(None, Grade::Good, 0.0);
        let (slow, fast) = (day.strength(&memory, 3.0), hour.strength(&memory, 3.0 / 24.0));
        assert!((slow - fast).abs() < 1e-12);
        assert!(
            (day.days_until(&memory, 0.5) / 24.0 - hour.days_until(&memory, 0.5)).abs() < 1e-12
        );
    }

    proptest! {
        #[test]
        fn every_history_stays_within_bounds(
            w in parameters(),
            reviews in prop::collection::vec((0usize..4, -1.0f64..1e5), 1..40),
        ) {
            let fsrs = Fsrs::new(w, 1.0).expect("drawn within bounds");
            let mut memory = None;
            for (grade, elapsed) in reviews {
                let next = fsrs.review(memory.as_ref(), GRADES[grade], elapsed);
                prop_assert!((STABILITY_MIN_DAYS..=STABILITY_MAX_DAYS).contains(&next.stability));
                prop_assert!((DIFFICULTY_MIN..=DIFFICULTY_MAX).contains(&next.difficulty));
                memory = Some(next);
            }
        }

        #[test]
        fn strength_falls_and_crosses_a_threshold_when_it_was_said_to(
            w in parameters(), stability in 0.001f64..1e4, threshold in 0.05f64..0.99, scale in 0.01f64..100.0,
        ) {
            let fsrs = Fsrs::new(w, scale).expect("drawn within bounds");
            let memory = Memory { stability, difficulty: 5.0 };
            let days = fsrs.days_until(&memory, threshold);
            prop_assert!((fsrs.strength(&memory, days) - threshold).abs() < 1e-9);
            prop_assert!(fsrs.strength(&memory, days * 0.99) > threshold);
            prop_assert!(fsrs.strength(&memory, days * 1.01) < threshold);
        }

        #[test]
        fn half_life_and_stability_say_the_same(days in 0.01f64..1e3, scale in 0.1f64..10.0) {
            let fsrs = Fsrs::new(*Fsrs::agent().parameters(), scale).expect("within bounds");
            let stability = fsrs.stability_of_half_life(days);
            prop_assert!((fsrs.half_life_of_stability(stability) / days - 1.0).abs() < 1e-9);
            let memory = Memory { stability, difficulty: 5.0 };
            prop_assert!((fsrs.strength(&memory, days) - 0.5).abs() < 1e-9);
        }

        #[test]
        fn a_new_memory_loses_half_its_strength_within_its_half_life(
            days in 0.01f64..1e4, scale in 0.1f64..10.0, w in parameters(),
        ) {
            let fsrs = Fsrs::new(w, scale).expect("within bounds");
            let fsrs = fsrs.with_half_life(days).expect("within bounds");
            let memory = fsrs.review(None, Grade::Good, 0.0);
            // Where the stability does not end at its bounds.
            if (STABILITY_MIN_DAYS * 1.01..STABILITY_MAX_DAYS).contains(&memory.stability) {
                prop_assert!((fsrs.strength(&memory, days) - 0.5).abs() < 1e-9);
            }
        }

        #[test]
        fn a_better_grade_never_leaves_a_weaker_memory(
            stability in 0.01f64..1e3, difficulty in 1.0f64..10.0, elapsed in 0.0f64..400.0,
        ) {
            let (fsrs, memory) = (Fsrs::agent(), Memory { stability, difficulty });
            let after = GRADES.map(|grade| fsrs.review(Some(&memory), grade, elapsed).stability);
            prop_assert!(after.is_sorted(), "{after:?}");
        }
    }
}
