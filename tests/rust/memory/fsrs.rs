//! FSRS-6 against vectors that py-fsrs 6.3.2 and its formulas in continuous time gave.

use goclaw::math::fsrs::{Fsrs, Grade, Memory, PARAMETERS};
use serde::Deserialize;

use super::data;

const TOLERANCE: f64 = 1e-12;
const SECONDS_PER_DAY: f64 = 86_400.0;

#[derive(Deserialize)]
struct Golden {
    default_parameters: Vec<f64>,
    /// In whole days, as py-fsrs counts.
    cases: Vec<Case>,
    continuous_cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: u64,
    params: serde_json::Value,
    steps: Vec<Step>,
    retrievability_at_days: Vec<(f64, f64)>,
    #[serde(default)]
    next_interval_days: std::collections::BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Step {
    rating: u8,
    gap_s: f64,
    r_before: Option<f64>,
    stability: f64,
    difficulty: f64,
}

impl Case {
    fn fsrs(&self, defaults: &[f64]) -> Fsrs {
        let w: Vec<f64> = match &self.params {
            serde_json::Value::String(_) => defaults.to_vec(),
            own => serde_json::from_value(own.clone()).expect("parameters are numbers"),
        };
        let w: [f64; PARAMETERS] = w.try_into().expect("there are 21");
        Fsrs::new(w, 1.0).expect("golden parameters are within bounds")
    }
}

fn grade(rating: u8) -> Grade {
    [Grade::Again, Grade::Hard, Grade::Good, Grade::Easy][usize::from(rating) - 1]
}

#[track_caller]
fn assert_close(found: f64, expected: f64, what: &str) {
    let off = (found - expected).abs() / expected.abs().max(f64::MIN_POSITIVE);
    assert!(off <= TOLERANCE, "{what}: {found} is {off:e} off {expected}");
}

fn check(case: &Case, fsrs: &Fsrs, whole_days: bool) {
    let mut memory: Option<Memory> = None;
    for (at, step) in case.steps.iter().enumerate() {
        let gap = step.gap_s / SECONDS_PER_DAY;
        let elapsed = if whole_days { gap.floor() } else { gap };
        let what = format!("case {}, step {at}", case.id);
        if let (Some(memory), Some(expected)) = (&memory, step.r_before) {
            assert_close(fsrs.strength(memory, elapsed), expected, &what);
        }
        let next = fsrs.review(memory.as_ref(), grade(step.rating), elapsed);
        assert_close(next.stability, step.stability, &what);
        assert_close(next.difficulty, step.difficulty, &what);
        memory = Some(next);
    }
    let memory = memory.expect("a case has steps");
    for (days, expected) in &case.retrievability_at_days {
        assert_close(fsrs.strength(&memory, *days), *expected, &format!("case {}", case.id));
    }
    for (retention, expected) in &case.next_interval_days {
        let retention = retention.parse().expect("a number");
        let days = fsrs.days_until(&memory, retention).round_ties_even().max(1.0);
        assert_eq!(days.min(36_500.0), *expected, "case {}", case.id);
    }
}

#[test]
fn fsrs_agrees_with_its_reference_to_1e_12() {
    let Some(path) = data::find("fsrs6_golden.json") else { return };
    let text = std::fs::read_to_string(path).expect("the golden file can be read");
    let golden: Golden = serde_json::from_str(&text).expect("the golden file is JSON");
    assert_eq!(Fsrs::anki().parameters().as_slice(), golden.default_parameters);
    let cases = golden.cases.iter().map(|case| (case, true));
    for (case, whole_days) in cases.chain(golden.continuous_cases.iter().map(|c| (c, false))) {
        check(case, &case.fsrs(&golden.default_parameters), whole_days);
    }
}
