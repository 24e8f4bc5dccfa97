//! The simulation notices every planted bug.

use super::mutant::Mutant;
use super::play;

/// Seeds within which a planted bug must be noticed.
const SEEDS_MAX: u64 = 2_000;

fn notices(mutant: Mutant) {
    let noticed = (0..SEEDS_MAX).find_map(|seed| play(seed, Some(mutant)).err().map(|e| (seed, e)));
    let (seed, why) =
        noticed.unwrap_or_else(|| panic!("{mutant:?} lived through {SEEDS_MAX} seeds"));
    println!("{mutant:?}: seed {seed}: {why}");
}

macro_rules! notices {
    ($($name:ident => $mutant:ident),+ $(,)?) => {
        $(#[test] fn $name() { notices(Mutant::$mutant); })+
    };
}

notices! {
    a_forgotten_join => ForgetJoin,
    a_forgotten_skip => ForgetSkip,
    a_forgotten_end => ForgetEnd,
    a_forgotten_fail_fast => ForgetFailFast,
    a_forgotten_quarantine => ForgetQuarantine,
    a_run_that_ends_early => EndEarly,
    a_run_that_ends_wrongly => EndWrongly,
    a_completion_applied_twice => CompleteTwice,
    a_stale_result_taken_for_a_fresh_one => CompleteStale,
    a_retry_too_many => RetryForever,
    a_retry_too_few => GiveUpEarly,
    an_interruption_that_costs_a_retry => InterruptionCostsRetry,
    a_crash_that_is_not_counted => CrashIsNotCounted,
    an_at_most_once_task_repeated => RepeatAtMostOnce,
    an_attempt_number_used_twice => ReuseAttempt,
    a_lost_child_of_a_map => LoseChild,
    growth_that_does_not_wait => GrowthDoesNotWait,
    a_message_taken_twice => SteerTwice,
    an_absorption_left_half_done => AbsorbHalf,
    a_lost_retry_timer => LoseRetryTimer,
    a_lost_offer => LoseOffer,
    a_lost_resolve => LoseResolve,
    an_attempt_not_told_to_stop => LoseAbandon,
    waiters_not_released => LoseEnded,
    a_lost_queue_timer => LoseQueueTimer,
    a_lost_total_timer => LoseTotalTimer,
    an_overdue_task_left_in_its_lane => LoseLeave,
    a_queue_timeout_that_is_retried => RetryQueueTimeout,
    a_total_timeout_that_spares_attempts => TotalSparesRunning,
    a_recovery_that_lets_waits_begin_anew => RecoverAnew,
    a_double_offer => OfferTwice,
    a_recovery_without_offers => RecoverNoOffer,
    a_recovery_without_resolves => RecoverNoResolve,
    a_recovery_without_timers => RecoverNoTimer,
    a_recovery_that_forgets_a_lost_attempt => RecoverNoLost,
    effects_before_the_journal => ActBeforeJournal,
    an_at_most_once_start_before_its_sync => StartBeforeSync,
    a_journal_that_never_syncs => NeverSync,
    a_journal_that_misses_an_event => JournalMissesEvent,
    a_journal_with_a_hole => JournalMissesRecord,
    numbers_that_count_events_instead_of_tasks => CountEventsNotTasks,
    a_lane_that_drops_an_entry => DropEntryAtAdmission,
    a_dropped_task_that_nobody_tells => DropSilently,
    a_dropped_task_counted_as_accepted => EnqueueDropped,
    a_redirected_task_that_never_arrives => LoseRedirected,
    a_world_that_never_wakes_at_a_refill => NeverWake,
    a_lane_that_is_never_resumed => NeverResume,
    one_over_after_limits_shrank => OneOverAfterShrink,
    a_pause_asked_for_that_costs_a_retry => ThrottleCostsRetry,
    leaking_permits => LeakPermits,
    a_world_deaf_to_retry_timers => DeafToTimers,
    an_overflow_before_free_permits_are_given => OverflowFirst,
    a_lent_permit_that_is_kept => LendKeepsPermit,
    a_call_that_goes_on_without_a_permit => GoOnWithoutPermit,
    new_work_before_those_who_go_on => ReturnersLast,
    a_lent_permit_given_back_twice => LentEndsTwice,
    leaking_loans => LeakLoans,
}
