//! Rows: what a vector must be, and the two forms it is kept in.
//!
//! The truth is a unit vector in half precision, which the caller stores. The scan reads a copy in
//! eight bits: each number is a whole multiple of the row's step, at most 127 of them.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Most numbers in a vector.
pub const DIMENSION_MAX: usize = 16_384;
/// Largest multiple of the step.
const STEPS_MAX: f32 = 127.0;
/// Numbers in a [`Line`].
pub const LINE: usize = 64;

/// Why a vector was not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VectorError {
    #[error("vector has {found} numbers, the index has {expected}")]
    Dimension { found: usize, expected: usize },
    #[error("a dimension of {0} is not within 1 to {DIMENSION_MAX}")]
    DimensionOfIndex(usize),
    #[error("vector has {value} at position {position}")]
    NotFinite { position: usize, value: f32 },
    #[error("vector is zero and points nowhere")]
    Zero,
}

/// As many eight-bit numbers as one cache line and one AVX-512 register have.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Line(pub [i8; LINE]);

/// A row in eight bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// Filled up with zeros.
    pub lines: Vec<Line>,
    /// What one unit stands for.
    pub step: f32,
}

/// The vector at length 1.
///
/// # Errors
/// [`VectorError`] if it has another dimension, is zero, or has a number that is none.
pub fn unit(vector: &[f32], dimension: usize) -> Result<Vec<f32>, VectorError> {
    if vector.len() != dimension {
        return Err(VectorError::Dimension { found: vector.len(), expected: dimension });
    }
    if let Some(position) = vector.iter().position(|value| !value.is_finite()) {
        return Err(VectorError::NotFinite { position, value: vector[position] });
    }
    // In f64, where no square of an f32 overflows or vanishes.
    let norm = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    if norm == 0.0 {
        return Err(VectorError::Zero);
    }
    Ok(vector.iter().map(|&value| (f64::from(value) / norm) as f32).collect())
}

/// A vector as it is stored: at length 1, in half precision, little-endian.
///
/// # Errors
/// Those of [`unit`].
pub fn to_f16(vector: &[f32], dimension: usize) -> Result<Vec<u8>, VectorError> {
    let halves = unit(vector, dimension)?.into_iter().map(f16::from_f32);
    Ok(halves.flat_map(f16::to_le_bytes).collect())
}

/// Reads what [`to_f16`] wrote. `false` if the bytes are not as many numbers as `row` has room for.
pub fn from_f16(bytes: &[u8], row: &mut [f32]) -> bool {
    const BATCH: usize = 64;
    if bytes.len() != row.len() * 2 {
        return false;
    }
    for (bytes, row) in bytes.chunks(BATCH * 2).zip(row.chunks_mut(BATCH)) {
        let mut halves = [f16::ZERO; BATCH];
        for (half, bytes) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
            *half = f16::from_le_bytes([bytes[0], bytes[1]]);
        }
        halves[..row.len()].convert_to_f32_slice(row);
    }
    true
}

/// A unit vector in eight bits.
pub fn quantize(unit: &[f32]) -> Quantized {
    let largest = unit.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let step = largest / STEPS_MAX;
    let mut lines = vec![Line([0; LINE]); unit.len().div_ceil(LINE)];
    let per_number = step.recip();
    for (line, values) in lines.iter_mut().zip(unit.chunks(LINE)) {
        for (steps, value) in line.0.iter_mut().zip(values) {
            *steps = nearest(value * per_number);
        }
    }
    Quantized { lines, step }
}

/// The nearest whole number of one within -127 to 127. Adding 1.5 · 2^23 leaves no room for a fraction in
/// an f32 and the number in its lowest bits; unlike `round`, this is done for many numbers at once.
fn nearest(value: f32) -> i8 {
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT).to_bits() as i8
}

/// Cosine of a unit vector and any other of the same dimension.
pub fn cosine(unit: &[f32], other: &[f32]) -> f32 {
    /// Sums side by side, so that they can share a register.
    const LANES: usize = 16;
    let (mut dots, mut squares) = ([0f32; LANES], [0f32; LANES]);
    let (a, b) = (unit.chunks_exact(LANES), other.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    let (mut dot, mut square) =
        rest.fold((0.0, 0.0), |(dot, square), (x, y)| (dot + x * y, square + y * y));
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            dots[lane] += a[lane] * b[lane];
            squares[lane] += b[lane] * b[lane];
        }
    }
    dot += dots.iter().sum::<f32>();
    square += squares.iter().sum::<f32>();
    if square > 0.0 { (dot / square.sqrt()).clamp(-1.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-1e3f32..1e3, 1..200)
            .prop_filter("points somewhere", |v| v.iter().any(|x| x.abs() > 1e-3))
    }

    proptest! {
        #[test]
        fn half_precision_keeps_a_direction(vector in vector()) {
            let bytes = to_f16(&vector, vector.len())?;
            let mut row = vec![0.0; vector.len()];
            prop_assert!(from_f16(&bytes, &mut row));
            prop_assert!(cosine(&unit(&vector, vector.len())?, &row) > 0.9999);
            prop_assert!(!from_f16(&bytes[1..], &mut row));
        }

        #[test]
        fn eight_bits_are_off_by_half_a_step_at_most(vector in vector()) {
            let unit = unit(&vector, vector.len())?;
            let Quantized { lines, step } = quantize(&unit);
            let steps = lines.iter().flat_map(|line| line.0).collect::<Vec<_>>();
            prop_assert!(steps[unit.len()..].iter().all(|&padding| padding == 0));
            prop_assert!(steps.iter().all(|&steps| steps != i8::MIN));
            for (value, steps) in unit.iter().zip(steps) {
                prop_assert!((value - f32::from(steps) * step).abs() <= step * 0.5001);
            }
        }
    }

    #[test]
    fn the_nearest_whole_number_is_that_of_round() {
        for whole in -127i8..=127 {
            for off in [-0.499, 0.0, 0.499] {
                let value = (f32::from(whole) + off).clamp(-127.0, 127.0);
                assert_eq!(nearest(value), value.round() as i8, "{value}");
            }
        }
        assert_eq!((nearest(127.000_02), nearest(-127.000_02)), (127, -127));
    }

    #[test]
    fn what_is_no_direction_is_refused_by_name() {
        let refused = |vector: &[f32]| unit(vector, 2).expect_err("no direction").to_string();
        assert_eq!(refused(&[1.0]), "vector has 1 numbers, the index has 2");
        assert_eq!(refused(&[1.0, f32::NAN]), "vector has NaN at position 1");
        assert_eq!(refused(&[f32::NEG_INFINITY, 1.0]), "vector has -inf at position 0");
        assert_eq!(refused(&[0.0, -0.0]), "vector is zero and points nowhere");
        assert_eq!(unit(&[f32::MAX, 0.0], 2), Ok(vec![1.0, 0.0]));
        assert_eq!(unit(&[0.0, 1e-45], 2), Ok(vec![0.0, 1.0]));
    }
}
