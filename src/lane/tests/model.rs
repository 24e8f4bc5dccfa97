//! Random lanes against a reference: a plain list, searched from end to end for every decision.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// One task that waits.
#[derive(Clone, Debug)]
struct Waits {
    entry: Entry,
    task: u32,
    ticket: u64,
}

/// What the lane promises, said as plainly as possible.
#[derive(Default)]
struct Reference {
    queue: Vec<Waits>,
    /// Flows of a style and priority in the order of their turns, and what is left of the first's.
    turns: BTreeMap<(usize, i32), VecDeque<String>>,
    left: BTreeMap<(usize, i32), u32>,
    ticket: u64,
    fair: bool,
    /// When the units of each key were taken.
    taken: BTreeMap<String, Vec<u64>>,
}

impl Reference {
    fn flow(&self, entry: &Entry) -> String {
        entry.flow.as_deref().filter(|_| self.fair).unwrap_or("").to_owned()
    }

    fn enqueue(&mut self, entry: &Entry) {
        self.ticket += 1;
        let band = (entry.style as usize, entry.priority);
        let flow = self.flow(entry);
        let ring = self.turns.entry(band).or_default();
        if !ring.contains(&flow) {
            ring.push_back(flow);
        }
        for task in entry.span.lo..entry.span.hi() {
            self.queue.push(Waits { entry: entry.clone(), task, ticket: self.ticket });
        }
    }

    /// The task that goes next at a style: the band that is oldest by virtue of age and priority, in
    /// it the flow whose turn it is, in that the oldest run, in that the highest rank.
    fn next(&self, style: Style) -> Option<&Waits> {
        let fronts =
            self.turns.iter().filter(|((at, _), ring)| *at == style as usize && !ring.is_empty());
        let fronts = fronts.filter_map(|((_, priority), ring)| {
            let of_flow = self.queue.iter().filter(|waits| {
                let entry = &waits.entry;
                entry.style == style && entry.priority == *priority && self.flow(entry) == ring[0]
            });
            of_flow.min_by_key(|waits| {
                let entry = &waits.entry;
                (entry.order, std::cmp::Reverse(entry.rank), waits.ticket, waits.task)
            })
        });
        fronts.min_by_key(|waits| {
            let entry = &waits.entry;
            let head = entry.since.0 as i64 - i64::from(entry.priority) * AGING_MS as i64;
            (head, std::cmp::Reverse(entry.priority))
        })
    }

    fn grant(&mut self, style: Style) -> Option<(u128, u32)> {
        let next = self.next(style)?.clone();
        let band = (style as usize, next.entry.priority);
        self.queue.retain(|waits| (waits.ticket, waits.task) != (next.ticket, next.task));
        let left = self.left.entry(band).or_default();
        if *left == 0 {
            *left = next.entry.weight;
        }
        *left -= 1;
        let over = *left == 0;
        if over {
            self.turns.entry(band).or_default().rotate_left(1);
        }
        self.tidy();
        Some((next.entry.run.as_u128(), next.task))
    }

    /// Flows without tasks have no turn.
    fn tidy(&mut self) {
        let fair = self.fair;
        for ((style, priority), ring) in &mut self.turns {
            let first = ring.front().cloned();
            ring.retain(|flow| {
                self.queue.iter().any(|waits| {
                    let entry = &waits.entry;
                    let own = entry.flow.as_deref().filter(|_| fair).unwrap_or("");
                    (entry.style as usize, entry.priority) == (*style, *priority) && own == flow
                })
            });
            if ring.front() != first.as_ref() {
                self.left.insert((*style, *priority), 0);
            }
        }
    }

    /// As many units as a window may hold, for every window that ends now: what came late counts as if
    /// it had come when it was due, by as much as a lane makes up for.
    fn conforms(&mut self, key: &str, rate: Rate, now: u64) -> bool {
        let taken = self.taken.entry(key.to_owned()).or_default();
        taken.push(now);
        taken.iter().enumerate().all(|(at, from)| {
            let n = (taken.len() - at) as u64;
            let window = now - from + 1 + limit::MAKE_UP_MS;
            let most = u64::from(rate.burst) * rate.per_ms + window * u64::from(rate.units) - 1;
            n * rate.per_ms <= most
        })
    }
}

#[derive(Clone, Debug)]
struct Offer {
    len: u32,
    priority: i32,
    style: Style,
    flow: Option<u8>,
    rank: u32,
    key: Option<u8>,
}

fn offer() -> impl Strategy<Value = Offer> {
    let style = prop_oneof![Just(Style::Thread), Just(Style::Loop)];
    let flow = proptest::option::of(0u8..4);
    (1u32..6, 0i32..3, style, flow, 0u32..4, proptest::option::of(0u8..3)).prop_map(
        |(len, priority, style, flow, rank, key)| Offer { len, priority, style, flow, rank, key },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Offer(Offer),
    Grant(Style, u32),
    GiveBack(usize),
    Pass(u64),
    Pause(bool),
    Concurrency(u32),
    Capacity(u32),
    Withdraw(u128),
    /// An agent waits, and lends its slot.
    Lend(usize),
    /// The one that has waited longest goes on.
    Return,
}

fn step() -> impl Strategy<Value = Step> {
    let style = || prop_oneof![Just(Style::Thread), Just(Style::Loop)];
    prop_oneof![
        6 => offer().prop_map(Step::Offer),
        8 => (style(), 1u32..4).prop_map(|(style, n)| Step::Grant(style, n)),
        4 => any::<usize>().prop_map(Step::GiveBack),
        3 => (0u64..40_000).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => (1u32..6).prop_map(Step::Concurrency),
        1 => (1u32..20).prop_map(Step::Capacity),
        1 => (0u128..20).prop_map(Step::Withdraw),
        3 => any::<usize>().prop_map(Step::Lend),
        2 => Just(Step::Return),
    ]
}

fn made(offer: &Offer, run: u128, now: Timestamp) -> Entry {
    let flow = offer.flow.map(|n| format!("flow {n}").into());
    // A flow has one weight: its own.
    let weight = offer.flow.map_or(1, |n| 1 + u32::from(n) % 3);
    let key = offer.key.map(|n| format!("key {n}").into());
    let plain = entry(run, offer.len, offer.priority, offer.style);
    Entry { flow, weight, rank: offer.rank, key, since: now, ..plain }
}

proptest! {
    /// Without rates, every grant is the one the reference names.
    #[test]
    fn tasks_go_in_the_order_that_was_promised(
        fair: bool, offers in proptest::collection::vec((offer(), 0u64..70_000), 1..25),
    ) {
        let mut lanes = lanes([LaneSpec { fair, ..spec(999, 999) }], None);
        let mut reference = Reference { fair, ..Reference::default() };
        let mut now = NOW;
        let mut permits = Vec::new();
        for (run, (offer, pause)) in offers.iter().enumerate() {
            now = now.plus(*pause);
            let entry = Entry { key: None, ..made(offer, run as u128, now) };
            lanes.lane_mut(0).offer(entry.clone());
            admit_all(&mut lanes);
            reference.enqueue(&entry);
            if run % 3 == 2 {
                let granted = grant_at(&mut lanes, offer.style, 1, now);
                let got = granted.as_ref().map(|(e, _)| (e.run.as_u128(), e.span.lo));
                prop_assert_eq!(got, reference.grant(offer.style));
                permits.extend(granted);
            }
        }
        for style in [Style::Thread, Style::Loop] {
            loop {
                let granted = grant_at(&mut lanes, style, 1, now);
                let got = granted.as_ref().map(|(e, _)| (e.run.as_u128(), e.span.lo));
                prop_assert_eq!(got, reference.grant(style));
                let Some(granted) = granted else { break };
                permits.push(granted);
            }
        }
        prop_assert!(reference.queue.is_empty());
    }

    /// Whatever happens: bounds, windows and accounts hold, nothing is lost, and nothing is left.
    #[test]
    fn bounds_windows_and_accounts_hold(
        on_full in prop_oneof![
            Just(OnFull::Block), Just(OnFull::DropNewest), Just(OnFull::DropOldest),
            Just(OnFull::Redirect("late".into())),
        ],
        rate in proptest::option::of((1u32..9, 1u32..5)), fair: bool,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let rate = rate.map(|(units, burst)| Rate { units, per_ms: 7_000, burst });
        let first = LaneSpec { on_full, rate, fair, ..spec(3, 8) };
        let late = LaneSpec { name: "late".into(), ..spec(1, 999) };
        let mut lanes = lanes([first.clone(), late], Some(4));
        let mut spec = first;
        let mut reference = Reference::default();
        let mut now = NOW;
        let mut permits: Vec<(Entry, Permit)> = Vec::new();
        let mut lent: VecDeque<(Entry, Loan)> = VecDeque::new();
        let (mut offered, mut dropped, mut granted, mut gone) = (0u64, 0u64, 0u64, 0u64);
        let (mut most, mut room) = (3, 8);
        let mut runs = 0;
        for step in steps {
            match step {
                Step::Offer(offer) => {
                    offered += u64::from(offer.len);
                    lanes.lane_mut(0).offer(made(&offer, runs, now));
                    runs += 1;
                }
                Step::Grant(style, n) => {
                    if let Some((entry, permit)) = grant_at(&mut lanes, style, n, now) {
                        prop_assert!(entry.span.len <= n && !lanes.is_paused(0));
                        granted += entry.tasks();
                        for _ in 0..entry.span.len {
                            let key = entry.key.as_deref().unwrap_or("");
                            if let Some(rate) = rate {
                                prop_assert!(reference.conforms(key, rate, now.0), "{key:?}");
                            }
                        }
                        permits.push((entry, permit));
                    }
                }
                Step::GiveBack(n) if !permits.is_empty() => {
                    drop(permits.swap_remove(n % permits.len()));
                }
                Step::GiveBack(_) => {}
                Step::Pass(ms) => now = now.plus(ms),
                Step::Pause(true) => lanes.pause(0),
                Step::Pause(false) => lanes.resume(0),
                Step::Concurrency(n) => {
                    spec.concurrency = n;
                    lanes.configure(spec.clone(), now).expect("sound");
                }
                Step::Capacity(n) => {
                    spec.capacity = n;
                    lanes.configure(spec.clone(), now).expect("sound");
                }
                Step::Lend(n) if !permits.is_empty() => {
                    let at = n % permits.len();
                    let (entry, permit) = &mut permits[at];
                    if permit.slots() > 0 {
                        let loan = lanes.lend(0, permit);
                        lent.push_back((entry.clone(), loan));
                    }
                }
                Step::Lend(_) => {}
                Step::Return => {
                    let wants = lent.front().map(|(entry, _)| entry.style);
                    if let Some(style) = wants {
                        let free = lanes.free(0, style);
                        let permit = lanes.retake(0, style);
                        prop_assert_eq!(permit.is_some(), free > 0, "also where the lane is paused");
                        if let Some(permit) = permit
                            && let Some((entry, _)) = lent.pop_front()
                        {
                            let own = permits.iter_mut().find(|(own, _)| own.run == entry.run && own.style == style);
                            match own {
                                Some((_, own)) => own.join(permit),
                                None => permits.push((entry, permit)),
                            }
                        }
                    }
                }
                Step::Withdraw(run) => {
                    let before: u64 = lanes.view(now).iter().map(|v| v.queued + v.backlog).sum();
                    lanes.withdraw(RunId::from_u128(run));
                    let after: u64 = lanes.view(now).iter().map(|v| v.queued + v.backlog).sum();
                    gone += before - after;
                }
            }
            dropped += admit_all(&mut lanes).iter().map(Entry::tasks).sum::<u64>();
            holds_identity(&mut lanes);
            let view = lanes.view(now);
            most = view[0].running.max(spec.concurrency).min(most.max(spec.concurrency));
            room = view[0].queued.max(spec.capacity.into()).min(room.max(spec.capacity.into()));
            prop_assert!(view[0].running <= most && view[0].queued <= room, "{view:?}");
            let held: u32 = permits.iter().map(|(_, permit)| permit.slots()).sum();
            prop_assert_eq!((view[0].running, view[0].lent), (held, lent.len() as u32));
            prop_assert!(view.iter().map(|view| view.running).sum::<u32>() <= 4);
            let waits: u64 = view.iter().map(|view| view.queued + view.backlog).sum();
            prop_assert_eq!(offered, granted + dropped + gone + waits);
        }
        drop(lent);
        drain(&mut lanes, now, permits)?;
        prop_assert!(lanes.lane(0).is_quiet());
    }

    /// Under contention flows get their weights' shares, give or take one turn.
    #[test]
    fn shares_are_as_weights_within_a_turn(weights in proptest::collection::vec(1u32..6, 2..6)) {
        let mut lanes = lanes([spec(9_999, 9_999)], None);
        for (run, &weight) in weights.iter().enumerate() {
            lanes.lane_mut(0).offer(of_flow(run as u128, 500, &format!("flow {run}"), weight));
        }
        admit_all(&mut lanes);
        let mut served = vec![0u32; weights.len()];
        let mut permits = Vec::new();
        for _ in 0..100 {
            let (entry, permit) = grant(&mut lanes, Style::Thread, 1).expect("all have work");
            served[entry.run.as_u128() as usize] += 1;
            permits.push(permit);
            for (a, &of_a) in served.iter().enumerate() {
                for (b, &of_b) in served.iter().enumerate() {
                    // Whole rounds that each has had differ by one at most.
                    let rounds = |served: u32, weight: u32| served / weight;
                    let apart = rounds(of_a, weights[a]).abs_diff(rounds(of_b, weights[b]));
                    prop_assert!(apart <= 1, "{served:?} of {weights:?}");
                }
            }
        }
    }
}

/// Everything comes out in the end, and the lane has forgotten it.
fn drain(
    lanes: &mut Lanes,
    mut now: Timestamp,
    permits: Vec<(Entry, Permit)>,
) -> Result<(), TestCaseError> {
    drop(permits);
    lanes.resume(0);
    for _ in 0..10_000 {
        let mut any = false;
        for lane in 0..lanes.len() {
            for front in lanes.fronts(lane, now).collect::<Vec<_>>() {
                any |= lanes.grant(lane, front.style, 9, now).is_some();
            }
        }
        admit_all(lanes);
        if !any {
            match lanes.wake_at() {
                Some(at) => now = now.plus(1).max(at),
                None => break,
            }
        }
    }
    let left: u64 = lanes.view(now.plus(1 << 40)).iter().map(|v| v.queued + v.backlog).sum();
    prop_assert_eq!(left, 0, "{:?}", lanes.view(now));
    prop_assert!(lanes.view(now.plus(1 << 40)).iter().all(|view| view.keys == 0));
    for lane in 0..lanes.len() {
        prop_assert!(lanes.lane(lane).is_forgetful(), "something was left behind");
    }
    Ok(())
}
