//! Whether lanes can be declared: limits that make sense, redirects that end.

use std::collections::HashMap;

use crate::model::{Error, LaneSpec, OnFull, Rate, Result};

/// Redirects from lane to lane that one task may follow.
pub const HOPS_MAX: usize = 8;

/// Checks lanes that are declared together, over those that exist.
///
/// # Errors
/// `lane.invalid`, `lane.unknown`, `lane.redirect_cycle`, `lane.redirect_hops`.
pub(super) fn check<'a>(
    exist: impl Iterator<Item = &'a LaneSpec>,
    new: &'a [LaneSpec],
) -> Result<()> {
    new.iter().try_for_each(limits)?;
    let exist: Vec<&LaneSpec> = exist.collect();
    let mut specs: HashMap<&str, &LaneSpec> =
        exist.iter().map(|spec| (&*spec.name, *spec)).collect();
    specs.extend(new.iter().map(|spec| (&*spec.name, spec)));
    new.iter().try_for_each(|spec| redirects(spec, &specs))?;
    // A path through a lane that is changed may begin further up.
    exist
        .iter()
        .filter_map(|spec| specs.get(&*spec.name))
        .try_for_each(|spec| redirects(spec, &specs))
}

fn limits(spec: &LaneSpec) -> Result<()> {
    let none = |rate: &Rate| rate.units == 0 || rate.per_ms == 0 || rate.burst == 0;
    let why = if spec.name.is_empty() || spec.concurrency == 0 || spec.capacity == 0 {
        "has no name, no concurrency or no capacity"
    } else if spec.threads == Some(0) {
        "has no threads"
    } else if spec.rate.as_ref().is_some_and(none) || spec.budgets.values().any(none) {
        "has a rate of nothing"
    } else {
        return Ok(());
    };
    Err(Error::new(
        "lane.invalid",
        format!("lane `{}` {why}", spec.name),
        "give each lane a name of its own, and limits of at least 1",
    ))
}

fn redirects(spec: &LaneSpec, specs: &HashMap<&str, &LaneSpec>) -> Result<()> {
    let mut path = vec![spec.name.as_str()];
    let mut at = spec;
    while let OnFull::Redirect(to) = &at.on_full {
        let Some(next) = specs.get(to.as_str()) else {
            return Err(Error::new(
                "lane.unknown",
                format!("lane `{}` redirects to lane `{to}`, which is not there", at.name),
                "declare the lane that it redirects to, before it or together with it",
            ));
        };
        let circle = path.iter().position(|seen| seen == to);
        path.push(to);
        if let Some(from) = circle {
            return Err(Error::new(
                "lane.redirect_cycle",
                format!("redirects go in a circle: {}", path[from..].join(" -> ")),
                "let one lane of the circle block or drop when it is full",
            ));
        }
        if path.len() > HOPS_MAX + 1 {
            return Err(Error::new(
                "lane.redirect_hops",
                format!("more than {HOPS_MAX} redirects in a row: {}", path.join(" -> ")),
                "redirect to the last lane directly",
            ));
        }
        at = next;
    }
    Ok(())
}
