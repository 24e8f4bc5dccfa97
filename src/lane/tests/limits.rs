use super::*;

fn fill(lanes: &mut Lanes, entries: impl IntoIterator<Item = Entry>) {
    entries.into_iter().for_each(|entry| lanes.lane_mut(0).offer(entry));
    admit_all(lanes);
}

#[test]
fn a_rate_lets_a_burst_through_and_then_says_when() {
    let mut lanes = lanes([rated(10, 3)], None);
    fill(&mut lanes, [entry(1, 9, 0, Style::Thread)]);
    assert_eq!(order_at(&mut lanes, NOW).len(), 3);
    assert_eq!(lanes.wake_at(), Some(NOW.plus(100)));
    assert_eq!(order_at(&mut lanes, NOW.plus(99)).len(), 0);
    assert_eq!(order_at(&mut lanes, NOW.plus(100)).len(), 1);
    assert_eq!(order_at(&mut lanes, NOW.plus(400)).len(), 3);
    assert_eq!(order_at(&mut lanes, NOW.plus(10_000)).len(), 2);
    assert_eq!(lanes.wake_at(), None, "nothing waits any more");
}

#[test]
fn a_batch_takes_no_more_than_there_are_tokens_for() {
    let mut lanes = lanes([rated(10, 10)], None);
    let costly = Entry { cost: 3, ..entry(1, 9, 0, Style::Thread) };
    fill(&mut lanes, [costly]);
    let (taken, _) = grant(&mut lanes, Style::Thread, 99).expect("the bucket is full");
    assert_eq!(taken.span.len, 3);
    assert_eq!(lanes.view(NOW)[0].rate_free, Some(1));
    assert!(grant(&mut lanes, Style::Thread, 99).is_none());
    assert_eq!(lanes.wake_at(), Some(NOW.plus(200)));
}

#[test]
fn a_key_without_tokens_holds_up_no_other_key_and_keeps_its_order() {
    let mut lanes = lanes([rated(1, 1)], None);
    fill(&mut lanes, [of_key(1, 1, "a"), of_key(2, 1, "a"), of_key(3, 1, "b"), of_key(4, 1, "a")]);
    assert_eq!(order_at(&mut lanes, NOW), [1, 3]);
    fill(&mut lanes, [of_key(5, 1, "b"), entry(6, 1, 0, Style::Thread)]);
    assert_eq!(order_at(&mut lanes, NOW), [6]);
    assert_eq!(order_at(&mut lanes, NOW.plus(1_000)), [2, 5]);
    assert_eq!(order_at(&mut lanes, NOW.plus(2_000)), [4]);
}

#[test]
fn idle_keys_leave_nothing_behind() {
    let mut lanes = lanes([rated(1, 1)], None);
    for run in 0..1_000 {
        fill(&mut lanes, [of_key(run, 1, &format!("key {run}"))]);
        assert_eq!(order_at(&mut lanes, NOW.plus(run as u64 * 100)).len(), 1);
    }
    assert!(lanes.view(NOW.plus(99_900))[0].keys <= 11, "dropped on the way");
    assert_eq!(lanes.view(NOW.plus(200_000))[0].keys, 0);
}

#[test]
fn weights_hold_where_a_rate_is_what_bounds() {
    let mut lanes = lanes([rated(1_000, 1)], None);
    fill(&mut lanes, [of_flow(1, 400, "a", 3), of_flow(2, 400, "b", 1)]);
    let mut served = Vec::new();
    for ms in 0..40 {
        served.extend(order_at(&mut lanes, NOW.plus(ms)));
    }
    assert_eq!(served.len(), 40);
    assert_eq!(served.iter().filter(|&&run| run == 1).count(), 30);
}

#[test]
fn a_charge_is_a_debt_that_is_waited_for() {
    let budget = Rate { units: 100, per_ms: 1_000, burst: 100 };
    let budgets = [("tokens".to_owned(), budget)].into();
    let mut lanes = lanes([LaneSpec { budgets, ..spec(9, 99) }], None);
    fill(&mut lanes, [of_key(1, 3, "a"), of_key(2, 1, "b")]);
    assert!(grant(&mut lanes, Style::Thread, 1).is_some());
    lanes.charge(0, Some("a"), "tokens", 350, NOW).expect("the lane has tokens");
    assert_eq!(order_at(&mut lanes, NOW), [2]);
    // 250 in debt, and one to spare.
    assert_eq!(lanes.wake_at(), Some(NOW.plus(2_510)));
    assert_eq!(order_at(&mut lanes, NOW.plus(2_509)).len(), 0);
    assert_eq!(order_at(&mut lanes, NOW.plus(2_510)), [1, 1]);
    let error = lanes.charge(0, None, "euros", 1, NOW).expect_err("no such budget");
    assert_eq!(error.code, "lane.budget");
}

#[test]
fn a_hold_stops_its_key_or_its_lane() {
    let mut lanes = lanes([spec(9, 99)], None);
    fill(&mut lanes, [of_key(1, 1, "a"), of_key(2, 1, "b"), entry(3, 1, 0, Style::Thread)]);
    lanes.hold(0, Some("a"), NOW.plus(500));
    assert_eq!(order_at(&mut lanes, NOW), [2, 3]);
    fill(&mut lanes, [entry(4, 1, 0, Style::Thread)]);
    lanes.hold(0, None, NOW.plus(700));
    assert_eq!(lanes.wake_at(), Some(NOW.plus(700)));
    assert_eq!(order_at(&mut lanes, NOW.plus(699)).len(), 0);
    assert_eq!(order_at(&mut lanes, NOW.plus(700)), [1, 4]);
    assert_eq!(lanes.view(NOW.plus(701))[0].keys, 0);
}

#[test]
fn a_paused_lane_admits_and_grants_nothing() {
    let mut lanes = lanes([rated(1, 1)], None);
    lanes.pause(0);
    fill(&mut lanes, [entry(1, 3, 0, Style::Thread)]);
    assert_eq!(order_at(&mut lanes, NOW).len(), 0);
    assert_eq!((lanes.wake_at(), lanes.is_paused(0)), (None, true));
    assert_eq!(lanes.view(NOW)[0].queued, 3);
    lanes.resume(0);
    assert_eq!(order_at(&mut lanes, NOW).len(), 1);
}

#[test]
fn limits_change_live_and_nothing_breaks() {
    let mut lanes = lanes([spec(4, 10)], None);
    fill(&mut lanes, [entry(1, 10, 0, Style::Thread)]);
    let mut permits: Vec<_> = (0..4).filter_map(|_| grant(&mut lanes, Style::Thread, 1)).collect();
    lanes.configure(LaneSpec { threads: Some(9), ..spec(2, 3) }, NOW).expect("sound");
    let view = &lanes.view(NOW)[0];
    assert_eq!((view.running, view.queued, view.capacity), (4, 6, 3));
    for left in [3, 2] {
        permits.pop();
        assert!(grant(&mut lanes, Style::Thread, 1).is_none(), "{left} still run");
    }
    permits.pop();
    assert!(grant(&mut lanes, Style::Thread, 1).is_some());
    lanes
        .configure(
            LaneSpec { rate: Some(Rate { units: 1, per_ms: 10, burst: 1 }), ..spec(9, 9) },
            NOW,
        )
        .expect("sound");
    assert_eq!(order_at(&mut lanes, NOW).len(), 1);
    lanes.configure(spec(9, 9), NOW).expect("sound");
    assert_eq!(order_at(&mut lanes, NOW).len(), 4, "without a rate nobody waits for one");
}

#[test]
fn threads_bounded_live_count_those_that_run() {
    let mut lanes = lanes([spec(9, 99)], None);
    fill(&mut lanes, [entry(1, 9, 0, Style::Thread)]);
    let running: Vec<_> = (0..3).filter_map(|_| grant(&mut lanes, Style::Thread, 1)).collect();
    lanes.configure(LaneSpec { threads: Some(3), ..spec(9, 99) }, NOW).expect("sound");
    assert!(grant(&mut lanes, Style::Thread, 1).is_none());
    drop(running);
    assert!(grant(&mut lanes, Style::Thread, 1).is_some());
}

#[test]
fn who_lent_a_permit_takes_it_again_only_where_one_is_free() {
    let mut lanes = lanes([spec(1, 9)], None);
    fill(&mut lanes, [entry(1, 2, 0, Style::Thread)]);
    let (_, mut parent) = grant(&mut lanes, Style::Thread, 1).expect("one is free");
    parent.release(1);
    let child = grant(&mut lanes, Style::Thread, 1).expect("it was lent");
    assert!(lanes.retake(0, Style::Thread).is_none());
    drop(child);
    let again = lanes.retake(0, Style::Thread).expect("it came back");
    assert_eq!(lanes.view(NOW)[0].running, 1);
    drop((parent, again));
    assert_eq!(lanes.view(NOW)[0].running, 0);
}

#[test]
fn a_key_that_was_only_held_leaves_nothing_behind() {
    let mut lanes = lanes([spec(9, 9)], None);
    lanes.hold(0, Some("a"), NOW.plus(500));
    lanes.hold(0, Some("b"), NOW.plus(500));
    for wait in [0, 501, 1_003] {
        assert_eq!(lanes.fronts(0, NOW.plus(wait)).count(), 0);
    }
    assert_eq!(lanes.lane(0).limiters.keys(), 0, "nobody had to look at the lane");
}

/// Wakes a lane with a backlog, each time so many milliseconds late; tells when each unit went.
fn woken_late(lane: LaneSpec, lates: &[u64]) -> Vec<u64> {
    let mut lanes = lanes([lane], None);
    fill(&mut lanes, [entry(1, 900, 0, Style::Thread)]);
    let mut went = vec![0; order_at(&mut lanes, NOW).len()];
    for late in lates {
        let Some(due) = lanes.wake_at() else { break };
        let now = due.plus(*late);
        went.extend(order_at(&mut lanes, now).iter().map(|_| now.0 - NOW.0));
    }
    went
}

#[test]
fn a_rate_does_not_lose_what_a_late_wake_up_held_up() {
    let went = woken_late(rated(1_000, 1), &[7; 50]);
    // Eight at a time, every eight milliseconds: a thousand a second.
    assert_eq!(went[..9], [0, 8, 8, 8, 8, 8, 8, 8, 8]);
    assert_eq!((went.len(), went[400]), (401, 400));
}

#[test]
fn after_a_stall_a_rate_makes_up_for_a_few_milliseconds_and_no_more() {
    let went = woken_late(rated(1_000, 1), &[500, 0, 0]);
    assert_eq!(went.iter().filter(|&&at| at == 501).count(), 11);
    assert_eq!(went[12..], [502, 503]);
}

#[test]
fn a_pause_without_a_backlog_is_no_lateness() {
    let mut lanes = lanes([rated(1_000, 1)], None);
    for pause in [0, 1, 5, 500] {
        fill(&mut lanes, [entry(1, 1, 0, Style::Thread)]);
        assert_eq!(order_at(&mut lanes, NOW.plus(pause)), [1]);
    }
    fill(&mut lanes, [entry(1, 9, 0, Style::Thread)]);
    assert_eq!(order_at(&mut lanes, NOW.plus(900)), [1]);
}

proptest::proptest! {
    /// However late the wake-ups: no window holds more than burst, rate and what is made up for; and
    /// nothing is lost where they are no later than that.
    #[test]
    fn late_wake_ups_widen_no_window_by_more_than_is_made_up_for(
        units in 1u32..3_000, burst in 1u32..6,
        lates in proptest::collection::vec(0u64..25, 1..80), punctual: bool,
    ) {
        let most_late = if punctual { limit::MAKE_UP_MS } else { 25 };
        let lates: Vec<u64> = lates.into_iter().map(|late| late.min(most_late)).collect();
        let went = woken_late(rated(units, burst), &lates);
        for (at, from) in went.iter().enumerate() {
            for (n, to) in went[at..].iter().enumerate() {
                let window = to - from + 1 + limit::MAKE_UP_MS;
                let most = u64::from(burst) * 1_000 + window * u64::from(units) - 1;
                proptest::prop_assert!((n as u64 + 1) * 1_000 <= most, "{n} from {from} to {to}");
            }
        }
        if punctual && went.len() < 900 {
            let last = went.last().copied().unwrap_or(0);
            let due = u64::from(burst) + last * u64::from(units) / 1_000;
            proptest::prop_assert!(went.len() as u64 >= due, "{} of {due} by {last}", went.len());
        }
    }
}
