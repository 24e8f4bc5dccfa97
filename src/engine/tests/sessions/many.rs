//! Very many sessions: what is left of them when they are idle.

use super::*;

/// Submits that go together; nothing limits how many sessions there are at once.
const TOGETHER: u32 = 2_000;

fn through(sessions: u32) {
    let local = Local::new();
    local.coroutine("talk", |_, _| Outcome::Completed(number(1)));
    let engine = open(&local, None, vec![]);
    let plan = plan(vec![task("a", "talk", &[])]);
    for wave in 0..sessions / TOGETHER {
        let keys = (0..TOGETHER).map(|n| format!("session-{}", wave * TOGETHER + n));
        let submit = |key: String| Submit { session: Some(key.into()), ..request(&plan) };
        let tickets = engine.submit_many(keys.map(submit).collect()).expect("the inbox is open");
        for ticket in &tickets {
            let run = ticket.wait(SOON).expect("accepted in time").expect("accepted");
            assert_eq!(ended(&run), RunState::Completed);
        }
    }
    assert!(engine.sessions().expect("open").is_empty());
    // The last run is told to have ended before its batch has landed.
    let left = || engine.probe(|owner| owner.leftovers());
    for _ in 0..20_000 {
        if left().is_empty() {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(left(), []);
    engine.close(0);
}

#[test]
fn sessions_that_are_idle_leave_nothing_behind() {
    through(10_000);
}

/// `cargo nextest run --release --run-ignored only a_million`: some minutes in a debug build.
#[test]
#[ignore = "a million runs take minutes in a debug build"]
fn a_million_sessions_leave_nothing_behind() {
    through(1_000_000);
}
