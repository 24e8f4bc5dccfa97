//! Dot products of one eight-bit row with many, as fast as the processor can.
//!
//! Every path gives the same whole numbers: what is summed are integers, so the order does not matter.

use std::sync::LazyLock;

use super::row::Line;

/// Writes the dot product of `query` with each row of `rows` to `out`.
///
/// `rows` has `out.len()` rows of as many lines as `query`; no number is -128.
pub fn dots(query: &[Line], rows: &[Line], out: &mut [i32]) {
    static FASTEST: LazyLock<Kernel> = LazyLock::new(|| kernels()[0].1);
    assert_eq!(rows.len(), query.len() * out.len(), "whole rows of the query's dimension");
    FASTEST(query, rows, out);
}

type Kernel = fn(&[Line], &[Line], &mut [i32]);

/// What this processor can do, fastest first.
fn kernels() -> Vec<(&'static str, Kernel)> {
    let mut found = native();
    found.push(("portable", portable));
    found
}

#[cfg(target_arch = "x86_64")]
fn native() -> Vec<(&'static str, Kernel)> {
    let vnni = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
    let offered: [(bool, &'static str, Kernel); 2] =
        [(vnni, "avx512vnni", x86::vnni), (is_x86_feature_detected!("avx2"), "avx2", x86::avx2)];
    let detected = offered.into_iter().filter(|(detected, ..)| *detected);
    detected.map(|(_, name, kernel)| (name, kernel)).collect()
}

#[cfg(target_arch = "aarch64")]
fn native() -> Vec<(&'static str, Kernel)> {
    vec![("neon", arm::neon)]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn native() -> Vec<(&'static str, Kernel)> {
    Vec::new()
}

fn portable(query: &[Line], rows: &[Line], out: &mut [i32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let lines = query.iter().zip(row);
        *out = lines
            .flat_map(|(q, r)| q.0.iter().zip(&r.0))
            .map(|(&q, &r)| i32::from(i16::from(q) * i16::from(r)))
            .sum();
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Line;

    /// So many lines before they are needed, rows are asked for: the processor itself does not look beyond the
    /// end of a page, which ten rows fill.
    const LINES_AHEAD: usize = 192;

    pub fn avx2(query: &[Line], rows: &[Line], out: &mut [i32]) {
        // SAFETY: `kernels` offers this only where AVX2 was detected.
        unsafe { avx2_dots(query, rows, out) }
    }

    pub fn vnni(query: &[Line], rows: &[Line], out: &mut [i32]) {
        // SAFETY: `kernels` offers this only where AVX-512 F and VNNI were detected.
        unsafe { vnni_dots(query, rows, out) }
    }

    /// `maddubs` wants one side without sign: |q| times r with the sign of q. Two products of at most
    /// 127 x 127 fit into its 16 bits.
    #[target_feature(enable = "avx2")]
    fn avx2_dots(query: &[Line], rows: &[Line], out: &mut [i32]) {
        let ones = _mm256_set1_epi16(1);
        for (row, out) in rows.chunks_exact(query.len()).zip(out) {
            let mut sums = _mm256_setzero_si256();
            for (q, r) in query.iter().zip(row) {
                ahead(r);
                for (q, r) in halves(q).into_iter().zip(halves(r)) {
                    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(r, q));
                    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
                }
            }
            let sums =
                _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b01_00_11_10>(sums));
            let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b10_11_00_01>(sums));
            *out = _mm_cvtsi128_si32(sums);
        }
    }

    #[inline(always)]
    fn ahead(line: &Line) {
        let later = std::ptr::from_ref(line).wrapping_add(LINES_AHEAD);
        // SAFETY: every x86-64 has SSE; a prefetch reads nothing and may be of any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(later.cast()) }
    }

    #[target_feature(enable = "avx2")]
    fn halves(line: &Line) -> [__m256i; 2] {
        let from = line.0.as_ptr().cast::<__m256i>();
        // SAFETY: a line is 64 bytes, two registers; it may lie anywhere.
        unsafe { [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))] }
    }

    /// `dpbusd` wants one side without sign, too: q + 128, and 128 times the row's sum is taken off again.
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn vnni_dots(query: &[Line], rows: &[Line], out: &mut [i32]) {
        let lift = _mm512_set1_epi32(0x8080_8080_u32 as i32);
        let zero = _mm512_setzero_si512();
        for (row, out) in rows.chunks_exact(query.len()).zip(out) {
            let (mut sums, mut lifted) = (zero, zero);
            for (q, r) in query.iter().zip(row) {
                ahead(r);
                let (q, r) = (load(q), load(r));
                // Flipping the sign bit adds 128.
                sums = _mm512_dpbusd_epi32(sums, _mm512_xor_si512(q, lift), r);
                lifted = _mm512_dpbusd_epi32(lifted, lift, r);
            }
            *out = _mm512_reduce_add_epi32(_mm512_sub_epi32(sums, lifted));
        }
    }

    #[target_feature(enable = "avx512f")]
    fn load(line: &Line) -> __m512i {
        // SAFETY: a line is 64 bytes, one register; it may lie anywhere.
        unsafe { _mm512_loadu_si512(line.0.as_ptr().cast()) }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::Line;

    pub fn neon(query: &[Line], rows: &[Line], out: &mut [i32]) {
        // SAFETY: every aarch64 target of Rust with `std` has NEON.
        unsafe { neon_dots(query, rows, out) }
    }

    /// Two products of at most 127 x 127 fit into 16 bits; then pairs are added into 32.
    #[target_feature(enable = "neon")]
    fn neon_dots(query: &[Line], rows: &[Line], out: &mut [i32]) {
        for (row, out) in rows.chunks_exact(query.len()).zip(out) {
            let mut sums = vdupq_n_s32(0);
            for (q, r) in query.iter().zip(row) {
                for (q, r) in q.0.chunks_exact(16).zip(r.0.chunks_exact(16)) {
                    // SAFETY: both slices have 16 bytes, one register.
                    let (q, r) = unsafe { (vld1q_s8(q.as_ptr()), vld1q_s8(r.as_ptr())) };
                    let low = vmull_s8(vget_low_s8(q), vget_low_s8(r));
                    let pairs = vmlal_s8(low, vget_high_s8(q), vget_high_s8(r));
                    sums = vpadalq_s16(sums, pairs);
                }
            }
            *out = vaddvq_s32(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::vector::row::LINE;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_path_gives_the_same_numbers(
            lines in 1usize..9, count in 0usize..9, seed: u64, extreme: bool,
        ) {
            let mut state = seed | 1;
            let mut line = || Line(std::array::from_fn::<i8, LINE, _>(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let value = ((state >> 33) % 255) as i32 - 127;
                (if extreme { value.signum() * 127 } else { value }) as i8
            }));
            let query: Vec<_> = (0..lines).map(|_| line()).collect();
            let rows: Vec<_> = (0..lines * count).map(|_| line()).collect();
            let mut expected = vec![0; count];
            portable(&query, &rows, &mut expected);
            for (name, kernel) in kernels() {
                let mut out = vec![0; count];
                kernel(&query, &rows, &mut out);
                prop_assert_eq!(&out, &expected, "{}", name);
            }
        }
    }
}
