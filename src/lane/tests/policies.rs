use super::*;
use crate::lane::check::HOPS_MAX;

fn full(on_full: OnFull) -> LaneSpec {
    LaneSpec { on_full, ..spec(1, 3) }
}

fn offer(lanes: &mut Lanes, entry: Entry) -> Vec<(u128, Span)> {
    lanes.lane_mut(0).offer(entry);
    let dropped = admit_all(lanes);
    holds_identity(lanes);
    dropped.into_iter().map(|entry| (entry.run.as_u128(), entry.span)).collect()
}

#[test]
fn a_full_lane_blocks() {
    let mut lanes = lanes([full(OnFull::Block)], None);
    assert_eq!(offer(&mut lanes, entry(1, 5, 0, Style::Thread)), []);
    assert_eq!((lanes.full(0), lanes.view(NOW)[0].backlog), (Some(0), 2));
}

#[test]
fn a_full_lane_drops_the_newest() {
    let mut lanes = lanes([full(OnFull::DropNewest)], None);
    assert_eq!(offer(&mut lanes, entry(1, 2, 0, Style::Thread)), []);
    assert_eq!(offer(&mut lanes, entry(2, 4, 9, Style::Thread)), [(2, Span::new(0, 1, 3))]);
    let view = &lanes.view(NOW)[0];
    assert_eq!((view.counts.accepted, view.counts.dropped, view.backlog), (3, 3, 0));
    assert_eq!(lanes.full(0), None, "whoever submits need not wait");
}

#[test]
fn a_full_lane_drops_the_oldest() {
    let mut lanes = lanes([full(OnFull::DropOldest)], None);
    assert_eq!(offer(&mut lanes, entry(1, 2, 9, Style::Thread)), []);
    assert_eq!(offer(&mut lanes, entry(2, 1, 0, Style::Loop)), []);
    assert_eq!(offer(&mut lanes, entry(3, 1, 0, Style::Thread)), [(1, Span::new(0, 0, 1))]);
    assert_eq!(
        offer(&mut lanes, entry(4, 2, 0, Style::Thread)),
        [(1, Span::new(0, 1, 1)), (2, Span::new(0, 0, 1))]
    );
    assert_eq!(order_at(&mut lanes, NOW), [3, 4, 4]);
    // A span that is longer than the lane: the last of it stay.
    let dropped = offer(&mut lanes, entry(5, 7, 0, Style::Thread));
    assert_eq!(dropped.iter().map(|(_, span)| span.len).sum::<u32>(), 4);
    assert_eq!(lanes.view(NOW)[0].queued, 3);
}

#[test]
fn what_had_a_place_before_is_never_dropped() {
    for on_full in [OnFull::DropNewest, OnFull::DropOldest] {
        let mut lanes = lanes([full(on_full.clone())], None);
        let placed = |run| Entry { placed: true, ..entry(run, 2, 0, Style::Thread) };
        assert_eq!(offer(&mut lanes, placed(1)), []);
        assert_eq!(offer(&mut lanes, placed(2)), []);
        assert_eq!(lanes.view(NOW)[0].backlog, 1, "it waits");
        assert_eq!(offer(&mut lanes, entry(3, 1, 0, Style::Thread)), [], "nobody overtakes it");
        assert!(grant(&mut lanes, Style::Thread, 1).is_some());
        let last = admit_all(&mut lanes);
        assert_eq!(last.iter().map(|entry| entry.run.as_u128()).collect::<Vec<_>>(), [3]);
        holds_identity(&mut lanes);
    }
}

#[test]
fn a_full_lane_redirects_and_the_next_decides() {
    let to = |name: &str, on_full| LaneSpec { name: name.into(), on_full, ..spec(1, 1) };
    let specs = [
        to("a", OnFull::Redirect("b".into())),
        to("b", OnFull::Redirect("c".into())),
        to("c", OnFull::DropNewest),
    ];
    let mut lanes = lanes(specs, None);
    assert_eq!(offer(&mut lanes, entry(1, 5, 0, Style::Thread)), [(1, Span::new(0, 3, 2))]);
    let counts: Vec<_> = lanes.view(NOW).into_iter().map(|view| view.counts).collect();
    assert_eq!(counts.iter().map(|c| c.offered).collect::<Vec<_>>(), [5, 4, 3]);
    assert_eq!(counts.iter().map(|c| c.redirected).collect::<Vec<_>>(), [4, 3, 0]);
    assert_eq!(counts.iter().map(|c| c.accepted).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn a_submit_is_asked_to_wait_where_the_last_redirect_blocks() {
    let a = LaneSpec { name: "a".into(), on_full: OnFull::Redirect("io".into()), ..spec(1, 1) };
    let mut lanes = lanes([a, spec(1, 1)], None);
    assert_eq!(lanes.full(0), None);
    lanes.reserve(0);
    assert_eq!(lanes.full(0), None, "the other lane has room");
    lanes.reserve(0);
    assert_eq!(lanes.full(0), Some(1));
    lanes.clear_reservations();
    assert_eq!(lanes.full(0), None);
}

#[test]
fn a_decision_taken_back_has_never_been() {
    let mut lanes = lanes([full(OnFull::DropNewest)], None);
    lanes.lane_mut(0).offer(entry(1, 5, 0, Style::Thread));
    while let Some(admission) = lanes.lane_mut(0).next_admission() {
        lanes.lane_mut(0).retract(&admission);
    }
    assert_eq!(lanes.view(NOW)[0].counts, Counts::default());
}

#[test]
fn unsound_lanes_are_refused_and_nothing_is_declared() {
    let to = |name: &str, target: &str| LaneSpec {
        name: name.into(),
        on_full: OnFull::Redirect(target.into()),
        ..spec(1, 1)
    };
    let code = |specs: Vec<LaneSpec>| Lanes::new(specs, None).expect_err("unsound").code;
    assert_eq!(code(vec![spec(0, 1)]), "lane.invalid");
    assert_eq!(code(vec![rated(0, 1)]), "lane.invalid");
    assert_eq!(code(vec![to("a", "b")]), "lane.unknown");
    let circle = vec![to("x", "a"), to("a", "b"), to("b", "a")];
    let error = Lanes::new(circle, None).expect_err("a circle");
    assert_eq!(error.code, "lane.redirect_cycle");
    assert!(error.message.contains("a -> b -> a"), "{}", error.message);
    let long: Vec<_> = (0..9).map(|n| to(&format!("l{n}"), &format!("l{}", n + 1))).collect();
    let last = LaneSpec { name: "l9".into(), ..spec(1, 1) };
    assert_eq!(code(long.into_iter().chain([last]).collect()), "lane.redirect_hops");
    let mut lanes = lanes([spec(1, 1)], None);
    assert_eq!(lanes.declare(&[to("a", "a")]).expect_err("itself").code, "lane.redirect_cycle");
    assert_eq!(lanes.len(), 1);
    let error = lanes.configure(to("io", "io"), NOW).expect_err("itself");
    assert_eq!((error.code, lanes.lane(0).spec()), ("lane.redirect_cycle", &spec(1, 1)));
}

#[test]
fn parts_of_a_run_are_withdrawn_and_the_rest_stays() {
    for on_full in [OnFull::Block, OnFull::DropOldest] {
        let mut lanes = lanes([LaneSpec { on_full, ..spec(1, 6) }], None);
        lanes.lane_mut(0).offer(entry(1, 6, 0, Style::Thread));
        admit_all(&mut lanes);
        lanes.withdraw_span(RunId::from_u128(1), Span::new(0, 2, 2));
        lanes.withdraw_span(RunId::from_u128(1), Span::new(7, 0, 9));
        assert_eq!(lanes.view(NOW)[0].queued, 4);
        let spans: Vec<_> = std::iter::from_fn(|| grant(&mut lanes, Style::Thread, 9))
            .map(|(entry, _)| entry.span)
            .collect();
        assert_eq!(spans, [Span::new(0, 0, 2), Span::new(0, 4, 2)]);
    }
}

#[test]
fn it_tells_where_a_task_waits() {
    let mut lanes = lanes([spec(1, 4)], None);
    for run in [1, 2] {
        lanes.lane_mut(0).offer(entry(run, 3, 0, Style::Thread));
    }
    admit_all(&mut lanes);
    lanes.pause(0);
    let seen = lanes.whereabouts(RunId::from_u128(2), 0);
    let told: Vec<_> =
        seen.iter().map(|at| (at.queued, at.ahead, at.span.len, at.paused)).collect();
    assert_eq!(told, [(true, 3, 1, true), (false, 4, 2, true)]);
    assert_eq!(lanes.whereabouts(RunId::from_u128(2), 1), []);
    assert_eq!(lanes.whereabouts(RunId::from_u128(3), 0), []);
}

#[test]
fn a_change_far_down_a_path_of_redirects_makes_it_no_longer_than_it_may_be() {
    let named = |n: usize, on_full| LaneSpec { name: format!("l{n}"), on_full, ..spec(1, 1) };
    let to = |n: usize| OnFull::Redirect(format!("l{n}"));
    let path = (0..HOPS_MAX).map(|n| named(n, to(n + 1)));
    let ends = [HOPS_MAX, HOPS_MAX + 1].map(|n| named(n, OnFull::Block));
    let mut lanes = lanes(path.chain(ends), None);
    let longer = named(HOPS_MAX, to(HOPS_MAX + 1));
    let error = lanes.configure(longer, NOW).expect_err("one hop too many from the first lane");
    assert_eq!(error.code, "lane.redirect_hops");
}
