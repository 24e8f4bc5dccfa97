//! How memories fade, as Python sees it: numbers in, numbers out. `goclaw.forgetting` names them.

use pyo3::prelude::*;

use super::errors;
use crate::memory::Fading;
use crate::model::{Forgetting, Grade, Result};

/// Settings of FSRS-6 (`goclaw.Forgetting`).
#[derive(FromPyObject)]
pub(super) struct AskedForgetting {
    w: Vec<f64>,
    time_scale: f64,
    half_life_days: Option<f64>,
}

impl AskedForgetting {
    pub(super) fn settings(self) -> Forgetting {
        let Self { w: parameters, time_scale, half_life_days: half_life } = self;
        Forgetting { parameters, time_scale, half_life }
    }
}

/// Parameters `w0 … w20`, time scale, half-life in days.
pub(super) type ForgettingRow = (Vec<f64>, f64, Option<f64>);

pub(super) fn row(settings: Forgetting) -> ForgettingRow {
    (settings.parameters, settings.time_scale, settings.half_life)
}

/// The parameters of a preset.
#[pyfunction]
pub(super) fn _fsrs_preset(name: &str) -> Vec<f64> {
    Fading::preset(name)
}

/// Days until a new memory of this grade is as weak as `strength`; infinite if never. Raises for
/// settings that make no sense.
#[pyfunction]
pub(super) fn _fsrs_days_until(
    py: Python<'_>,
    settings: AskedForgetting,
    strength: f64,
    grade: u8,
) -> PyResult<f64> {
    Ok(fading(py, settings, grade)?.days_until(strength))
}

/// Strength of a new memory of this grade after some days.
#[pyfunction]
pub(super) fn _fsrs_strength(
    py: Python<'_>,
    settings: AskedForgetting,
    days: f64,
    grade: u8,
) -> PyResult<f64> {
    Ok(fading(py, settings, grade)?.strength(days))
}

fn fading(py: Python<'_>, settings: AskedForgetting, grade: u8) -> PyResult<Fading> {
    let fading: Result<Fading> = Fading::new(&settings.settings(), self::grade(grade));
    fading.map_err(|error| errors::raised(py, &error))
}

/// A grade from 1 to 4.
pub(super) fn grade(number: u8) -> Grade {
    match number {
        1 => Grade::Again,
        2 => Grade::Hard,
        4 => Grade::Easy,
        _ => Grade::Good,
    }
}
