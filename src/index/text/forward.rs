//! What one entry says: its terms and how often, packed into two or three bytes each.

use super::postings::FREQUENCY_MAX;
use super::terms::TermId;

/// Terms in rising order as differences, each shifted left by one; the low bit says that a frequency
/// above 1 follows. Numbers are LEB128.
pub fn pack(terms: &[(TermId, u32)]) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(terms.len() * 3);
    let mut before = 0;
    for &(term, frequency) in terms {
        let often = frequency > 1;
        put(&mut bytes, u64::from(term - before) << 1 | u64::from(often));
        if often {
            put(&mut bytes, u64::from(frequency.min(FREQUENCY_MAX)));
        }
        before = term;
    }
    bytes.into()
}

/// What was packed. Ends early where the bytes are none of [`pack`]'s.
pub fn unpack(bytes: &[u8]) -> impl Iterator<Item = (TermId, u32)> {
    let (mut bytes, mut before) = (bytes, 0u32);
    std::iter::from_fn(move || {
        let head = take(&mut bytes)?;
        before = before.checked_add(u32::try_from(head >> 1).ok()?)?;
        let frequency = if head & 1 == 1 { u32::try_from(take(&mut bytes)?).ok()? } else { 1 };
        Some((before, frequency))
    })
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_back(terms: std::collections::BTreeMap<u32, u8>) {
            let terms: Vec<_> = terms.into_iter().map(|(id, n)| (id, u32::from(n.max(1)))).collect();
            prop_assert_eq!(unpack(&pack(&terms)).collect::<Vec<_>>(), terms);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            prop_assert!(unpack(&bytes).count() <= bytes.len());
        }
    }
}
