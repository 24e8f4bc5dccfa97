//! What the compiler found: problems in order of discovery, bounded, with suggestions.

use crate::model::{Error, Problem};

/// The codes of the compiler, each with its page under `docs/errors/`.
pub mod code {
    /// The definition was refused; the problems tell why.
    pub const INVALID: &str = "workflow.invalid";
    pub const EMPTY_NAME: &str = "workflow.empty_name";
    pub const NO_TASKS: &str = "workflow.no_tasks";
    pub const TOO_MANY_TASKS: &str = "workflow.too_many_tasks";
    pub const BAD_ID: &str = "workflow.bad_id";
    pub const DUPLICATE_TASK: &str = "workflow.duplicate_task";
    pub const UNKNOWN_DEPENDENCY: &str = "workflow.unknown_dependency";
    pub const SELF_DEPENDENCY: &str = "workflow.self_dependency";
    pub const CYCLE: &str = "workflow.cycle";
    pub const UNKNOWN_AGENT: &str = "workflow.unknown_agent";
    pub const UNKNOWN_LANE: &str = "workflow.unknown_lane";
    pub const DUPLICATE_LANE: &str = "workflow.duplicate_lane";
    pub const BAD_LANE: &str = "workflow.bad_lane";
    pub const MISSING_PARAMETER: &str = "workflow.missing_parameter";
    pub const UNKNOWN_PARAMETER: &str = "workflow.unknown_parameter";
    pub const BAD_OPTION: &str = "workflow.bad_option";
    /// What is said of memory makes no sense.
    pub const BAD_MEMORY: &str = "workflow.bad_memory";
    pub const BAD_TEMPLATE: &str = "workflow.bad_template";
    pub const BAD_TRIGGER: &str = "workflow.bad_trigger";
    pub const OUTPUT_UNKNOWN: &str = "workflow.output_unknown";
    /// Expressions or values are nested deeper than anybody writes by hand.
    pub const TOO_DEEP: &str = "workflow.too_deep";
    /// An `Expr::Const` points past the constants: the definition is damaged.
    pub const UNKNOWN_CONSTANT: &str = "workflow.unknown_constant";
    /// A task added at run time has the id of another one that differs from it.
    pub const TASK_CONFLICT: &str = "workflow.task_conflict";
}

/// Problems kept in full; of the rest only the number.
const PROBLEMS_MAX: usize = 10_000;
/// Names compared for suggestions in one compile: a million misspelt names must not cost a million squared.
const COMPARISONS_MAX: usize = 2_000_000;
/// Longest name that is compared, in characters.
const COMPARED_CHARS_MAX: usize = 80;

/// Collects problems.
#[derive(Default)]
pub(super) struct Findings {
    problems: Vec<Problem>,
    dropped: usize,
    comparisons: usize,
}

impl Findings {
    pub fn add(
        &mut self,
        code: &'static str,
        task: Option<&str>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem::new(code, task, message, help));
        } else {
            self.dropped += 1;
        }
    }

    /// `did you mean …?` where a candidate is near, else `otherwise`.
    pub fn suggest<'c>(
        &mut self,
        name: &str,
        candidates: impl IntoIterator<Item = &'c str>,
        otherwise: &str,
    ) -> String {
        match self.nearest(name, candidates) {
            Some(near) => format!("did you mean `{near}`?"),
            None => otherwise.into(),
        }
    }

    fn nearest<'c>(
        &mut self,
        name: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<&'c str> {
        let wanted: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
        if wanted.len() > COMPARED_CHARS_MAX {
            return None;
        }
        let bound = (wanted.len() / 3).max(1);
        let mut best: Option<(usize, &str)> = None;
        for candidate in candidates {
            self.comparisons += 1;
            if self.comparisons > COMPARISONS_MAX {
                break;
            }
            // A byte takes at least a quarter of a character, so this rejects most names unread.
            if candidate.len() > 4 * (wanted.len() + bound) {
                continue;
            }
            let limit = best.map_or(bound + 1, |(distance, _)| distance);
            let distance = distance(&wanted, candidate, limit);
            if distance < limit {
                best = Some((distance, candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }

    /// One error that carries every problem, or nothing.
    pub fn into_error(self, workflow: &str) -> Result<(), Error> {
        let Some(first) = self.problems.first() else { return Ok(()) };
        let more = self.problems.len() - 1 + self.dropped;
        let conflict = self.problems.iter().all(|problem| problem.code == code::TASK_CONFLICT);
        let code = if conflict { code::TASK_CONFLICT } else { code::INVALID };
        let message = match more {
            0 => format!("workflow `{workflow}` is refused: {}", first.message),
            1 => {
                format!("workflow `{workflow}` is refused: {} (and 1 more problem)", first.message)
            }
            _ => format!(
                "workflow `{workflow}` is refused: {} (and {more} more problems)",
                first.message
            ),
        };
        let mut error = Error::new(code, message, first.help.clone());
        error.problems = self.problems;
        Err(error)
    }
}

/// Optimal string alignment distance (Damerau 1964, restricted), or `limit` where it is not below it.
fn distance(wanted: &[char], candidate: &str, limit: usize) -> usize {
    let other: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
    if wanted.len().abs_diff(other.len()) >= limit {
        return limit;
    }
    let width = other.len() + 1;
    let mut before = vec![0; width];
    let mut above: Vec<usize> = (0..width).collect();
    let mut row = vec![0; width];
    for (i, &a) in wanted.iter().enumerate() {
        row[0] = i + 1;
        for (j, &b) in other.iter().enumerate() {
            let substituted = above[j] + usize::from(a != b);
            row[j + 1] = substituted.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == other[j - 1] && wanted[i - 1] == b {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        if row.iter().all(|&cell| cell >= limit) {
            return limit;
        }
        std::mem::swap(&mut before, &mut above);
        std::mem::swap(&mut above, &mut row);
    }
    above[width - 1].min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggest(name: &str, candidates: &[&str]) -> String {
        Findings::default().suggest(name, candidates.iter().copied(), "no idea")
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(suggest("fetsh", &["sum", "fetch"]), "did you mean `fetch`?");
        assert_eq!(suggest("fecth", &["sum", "fetch"]), "did you mean `fetch`?");
        assert_eq!(suggest("Fetch", &["fetch"]), "did you mean `fetch`?");
        assert_eq!(suggest("report", &["sum", "fetch"]), "no idea");
        assert_eq!(suggest("gröse", &["groesse", "größe"]), "did you mean `größe`?");
    }

    #[test]
    fn of_equally_near_names_the_first_declared_wins() {
        assert_eq!(suggest("task3", &["task1", "task2"]), "did you mean `task1`?");
    }

    #[test]
    fn the_distance_counts_edits_and_swaps() {
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("a", "", 1),
        ] {
            assert_eq!(distance(&chars(a), b, 99), expected, "{a} {b}");
        }
    }

    #[test]
    fn problems_beyond_the_bound_are_counted() {
        let mut findings = Findings::default();
        for _ in 0..PROBLEMS_MAX + 5 {
            findings.add(code::BAD_ID, None, "x", "y");
        }
        let error = findings.into_error("w").expect_err("there are problems");
        assert_eq!(error.problems.len(), PROBLEMS_MAX);
        assert!(error.message.ends_with("(and 10004 more problems)"), "{}", error.message);
    }
}
