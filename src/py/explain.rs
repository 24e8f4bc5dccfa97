//! Explanations on their way to Python, as JSON: plain words and numbers, times in seconds from now.

use serde_json::{Value, json};

use crate::agent::Rung;
use crate::engine::{Explanation, Standing, TaskPlace, Why};
use crate::lane::Whereabouts;
use crate::model::{Style, Timestamp};

pub(super) fn written(found: &Explanation) -> String {
    let session = found.session.as_ref().map(|place| {
        let holder = place.holder.map(|run| run.to_string());
        let state = standing(place.standing);
        json!({"key": &*place.key, "state": state, "holder": holder, "ahead": place.ahead})
    });
    json!({
        "run": found.run.to_string(),
        "state": found.state.as_str(),
        "reason": found.reason,
        "stopping": found.stopping.as_ref().map(|(reason, since)| {
            json!({"reason": reason, "seconds": seconds(*since, found.at)})
        }),
        "closing": found.closing,
        "stalled": found.stalled,
        "session": session,
        "tasks": found.tasks.iter().map(|task| place(task, found.at)).collect::<Vec<_>>(),
        "more": found.more,
    })
    .to_string()
}

fn place(task: &TaskPlace, now: Timestamp) -> Value {
    json!({
        "task": task.task,
        "agent": task.agent,
        "lane": task.lane,
        "state": task.state.as_str(),
        "children": task.children,
        "why": task.why.iter().map(|why| reason(why, now)).collect::<Vec<_>>(),
    })
}

fn reason(why: &Why, now: Timestamp) -> Value {
    match why {
        Why::Ended { error } => json!({"kind": "ended", "error": error}),
        Why::Tasks { names, more } => json!({"kind": "tasks", "names": names, "more": more}),
        Why::Resolving => json!({"kind": "resolving"}),
        Why::Agent => json!({"kind": "agent"}),
        Why::Lane => json!({"kind": "lane"}),
        Why::Session => json!({"kind": "session"}),
        Why::Journal => json!({"kind": "journal"}),
        Why::Retry { due, error } => {
            json!({"kind": "retry", "in": seconds(now, *due), "error": error})
        }
        Why::Queued { place, running, concurrency, free, held } => {
            let mut told = queued(place, now);
            told["running"] = json!(running);
            told["concurrency"] = json!(concurrency);
            told["free"] = json!(free);
            told["held"] = json!(held);
            told
        }
        Why::Running {
            calls,
            attempt,
            since,
            style,
            timeout_ms,
            lent,
            returning,
            awaits,
            told,
            names,
        } => {
            json!({
                "kind": "running",
                "calls": calls,
                "attempt": attempt,
                "for": seconds(*since, now),
                "worker": worker(*style),
                "timeout": timeout_ms.map(|ms| ms as f64 / 1000.0),
                "lent": lent,
                "returning": returning,
                "awaits": awaits.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "names": names,
                "told": told.map(|told| json!({
                    "rung": rung(told.rung, *style),
                    "seconds": seconds(told.since, now),
                    "given_up_in": seconds(now, told.until),
                })),
            })
        }
    }
}

fn queued(place: &Whereabouts, now: Timestamp) -> Value {
    json!({
        "kind": "queued",
        "lane": place.lane,
        "queued": place.queued,
        "tasks": place.span.len,
        "ahead": place.ahead,
        "priority": place.priority,
        "for": seconds(place.since, now),
        "ready_in": place.ready_at.map(|at| seconds(now, at)),
        "paused": place.paused,
    })
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.since(from) as f64 / 1000.0
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Holds => "holds",
        Standing::Waits => "waits",
        Standing::Parked => "parked",
    }
}

/// What the calls were told with, in the order of the ladder.
fn rung(rung: Rung, style: Style) -> &'static str {
    match (rung, style) {
        (Rung::Token, Style::Loop) => "cancelled",
        (Rung::Token, _) => "token",
        (Rung::Raise, Style::Loop) => "cancelled again",
        (Rung::Raise, _) => "exception",
    }
}

fn worker(style: Style) -> &'static str {
    match style {
        Style::Thread => "thread",
        Style::Loop => "loop",
        Style::Process => "process",
    }
}
