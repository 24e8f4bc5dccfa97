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
    let enter = || engine.enter_lane("embed", 1).expect("it is open");
    let first = enter().wait(SOON).expect("an answer").expect("a pass");
    let (mut second, third, mut fourth) = (enter(), enter(), enter());
    assert!(second.wait(Duration::ZERO).is_none());
    drop(third);
    drop(first);
    let pass = second.wait(SOON).expect("an answer").expect("a pass");
    assert!(fourth.wait(Duration::ZERO).is_none());
    drop(pass);
    let pass = fourth.wait(SOON).expect("an answer").expect("a pass");
    let mut late = enter();
    // A pass that comes when nobody waits any more goes to the next.
    let gone = enter();
    drop(pass);
    drop(gone);
    drop(late.wait(SOON).expect("an answer").expect("a pass"));
    drop(enter().wait(SOON).expect("an answer").expect("a pass"));
    assert_eq!(
        code(engine.enter_lane("nowhere", 1).expect("it is open").wait(SOON)),
        "lane.unknown"
    );
    engine.close(0);
}

#[test]
fn closing_frees_who_waits_for_a_pass() {
    let engine = engine();
    engine.pause_lane("embed", true).expect("it pauses");
    let mut waiting = engine.enter_lane("embed", 1).expect("it is open");
    assert!(waiting.wait(Duration::ZERO).is_none());
    engine.close(0);
    assert_eq!(code(waiting.wait(SOON)), "engine.closed");
    assert_eq!(engine.enter_lane("embed", 1).err().expect("a refusal").code, "engine.closed");
}
