//! The engine's counters, under the names that Prometheus will scrape.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident => $name:literal),+ $(,)?) => {
        /// Counters of one engine since it was opened. Written by the owner thread, read by anyone.
        #[derive(Debug, Default)]
        pub struct Stats { $($(#[$doc])* pub $field: AtomicU64),+ }

        impl Stats {
            /// Every counter with its name.
            pub fn read(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field.load(Ordering::Relaxed))),+]
            }
        }
    };
}

counters! {
    runs_submitted => "goclaw_runs_submitted_total",
    runs_completed => "goclaw_runs_completed_total",
    runs_failed => "goclaw_runs_failed_total",
    runs_cancelled => "goclaw_runs_cancelled_total",
    /// Gauge.
    runs_live => "goclaw_runs_live",
    /// Runs whose message went into another run.
    runs_absorbed => "goclaw_runs_absorbed_total",
    /// Gauge: sessions with a run that has not ended.
    sessions_busy => "goclaw_sessions_busy",
    /// Gauge: runs that wait for their turn in a session.
    sessions_waiting => "goclaw_sessions_waiting",
    /// Gauge: runs that wait for an agent or a lane that is not there, or cannot be replayed.
    runs_incompatible => "goclaw_runs_incompatible",
    tasks_started => "goclaw_tasks_started_total",
    tasks_completed => "goclaw_tasks_completed_total",
    tasks_failed => "goclaw_tasks_failed_total",
    tasks_retried => "goclaw_tasks_retried_total",
    tasks_skipped => "goclaw_tasks_skipped_total",
    tasks_cancelled => "goclaw_tasks_cancelled_total",
    tasks_interrupted => "goclaw_tasks_interrupted_total",
    /// Memories that sessions forgot at the end of runs.
    memories_swept => "goclaw_memories_swept_total",
    attempts_timed_out => "goclaw_attempts_timed_out_total",
    /// Results that came after their attempt was given up.
    results_late => "goclaw_results_late_total",
    /// Gauge: threads that do not come back from a timed-out or cancelled attempt.
    threads_stuck => "goclaw_threads_stuck",
    /// Gauge: worker processes that live.
    workers_live => "goclaw_workers_live",
    workers_started => "goclaw_workers_started_total",
    /// Worker processes that died and nobody had asked them to.
    workers_crashed => "goclaw_workers_crashed_total",
    /// Worker processes that did not end when asked to, and were killed.
    workers_killed => "goclaw_workers_killed_total",
    /// Worker processes that were replaced after their share of calls or of memory.
    workers_recycled => "goclaw_workers_recycled_total",
    heartbeats => "goclaw_heartbeats_total",
    memories_written => "goclaw_memories_written_total",
    memories_reviewed => "goclaw_memories_reviewed_total",
    /// By id or by strength; sessions that were deleted are counted apart.
    memories_forgotten => "goclaw_memories_forgotten_total",
    memory_sessions_deleted => "goclaw_memory_sessions_deleted_total",
    memory_sweeps => "goclaw_memory_sweeps_total",
    /// Milliseconds that sweeps took.
    memory_sweep_ms => "goclaw_memory_sweep_milliseconds_total",
    /// Times that the event loop of the process was blocked.
    loop_blocked => "goclaw_loop_blocked_total",
    /// Times that an agent kept the interpreter to itself.
    gil_hogs => "goclaw_gil_hogs_total",
    journal_records => "goclaw_journal_records_total",
    journal_bytes => "goclaw_journal_bytes_total",
    journal_syncs => "goclaw_journal_syncs_total",
    store_errors => "goclaw_store_errors_total",
    turns => "goclaw_owner_turns_total",
}

impl Stats {
    /// Adds to a counter. Relaxed: nobody orders anything by it.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
