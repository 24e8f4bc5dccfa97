//! Vectors as they are kept: 16-bit floats (IEEE 754 binary16), little endian.
//!
//! Half the bytes of `f32`, and the loss (3 decimal digits are kept) is far below the noise of an
//! embedding. A vector is scaled to length 1 before, so no part overflows; it is rounded when it is
//! made and never again, so scores are the same before and after a restart.

use std::fmt;
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
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
        let scaled: Vec<f64> = parts.iter().map(|part| f64::from(*part) * scale).collect();
        let mut halves = vec![f16::ZERO; parts.len()];
        halves.convert_from_f64_slice(&scaled);
        let mut bytes = vec![0; 2 * parts.len()];
        for (bytes, half) in bytes.chunks_exact_mut(2).zip(halves) {
            bytes.copy_from_slice(&half.to_le_bytes());
        }
        Self(Arc::new(ByteBuf::from(bytes)))
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
        self.0.chunks_exact(2).map(|half| f16::from_le_bytes([half[0], half[1]]).to_f32())
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vector({} parts)", self.dimension())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one() {
        let vector = Vector::new(&[3.0, 0.0, -4.0]);
        let parts: Vec<f32> = vector.parts().collect();
        assert!((parts[0] - 0.6).abs() < 1e-3 && parts[1] == 0.0 && (parts[2] + 0.8).abs() < 1e-3);
        assert_eq!(Vector::new(&[0.0, 0.0]).parts().collect::<Vec<_>>(), [0.0, 0.0]);
        let many: Vec<f32> = (0..37u8).map(|n| (f32::from(n) - 18.3).powi(3)).collect();
        let norm = many.iter().map(|part| f64::from(*part).powi(2)).sum::<f64>().sqrt();
        for (part, given) in Vector::new(&many).parts().zip(&many) {
            assert_eq!(part, f16::from_f64(f64::from(*given) * (1.0 / norm)).to_f32());
        }
        let huge = Vector::new(&[f32::MAX, f32::MAX]);
        assert!(huge.parts().all(|part| (part - 0.707).abs() < 1e-3));
    }
}
