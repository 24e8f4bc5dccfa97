//! The facts of a record from a sequence number on.

use crate::model::{Fact, Record};

/// The part of `fact` from `from` on; `None` where all of it lies before.
pub(super) fn cut(mut fact: Fact, from: u64) -> Option<Fact> {
    let Some(skip) = from.checked_sub(fact.seq).filter(|skip| *skip > 0) else {
        return Some(fact);
    };
    let span = fact.span.as_mut()?;
    let skip = u32::try_from(skip).ok().filter(|skip| *skip < span.len)?;
    span.lo += skip;
    span.len -= skip;
    fact.seq = from;
    Some(fact)
}

/// What users see of the record from `from` on.
pub(super) fn of(record: &Record, from: u64) -> impl Iterator<Item = Fact> {
    record.facts().filter_map(move |fact| cut(fact, from))
}
