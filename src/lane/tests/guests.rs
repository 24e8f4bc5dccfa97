//! Work outside of runs: it takes the lane's permits and its rate, and not the bound over all lanes.

use super::*;

#[test]
fn a_guest_takes_a_permit_of_the_lane_and_gives_it_back() {
    let mut lanes = lanes([spec(2, 9)], Some(1));
    let first = lanes.guest(0, 1, NOW, NOW).expect("a permit");
    let second = lanes.guest(0, 1, NOW, NOW).expect("the bound over all lanes does not count it");
    assert!(lanes.guest(0, 1, NOW, NOW).is_none());
    assert_eq!(lanes.guest_at(0, 1), None, "the clock alone lets nobody in");
    drop(first);
    assert!(lanes.guest(0, 1, NOW, NOW).is_some());
    drop(second);
    assert_eq!(lanes.lane(0).running(), 0);
    let view = &lanes.view(NOW)[0];
    assert_eq!((view.counts.offered, view.counts.accepted, view.counts.granted), (3, 3, 3));
}

#[test]
fn a_guest_waits_for_the_rate_for_pauses_and_for_whoever_resumes_the_lane() {
    let mut lanes = lanes([rated(2, 2)], None);
    assert!(lanes.guest(0, 2, NOW, NOW).is_some());
    assert!(lanes.guest(0, 1, NOW, NOW).is_none());
    let at = lanes.guest_at(0, 1).expect("the clock lets it in");
    assert_eq!(at, NOW.plus(500));
    assert!(lanes.guest(0, 1, NOW, at).is_some());
    let until = NOW.plus(60_000);
    lanes.hold(0, None, until);
    assert_eq!(lanes.guest_at(0, 1), Some(until));
    assert!(lanes.guest(0, 1, NOW, NOW.plus(59_999)).is_none());
    lanes.pause(0);
    assert!(lanes.guest(0, 1, NOW, until).is_none());
    lanes.resume(0);
    assert!(lanes.guest(0, 1, NOW, until).is_some());
}
