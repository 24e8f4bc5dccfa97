//! Work outside of runs, through the owner.

use super::*;
use crate::model::Result;

fn engine() -> Engine {
    let lanes = vec![LaneSpec { name: "embed".into(), concurrency: 1, ..LaneSpec::default() }];
    let options = Options { lanes, global: Some(1), ..Options::default() };
    let local = Local::new();
    Engine::open(options, |reports| local.connect(reports)).expect("the engine opens")
}

const SOON: Duration = Duration::from_secs(60);

fn code<T>(result: Option<Result<T>>) -> &'static str {
    result.expect("an answer").err().expect("a refusal").code
}

#[test]
fn guests_come_in_one_after_the_other_and_those_who_left_are_passed_over() {
    let engine = engine();
    let enter = || engine.enter_lane("embed", 1, true).expect("it is open");
    let first = enter().wait(SOON).expect("an answer").expect("no error").expect("a pass");
    let (mut second, third, mut fourth) = (enter(), enter(), enter());
    assert!(second.wait(Duration::ZERO).is_none());
    drop(third);
    drop(first);
    let pass = second.wait(SOON).expect("an answer").expect("no error").expect("a pass");
    assert!(fourth.wait(Duration::ZERO).is_none());
    drop(pass);
    let pass = fourth.wait(SOON).expect("an answer").expect("no error").expect("a pass");
    let mut late = enter();
    // A pass that comes when nobody waits any more goes to the next.
    let gone = enter();
    drop(pass);
    drop(gone);
    drop(late.wait(SOON).expect("an answer").expect("no error").expect("a pass"));
    drop(enter().wait(SOON).expect("an answer").expect("no error").expect("a pass"));
    assert_eq!(
        code(engine.enter_lane("nowhere", 1, true).expect("it is open").wait(SOON)),
        "lane.unknown"
    );
    engine.close(0);
}

#[test]
fn closing_frees_who_waits_for_a_pass() {
    let engine = engine();
    engine.pause_lane("embed", true).expect("it pauses");
    let mut waiting = engine.enter_lane("embed", 1, true).expect("it is open");
    assert!(waiting.wait(Duration::ZERO).is_none());
    engine.close(0);
    assert_eq!(code(waiting.wait(SOON)), "engine.closed");
    assert_eq!(engine.enter_lane("embed", 1, true).err().expect("a refusal").code, "engine.closed");
}

#[test]
fn who_does_not_wait_for_a_lane_to_be_resumed_is_told_at_once() {
    let engine = engine();
    let enter = |waits| engine.enter_lane("embed", 1, waits).expect("it is open");
    let pass = enter(false).wait(SOON).expect("an answer").expect("no error").expect("a pass");
    // One that waits for its turn hears of a pause that comes meanwhile, too.
    let (mut hasty, mut patient) = (enter(false), enter(true));
    assert!(hasty.wait(Duration::ZERO).is_none());
    engine.pause_lane("embed", true).expect("it pauses");
    for mut hasty in [hasty, enter(false)] {
        assert!(hasty.wait(SOON).expect("an answer").expect("no error").is_none());
    }
    drop(pass);
    assert!(patient.wait(Duration::ZERO).is_none());
    engine.pause_lane("embed", false).expect("it goes on");
    drop(patient.wait(SOON).expect("an answer").expect("no error").expect("a pass"));
    engine.close(0);
}

#[test]
fn more_guests_than_may_wait_are_turned_away() {
    let engine = engine();
    engine.pause_lane("embed", true).expect("it pauses");
    let enter = || engine.enter_lane("embed", 1, true).expect("it is open");
    let mut waiting: Vec<_> = (0..4_096).map(|_| enter()).collect();
    assert!(enter().wait(SOON).expect("an answer").expect("no error").is_none());
    assert!(waiting[0].wait(Duration::ZERO).is_none());
    drop(waiting.split_off(1));
    assert!(enter().wait(Duration::ZERO).is_none(), "it waits like the others");
    engine.pause_lane("embed", false).expect("it goes on");
    drop(waiting[0].wait(SOON).expect("an answer").expect("no error").expect("a pass"));
    engine.close(0);
}
