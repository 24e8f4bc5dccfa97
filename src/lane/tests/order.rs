use proptest::prelude::*;

use super::*;

#[test]
fn the_queue_never_holds_more_than_its_capacity() {
    let mut lanes = lanes([spec(1, 10)], None);
    lanes.lane_mut(0).offer(entry(1, 25, 0, Style::Thread));
    admit_all(&mut lanes);
    let view = &lanes.view(NOW)[0];
    assert_eq!((view.queued, view.backlog), (10, 15));
    assert!(lanes.lane(0).is_full());
}

#[test]
fn higher_priority_goes_first_and_equals_go_in_order() {
    let mut lanes = lanes([spec(9, 99)], None);
    for (run, priority) in [(1, 0), (2, 5), (3, 0), (4, 5)] {
        lanes.lane_mut(0).offer(entry(run, 1, priority, Style::Thread));
    }
    admit_all(&mut lanes);
    let mut order = Vec::new();
    let mut permits = Vec::new();
    while let Some((entry, permit)) = grant(&mut lanes, Style::Thread, 1) {
        order.push(entry.run.as_u128());
        permits.push(permit);
    }
    assert_eq!(order, [2, 4, 1, 3]);
}

#[test]
fn a_dropped_permit_gives_its_slots_back() {
    let mut lanes = lanes([spec(4, 99)], Some(3));
    lanes.lane_mut(0).offer(entry(1, 9, 0, Style::Loop));
    admit_all(&mut lanes);
    let (granted, mut permit) = grant(&mut lanes, Style::Loop, 99).expect("three are free");
    assert_eq!(granted.span.len, 3, "the global lane bounds the grant");
    assert!(grant(&mut lanes, Style::Loop, 1).is_none());
    permit.release(1);
    let (next, _second) = grant(&mut lanes, Style::Loop, 99).expect("one came back");
    assert_eq!(next.span, Span::new(0, 3, 1));
    drop(permit);
    assert_eq!(lanes.free(0, Style::Loop), 2);
}

#[test]
fn full_threads_do_not_hold_up_coroutines() {
    let bounded = LaneSpec { threads: Some(1), ..spec(10, 99) };
    let mut lanes = lanes([bounded], None);
    lanes.lane_mut(0).offer(entry(1, 2, 0, Style::Thread));
    lanes.lane_mut(0).offer(entry(2, 2, 0, Style::Loop));
    admit_all(&mut lanes);
    let (_, _held) = grant(&mut lanes, Style::Thread, 1).expect("a thread is free");
    assert!(grant(&mut lanes, Style::Thread, 1).is_none());
    assert!(grant(&mut lanes, Style::Loop, 2).is_some());
}

#[test]
fn a_withdrawn_run_leaves_no_trace() {
    let mut lanes = lanes([spec(1, 5)], None);
    for run in [1, 2] {
        lanes.lane_mut(0).offer(entry(run, 4, 0, Style::Thread));
    }
    admit_all(&mut lanes);
    lanes.withdraw(RunId::from_u128(1));
    admit_all(&mut lanes);
    let view = &lanes.view(NOW)[0];
    assert_eq!((view.queued, view.backlog), (4, 0));
}

proptest! {
    /// Whatever is offered, granted and given back: bounds hold and every task comes out once, in order.
    #[test]
    fn bounds_hold_and_nothing_is_lost(
        concurrency in 1u32..6, capacity in 1u32..20, global in proptest::option::of(1u32..6),
        offers in proptest::collection::vec((1u32..12, 0i32..3, any::<bool>()), 1..30),
        takes in proptest::collection::vec((any::<bool>(), 1u32..9, any::<u8>()), 1..200),
    ) {
        let mut lanes = lanes([spec(concurrency, capacity)], global);
        let mut offered = 0;
        for (run, (len, priority, thread)) in offers.into_iter().enumerate() {
            let style = if thread { Style::Thread } else { Style::Loop };
            offered += u64::from(len);
            lanes.lane_mut(0).offer(entry(run as u128, len, priority, style));
        }
        let mut permits: Vec<Permit> = Vec::new();
        let mut out = 0;
        for (thread, n, give_back) in takes {
            admit_all(&mut lanes);
            let style = if thread { Style::Thread } else { Style::Loop };
            if let Some((entry, permit)) = grant(&mut lanes, style, n) {
                prop_assert!(entry.span.len <= n);
                out += u64::from(entry.span.len);
                permits.push(permit);
            }
            let view = &lanes.view(NOW)[0];
            prop_assert!(view.queued <= u64::from(capacity));
            prop_assert!(view.running <= concurrency.min(global.unwrap_or(u32::MAX)));
            prop_assert_eq!(offered, out + view.queued + view.backlog);
            if !permits.is_empty() && give_back % 2 == 0 {
                permits.swap_remove(usize::from(give_back) % permits.len());
            }
        }
        permits.clear();
        prop_assert_eq!(lanes.view(NOW)[0].running, 0);
    }
}
