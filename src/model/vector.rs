//! Vectors as they are kept: 16-bit floats (IEEE 754 binary16), little endian.
//!
//! Half the bytes of `f32`, and the loss (3 decimal digits are kept) is far below the noise of an
//! embedding. A vector is scaled to length 1 before, so no part overflows; it is rounded when it is
//! made and never again, so scores are the same before and after a restart.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// A vector of length 1 (or all zeros).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vector(Arc<ByteBuf>);

impl Vector {
    /// Scales to length 1 and rounds.
    pub fn new(parts: &[f32]) -> Self {
        let norm = parts.iter().map(|part| f64::from(*part).powi(2)).sum::<f64>().sqrt();
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        let halves = parts.iter().map(|part| to_half((f64::from(*part) * scale) as f32));
        Self(Arc::new(ByteBuf::from(halves.flat_map(u16::to_le_bytes).collect::<Vec<u8>>())))
    }

    /// Takes bytes that [`bytes`](Self::bytes) gave.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(Arc::new(ByteBuf::from(bytes)))
    }
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
    pub fn dimension(&self) -> usize {
        self.0.len() / 2
    }
    /// The parts, rounded as they were when the vector was made.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.0.chunks_exact(2).map(|half| from_half(u16::from_le_bytes([half[0], half[1]])))
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vector({} parts)", self.dimension())
    }
}

/// Rounds to the nearest half, ties to even. Too large becomes infinite.
fn to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7FFF_FFFF;
    if magnitude >= 0x4780_0000 {
        // 65536 and more, infinite, or no number.
        return sign | if magnitude > 0x7F80_0000 { 0x7E00 } else { 0x7C00 };
    }
    if magnitude < 0x3880_0000 {
        // Below the smallest normal half, 2^-14: adding 0.5 lines the bits up and rounds.
        let lined = f32::from_bits(magnitude) + 0.5;
        return sign | (lined.to_bits() - 0.5f32.to_bits()) as u16;
    }
    let odd = (magnitude >> 13) & 1;
    sign | ((magnitude - 0x3800_0000 + 0xFFF + odd) >> 13) as u16
}

fn from_half(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7FFF);
    let value = match magnitude {
        // 2^-24, the distance between subnormal halves.
        0..0x0400 => magnitude as f32 * f32::from_bits(0x3380_0000),
        0x0400..0x7C00 => f32::from_bits((magnitude << 13) + 0x3800_0000),
        _ => f32::from_bits((magnitude << 13) | 0x7F80_0000),
    };
    f32::from_bits(value.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_way_there_and_back() {
        for half in (0..=u16::MAX).filter(|half| half & 0x7FFF <= 0x7C00) {
            assert_eq!(to_half(from_half(half)), half, "{half:#06x}");
        }
        assert!(from_half(to_half(f32::NAN)).is_nan());
    }

    #[test]
    fn rounding_goes_to_the_nearest() {
        let mut seed = 1u64;
        for _ in 0..100_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            let half = to_half(value);
            let error = (from_half(half) - value).abs();
            for other in [half.wrapping_sub(1), half + 1] {
                let far = (from_half(other) - value).abs();
                assert!(error <= far || far.is_nan(), "{value} became {}", from_half(half));
            }
        }
    }

    #[test]
    fn vectors_have_length_one() {
        let vector = Vector::new(&[3.0, 0.0, -4.0]);
        let parts: Vec<f32> = vector.parts().collect();
        assert!((parts[0] - 0.6).abs() < 1e-3 && parts[1] == 0.0 && (parts[2] + 0.8).abs() < 1e-3);
        assert_eq!(Vector::new(&[0.0, 0.0]).parts().collect::<Vec<_>>(), [0.0, 0.0]);
        let huge = Vector::new(&[f32::MAX, f32::MAX]);
        assert!(huge.parts().all(|part| (part - 0.707).abs() < 1e-3));
    }
}
