//! Whether a failed attempt is repeated, and after which pause.

use crate::math::backoff_ms;
use crate::model::{Failure, FailureKind, Millis, Retry};

/// The pause before the next attempt, or `None` when this failure is final.
///
/// `failures` counts the failures before this one. What cannot be converted or bound would fail
/// again, so it is never retried, whatever the policy says.
pub(super) fn pause(policy: &Retry, failures: u16, failure: &Failure, dice: u64) -> Option<Millis> {
    if failures >= policy.retries {
        return None;
    }
    let wanted = match failure.kind {
        FailureKind::Payload
        | FailureKind::Binding
        | FailureKind::Dropped
        | FailureKind::Refused => false,
        FailureKind::Crash => true,
        FailureKind::Exception | FailureKind::Timeout => matches(policy, failure),
    };
    let backoff = || backoff_ms(policy, failures.saturating_add(1), dice);
    wanted.then(|| failure.retry_after.unwrap_or_else(backoff))
}

/// Attempts of one task after which a `RetryAfter` costs a retry like any other failure.
const THROTTLED_ATTEMPTS_MAX: u32 = 10_000;

/// The pause that the agent asked for, which costs no retry: it did not fail, it was told to wait.
///
/// The policy has no say, unless it names the class as one that is never retried. What bounds it is the
/// task's total timeout, and `THROTTLED_ATTEMPTS_MAX`.
pub(super) fn throttle(policy: &Retry, attempt: u32, failure: &Failure) -> Option<Millis> {
    let never = || failure.types.iter().any(|class| policy.never.contains(class));
    let asked = failure.kind == FailureKind::Exception && attempt < THROTTLED_ATTEMPTS_MAX;
    failure.retry_after.filter(|_| asked && !never())
}

/// The most derived class that either list names decides; a tie goes to `never`.
///
/// So `on = [ConnectionError], never = [OSError]` retries a `ConnectionError` and no other `OSError`.
fn matches(policy: &Retry, failure: &Failure) -> bool {
    for class in &failure.types {
        if policy.never.contains(class) {
            return false;
        }
        if policy.on.contains(class) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(types: &[&str]) -> Failure {
        let mut failure = Failure::new(FailureKind::Exception, "task.exception", "no");
        failure.types = types.iter().map(|t| (*t).to_owned()).collect();
        failure
    }

    fn plain() -> Retry {
        Retry { jitter: false, ..Retry::default() }
    }

    #[test]
    fn an_exception_is_retried_as_often_as_the_policy_says() {
        let failure = raised(&["builtins.OSError", "builtins.Exception"]);
        let tries: Vec<_> = (0..5).map(|n| pause(&plain(), n, &failure, 0)).collect();
        assert_eq!(tries, [Some(500), Some(1_000), Some(2_000), None, None]);
    }

    #[test]
    fn value_errors_and_what_cannot_be_converted_are_final() {
        let value = raised(&["json.JSONDecodeError", "builtins.ValueError", "builtins.Exception"]);
        assert_eq!(pause(&plain(), 0, &value, 0), None);
        let payload = Failure::new(FailureKind::Payload, "payload.unsupported", "no");
        assert_eq!(pause(&plain(), 0, &payload, 0), None);
    }

    #[test]
    fn what_would_be_refused_again_is_final_whatever_the_policy_says() {
        let policy = Retry { on: vec!["builtins.Exception".into()], never: vec![], ..plain() };
        let mut failure = raised(&["goclaw.errors.GoclawError", "builtins.Exception"]);
        assert!(pause(&policy, 0, &failure, 0).is_some(), "as it may pass");
        failure.kind = FailureKind::Refused;
        assert_eq!(pause(&policy, 0, &failure, 0), None);
    }

    #[test]
    fn the_most_derived_class_decides() {
        let policy = Retry {
            on: vec!["builtins.ConnectionError".into()],
            never: vec!["builtins.OSError".into()],
            ..plain()
        };
        let refused = raised(&["builtins.ConnectionError", "builtins.OSError"]);
        assert!(pause(&policy, 0, &refused, 0).is_some());
        assert!(pause(&policy, 0, &raised(&["builtins.OSError"]), 0).is_none());
        assert!(pause(&policy, 0, &raised(&["builtins.KeyError"]), 0).is_none());
    }

    #[test]
    fn the_agent_may_name_the_pause_and_it_costs_nothing() {
        let mut throttled = raised(&["goclaw.errors.RetryAfter", "builtins.Exception"]);
        throttled.retry_after = Some(7_000);
        let strict = Retry { retries: 0, on: Vec::new(), ..plain() };
        assert_eq!(throttle(&strict, 9, &throttled), Some(7_000), "it costs no retry");
        let never = Retry { never: vec!["goclaw.errors.RetryAfter".into()], ..plain() };
        assert_eq!(throttle(&never, 1, &throttled), None);
        assert_eq!(throttle(&plain(), THROTTLED_ATTEMPTS_MAX, &throttled), None);
        assert_eq!(pause(&plain(), 0, &throttled, 0), Some(7_000));
        assert_eq!(pause(&plain(), 3, &throttled, 0), None);
    }
}
